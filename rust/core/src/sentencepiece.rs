//! Text to ids and back with a SentencePiece BPE model, equal to the `sentencepiece` package id for id: the text half of
//! every prompt. Prompts are assembled from it in `prompt`.

mod encode;
mod matcher;
mod model;
mod pieces;
mod wire;

use std::sync::atomic::AtomicBool;

use crate::{Error, Result};
pub use encode::TextScratch;
use matcher::Matcher;
use model::{Kind, Model};
use pieces::{ByteIds, Pieces};

/// How a space is written in the pieces of most models: LOWER ONE EIGHTH BLOCK.
pub(crate) const ESCAPED_SPACE: char = '\u{2581}';

/// A vocabulary read from a `.model` file. Immutable, so that threads share it by reference.
#[derive(Debug)]
pub struct SentencePiece {
    pieces: Pieces,
    /// By id: the place of its score among all scores, best first. Equal scores are equal ranks. `None` where the ids
    /// themselves are in that order, as a trained model's are.
    ranks: Option<Box<[u32]>>,
    user_defined: Matcher,
    /// Control pieces and the unknown one, for callers that read them in a text.
    marks: Matcher,
    bytes: ByteIds,
    unk: u32,
    bos: Option<u32>,
    eos: Option<u32>,
    pad: Option<u32>,
    unk_surface: Box<str>,
    add_dummy_prefix: bool,
    remove_extra_whitespaces: bool,
    /// U+2581 where the model escapes spaces, else a plain space.
    space: char,
    /// No piece holds a space after another character, so that words can be merged one by one.
    words_stand_alone: bool,
    /// By id: whether this piece was met as a whole word, and merging that word did end in it. Most words are one piece.
    /// The answer is the vocabulary's and never changes, so any thread may write it at any time.
    whole: Box<[AtomicBool]>,
}

/// What one id alone stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Surface<'a> {
    /// A control piece.
    Nothing,
    /// A byte of a character.
    Byte(u8),
    /// Text, its spaces still written as in the pieces.
    Text(&'a str),
}

