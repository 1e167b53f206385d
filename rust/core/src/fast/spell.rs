//! A chunk's integers to the bytes of their characters, cut where the vocabulary's split cuts them.

use super::characters::{Characters, ZEROS};
use crate::pretokenize::{Class, Cutter};

/// A text as bytes, and where its pieces begin.
#[derive(Debug, Default)]
pub(super) struct Text {
    /// Longer than the text: what is behind [`Self::len`] means nothing.
    pub(super) bytes: Vec<u8>,
    pub(super) len: usize,
    /// Where each piece but the first begins.
    pub(super) cuts: Vec<u32>,
}

impl Text {
    /// Spells `values`, with `padding` bytes to spare behind. `on_clip(position)` is told of each value that is replaced
    /// by the nearest one that can be represented, and ends it all with an error if it will.
    pub(super) fn spell<E>(
        &mut self,
        values: &[i32],
        characters: &Characters,
        split: Option<&Cutter>,
        padding: usize,
        mut on_clip: impl FnMut(usize) -> Result<(), E>,
    ) -> Result<(), E> {
        let room = 4 * values.len() + padding.max(4);
        if self.bytes.len() < room {
            self.bytes.resize(room, 0);
        }
        self.cuts.clear();
        let (mut at, mut previous, mut state) = (0, 0, Cutter::START);
        let zeros = characters.zeros();
        for (group, first) in values.chunks(ZEROS).zip((0..).step_by(ZEROS)) {
            if group.len() == ZEROS
                && group.iter().fold(0, |any, value| any | value) == 0
                && let Some(zeros) = zeros
                && split.is_none_or(|cutter| cutter.stays(state, zeros.class))
            {
                self.bytes[at..at + zeros.bytes.len()].copy_from_slice(&zeros.bytes);
                at += ZEROS * zeros.len;
                previous = at - zeros.len;
                continue;
            }
            for (position, &value) in (first..).zip(group) {
                let spelling = characters.spelling(value);
                if spelling.clipped {
                    on_clip(position)?;
                }
                if let Some(cutter) = split {
                    state = cutter.step(state, spelling.class, previous, at, &mut self.cuts);
                    previous = at;
                }
                at = spelling.write(&mut self.bytes, at);
            }
        }
        if let Some(cutter) = split {
            cutter.step(state, Class::End, previous, at, &mut self.cuts);
        }
        self.len = at;
        Ok(())
    }
}
