//! Merged text in one pass: always the longest token that fits behind the last one, and one step back where none does.
//! There is exactly one sequence of tokens in which all neighbours fit, so what is found first is what merging gives.
//! (The idea is published with GitHub's `bpe` crate.)

use super::MergeTable;
use super::borders::{Borders, Kind};
use super::pairs::Pairs;
use super::trie::{NONE, PADDING, Trie};

/// More bytes in all tokens together than this, and the tables aren't worth their memory.
const MOST_BYTES: usize = 1 << 24;

/// The tables of one vocabulary.
#[derive(Debug)]
pub(crate) struct LongestMatch {
    trie: Trie,
    tokens: Box<[Token]>,
    pairs: Pairs,
    /// What `pairs` says; absent for large vocabularies.
    borders: Option<Borders>,
}

#[derive(Debug, Clone, Copy)]
struct Token {
    len: u32,
    /// The longest other token that it begins with.
    shorter: u32,
    kind: Kind,
}

/// Positions of a text from which there is no way on, one bit each.
#[derive(Debug, Default)]
pub(crate) struct Positions(Vec<u64>);

impl Positions {
    /// None of a text's `len` bytes, nor its end.
    pub(crate) fn clear(&mut self, len: usize) {
        self.0.clear();
        self.0.resize(len / 64 + 1, 0);
    }

    fn insert(&mut self, at: usize) {
        self.0[at / 64] |= 1 << (at % 64);
    }

    #[inline]
    fn contains(&self, at: usize) -> bool {
        self.0[at / 64] >> (at % 64) & 1 == 1
    }
}

impl LongestMatch {
    /// Bytes that must stand behind a text that is encoded, whatever they are.
    pub(crate) const PADDING: usize = PADDING;

    /// Makes the tables from what each token spells (`None` where there is none) and the token of each byte, or returns
    /// `None` where the vocabulary is one that only merging gets right, or that is too large.
    pub(crate) fn new(
        spelled: &[Option<Box<[u8]>>],
        bytes: &[Option<u32>; 256],
        table: &MergeTable,
    ) -> Option<Self> {
        let total: usize = spelled.iter().flatten().map(|bytes| bytes.len()).sum();
        if total > MOST_BYTES {
            return None;
        }
        let bytes: Vec<u32> = bytes.iter().flatten().copied().collect();
        let pairs = Pairs::new(spelled.len(), &bytes, table)?;
        let listed: Vec<(&[u8], u32)> = spelled
            .iter()
            .zip(0..)
            .filter(|&(_, id)| pairs.is_reachable(id))
            .filter_map(|(bytes, id)| Some((bytes.as_deref()?, id)))
            .collect();
        let (trie, shorter) = Trie::new(&listed);
        let mut tokens = vec![Token { len: 0, shorter: NONE, kind: Kind::default() }; spelled.len()];
        for (&(bytes, id), shorter) in listed.iter().zip(shorter) {
            (tokens[id as usize].len, tokens[id as usize].shorter) = (bytes.len() as u32, shorter);
        }
        let reachable = (0..spelled.len() as u32).filter(|&id| pairs.is_reachable(id)).collect();
        let borders = Borders::new(reachable, &pairs, table).map(|(borders, kinds)| {
            kinds.into_iter().for_each(|(id, kind)| tokens[id as usize].kind = kind);
            borders
        });
        Some(Self { trie, tokens: tokens.into(), pairs, borders })
    }

    /// Whether two tokens may stand side by side.
    #[inline]
    fn fit(&self, table: &MergeTable, left: u32, right: u32) -> bool {
        match &self.borders {
            Some(borders) => borders.hold(self.tokens[left as usize].kind, self.tokens[right as usize].kind),
            None => self.pairs.fit(table, left, right),
        }
    }

