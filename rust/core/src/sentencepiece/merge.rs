//! The merges of SentencePiece's BPE over one stretch of text: the pair with the best score first, the leftmost among
//! equals, where any two neighbours may merge whose texts together are a piece.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The rank of a pair that does not merge, and the link of a symbol that has no neighbour.
const NONE: u32 = u32::MAX;
/// Up to this many symbols, looking through all of them beats keeping a heap.
const FEW: usize = 48;

/// A run of text that is one symbol at present.
#[derive(Debug, Clone, Copy)]
pub(super) struct Symbol {
    /// Where its text starts; it ends where the next symbol starts.
    pub(super) start: u32,
    /// Its piece, once it is known to be one.
    pub(super) piece: Option<u32>,
    /// A user-defined piece, which merges with nothing.
    pub(super) frozen: bool,
    /// What it makes with the symbol to its right.
    merge: Option<Merge>,
    left: u32,
    right: u32,
}

/// What two neighbours make.
#[derive(Debug, Clone, Copy)]
pub(super) struct Merge {
    /// Lower merges first.
    pub(super) rank: u32,
    /// The piece made.
    pub(super) piece: u32,
}

impl Symbol {
    pub(super) fn new(start: u32, frozen: Option<u32>) -> Self {
        Self { start, piece: frozen, frozen: frozen.is_some(), merge: None, left: NONE, right: NONE }
    }
}

/// Merges `symbols`, whose text ends at `end`, until nothing merges; what is left stays at the front.
///
/// `look_up(start, end)` says what the text between two offsets makes. The heap is only room to work in.
pub(super) fn merge(
    symbols: &mut Vec<Symbol>,
    end: u32,
    heap: &mut BinaryHeap<Reverse<u64>>,
    look_up: impl Fn(u32, u32) -> Option<Merge>,
) {
    if symbols.len() <= FEW {
        merge_few(symbols, end, look_up);
    } else {
        merge_many(symbols, end, heap, look_up);
    }
}

fn merge_few(symbols: &mut Vec<Symbol>, end: u32, look_up: impl Fn(u32, u32) -> Option<Merge>) {
    let pair = |symbols: &[Symbol], at: usize| {
        let (left, right) = (symbols.get(at)?, symbols.get(at + 1)?);
        if left.frozen || right.frozen {
            return None;
        }
        look_up(left.start, symbols.get(at + 2).map_or(end, |next| next.start))
    };
    for at in 0..symbols.len() {
        symbols[at].merge = pair(symbols, at);
    }
    loop {
        let mut best: Option<(usize, Merge)> = None;
        for (at, symbol) in symbols.iter().enumerate() {
            if let Some(merge) = symbol.merge
                && best.is_none_or(|(_, least)| merge.rank < least.rank)
            {
                best = Some((at, merge));
            }
        }
        let Some((at, merge)) = best else { return };
        symbols[at].piece = Some(merge.piece);
        symbols.remove(at + 1);
        symbols[at].merge = pair(symbols, at);
        if at > 0 {
            symbols[at - 1].merge = pair(symbols, at - 1);
        }
    }
}

fn merge_many(
    symbols: &mut Vec<Symbol>,
    end: u32,
    heap: &mut BinaryHeap<Reverse<u64>>,
    look_up: impl Fn(u32, u32) -> Option<Merge>,
) {
    let count = symbols.len();
    for (at, symbol) in symbols.iter_mut().enumerate() {
        symbol.left = if at == 0 { NONE } else { at as u32 - 1 };
        symbol.right = if at + 1 == count { NONE } else { at as u32 + 1 };
    }
    // Finds what the symbol makes with its right neighbour now. A heap entry counts as long as its rank is still that
    // pair's; an entry left behind by an earlier pair at the same place and rank asks for the very same merge.
    let renew = |symbols: &mut [Symbol], heap: &mut BinaryHeap<Reverse<u64>>, at: u32| {
        let left = symbols[at as usize];
        symbols[at as usize].merge = symbols.get(left.right as usize).and_then(|right| {
            if left.frozen || right.frozen {
                return None;
            }
            look_up(left.start, symbols.get(right.right as usize).map_or(end, |next| next.start))
        });
        if let Some(merge) = symbols[at as usize].merge {
            heap.push(Reverse(u64::from(merge.rank) << 32 | u64::from(at)));
        }
    };
    heap.clear();
    for at in 0..count as u32 {
        renew(symbols, heap, at);
    }
    while let Some(Reverse(entry)) = heap.pop() {
        let at = entry as u32;
        let left = symbols[at as usize];
        let Some(merge) = left.merge else { continue };
        if u64::from(merge.rank) != entry >> 32 {
            continue;
        }
        let gone = &mut symbols[left.right as usize];
        gone.merge = None;
        let right = gone.right;
        symbols[at as usize].piece = Some(merge.piece);
        symbols[at as usize].right = right;
        if let Some(next) = symbols.get_mut(right as usize) {
            next.left = at;
        }
        renew(symbols, heap, at);
        if left.left != NONE {
            renew(symbols, heap, left.left);
        }
    }
    let (mut kept, mut at) = (0, 0);
    while let Some(&symbol) = symbols.get(at as usize) {
        symbols[kept] = symbol;
        kept += 1;
        at = symbol.right;
    }
    symbols.truncate(kept);
}
