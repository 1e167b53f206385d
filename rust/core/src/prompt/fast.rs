//! π0-FAST: the prompt, the training form that holds the action tokens too, and the way back from generated ids to
//! FAST ids.

use std::sync::Arc;

use super::row::{Row, Written, fill_range, same_length};
use super::stated::StatedPrompt;
use super::{
    Advantage, Family, Form, GoOn, Instructions, LastInstruction, PromptOptions, PromptRows, PromptStyle,
    States, TokenizedInstruction, bos_of, clean, pad_of, to_i32,
};
use crate::sentencepiece::{ESCAPED_SPACE, Surface};
use crate::{Error, Float, Result, SentencePiece};

/// What stands before the action ids.
const MARKER: &str = "Action: ";

/// Where FAST ids lie in the text vocabulary: FAST id `t` is text id `vocabulary - 1 - skipped - t`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FastIds {
    /// FAST ids there are.
    pub count: usize,
    /// Pieces at the end of the vocabulary that FAST ids leave alone.
    pub skipped: usize,
}

impl FastIds {
    /// This many ids before the last 128 pieces, which are PaliGemma's `<seg000>` to `<seg127>`, as in the released
    /// models.
    #[must_use]
    pub fn new(count: usize) -> Self {
        Self { count, skipped: 128 }
    }
}

/// π0-FAST: `Task: {text}, State: {bins};\n`, and in training `Action: `, the action ids, `|` and the end.
#[derive(Debug)]
pub struct Pi0FastPrompts {
    prompt: StatedPrompt,
    text: Arc<SentencePiece>,
    pad: i32,
    eos: i32,
    style: PromptStyle,
    /// `Action: `
    marker: Vec<i32>,
    /// What stands between the state and the action ids: LeRobot's begins with a beginning.
    start: Vec<i32>,
    /// `|` and the end.
    end: Vec<i32>,
    /// The text id of FAST id 0. They count down from here.
    first: i32,
    fast_vocab: i32,
    advantage: Option<Advantage>,
    last: LastInstruction,
}

/// The four rows of one training example, all of the same length.
#[derive(Debug)]
pub struct FastRow<'a> {
    /// Ids, filled up with the pad id.
    pub tokens: &'a mut [i32],
    /// Which of them count.
    pub mask: &'a mut [bool],
    /// 1 where a token sees only what is before it: on the action part.
    pub ar_mask: &'a mut [i32],
    /// Which tokens carry the loss: the action part.
    pub loss_mask: &'a mut [bool],
}

/// Buffers for N training rows of L ids.
#[derive(Debug)]
pub struct FastPromptRows<'a> {
    /// Tokens, mask, lengths, and what was truncated.
    pub prompts: PromptRows<'a>,
    /// `[N, L]` 1 where a token sees only what is before it.
    pub ar_mask: &'a mut [i32],
    /// `[N, L]` which tokens carry the loss.
    pub loss_mask: &'a mut [bool],
}

/// The FAST ids of N action chunks, one after another.
#[derive(Debug, Clone, Copy)]
pub struct ActionTokens<'a> {
    /// Every chunk's ids.
    pub ids: &'a [u32],
    /// `[N + 1]` where each chunk's ids start, and where the last one's end.
    pub offsets: &'a [usize],
}

impl<'a> ActionTokens<'a> {
    /// # Errors
    /// [`Error::Shape`] for another number of chunks, [`Error::Argument`] for offsets that are no rise to the last id.
    fn checked(self, count: usize) -> Result<Self> {
        let Self { ids, offsets } = self;
        if offsets.len() != count + 1 {
            return Err(Error::Shape { what: "offsets", expected: count + 1, got: offsets.len() });
        }
        if offsets[0] != 0 || offsets[count] != ids.len() || !offsets.is_sorted() {
            let why = format!("expected a rise from 0 to the {} ids", ids.len());
            return Err(Error::Argument { what: "offsets", why });
        }
        Ok(self)
    }

    fn row(&self, row: usize) -> &'a [u32] {
        &self.ids[self.offsets[row]..self.offsets[row + 1]]
    }
}

impl Pi0FastPrompts {
    /// The row length that released models were trained with.
    pub const MAX_LEN: usize = 250;

