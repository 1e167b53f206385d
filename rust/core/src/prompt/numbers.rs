//! The state part of a prompt as a table: 257 numbers, each with the ids it always becomes. Whether it always becomes
//! them is a property of the vocabulary, which is proven here or there is no table.

use crate::{Result, SentencePiece};

/// The ids of a space and one bin number, from " -1" to " 255".
#[derive(Debug)]
pub(super) struct Numbers {
    entries: Box<[Entry; 257]>,
}

/// Ids that are written as one block of four; the first `length` count.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Entry {
    pub(super) ids: [i32; 4],
    pub(super) length: u32,
}

impl Numbers {
    /// The table, or `None` where the vocabulary does not encode `Task: x, State: 1 2;` part by part, as `Task: x,`,
    /// ` State:`, ` 1`, ` 2` and `;`.
    ///
    /// Merges and user-defined pieces join neighbouring characters into a piece, so nothing joins across a border that
    /// no piece contains. The borders are a comma, a colon or a digit before a space, and a digit before a semicolon.
    pub(super) fn prove(text: &SentencePiece) -> Result<Option<Self>> {
        let to_space = |left: char| matches!(left, ',' | ':') || left.is_ascii_digit();
        let parts_join = !text.words_stand_alone() && text.joins(to_space, text.space())
            || text.joins(|left| left.is_ascii_digit(), ';');
        if parts_join || !text.keeps_text() {
            return Ok(None);
        }
        let mut entries = Box::new([Entry::default(); 257]);
        for (bin, entry) in (-1..).zip(entries.iter_mut()) {
            let ids = text.encode(&format!(" {bin}"))?;
            // An unknown id at the front would melt into an unknown neighbour.
            if ids.len() > entry.ids.len() || ids.first() == Some(&text.unk()) {
                return Ok(None);
            }
            for (slot, &id) in entry.ids.iter_mut().zip(&ids) {
                *slot = id as i32;
            }
            entry.length = ids.len() as u32;
        }
        Ok(Some(Self { entries }))
    }

    /// The ids of a space and `bin`, which is in -1..=255.
    #[inline]
    pub(super) fn get(&self, bin: i16) -> &Entry {
        &self.entries[(i32::from(bin) + 1).clamp(0, 256) as usize]
    }
}
