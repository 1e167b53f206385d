//! The instruction that came last, tokenized: in a control loop it seldom changes.

use std::sync::{Arc, Mutex};

use super::TokenizedInstruction;
use crate::Result;

/// Remembers one instruction. Shared between threads: whoever comes with another text replaces it.
#[derive(Debug, Default)]
pub(super) struct LastInstruction(Mutex<Option<(Box<str>, Arc<TokenizedInstruction>)>>);

impl LastInstruction {
    /// The instruction of a text, tokenized only if another one came before.
    pub(super) fn get(
        &self,
        text: &str,
        tokenize: impl FnOnce(&str) -> Result<TokenizedInstruction>,
    ) -> Result<Arc<TokenizedInstruction>> {
        let lock = || self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some((known, instruction)) = &*lock()
            && **known == *text
        {
            return Ok(instruction.clone());
        }
        // Not under the lock: a long text must not keep other threads waiting.
        let instruction = Arc::new(tokenize(text)?);
        *lock() = Some((text.into(), instruction.clone()));
        Ok(instruction)
    }
}