    /// Prompts in this vocabulary.
    ///
    /// # Errors
    /// [`Error::Argument`] when the vocabulary lacks the pieces that begin or end a sequence, or has too few pieces for
    /// the FAST ids and the text beside them.
    pub fn new(text: Arc<SentencePiece>, fast: FastIds, options: PromptOptions) -> Result<Self> {
        let wrong = |why: String| Error::Argument { what: "vocabulary", why };
        let prompt = StatedPrompt::new(text.clone(), ";\n", options)?;
        let eos = text.eos().ok_or_else(|| wrong("it has no piece that ends a sequence".to_owned()))? as i32;
        let size = text.vocab_size();
        let FastIds { count, skipped } = fast;
        if count == 0 || count.checked_add(skipped).is_none_or(|needed| needed > size) {
            return Err(wrong(format!("its {size} pieces can't hold {count} FAST ids and {skipped} others")));
        }
        let marker = to_i32(&text.encode(MARKER)?);
        let start = match options.style {
            PromptStyle::OpenPi => marker.clone(),
            PromptStyle::LeRobot => [&[bos_of(&text)?], &*marker].concat(),
        };
        let this = Self {
            prompt,
            pad: pad_of(&text),
            eos,
            style: options.style,
            marker,
            start,
            end: [&*to_i32(&text.encode("|")?), &[eos]].concat(),
            first: (size - 1 - skipped) as i32,
            fast_vocab: count as i32,
            advantage: None,
            last: LastInstruction::default(),
            text,
        };
        let framing = this.start.iter().chain(&this.end);
        if let Some(id) = framing.copied().find(|&id| this.fast_id(id).is_some()) {
            return Err(wrong(format!(
                "with {count} FAST ids, id {id} is both an action and part of the frame"
            )));
        }
        Ok(this)
    }

    /// Whether the state is written from a table; otherwise each prompt is encoded as a whole, which is far slower.
    #[must_use]
    pub fn uses_table(&self) -> bool {
        self.prompt.by_parts()
    }

    /// The ids that begin the answer, before its action ids: `Action: `, in LeRobot's style behind a beginning of
    /// sequence.
    #[must_use]
    pub fn answer_start(&self) -> &[i32] {
        &self.start
    }

    /// The ids that end the answer, behind its action ids: `|` and the end of the sequence.
    #[must_use]
    pub fn answer_end(&self) -> &[i32] {
        &self.end
    }

    /// The text id of a FAST id; `None` outside the FAST vocabulary.
    #[must_use]
    pub fn text_id(&self, fast_id: u32) -> Option<i32> {
        (fast_id < self.fast_vocab as u32).then(|| self.first - fast_id as i32)
    }

    /// The FAST id of a text id; `None` for text that is no action.
    #[inline]
    #[must_use]
    pub fn fast_id(&self, token: i32) -> Option<u32> {
        let id = self.first.wrapping_sub(token);
        (0..self.fast_vocab).contains(&id).then_some(id as u32)
    }

    /// The same prompts, each of whose instructions says this of the actions.
    #[must_use]
    pub fn with_advantage(mut self, advantage: Option<Advantage>) -> Self {
        self.advantage = advantage;
        self
    }

    /// Tokenizes an instruction: stripped, underscores as spaces; openpi's in lower case, LeRobot's with newlines as spaces.
    ///
    /// # Errors
    /// [`Error::Argument`] for a text over 1 GiB, or one that says the advantage that is added.
    pub fn tokenize(&self, prompt: &str) -> Result<TokenizedInstruction> {
        let prompt = Advantage::behind(self.advantage, prompt)?;
        let cleaned = match self.style {
            PromptStyle::OpenPi => clean::fast(&prompt),
            PromptStyle::LeRobot => clean::flow(&prompt),
        };
        Ok(TokenizedInstruction { form: Form::Actions(Family::Pi0Fast), head: self.prompt.head(cleaned)? })
    }

