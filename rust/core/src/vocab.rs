//! A byte-level BPE vocabulary as Hugging Face's `tokenizer.json` holds it: read strictly in `vocab::read`, written in
//! `vocab::write`. What can't be reproduced token for token is refused by name.

mod read;
mod write;

use std::collections::HashMap;

use crate::bpe::Rule;

/// Larger ids are taken for a mistake, so that a few bytes of file never ask for gigabytes.
const LARGEST_ID: u64 = (1 << 20) - 1;

/// The characters that stand for the 256 bytes in a token's text: printable Latin-1 for itself, the others in order
/// from U+0100.
pub(crate) const BYTE_CHARS: [char; 256] = byte_chars();

// What panics is the compiler: this runs while compiling, and only then.
#[cfg_attr(not(test), expect(clippy::panic))]
const fn byte_chars() -> [char; 256] {
    let mut chars = ['\0'; 256];
    let mut others = 0;
    let mut byte = 0;
    while byte < 256 {
        chars[byte] = if matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff) {
            byte as u8 as char
        } else {
            others += 1;
            match char::from_u32(0xff + others) {
                Some(c) => c,
                None => panic!("68 characters follow U+00FF"),
            }
        };
        byte += 1;
    }
    chars
}

/// The byte that a character of a token's text stands for.
pub(crate) fn byte_of(character: char) -> Option<u8> {
    // From U+0100 on, the table's other characters are in order: these bytes, in these places.
    match u32::from(character) {
        code @ (0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff) => Some(code as u8),
        code @ 0x100..=0x120 => Some((code - 0x100) as u8),
        code @ 0x121..=0x142 => Some((code - 0x121 + 0x7f) as u8),
        0x143 => Some(0xad),
        _ => None,
    }
}

/// The id of each byte's token in a vocabulary made here: in the order of their characters, as Hugging Face's trainer
/// has them.
pub(crate) fn byte_ids() -> [u32; 256] {
    let mut bytes: Vec<u8> = (0..=255).collect();
    bytes.sort_unstable_by_key(|&byte| BYTE_CHARS[usize::from(byte)]);
    let mut ids = [0; 256];
    for (byte, id) in bytes.into_iter().zip(0..) {
        ids[usize::from(byte)] = id;
    }
    ids
}

/// Tokens, their ids and the rules that make them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Vocabulary {
    /// By id: the token's text as the file spells it. `None` where the ids have a hole.
    texts: Vec<Option<Box<str>>>,
    /// Those that merge first first.
    rules: Vec<Rule>,
    /// Whether texts are split by the GPT-2 pattern before merging.
    use_regex: bool,
}

impl Vocabulary {
    /// A vocabulary of all 256 bytes ([`byte_ids`]) and of what `pairs` of earlier ids make, in order. A pair whose text
    /// is a token already adds a rule and no token.
    pub(crate) fn from_pairs(pairs: &[(u32, u32)], use_regex: bool) -> Self {
        let mut texts: Vec<Option<Box<str>>> = vec![None; 256];
        for (id, character) in byte_ids().into_iter().zip(BYTE_CHARS) {
            texts[id as usize] = Some(character.to_string().into());
        }
        let mut ids: HashMap<Box<str>, u32> =
            texts.iter().flatten().zip(0..).map(|(text, id)| (text.clone(), id)).collect();
        let mut rules = Vec::with_capacity(pairs.len());
        for &(left, right) in pairs {
            let part = |id: u32| texts[id as usize].as_deref().unwrap_or_default();
            let text: Box<str> = [part(left), part(right)].concat().into();
            let made = *ids.entry(text.clone()).or_insert(texts.len() as u32);
            if made as usize == texts.len() {
                texts.push(Some(text));
            }
            rules.push(Rule { left, right, made });
        }
        Self { texts, rules, use_regex }
    }

    /// The largest id plus one.
    pub(crate) fn len(&self) -> usize {
        self.texts.len()
    }

    pub(crate) fn rules(&self) -> &[Rule] {
        &self.rules
    }

    pub(crate) fn use_regex(&self) -> bool {
        self.use_regex
    }

    /// The token of each single byte.
    pub(crate) fn byte_tokens(&self) -> [Option<u32>; 256] {
        let mut tokens = [None; 256];
        for (text, id) in self.texts.iter().zip(0..) {
            let mut chars = text.iter().flat_map(|text| text.chars());
            if let (Some(c), None) = (chars.next(), chars.next())
                && let Some(byte) = byte_of(c)
            {
                tokens[usize::from(byte)] = Some(id);
            }
        }
        tokens
    }

    /// What each token spells; `None` where the ids have a hole, and for a token with a character that stands for no
    /// byte: no text is ever encoded to it.
    pub(crate) fn spelled(&self) -> Vec<Option<Box<[u8]>>> {
        let spell = |text: &str| text.chars().map(byte_of).collect();
        self.texts.iter().map(|text| text.as_deref().and_then(spell)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_their_characters_are_one_to_one() {
        for byte in 0..=255_u8 {
            assert_eq!(byte_of(BYTE_CHARS[usize::from(byte)]), Some(byte));
        }
        let known = (0..0x11_0000).filter_map(char::from_u32).filter(|&c| byte_of(c).is_some()).count();
        assert_eq!(known, 256);
    }
}
