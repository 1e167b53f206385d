//! A chunk's integers to the bytes of their characters, cut where the vocabulary's split cuts them.

use super::characters::Characters;
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
        let mut at = 0;
        match split {
            None => {
                for (position, &value) in values.iter().enumerate() {
                    let spelling = characters.spelling(value);
                    if spelling.clipped {
                        on_clip(position)?;
                    }
                    at = spelling.write(&mut self.bytes, at);
                }
            }
            Some(cutter) => {
                let (mut state, mut previous) = (Cutter::START, 0);
                for (position, &value) in values.iter().enumerate() {
                    let spelling = characters.spelling(value);
                    if spelling.clipped {
                        on_clip(position)?;
                    }
                    state = cutter.step(state, spelling.class, previous, at, &mut self.cuts);
                    previous = at;
                    at = spelling.write(&mut self.bytes, at);
                }
                cutter.step(state, Class::End, previous, at, &mut self.cuts);
            }
        }
        self.len = at;
        Ok(())
    }
}
