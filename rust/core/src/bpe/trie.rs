//! All tokens of a vocabulary as one trie over bytes, to find the longest token that a text begins with.
//!
//! Each node's heaviest child, the one with most tokens under it, is the next number, and the bytes along such a path
//! lie side by side: a run of equal bytes, or any stretch that many tokens share, is followed eight bytes at a time.
//! The other children are in a double array.

/// No token, no node.
pub(crate) const NONE: u32 = u32::MAX;
/// Bytes that must stand behind a text that is looked through, whatever they are.
pub(crate) const PADDING: usize = 8;
/// Free places looked at for a node's children before they go to the end.
const PLACES_TRIED: usize = 64;

#[derive(Debug, Clone, Copy)]
struct Node {
    /// Where its other children are: child by byte `b` at slot `base + b`.
    base: u32,
    /// Steps from here along the heavy path.
    run: u32,
    /// The longest token that spells the beginning of the way here.
    best: u32,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    parent: u32,
    child: u32,
}

#[derive(Debug)]
pub(crate) struct Trie {
    nodes: Box<[Node]>,
    /// By node: the byte that leads to its heavy child, which is the next node.
    heavy: Box<[u8]>,
    slots: Box<[Slot]>,
}

impl Trie {
    /// Makes the trie of `tokens`, no two of them spelled alike, none empty. Also returns, by position in `tokens`, the
    /// longest other token that each begins with.
    pub(crate) fn new(tokens: &[(&[u8], u32)]) -> (Self, Vec<u32>) {
        let plan = Plan::new(tokens);
        let numbers = plan.numbers();
        let count = plan.nodes.len();
        let mut nodes = vec![Node { base: 0, run: 0, best: NONE }; count];
        // Eight more, so that a comparison of eight bytes never ends outside.
        let mut heavy = vec![0; count + PADDING];
        let mut slots = Slots::default();
        // Children have larger plan indices than their parents: downwards for tokens, upwards for runs.
        for (index, node) in plan.nodes.iter().enumerate() {
            let inherited =
                nodes.get(numbers[node.parent as usize] as usize).map_or(NONE, |parent| parent.best);
            nodes[numbers[index] as usize].best = if node.token == NONE { inherited } else { node.token };
        }
        for (index, node) in plan.nodes.iter().enumerate().rev() {
            if node.heavy != NONE {
                let (number, child) = (numbers[index] as usize, numbers[node.heavy as usize] as usize);
                heavy[number] = plan.nodes[node.heavy as usize].byte;
                nodes[number].run = nodes[child].run + 1;
            }
        }
        let mut light = Vec::new();
        for (index, node) in plan.nodes.iter().enumerate() {
            light.clear();
            light.extend(
                plan.children(node)
                    .filter(|&child| child != node.heavy)
                    .map(|child| (plan.nodes[child as usize].byte, numbers[child as usize])),
            );
            if !light.is_empty() {
                let number = numbers[index];
                nodes[number as usize].base = slots.place(number, &light);
            }
        }
        let shorter = plan
            .ends
            .iter()
            .map(|&end| nodes[numbers[plan.nodes[end as usize].parent as usize] as usize].best)
            .collect();
        (Self { nodes: nodes.into(), heavy: heavy.into(), slots: slots.finish() }, shorter)
    }

    /// The longest token that `text[at..end]` begins with, or [`NONE`]. [`PADDING`] bytes must follow `end`.
    #[inline]
    pub(crate) fn longest(&self, text: &[u8], mut at: usize, end: usize) -> u32 {
        let mut number = 0;
        loop {
            let mut node = self.nodes[number];
            if node.run > 0 {
                let most = (node.run as usize).min(end - at);
                let same = common(&text[at..], &self.heavy[number..], most);
                if same > 0 {
                    number += same;
                    at += same;
                    node = self.nodes[number];
                }
            }
            if at == end {
                return node.best;
            }
            let slot = self.slots[node.base as usize + usize::from(text[at])];
            if slot.parent as usize != number {
                return node.best;
            }
            number = slot.child as usize;
            at += 1;
        }
    }
}

/// How many of the first `most` bytes are the same. Both sides go on for eight bytes behind them.
#[inline]
fn common(a: &[u8], b: &[u8], most: usize) -> usize {
    let mut at = 0;
    while at < most {
        let (Some(x), Some(y)) = (eight(a, at), eight(b, at)) else { return at };
        let differ = x ^ y;
        if differ != 0 {
            return (at + differ.trailing_zeros() as usize / 8).min(most);
        }
        at += 8;
    }
    most
}

#[inline]
fn eight(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|&chunk| u64::from_le_bytes(chunk))
}

/// The trie while it grows.
struct Plan {
    nodes: Vec<Growing>,
    /// By position of the token: its node.
    ends: Vec<u32>,
}

struct Growing {
    parent: u32,
    byte: u8,
    token: u32,
    first_child: u32,
    next_sibling: u32,
    heavy: u32,
    /// Tokens from here on.
    weight: u32,
}

