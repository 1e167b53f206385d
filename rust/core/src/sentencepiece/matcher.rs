//! Finds the longest user-defined piece at the head of a text. Those pieces are cut out before anything is merged.

/// What marks a node where no piece ends.
const NONE: u32 = u32::MAX;

/// A trie over bytes in breadth-first order: the children of node `n` are nodes `child[n]..child[n + 1]`, sorted by the
/// byte that leads to them.
#[derive(Debug)]
pub(super) struct Matcher {
    byte: Box<[u8]>,
    child: Box<[u32]>,
    piece: Box<[u32]>,
    /// Whether any piece starts with this byte; most text is passed over by this alone.
    starts: [bool; 256],
}

impl Matcher {
    /// Builds the trie from pieces and their ids, all different and none empty.
    pub(super) fn new(mut pieces: Vec<(&[u8], u32)>) -> Self {
        pieces.sort_unstable();
        let mut this = (vec![0], vec![], vec![]);
        let (byte, child, piece) = (&mut this.0, &mut this.1, &mut this.2);
        let mut starts = [false; 256];
        // Each node is the range of pieces below it; the queue grows while it is walked.
        let mut queue = vec![(0, pieces.len(), 0)];
        let mut node = 0;
        while let Some(&(mut low, high, depth)) = queue.get(node) {
            node += 1;
            child.push(queue.len() as u32);
            piece.push(match pieces.get(low) {
                Some(&(text, id)) if low < high && text.len() == depth => {
                    low += 1;
                    id
                }
                _ => NONE,
            });
            while low < high {
                let first = pieces[low].0[depth];
                let end = low + pieces[low..high].partition_point(|(text, _)| text[depth] == first);
                starts[usize::from(first)] |= depth == 0;
                byte.push(first);
                queue.push((low, end, depth + 1));
                low = end;
            }
        }
        child.push(queue.len() as u32);
        Self { byte: this.0.into(), child: this.1.into(), piece: this.2.into(), starts }
    }

    /// The longest piece that `text` starts with: its id and its length in bytes.
    #[inline]
    pub(super) fn longest(&self, text: &[u8]) -> Option<(u32, usize)> {
        if !self.starts[usize::from(*text.first()?)] {
            return None;
        }
        let (mut node, mut found) = (0, None);
        for (depth, wanted) in text.iter().enumerate() {
            let (low, high) = (self.child[node] as usize, self.child[node + 1] as usize);
            match self.byte[low..high].binary_search(wanted) {
                Ok(at) => node = low + at,
                Err(_) => break,
            }
            if self.piece[node] != NONE {
                found = Some((self.piece[node], depth + 1));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_longest_of_nested_pieces_wins() {
        let matcher = Matcher::new(vec![(b"ab", 0), (b"abcd", 1), (b"b", 2), (b"abce", 3)]);
        assert_eq!(matcher.longest(b"abcdx"), Some((1, 4)));
        assert_eq!(matcher.longest(b"abcx"), Some((0, 2)));
        assert_eq!(matcher.longest(b"abce"), Some((3, 4)));
        assert_eq!(matcher.longest(b"a"), None);
        assert_eq!(matcher.longest(b""), None);
        assert_eq!(Matcher::new(vec![]).longest(b"abc"), None);
    }

    proptest! {
        #[test]
        fn it_finds_what_a_search_through_all_pieces_finds(
            pieces in proptest::collection::btree_set("[abc]{1,5}", 0..40), text in "[abcd]{0,8}",
        ) {
            let pieces: Vec<(&[u8], u32)> = pieces.iter().map(|p| p.as_bytes()).zip(0..).collect();
            let wanted = pieces.iter().filter(|(p, _)| text.as_bytes().starts_with(p)).max_by_key(|(p, _)| p.len());
            let found = Matcher::new(pieces.clone()).longest(text.as_bytes());
            prop_assert_eq!(found, wanted.map(|&(p, id)| (id, p.len())));
        }
    }
}
