//! The vocabulary itself: every piece's text and kind by id, and its id by text, in a hash table keyed by the bytes.

use std::hash::{BuildHasher, RandomState};

use super::model::{Kind, PieceList, byte_of, refused};
use crate::Result;

/// All pieces of a model. Their texts lie end to end in one string.
#[derive(Debug)]
pub(super) struct Pieces {
    text: Box<str>,
    ends: Box<[u32]>,
    kinds: Box<[Kind]>,
    /// Open addressing: `id + 1` in the lower bits, 0 where free, and as much of the hash as fits above them, which
    /// answers most misses by itself.
    slots: Box<[u32]>,
    /// Which bits of a slot are the id's.
    id_bits: u32,
    /// Drawn anew in each process, so that no file can be made to collide.
    seed: u64,
}

/// Where each of the 256 byte pieces is, or `None` in a model without them.
pub(super) type ByteIds = Option<Box<[u32; 256]>>;

impl Pieces {
    /// Indexes the pieces.
    ///
    /// # Errors
    /// `Error::Format` for a piece that is no text or that the list holds twice.
    pub(super) fn new(list: PieceList) -> Result<Self> {
        let PieceList { text, ends, kinds, .. } = list;
        let text = checked(text, &ends)?;
        let slots = vec![0; (2 * ends.len()).next_power_of_two()];
        let id_bits = (ends.len() + 1).next_power_of_two() as u32 - 1;
        let mut this = Self {
            text: text.into_boxed_str(),
            ends: ends.into_boxed_slice(),
            kinds: kinds.into_boxed_slice(),
            slots: slots.into_boxed_slice(),
            id_bits,
            seed: RandomState::new().hash_one(0u8),
        };
        let mut start = 0;
        for id in 0..this.ends.len() {
            let end = this.ends[id] as usize;
            let piece = &this.text.as_bytes()[start..end];
            let hash = this.hash(piece);
            match this.find(piece, hash) {
                Ok(first) => {
                    let piece = &this.text[start..end];
                    return Err(refused(format!("pieces {first} and {id} are both {piece:?}")));
                }
                Err(free) => this.slots[free] = (hash >> 32) as u32 & !id_bits | (id as u32 + 1),
            }
            start = end;
        }
        Ok(this)
    }

    /// The id of the one unknown piece.
    pub(super) fn unknown(&self) -> Result<u32> {
        let mut unknown =
            (0u32..).zip(&self.kinds).filter(|(_, kind)| **kind == Kind::Unknown).map(|(id, _)| id);
        match (unknown.next(), unknown.next()) {
            (Some(id), None) => Ok(id),
            (None, _) => Err(refused("it has no unknown piece".to_owned())),
            (Some(a), Some(b)) => Err(refused(format!("pieces {a} and {b} are both the unknown piece"))),
        }
    }

    /// The ids of the byte pieces `<0x00>` to `<0xFF>`, all of them or none.
    pub(super) fn byte_ids(&self, byte_fallback: bool) -> Result<ByteIds> {
        let mut ids = [u32::MAX; 256];
        for (id, text, _) in self.iter().filter(|(_, _, kind)| *kind == Kind::Byte) {
            if !byte_fallback {
                return Err(refused(format!("piece {id} is a byte, but byte fallback is off")));
            }
            match byte_of(text) {
                Some(byte) => ids[usize::from(byte)] = id,
                None => return Err(refused(format!("piece {id} is a byte, but is written {text:?}"))),
            }
        }
        match ids.iter().position(|&id| id == u32::MAX) {
            _ if !byte_fallback => Ok(None),
            Some(byte) => Err(refused(format!("byte fallback is on, but <0x{byte:02X}> is missing"))),
            None => Ok(Some(Box::new(ids))),
        }
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

    /// For each place where `c` stands inside a piece: the character before it there, and the piece's kind.
    pub(super) fn befores(&self, c: char) -> impl Iterator<Item = (char, Kind)> {
        let (mut id, mut start) = (0, 0);
        self.text.match_indices(c).filter_map(move |(at, _)| {
            while self.ends[id] as usize <= at {
                start = self.ends[id] as usize;
                id += 1;
            }
            Some((self.text[start..at].chars().next_back()?, self.kinds[id]))
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
            if (found ^ (hash >> 32) as u32) & !self.id_bits == 0 {
                let id = (found & self.id_bits) - 1;
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
        const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
        let fold = |a: u64, b: u64| {
            let product = u128::from(a) * u128::from(b);
            product as u64 ^ (product >> 64) as u64
        };
        let mut state = self.seed ^ text.len() as u64;
        let mut rest = text;
        while let Some((word, tail)) = rest.split_first_chunk::<8>() {
            state = fold(state ^ u64::from_le_bytes(*word), ODD);
            rest = tail;
        }
        // The last few bytes as two words that may overlap.
        let last = match (rest.first_chunk::<4>(), rest.last_chunk::<4>(), rest) {
            (Some(head), Some(tail), _) => {
                u64::from(u32::from_le_bytes(*head)) | u64::from(u32::from_le_bytes(*tail)) << 32
            }
            (_, _, &[first, .., last]) => {
                u64::from(first) | u64::from(rest[rest.len() / 2]) << 8 | u64::from(last) << 16
            }
            (_, _, &[only]) => u64::from(only),
            _ => 0,
        };
        fold(state ^ last, ODD ^ self.seed.rotate_left(32))
    }
}

/// The pieces' bytes as text, every piece of it whole characters.
fn checked(bytes: Vec<u8>, ends: &[u32]) -> Result<String> {
    let holder = |at: usize| ends.partition_point(|&end| end as usize <= at);
    if let Some(at) = bytes.iter().position(|&byte| byte == 0) {
        return Err(refused(format!("piece {} holds a null character", holder(at))));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let id = holder(error.utf8_error().valid_up_to());
        refused(format!("piece {id} is no UTF-8"))
    })?;
    match ends.iter().position(|&end| !text.is_char_boundary(end as usize)) {
        Some(id) => Err(refused(format!("piece {id} is no UTF-8"))),
        None => Ok(text),
    }
}
