//! The prompts of π0, π0.5 and π0-FAST as the models were trained on them: an instruction is tokenized once, and put
//! together with a state in the caller's own buffers, one prompt or a batch at a time.

mod advantage;
mod any;
mod batch;
mod clean;
mod fast;
mod last;
mod numbers;
mod row;
mod stated;
mod style;
mod subtask;

use std::sync::Arc;

use crate::{Error, Float, Result, SentencePiece};
pub use advantage::Advantage;
pub use any::{PromptBatches, Prompts};
use batch::States;
pub use batch::{GoOn, Instructions, PromptRows};
pub use fast::{ActionTokens, FastIds, FastPromptRows, FastRow, Pi0FastPrompts};
use last::LastInstruction;
pub use row::Written;
use row::{Row, same_length};
use stated::{Head, StatedPrompt};
pub use style::{PromptOptions, PromptStyle};
pub use subtask::{SubtaskOptions, SubtaskPrompts};

/// An instruction, cleaned and tokenized once, for as many states as come.
///
/// It belongs to the format that made it.
#[derive(Debug, Clone)]
pub struct TokenizedInstruction {
    form: Form,
    head: Head,
}

/// The prompts that an instruction was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// A model's, which ask for actions.
    Actions(Family),
    /// π0.5's for a subtask.
    Subtask { reads_state: bool },
}

impl std::fmt::Display for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Actions(family) => write!(f, "{family:?}"),
            Self::Subtask { reads_state: true } => f.write_str("subtask"),
            Self::Subtask { reads_state: false } => f.write_str("stateless subtask"),
        }
    }
}

/// One of the models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// π0.
    Pi0,
    /// π0.5.
    Pi05,
    /// π0-FAST.
    Pi0Fast,
}

/// Whether a text says nothing.
pub(crate) fn is_blank(text: &str) -> bool {
    text.chars().all(clean::is_space)
}

impl TokenizedInstruction {
    fn head_for(&self, form: Form) -> Result<&Head> {
        if self.form == form {
            Ok(&self.head)
        } else {
            let why = format!("it was made for {} prompts, not for {form} ones", self.form);
            Err(Error::Argument { what: "instruction", why })
        }
    }
}

/// π0: the text and a newline. The state goes to the model as numbers, not as text.
#[derive(Debug)]
pub struct Pi0Prompts {
    text: Arc<SentencePiece>,
    style: PromptStyle,
    bos: i32,
    pad: i32,
    newline: Vec<i32>,
    advantage: Option<Advantage>,
    last: LastInstruction,
}

impl Pi0Prompts {
    /// The row length that released models were trained with.
    pub const MAX_LEN: usize = 48;

    /// Prompts in this vocabulary.
    ///
    /// # Errors
    /// [`Error::Argument`] when the vocabulary has no piece that begins a sequence.
    pub fn new(text: Arc<SentencePiece>, style: PromptStyle) -> Result<Self> {
        let newline = to_i32(&text.encode("\n")?);
        Ok(Self {
            style,
            bos: bos_of(&text)?,
            pad: pad_of(&text),
            newline,
            advantage: None,
            last: LastInstruction::default(),
            text,
        })
    }

    /// The same prompts, each of whose instructions says this of the actions.
    #[must_use]
    pub fn with_advantage(mut self, advantage: Option<Advantage>) -> Self {
        self.advantage = advantage;
        self
    }

    /// Tokenizes an instruction. openpi's is stripped, its underscores and newlines become spaces, and a newline follows,
    /// encoded on its own. LeRobot's is kept, and a newline that it does not end in is added and encoded with it.
    ///
    /// # Errors
    /// [`Error::Argument`] for a text over 1 GiB, or one that says the advantage that is added.
    pub fn tokenize(&self, prompt: &str) -> Result<TokenizedInstruction> {
        let prompt = Advantage::behind(self.advantage, prompt)?;
        let (ids, newline) = match self.style {
            PromptStyle::OpenPi => (self.style.encode(&self.text, &clean::flow(&prompt))?, &*self.newline),
            PromptStyle::LeRobot => {
                (self.style.encode(&self.text, &clean::ends_in_newline(&prompt))?, &[][..])
            }
        };
        let head = [&[self.bos], &*ids, newline].concat();
        Ok(TokenizedInstruction { form: Form::Actions(Family::Pi0), head: Head::Ids(head) })
    }

    /// Writes one row: `tokens` and `mask` of the same length, cut at the end where the prompt is longer, filled up
    /// with the pad id and `false` where it is shorter.
    ///
    /// # Errors
    /// [`Error::Argument`] when the instruction is another format's; [`Error::Shape`] when the lengths differ.
    pub fn write_into(
        &self,
        instruction: &TokenizedInstruction,
        tokens: &mut [i32],
        mask: &mut [bool],
    ) -> Result<Written> {
        same_length("mask", tokens, mask)?;
        let Head::Ids(head) = instruction.head_for(Form::Actions(Family::Pi0))? else {
            return Err(foreign_instruction());
        };
        let mut row = Row::new(tokens);
        row.extend(head);
        Ok(row.finish(self.pad, mask))
    }

