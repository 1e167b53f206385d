//! Writes a vocabulary as a `tokenizer.json` that every release of `tokenizers` reads.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::Vocabulary;
use crate::{Error, Result};

#[derive(Serialize)]
struct File<'a> {
    version: &'static str,
    truncation: (),
    padding: (),
    added_tokens: [(); 0],
    normalizer: (),
    pre_tokenizer: ByteLevel,
    post_processor: ByteLevel,
    decoder: ByteLevel,
    model: Model<'a>,
}

#[derive(Serialize)]
struct ByteLevel {
    #[serde(rename = "type")]
    kind: &'static str,
    add_prefix_space: bool,
    trim_offsets: bool,
    use_regex: bool,
}

#[derive(Serialize)]
struct Model<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    dropout: (),
    unk_token: (),
    continuing_subword_prefix: (),
    end_of_word_suffix: (),
    fuse_unk: bool,
    byte_fallback: bool,
    ignore_merges: bool,
    vocab: Entries<'a>,
    merges: Vec<Merge<'a>>,
}

struct Entries<'a>(&'a [Option<Box<str>>]);

impl Serialize for Entries<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (text, id) in self.0.iter().zip(0_u32..) {
            if let Some(text) = text {
                map.serialize_entry(text, &id)?;
            }
        }
        map.end()
    }
}

/// One line a merge, which old releases read too; a list where a token holds a space and a line could not say it.
#[derive(Serialize)]
#[serde(untagged)]
enum Merge<'a> {
    Line(String),
    Sides([&'a str; 2]),
}

impl Vocabulary {
    /// The content of a `tokenizer.json`.
    ///
    /// # Errors
    /// [`Error::Format`], which doesn't happen for what this type holds.
    pub(crate) fn to_json(&self) -> Result<String> {
        let text = |id: u32| self.texts[id as usize].as_deref().unwrap_or_default();
        let merge = |left: &'_ str, right: &'_ str| Merge::Line(format!("{left} {right}"));
        let merges = self.rules.iter().map(|rule| match (text(rule.left), text(rule.right)) {
            (left, right) if left.contains(' ') || right.contains(' ') => Merge::Sides([left, right]),
            (left, right) => merge(left, right),
        });
        // What the post-processor and the decoder say of prefixes and regexes has no effect; these are the usual values.
        let part = |add_prefix_space, trim_offsets, use_regex| ByteLevel {
            kind: "ByteLevel",
            add_prefix_space,
            trim_offsets,
            use_regex,
        };
        let file = File {
            version: "1.0",
            truncation: (),
            padding: (),
            added_tokens: [],
            normalizer: (),
            pre_tokenizer: part(false, true, self.use_regex),
            post_processor: part(true, false, true),
            decoder: part(true, true, true),
            model: Model {
                kind: "BPE",
                dropout: (),
                unk_token: (),
                continuing_subword_prefix: (),
                end_of_word_suffix: (),
                fuse_unk: false,
                byte_fallback: false,
                ignore_merges: false,
                vocab: Entries(&self.texts),
                merges: merges.collect(),
            },
        };
        serde_json::to_string_pretty(&file)
            .map_err(|error| Error::Format { what: "tokenizer.json", why: error.to_string() })
    }
}
