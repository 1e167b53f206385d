//! The part that π0.5 and π0-FAST have in common: `Task: {text}, State: {bins}` and what closes it.

use std::iter::repeat_n;
use std::sync::Arc;

use super::numbers::Numbers;
use super::row::Row;
use super::{PromptOptions, bos_of};
use crate::state::{check_finite, state_bin};
use crate::{Error, Float, Result, SentencePiece};

/// Writes prompts that hold the state as numbers.
#[derive(Debug)]
pub(super) struct StatedPrompt {
    text: Arc<SentencePiece>,
    bos: i32,
    options: PromptOptions,
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
    pub(super) fn new(text: Arc<SentencePiece>, close: &'static str, options: PromptOptions) -> Result<Self> {
        if options.state_width == Some(0) {
            let why = "expected 1 or more, got 0".to_owned();
            return Err(Error::Argument { what: "state_width", why });
        }
        let bos = bos_of(&text)?;
        let ids = |part: &str| options.style.encode(&text, part);
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
        Ok(Self { text, bos, options, close, parts })
    }

    /// Whether prompts are put together from parts; otherwise each is encoded as a whole.
    pub(super) fn by_parts(&self) -> bool {
        self.parts.is_some()
    }

    /// Tokenizes a cleaned text once.
    pub(super) fn head(&self, cleaned: String) -> Result<Head> {
        let Some(parts) = &self.parts else { return Ok(Head::Text(cleaned)) };
        // The comma belongs to the text: many pieces end in one.
        let ids = self.options.style.encode(&self.text, &format!("Task: {cleaned},"))?;
        Ok(Head::Ids([&[self.bos], &*ids, &parts.lead].concat()))
    }

    /// Writes a head and a state. Nothing is written unless every joint is finite.
    #[inline]
    pub(super) fn write<T: Float>(&self, head: &Head, state: &[T], row: &mut Row<'_>) -> Result<()> {
        check_finite(state)?;
        let width = self.options.state_width.unwrap_or(state.len());
        let Some(missing) = width.checked_sub(state.len()) else {
            let why = format!("{} joints are more than the {width} that the text holds", state.len());
            return Err(Error::Argument { what: "state", why });
        };
        // Every joint has a bin now.
        let bin = |value: f64| state_bin(value).unwrap_or_default();
        match (head, &self.parts) {
            (Head::Ids(head), Some(parts)) => {
                row.extend(head);
                for &value in state {
                    row.number(parts.numbers.get(bin(value.into())));
                }
                for _ in 0..missing {
                    row.number(parts.numbers.get(bin(0.0)));
                }
                row.extend(if width == 0 { &parts.close_empty } else { &parts.close });
                Ok(())
            }
            (Head::Text(text), None) => {
                let mut whole = format!("Task: {text}, State: ");
                let bins = state.iter().map(|&value| bin(value.into())).chain(repeat_n(bin(0.0), missing));
                for (joint, bin) in bins.enumerate() {
                    if joint > 0 {
                        whole.push(' ');
                    }
                    whole.push_str(&bin.to_string());
                }
                whole.push_str(self.close);
                row.extend(&[self.bos]);
                row.extend(&self.options.style.encode(&self.text, &whole)?);
                Ok(())
            }
            _ => Err(super::foreign_instruction()),
        }
    }
}