impl SentencePiece {
    /// Reads the bytes of a `.model` file.
    ///
    /// # Errors
    /// [`Error::Format`] for bytes that are no BPE model, and for a model whose ids could not be reproduced (a
    /// normalizer that rewrites characters, whitespace as a suffix, unused pieces): the message names what it is.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let mut model = Model::read(bytes)?;
        let scores = std::mem::take(&mut model.pieces.scores);
        let pieces = Pieces::new(std::mem::take(&mut model.pieces))?;
        let control =
            |text: &str| pieces.id(text.as_bytes()).filter(|&id| pieces.kind(id) == Some(Kind::Control));
        let user_defined = pieces.iter().filter(|(_, _, kind)| *kind == Kind::UserDefined);
        let user_defined = Matcher::new(user_defined.map(|(id, text, _)| (text.as_bytes(), id)).collect());
        let marks = pieces.iter().filter(|(_, _, kind)| matches!(kind, Kind::Control | Kind::Unknown));
        let marks = Matcher::new(marks.map(|(id, text, _)| (text.as_bytes(), id)).collect());
        let mut this = Self {
            ranks: ranks(&pieces, &scores),
            user_defined,
            marks,
            bytes: pieces.byte_ids(model.byte_fallback)?,
            unk: pieces.unknown()?,
            bos: control(model.bos_piece),
            eos: control(model.eos_piece),
            pad: control(model.pad_piece),
            unk_surface: model.unk_surface.into(),
            add_dummy_prefix: model.add_dummy_prefix,
            remove_extra_whitespaces: model.remove_extra_whitespaces,
            space: if model.escape_whitespaces { ESCAPED_SPACE } else { ' ' },
            words_stand_alone: false,
            whole: std::iter::repeat_with(AtomicBool::default).take(pieces.len()).collect(),
            pieces,
        };
        this.words_stand_alone = !this.joins(|left| left != this.space, this.space);
        Ok(this)
    }

    /// The number of pieces.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.pieces.len()
    }

    /// The text of piece `id`, spaces written as the model writes them.
    #[must_use]
    pub fn piece(&self, id: u32) -> Option<&str> {
        self.pieces.get(id)
    }

    /// The id of the piece that is exactly `piece`.
    #[must_use]
    pub fn id(&self, piece: &str) -> Option<u32> {
        self.pieces.id(piece.as_bytes())
    }

    /// The id of the piece that begins a sequence.
    #[must_use]
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The id of the piece that ends a sequence.
    #[must_use]
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// The id of the piece that fills up a batch.
    #[must_use]
    pub fn pad(&self) -> Option<u32> {
        self.pad
    }

    /// The id that stands for what has no piece.
    #[must_use]
    pub fn unk(&self) -> u32 {
        self.unk
    }

    /// Whether `id` is a control piece: one that text never becomes and that decodes to nothing.
    #[must_use]
    pub fn is_control(&self, id: u32) -> bool {
        self.pieces.kind(id) == Some(Kind::Control)
    }

    /// The text that `ids` stand for. Control pieces vanish, bytes that are no UTF-8 become U+FFFD one by one.
    ///
    /// # Errors
    /// [`Error::Argument`] names the position of an id that is outside the vocabulary.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        let mut out = String::new();
        let mut bytes = Vec::new();
        // A model that puts a space before a text, or trims it, takes a space off the first piece that shows.
        let (mut at_start, mut space_taken) = (self.add_dummy_prefix || self.remove_extra_whitespaces, false);
        for (position, &id) in ids.iter().enumerate() {
            let Some(surface) = self.surface(id) else {
                let size = self.pieces.len();
                let why = format!("id {id} at position {position} is outside a vocabulary of {size}");
                return Err(Error::Argument { what: "ids", why });
            };
            if let Surface::Byte(byte) = surface {
                bytes.push(byte);
                continue;
            }
            push_bytes(&mut bytes, &mut out);
            at_start &= !space_taken && out.is_empty();
            space_taken = false;
            match surface {
                Surface::Text(text) if id == self.unk => out.push_str(text),
                Surface::Text(mut text) => {
                    if let Some(rest) = text.strip_prefix(ESCAPED_SPACE).filter(|_| at_start) {
                        text = rest;
                        space_taken = !self.remove_extra_whitespaces;
                    }
                    out.extend(text.chars().map(|c| if c == ESCAPED_SPACE { ' ' } else { c }));
                }
                _ => {}
            }
        }
        push_bytes(&mut bytes, &mut out);
        Ok(out)
    }

    /// What `id` alone stands for; what decoding makes of it depends on its neighbours too.
    pub(crate) fn surface(&self, id: u32) -> Option<Surface<'_>> {
        let piece = self.pieces.get(id)?;
        Some(match self.pieces.kind(id)? {
            Kind::Control => Surface::Nothing,
            Kind::Unknown => Surface::Text(&self.unk_surface),
            Kind::Byte => model::byte_of(piece).map_or(Surface::Text(piece), Surface::Byte),
            Kind::Normal | Kind::UserDefined => Surface::Text(piece),
        })
    }

    /// Whether some piece that text can become holds `right` directly after a character that is `left`.
    ///
    /// Where none does, nothing ever merges across that border, and what stands on either side is encoded alone.
    pub(crate) fn joins(&self, left: impl Fn(char) -> bool, right: char) -> bool {
        self.pieces
            .befores(right)
            .any(|(before, kind)| matches!(kind, Kind::Normal | Kind::UserDefined) && left(before))
    }

    /// Whether words are encoded alone: nothing joins a space to what stands before it.
    pub(crate) fn words_stand_alone(&self) -> bool {
        self.words_stand_alone
    }

    /// Whether a text's ids are those of its parts, cut at borders that no piece joins: nothing is added before a text
    /// and nothing is trimmed.
    pub(crate) fn keeps_text(&self) -> bool {
        !self.add_dummy_prefix && !self.remove_extra_whitespaces
    }

    /// How a space is written in the pieces.
    pub(crate) fn space(&self) -> char {
        self.space
    }
}

/// Moves collected byte pieces to the text; each byte that is not part of a valid character becomes U+FFFD.
fn push_bytes(bytes: &mut Vec<u8>, out: &mut String) {
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        match std::str::from_utf8(rest) {
            Ok(text) => {
                out.push_str(text);
                break;
            }
            Err(error) => {
                let (valid, broken) = rest.split_at(error.valid_up_to());
                out.push_str(&String::from_utf8_lossy(valid));
                out.push(char::REPLACEMENT_CHARACTER);
                rest = &broken[1..];
            }
        }
    }
    bytes.clear();
}

/// The place of each piece's score among all scores, best first, or `None` where it may as well be the id.
fn ranks(pieces: &Pieces, scores: &[f32]) -> Option<Box<[u32]>> {
    // Only normal pieces are made by merges, so only their order counts.
    let mut normal =
        pieces.iter().filter(|(_, _, kind)| *kind == Kind::Normal).map(|(id, _, _)| scores[id as usize]);
    let mut best = normal.next()?;
    if normal.all(|score| std::mem::replace(&mut best, score) > score) {
        return None;
    }
    let score = |id: u32| scores[id as usize];
    let mut order: Vec<u32> = (0..scores.len() as u32).collect();
    order.sort_by(|&a, &b| score(b).total_cmp(&score(a)));
    let mut ranks = vec![0; order.len()];
    let mut rank = 0;
    for (at, &id) in order.iter().enumerate() {
        // Compared by their bits, as sentencepiece 0.2.3 does: 0 is better than -0.
        if at > 0 && score(id).to_bits() != score(order[at - 1]).to_bits() {
            rank += 1;
        }
        ranks[id as usize] = rank;
    }
    Some(ranks.into_boxed_slice())
}
