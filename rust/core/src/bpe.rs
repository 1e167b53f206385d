//! The merge engine of byte-pair encoding: among all neighbours that merge, the pair of the lowest rank, and among
//! equals the leftmost, merges first. It knows nothing of text: byte-level and SentencePiece vocabularies both run on it,
//! the one with a table of pairs ([`MergeTable`]), the other with a look-up of its own. [`LongestMatch`] gets to the
//! tokens of the former sooner.

mod borders;
mod longest;
mod pair_map;
mod pairs;
mod trie;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::{Error, Result};

pub(crate) use longest::{LongestMatch, Positions};
pub(crate) use pair_map::PairMap;

/// The link of a symbol that has no neighbour.
const NONE: u32 = u32::MAX;
/// Up to this many symbols, looking through all of them beats keeping a heap.
const FEW: usize = 48;

/// What two neighbours make.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Merge<S> {
    /// Lower merges first.
    pub(crate) rank: u32,
    /// The symbol made.
    pub(crate) symbol: S,
}

/// One symbol's place in the chain of those that are left.
#[derive(Debug, Clone, Copy)]
struct Link<S> {
    /// What it makes with the symbol to its right.
    merge: Option<Merge<S>>,
    left: u32,
    right: u32,
}

/// Room to work in. Keep it between calls, and nothing is allocated once it has grown.
#[derive(Debug)]
pub(crate) struct MergeScratch<S> {
    links: Vec<Link<S>>,
    heap: BinaryHeap<Reverse<u64>>,
}

impl<S> Default for MergeScratch<S> {
    fn default() -> Self {
        Self { links: Vec::new(), heap: BinaryHeap::new() }
    }
}

/// Merges `symbols` until nothing merges, in time n log n for n symbols.
///
/// `look_up(left, right)` says what two neighbours make. It is a function of the two alone.
pub(crate) fn merge<S: Copy>(
    symbols: &mut Vec<S>,
    scratch: &mut MergeScratch<S>,
    look_up: impl Fn(S, S) -> Option<Merge<S>>,
) {
    if symbols.len() <= FEW {
        merge_few(symbols, &mut scratch.links, look_up);
    } else {
        merge_many(symbols, scratch, look_up);
    }
}

fn merge_few<S: Copy>(
    symbols: &mut Vec<S>,
    links: &mut Vec<Link<S>>,
    look_up: impl Fn(S, S) -> Option<Merge<S>>,
) {
    let pair = |symbols: &[S], at: usize| look_up(symbols[at], *symbols.get(at + 1)?);
    links.clear();
    links.extend((0..symbols.len()).map(|at| Link { merge: pair(symbols, at), left: NONE, right: NONE }));
    loop {
        let mut best: Option<(usize, Merge<S>)> = None;
        for (at, link) in links.iter().enumerate() {
            if let Some(merge) = link.merge
                && best.is_none_or(|(_, least)| merge.rank < least.rank)
            {
                best = Some((at, merge));
            }
        }
        let Some((at, merge)) = best else { return };
        symbols[at] = merge.symbol;
        symbols.remove(at + 1);
        links.remove(at + 1);
        links[at].merge = pair(symbols, at);
        if at > 0 {
            links[at - 1].merge = pair(symbols, at - 1);
        }
    }
}

fn merge_many<S: Copy>(
    symbols: &mut Vec<S>,
    scratch: &mut MergeScratch<S>,
    look_up: impl Fn(S, S) -> Option<Merge<S>>,
) {
    let MergeScratch { links, heap } = scratch;
    let count = symbols.len();
    links.clear();
    heap.clear();
    links.extend((0..count).map(|at| Link {
        merge: None,
        left: if at == 0 { NONE } else { at as u32 - 1 },
        right: if at + 1 == count { NONE } else { at as u32 + 1 },
    }));
    // Finds what a symbol makes with its right neighbour now. A heap entry counts as long as its rank is still that
    // pair's; an entry left behind by an earlier pair at the same place and rank asks for the very same merge.
    let renew = |symbols: &[S], links: &mut [Link<S>], heap: &mut BinaryHeap<Reverse<u64>>, at: u32| {
        let link = &mut links[at as usize];
        link.merge = symbols.get(link.right as usize).and_then(|&right| look_up(symbols[at as usize], right));
        if let Some(merge) = &link.merge {
            heap.push(Reverse(u64::from(merge.rank) << 32 | u64::from(at)));
        }
    };
    for at in 0..count as u32 {
        renew(symbols, links, heap, at);
    }
    while let Some(Reverse(entry)) = heap.pop() {
        let at = entry as u32;
        let Link { merge: Some(merge), left, right } = links[at as usize] else { continue };
        if u64::from(merge.rank) != entry >> 32 {
            continue;
        }
        let gone = &mut links[right as usize];
        gone.merge = None;
        let next = gone.right;
        symbols[at as usize] = merge.symbol;
        links[at as usize].right = next;
        if let Some(next) = links.get_mut(next as usize) {
            next.left = at;
        }
        renew(symbols, links, heap, at);
        if left != NONE {
            renew(symbols, links, heap, left);
        }
    }
    let (mut kept, mut at) = (0, 0);
    while let Some(link) = links.get(at as usize) {
        symbols[kept] = symbols[at as usize];
        kept += 1;
        at = link.right;
    }
    symbols.truncate(kept);
}

