//! The text, token and byte side of the π robot policies: FAST action tokens, SentencePiece text, state bins, prompts,
//! and contracts with the numbers that follow from them. Bytes and slices in, slices out: no Python, no files, no threads, no clock.
//!
//! ```
//! use std::sync::Arc;
//!
//! use pioxide_core::{
//!     FastCodec, FastIds, FastScratch, FitOptions, OnOverflow, Partial, Pi0FastPrompts, PromptOptions, SentencePiece,
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Chunks of 16 steps and 2 joints to tokens and back.
//! let chunk = |n: usize| (0..32).map(|i| ((n + i) as f32 / 5.0).sin()).collect::<Vec<f32>>();
//! let chunks: Vec<Vec<f32>> = (0..8).map(chunk).collect();
//! let shaped: Vec<_> = chunks.iter().map(|values| (values.as_slice(), 16, 2)).collect();
//! let codec = FastCodec::fit(&shaped, &FitOptions { vocab_size: 300, ..FitOptions::default() })?;
//! let (plan, mut scratch) = (codec.plan(16)?, FastScratch::default());
//! let (mut ids, mut actions) = (Vec::new(), [0.0; 32]);
//! codec.encode_into(&plan, &chunks[0], 2, OnOverflow::Error, &mut scratch, &mut ids)?;
//! codec.decode_into(&plan, &ids, 2, Partial::Error, &mut scratch, &mut actions)?;
//! assert!(actions.iter().zip(&chunks[0]).all(|(&back, &x)| (back - f64::from(x)).abs() < 0.2));
//!
//! // A prompt of π0-FAST, and what a model might write after it.
//! # // A model's vocabulary is not part of this crate; the repository has a small one.
//! # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../python/pioxide/demo/text.model");
//! # if !std::path::Path::new(path).exists() { return Ok(()) }
//! let model = std::fs::read(path)?; // a SentencePiece `.model`: PaliGemma's, for released policies
//! let text = Arc::new(SentencePiece::from_bytes(&model)?);
//! let prompts = Pi0FastPrompts::new(text, FastIds::new(codec.vocab_size()), PromptOptions::default())?;
//! let (mut tokens, mut mask) = ([0; 64], [false; 64]);
//! let written = prompts.encode_into("Fold the towel", &[0.5_f32, -0.25], &mut tokens, &mut mask)?;
//! assert!(mask[written.length - 1] && !written.truncated);
//! let answer = ids.iter().filter_map(|&id| prompts.text_id(id));
//! let answer: Vec<i32> = prompts.answer_start().iter().copied().chain(answer).collect();
//! let mut found = Vec::new();
//! prompts.fast_ids(&answer, &mut found)?;
//! assert_eq!(found, ids);
//! # Ok(())
//! # }
//! ```

#![cfg_attr(
    not(test),
    warn(clippy::expect_used, clippy::panic, clippy::todo, clippy::unimplemented, clippy::unreachable),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

// Where files and numbers of others are read first, an index is `get` and a sum says what becomes of one too large. Modules
// that are excused say why they hold; overflow checks are on wherever they are tested and fuzzed.
#[allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "inner loops over checked tables"
)]
mod bpe;
mod contract;
#[allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "sizes are checked once, at entry"
)]
mod control;
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "inner loops over planned sizes")]
mod dct;
mod error;
#[allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "inner loops over checked shapes"
)]
mod fast;
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "counts of what is in memory")]
mod fit;
mod json;
#[allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "inner loops over a text's bytes"
)]
mod pretokenize;
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "rows are cut once, at entry")]
mod prompt;
#[allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "inner loops over a checked model"
)]
mod sentencepiece;
mod state;
#[allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "ids are checked when they are read"
)]
mod vocab;

/// The examples of the front page on a registry run too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
#[doc = include_str!("../../../docs/rust.md")]
struct Readme;

pub use contract::{
    AbsentCamera, ActionVocabulary, AdvantageStyle, Arithmetic, Camera, CameraSlot, Contract, Gripper,
    Memory, NormMode, NormRule, Numbers, Resize, Robot, Stats, SubtaskStyle,
};
pub use control::{ActionQueue, Limits, Motion, OnEmpty, SafetyFilter, Taken, Violations};
pub use dct::{Dct, Float};
pub use error::{Error, Result};
pub use fast::{FastCodec, FastFiles, FastScratch, OnOverflow, Partial};
pub use fit::FitOptions;
pub use prompt::{
    ActionTokens, Advantage, Family, FastIds, FastPromptRows, FastRow, GoOn, Instructions, Pi0FastPrompts,
    Pi0Prompts, Pi05Prompts, PromptBatches, PromptOptions, PromptRows, PromptStyle, Prompts, SubtaskOptions,
    SubtaskPrompts, TokenizedInstruction, Written,
};
pub use sentencepiece::{SentencePiece, TextScratch};
pub use state::{state_bin, state_bins_into};
