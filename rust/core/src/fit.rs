//! Fits a FAST tokenizer to action chunks: the coefficients that come up become characters, the pairs of characters that
//! come up most become tokens.

mod train;

use crate::dct::{self, DctScratches, Float, Plans};
use crate::fast::{FastCodec, check_scale, coefficients};
use crate::pretokenize::{Class, Cutter};
use crate::prompt::GoOn;
use crate::vocab::Vocabulary;
use crate::{Error, Result};

/// The lowest value represented where the data stay well above it: characters of two bytes, and zero the first that has
/// its lead byte.
const NEAR: i64 = -0x400;
/// The lowest value represented otherwise: characters of three bytes.
const WIDE: i64 = -0x5000;
/// Data this many times closer to zero than [`NEAR`] stay well above it.
const HEADROOM: i64 = 2;
/// The first code that is no character.
const FIRST_SURROGATE: i64 = 0xd800;
/// The byte tokens that every vocabulary has.
const BYTES: usize = 256;
/// Vocabularies are not larger than this.
const LARGEST: usize = 1 << 20;

/// What a tokenizer is to be like.
#[derive(Debug, Clone, PartialEq)]
pub struct FitOptions {
    /// Tokens, the 256 byte tokens included. Fewer are made where the data hold no pair twice.
    pub vocab_size: usize,
    /// Multiplies coefficients before they are rounded: larger is finer and longer.
    pub scale: f64,
    /// Whether texts are cut by character class before merging, as in published tokenizers.
    pub regex_split: bool,
    /// The value of character 0, the lowest that can be represented: -55295 to 0, or `None` for -1024, or -20480 where
    /// the data come down to -512.
    pub min_token: Option<i64>,
}

impl Default for FitOptions {
    fn default() -> Self {
        Self { vocab_size: 1024, scale: 10.0, regex_split: false, min_token: None }
    }
}

impl FastCodec {
    /// Fits a tokenizer to normalised chunks, each row-major `[H, D]` with its H and D. The same chunks and options give
    /// the same tokenizer on any machine.
    ///
    /// # Errors
    /// [`Error::Argument`] for options out of range and where there is nothing to learn from; [`Error::At`] names a
    /// chunk that is empty, of another shape than said, holds NaN or infinity, or goes beyond -20480 or 34815 (see
    /// [`FitOptions::min_token`]) after scaling.
    pub fn fit<T: Float>(chunks: &[(&[T], usize, usize)], options: &FitOptions) -> Result<Self> {
        Self::fit_while(chunks, options, &mut || true)
    }

    /// [`Self::fit`], which asks before each chunk and each merge whether to go on.
    ///
    /// # Errors
    /// As there, and [`Error::Interrupted`] when `go_on` says so.
    pub fn fit_while<T: Float>(
        chunks: &[(&[T], usize, usize)],
        options: &FitOptions,
        go_on: GoOn<'_>,
    ) -> Result<Self> {
        let &FitOptions { vocab_size, scale, regex_split, min_token } = options;
        let refuse = |what, why: String| Err(Error::Argument { what, why });
        if chunks.is_empty() {
            return refuse("chunks", "expected at least one, got none".to_owned());
        }
        if !(BYTES + 1..=LARGEST).contains(&vocab_size) {
            let why = format!("expected {} to {LARGEST} (256 are the bytes), got {vocab_size}", BYTES + 1);
            return refuse("vocab_size", why);
        }
        check_scale(scale)?;
        if let Some(min_token) = min_token
            && !(1 - FIRST_SURROGATE..=0).contains(&min_token)
        {
            return refuse("min_token", format!("expected {} to 0, got {min_token}", 1 - FIRST_SURROGATE));
        }
        let (plans, mut scratches) = (Plans::default(), DctScratches::default());
        let (mut values, mut ends) = (Vec::new(), Vec::with_capacity(chunks.len()));
        for (index, &(chunk, horizon, dim)) in chunks.iter().enumerate() {
            if !go_on() {
                return Err(Error::Interrupted);
            }
            let mut add = || {
                let plan = plans.get(horizon)?;
                coefficients(&plan, chunk, dim, dct::scratch(&mut scratches), scale, &mut values)
            };
            add().map_err(|error| error.at("chunk", index))?;
            ends.push(values.len());
        }
        let lowest = i64::from(values.iter().copied().min().unwrap_or(0));
        let min_token = min_token.unwrap_or(if lowest > NEAR / HEADROOM { NEAR } else { WIDE });
        let mut texts = Texts::new(regex_split, min_token);
        let mut start = 0;
        for (index, (&(_, _, dim), end)) in chunks.iter().zip(ends).enumerate() {
            if !go_on() {
                return Err(Error::Interrupted);
            }
            texts.add(&values[start..end], dim).map_err(|error| error.at("chunk", index))?;
            start = end;
        }
        if u32::try_from(texts.bytes.len() + texts.ends.len() + 1).is_err() {
            return refuse("chunks", "more than 4 billion bytes of text: fit on a sample".to_owned());
        }
        let merges = train::train(&texts.words(), vocab_size, go_on)?;
        Self::from_vocabulary(Vocabulary::from_pairs(&merges, regex_split), scale, min_token)
    }
}

/// What is trained on: chunks as bytes, in pieces.
struct Texts {
    bytes: Vec<u8>,
    /// Where pieces end.
    ends: Vec<usize>,
    cutter: Option<Cutter>,
    min_token: i64,
    cuts: Vec<u32>,
}

impl Texts {
    fn new(regex_split: bool, min_token: i64) -> Self {
        let cutter = regex_split.then(Cutter::new);
        Self { bytes: Vec::new(), ends: Vec::new(), cutter, min_token, cuts: Vec::new() }
    }

    fn add(&mut self, values: &[i32], dim: usize) -> Result<()> {
        let start = self.bytes.len();
        let (mut state, mut previous) = (Cutter::START, 0);
        self.cuts.clear();
        for (position, &value) in values.iter().enumerate() {
            let value = i64::from(value);
            let character = u32::try_from(value - self.min_token)
                .ok()
                .filter(|&code| i64::from(code) < FIRST_SURROGATE)
                .and_then(char::from_u32)
                .ok_or_else(|| {
                    let range = (self.min_token, self.min_token + FIRST_SURROGATE - 1);
                    Error::Overflow { frequency: position / dim, dim: position % dim, value, range }
                })?;
            let at = self.bytes.len() - start;
            if let Some(cutter) = &self.cutter {
                state = cutter.step(state, Class::of(character), previous, at, &mut self.cuts);
                previous = at;
            }
            self.bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
        if let Some(cutter) = &self.cutter {
            cutter.step(state, Class::End, previous, self.bytes.len() - start, &mut self.cuts);
        }
        self.ends.extend(self.cuts.iter().map(|&cut| start + cut as usize));
        self.ends.push(self.bytes.len());
        Ok(())
    }

    fn words(&self) -> Vec<&[u8]> {
        let starts = std::iter::once(&0).chain(&self.ends);
        starts.zip(&self.ends).map(|(&start, &end)| &self.bytes[start..end]).collect()
    }
}
