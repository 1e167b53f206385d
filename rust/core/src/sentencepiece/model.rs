//! What a SentencePiece `.model` file says, read strictly: the pieces and the settings that change what text becomes.
//! Whatever would make our ids differ from the `sentencepiece` package's is refused here, by name.

use super::wire::{FILE, Field, Fields};
use crate::{Error, Result};

/// What a piece is, as the file numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// Made by merges.
    Normal = 1,
    /// Stands for what has no piece.
    Unknown = 2,
    /// Never made from text, and invisible when decoded.
    Control = 3,
    /// Found in the text before anything is merged, longest first, and never merged.
    UserDefined = 4,
    /// One raw byte, for characters without a piece.
    Byte = 6,
}

/// The pieces in file order, their texts end to end. A piece's id is its place.
#[derive(Debug, Clone, Default)]
pub(super) struct PieceList {
    pub(super) text: Vec<u8>,
    pub(super) ends: Vec<u32>,
    pub(super) kinds: Vec<Kind>,
    /// A pair with a higher score merges first.
    pub(super) scores: Vec<f32>,
}

/// The settings of a `.model` that matter after training.
#[derive(Debug, Clone)]
pub(super) struct Model<'a> {
    pub(super) pieces: PieceList,
    /// Characters without a piece become bytes, not the unknown piece.
    pub(super) byte_fallback: bool,
    /// A space is put before the text.
    pub(super) add_dummy_prefix: bool,
    /// Spaces at the ends go, runs of spaces become one.
    pub(super) remove_extra_whitespaces: bool,
    /// A space is written U+2581 in the pieces.
    pub(super) escape_whitespaces: bool,
    pub(super) bos_piece: &'a str,
    pub(super) eos_piece: &'a str,
    pub(super) pad_piece: &'a str,
    /// What the unknown piece decodes to.
    pub(super) unk_surface: &'a str,
}

/// A model that can't be read, and why.
pub(super) fn refused(why: String) -> Error {
    Error::Format { what: FILE, why }
}

impl<'a> Model<'a> {
    /// Reads a serialized `ModelProto`.
    ///
    /// # Errors
    /// `Error::Format` for bytes that are no such message, and for a model whose ids could not be reproduced: another
    /// type than BPE, a normalizer that rewrites characters, whitespace as a suffix, unused pieces.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self> {
        let mut model = Self {
            pieces: PieceList::with_room(bytes.len()),
            byte_fallback: false,
            add_dummy_prefix: true,
            remove_extra_whitespaces: true,
            escape_whitespaces: true,
            bos_piece: "<s>",
            eos_piece: "</s>",
            pad_piece: "<pad>",
            unk_surface: " \u{2047} ",
        };
        if i32::try_from(bytes.len()).is_err() {
            return Err(refused("it exceeds 2 GiB".to_owned()));
        }
        let mut model_type = 1;
        for field in Fields::new(bytes) {
            let field = field?;
            match field.number {
                1 => model.pieces.push(&field)?,
                2 => model.trainer(&field, &mut model_type)?,
                3 => model.normalizer(&field)?,
                5 => denormalizer(&field)?,
                _ => {}
            }
        }
        if model.pieces.ends.is_empty() {
            return Err(refused("it holds no pieces".to_owned()));
        }
        if model_type != 2 {
            let name = match model_type {
                1 => "a Unigram model".to_owned(),
                3 => "a word model".to_owned(),
                4 => "a character model".to_owned(),
                other => format!("a model of type {other}"),
            };
            return Err(refused(format!("it is {name}; only BPE models can be read")));
        }
        Ok(model)
    }

    fn trainer(&mut self, message: &Field<'a>, model_type: &mut u64) -> Result<()> {
        for field in message.message()? {
            let field = field?;
            match field.number {
                3 => *model_type = field.integer()?,
                24 if field.boolean()? => {
                    return Err(refused(
                        "it treats whitespace as a suffix, which can't be reproduced".to_owned(),
                    ));
                }
                35 => self.byte_fallback = field.boolean()?,
                44 => self.unk_surface = field.text()?,
                // An empty name means the default one.
                46 if !field.text()?.is_empty() => self.bos_piece = field.text()?,
                47 if !field.text()?.is_empty() => self.eos_piece = field.text()?,
                48 if !field.text()?.is_empty() => self.pad_piece = field.text()?,
                _ => {}
            }
        }
        Ok(())
    }

    fn normalizer(&mut self, message: &Field<'a>) -> Result<()> {
        let mut name = "";
        let mut rewrites = false;
        for field in message.message()? {
            let field = field?;
            match field.number {
                1 => name = field.text()?,
                2 => rewrites = !field.bytes()?.is_empty(),
                3 => self.add_dummy_prefix = field.boolean()?,
                4 => self.remove_extra_whitespaces = field.boolean()?,
                5 => self.escape_whitespaces = field.boolean()?,
                _ => {}
            }
        }
        if rewrites {
            return Err(refused(format!(
                "its normalizer {name:?} rewrites characters; only \"identity\" can be read"
            )));
        }
        Ok(())
    }
}

/// The byte that `<0xAB>` names.
pub(super) fn byte_of(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    let upper_hex = |b: u8| b.is_ascii_digit() || (b'A'..=b'F').contains(&b);
    (digits.len() == 2 && digits.bytes().all(upper_hex)).then(|| u8::from_str_radix(digits, 16).ok())?
}

impl PieceList {
    /// Room for the pieces of a file of this size: each takes some 12 bytes besides its text.
    fn with_room(file: usize) -> Self {
        let count = file / 12;
        Self {
            text: Vec::with_capacity(file / 2),
            ends: Vec::with_capacity(count),
            kinds: Vec::with_capacity(count),
            scores: Vec::with_capacity(count),
        }
    }

    /// Adds the piece that a message describes.
    fn push(&mut self, message: &Field<'_>) -> Result<()> {
        let id = self.ends.len();
        let (mut text, mut score, mut kind) = (&[][..], 0.0, 1);
        for field in message.message()? {
            let field = field?;
            match field.number {
                1 => text = field.bytes()?,
                2 => score = field.float()?,
                3 => kind = field.integer()?,
                _ => {}
            }
        }
        if text.is_empty() {
            return Err(refused(format!("piece {id} is empty")));
        }
        if text.len() >= 8000 {
            return Err(refused(format!("piece {id} is 8000 bytes or longer")));
        }
        if score.is_nan() {
            return Err(refused(format!("piece {id} has a score that is no number")));
        }
        self.kinds.push(match kind {
            1 => Kind::Normal,
            2 => Kind::Unknown,
            3 => Kind::Control,
            4 => Kind::UserDefined,
            6 => Kind::Byte,
            5 => return Err(refused(format!("piece {id} is of the unused kind, which can't be reproduced"))),
            other => return Err(refused(format!("piece {id} is of unknown kind {other}"))),
        });
        self.text.extend_from_slice(text);
        self.ends.push(self.text.len() as u32);
        self.scores.push(score);
        Ok(())
    }
}

fn denormalizer(message: &Field<'_>) -> Result<()> {
    for field in message.message()? {
        let field = field?;
        if field.number == 2 && !field.bytes()?.is_empty() {
            return Err(refused(
                "its denormalizer rewrites characters, which can't be reproduced".to_owned(),
            ));
        }
    }
    Ok(())
}
