//! Fits a FAST tokenizer: chunks to rounded coefficients, coefficients to characters, and a BPE vocabulary over their
//! bytes.

mod train;

use train::{Corpus, Limits};

use crate::fast::{Config, quantize};
use crate::pretokenize::{self, Class};
use crate::vocab::{Vocabulary, byte_alphabet};
use crate::{Dct, Error, FastCodec, Float, Result};

/// How to fit.
#[derive(Debug, Clone, PartialEq)]
pub struct FitOptions {
    /// The number of tokens to aim at, the 256 bytes included. Where nothing repeats there may be fewer.
    pub vocab_size: usize,
    /// What coefficients are multiplied by before they are rounded.
    pub scale: f64,
    /// Whether merges stop at the borders of character classes, as in published tokenizers.
    pub regex_split: bool,
    /// The coefficient of character 0, the lowest that the tokenizer can say; chosen from the data if `None`.
    pub min_token: Option<i64>,
}

impl Default for FitOptions {
    fn default() -> Self {
        Self { vocab_size: 1024, scale: 10.0, regex_split: false, min_token: None }
    }
}

/// As the published processor has it: a pair seen once makes no token, and none is longer than this.
const MIN_FREQUENCY: i64 = 2;
const MAX_TOKEN_BYTES: u32 = 10_000;
/// The first code point that is no character, so the first coefficient that could not be said.
const FIRST_SURROGATE: i64 = 0xd800;

impl FastCodec {
    /// Fits a tokenizer on chunks, each given as values [H, D] row-major, H and D. The same chunks in any order give
    /// the same tokenizer.
    ///
    /// The vocabulary has all 256 bytes, so that every coefficient from [`Self::min_token`] up has tokens, seen in
    /// training or not; [`Self::gapless_range`] says how far.
    ///
    /// # Errors
    /// [`Error::Argument`] names the option, or the chunk and the value in it, that can't be worked with.
    pub fn fit<T: Float>(chunks: &[(&[T], usize, usize)], options: &FitOptions) -> Result<Self> {
        check(options)?;
        if chunks.is_empty() {
            return Err(argument("chunks", "expected at least one, got none"));
        }
        let mut plans: Vec<Dct> = Vec::new();
        let mut coefficients = Vec::new();
        let mut lengths = Vec::with_capacity(chunks.len());
        let mut one = Vec::new();
        for (n, &(chunk, horizon, dim)) in chunks.iter().enumerate() {
            let plan = match plans.iter().position(|plan| plan.horizon() == horizon) {
                Some(at) => &plans[at],
                None => {
                    plans.push(Dct::new(horizon).map_err(|error| error.at("chunk", n))?);
                    &plans[plans.len() - 1]
                }
            };
            quantize(plan, chunk, dim, options.scale, &mut one).map_err(|error| error.at("chunk", n))?;
            coefficients.extend_from_slice(&one);
            lengths.push(one.len());
        }
        let (low, high) = coefficients.iter().fold((0, 0), |(low, high), &c| (c.min(low), c.max(high)));
        let min_token = options.min_token.unwrap_or_else(|| choose_min_token(low.into(), high.into()));
        if i64::from(low) < min_token || i64::from(high) - min_token >= FIRST_SURROGATE {
            let why = format!(
                "coefficients from {low} to {high} at scale {} don't fit between {min_token} and {}; a smaller scale \
                 or normalised actions would",
                options.scale,
                min_token + FIRST_SURROGATE - 1
            );
            return Err(argument("chunks", why));
        }
        let (text, starts) = spell(&coefficients, &lengths, min_token as i32, options.regex_split);
        let alphabet = byte_alphabet();
        let mut tokens = [0; 256];
        for (&byte, token) in alphabet.iter().zip(0..) {
            tokens[usize::from(byte)] = token;
        }
        let corpus = Corpus::new(&text, &starts, |byte| tokens[usize::from(byte)])
            .ok_or_else(|| argument("chunks", "more than 4 billion bytes of text; fit on a sample"))?;
        let limits = Limits {
            vocab_size: options.vocab_size,
            min_frequency: MIN_FREQUENCY,
            max_bytes: MAX_TOKEN_BYTES,
        };
        let pairs = train::train(corpus, &alphabet, limits);
        let config = Config {
            scale: options.scale,
            min_token: min_token as i32,
            vocab_size: Some(options.vocab_size as u64),
            time_horizon: None,
            action_dim: None,
        };
        Self::new(Vocabulary::from_pairs(&pairs, options.regex_split), config)
    }
}

fn argument(what: &'static str, why: impl Into<String>) -> Error {
    Error::Argument { what, why: why.into() }
}

fn check(options: &FitOptions) -> Result<()> {
    if !(257..1 << 20).contains(&options.vocab_size) {
        let why =
            format!("expected more than the 256 bytes, at most {}, got {}", 1 << 20, options.vocab_size);
        return Err(argument("vocab_size", why));
    }
    if !(options.scale > 0.0 && options.scale.is_finite()) {
        return Err(argument("scale", format!("expected a positive number, got {}", options.scale)));
    }
    match options.min_token {
        Some(min_token) if !(-FIRST_SURROGATE + 1..=0).contains(&min_token) => {
            let why =
                format!("expected {} to 0, so that 0 is a character, got {min_token}", 1 - FIRST_SURROGATE);
            Err(argument("min_token", why))
        }
        _ => Ok(()),
    }
}

/// The lowest coefficient to provide for, where training saw these.
fn choose_min_token(low: i64, _high: i64) -> i64 {
    low.min(-480)
}

/// The text of all chunks in UTF-8, and where each piece starts.
fn spell(
    coefficients: &[i32],
    lengths: &[usize],
    min_token: i32,
    regex_split: bool,
) -> (Vec<u8>, Vec<usize>) {
    let (mut text, mut starts, mut cuts) = (Vec::new(), Vec::new(), Vec::new());
    let mut rest = coefficients;
    for &length in lengths {
        let (chunk, after) = rest.split_at(length);
        rest = after;
        let characters = || chunk.iter().filter_map(|&value| char::from_u32((value - min_token) as u32));
        cuts.clear();
        if regex_split {
            pretokenize::split(characters().map(Class::of), |at| cuts.push(at));
        }
        let mut cuts = cuts.iter().copied().chain([usize::MAX]).peekable();
        starts.push(text.len());
        for (at, character) in characters().enumerate() {
            if cuts.next_if_eq(&at).is_some() {
                starts.push(text.len());
            }
            text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
    (text, starts)
}
