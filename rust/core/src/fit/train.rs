//! The BPE trainer: the pair of tokens that comes up most often becomes a token, again and again. Counts are kept up to
//! date where a merge changes them, so that all merges together cost about as much as reading the data a few times.
//!
//! Among equals the pair of the smallest ids comes first, as in Hugging Face's trainer.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use crate::bpe::PairMap;
use crate::prompt::GoOn;
use crate::vocab::byte_ids;
use crate::{Error, Result};

/// Pairs that come up less often make no token.
const LEAST: u64 = 2;
/// Between words, and inside tokens.
const NO_TOKEN: u32 = u32::MAX;

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
    /// A token is at the place of its first byte and at that of its last one.
    places: Vec<u32>,
    /// Up to which place (not included) words are so often in the data; places ascend.
    weights: Vec<(u32, u32)>,
    /// By token: its length in bytes.
    lengths: Vec<u32>,
    pairs: Vec<Pair>,
    index: PairMap<u32>,
    heap: BinaryHeap<(u64, Reverse<(u32, u32)>)>,
}

/// Returns the merges, pairs of ids in the order in which they were found, for a vocabulary of up to `vocab_size` tokens
/// that begins with the bytes ([`byte_ids`]). A pair whose text is a token already makes that token.
///
/// The words must hold less than 2^32 bytes together.
///
/// # Errors
/// [`Error::Interrupted`] when `go_on`, asked before each merge, says so.
pub(super) fn train(words: &[&[u8]], vocab_size: usize, go_on: GoOn<'_>) -> Result<Vec<(u32, u32)>> {
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
        if !go_on() {
            return Err(Error::Interrupted);
        }
        merges.push((a, b));
        let text: Box<[u8]> = [&*texts[a as usize], &*texts[b as usize]].concat().into();
        let made = *ids.entry(text.clone()).or_insert(texts.len() as u32);
        if made as usize == texts.len() {
            trainer.lengths.push(text.len() as u32);
            texts.push(text);
        }
        trainer.merge((a, b), made, &mut left, &mut right);
    }
    Ok(merges)
}

impl Trainer {
    fn new(words: &[&[u8]]) -> Self {
        let mut counts: Vec<(&[u8], u32)> = Vec::new();
        let mut seen: HashMap<&[u8], usize> = HashMap::new();
        for &word in words {
            let at = *seen.entry(word).or_insert(counts.len());
            match counts.get_mut(at) {
                Some((_, count)) => *count += 1,
                None => counts.push((word, 1)),
            }
        }
        counts.sort_by_key(|&(_, count)| count);
        let total: usize = counts.iter().map(|(word, _)| word.len() + 1).sum();
        let (mut places, mut weights) = (Vec::with_capacity(total + 1), Vec::<(u32, u32)>::new());
        places.push(NO_TOKEN);
        let tokens = byte_ids();
        for (word, count) in counts {
            places.extend(word.iter().map(|&byte| tokens[usize::from(byte)]));
            places.push(NO_TOKEN);
            match weights.last_mut() {
                Some((end, weight)) if *weight == count => *end = places.len() as u32,
                _ => weights.push((places.len() as u32, count)),
            }
        }
        let mut initial: Vec<Pair> = (0..256 * 256).map(|_| Pair::default()).collect();
        let mut group = 0;
        for (at, two) in (0..).zip(places.windows(2)) {
            if two[0] != NO_TOKEN && two[1] != NO_TOKEN {
                let pair = &mut initial[(two[0] * 256 + two[1]) as usize];
                pair.count += u64::from(weight_at(&weights, &mut group, at));
                pair.places.push(at);
            }
        }
        let mut this = Self {
            places,
            weights,
            lengths: vec![1; 256],
            pairs: Vec::new(),
            index: PairMap::new(1024),
            heap: BinaryHeap::new(),
        };
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
        let (first, second) = (self.lengths[a as usize] as usize, self.lengths[b as usize] as usize);
        let mut group = 0;
        for start in places {
            let weight = weight_at(&self.weights, &mut group, start);
            let start = start as usize;
            let (middle, end) = (start + first, start + first + second);
            // A place noted for a pair may be inside a token by now, but never the last place of the pair's left side,
            // which would have to be a token that holds itself and more.
            if self.places[start] != a || self.places[middle] != b {
                continue;
            }
            let (previous, next) = (self.places[start - 1], self.places[end]);
            if previous != NO_TOKEN {
                left.add(previous, weight, start - self.lengths[previous as usize] as usize);
            }
            if next != NO_TOKEN {
                right.add(next, weight, start);
            }
            self.places[middle - 1] = NO_TOKEN;
            self.places[middle] = NO_TOKEN;
            self.places[start] = made;
            self.places[end - 1] = made;
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

/// How often the word at a place is in the data. `group` is where to look first; places ask in ascending order.
fn weight_at(weights: &[(u32, u32)], group: &mut usize, place: u32) -> u32 {
    while weights.get(*group).is_some_and(|&(end, _)| end <= place) {
        *group += 1;
    }
    weights.get(*group).map_or(0, |&(_, weight)| weight)
}
