//! The FAST codec: action chunks to token ids and back, for one tokenizer in the published layout.
//!
//! A chunk [H, D] goes through a DCT along time, is scaled and rounded; each coefficient is a character, and the
//! characters, row after row, are a text that byte-level BPE turns into ids. Here the text is never built: `encode` goes
//! from coefficients to ids by tables made at load, `decode` back the same way.

mod alphabet;
mod decode;
mod encode;
mod files;

use alphabet::Alphabet;
use decode::Spellings;

pub use encode::FastScratch;
pub(crate) use encode::quantize;
pub(crate) use files::Config;
pub use files::FastFiles;

use crate::bpe::MergeTable;
use crate::vocab::Vocabulary;
use crate::{Dct, Error, Result};

/// What to do with a coefficient that the vocabulary can't say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnOverflow {
    /// Fail, naming it.
    Error,
    /// Take the nearest coefficient that it can say, and count it.
    Clip,
}

/// What to do with ids that hold less than a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Partial {
    /// Fail, saying how much there is.
    Error,
    /// Take the missing coefficients, those of the highest frequencies, for zero, and count them.
    Pad,
}

/// A FAST tokenizer. Immutable, so that threads share it by reference; shapes are arguments.
#[derive(Debug)]
pub struct FastCodec {
    config: Config,
    vocabulary: Vocabulary,
    alphabet: Alphabet,
    /// The token of each byte; [`NO_TOKEN`] where there is none.
    byte_tokens: [u32; 256],
    merges: MergeTable,
    spellings: Spellings,
}

/// Stands for the token of a byte that has none.
const NO_TOKEN: u32 = u32::MAX;

impl FastCodec {
    /// Reads a tokenizer from the content of its `tokenizer.json` and `processor_config.json`.
    ///
    /// # Errors
    /// [`Error::Format`] names what is broken, or what would change ids and is not understood here.
    pub fn from_json(tokenizer_json: &[u8], processor_config: &[u8]) -> Result<Self> {
        Self::new(Vocabulary::from_json(tokenizer_json)?, Config::from_json(processor_config)?)
    }

    pub(crate) fn new(vocabulary: Vocabulary, config: Config) -> Result<Self> {
        let byte_tokens = vocabulary.byte_tokens().map(|token| token.unwrap_or(NO_TOKEN));
        let alphabet = Alphabet::new(config.min_token, |byte| byte_tokens[usize::from(byte)] != NO_TOKEN);
        if alphabet.bounds().is_none() {
            let why = "no character can be spelled: the bytes have no tokens".to_owned();
            return Err(Error::Format { what: "tokenizer.json", why });
        }
        let merges = MergeTable::new(vocabulary.len(), vocabulary.rules())?;
        let spellings = Spellings::new(&vocabulary, &alphabet, config.scale);
        Ok(Self { config, vocabulary, alphabet, byte_tokens, merges, spellings })
    }

    /// The tokenizer as files, with the shape that it is for where one is given (the published layout has a place for
    /// it; nothing here depends on it).
    ///
    /// # Errors
    /// [`Error::Format`] if the vocabulary could not be written, which doesn't happen.
    pub fn files(&self, horizon: Option<usize>, dim: Option<usize>) -> Result<FastFiles> {
        let mut config = self.config.clone();
        config.time_horizon = horizon.or(config.time_horizon);
        config.action_dim = dim.or(config.action_dim);
        Ok(config.files(self.vocabulary.to_json()?))
    }

    /// Coefficients are multiplied by this before they are rounded.
    #[must_use]
    pub fn scale(&self) -> f64 {
        self.config.scale
    }

    /// The rounded coefficient that is character 0.
    #[must_use]
    pub fn min_token(&self) -> i64 {
        self.config.min_token.into()
    }

    /// The number of ids: the largest plus one.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.vocabulary.len()
    }

    /// Steps of the chunks that the tokenizer was fitted on, where its files say so.
    #[must_use]
    pub fn time_horizon(&self) -> Option<usize> {
        self.config.time_horizon
    }

    /// Dimensions of the actions that the tokenizer was fitted on, where its files say so.
    #[must_use]
    pub fn action_dim(&self) -> Option<usize> {
        self.config.action_dim
    }

    /// The lowest and the highest rounded coefficient that it can say. There may be gaps between them; see
    /// [`Self::gapless_range`].
    #[must_use]
    pub fn value_range(&self) -> (i64, i64) {
        let (low, high) = self.alphabet.bounds().unwrap_or_default();
        (low.into(), high.into())
    }

    /// The widest range around zero in which it can say every rounded coefficient, or `None` where it can't say zero.
    #[must_use]
    pub fn gapless_range(&self) -> Option<(i64, i64)> {
        self.alphabet.range_around(0).map(|(low, high)| (low.into(), high.into()))
    }

    /// Whether it can say this rounded coefficient.
    #[must_use]
    pub fn can_say(&self, coefficient: i64) -> bool {
        i32::try_from(coefficient).is_ok_and(|coefficient| self.alphabet.holds(coefficient))
    }

    /// The bytes of UTF-8 that an id stands for: characters, and parts of characters at either end. `None` for an id
    /// that is no token.
    #[must_use]
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        self.spellings.bytes(id)
    }
}

/// An error unless the chunk has the plan's horizon and this dimension.
fn check_shape(plan: &Dct, len: usize, dim: usize) -> Result<()> {
    if dim == 0 {
        return Err(Error::Argument { what: "dim", why: "expected at least 1, got 0".to_owned() });
    }
    let expected = plan.horizon().checked_mul(dim);
    if expected == Some(len) {
        return Ok(());
    }
    Err(Error::Shape { what: "chunk", expected: expected.unwrap_or(usize::MAX), got: len })
}