    /// Writes one row of a prompt for a normalised, unpadded state; `tokens` and `mask` as in
    /// [`Pi0Prompts::write_into`](super::Pi0Prompts::write_into).
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
        self.prompt.write(instruction.head_for(Form::Actions(Family::Pi0Fast))?, state, &mut row)?;
        Ok(row.finish(self.pad, mask))
    }

    /// Writes one training row: the prompt, then the FAST ids of the actions in their frame. Where the row is too short
    /// the end is cut off, which the result tells.
    ///
    /// # Errors
    /// As [`Self::write_into`]; [`Error::Argument`] names the position of an action id outside the FAST vocabulary.
    pub fn write_training_into<T: Float>(
        &self,
        instruction: &TokenizedInstruction,
        state: &[T],
        actions: &[u32],
        out: FastRow<'_>,
    ) -> Result<Written> {
        let FastRow { tokens, mask, ar_mask, loss_mask } = out;
        same_length("mask", tokens, mask)?;
        same_length("ar_mask", tokens, ar_mask)?;
        same_length("loss_mask", tokens, loss_mask)?;
        if let Some(position) = actions.iter().position(|&id| id >= self.fast_vocab as u32) {
            let (id, size) = (actions[position], self.fast_vocab);
            let why = format!("FAST id {id} at position {position} is outside a FAST vocabulary of {size}");
            return Err(Error::Argument { what: "actions", why });
        }
        let mut row = Row::new(tokens);
        self.prompt.write(instruction.head_for(Form::Actions(Family::Pi0Fast))?, state, &mut row)?;
        let prefix = row.length();
        row.extend(&self.start);
        row.extend_with(actions, |&id| self.first - id as i32);
        row.extend(&self.end);
        let written = row.finish(self.pad, mask);
        fill_range(ar_mask, prefix..written.length, 0, 1);
        // Nothing is asked to predict LeRobot's second beginning.
        let learnt = prefix + self.start.len() - self.marker.len();
        fill_range(loss_mask, learnt..written.length, false, true);
        Ok(written)
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

    /// [`Self::write_training_into`] from the text, which is tokenized again only when it differs from the last call's.
    ///
    /// # Errors
    /// As [`Self::tokenize`] and [`Self::write_training_into`].
    pub fn encode_training_into<T: Float>(
        &self,
        prompt: &str,
        state: &[T],
        actions: &[u32],
        out: FastRow<'_>,
    ) -> Result<Written> {
        self.write_training_into(&*self.last.get(prompt, |text| self.tokenize(text))?, state, actions, out)
    }

    /// Writes a batch of prompts with their states, `[N, D]` end to end; each distinct instruction is tokenized once.
    ///
    /// # Errors
    /// As [`Pi05Prompts::encode_batch_into`](super::Pi05Prompts::encode_batch_into).
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

    /// Writes a batch of training rows.
    ///
    /// # Errors
    /// As [`Self::encode_batch_into`] and [`Self::write_training_into`].
    pub fn encode_training_batch_into<T: Float>(
        &self,
        instructions: &Instructions<'_>,
        states: &[T],
        actions: ActionTokens<'_>,
        rows: FastPromptRows<'_>,
        go_on: GoOn<'_>,
    ) -> Result<()> {
        let count = instructions.len();
        let (states, actions) = (States::new(states, count)?, actions.checked(count)?);
        let FastPromptRows { prompts, ar_mask, loss_mask } = rows;
        let len = prompts.row_len(count)?;
        same_length("ar_mask", prompts.tokens, ar_mask)?;
        same_length("loss_mask", prompts.tokens, loss_mask)?;
        let tokenized = instructions.tokenized(go_on, |text| self.tokenize(text))?;
        prompts.fill(count, go_on, |row, tokens, mask| {
            let place = row * len..(row + 1) * len;
            let (ar_mask, loss_mask) = (&mut ar_mask[place.clone()], &mut loss_mask[place]);
            let out = FastRow { tokens, mask, ar_mask, loss_mask };
            self.write_training_into(tokenized.row(row), states.row(row), actions.row(row), out)
        })
    }

    /// Appends to `out` the FAST ids in a generated sequence: what stands between the first `Action: ` and the next
    /// `|`, the end of the sequence, another `Action: `, or the end of `tokens`. The prompt may stand before it.
    ///
    /// White space around the ids and control pieces among them don't count, just as if the sequence were read as
    /// text, which is openpi's way. Unlike there, ids whose pieces are white space or would merge stay what they are,
    /// and what follows the end of the sequence is not read.
    ///
    /// # Errors
    /// [`Error::NoActions`] when `Action: ` does not occur; [`Error::NotAnAction`] names the position and id of the
    /// first token that is no FAST id. Nothing is appended then.
    pub fn fast_ids(&self, tokens: &[i32], out: &mut Vec<u32>) -> Result<()> {
        self.fast_ids_from(tokens, self.after_marker(tokens)?, out)
    }

    /// [`Self::fast_ids`] for a sequence generated after a prefix that ended in `Action: ` already: it is action ids
    /// from its first token on.
    ///
    /// # Errors
    /// [`Error::NotAnAction`], as [`Self::fast_ids`].
    pub fn continued_fast_ids(&self, tokens: &[i32], out: &mut Vec<u32>) -> Result<()> {
        self.fast_ids_from(tokens, 0, out)
    }

    fn fast_ids_from(&self, tokens: &[i32], start: usize, out: &mut Vec<u32>) -> Result<()> {
        let kept = out.len();
        let result = self.collect(tokens, start, out);
        if result.is_err() {
            out.truncate(kept);
        }
        result
    }

    fn collect(&self, tokens: &[i32], start: usize, out: &mut Vec<u32>) -> Result<()> {
        let kept = out.len();
        // White space after an id is an error only if another id follows.
        let mut gap = None;
        for (position, &token) in tokens.iter().enumerate().skip(start) {
            if let Some(id) = self.fast_id(token) {
                if let Some((position, token)) = gap {
                    return Err(not_an_action(position, token));
                }
                out.push(id);
                continue;
            }
            if token == self.eos || tokens[position..].starts_with(&self.marker) {
                break;
            }
            let text = match self.surface(position, token)? {
                Surface::Nothing => continue,
                Surface::Byte(byte) => &[byte],
                Surface::Text(text) => text.as_bytes(),
            };
            let end = text.iter().position(|&byte| byte == b'|');
            if !is_blank(&text[..end.unwrap_or(text.len())]) {
                return Err(not_an_action(position, token));
            }
            if end.is_some() {
                break;
            }
            if out.len() > kept {
                gap = gap.or(Some((position, token)));
            }
        }
        Ok(())
    }

    /// Where the first `Action: ` ends.
    fn after_marker(&self, tokens: &[i32]) -> Result<usize> {
        if tokens.starts_with(&self.marker) {
            return Ok(self.marker.len());
        }
        // Its letters may be spread over tokens in another way than the tokenizer's own, so it is looked for as text.
        let mut matched = 0;
        for (position, &token) in tokens.iter().enumerate() {
            let byte;
            let mut rest = match self.surface(position, token)? {
                Surface::Nothing => "",
                Surface::Byte(value) if value.is_ascii() => {
                    byte = [value];
                    std::str::from_utf8(&byte).unwrap_or("")
                }
                // No part of the marker, but it does stand between.
                Surface::Byte(_) => "\u{fffd}",
                Surface::Text(text) => text,
            };
            while let Some(c) = rest.chars().next() {
                rest = &rest[c.len_utf8()..];
                let c = if c == ESCAPED_SPACE { ' ' } else { c };
                // Only its first letter can begin it again.
                matched = if MARKER[matched..].starts_with(c) { matched + 1 } else { usize::from(c == 'A') };
                if matched == MARKER.len() {
                    return if is_blank(rest.as_bytes()) {
                        Ok(position + 1)
                    } else {
                        Err(not_an_action(position, token))
                    };
                }
            }
        }
        Err(Error::NoActions { tokens: tokens.len() })
    }

    fn surface(&self, position: usize, token: i32) -> Result<Surface<'_>> {
        let surface = u32::try_from(token).ok().and_then(|id| self.text.surface(id));
        surface.ok_or_else(|| not_an_action(position, token))
    }
}

/// Whether text in the pieces' spelling is white space.
fn is_blank(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| text.chars().all(|c| c == ESCAPED_SPACE || clean::is_space(c)))
}

fn not_an_action(position: usize, id: i32) -> Error {
    Error::NotAnAction { position, id }
}