impl Plan {
    fn new(tokens: &[(&[u8], u32)]) -> Self {
        let node = |parent, byte, next_sibling| Growing {
            parent,
            byte,
            token: NONE,
            first_child: NONE,
            next_sibling,
            heavy: NONE,
            weight: 0,
        };
        let mut nodes = vec![node(NONE, 0, NONE)];
        nodes[0].parent = 0;
        let mut order: Vec<usize> = (0..tokens.len()).collect();
        order.sort_unstable_by_key(|&i| tokens[i].0);
        let mut ends = vec![0; tokens.len()];
        // In sorted order a token shares with the trie so far what it shares with the token before it.
        let (mut path, mut before): (Vec<u32>, &[u8]) = (vec![0], &[]);
        for i in order {
            let (bytes, token) = tokens[i];
            let shared = before.iter().zip(bytes).take_while(|(a, b)| a == b).count();
            path.truncate(shared + 1);
            for &byte in &bytes[shared..] {
                let parent = path[path.len() - 1];
                let new = nodes.len() as u32;
                nodes.push(node(parent, byte, nodes[parent as usize].first_child));
                nodes[parent as usize].first_child = new;
                path.push(new);
            }
            let end = path[path.len() - 1];
            nodes[end as usize].token = token;
            nodes[end as usize].weight = 1;
            ends[i] = end;
            before = bytes;
        }
        for index in (1..nodes.len()).rev() {
            let (weight, parent) = (nodes[index].weight, nodes[index].parent as usize);
            nodes[parent].weight += weight;
            let heavy = nodes[parent].heavy;
            if heavy == NONE || nodes[heavy as usize].weight < weight {
                nodes[parent].heavy = index as u32;
            }
        }
        Self { nodes, ends }
    }

    fn children(&self, node: &Growing) -> impl Iterator<Item = u32> {
        let mut next = node.first_child;
        std::iter::from_fn(move || {
            let child = next;
            next = self.nodes.get(child as usize)?.next_sibling;
            Some(child)
        })
    }

    /// Each node's number: 0 for the root, and its own plus one for a heavy child.
    fn numbers(&self) -> Vec<u32> {
        let mut numbers = vec![NONE; self.nodes.len()];
        let (mut next, mut heads) = (0, vec![0]);
        while let Some(mut index) = heads.pop() {
            while index != NONE {
                let node = &self.nodes[index as usize];
                numbers[index as usize] = next;
                next += 1;
                heads.extend(self.children(node).filter(|&child| child != node.heavy));
                index = node.heavy;
            }
        }
        numbers
    }
}

/// The double array while it fills. Slot 0 to 255 stay free: nodes without other children look there.
struct Slots {
    slots: Vec<Slot>,
    first_free: usize,
}

impl Default for Slots {
    fn default() -> Self {
        Self { slots: vec![Slot { parent: NONE, child: NONE }; 512], first_free: 256 }
    }
}

impl Slots {
    /// Finds room for a node's children and puts them there.
    fn place(&mut self, parent: u32, children: &[(u8, u32)]) -> u32 {
        let free = |slots: &[Slot], at: usize| slots.get(at).is_none_or(|slot| slot.parent == NONE);
        while !free(&self.slots, self.first_free) {
            self.first_free += 1;
        }
        let lowest = children.iter().map(|&(byte, _)| usize::from(byte)).min().unwrap_or(0);
        let from = self.first_free - lowest;
        let base = (from..from + PLACES_TRIED)
            .find(|base| children.iter().all(|&(byte, _)| free(&self.slots, base + usize::from(byte))))
            .unwrap_or(self.slots.len());
        if self.slots.len() < base + 256 {
            self.slots.resize(base + 256, Slot { parent: NONE, child: NONE });
        }
        for &(byte, child) in children {
            self.slots[base + usize::from(byte)] = Slot { parent, child };
        }
        if base >= self.first_free + PLACES_TRIED {
            // The start is crowded: don't look there again.
            self.first_free += PLACES_TRIED / 2;
        }
        base as u32
    }

    fn finish(self) -> Box<[Slot]> {
        self.slots.into()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_finds_the_longest_token(
            tokens in prop::collection::btree_set(prop::collection::vec(0..4u8, 1..24), 1..60),
            text in prop::collection::vec(0..4u8, 0..60),
            wide in any::<bool>(),
        ) {
            let spread = |bytes: &[u8]| bytes.iter().map(|&b| if wide { b * 85 } else { b }).collect::<Vec<_>>();
            let tokens: BTreeSet<Vec<u8>> = tokens.iter().map(|token| spread(token)).collect();
            let listed: Vec<(&[u8], u32)> = tokens.iter().map(Vec::as_slice).zip(7..).collect();
            let (trie, shorter) = Trie::new(&listed);
            let longest = |text: &[u8]| {
                listed.iter().filter(|(token, _)| text.starts_with(token)).max_by_key(|(token, _)| token.len())
            };
            let mut padded = spread(&text);
            let end = padded.len();
            for at in 0..=end {
                let expected = longest(&padded[at..end]).map_or(NONE, |&(_, id)| id);
                padded.extend([0; PADDING]);
                prop_assert_eq!(trie.longest(&padded, at, end), expected);
                padded.truncate(end);
            }
            for ((token, _), shorter) in listed.iter().zip(shorter) {
                prop_assert_eq!(longest(&token[..token.len() - 1]).map_or(NONE, |&(_, id)| id), shorter);
            }
        }
    }
}
