//! Learns BPE merges from pieces of bytes: again and again the most frequent pair of neighbours becomes a token.
//!
//! The merges are those of `BpeTrainer` in the `tokenizers` package for the same initial alphabet and pieces: counts
//! include overlaps (three equal symbols are two pairs), ties go to the pair with the lower ids, and every change of a
//! count is made as there. One case differs on purpose: a pair whose text is a token already makes no second rule.
//!
//! Each pair keeps the places where it stands, so a merge visits those alone, and training takes time and memory in
//! proportion to the text.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

/// Where no symbol starts or ends: between pieces and inside tokens.
const NOTHING: u32 = u32::MAX;

/// Pieces of text as tokens of single bytes, each distinct piece once.
#[derive(Debug, Default)]
pub(super) struct Corpus {
    /// Piece after piece, with [`NOTHING`] before, between and after.
    symbols: Vec<u32>,
    /// Up to which place (not included) pieces have this weight; ends ascend.
    weights: Vec<(u32, i64)>,
}

impl Corpus {
    /// Makes the corpus of the pieces of `text` that start at `starts`; `token` gives each byte's id.
    ///
    /// Returns `None` where there are more than 4 billion bytes.
    pub(super) fn new(text: &[u8], starts: &[usize], token: impl Fn(u8) -> u32) -> Option<Self> {
        u32::try_from(text.len() + starts.len() + 1).ok()?;
        let ends = starts.iter().skip(1).copied().chain([text.len()]);
        let mut pieces: Vec<&[u8]> = starts.iter().zip(ends).map(|(&start, end)| &text[start..end]).collect();
        pieces.retain(|piece| piece.len() > 1);
        pieces.sort_unstable();
        let mut counted: Vec<(i64, &[u8])> = Vec::new();
        for piece in pieces {
            match counted.last_mut() {
                Some((count, last)) if *last == piece => *count += 1,
                _ => counted.push((1, piece)),
            }
        }
        // Equal weights side by side, so that a place's weight is found by walking along.
        counted.sort_by_key(|&(count, _)| count);
        let mut this = Self { symbols: vec![NOTHING], weights: Vec::new() };
        for (count, piece) in counted {
            this.symbols.extend(piece.iter().map(|&byte| token(byte)));
            this.symbols.push(NOTHING);
            let end = this.symbols.len() as u32;
            match this.weights.last_mut() {
                Some((last, weight)) if *weight == count => *last = end,
                _ => this.weights.push((end, count)),
            }
        }
        Some(this)
    }
}

/// Two neighbours.
#[derive(Debug)]
struct Pair {
    left: u32,
    right: u32,
    count: i64,
    /// Where the left one starts. Places where the pair stands no more are passed over when it merges.
    places: Vec<u32>,
}

/// A pair in the queue: the highest count first, of equal counts the lowest ids.
type Queued = (i64, Reverse<(u32, u32)>, u32);

/// What training works on.
struct Trainer {
    /// A symbol stands at the place where it starts and at the one where it ends; what is between is [`NOTHING`].
    symbols: Vec<u32>,
    weights: Vec<(u32, i64)>,
    /// By token: its length in bytes.
    lengths: Vec<u32>,
    pairs: Vec<Pair>,
    /// The index of each pair. Never iterated over, so that results don't depend on hashes.
    index: HashMap<u64, u32, BuildHasherDefault<Multiply>>,
    queue: BinaryHeap<Queued>,
}

/// What ends training.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// How many tokens there may be, those of single bytes included.
    pub(super) vocab_size: usize,
    /// Pairs that stand less often make no token.
    pub(super) min_frequency: i64,
    /// Longer tokens are not made.
    pub(super) max_bytes: u32,
}

/// The pairs that become tokens, in order; the first has the id `alphabet.len()`. `alphabet` holds the byte of each
/// initial token.
pub(super) fn train(corpus: Corpus, alphabet: &[u8], limits: Limits) -> Vec<(u32, u32)> {
    let mut texts: Vec<Box<[u8]>> = alphabet.iter().map(|&byte| [byte].into()).collect();
    let mut known: HashSet<Box<[u8]>> = texts.iter().cloned().collect();
    let mut trainer = Trainer::new(corpus, texts.len());
    let mut merges = Vec::new();
    while texts.len() < limits.vocab_size
        && let Some((count, Reverse((left, right)), index)) = trainer.queue.pop()
    {
        let now = trainer.pairs[index as usize].count;
        if now != count {
            if now > 0 {
                trainer.queue.push((now, Reverse((left, right)), index));
            }
            continue;
        }
        if count < limits.min_frequency {
            break;
        }
        let text: Box<[u8]> = [&*texts[left as usize], &*texts[right as usize]].concat().into();
        if known.insert(text.clone()) {
            trainer.merge(index, limits.max_bytes);
            texts.push(text);
            merges.push((left, right));
        }
    }
    merges
}

