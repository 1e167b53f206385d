//! Ids to chunk.

use super::alphabet::Alphabet;
use super::{FastCodec, FastScratch, Partial, check_shape};
use crate::vocab::Vocabulary;
use crate::{Dct, Error, Result};

/// What each token says, made at load.
#[derive(Debug)]
pub(super) struct Spellings {
    /// By id.
    tokens: Box<[Spelling]>,
    /// The bytes of all tokens, one after another.
    bytes: Box<[u8]>,
    /// What is not zero in each whole token, one token after another: its place in the token, and the value over scale.
    values: Box<[(u32, f64)]>,
}

/// One token's share of the tables.
#[derive(Debug, Clone, Copy, Default)]
struct Spelling {
    bytes: (u32, u32),
    values: (u32, u32),
    /// The number of characters, if they are whole; else 0.
    characters: u32,
}

impl Spellings {
    pub(super) fn new(vocabulary: &Vocabulary, alphabet: &Alphabet, scale: f64) -> Self {
        let (mut bytes, mut values) = (Vec::new(), Vec::new());
        let tokens = (0..vocabulary.len() as u32).map(|id| {
            let (first_byte, first_value) = (bytes.len(), values.len());
            if !vocabulary.push_bytes(id, &mut bytes) {
                return Spelling::default();
            }
            let mut characters = 0;
            if let Ok(text) = std::str::from_utf8(&bytes[first_byte..]) {
                for (at, character) in text.chars().enumerate() {
                    characters = at as u32 + 1;
                    let value = alphabet.coefficient(character);
                    if value != 0 {
                        values.push((at as u32, f64::from(value) / scale));
                    }
                }
            }
            Spelling {
                bytes: (first_byte as u32, bytes.len() as u32),
                values: (first_value as u32, values.len() as u32),
                characters,
            }
        });
        let tokens = tokens.collect();
        Self { tokens, bytes: bytes.into(), values: values.into() }
    }

    pub(super) fn bytes(&self, id: u32) -> Option<&[u8]> {
        let (start, end) = self.tokens.get(id as usize)?.bytes;
        (start < end).then(|| &self.bytes[start as usize..end as usize])
    }
}

/// A character of which not all bytes have come.
#[derive(Debug, Default)]
struct Pending {
    bytes: [u8; 4],
    len: usize,
}

impl Pending {
    /// Takes one more byte. Returns the character that it completes, or fails where there can't be one.
    fn push(&mut self, byte: u8) -> std::result::Result<Option<char>, ()> {
        self.bytes[self.len] = byte;
        self.len += 1;
        match std::str::from_utf8(&self.bytes[..self.len]) {
            Ok(text) => {
                self.len = 0;
                Ok(text.chars().next())
            }
            // The bytes so far may begin a character.
            Err(error) if error.error_len().is_none() => Ok(None),
            Err(_) => Err(()),
        }
    }
}

impl FastCodec {
    /// Decodes ids to the actions [H, D] of one chunk, row-major. Returns how many coefficients were missing.
    ///
    /// # Errors
    /// [`Error::Shape`] if `out` has another length than the plan's horizon times `dim`. [`Error::Argument`] names an
    /// id that is no token, or that breaks a character. [`Error::Incomplete`] if the ids hold more coefficients than
    /// the chunk, or less and they are not to be padded. What `out` holds after an error is of no meaning.
    pub fn decode_into(
        &self,
        plan: &Dct,
        ids: &[u32],
        dim: usize,
        partial: Partial,
        scratch: &mut FastScratch,
        out: &mut [f64],
    ) -> Result<usize> {
        check_shape(plan, out.len(), dim)?;
        out.fill(0.0);
        let got = self.place(ids, out)?;
        if got > out.len() || (got < out.len() && partial == Partial::Error) {
            return Err(Error::Incomplete { expected: out.len(), got });
        }
        plan.inverse(out, dim, &mut scratch.transform)?;
        Ok(out.len() - got)
    }

    /// Writes the coefficients that are not zero to their places. Returns how many the ids hold in all.
    fn place(&self, ids: &[u32], out: &mut [f64]) -> Result<usize> {
        let Spellings { tokens, values, .. } = &self.spellings;
        let mut pending = Pending::default();
        let mut at = 0;
        for (position, &id) in ids.iter().enumerate() {
            let fail = |why: String| Error::Argument { what: "ids", why };
            let Some(bytes) = self.spellings.bytes(id) else {
                let size = tokens.len();
                return Err(fail(format!("id {id} at position {position} is no token of the {size} here")));
            };
            let token = &tokens[id as usize];
            if pending.len == 0 && token.characters > 0 {
                let end = at + token.characters as usize;
                if let Some(out) = out.get_mut(at..end) {
                    for &(offset, value) in &values[token.values.0 as usize..token.values.1 as usize] {
                        out[offset as usize] = value;
                    }
                }
                at = end;
                continue;
            }
            for &byte in bytes {
                match pending.push(byte) {
                    Ok(None) => {}
                    Ok(Some(character)) => {
                        if let Some(out) = out.get_mut(at) {
                            *out = f64::from(self.alphabet.coefficient(character)) / self.config.scale;
                        }
                        at += 1;
                    }
                    Err(()) => {
                        return Err(fail(format!(
                            "id {id} at position {position} breaks the character of coefficient {at}"
                        )));
                    }
                }
            }
        }
        // Bytes that begin a character hold no coefficient yet: it counts as missing, or as one too many.
        Ok(if pending.len > 0 && at == out.len() { at + 1 } else { at })
    }
}