/// A rule of a vocabulary: two tokens side by side become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) left: u32,
    pub(crate) right: u32,
    pub(crate) made: u32,
}

/// The rules of a vocabulary, in order and by pair.
#[derive(Debug)]
pub(crate) struct MergeTable {
    rules: Box<[Rule]>,
    merges: PairMap<Merge<u32>>,
}

impl MergeTable {
    /// Makes the table of a vocabulary of `tokens` ids from its rules, those that merge first first.
    ///
    /// # Errors
    /// [`Error::Format`] names a rule whose tokens are outside the vocabulary, or whose pair came before.
    pub(crate) fn new(tokens: usize, rules: &[Rule]) -> Result<Self> {
        let mut merges = PairMap::new(rules.len());
        for (rule, rank) in rules.iter().zip(0..) {
            let fail =
                |why: &str| Error::Format { what: "merges", why: format!("merge {rank} ({rule:?}) {why}") };
            if [rule.left, rule.right, rule.made].iter().any(|&id| id as usize >= tokens) {
                return Err(fail("is about a token outside the vocabulary"));
            }
            let merge = Merge { rank, symbol: rule.made };
            if merges.get_or_insert((rule.left, rule.right), merge) != merge {
                return Err(fail("is about a pair that came before"));
            }
        }
        Ok(Self { rules: rules.into(), merges })
    }

    /// The rules, those that merge first first.
    pub(crate) fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// What two neighbours make.
    #[inline]
    pub(crate) fn get(&self, left: u32, right: u32) -> Option<Merge<u32>> {
        self.merges.get((left, right))
    }

    /// Merges `symbols` until nothing merges.
    pub(crate) fn merge(&self, symbols: &mut Vec<u32>, scratch: &mut MergeScratch<u32>) {
        merge(symbols, scratch, |left, right| self.get(left, right));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition: look through everything for every merge.
    fn by_definition(table: &MergeTable, symbols: &mut Vec<u32>) {
        while let Some((_, at, made)) = (1..symbols.len())
            .filter_map(|i| table.get(symbols[i - 1], symbols[i]).map(|m| (m.rank, i - 1, m.symbol)))
            .min()
        {
            symbols[at] = made;
            symbols.remove(at + 1);
        }
    }

    /// Any rules over twelve tokens, cycles and all.
    fn tables() -> impl Strategy<Value = MergeTable> {
        prop::collection::vec((0..12u32, 0..12u32, 0..12u32), 0..40).prop_map(|rules| {
            let mut seen = std::collections::BTreeSet::new();
            let rules: Vec<Rule> = rules
                .into_iter()
                .filter(|&(left, right, _)| seen.insert((left, right)))
                .map(|(left, right, made)| Rule { left, right, made })
                .collect();
            MergeTable::new(12, &rules).unwrap()
        })
    }

    proptest! {
        #[test]
        fn heap_and_scan_merge_as_defined(
            table in tables(),
            symbols in prop::collection::vec(0..12u32, 0..120),
        ) {
            let mut expected = symbols.clone();
            by_definition(&table, &mut expected);
            let look_up = |left, right| table.get(left, right);
            let mut scratch = MergeScratch::default();
            let mut few = symbols.clone();
            merge_few(&mut few, &mut scratch.links, look_up);
            prop_assert_eq!(&few, &expected);
            let mut many = symbols;
            merge_many(&mut many, &mut scratch, look_up);
            prop_assert_eq!(&many, &expected);
        }
    }

    #[test]
    fn a_hundred_thousand_equal_symbols_take_a_moment() {
        // 0 0 -> 1, 1 1 -> 2, ... and the odd ones, so that everything merges again and again.
        let rules: Vec<Rule> = (0..20).map(|i| Rule { left: i, right: i, made: i + 1 }).collect();
        let table = MergeTable::new(21, &rules).unwrap();
        let mut symbols = vec![0; 100_000];
        table.merge(&mut symbols, &mut MergeScratch::default());
        let spelled: usize = symbols.iter().map(|&token| 1 << token).sum();
        assert_eq!(spelled, 100_000);
        assert_eq!(symbols.len(), 100_000_usize.count_ones() as usize);
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let rule = Rule { left: 0, right: 1, made: 2 };
        assert!(MergeTable::new(2, &[rule]).is_err());
        assert!(MergeTable::new(3, &[rule, Rule { made: 1, ..rule }]).is_err());
        assert!(MergeTable::new(0, &[]).unwrap().get(0, 0).is_none());
    }
}
