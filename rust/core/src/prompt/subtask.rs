//! π0.5's question for a subtask, and the answer that its language model writes before the actions that follow from it.

use std::sync::Arc;

use super::row::{Row, Written, same_length};
use super::stated::{Head, StatedPrompt};
use super::{Form, LastInstruction, PromptOptions, TokenizedInstruction, bos_of, clean, pad_of, to_i32};
use crate::{Error, Float, Result, SentencePiece};

/// What stands behind the state, or behind the text where there is no state.
const QUESTION: &str = ";\nSubtask: ";

/// What questions for a subtask may differ in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubtaskOptions {
    /// Whether the state is in the text.
    pub reads_state: bool,
    /// As [`PromptOptions::state_width`]; not looked at where the text holds no state.
    pub state_width: Option<usize>,
}

impl Default for SubtaskOptions {
    fn default() -> Self {
        Self { reads_state: true, state_width: None }
    }
}

/// Asks π0.5 for a subtask by `Task: {text}, State: {bins};\nSubtask: `; the answer is its text and the end.
///
/// Actions are then asked for by [`Pi05Prompts`](super::Pi05Prompts), in which the subtask stands in the instruction's
/// place (arXiv 2504.16054). openpi has no such prompts; public forks of it write these.
#[derive(Debug)]
pub struct SubtaskPrompts {
    text: Arc<SentencePiece>,
    /// The question with a state; `None` where the text holds none.
    stated: Option<StatedPrompt>,
    bos: i32,
    eos: i32,
    pad: i32,
    last: LastInstruction,
}

impl SubtaskPrompts {
    /// The row length that released models were trained with.
    pub const MAX_LEN: usize = super::Pi05Prompts::MAX_LEN;

    /// Questions in this vocabulary.
    ///
    /// # Errors
    /// [`Error::Argument`] when the vocabulary lacks the pieces that begin or end a sequence, or `state_width` is 0.
    pub fn new(text: Arc<SentencePiece>, options: SubtaskOptions) -> Result<Self> {
        let SubtaskOptions { reads_state, state_width } = options;
        let why = || Error::Argument {
            what: "vocabulary",
            why: "it has no piece that ends a sequence, which a subtask needs".to_owned(),
        };
        let eos = text.eos().ok_or_else(why)? as i32;
        let options = PromptOptions { state_width, ..PromptOptions::default() };
        let stated =
            if reads_state { Some(StatedPrompt::new(text.clone(), QUESTION, options)?) } else { None };
        let (bos, pad) = (bos_of(&text)?, pad_of(&text));
        Ok(Self { text, stated, bos, eos, pad, last: LastInstruction::default() })
    }

    /// Whether the text holds the state.
    #[must_use]
    pub fn reads_state(&self) -> bool {
        self.stated.is_some()
    }

    /// The id that ends an answer.
    #[must_use]
    pub fn end(&self) -> i32 {
        self.eos
    }

    fn form(&self) -> Form {
        Form::Subtask { reads_state: self.reads_state() }
    }

    /// Tokenizes an instruction: stripped, underscores and newlines as spaces.
    ///
    /// # Errors
    /// [`Error::Argument`] for a text over 1 GiB.
    pub fn tokenize(&self, prompt: &str) -> Result<TokenizedInstruction> {
        let cleaned = clean::flow(prompt);
        let head = match &self.stated {
            Some(stated) => stated.head(cleaned)?,
            None => {
                let ids = to_i32(&self.text.encode(&format!("Task: {cleaned}{QUESTION}"))?);
                Head::Ids([&[self.bos], &*ids].concat())
            }
        };
        Ok(TokenizedInstruction { form: self.form(), head })
    }

    /// Writes one question for a normalised, unpadded state, which is not looked at where the text holds none; `tokens` and
    /// `mask` as in [`Pi0Prompts::write_into`](super::Pi0Prompts::write_into).
    ///
    /// # Errors
    /// As [`Pi05Prompts::write_into`](super::Pi05Prompts::write_into).
    pub fn write_into<T: Float>(
        &self,
        instruction: &TokenizedInstruction,
        state: &[T],
        tokens: &mut [i32],
        mask: &mut [bool],
    ) -> Result<Written> {
        same_length("mask", tokens, mask)?;
        let mut row = Row::new(tokens);
        match (&self.stated, instruction.head_for(self.form())?) {
            (Some(stated), head) => stated.write(head, state, &mut row)?,
            (None, Head::Ids(ids)) => row.extend(ids),
            (None, Head::Text(_)) => return Err(super::foreign_instruction()),
        }
        Ok(row.finish(self.pad, mask))
    }

    /// [`Self::write_into`] from the text, which is tokenized again only when it differs from the last call's.
    ///
    /// # Errors
    /// As [`Self::tokenize`] and [`Self::write_into`].
    pub fn encode_into<T: Float>(
        &self,
        prompt: &str,
        state: &[T],
        tokens: &mut [i32],
        mask: &mut [bool],
    ) -> Result<Written> {
        self.write_into(&*self.last.get(prompt, |text| self.tokenize(text))?, state, tokens, mask)
    }

    /// The ids of an answer, its end included; the text is cleaned as an instruction is. Whether each id is text is not looked
    /// at: pioxide in Python, which trains on answers, refuses markup such as `<loc0001>` in them.
    ///
    /// # Errors
    /// [`Error::Argument`] where there is no text, or one over 1 GiB.
    pub fn answer(&self, subtask: &str) -> Result<Vec<i32>> {
        let cleaned = clean::flow(subtask);
        if cleaned.is_empty() {
            let why = format!("expected a text, got {subtask:?}");
            return Err(Error::Argument { what: "subtask", why });
        }
        let mut ids = to_i32(&self.text.encode(&cleaned)?);
        ids.push(self.eos);
        Ok(ids)
    }

    /// The text of generated ids up to their end; what follows that is left alone.
    ///
    /// # Errors
    /// [`Error::NoSubtask`] where there is no end, or no text before it; [`Error::Argument`] names the position of an id
    /// before the end that is outside the vocabulary.
    pub fn read(&self, ids: &[i32]) -> Result<String> {
        let end = ids.iter().position(|&id| id == self.eos);
        let written = ids.get(..end.unwrap_or(ids.len())).unwrap_or_default();
        // No vocabulary has as many ids as a negative one becomes.
        let written: Vec<u32> = written.iter().map(|&id| u32::try_from(id).unwrap_or(u32::MAX)).collect();
        let text = clean::strip(&self.text.decode(&written)?).to_owned();
        if end.is_some() && !text.is_empty() {
            return Ok(text);
        }
        Err(Error::NoSubtask { tokens: ids.len(), ended: end.is_some(), text })
    }
}
