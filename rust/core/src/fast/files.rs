//! The processor's settings, `processor_config.json`, and the small files that Hugging Face's loaders want beside it.

use std::ops::RangeInclusive;

use serde_json::{Value, json};

use crate::{Dct, Error, Result};

/// A larger shift is taken for a mistake: Unicode has no more characters than that.
const LARGEST_SHIFT: u64 = 1 << 20;
/// Beyond these a product or a quotient leaves single precision.
const SCALES: RangeInclusive<f64> = 1e-30..=1e30;
/// Values in a chunk: a file that asks for more is taken for a mistake.
const MOST_VALUES: usize = 1 << 28;
/// Where Hugging Face's loaders find the code that reads the directory.
const PROCESSOR: &str = "processing_action_tokenizer.UniversalActionProcessor";
const WHAT: &str = "processor_config.json";

/// The files of a saved tokenizer, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FastFiles {
    /// `tokenizer.json`: the vocabulary.
    pub tokenizer_json: String,
    /// `processor_config.json`: scale, `min_token`, and a default shape if there is one.
    pub processor_config: String,
    /// `tokenizer_config.json`: how to load the vocabulary, and that decoded text is not to be cleaned up.
    pub tokenizer_config: String,
    /// `special_tokens_map.json`: empty.
    pub special_tokens_map: String,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Config {
    pub(super) scale: f64,
    pub(super) min_token: i64,
    pub(super) time_horizon: Option<usize>,
    pub(super) action_dim: Option<usize>,
}

/// Refuses a default shape that [`Config::from_json`] would.
pub(super) fn check_shape(time_horizon: Option<usize>, action_dim: Option<usize>) -> Result<()> {
    for (what, size, most) in [("horizon", time_horizon, Dct::MAX_HORIZON), ("dim", action_dim, MOST_VALUES)]
    {
        if let Some(size) = size.filter(|size| !(1..=most).contains(size)) {
            return Err(Error::Argument { what, why: format!("expected 1 to {most}, got {size}") });
        }
    }
    Ok(())
}

/// Refuses a scale that [`Config::from_json`] would.
pub(crate) fn check_scale(scale: f64) -> Result<()> {
    if SCALES.contains(&scale) {
        return Ok(());
    }
    let why = format!("expected a positive number from 1e-30 to 1e30, got {scale}");
    Err(Error::Argument { what: "scale", why })
}

impl Config {
    pub(super) fn from_json(json: &[u8]) -> Result<Self> {
        let fail = |why: String| Error::Format { what: WHAT, why };
        let object: Value = serde_json::from_slice(json).map_err(|error| fail(error.to_string()))?;
        let expected =
            |key: &str, expected: &str| fail(format!("{key}: expected {expected}, got {}", object[key]));
        let scale = object["scale"]
            .as_f64()
            .filter(|scale| SCALES.contains(scale))
            .ok_or_else(|| expected("scale", "a number from 1e-30 to 1e30"))?;
        let min_token = object["min_token"]
            .as_i64()
            .filter(|token| token.unsigned_abs() <= LARGEST_SHIFT)
            .ok_or_else(|| expected("min_token", "an integer within +-1048576"))?;
        let size = |key: &str, most: usize| match &object[key] {
            Value::Null => Ok(None),
            value => value
                .as_u64()
                .and_then(|size| usize::try_from(size).ok())
                .filter(|size| (1..=most).contains(size))
                .map(Some)
                .ok_or_else(|| expected(key, &format!("1 to {most} or null"))),
        };
        Ok(Self {
            scale,
            min_token,
            time_horizon: size("time_horizon", Dct::MAX_HORIZON)?,
            action_dim: size("action_dim", MOST_VALUES)?,
        })
    }

    /// The files around a `tokenizer.json` of `vocab_size` ids.
    pub(super) fn files(&self, tokenizer_json: String, vocab_size: usize) -> FastFiles {
        // Whole numbers without a point, as the reference writes them.
        let scale = if self.scale.fract() == 0.0 && self.scale < 1e15 {
            json!(self.scale as u64)
        } else {
            json!(self.scale)
        };
        let processor = json!({
            "scale": scale,
            "vocab_size": vocab_size,
            "min_token": self.min_token,
            "time_horizon": self.time_horizon,
            "action_dim": self.action_dim,
            "processor_class": "UniversalActionProcessor",
            "auto_map": { "AutoProcessor": PROCESSOR },
        });
        let tokenizer = json!({
            "added_tokens_decoder": {},
            "clean_up_tokenization_spaces": false,
            "extra_special_tokens": {},
            "tokenizer_class": "PreTrainedTokenizerFast",
        });
        FastFiles {
            tokenizer_json,
            processor_config: format!("{processor:#}\n"),
            tokenizer_config: format!("{tokenizer:#}\n"),
            special_tokens_map: "{}\n".to_owned(),
        }
    }
}
