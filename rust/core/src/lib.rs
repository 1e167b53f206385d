//! The text, token and byte side of the π robot policies: FAST action tokens, SentencePiece text, state bins and
//! prompts. Bytes and slices in, slices out: no Python, no files, no threads, no clock.

mod bpe;
mod dct;
mod error;
mod fast;
mod fit;
mod pretokenize;
mod prompt;
mod sentencepiece;
mod state;
mod vocab;

pub use dct::{Dct, Float};
pub use error::{Error, Result};
pub use fast::{FastCodec, FastFiles, FastScratch, OnOverflow, Partial};
pub use fit::FitOptions;
pub use prompt::{
    ActionTokens, FastIds, FastPromptRows, FastRow, GoOn, Instructions, Pi0FastPrompts, Pi0Prompts,
    Pi05Prompts, PromptOptions, PromptRows, PromptStyle, TokenizedInstruction, Written,
};
pub use sentencepiece::{SentencePiece, TextScratch};
pub use state::{state_bin, state_bins_into};
