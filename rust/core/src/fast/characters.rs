//! Which character a coefficient becomes (`value - min_token` is its code), how UTF-8 spells it, and which values a
//! vocabulary can represent at all: those whose bytes all have a token.

use crate::pretokenize::Class;

/// Values from `-NEAR` to `NEAR - 1` are looked up.
const NEAR: i32 = 1024;
/// High frequencies are mostly zeros: so many of them are written at once.
pub(super) const ZEROS: usize = 8;
/// Codes that share all bytes but the last.
const BLOCK: u32 = 64;

/// A value's character.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spelling {
    bytes: [u8; 4],
    len: u8,
    /// The value has none of its own, and this is the nearest one's.
    pub(super) clipped: bool,
    pub(super) class: Class,
}

impl Spelling {
    fn new(character: char, clipped: bool) -> Self {
        let mut bytes = [0; 4];
        let len = character.encode_utf8(&mut bytes).len() as u8;
        Self { bytes, len, clipped, class: Class::of(character) }
    }

    /// Writes it at `at` and returns where it ends. Four bytes are written, however short it is.
    #[inline]
    pub(super) fn write(&self, text: &mut [u8], at: usize) -> usize {
        text[at..at + 4].copy_from_slice(&self.bytes);
        at + usize::from(self.len)
    }
}

/// The character of zero, [`ZEROS`] times.
#[derive(Debug)]
pub(super) struct Zeros {
    /// What is behind them means nothing.
    pub(super) bytes: [u8; 4 * ZEROS],
    /// Bytes of one.
    pub(super) len: usize,
    pub(super) class: Class,
}

#[derive(Debug)]
pub(super) struct Characters {
    min_token: i64,
    near: Box<[Spelling]>,
    /// `None` where zero has no character.
    zeros: Option<Zeros>,
    /// The values that can be represented, as ranges from first to last: sorted, apart, at least one.
    ranges: Box<[(i64, i64)]>,
}

impl Characters {
    /// `min_token` has at most 21 bits. `None` when not a single value can be represented.
    pub(super) fn new(min_token: i64, bytes: &[Option<u32>; 256]) -> Option<Self> {
        let mut this =
            Self { min_token, near: Box::default(), zeros: None, ranges: ranges(min_token, bytes).into() };
        if this.ranges.is_empty() {
            return None;
        }
        this.near = (-NEAR..NEAR).map(|value| this.far(value.into())).collect();
        let zero = this.spelling(0);
        if !zero.clipped {
            let (mut bytes, len) = ([0; 4 * ZEROS], usize::from(zero.len));
            bytes.chunks_exact_mut(len).take(ZEROS).for_each(|one| one.copy_from_slice(&zero.bytes[..len]));
            this.zeros = Some(Zeros { bytes, len, class: zero.class });
        }
        Some(this)
    }

    /// How a value is spelled, or the nearest value that can be.
    #[inline]
    pub(super) fn spelling(&self, value: i32) -> Spelling {
        match self.near.get(value.wrapping_add(NEAR) as usize) {
            Some(&near) => near,
            None => self.far(value.into()),
        }
    }

    /// As the field says.
    pub(super) fn zeros(&self) -> Option<&Zeros> {
        self.zeros.as_ref()
    }

    #[cold]
    fn far(&self, value: i64) -> Spelling {
        let nearest = self.nearest(value);
        // Values in a range have a character; that is what makes them one.
        let character = char::from_u32((nearest - self.min_token) as u32).unwrap_or_default();
        Spelling::new(character, nearest != value)
    }

    /// The nearest value that can be represented; of two as near, the one nearer to zero.
    pub(super) fn nearest(&self, value: i64) -> i64 {
        let after = self.ranges.partition_point(|&(first, _)| first <= value);
        let below = after.checked_sub(1).map(|at| self.ranges[at].1.min(value));
        let above = self.ranges.get(after).map(|&(first, _)| first);
        match (below, above) {
            (Some(below), Some(above)) => {
                let (down, up) = (value - below, above - value);
                if down < up || (down == up && below.abs() <= above.abs()) { below } else { above }
            }
            (Some(only), None) | (None, Some(only)) => only,
            (None, None) => value,
        }
    }

