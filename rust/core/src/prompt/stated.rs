//! The part that π0.5 and π0-FAST have in common: `Task: {text}, State: {bins}` and what closes it.

use std::sync::Arc;

use super::numbers::Numbers;
use super::row::Row;
use super::{bos_of, to_i32};
use crate::state::{check_finite, state_bin};
use crate::{Error, Float, Result, SentencePiece};

/// Writes prompts that hold the state as numbers.
#[derive(Debug)]
pub(super) struct StatedPrompt {
    text: Arc<SentencePiece>,
    bos: i32,
    /// What stands after the last bin.
    close: &'static str,
    /// The prompt's parts, where the vocabulary lets it be put together from them.
    parts: Option<Parts>,
}

#[derive(Debug)]
struct Parts {
    numbers: Numbers,
    /// ` State:`
    lead: Vec<i32>,
    close: Vec<i32>,
    /// What closes a prompt whose state has no numbers: a space and the rest.
    close_empty: Vec<i32>,
}

/// A text made ready: its ids, or the text itself where only the whole prompt can be encoded.
#[derive(Debug, Clone)]
pub(super) enum Head {
    Ids(Vec<i32>),
    Text(String),
}

impl StatedPrompt {
    pub(super) fn new(text: Arc<SentencePiece>, close: &'static str) -> Result<Self> {
        let bos = bos_of(&text)?;
        let ids = |part: &str| -> Result<Vec<i32>> { Ok(to_i32(&text.encode(part)?)) };
        let parts = match Numbers::prove(&text)? {
            Some(numbers) => Some(Parts {
                numbers,
                lead: ids(" State:")?,
                close: ids(close)?,
                close_empty: ids(&format!(" {close}"))?,
            }),
            None => None,
        };
        let unk = text.unk() as i32;
        let parts =
            parts.filter(|p| [&p.lead, &p.close, &p.close_empty].iter().all(|ids| ids.first() != Some(&unk)));
        Ok(Self { text, bos, close, parts })
    }

    /// Whether prompts are put together from parts; otherwise each is encoded as a whole.
    pub(super) fn by_parts(&self) -> bool {
        self.parts.is_some()
    }

    /// Tokenizes a cleaned text once.
    pub(super) fn head(&self, cleaned: String) -> Result<Head> {
        let Some(parts) = &self.parts else { return Ok(Head::Text(cleaned)) };
        // The comma belongs to the text: many pieces end in one.
        let ids = self.text.encode(&format!("Task: {cleaned},"))?;
        Ok(Head::Ids([&[self.bos], to_i32(&ids).as_slice(), &parts.lead].concat()))
    }

    /// Writes a head and a state. Nothing is written unless every joint is finite.
    #[inline]
    pub(super) fn write<T: Float>(&self, head: &Head, state: &[T], row: &mut Row<'_>) -> Result<()> {
        check_finite(state)?;
        // Every joint has a bin now.
        let bin = |value: T| state_bin(value).unwrap_or_default();
        match (head, &self.parts) {
            (Head::Ids(head), Some(parts)) => {
                row.extend(head);
                for &value in state {
                    row.number(parts.numbers.get(bin(value)));
                }
                row.extend(if state.is_empty() { &parts.close_empty } else { &parts.close });
                Ok(())
            }
            (Head::Text(text), None) => {
                let mut whole = format!("Task: {text}, State: ");
                for (joint, &value) in state.iter().enumerate() {
                    if joint > 0 {
                        whole.push(' ');
                    }
                    whole.push_str(&bin(value).to_string());
                }
                whole.push_str(self.close);
                row.extend(&[self.bos]);
                row.extend(&to_i32(&self.text.encode(&whole)?));
                Ok(())
            }
            _ => Err(Error::Argument { what: "task", why: "it was made with another vocabulary".to_owned() }),
        }
    }
}
