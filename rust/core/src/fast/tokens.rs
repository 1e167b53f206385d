//! What each token decodes to: coefficients at once where it spells whole characters, bytes to be joined where not.

use std::ops::Range;

use crate::{Error, Result};

/// Most tokens have no more coefficients than this: so many are copied at once, whatever is behind them.
const SHORT: usize = 8;

/// By id.
#[derive(Debug)]
pub(super) struct Tokens {
    tokens: Box<[Option<Token>]>,
    bytes: Box<[u8]>,
    /// Values divided by the scale, and [`SHORT`] more behind the last token's.
    coefficients: Box<[f64]>,
    min_token: i64,
    scale: f64,
}

#[derive(Debug, Clone)]
struct Token {
    bytes: Range<u32>,
    /// Empty where it begins or ends inside a character.
    coefficients: Range<u32>,
}

impl Tokens {
    pub(super) fn new(spelled: &[Option<Box<[u8]>>], min_token: i64, scale: f64) -> Self {
        let (mut bytes, mut coefficients) = (Vec::new(), Vec::new());
        let mut add = |spelled: &[u8]| {
            let (first_byte, first) = (bytes.len() as u32, coefficients.len() as u32);
            bytes.extend_from_slice(spelled);
            if let Ok(text) = std::str::from_utf8(spelled) {
                coefficients.extend(text.chars().map(|c| coefficient(c, min_token, scale)));
            }
            Token { bytes: first_byte..bytes.len() as u32, coefficients: first..coefficients.len() as u32 }
        };
        let tokens = spelled.iter().map(|spelled| spelled.as_deref().map(&mut add)).collect();
        coefficients.resize(coefficients.len() + SHORT, 0.0);
        Self { tokens, bytes: bytes.into(), coefficients: coefficients.into(), min_token, scale }
    }

    /// What a token spells.
    pub(super) fn bytes(&self, id: u32) -> Option<&[u8]> {
        let token = self.tokens.get(id as usize)?.as_ref()?;
        Some(&self.bytes[token.bytes.start as usize..token.bytes.end as usize])
    }

    /// Writes the coefficients of `ids` to the front of `out`, as many as there is room for. What is behind them then means
    /// nothing. Returns how many there are, and whether a character is left unfinished behind them.
    pub(super) fn decode(&self, ids: &[u32], out: &mut [f64]) -> Result<(usize, bool)> {
        let mut count = 0;
        let mut part = Part::default();
        for (position, &id) in ids.iter().enumerate() {
            let fail = |why| Error::Token { position, id, why };
            let token = self
                .tokens
                .get(id as usize)
                .ok_or_else(|| fail("is outside the vocabulary"))?
                .as_ref()
                .ok_or_else(|| fail("stands for no bytes, so that no chunk has it"))?;
            let whole =
                &self.coefficients[token.coefficients.start as usize..token.coefficients.end as usize];
            if part.len == 0 && !whole.is_empty() {
                let rest = out.get_mut(count..).unwrap_or_default();
                let short = self.coefficients[token.coefficients.start as usize..].first_chunk::<SHORT>();
                if let (true, Some(from), Some(to)) = (whole.len() <= SHORT, short, rest.first_chunk_mut()) {
                    *to = *from;
                } else {
                    let room = whole.len().min(rest.len());
                    rest[..room].copy_from_slice(&whole[..room]);
                }
                count += whole.len();
                continue;
            }
            for &byte in &self.bytes[token.bytes.start as usize..token.bytes.end as usize] {
                let finished =
                    part.push(byte).map_err(|()| fail("breaks a character: its bytes are no UTF-8 here"))?;
                if let Some(character) = finished {
                    if let Some(out) = out.get_mut(count) {
                        *out = coefficient(character, self.min_token, self.scale);
                    }
                    count += 1;
                }
            }
        }
        Ok((count, part.len > 0))
    }
}

fn coefficient(character: char, min_token: i64, scale: f64) -> f64 {
    (i64::from(u32::from(character)) + min_token) as f64 / scale
}

/// The bytes of a character that is not finished.
#[derive(Default)]
struct Part {
    bytes: [u8; 4],
    len: usize,
}

impl Part {
    /// Takes one more byte; returns the character that it finishes. An error if no character goes on like this.
    fn push(&mut self, byte: u8) -> std::result::Result<Option<char>, ()> {
        self.bytes[self.len] = byte;
        self.len += 1;
        match std::str::from_utf8(&self.bytes[..self.len]) {
            Ok(text) => {
                self.len = 0;
                Ok(text.chars().next())
            }
            Err(error) if error.error_len().is_none() => Ok(None),
            Err(_) => Err(()),
        }
    }
}
