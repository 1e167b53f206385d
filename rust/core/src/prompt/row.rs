//! One row of a batch of prompts, written from the left into slices that the caller owns.

use std::ops::Range;

use super::numbers::Entry;
use crate::{Error, Result};

/// What became of a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// How many ids the prompt has; more than the row's length where it was truncated.
    pub length: usize,
    /// Whether its end did not fit and was left out.
    pub truncated: bool,
}

/// The row's tokens, and how many were meant to be written so far.
pub(super) struct Row<'a> {
    tokens: &'a mut [i32],
    length: usize,
}

impl<'a> Row<'a> {
    pub(super) fn new(tokens: &'a mut [i32]) -> Self {
        Self { tokens, length: 0 }
    }

    pub(super) fn length(&self) -> usize {
        self.length
    }

    #[inline]
    pub(super) fn extend(&mut self, ids: &[i32]) {
        if let Some(room) = self.tokens.get_mut(self.length..) {
            let fits = ids.len().min(room.len());
            room[..fits].copy_from_slice(&ids[..fits]);
        }
        self.length += ids.len();
    }

    pub(super) fn extend_with<T>(&mut self, items: &[T], id: impl Fn(&T) -> i32) {
        if let Some(room) = self.tokens.get_mut(self.length..) {
            for (slot, item) in room.iter_mut().zip(items) {
                *slot = id(item);
            }
        }
        self.length += items.len();
    }

    /// Writes a number. All four slots are written where there is room: what is too many is written over next.
    #[inline]
    pub(super) fn number(&mut self, entry: &Entry) {
        let length = entry.length as usize;
        match self.tokens.get_mut(self.length..self.length + 4) {
            Some(room) => room.copy_from_slice(&entry.ids),
            None => {
                self.extend(&entry.ids[..length]);
                return;
            }
        }
        self.length += length;
    }

    /// Fills up the tokens, and marks in `mask` those that count.
    pub(super) fn finish(self, pad: i32, mask: &mut [bool]) -> Written {
        let size = self.tokens.len();
        let used = self.length.min(size);
        self.tokens[used..].fill(pad);
        fill_range(mask, 0..used, false, true);
        Written { length: self.length, truncated: self.length > size }
    }
}

/// One value inside a range and another one elsewhere; the range may reach beyond the row.
pub(super) fn fill_range<T: Copy>(row: &mut [T], range: Range<usize>, outside: T, inside: T) {
    row.fill(outside);
    let end = range.end.min(row.len());
    if let Some(marked) = row.get_mut(range.start..end) {
        marked.fill(inside);
    }
}

/// Refuses a mask of another length than the tokens.
pub(super) fn same_length<T>(what: &'static str, tokens: &[i32], other: &[T]) -> Result<()> {
    if tokens.len() == other.len() {
        Ok(())
    } else {
        Err(Error::Shape { what, expected: tokens.len(), got: other.len() })
    }
}
