//! FAST: action chunks to tokens and back (arXiv 2501.09747, section V). A chunk's DCT coefficients are scaled, rounded
//! and written as characters, lowest frequency first, which byte-level BPE joins to tokens.

mod characters;
mod files;
mod fingerprint;
mod quantise;
mod spell;
mod tokens;

use std::sync::Arc;

use crate::bpe::{LongestMatch, MergeScratch, MergeTable, Positions};
use crate::dct::{self, Dct, DctScratches, Float, Plans};
use crate::pretokenize::Cutter;
use crate::vocab::Vocabulary;
use crate::{Error, Result};
use characters::Characters;
use files::Config;
pub use files::FastFiles;
pub(crate) use files::check_scale;
use quantise::quantise;
use spell::Text;
use tokens::Tokens;

/// What to do with a coefficient that the vocabulary can't represent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnOverflow {
    /// Refuse the chunk.
    Error,
    /// Take the nearest coefficient that can be represented, and count.
    Clip,
}

/// What to do with ids that hold fewer coefficients than the chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Partial {
    /// Refuse them.
    Error,
    /// Take the missing ones, which are of the highest frequencies, as zero, and count.
    Pad,
}

/// A FAST tokenizer: immutable, shareable between threads. A chunk's shape is an argument of each call.
#[derive(Debug)]
pub struct FastCodec {
    config: Config,
    vocabulary: Vocabulary,
    characters: Characters,
    /// Present where texts are split before merging.
    cutter: Option<Cutter>,
    byte_tokens: [Option<u32>; 256],
    merges: MergeTable,
    /// Absent for vocabularies that only merging gets right.
    longest: Option<LongestMatch>,
    tokens: Tokens,
    plans: Plans,
}

/// What chunks are worked on in, for any codec and any shape. Once it has grown, neither encoding nor decoding allocates.
#[derive(Debug, Default)]
pub struct FastScratch {
    dct: DctScratches,
    values: Vec<i32>,
    text: Text,
    dead: Positions,
    symbols: Vec<u32>,
    merge: MergeScratch<u32>,
}

impl FastCodec {
    /// Reads the content of `tokenizer.json` and `processor_config.json`.
    ///
    /// # Errors
    /// [`Error::Format`] names what is broken, what is not understood, or what could not be reproduced id for id.
    pub fn from_json(tokenizer_json: &[u8], processor_config: &[u8]) -> Result<Self> {
        Self::new(Vocabulary::from_json(tokenizer_json)?, Config::from_json(processor_config)?)
    }

    /// A tokenizer of a vocabulary made here.
    pub(crate) fn from_vocabulary(vocabulary: Vocabulary, scale: f64, min_token: i64) -> Result<Self> {
        Self::new(vocabulary, Config { scale, min_token, time_horizon: None, action_dim: None })
    }

    fn new(vocabulary: Vocabulary, config: Config) -> Result<Self> {
        let byte_tokens = vocabulary.byte_tokens();
        let characters = Characters::new(config.min_token, &byte_tokens).ok_or_else(|| Error::Format {
            what: "tokenizer.json",
            why: "no value at all can be represented: it has no tokens for the bytes of a character"
                .to_owned(),
        })?;
        let spelled = vocabulary.spelled();
        let merges = MergeTable::new(vocabulary.len(), vocabulary.rules())?;
        Ok(Self {
            longest: LongestMatch::new(&spelled, &byte_tokens, &merges),
            tokens: Tokens::new(&spelled, config.min_token, config.scale),
            cutter: vocabulary.use_regex().then(Cutter::new),
            plans: Plans::default(),
            config,
            vocabulary,
            characters,
            byte_tokens,
            merges,
        })
    }

    /// The files of this tokenizer, with the default shape that they are to name, else the one that it was read with.
    ///
    /// # Errors
    /// [`Error::Argument`] for a shape that reading the files would refuse.
    pub fn files(&self, time_horizon: Option<usize>, action_dim: Option<usize>) -> Result<FastFiles> {
        files::check_shape(time_horizon, action_dim)?;
        let mut config = self.config.clone();
        config.time_horizon = time_horizon.or(config.time_horizon);
        config.action_dim = action_dim.or(config.action_dim);
        Ok(config.files(self.vocabulary.to_json()?, self.vocab_size()))
    }

    /// Appends the ids of a row-major chunk `[H, D]` to `out`; H is the plan's. Returns how many coefficients were
    /// clipped. On error `out` is as it was.
    ///
    /// # Errors
    /// [`Error::Shape`] and [`Error::Argument`] for a chunk of another shape or one that holds NaN or infinity;
    /// [`Error::Overflow`] names the first coefficient that can't be represented, unless it is to be clipped.
    pub fn encode_into<T: Float>(
        &self,
        plan: &Dct,
        chunk: &[T],
        dim: usize,
        on_overflow: OnOverflow,
        scratch: &mut FastScratch,
        out: &mut Vec<u32>,
    ) -> Result<usize> {
        let FastScratch { dct, values, text, .. } = scratch;
        let work = dct::scratch::<T>(dct);
        let scale = self.config.scale;
        values.clear();
        let near = coefficients(plan, chunk, dim, work, scale, values)?;
        let coefficients = &work.coefficients[..chunk.len()];
        let mut clipped = 0;
        let on_clip = |position: usize| {
            clipped += 1;
            let value = match quantise::exactly(coefficients[position], scale) {
                Some(value) if on_overflow == OnOverflow::Error => value,
                _ => return Ok(()),
            };
            let range = self.value_range();
            Err(Error::Overflow { frequency: position / dim, dim: position % dim, value, range })
        };
        if !near
            && let Some(position) = coefficients.iter().position(|&x| quantise::exactly(x, scale).is_none())
        {
            let why = format!("its values are too large: coefficient {position} is not a number");
            return Err(Error::Argument { what: "chunk", why });
        }
        text.spell(values, &self.characters, self.cutter.as_ref(), LongestMatch::PADDING, on_clip)?;
        self.join(scratch, out);
        Ok(clipped)
    }

