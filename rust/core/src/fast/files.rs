//! The small files beside `tokenizer.json` in the published layout.

use serde_json::{Value, json};

use crate::{Error, Result};

/// What a FAST tokenizer is on disk: the content of four files, which `transformers` loads too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FastFiles {
    /// `tokenizer.json`: the vocabulary.
    pub tokenizer_json: String,
    /// `processor_config.json`: what turns actions into characters.
    pub processor_config: String,
    /// `tokenizer_config.json`: how `transformers` wraps the vocabulary.
    pub tokenizer_config: String,
    /// `special_tokens_map.json`: there are none.
    pub special_tokens_map: String,
}

/// `processor_config.json`. Keys that have no part in tokenization are passed over.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Config {
    pub(crate) scale: f64,
    pub(crate) min_token: i32,
    /// The size that training aimed at; the vocabulary itself may be smaller.
    pub(crate) vocab_size: Option<u64>,
    pub(crate) time_horizon: Option<usize>,
    pub(crate) action_dim: Option<usize>,
}

impl Config {
    /// Reads the content of a `processor_config.json`.
    ///
    /// # Errors
    /// [`Error::Format`] names the key that is missing or broken.
    pub(crate) fn from_json(json: &[u8]) -> Result<Self> {
        let fail = |why: String| Error::Format { what: "processor_config.json", why };
        let value: Value = serde_json::from_slice(json).map_err(|error| fail(error.to_string()))?;
        let object = value.as_object().ok_or_else(|| fail("expected an object".to_owned()))?;
        let get = |key: &str| object.get(key).unwrap_or(&Value::Null);
        let expected = |key: &str, what: &str| fail(format!("{key}: expected {what}, got {}", get(key)));
        let optional = |key: &str| match get(key) {
            Value::Null => Ok(None),
            value => match value.as_u64() {
                Some(count @ 1..=0xffff_ffff) => Ok(Some(count)),
                _ => Err(expected(key, "a positive integer or null")),
            },
        };
        Ok(Self {
            scale: get("scale")
                .as_f64()
                .filter(|scale| *scale > 0.0 && scale.is_finite())
                .ok_or_else(|| expected("scale", "a positive number"))?,
            min_token: get("min_token")
                .as_i64()
                .filter(|min_token| min_token.unsigned_abs() < 0x11_0000)
                .map(|min_token| min_token as i32)
                .ok_or_else(|| expected("min_token", "the coefficient of character 0, an integer"))?,
            vocab_size: optional("vocab_size")?,
            time_horizon: optional("time_horizon")?.map(|count| count as usize),
            action_dim: optional("action_dim")?.map(|count| count as usize),
        })
    }

    /// The files of this configuration around a `tokenizer.json`.
    pub(crate) fn files(&self, tokenizer_json: String) -> FastFiles {
        let scale = if self.scale.fract() == 0.0 && self.scale < 1e15 {
            json!(self.scale as u64)
        } else {
            json!(self.scale)
        };
        let processor = json!({
            "scale": scale,
            "vocab_size": self.vocab_size,
            "min_token": self.min_token,
            "time_horizon": self.time_horizon,
            "action_dim": self.action_dim,
            "processor_class": "UniversalActionProcessor",
        });
        // Cleaning up spaces would rewrite decoded characters, that is, coefficients.
        let tokenizer = json!({
            "added_tokens_decoder": {},
            "clean_up_tokenization_spaces": false,
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
