//! The vocabulary itself: every piece's text and kind by id, and its id by text, in a hash table keyed by the bytes.

use std::hash::{BuildHasher, RandomState};

use super::model::{Kind, Model};
use super::wire::FILE;
use crate::{Error, Result};

/// All pieces of a model. Their texts lie end to end in one string.
#[derive(Debug)]
pub(super) struct Pieces {
    text: Box<str>,
    ends: Box<[u32]>,
    kinds: Box<[Kind]>,
    /// Open addressing: `hash's upper half << 32 | id + 1`, 0 where free. The half answers most misses by itself.
    slots: Box<[u64]>,
    /// Drawn anew in each process, so that no file can be made to collide.
    seed: u64,
}

impl Pieces {
    /// Lays out the pieces.
    ///
    /// # Errors
    /// `Error::Format` when two pieces have the same text.
    pub(super) fn new(model: &Model<'_>) -> Result<Self> {
        let pieces = &model.pieces;
        let mut text = String::with_capacity(pieces.iter().map(|piece| piece.text.len()).sum());
        let mut ends = Vec::with_capacity(pieces.len());
        for piece in pieces {
            text.push_str(piece.text);
            ends.push(offset(text.len())?);
        }
        let mut this = Self {
            text: text.into_boxed_str(),
            ends: ends.into_boxed_slice(),
            kinds: pieces.iter().map(|piece| piece.kind).collect(),
            slots: vec![0; (2 * pieces.len()).next_power_of_two()].into_boxed_slice(),
            seed: RandomState::new().hash_one(0u8),
        };
        for (id, piece) in (0u32..).zip(pieces) {
            let hash = this.hash(piece.text.as_bytes());
            match this.find(piece.text.as_bytes(), hash) {
                Ok(first) => {
                    let why = format!("pieces {first} and {id} are both {:?}", piece.text);
                    return Err(Error::Format { what: FILE, why });
                }
                Err(free) => this.slots[free] = hash >> 32 << 32 | u64::from(id + 1),
            }
        }
        Ok(this)
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The text of piece `id`.
    pub(super) fn get(&self, id: u32) -> Option<&str> {
        let id = usize::try_from(id).ok()?;
        let end = *self.ends.get(id)?;
        let start = if id == 0 { 0 } else { self.ends[id - 1] };
        Some(&self.text[start as usize..end as usize])
    }

    pub(super) fn kind(&self, id: u32) -> Option<Kind> {
        self.kinds.get(usize::try_from(id).ok()?).copied()
    }

    /// The id of the piece that is exactly `text`, of whatever kind.
    pub(super) fn id(&self, text: &[u8]) -> Option<u32> {
        self.find(text, self.hash(text)).ok()
    }

    /// Every id with its text and kind.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &str, Kind)> {
        let mut start = 0;
        (0u32..).zip(self.ends.iter().zip(&self.kinds)).map(move |(id, (&end, &kind))| {
            let text = &self.text[start..end as usize];
            start = end as usize;
            (id, text, kind)
        })
    }

    /// The id under `text`, or the free slot where it would go.
    #[inline]
    fn find(&self, text: &[u8], hash: u64) -> std::result::Result<u32, usize> {
        let mask = self.slots.len() - 1;
        let mut slot = hash as usize & mask;
        loop {
            let found = self.slots[slot];
            if found == 0 {
                return Err(slot);
            }
            if (found ^ hash) >> 32 == 0 {
                let id = found as u32 - 1;
                if self.get(id).is_some_and(|piece| piece.as_bytes() == text) {
                    return Ok(id);
                }
            }
            slot = (slot + 1) & mask;
        }
    }

    /// Eight bytes at a time, folded by a wide multiplication.
    #[inline]
    fn hash(&self, text: &[u8]) -> u64 {
        fn fold(a: u64, b: u64) -> u64 {
            let product = u128::from(a) * u128::from(b);
            product as u64 ^ (product >> 64) as u64
        }
        const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut state = self.seed ^ text.len() as u64;
        let mut chunks = text.chunks_exact(8);
        for chunk in &mut chunks {
            let mut word = [0; 8];
            word.copy_from_slice(chunk);
            state = fold(state ^ u64::from_le_bytes(word), ODD ^ self.seed.rotate_left(32));
        }
        let mut word = [0; 8];
        word[..chunks.remainder().len()].copy_from_slice(chunks.remainder());
        fold(state ^ u64::from_le_bytes(word), ODD)
    }
}

fn offset(at: usize) -> Result<u32> {
    u32::try_from(at).map_err(|_| Error::Format { what: FILE, why: "its pieces exceed 4 GiB".to_owned() })
}
