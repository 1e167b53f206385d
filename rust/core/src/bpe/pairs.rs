//! Which two tokens may stand side by side in a merged text: those between which nothing merges on the way there.
//!
//! A text's tokens are the merged ones exactly when every two neighbours are what their joined texts merge to, because
//! merges inside a stretch that no merge crosses go as if the stretch were alone. For two neighbours it is enough to
//! look at the symbols on either side of the border, from the last moment back to single bytes: at no time may the two
//! be a pair that merges before one of them is used up on its own side.

use super::{MergeTable, Rule};

/// How a token comes about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Origin {
    /// The merge that makes it, from 1; 0 for a byte and for what nothing makes.
    pub(super) time: u32,
    pub(super) left: u32,
    pub(super) right: u32,
}

#[derive(Debug)]
pub(crate) struct Pairs {
    origins: Box<[Origin]>,
    /// Which tokens a merged text can hold.
    reachable: Box<[bool]>,
}

impl Pairs {
    /// Finds out how every token comes about, starting from `bytes`, or `None` where a rule comes before the rules that
    /// make its sides: there a merge may wait for a later one, and looking back in time isn't enough.
    pub(crate) fn new(tokens: usize, bytes: &[u32], table: &MergeTable) -> Option<Self> {
        let mut this =
            Self { origins: vec![Origin::default(); tokens].into(), reachable: vec![false; tokens].into() };
        for &id in bytes {
            this.reachable[id as usize] = true;
        }
        let sides = |this: &Self, rule: &Rule| {
            this.reachable[rule.left as usize] && this.reachable[rule.right as usize]
        };
        for (rule, time) in table.rules().iter().zip(1..) {
            // The text of a token merges in one way only, so of several rules for it one is ever used.
            let made = rule.made as usize;
            if sides(&this, rule)
                && !this.reachable[made]
                && this.border_holds(table, rule.left, rule.right, time)
            {
                this.reachable[made] = true;
                this.origins[made] = Origin { time, left: rule.left, right: rule.right };
            }
        }
        let in_order = table.rules().iter().zip(1..).all(|(rule, time)| {
            let earlier = |id: u32| this.origins[id as usize].time < time;
            !sides(&this, rule) || (earlier(rule.left) && earlier(rule.right))
        });
        in_order.then_some(this)
    }

    /// Whether a merged text can hold this token.
    pub(crate) fn is_reachable(&self, token: u32) -> bool {
        self.reachable[token as usize]
    }

    /// How a token that [is reachable](Self::is_reachable) comes about.
    pub(super) fn origin(&self, token: u32) -> Origin {
        self.origins[token as usize]
    }

    /// Whether two tokens may stand side by side.
    pub(crate) fn fit(&self, table: &MergeTable, left: u32, right: u32) -> bool {
        self.border_holds(table, left, right, u32::MAX)
    }

    /// Whether no merge crosses the border between two tokens before the time `limit`.
    fn border_holds(&self, table: &MergeTable, mut left: u32, mut right: u32, mut limit: u32) -> bool {
        loop {
            if table.get(left, right).is_some_and(|merge| merge.rank + 1 < limit) {
                return false;
            }
            // Back to before the later of the two was made. Of two made by the same rule the right one is the later.
            let (a, b) = (self.origins[left as usize], self.origins[right as usize]);
            if a.time > b.time {
                // At that time the left one was the right side of a merge to the left of the border: among equals it
                // comes first, so a crossing one must have an earlier rule.
                (limit, left) = (a.time, a.right);
            } else if b.time > 0 {
                // This merge is to the right of the border: among equals a crossing one comes first.
                (limit, right) = (b.time + 1, b.left);
            } else {
                return true;
            }
        }
    }
}
