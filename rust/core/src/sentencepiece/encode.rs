//! Text to ids: spaces spelled as the pieces spell them, then each word merged on its own where the vocabulary allows.

use std::sync::atomic::Ordering;

use super::model::Kind;
use super::{ESCAPED_SPACE, SentencePiece};
use crate::bpe::{Merge, MergeScratch, merge};
use crate::{Error, Result};

/// Room that encoding works in. Keep it between calls, and nothing is allocated once it has grown.
#[derive(Debug, Default)]
pub struct TextScratch {
    normalized: Vec<u8>,
    symbols: Vec<Symbol>,
    merges: MergeScratch<Symbol>,
}

/// A stretch of text that is one symbol while its neighbours merge.
#[derive(Debug, Clone, Copy)]
struct Symbol {
    start: u32,
    end: u32,
    /// Its piece, once it is known to be one.
    piece: Option<u32>,
    /// A user-defined piece, which merges with nothing.
    fixed: bool,
}

impl SentencePiece {
    /// Appends the ids of `text` to `out`. No beginning or end is added, and control pieces written out in the text are
    /// plain text.
    ///
    /// # Errors
    /// [`Error::Argument`] for a text over 1 GiB.
    pub fn encode_into(&self, text: &str, scratch: &mut TextScratch, out: &mut Vec<u32>) -> Result<()> {
        if text.len() > 1 << 30 {
            return Err(Error::Argument {
                what: "text",
                why: format!("{} bytes are more than 1 GiB", text.len()),
            });
        }
        let TextScratch { normalized, symbols, merges } = scratch;
        self.normalize(text, normalized);
        let mut after_unknown = false;
        let mut start = 0;
        while start < normalized.len() {
            let end = self.word_end(normalized, start);
            let word = self.text_piece(&normalized[start..end]).map(|id| (id, &self.whole[id as usize]));
            match word {
                Some((id, whole)) if whole.load(Ordering::Relaxed) => {
                    out.push(id);
                    after_unknown = false;
                }
                _ => {
                    self.merge_word(normalized, start, end, symbols, merges);
                    if let (Some((_, whole)), [_]) = (word, symbols.as_slice()) {
                        whole.store(true, Ordering::Relaxed);
                    }
                    self.push_ids(normalized, symbols, &mut after_unknown, out);
                }
            }
            start = end;
        }
        Ok(())
    }