impl Trainer {
    fn new(corpus: Corpus, alphabet: usize) -> Self {
        let Corpus { symbols, weights } = corpus;
        let mut this = Self {
            symbols,
            weights,
            lengths: vec![1; alphabet],
            pairs: Vec::new(),
            index: HashMap::default(),
            queue: BinaryHeap::new(),
        };
        let mut group = 0;
        for place in 1..this.symbols.len() {
            let (left, right) = (this.symbols[place - 1], this.symbols[place]);
            if left != NOTHING && right != NOTHING {
                let weight = weight_at(&this.weights, &mut group, place as u32);
                this.add(left, right, weight, place as u32 - 1);
            }
        }
        this.queue = (0..)
            .zip(&this.pairs)
            .map(|(i, pair)| (pair.count, Reverse((pair.left, pair.right)), i))
            .collect();
        this
    }

    fn pair(&mut self, left: u32, right: u32) -> &mut Pair {
        let next = self.pairs.len() as u32;
        let index = *self.index.entry(u64::from(left) << 32 | u64::from(right)).or_insert(next);
        if index == next {
            self.pairs.push(Pair { left, right, count: 0, places: Vec::new() });
        }
        &mut self.pairs[index as usize]
    }

    fn add(&mut self, left: u32, right: u32, weight: i64, place: u32) {
        let pair = self.pair(left, right);
        pair.count += weight;
        pair.places.push(place);
    }

    /// Makes the pair a token, wherever it stands.
    fn merge(&mut self, index: u32, max_bytes: u32) {
        let made = self.lengths.len() as u32;
        let first_new = self.pairs.len();
        let Pair { left, right, .. } = self.pairs[index as usize];
        let places = std::mem::take(&mut self.pairs[index as usize].places);
        let (left_length, right_length) = (self.lengths[left as usize], self.lengths[right as usize]);
        let length = left_length + right_length;
        self.lengths.push(length);
        let mut group = 0;
        for &start in &places {
            // A symbol's last place holds it too, but no place was ever noted for it there while it was this symbol.
            let middle = start + left_length;
            if self.symbols[start as usize] != left || self.symbols[middle as usize] != right {
                continue;
            }
            let end = start + length;
            let weight = weight_at(&self.weights, &mut group, start);
            let (before, after) = (self.symbols[start as usize - 1], self.symbols[end as usize]);
            if before != NOTHING {
                self.pair(before, left).count -= weight;
                let before_length = self.lengths[before as usize];
                if before_length + length < max_bytes {
                    self.add(before, made, weight, start - before_length);
                }
            }
            if after != NOTHING {
                self.pair(right, after).count -= weight;
                if self.lengths[after as usize] + length < max_bytes {
                    self.add(made, after, weight, start);
                }
            }
            for place in [start, middle - 1, middle, end - 1] {
                self.symbols[place as usize] = NOTHING;
            }
            self.symbols[start as usize] = made;
            self.symbols[end as usize - 1] = made;
        }
        for (index, pair) in (first_new as u32..).zip(&self.pairs[first_new..]) {
            if pair.count > 0 {
                self.queue.push((pair.count, Reverse((pair.left, pair.right)), index));
            }
        }
    }
}

/// The weight of the piece at `place`. `group` is where to look first; places ask in ascending order.
fn weight_at(weights: &[(u32, i64)], group: &mut usize, place: u32) -> i64 {
    while weights[*group].0 <= place {
        *group += 1;
    }
    weights[*group].1
}

/// Hashes a pair of ids by one multiplication: the ids are small and the keys nobody's choice.
#[derive(Default)]
struct Multiply(u64);

impl Hasher for Multiply {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(self.0 ^ u64::from(byte));
        }
    }

    fn write_u64(&mut self, key: u64) {
        let product = u128::from(key) * 0x9e37_79b9_7f4a_7c15_u128;
        self.0 = (product >> 64) as u64 ^ product as u64;
    }
}
