//! The prompts of whichever model a contract or a caller names, and batches of them with the instructions remembered.

use std::collections::HashMap;
use std::sync::Arc;

use super::{
    Advantage, FastIds, GoOn, Pi0FastPrompts, Pi0Prompts, Pi05Prompts, PromptOptions, PromptRows,
    PromptStyle, States, SubtaskOptions, SubtaskPrompts, TokenizedInstruction, Written,
};
use crate::{Error, Float, Result, SentencePiece};

/// The prompts of one model.
#[derive(Debug)]
pub enum Prompts {
    /// Without a state: π0's, and π0.5's where it was trained so.
    Pi0(Pi0Prompts),
    /// π0.5's.
    Pi05(Pi05Prompts),
    /// π0-FAST's.
    Pi0Fast(Pi0FastPrompts),
    /// π0.5's for a subtask.
    Subtask(SubtaskPrompts),
}

impl Prompts {
    /// As [`Pi0Prompts::new`].
    ///
    /// # Errors
    /// As there.
    pub fn pi0(text: Arc<SentencePiece>, style: PromptStyle) -> Result<Self> {
        Pi0Prompts::new(text, style).map(Self::Pi0)
    }

    /// As [`Pi05Prompts::new`].
    ///
    /// # Errors
    /// As there.
    pub fn pi05(text: Arc<SentencePiece>, options: PromptOptions) -> Result<Self> {
        Pi05Prompts::new(text, options).map(Self::Pi05)
    }

    /// As [`Pi0FastPrompts::new`].
    ///
    /// # Errors
    /// As there.
    pub fn pi0_fast(text: Arc<SentencePiece>, fast: FastIds, options: PromptOptions) -> Result<Self> {
        Pi0FastPrompts::new(text, fast, options).map(Self::Pi0Fast)
    }

    /// As [`SubtaskPrompts::new`].
    ///
    /// # Errors
    /// As there.
    pub fn subtask(text: Arc<SentencePiece>, options: SubtaskOptions) -> Result<Self> {
        SubtaskPrompts::new(text, options).map(Self::Subtask)
    }

    /// The same prompts, each of whose instructions says this of the actions; a question for a subtask says nothing of them.
    #[must_use]
    pub fn with_advantage(self, advantage: Option<Advantage>) -> Self {
        match self {
            Self::Pi0(prompts) => Self::Pi0(prompts.with_advantage(advantage)),
            Self::Pi05(prompts) => Self::Pi05(prompts.with_advantage(advantage)),
            Self::Pi0Fast(prompts) => Self::Pi0Fast(prompts.with_advantage(advantage)),
            Self::Subtask(prompts) => Self::Subtask(prompts),
        }
    }

    /// Whether they hold the state.
    #[must_use]
    pub fn hold_state(&self) -> bool {
        match self {
            Self::Pi0(_) => false,
            Self::Pi05(_) | Self::Pi0Fast(_) => true,
            Self::Subtask(prompts) => prompts.reads_state(),
        }
    }

    /// Tokenizes an instruction.
    ///
    /// # Errors
    /// [`Error::Argument`] for a text over 1 GiB, or one that says the advantage that is added.
    pub fn tokenize(&self, prompt: &str) -> Result<TokenizedInstruction> {
        match self {
            Self::Pi0(prompts) => prompts.tokenize(prompt),
            Self::Pi05(prompts) => prompts.tokenize(prompt),
            Self::Pi0Fast(prompts) => prompts.tokenize(prompt),
            Self::Subtask(prompts) => prompts.tokenize(prompt),
        }
    }

    /// Writes one row; `state` is normalised, and not looked at where prompts hold none.
    ///
    /// # Errors
    /// As [`Pi05Prompts::write_into`].
    pub fn write_into<T: Float>(
        &self,
        instruction: &TokenizedInstruction,
        state: &[T],
        tokens: &mut [i32],
        mask: &mut [bool],
    ) -> Result<Written> {
        match self {
            Self::Pi0(prompts) => prompts.write_into(instruction, tokens, mask),
            Self::Pi05(prompts) => prompts.write_into(instruction, state, tokens, mask),
            Self::Pi0Fast(prompts) => prompts.write_into(instruction, state, tokens, mask),
            Self::Subtask(prompts) => prompts.write_into(instruction, state, tokens, mask),
        }
    }
}

/// Batches of one model's prompts, whose instructions are tokenized when they first come and then remembered: robots ask
/// for the same few again and again.
///
/// Nothing is allocated in a batch of which all instructions are known.
#[derive(Debug)]
pub struct PromptBatches {
    prompts: Arc<Prompts>,
    most: usize,
    known: HashMap<Box<str>, Known>,
    uses: u64,
}

#[derive(Debug)]
struct Known {
    instruction: TokenizedInstruction,
    last_use: u64,
}

impl PromptBatches {
    /// Batches that remember the `most` instructions used last.
    ///
    /// # Errors
    /// [`Error::Argument`] where that is 0.
    pub fn new(prompts: Arc<Prompts>, most: usize) -> Result<Self> {
        if most == 0 {
            return Err(Error::Argument { what: "most", why: "expected 1 or more, got 0".to_owned() });
        }
        Ok(Self { prompts, most, known: HashMap::new(), uses: 0 })
    }

    /// Whose they are.
    #[must_use]
    pub fn prompts(&self) -> &Prompts {
        &self.prompts
    }

    /// Instructions that are remembered now.
    #[must_use]
    pub fn remembered(&self) -> usize {
        self.known.len()
    }

    /// Writes a batch: a text a row, and states `[N, D]` end to end, or none where prompts hold none.
    ///
    /// # Errors
    /// [`Error::Shape`] names a buffer that is not the batch's; [`Error::At`] names the row of any other error;
    /// [`Error::Interrupted`] when `go_on` says so.
    pub fn encode_into<'a, T: Float>(
        &mut self,
        texts: impl ExactSizeIterator<Item = &'a str>,
        states: &[T],
        rows: PromptRows<'_>,
        go_on: GoOn<'_>,
    ) -> Result<()> {
        let states = States::new(states, texts.len())?;
        let mut texts = texts;
        rows.fill(texts.len(), go_on, |row, tokens, mask| {
            let text = texts.next().unwrap_or_default();
            let prompts = self.prompts.clone();
            prompts.write_into(self.instruction(text)?, states.row(row), tokens, mask)
        })
    }

    /// The instruction of a text, tokenized if it is not remembered.
    fn instruction(&mut self, text: &str) -> Result<&TokenizedInstruction> {
        self.uses += 1;
        if !self.known.contains_key(text) {
            let instruction = self.prompts.tokenize(text)?;
            if self.known.len() >= self.most {
                let oldest = self.known.iter().min_by_key(|(_, known)| known.last_use);
                if let Some(oldest) = oldest.map(|(text, _)| text.clone()) {
                    self.known.remove(&oldest);
                }
            }
            self.known.insert(text.into(), Known { instruction, last_use: 0 });
        }
        let forgotten = || Error::Argument { what: "instruction", why: "it was forgotten".to_owned() };
        let known = self.known.get_mut(text).ok_or_else(forgotten)?;
        known.last_use = self.uses;
        Ok(&known.instruction)
    }
}
