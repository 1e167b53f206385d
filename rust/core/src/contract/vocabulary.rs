//! Which codec a model's action tokens are of.

use super::{Contract, MOST, refused, stated};
use crate::json::{Json, Read};
use crate::{FastCodec, Result};

/// What a model's action tokens are of.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ActionVocabulary {
    /// "fast", "binning" or "beast".
    pub codec: String,
    /// Digest of all that ids depend on; of FAST's see [`FastCodec::fingerprint`].
    pub sha256: String,
    /// Its ids.
    pub vocab_size: usize,
    /// FAST's scale and smallest coefficient; `None` of another codec.
    pub scale: Option<(f64, i64)>,
    /// Actions in the chunks that it was fitted on; `None` for any.
    pub horizon: Option<usize>,
    /// Numbers in an action there; `None` for any.
    pub action_dim: Option<usize>,
}

impl ActionVocabulary {
    pub(super) fn read(value: &Json) -> Read<Self> {
        let is_fast = !value.map()?.iter().any(|(key, _)| key == "codec");
        let fields = value.fields(if is_fast {
            &["sha256", "vocab_size", "scale", "min_token", "horizon", "action_dim"]
        } else {
            &["codec", "sha256", "vocab_size", "horizon", "action_dim"]
        })?;
        let count = |value: &Json| value.count(MOST);
        let size = |name| fields.optional(name, |value| value.or_null(count)).map(Option::flatten);
        let scale = |value: &Json| {
            let scale = value.number().ok().filter(|scale| *scale > 0.0);
            scale.ok_or_else(|| value.wrong("a number above 0"))
        };
        Ok(Self {
            codec: if is_fast { "fast".to_owned() } else { fields.needed("codec", Json::name)? },
            sha256: fields.needed("sha256", Json::name)?,
            vocab_size: fields.needed("vocab_size", count)?,
            scale: if is_fast {
                Some((fields.needed("scale", scale)?, fields.needed("min_token", Json::whole)?))
            } else {
                None
            },
            horizon: size("horizon")?,
            action_dim: size("action_dim")?,
        })
    }
}

impl Contract {
    /// Refuses a tokenizer whose ids mean other actions than the contract's, or that was fitted for other chunks.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) says which is which, also where the contract does not know its own.
    pub fn check_codec(&self, codec: &FastCodec) -> Result<()> {
        let Some(wanted) = stated(&self.fast, "fast", "checking a tokenizer")? else {
            return Err(refused("its model writes no action tokens".to_owned()));
        };
        let found = codec.fingerprint()?;
        if wanted.sha256 != found {
            return Err(refused(format!(
                "it was made with the {} tokenizer {:.12} of {} ids, and this one is {found:.12} of {}: its ids mean other \
                 actions",
                wanted.codec,
                wanted.sha256,
                wanted.vocab_size,
                codec.vocab_size(),
            )));
        }
        let action_dim = self.robot.as_ref().map(|robot| robot.action_dim);
        for (what, fitted, here) in [
            ("horizon", codec.time_horizon(), self.action_horizon),
            ("action_dim", codec.action_dim(), action_dim),
        ] {
            if let (Some(fitted), Some(here)) = (fitted, here)
                && fitted != here
            {
                return Err(refused(format!(
                    "its {what} is {here}, and the tokenizer was fitted for {fitted}"
                )));
            }
        }
        Ok(())
    }
}