    /// Appends the tokens of `text[start..end]`, or returns false and appends nothing where a byte has no token.
    /// [`Self::PADDING`] bytes must follow the text; `dead` must have been cleared for it.
    pub(crate) fn encode(
        &self,
        table: &MergeTable,
        text: &[u8],
        (start, end): (usize, usize),
        dead: &mut Positions,
        out: &mut Vec<u32>,
    ) -> bool {
        let first = out.len();
        let (mut at, mut last) = (start, NONE);
        let mut token = NONE;
        while at < end {
            if token == NONE {
                token = self.trie.longest(text, at, end);
            }
            while let Some(candidate) = self.tokens.get(token as usize) {
                let next = at + candidate.len as usize;
                if !dead.contains(next) && (last == NONE || self.fit(table, last, token)) {
                    break;
                }
                token = candidate.shorter;
            }
            if token != NONE {
                out.push(token);
                at += self.tokens[token as usize].len as usize;
                last = token;
                token = NONE;
                continue;
            }
            // Nothing fits here, so the token that ends here was wrong: a shorter one in its place.
            dead.insert(at);
            if out.len() == first {
                return false;
            }
            out.pop();
            token = last;
            at -= self.tokens[token as usize].len as usize;
            last = if out.len() > first { out[out.len() - 1] } else { NONE };
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::bpe::{MergeScratch, Rule};

    const BYTES: u32 = 4;

    /// A vocabulary of four bytes and of what pairs of its tokens make; pairs are taken by their index among the tokens
    /// there are, so that all texts come up, some by several rules. The rules are in the order of `order`.
    fn vocabulary(pairs: &[(usize, usize)], order: &[usize]) -> (Vec<Option<Box<[u8]>>>, MergeTable) {
        let mut texts: Vec<Vec<u8>> = (0..BYTES as u8).map(|byte| vec![byte]).collect();
        let mut ids: BTreeMap<Vec<u8>, u32> = texts.iter().cloned().zip(0..).collect();
        let mut rules: Vec<Rule> = Vec::new();
        for &(left, right) in pairs {
            let (left, right) = (left % texts.len(), right % texts.len());
            let text = [&*texts[left], &*texts[right]].concat();
            let (left, right) = (left as u32, right as u32);
            if text.len() > 40 || rules.iter().any(|rule| (rule.left, rule.right) == (left, right)) {
                continue;
            }
            let made = *ids.entry(text.clone()).or_insert(texts.len() as u32);
            if made as usize == texts.len() {
                texts.push(text);
            }
            rules.push(Rule { left, right, made });
        }
        for (at, &other) in order.iter().enumerate().take(rules.len()) {
            let other = other % rules.len();
            rules.swap(at, other);
        }
        let table = MergeTable::new(texts.len(), &rules).unwrap();
        (texts.into_iter().map(|text| Some(text.into())).collect(), table)
    }

    fn bytes() -> [Option<u32>; 256] {
        std::array::from_fn(|byte| (byte < BYTES as usize).then_some(byte as u32))
    }

    fn encode(tables: &LongestMatch, table: &MergeTable, text: &[u8]) -> Option<Vec<u32>> {
        let (mut dead, mut out) = (Positions::default(), vec![99]);
        dead.clear(text.len());
        let padded = [text, &[0; PADDING]].concat();
        let found = tables.encode(table, &padded, (0, text.len()), &mut dead, &mut out);
        assert_eq!(out.remove(0), 99);
        found.then_some(out)
    }

    fn merged(table: &MergeTable, text: &[u8]) -> Vec<u32> {
        let mut symbols = text.iter().map(|&byte| byte.into()).collect();
        table.merge(&mut symbols, &mut MergeScratch::default());
        symbols
    }

    /// Whether the table says of all pairs, and not only of those that some text holds, what walking back in time says.
    fn knows_every_pair(tables: &LongestMatch, table: &MergeTable) -> bool {
        let ids = || (0..tables.tokens.len() as u32).filter(|&id| tables.pairs.is_reachable(id));
        ids().all(|left| {
            ids().all(|right| tables.fit(table, left, right) == tables.pairs.fit(table, left, right))
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        #[test]
        fn the_longest_match_gives_what_merging_gives(
            pairs in prop::collection::vec((0..40_usize, 0..40_usize), 0..40),
            order in prop_oneof![Just(Vec::new()), prop::collection::vec(0..40_usize, 0..4)],
            texts in prop::collection::vec(prop::collection::vec(0..BYTES as u8, 0..70), 1..8),
            runs in prop::collection::vec((0..BYTES as u8, 1..60_usize), 1..6),
        ) {
            let (spelled, table) = vocabulary(&pairs, &order);
            let Some(tables) = LongestMatch::new(&spelled, &bytes(), &table) else { return Ok(()) };
            let runs = runs.into_iter().flat_map(|(byte, count)| std::iter::repeat_n(byte, count)).collect();
            for text in texts.into_iter().chain([runs]) {
                prop_assert_eq!(encode(&tables, &table, &text), Some(merged(&table, &text)));
            }
            prop_assert!(knows_every_pair(&tables, &table));
        }
    }

    #[test]
    fn a_vocabulary_of_hundreds_knows_every_pair() {
        // Tokens of up to 40 bytes, out of pairs of those before them; some such vocabularies have no tables.
        let checked = (1..40_usize).filter(|seed| {
            let pairs: Vec<_> =
                (0..900).map(|n| (n * n * seed % 401 / 3, n * (n + seed) % 307 / 2)).collect();
            let (spelled, table) = vocabulary(&pairs, &[]);
            let Some(tables) = LongestMatch::new(&spelled, &bytes(), &table) else { return false };
            assert!(tables.borders.is_some() && knows_every_pair(&tables, &table));
            spelled.len() > 150
        });
        assert!(checked.take(3).count() == 3);
    }

    #[test]
    fn rules_in_their_own_order_have_tables_and_others_may_not() {
        let (spelled, table) = vocabulary(&[(0, 1), (4, 2), (0, 0)], &[]);
        assert!(LongestMatch::new(&spelled, &bytes(), &table).is_some());
        // (ab)c comes before ab, and bc, which takes the b away, comes between.
        let (spelled, table) = vocabulary(&[(0, 1), (4, 2)], &[1]);
        assert!(LongestMatch::new(&spelled, &bytes(), &table).is_none());
    }

    #[test]
    fn a_byte_without_a_token_is_not_passed_over() {
        let (spelled, table) = vocabulary(&[(0, 1)], &[]);
        let tables = LongestMatch::new(&spelled, &bytes(), &table).unwrap();
        assert_eq!(encode(&tables, &table, &[0, 1, 9, 0]), None);
        assert_eq!(encode(&tables, &table, &[]), Some(vec![]));
    }
}
