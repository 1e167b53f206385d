//! A hash table keyed by pairs of tokens, with open addresses, at most half full. Nothing iterates over it.
//!
//! A seed that each table draws anew keeps a file from choosing pairs that collide.

use std::hash::{BuildHasher, RandomState};

/// Bits that every multiplier has.
const ODD: u64 = 0x8000_0001_0000_0001;
/// No pair: both tokens `u32::MAX`.
const FREE: u64 = u64::MAX;

/// What is known of pairs of tokens.
#[derive(Debug)]
pub(crate) struct PairMap<V> {
    slots: Vec<(u64, V)>,
    seed: u64,
    shift: u32,
    len: usize,
}

impl<V: Copy + Default> PairMap<V> {
    /// With room for so many pairs; it grows when there are more.
    pub(crate) fn new(pairs: usize) -> Self {
        let bits = (pairs * 2).next_power_of_two().max(16).trailing_zeros();
        let seed = RandomState::new().hash_one(0_u8);
        Self { slots: vec![(FREE, V::default()); 1 << bits], seed, shift: 64 - bits, len: 0 }
    }

    #[inline]
    pub(crate) fn get(&self, (left, right): (u32, u32)) -> Option<V> {
        let key = u64::from(left) << 32 | u64::from(right);
        let (found, value) = self.slots[self.find(key)];
        (found != FREE).then_some(value)
    }

    /// The pair's value, which is `value` from now on if it had none.
    pub(crate) fn get_or_insert(&mut self, (left, right): (u32, u32), value: V) -> V {
        let key = u64::from(left) << 32 | u64::from(right);
        let at = self.find(key);
        if self.slots[at].0 != FREE {
            return self.slots[at].1;
        }
        self.slots[at] = (key, value);
        self.len += 1;
        if self.len * 2 > self.slots.len() {
            let mut larger = Self::new(self.slots.len());
            for &(key, value) in self.slots.iter().filter(|(key, _)| *key != FREE) {
                let at = larger.find(key);
                larger.slots[at] = (key, value);
            }
            larger.len = self.len;
            *self = larger;
        }
        value
    }

    /// The slot that holds `key`, or the free one where it belongs.
    #[inline]
    fn find(&self, key: u64) -> usize {
        let mask = self.slots.len() - 1;
        // Both halves of a product of 128 bits: no bit of the key is without weight, and which pairs collide depends on
        // the seed.
        let product = u128::from(key ^ self.seed) * u128::from(self.seed | ODD);
        let mut at = ((product as u64 ^ (product >> 64) as u64) >> self.shift) as usize & mask;
        while self.slots[at].0 != key && self.slots[at].0 != FREE {
            at = (at + 1) & mask;
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_what_came_first_however_much_comes() {
        let mut map = PairMap::new(0);
        for i in 0..5000_u32 {
            assert_eq!(map.get((i % 70, i / 70)), None);
            assert_eq!(map.get_or_insert((i % 70, i / 70), i), i);
            assert_eq!(map.get_or_insert((i % 70, i / 70), 0), i);
        }
        assert!((0..5000).all(|i| map.get((i % 70, i / 70)) == Some(i)));
        assert_eq!((map.get((70, 0)), map.get((u32::MAX, 0))), (None, None));
    }

    #[test]
    fn pairs_chosen_to_collide_do_not() {
        // The multiplier that was used before there was a seed, and its inverse: all these keys had one slot.
        let multiplier = 0x9e37_79b9_7f4a_7c15_u64;
        let mut inverse = 1_u64;
        for _ in 0..6 {
            inverse = inverse.wrapping_mul(2_u64.wrapping_sub(multiplier.wrapping_mul(inverse)));
        }
        let keys = (1..20_000_u64).map(|key| key.wrapping_mul(inverse));
        let mut map = PairMap::new(20_000);
        for key in keys.clone() {
            map.get_or_insert(((key >> 32) as u32, key as u32), 0_u32);
        }
        let taken = |at: usize| map.slots[at & (map.slots.len() - 1)].0 != FREE;
        let longest = (0..map.slots.len()).map(|start| (start..).take_while(|&at| taken(at)).count()).max();
        assert!(longest < Some(200), "a run of {longest:?} full slots");
    }
}
