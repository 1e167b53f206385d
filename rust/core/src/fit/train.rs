//! The BPE trainer: the pair of tokens that comes up most often becomes a token, again and again. Counts are kept up to
//! date where a merge changes them, so that all merges together cost about as much as reading the data a few times.
//!
//! Among equals the pair of the smallest ids comes first, as in Hugging Face's trainer.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use crate::bpe::PairMap;
use crate::vocab::byte_ids;

/// Pairs that come up less often make no token.
const LEAST: u64 = 2;
/// Between words, and where a merge left nothing.
const NO_TOKEN: u32 = u32::MAX;

/// A place for a token. A merged token has its first byte's place and leaves the others empty.
#[derive(Debug, Clone, Copy)]
struct Place {
    token: u32,
    /// Places the token takes: at its first and at its last place.
    len: u32,
    /// How often its word is in the data.
    weight: u32,
}

#[derive(Debug, Default)]
struct Pair {
    count: u64,
    /// Where its left side is, or was.
    places: Vec<u32>,
}

/// The changes that one merge makes on one side, by neighbour.
#[derive(Debug)]
struct Side {
    pairs: Vec<Pair>,
    touched: Vec<u32>,
}

impl Side {
    fn new(tokens: usize) -> Self {
        Self { pairs: (0..tokens).map(|_| Pair::default()).collect(), touched: Vec::new() }
    }

    fn add(&mut self, neighbour: u32, weight: u32, place: usize) {
        let pair = &mut self.pairs[neighbour as usize];
        if pair.count == 0 {
            self.touched.push(neighbour);
        }
        pair.count += u64::from(weight);
        pair.places.push(place as u32);
    }
}

#[derive(Debug)]
struct Trainer {
    places: Vec<Place>,
    pairs: Vec<Pair>,
    index: PairMap<u32>,
    heap: BinaryHeap<(u64, Reverse<(u32, u32)>)>,
}

/// Returns the merges, pairs of ids in the order in which they were found, for a vocabulary of up to `vocab_size` tokens
/// that begins with the bytes ([`byte_ids`]). A pair whose text is a token already makes that token.
///
/// The words must hold less than 2^32 bytes together.
pub(super) fn train(words: &[&[u8]], vocab_size: usize) -> Vec<(u32, u32)> {
    let mut trainer = Trainer::new(words);
    let (mut left, mut right) = (Side::new(vocab_size), Side::new(vocab_size));
    let mut texts: Vec<Box<[u8]>> = vec![Box::default(); 256];
    for (byte, id) in (0..=255_u8).zip(byte_ids()) {
        texts[id as usize] = [byte].into();
    }
    let mut ids: HashMap<Box<[u8]>, u32> = texts.iter().cloned().zip(0..).collect();
    let mut merges = Vec::new();
    while texts.len() < vocab_size
        && let Some((a, b)) = trainer.most_frequent()
    {
        merges.push((a, b));
        let text: Box<[u8]> = [&*texts[a as usize], &*texts[b as usize]].concat().into();
        let made = *ids.entry(text.clone()).or_insert(texts.len() as u32);
        if made as usize == texts.len() {
            texts.push(text);
        }
        trainer.merge((a, b), made, &mut left, &mut right);
    }
    merges
}

