//! Which rounded coefficients a vocabulary can say: a coefficient is a character, a character is one to four bytes of
//! UTF-8, and each of them needs a token.

const CODE_POINTS: u32 = 0x11_0000;

/// The coefficients that have tokens.
#[derive(Debug)]
pub(super) struct Alphabet {
    min_token: i32,
    /// First and last coefficient of each stretch without a gap, in order.
    ranges: Vec<(i32, i32)>,
}

impl Alphabet {
    /// The alphabet of a vocabulary that has these bytes. `min_token`, the coefficient of character 0, is between plus
    /// and minus [`CODE_POINTS`].
    pub(super) fn new(min_token: i32, has_byte: impl Fn(u8) -> bool) -> Self {
        let mut ranges: Vec<(i32, i32)> = Vec::new();
        let mut extend = |from: u32, to: u32| {
            let (from, to) = (from as i32 + min_token, to as i32 + min_token);
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == from => *last = to,
                _ => ranges.push((from, to)),
            }
        };
        let last_bytes: Vec<u32> = (0..64).filter(|&low| has_byte(0x80 | low as u8)).collect();
        for block in (0..CODE_POINTS).step_by(64) {
            if block < 0x80 {
                (block..block + 64).filter(|&code| has_byte(code as u8)).for_each(|code| extend(code, code));
            } else if let Some(first) = char::from_u32(block) {
                let mut utf8 = [0; 4];
                let utf8 = first.encode_utf8(&mut utf8).as_bytes();
                if !utf8[..utf8.len() - 1].iter().all(|&byte| has_byte(byte)) {
                } else if last_bytes.len() == 64 {
                    extend(block, block + 63);
                } else {
                    last_bytes.iter().for_each(|low| extend(block | low, block | low));
                }
            }
        }
        Self { min_token, ranges }
    }

    /// Lowest and highest coefficient, or `None` where there is none at all.
    pub(super) fn bounds(&self) -> Option<(i32, i32)> {
        Some((self.ranges.first()?.0, self.ranges.last()?.1))
    }

    /// The stretch without a gap that holds `coefficient`.
    pub(super) fn range_around(&self, coefficient: i32) -> Option<(i32, i32)> {
        let after = self.ranges.partition_point(|&(first, _)| first <= coefficient);
        self.ranges[..after].last().copied().filter(|&(_, last)| coefficient <= last)
    }

    pub(super) fn holds(&self, coefficient: i32) -> bool {
        self.range_around(coefficient).is_some()
    }

    /// The nearest coefficient that has tokens; of two, the one nearer to zero.
    pub(super) fn nearest(&self, coefficient: i32) -> Option<i32> {
        let after = self.ranges.partition_point(|&(first, _)| first <= coefficient);
        let below = self.ranges[..after].last().map(|&(_, last)| last.min(coefficient));
        let above = self.ranges.get(after).map(|&(first, _)| first);
        let key = |&found: &i32| (i64::from(found).abs_diff(i64::from(coefficient)), found.unsigned_abs());
        below.into_iter().chain(above).min_by_key(key)
    }

    /// The character of a coefficient that has tokens.
    #[inline]
    pub(super) fn character(&self, coefficient: i32) -> Option<char> {
        char::from_u32(coefficient.wrapping_sub(self.min_token) as u32)
    }

    /// The coefficient of a character.
    #[inline]
    pub(super) fn coefficient(&self, character: char) -> i32 {
        character as i32 + self.min_token
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes() -> impl Strategy<Value = Vec<bool>> {
        let missing = prop::collection::btree_set(0..256_usize, 0..40);
        missing.prop_map(|missing| (0..256).map(|byte| !missing.contains(&byte)).collect())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn it_holds_what_utf8_can_spell(has in bytes(), min_token in -500..500_i32) {
            let alphabet = Alphabet::new(min_token, |byte| has[usize::from(byte)]);
            for code in 0..CODE_POINTS + 10 {
                let spelled = char::from_u32(code)
                    .is_some_and(|c| c.encode_utf8(&mut [0; 4]).bytes().all(|byte| has[usize::from(byte)]));
                let coefficient = code as i32 + min_token;
                prop_assert_eq!(alphabet.holds(coefficient), spelled);
                if spelled {
                    let character = alphabet.character(coefficient).unwrap();
                    prop_assert_eq!(alphabet.coefficient(character), coefficient);
                }
            }
        }

        #[test]
        fn nearest_is_the_nearest(has in bytes(), from in -700..3000_i32) {
            let alphabet = Alphabet::new(-300, |byte| has[usize::from(byte)]);
            let expected = (0..2_000_000)
                .flat_map(|away| [from - away * from.signum(), from + away * from.signum()])
                .find(|&found| alphabet.holds(found));
            if from != 0 {
                prop_assert_eq!(alphabet.nearest(from), expected);
            }
        }
    }

    #[test]
    fn all_bytes_make_one_stretch_up_to_the_surrogates() {
        let alphabet = Alphabet::new(-100, |_| true);
        assert_eq!(alphabet.range_around(0), Some((-100, 0xd800 - 101)));
        assert_eq!(alphabet.bounds(), Some((-100, CODE_POINTS as i32 - 101)));
        assert!(!alphabet.holds(-101));
        assert_eq!(alphabet.nearest(i32::MIN), Some(-100));
        assert_eq!(alphabet.nearest(i32::MAX), alphabet.bounds().map(|(_, last)| last));
        assert_eq!(alphabet.nearest(0xd800 - 100), Some(0xd800 - 101));
        assert_eq!(Alphabet::new(0, |_| false).nearest(3), None);
    }
}
