//! Reads `tokenizer.json`, refusing whatever would change ids and isn't understood here.

use std::collections::HashMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::{LARGEST_ID, Vocabulary};
use crate::bpe::Rule;
use crate::{Error, Result};

/// Bytes of a file: positions in its tokens fit 32 bits.
const LARGEST_FILE: usize = 1 << 30;

/// The file. Unknown keys are errors.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "version")]
    _version: Option<String>,
    #[serde(default)]
    truncation: Value,
    #[serde(default)]
    padding: Value,
    #[serde(default)]
    added_tokens: Vec<Value>,
    #[serde(default)]
    normalizer: Value,
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    decoder: Value,
    model: Model,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Model {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    dropout: Value,
    #[serde(default)]
    unk_token: Value,
    #[serde(default)]
    continuing_subword_prefix: Option<String>,
    #[serde(default)]
    end_of_word_suffix: Option<String>,
    /// Of no effect without an unknown token.
    #[serde(default, rename = "fuse_unk")]
    _fuse_unk: bool,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    ignore_merges: bool,
    vocab: Entries,
    merges: Vec<Value>,
}

/// The `vocab` object in the file's order. A plain map would let a repeated token pass in silence.
struct Entries(Vec<(Box<str>, u64)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Entries;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tokens and ids")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Entries, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Entries(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

fn fail(why: impl Into<String>) -> Error {
    Error::Format { what: "tokenizer.json", why: why.into() }
}

/// An error unless `value` is null or absent.
fn absent(name: &str, value: &Value) -> Result<()> {
    if value.is_null() { Ok(()) } else { Err(fail(format!("{name}: expected null, got {}", short(value)))) }
}

/// A value as a message shows it.
fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Checks that a part is of the byte-level kind; returns its `add_prefix_space` and `use_regex`.
fn byte_level(name: &str, value: &Value) -> Result<(bool, bool)> {
    let object = value
        .as_object()
        .filter(|object| object.get("type").and_then(Value::as_str) == Some("ByteLevel"))
        .ok_or_else(|| fail(format!("{name}: expected the type ByteLevel, got {}", short(value))))?;
    let flag = |key: &str, default: Option<bool>| match object.get(key) {
        Some(Value::Bool(flag)) => Ok(*flag),
        None => default.ok_or_else(|| fail(format!("{name}.{key} is missing"))),
        Some(other) => Err(fail(format!("{name}.{key}: expected true or false, got {}", short(other)))),
    };
    let known = ["type", "add_prefix_space", "trim_offsets", "use_regex"];
    if let Some(key) = object.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(fail(format!("{name}.{key} is not known here")));
    }
    flag("trim_offsets", Some(true))?;
    Ok((flag("add_prefix_space", None)?, flag("use_regex", Some(true))?))
}

impl Vocabulary {
    /// Reads the content of a `tokenizer.json`.
    ///
    /// # Errors
    /// [`Error::Format`] names the key, token or merge that is broken or is not understood.
    pub(crate) fn from_json(json: &[u8]) -> Result<Self> {
        if json.len() > LARGEST_FILE {
            return Err(fail(format!("{} bytes are more than {LARGEST_FILE}", json.len())));
        }
        let file: File = serde_json::from_slice(json).map_err(|error| fail(error.to_string()))?;
        absent("truncation", &file.truncation)?;
        absent("padding", &file.padding)?;
        absent("normalizer", &file.normalizer)?;
        if let Some(token) = file.added_tokens.first() {
            return Err(fail(format!("added_tokens: expected none, got {}", short(token))));
        }
        let (prefix, use_regex) = byte_level("pre_tokenizer", &file.pre_tokenizer)?;
        if prefix {
            return Err(fail("pre_tokenizer.add_prefix_space: expected false, got true"));
        }
        byte_level("decoder", &file.decoder)?;
        if !file.post_processor.is_null() {
            byte_level("post_processor", &file.post_processor)?;
        }
        let texts = file.model.texts()?;
        let rules = rules(&texts, &file.model.merges)?;
        Ok(Self { texts, rules, use_regex })
    }
}

impl Model {
    /// The tokens by id.
    fn texts(&self) -> Result<Vec<Option<Box<str>>>> {
        if self.kind != "BPE" {
            return Err(fail(format!("model.type: expected BPE, got {}", self.kind)));
        }
        absent("model.dropout", &self.dropout)?;
        absent("model.unk_token", &self.unk_token)?;
        for (name, affix) in [
            ("continuing_subword_prefix", &self.continuing_subword_prefix),
            ("end_of_word_suffix", &self.end_of_word_suffix),
        ] {
            if let Some(affix) = affix
                && !affix.is_empty()
            {
                return Err(fail(format!("model.{name}: expected none, got {affix:?}")));
            }
        }
        for (name, flag) in [("byte_fallback", self.byte_fallback), ("ignore_merges", self.ignore_merges)] {
            if flag {
                return Err(fail(format!("model.{name}: expected false, got true")));
            }
        }
        let Entries(entries) = &self.vocab;
        if let Some((text, id)) = entries.iter().find(|(_, id)| *id > LARGEST_ID) {
            return Err(fail(format!("token {text:?} has id {id}; ids up to {LARGEST_ID} are taken")));
        }
        let mut texts: Vec<Option<Box<str>>> = Vec::new();
        for (text, id) in entries {
            let id = *id as usize;
            if text.is_empty() {
                return Err(fail(format!("token {id} is empty")));
            }
            if texts.len() <= id {
                texts.resize(id + 1, None);
            }
            if let Some(other) = &texts[id] {
                return Err(fail(format!("tokens {other:?} and {text:?} both have id {id}")));
            }
            texts[id] = Some(text.clone());
        }
        Ok(texts)
    }
}

/// The merges, in either spelling, as rules over ids.
fn rules(texts: &[Option<Box<str>>], merges: &[Value]) -> Result<Vec<Rule>> {
    let mut ids: HashMap<&str, u32> = HashMap::new();
    for (text, id) in texts.iter().zip(0..) {
        if let Some(text) = text
            && let Some(other) = ids.insert(text, id)
        {
            return Err(fail(format!("token {text:?} has two ids, {other} and {id}")));
        }
    }
    let mut made = String::new();
    let mut rule = |at: usize, merge: &Value| {
        let (left, right) = pair(merge).ok_or_else(|| {
            fail(format!("merge {at}: expected \"left right\" or [left, right], got {}", short(merge)))
        })?;
        made.clear();
        made.push_str(left);
        made.push_str(right);
        let id = |text: &str| {
            ids.get(text).copied().ok_or_else(|| {
                fail(format!("merge {at} ({}) is about {text:?}, which is no token", short(merge)))
            })
        };
        Ok(Rule { left: id(left)?, right: id(right)?, made: id(&made)? })
    };
    merges.iter().enumerate().map(|(at, merge)| rule(at, merge)).collect()
}

/// The two sides of a merge.
fn pair(merge: &Value) -> Option<(&str, &str)> {
    match merge {
        Value::String(text) => {
            let (left, right) = text.split_once(' ')?;
            (!right.contains(' ')).then_some((left, right))
        }
        Value::Array(sides) => match sides.as_slice() {
            [Value::String(left), Value::String(right)] => Some((left, right)),
            _ => None,
        },
        _ => None,
    }
}