    /// The range that holds zero, or the one nearest to it.
    pub(super) fn around_zero(&self) -> (i64, i64) {
        let nearest = self.nearest(0);
        let holds = |range: &&(i64, i64)| (range.0..=range.1).contains(&nearest);
        self.ranges.iter().find(holds).copied().unwrap_or_default()
    }

    /// As the field says.
    pub(super) fn ranges(&self) -> &[(i64, i64)] {
        &self.ranges
    }
}

/// The values whose characters' bytes all have tokens.
fn ranges(min_token: i64, bytes: &[Option<u32>; 256]) -> Vec<(i64, i64)> {
    let has = |byte: u8| bytes[usize::from(byte)].is_some();
    let mut found: Vec<(i64, i64)> = Vec::new();
    let mut add = |code: u32| {
        let value = i64::from(code) + min_token;
        match found.last_mut() {
            Some((_, last)) if *last + 1 == value => *last = value,
            _ => found.push((value, value)),
        }
    };
    for first in (0..=u32::from(char::MAX)).step_by(BLOCK as usize) {
        let Some(character) = char::from_u32(first) else { continue };
        let mut spelled = [0; 4];
        let spelled = character.encode_utf8(&mut spelled).as_bytes();
        let (last, leading) = (spelled[spelled.len() - 1], &spelled[..spelled.len() - 1]);
        if leading.iter().all(|&byte| has(byte)) {
            (0..BLOCK).filter(|&code| has(last + code as u8)).for_each(|code| add(first + code));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn characters(min_token: i64, missing: &[u8]) -> Characters {
        let bytes = std::array::from_fn(|byte| (!missing.contains(&(byte as u8))).then_some(byte as u32));
        Characters::new(min_token, &bytes).unwrap()
    }

    #[test]
    fn all_characters_but_surrogates_are_values() {
        let all = characters(-1000, &[]);
        assert_eq!(all.ranges(), [(-1000, 0xd7ff - 1000), (0xe000 - 1000, 0x10_ffff - 1000)]);
        assert_eq!(all.around_zero(), (-1000, 0xd7ff - 1000));
        assert_eq!(characters(5, b"\x00").around_zero(), (6, 0xd7ff + 5));
        // 0x7ff surrogate codes lie between: the middle one is as far from either side.
        assert_eq!(all.nearest(0xd7ff - 1000 + 0x400), 0xd7ff - 1000);
        assert_eq!(all.nearest(0xd7ff - 1000 + 0x401), 0xe000 - 1000);
        assert_eq!((all.nearest(i64::MIN / 2), all.nearest(i64::MAX / 2)), (-1000, 0x10_ffff - 1000));
    }

    #[test]
    fn values_are_clipped_to_the_nearest_by_table_as_by_rule() {
        // Without some ASCII, without a continuation byte, without a lead byte.
        let some = characters(-70, b"\x00\x01ABDzx\x85\xc5");
        let has = |value: i64| {
            let character = u32::try_from(value + 70).ok().and_then(char::from_u32);
            character.is_some_and(|c| !c.to_string().bytes().any(|b| b"\x00\x01ABDzx\x85\xc5".contains(&b)))
        };
        for value in -1500..1500 {
            let nearest = some.nearest(value);
            let expected = (0..2000).flat_map(|d| [value - d, value + d]).filter(|&v| has(v));
            let expected = expected.min_by_key(|v| ((v - value).abs(), v.abs())).unwrap();
            assert_eq!(nearest, expected, "{value}");
            let spelling = some.spelling(value as i32);
            assert_eq!(spelling.clipped, nearest != value);
            let mut text = [0; 8];
            let end = spelling.write(&mut text, 0);
            let character = char::from_u32((nearest + 70) as u32).unwrap();
            assert_eq!(&text[..end], character.to_string().as_bytes());
            assert_eq!(spelling.class, Class::of(character));
        }
    }

    #[test]
    fn a_vocabulary_without_bytes_represents_nothing() {
        assert!(Characters::new(0, &[None; 256]).is_none());
    }
}
