//! Many prompts at once: each distinct instruction is tokenized once, and rows are written one after another into the
//! caller's buffers.

use std::collections::HashMap;

use super::{TokenizedInstruction, Written};
use crate::{Error, Result};

/// The instructions of a batch: each distinct text once, and which of them each row has.
#[derive(Debug, Clone)]
pub struct Instructions<'a> {
    distinct: Vec<&'a str>,
    rows: Vec<usize>,
}

impl<'a> Instructions<'a> {
    /// From one text a row.
    #[must_use]
    pub fn of_rows(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let (mut known, mut distinct) = (HashMap::new(), Vec::new());
        let mut place = |text| {
            *known.entry(text).or_insert_with(|| {
                distinct.push(text);
                distinct.len() - 1
            })
        };
        let rows = texts.into_iter().map(&mut place).collect();
        Self { distinct, rows }
    }

    /// From texts, and for each row which of them it has.
    ///
    /// # Errors
    /// [`Error::Argument`] names a row whose text is not there.
    pub fn indexed(texts: Vec<&'a str>, index: &[u32]) -> Result<Self> {
        let rows: Vec<usize> = index.iter().map(|&text| text as usize).collect();
        if let Some((row, text)) = rows.iter().enumerate().find(|&(_, &text)| text >= texts.len()) {
            let why = format!("row {row} asks for text {text}, but there are {} texts", texts.len());
            return Err(Error::Argument { what: "index", why });
        }
        Ok(Self { distinct: texts, rows })
    }

    /// Rows in the batch.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether the batch has no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Tokenizes each distinct text.
    pub(super) fn tokenized(
        &self,
        go_on: GoOn<'_>,
        tokenize: impl Fn(&str) -> Result<TokenizedInstruction>,
    ) -> Result<Tokenized<'_>> {
        let one = |text: &&str| if go_on() { tokenize(text) } else { Err(Error::Interrupted) };
        Ok(Tokenized { distinct: self.distinct.iter().map(one).collect::<Result<_>>()?, rows: &self.rows })
    }
}

/// The same, tokenized.
pub(super) struct Tokenized<'a> {
    distinct: Vec<TokenizedInstruction>,
    rows: &'a [usize],
}

impl Tokenized<'_> {
    /// The instruction of a row.
    pub(super) fn row(&self, row: usize) -> &TokenizedInstruction {
        &self.distinct[self.rows[row]]
    }
}

/// Asked now and then during a batch whether to go on; where the answer is no, the batch ends in
/// [`Error::Interrupted`].
pub type GoOn<'a> = &'a mut dyn FnMut() -> bool;

/// Buffers for N prompts of L ids, row after row.
#[derive(Debug)]
pub struct PromptRows<'a> {
    /// `[N, L]` ids, filled up with the pad id.
    pub tokens: &'a mut [i32],
    /// `[N, L]` which of them count.
    pub mask: &'a mut [bool],
    /// `[N]` how many ids each prompt has; more than L where it was truncated.
    pub lengths: &'a mut [i32],
    /// `[N]` whether its end did not fit.
    pub truncated: &'a mut [bool],
}

impl PromptRows<'_> {
    /// L of these buffers for `count` prompts.
    ///
    /// # Errors
    /// [`Error::Shape`] names a buffer of another size.
    pub(super) fn row_len(&self, count: usize) -> Result<usize> {
        let len = self.tokens.len().checked_div(count).unwrap_or(0);
        for (what, expected, got) in [
            ("tokens", count * len, self.tokens.len()),
            ("mask", count * len, self.mask.len()),
            ("lengths", count, self.lengths.len()),
            ("truncated", count, self.truncated.len()),
        ] {
            if got != expected {
                return Err(Error::Shape { what, expected, got });
            }
        }
        Ok(len)
    }

    /// Writes every row.
    pub(super) fn fill(
        self,
        count: usize,
        go_on: GoOn<'_>,
        mut write: impl FnMut(usize, &mut [i32], &mut [bool]) -> Result<Written>,
    ) -> Result<()> {
        let len = self.row_len(count)?;
        for row in 0..count {
            if !go_on() {
                return Err(Error::Interrupted);
            }
            let place = row * len..(row + 1) * len;
            let written = write(row, &mut self.tokens[place.clone()], &mut self.mask[place])
                .map_err(|error| error.at("row", row))?;
            self.lengths[row] = i32::try_from(written.length).unwrap_or(i32::MAX);
            self.truncated[row] = written.truncated;
        }
        Ok(())
    }
}

/// The states of `count` rows, end to end.
pub(super) struct States<'a, T> {
    values: &'a [T],
    dim: usize,
}

impl<'a, T> States<'a, T> {
    /// # Errors
    /// [`Error::Shape`] when they are not of one width.
    pub(super) fn new(values: &'a [T], count: usize) -> Result<Self> {
        let dim = values.len().checked_div(count).unwrap_or(0);
        if dim * count != values.len() {
            return Err(Error::Shape { what: "states", expected: dim * count, got: values.len() });
        }
        Ok(Self { values, dim })
    }

    /// The state of a row.
    pub(super) fn row(&self, row: usize) -> &'a [T] {
        &self.values[row * self.dim..(row + 1) * self.dim]
    }
}
