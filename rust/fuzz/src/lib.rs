//! What holds for any input, as functions of bytes that panic where it does not. `cargo fuzz` searches for such bytes
//! with a nightly compiler; `rust/core/tests/fuzz_targets.rs` runs the same functions on any compiler.

mod actions;
mod contract;
mod files;
mod prompts;
mod random;

pub use actions::{chunks, token_ids};
pub use contract::contract;
pub use files::{processor_config, text_model, tokenizer_json};
pub use prompts::prompts;
pub use random::Random;

/// One target: its name, which is its corpus folder's too, and what it runs.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 7] = [
    ("chunks", chunks),
    ("contract", contract),
    ("processor_config", processor_config),
    ("prompts", prompts),
    ("text_model", text_model),
    ("token_ids", token_ids),
    ("tokenizer_json", tokenizer_json),
];
