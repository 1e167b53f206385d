//! The library as C sees it: raw pointers in, statuses out.
#![allow(clippy::unwrap_used)]

mod arguments;
mod contract;
#[path = "../../core/tests/common/counting.rs"]
mod counting;
mod header;
mod steady;
mod wild;

use std::ffi::CStr;
use std::ptr::{null, null_mut};

use crate::codec::{PioxideCodec, pioxide_codec_fit, pioxide_codec_free};
use crate::prompts::{
    PioxideInstruction, PioxidePromptOptions, PioxidePrompts, pioxide_instruction_free, pioxide_prompts_free,
    pioxide_prompts_new, pioxide_prompts_tokenize,
};
use crate::scratch::{PioxideScratch, pioxide_scratch_free, pioxide_scratch_new};
use crate::status::{PioxideStatus, exclusive, guard, pioxide_last_error};
use crate::text::{PioxideText, pioxide_text_free, pioxide_text_from_bytes};

const HORIZON: usize = 16;
const DIM: usize = 3;

/// Handles that most calls need.
struct Handles {
    codec: *mut PioxideCodec,
    scratch: *mut PioxideScratch,
    text: *mut PioxideText,
    prompts: *mut PioxidePrompts,
    instruction: *mut PioxideInstruction,
}

impl Handles {
    fn new() -> Self {
        let mut this = Self {
            codec: null_mut(),
            scratch: null_mut(),
            text: null_mut(),
            prompts: null_mut(),
            instruction: null_mut(),
        };
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../python/pioxide/demo/text.model");
        let model = std::fs::read(path).unwrap();
        let chunks: Vec<f64> = (0..8).flat_map(chunk).collect();
        let options = PioxidePromptOptions {
            struct_size: size_of::<PioxidePromptOptions>(),
            family: 2,
            style: 0,
            state_width: 0,
            fast_vocab: 300,
            fast_skipped: 128,
        };
        // SAFETY: every pointer leads to what the call says.
        unsafe {
            ok(pioxide_codec_fit(chunks.as_ptr(), 8, HORIZON, DIM, 300, 10.0, &raw mut this.codec));
            ok(pioxide_scratch_new(&raw mut this.scratch));
            ok(pioxide_text_from_bytes(model.as_ptr(), model.len(), &raw mut this.text));
            ok(pioxide_prompts_new(this.text, &raw const options, &raw mut this.prompts));
            ok(pioxide_prompts_tokenize(this.prompts, b"fold".as_ptr(), 4, &raw mut this.instruction));
        }
        this
    }
}

impl Drop for Handles {
    fn drop(&mut self) {
        // SAFETY: each was given once, and nothing uses it any more.
        unsafe {
            // Prompts keep the text that they need.
            pioxide_text_free(self.text);
            pioxide_instruction_free(self.instruction);
            pioxide_prompts_free(self.prompts);
            pioxide_scratch_free(self.scratch);
            pioxide_codec_free(self.codec);
        }
    }
}

fn chunk(seed: usize) -> Vec<f64> {
    (0..HORIZON * DIM).map(|i| ((i * 7 + seed * 13) as f64 * 0.11).sin()).collect()
}

fn last_error() -> &'static str {
    // SAFETY: it is text that ends in NUL, and is copied before the next call fails.
    let text = unsafe { CStr::from_ptr(pioxide_last_error()) };
    text.to_str().unwrap().to_owned().leak()
}

fn ok(status: PioxideStatus) {
    assert_eq!(status, PioxideStatus::Ok, "{}", last_error());
}

/// A call is refused, with words that name the reason.
fn refused(status: PioxideStatus, expected: PioxideStatus, word: &str) {
    assert_eq!(status, expected);
    let said = last_error();
    assert!(said.contains(word), "{said:?} does not say {word:?}");
}

#[test]
fn a_panic_becomes_a_status_and_breaks_the_handle_alone() {
    let handles = Handles::new();
    // SAFETY: the handle lives.
    let scratch = unsafe { &*handles.scratch };
    let status = guard(|| {
        let _room = exclusive("scratch", &scratch.0)?;
        panic!("told to")
    });
    refused(status, PioxideStatus::Internal, "told to");
    let mut count = 0;
    // SAFETY: every pointer leads to what the call says.
    let status = unsafe {
        crate::text::pioxide_text_encode(
            handles.text,
            handles.scratch,
            null(),
            0,
            null_mut(),
            0,
            &raw mut count,
        )
    };
    refused(status, PioxideStatus::Internal, "broken by an earlier fault");
}

#[test]
fn a_sentence_is_cut_where_it_is_too_long_and_holds_no_nul() {
    let long = "é\0".repeat(2000);
    let status = guard(|| Err(crate::status::invalid!("{long}")));
    assert_eq!(status, PioxideStatus::InvalidArgument);
    let said = last_error();
    assert!(said.starts_with("é?é?") && (1020..1024).contains(&said.len()));
}

#[test]
fn each_thread_has_its_own_sentence() {
    let _ = guard(|| Err(crate::status::invalid!("mine")));
    std::thread::spawn(|| assert_eq!(last_error(), "")).join().unwrap();
    assert_eq!(last_error(), "mine");
}