impl Trainer {
    fn new(words: &[&[u8]]) -> Self {
        let mut weights: Vec<(&[u8], u32)> = Vec::new();
        let mut seen: HashMap<&[u8], usize> = HashMap::new();
        for &word in words {
            let at = *seen.entry(word).or_insert(weights.len());
            match weights.get_mut(at) {
                Some((_, weight)) => *weight += 1,
                None => weights.push((word, 1)),
            }
        }
        let total: usize = weights.iter().map(|(word, _)| word.len() + 1).sum();
        let border = Place { token: NO_TOKEN, len: 1, weight: 0 };
        let mut places = Vec::with_capacity(total + 1);
        places.push(border);
        let tokens = byte_ids();
        for (word, weight) in weights {
            places.extend(word.iter().map(|&byte| Place {
                token: tokens[usize::from(byte)],
                len: 1,
                weight,
            }));
            places.push(border);
        }
        let mut initial: Vec<Pair> = (0..256 * 256).map(|_| Pair::default()).collect();
        for (at, two) in places.windows(2).enumerate() {
            if two[0].token != NO_TOKEN && two[1].token != NO_TOKEN {
                let pair = &mut initial[(two[0].token * 256 + two[1].token) as usize];
                pair.count += u64::from(two[0].weight);
                pair.places.push(at as u32);
            }
        }
        let mut this = Self { places, pairs: Vec::new(), index: PairMap::new(1024), heap: BinaryHeap::new() };
        for (pair, key) in initial.into_iter().zip(0..) {
            if pair.count > 0 {
                this.gain((key / 256, key % 256), pair);
            }
        }
        this
    }

    /// Adds occurrences of a pair.
    fn gain(&mut self, key: (u32, u32), gained: Pair) {
        let at = self.index.get_or_insert(key, self.pairs.len() as u32) as usize;
        let count = match self.pairs.get_mut(at) {
            Some(pair) => {
                pair.count += gained.count;
                pair.places.extend(gained.places);
                pair.count
            }
            None => {
                let count = gained.count;
                self.pairs.push(gained);
                count
            }
        };
        if count >= LEAST {
            self.heap.push((count, Reverse(key)));
        }
    }

    fn lose(&mut self, key: (u32, u32), count: u64) {
        if let Some(at) = self.index.get(key) {
            let pair = &mut self.pairs[at as usize];
            pair.count = pair.count.saturating_sub(count);
        }
    }

    /// The pair to merge next. The heap's counts may be out of date, but only too high.
    fn most_frequent(&mut self) -> Option<(u32, u32)> {
        loop {
            let (count, Reverse(key)) = self.heap.pop()?;
            let now = self.pairs[self.index.get(key)? as usize].count;
            if now == count {
                return Some(key);
            }
            if now >= LEAST {
                self.heap.push((now, Reverse(key)));
            }
        }
    }

    fn merge(&mut self, (a, b): (u32, u32), made: u32, left: &mut Side, right: &mut Side) {
        let Some(at) = self.index.get((a, b)) else { return };
        let mut places = std::mem::take(&mut self.pairs[at as usize].places);
        // From left to right, as a text is merged; in order already but for a pair that came back.
        places.sort_unstable();
        for place in places {
            let place = place as usize;
            let Place { token, len, weight } = self.places[place];
            let second = place + len as usize;
            if token != a || self.places[second].token != b {
                continue;
            }
            let before = place - self.places[place - 1].len as usize;
            let after = second + self.places[second].len as usize;
            let (previous, next) = (self.places[before].token, self.places[after].token);
            if previous != NO_TOKEN {
                left.add(previous, weight, before);
            }
            if next != NO_TOKEN {
                right.add(next, weight, place);
            }
            let len = (after - place) as u32;
            self.places[second].token = NO_TOKEN;
            self.places[place].token = made;
            self.places[place].len = len;
            self.places[after - 1].len = len;
        }
        // What is gained first: in a run of one token a merge takes apart what the one before it made.
        let sides = left.touched.iter().map(|&n| (n, false)).chain(right.touched.iter().map(|&n| (n, true)));
        let sides: Vec<(u32, bool)> = sides.collect();
        let mut lost = Vec::with_capacity(sides.len());
        for (neighbour, is_right) in sides {
            let side = if is_right { &mut *right } else { &mut *left };
            let gained = std::mem::take(&mut side.pairs[neighbour as usize]);
            let (old, new) = if is_right {
                ((b, neighbour), (made, neighbour))
            } else {
                ((neighbour, a), (neighbour, made))
            };
            lost.push((old, gained.count));
            self.gain(new, gained);
        }
        for (key, count) in lost {
            self.lose(key, count);
        }
        left.touched.clear();
        right.touched.clear();
        if let Some(at) = self.index.get((a, b)) {
            self.pairs[at as usize].count = 0;
        }
    }
}