    /// Appends the tokens of the text in `scratch`, every byte of which has one.
    fn join(&self, scratch: &mut FastScratch, out: &mut Vec<u32>) {
        let FastScratch { text, dead, symbols, merge, .. } = scratch;
        dead.clear(text.len);
        let mut start = 0;
        for end in text.cuts.iter().map(|&cut| cut as usize).chain([text.len]) {
            let found = self
                .longest
                .as_ref()
                .is_some_and(|longest| longest.encode(&self.merges, &text.bytes, (start, end), dead, out));
            if !found {
                symbols.clear();
                let bytes = text.bytes[start..end].iter();
                symbols.extend(bytes.filter_map(|&byte| self.byte_tokens[usize::from(byte)]));
                self.merges.merge(symbols, merge);
                out.extend_from_slice(symbols);
            }
            start = end;
        }
    }

    /// Decodes ids to a row-major chunk `[H, D]`; H is the plan's. Returns how many coefficients were missing and taken
    /// as zero. On error `out` holds nothing of meaning.
    ///
    /// # Errors
    /// [`Error::Token`] names an id outside the vocabulary, or one whose bytes break a character;
    /// [`Error::Incomplete`] when there are more coefficients than `out` has room for, or fewer and those are not to be
    /// padded; [`Error::Shape`] and [`Error::Argument`] when `out` is no `[H, D]`.
    pub fn decode_into(
        &self,
        plan: &Dct,
        ids: &[u32],
        dim: usize,
        partial: Partial,
        scratch: &mut FastScratch,
        out: &mut [f64],
    ) -> Result<usize> {
        let work = dct::scratch::<f64>(&mut scratch.dct);
        let expected = out.len();
        let coefficients = dct::try_sized(&mut work.coefficients, expected)?;
        let (got, unfinished) = self.tokens.decode(ids, coefficients)?;
        let too_many = got > expected || (got == expected && unfinished);
        if too_many || (partial == Partial::Error && got < expected) {
            return Err(Error::Incomplete { expected, got: got + usize::from(too_many && unfinished) });
        }
        coefficients[got..].fill(0.0);
        plan.inverse(coefficients, dim, &mut work.transform, out)?;
        Ok(expected - got)
    }

    /// What coefficients are multiplied by before they are rounded.
    #[must_use]
    pub fn scale(&self) -> f64 {
        self.config.scale
    }

    /// The value that character 0 stands for.
    #[must_use]
    pub fn min_token(&self) -> i64 {
        self.config.min_token
    }

    /// The largest id plus one.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.vocabulary.len()
    }

    /// H that the files name as the default.
    #[must_use]
    pub fn time_horizon(&self) -> Option<usize> {
        self.config.time_horizon
    }

    /// D that the files name as the default.
    #[must_use]
    pub fn action_dim(&self) -> Option<usize> {
        self.config.action_dim
    }

    /// The values (scaled and rounded coefficients) that can be represented, as ranges from first to last, sorted.
    /// A value's character has the code `value - min_token`.
    #[must_use]
    pub fn representable(&self) -> &[(i64, i64)] {
        self.characters.ranges()
    }

    /// The lowest and the highest value of the range around zero that can be represented without a gap, or of the range
    /// nearest to zero. Some tokenizers have others beyond: see [`Self::representable`].
    #[must_use]
    pub fn value_range(&self) -> (i64, i64) {
        self.characters.around_zero()
    }

    /// The transform of chunks of this horizon. The latest few are kept.
    ///
    /// # Errors
    /// [`Error::Argument`] for a horizon out of range.
    pub fn plan(&self, horizon: usize) -> Result<Arc<Dct>> {
        self.plans.get(horizon)
    }

    /// The bytes a token decodes to, which may begin or end inside a character; `None` for ids that no chunk has.
    #[must_use]
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        self.tokens.bytes(id)
    }
}

/// Transforms a chunk into `work.coefficients` and appends its scaled and rounded coefficients to `values`. Returns what
/// [`quantise`] does.
pub(crate) fn coefficients<T: Float>(
    plan: &Dct,
    chunk: &[T],
    dim: usize,
    work: &mut dct::DctScratch<T>,
    scale: f64,
    values: &mut Vec<i32>,
) -> Result<bool> {
    let coefficients = dct::try_sized(&mut work.coefficients, chunk.len())?;
    plan.forward(chunk, dim, &mut work.transform, coefficients)?;
    let near = quantise(coefficients, scale, values);
    if !near && let Some(at) = chunk.iter().position(|&x| !Into::<f64>::into(x).is_finite()) {
        let why = format!("step {}, dimension {} is {}", at / dim, at % dim, chunk[at]);
        return Err(Error::Argument { what: "chunk", why });
    }
    Ok(near)
}

#[cfg(test)]
mod tests;