    /// [`Self::write_into`] from the text, which is tokenized again only when it differs from the last call's.
    ///
    /// # Errors
    /// As [`Self::tokenize`] and [`Self::write_into`].
    pub fn encode_into(&self, prompt: &str, tokens: &mut [i32], mask: &mut [bool]) -> Result<Written> {
        self.write_into(&*self.last.get(prompt, |text| self.tokenize(text))?, tokens, mask)
    }

    /// Writes a batch; each distinct instruction is tokenized once.
    ///
    /// # Errors
    /// [`Error::Shape`] names a buffer that is not the batch's; [`Error::Interrupted`] when `go_on` says so.
    pub fn encode_batch_into(
        &self,
        instructions: &Instructions<'_>,
        rows: PromptRows<'_>,
        go_on: GoOn<'_>,
    ) -> Result<()> {
        let tokenized = instructions.tokenized(go_on, |text| self.tokenize(text))?;
        rows.fill(instructions.len(), go_on, |row, tokens, mask| {
            self.write_into(tokenized.row(row), tokens, mask)
        })
    }
}

/// π0.5: `Task: {text}, State: {bins};\nAction: ` in one piece.
#[derive(Debug)]
pub struct Pi05Prompts {
    prompt: StatedPrompt,
    pad: i32,
    advantage: Option<Advantage>,
    last: LastInstruction,
}

impl Pi05Prompts {
    /// The row length that released models were trained with.
    pub const MAX_LEN: usize = 200;

    /// Prompts in this vocabulary. Proves here whether numbers can be looked up, or each prompt has to be encoded whole.
    ///
    /// # Errors
    /// [`Error::Argument`] when the vocabulary has no piece that begins a sequence.
    pub fn new(text: Arc<SentencePiece>, options: PromptOptions) -> Result<Self> {
        let pad = pad_of(&text);
        let prompt = StatedPrompt::new(text, ";\nAction: ", options)?;
        Ok(Self { prompt, pad, advantage: None, last: LastInstruction::default() })
    }

    /// Whether the state is written from a table; otherwise each prompt is encoded as a whole, which is far slower.
    #[must_use]
    pub fn uses_table(&self) -> bool {
        self.prompt.by_parts()
    }

    /// The same prompts, each of whose instructions says this of the actions.
    #[must_use]
    pub fn with_advantage(mut self, advantage: Option<Advantage>) -> Self {
        self.advantage = advantage;
        self
    }

    /// Tokenizes an instruction: stripped, underscores and newlines as spaces.
    ///
    /// # Errors
    /// [`Error::Argument`] for a text over 1 GiB, or one that says the advantage that is added.
    pub fn tokenize(&self, prompt: &str) -> Result<TokenizedInstruction> {
        let prompt = Advantage::behind(self.advantage, prompt)?;
        Ok(TokenizedInstruction {
            form: Form::Actions(Family::Pi05),
            head: self.prompt.head(clean::flow(&prompt))?,
        })
    }

    /// Writes one row for a normalised, unpadded state; `tokens` and `mask` as in [`Pi0Prompts::write_into`].
    ///
    /// # Errors
    /// [`Error::NotFinite`] names a joint that is NaN or infinite, and nothing is written; [`Error::Argument`] when the
    /// instruction is another format's or the state wider than the text's; [`Error::Shape`] when the lengths of `tokens` and
    /// `mask` differ.
    pub fn write_into<T: Float>(
        &self,
        instruction: &TokenizedInstruction,
        state: &[T],
        tokens: &mut [i32],
        mask: &mut [bool],
    ) -> Result<Written> {
        same_length("mask", tokens, mask)?;
        let mut row = Row::new(tokens);
        self.prompt.write(instruction.head_for(Form::Actions(Family::Pi05))?, state, &mut row)?;
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

    /// Writes a batch with its states, `[N, D]` end to end; each distinct instruction is tokenized once.
    ///
    /// # Errors
    /// [`Error::Shape`] names a buffer that is not the batch's; [`Error::At`] names the row of any other error;
    /// [`Error::Interrupted`] when `go_on` says so.
    pub fn encode_batch_into<T: Float>(
        &self,
        instructions: &Instructions<'_>,
        states: &[T],
        rows: PromptRows<'_>,
        go_on: GoOn<'_>,
    ) -> Result<()> {
        let states = States::new(states, instructions.len())?;
        let tokenized = instructions.tokenized(go_on, |text| self.tokenize(text))?;
        rows.fill(instructions.len(), go_on, |row, tokens, mask| {
            self.write_into(tokenized.row(row), states.row(row), tokens, mask)
        })
    }
}

fn foreign_instruction() -> Error {
    Error::Argument { what: "instruction", why: "it was made with another vocabulary".to_owned() }
}

/// Ids as the models take them. A vocabulary's ids fit: a model file is under 2 GiB.
fn to_i32(ids: &[u32]) -> Vec<i32> {
    ids.iter().map(|&id| id as i32).collect()
}

fn bos_of(text: &SentencePiece) -> Result<i32> {
    let why =
        || Error::Argument { what: "vocabulary", why: "it has no piece that begins a sequence".to_owned() };
    text.bos().map(|id| id as i32).ok_or_else(why)
}

/// The pad id, or 0, which is what the models were padded with.
fn pad_of(text: &SentencePiece) -> i32 {
    text.pad().map_or(0, |id| id as i32)
}