    /// The ids of `text`; see [`Self::encode_into`].
    ///
    /// # Errors
    /// [`Error::Argument`] for a text over 1 GiB.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let mut out = Vec::new();
        self.encode_into(text, &mut TextScratch::default(), &mut out)?;
        Ok(out)
    }

    /// The ids of `text` as Hugging Face's tokenizers give them: control pieces and the unknown piece that are written
    /// out in the text are those pieces.
    ///
    /// # Errors
    /// [`Error::Argument`] for a text over 1 GiB.
    pub fn encode_with_marks(&self, text: &str) -> Result<Vec<u32>> {
        let (mut out, mut scratch) = (Vec::new(), TextScratch::default());
        let (mut start, mut at) = (0, 0);
        while at < text.len() {
            let Some((id, length)) = self.marks.longest(&text.as_bytes()[at..]) else {
                at += 1;
                continue;
            };
            self.encode_into(&text[start..at], &mut scratch, &mut out)?;
            out.push(id);
            at += length;
            start = at;
        }
        self.encode_into(&text[start..], &mut scratch, &mut out)?;
        Ok(out)
    }

    /// Writes spaces as the pieces do, with those added or left out that the model asks for.
    fn normalize(&self, text: &str, out: &mut Vec<u8>) {
        out.clear();
        let space = self.spelled_space();
        if !self.remove_extra_whitespaces {
            if self.add_dummy_prefix && !text.is_empty() {
                out.extend_from_slice(space);
            }
            push_escaped(text, space, out);
            return;
        }
        // User-defined pieces are units here too: spaces inside them stay.
        let unit = |rest: &str| match self.user_defined.longest(rest.as_bytes()) {
            Some((_, length)) => length,
            None => rest.chars().next().map_or(0, char::len_utf8),
        };
        let mut rest = text;
        while !rest.is_empty() && &rest[..unit(rest)] == " " {
            rest = &rest[1..];
        }
        if rest.is_empty() {
            return;
        }
        if self.add_dummy_prefix {
            out.extend_from_slice(space);
        }
        let mut after_space = true;
        while !rest.is_empty() {
            let (head, tail) = rest.split_at(unit(rest));
            let kept = if after_space { head.trim_start_matches(' ') } else { head };
            if !kept.is_empty() {
                push_escaped(kept, space, out);
                after_space = kept.ends_with(' ');
            }
            rest = tail;
        }
        while out.ends_with(space) {
            out.truncate(out.len() - space.len());
        }
    }

    /// [`Self::space`] in UTF-8.
    fn spelled_space(&self) -> &'static [u8] {
        if self.space == ESCAPED_SPACE { "\u{2581}".as_bytes() } else { b" " }
    }

    /// Where the stretch of text that starts at `start` ends: before the next word, where words can be told apart.
    fn word_end(&self, text: &[u8], start: usize) -> usize {
        if !self.words_stand_alone {
            return text.len();
        }
        let space = self.spelled_space();
        let mut at = start;
        while text[at..].starts_with(space) {
            at += space.len();
        }
        while at < text.len() && !(text[at] == space[0] && text[at..].starts_with(space)) {
            at += 1;
        }
        at
    }

    /// Cuts a stretch of text into user-defined pieces and characters, and merges those: any two neighbours may merge
    /// whose texts together are a piece, the best score first.
    fn merge_word(
        &self,
        text: &[u8],
        start: usize,
        end: usize,
        symbols: &mut Vec<Symbol>,
        scratch: &mut MergeScratch<Symbol>,
    ) {
        symbols.clear();
        let mut at = start;
        while at < end {
            let (piece, length) = match self.user_defined.longest(&text[at..end]) {
                Some((piece, length)) => (Some(piece), length),
                None => (None, char_length(text[at])),
            };
            let fixed = piece.is_some();
            symbols.push(Symbol { start: at as u32, end: (at + length) as u32, piece, fixed });
            at += length;
        }
        merge(symbols, scratch, |left, right| {
            if left.fixed || right.fixed {
                return None;
            }
            let (start, end) = (left.start, right.end);
            let piece = self.text_piece(&text[start as usize..end as usize])?;
            let rank = self.ranks.as_ref().map_or(piece, |ranks| ranks[piece as usize]);
            Some(Merge { rank, symbol: Symbol { start, end, piece: Some(piece), fixed: false } })
        });
    }

    /// Appends what became of a stretch of text: pieces, or bytes or one unknown where there is none.
    fn push_ids(&self, text: &[u8], symbols: &[Symbol], after_unknown: &mut bool, out: &mut Vec<u32>) {
        for symbol in symbols {
            let bytes = &text[symbol.start as usize..symbol.end as usize];
            let known = symbol.piece.or_else(|| self.text_piece(bytes));
            match (known, &self.bytes) {
                (Some(id), _) => out.push(id),
                (None, Some(ids)) => out.extend(bytes.iter().map(|&byte| ids[usize::from(byte)])),
                (None, None) if *after_unknown => {}
                (None, None) => out.push(self.unk),
            }
            *after_unknown = known.is_none();
        }
    }

    /// The piece that is exactly this text and that text can become.
    #[inline]
    fn text_piece(&self, text: &[u8]) -> Option<u32> {
        let id = self.pieces.id(text)?;
        matches!(self.pieces.kind(id), Some(Kind::Normal | Kind::UserDefined)).then_some(id)
    }
}

/// Appends a text, its spaces spelled this way.
fn push_escaped(text: &str, space: &[u8], out: &mut Vec<u8>) {
    out.reserve(text.len());
    for &byte in text.as_bytes() {
        if byte == b' ' {
            out.extend_from_slice(space);
        } else {
            out.push(byte);
        }
    }
}

/// The length in UTF-8 of the character that starts with this byte.
fn char_length(first: u8) -> usize {
    match first {
        0xf0.. => 4,
        0xe0.. => 3,
        0xc0.. => 2,
        _ => 1,
    }
}
