//! Which two tokens may stand side by side, as a table. Many tokens are alike to all that may come behind them, or before
//! them: with a row or a column for each kind, the table of 2048 tokens shrinks from 512 KiB to some 60, which stay in the
//! fastest memory, and nearly every token that is tried asks it.

use std::collections::HashMap;

use super::MergeTable;
use super::pairs::Pairs;

/// Larger vocabularies have no table: it takes time that grows with the square (10 to 20 ms for 2048 tokens).
const LARGEST: usize = 4096;

/// A token's row and column.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Kind {
    left: u32,
    right: u32,
}

/// A bit for each kind on the left of a border and each on the right.
#[derive(Debug)]
pub(crate) struct Borders {
    columns: usize,
    bits: Box<[u64]>,
}

impl Borders {
    /// Makes the table, and the kind of each of the `tokens`, which are all that a merged text can hold. `None` where
    /// there are too many.
    pub(crate) fn new(
        mut tokens: Vec<u32>,
        pairs: &Pairs,
        table: &MergeTable,
    ) -> Option<(Self, Vec<(u32, Kind)>)> {
        if tokens.len() > LARGEST {
            return None;
        }
        tokens.sort_by_key(|&token| pairs.origin(token).time);
        let crossed = crossed(&tokens, pairs, table);
        let (lefts, rows) = kinds(&crossed);
        let columns: Vec<Vec<u64>> = (0..tokens.len())
            .map(|at| {
                let mut column = vec![0; rows.len().div_ceil(64)];
                (0..).zip(&rows).filter(|(_, row)| has(row, at)).for_each(|(row, _)| set(&mut column, row));
                column
            })
            .collect();
        let (rights, columns) = kinds(&columns);
        let mut bits = vec![0; (rows.len() * columns.len()).div_ceil(64)];
        for (at, column) in columns.iter().enumerate() {
            for row in (0..rows.len()).filter(|&row| !has(column, row)) {
                set(&mut bits, row * columns.len() + at);
            }
        }
        let kinds = lefts.into_iter().zip(rights).map(|(left, right)| Kind { left, right });
        Some((Self { columns: columns.len(), bits: bits.into() }, tokens.into_iter().zip(kinds).collect()))
    }

    /// Whether tokens of these kinds may stand side by side.
    #[inline]
    pub(crate) fn hold(&self, left: Kind, right: Kind) -> bool {
        has(&self.bits, left.left as usize * self.columns + right.right as usize)
    }
}

#[inline]
fn has(bits: &[u64], at: usize) -> bool {
    bits[at / 64] >> (at % 64) & 1 == 1
}

fn set(bits: &mut [u64], at: usize) {
    bits[at / 64] |= 1 << (at % 64);
}

/// Numbers different lines in the order in which they come up first: the number of each line, and the lines by number.
fn kinds(lines: &[Vec<u64>]) -> (Vec<u32>, Vec<&[u64]>) {
    let (mut seen, mut different) = (HashMap::new(), Vec::new());
    let numbers = lines.iter().map(|line| {
        let line = line.as_slice();
        *seen.entry(line).or_insert_with(|| {
            different.push(line);
            different.len() as u32 - 1
        })
    });
    (numbers.collect(), different)
}

/// For each of `tokens` as the left one, a bit for each as the right one: the opposite of what [`Pairs::fit`] says.
///
/// That walks back in time from pair to pair, and from a pair it goes the same way wherever it came from. So in the
/// order of time, in which `tokens` are, whether a merge crosses the border on the way back from a pair is known from
/// the next pair.
fn crossed(tokens: &[u32], pairs: &Pairs, table: &MergeTable) -> Vec<Vec<u64>> {
    let count = tokens.len();
    let place: HashMap<u32, usize> = tokens.iter().copied().zip(0..).collect();
    // By place: how it comes about, and what is to its right in a merge, with that merge's rank.
    let origins: Vec<_> = tokens.iter().map(|&token| pairs.origin(token)).collect();
    let mut merges: Vec<Vec<(usize, u32)>> = vec![Vec::new(); count];
    for (rule, rank) in table.rules().iter().zip(0..) {
        if let (Some(&left), Some(&right)) = (place.get(&rule.left), place.get(&rule.right)) {
            merges[left].push((right, rank));
        }
    }

    let mut crossed: Vec<Vec<u64>> = Vec::with_capacity(count);
    let bytes = origins.partition_point(|origin| origin.time == 0);
    let lefts: Vec<usize> = origins[bytes..].iter().map(|origin| place[&origin.left]).collect();
    let mut ranks = vec![u32::MAX; count];
    for left in 0..count {
        let time = origins[left].time;
        let later = origins.partition_point(|origin| origin.time < time);
        let mut row = vec![0_u64; count.div_ceil(64)];
        if time > 0 {
            // Before what is older, the left token goes back to its right side first.
            let side = place[&origins[left].right];
            row[..=later / 64].copy_from_slice(&crossed[side][..=later / 64]);
            row[later / 64] &= (1 << (later % 64)) - 1;
            let crossing = |&&(right, rank): &&(usize, u32)| right < later && rank + 1 < time;
            merges[side].iter().filter(crossing).for_each(|&(right, _)| set(&mut row, right));
        }
        merges[left].iter().for_each(|&(right, rank)| ranks[right] = rank);
        // Behind what is newer, or itself, the right token goes back to its left side first.
        for right in later.max(bytes)..count {
            let side = lefts[right - bytes];
            if ranks[side] < origins[right].time || has(&row, side) {
                set(&mut row, right);
            }
        }
        merges[left].iter().for_each(|&(right, _)| ranks[right] = u32::MAX);
        crossed.push(row);
    }

    // At last the pairs that merge themselves.
    for (row, merges) in crossed.iter_mut().zip(&merges) {
        merges.iter().for_each(|&(right, _)| set(row, right));
    }
    crossed
}
