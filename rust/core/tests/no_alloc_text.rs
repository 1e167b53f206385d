//! In a control loop the text side allocates nothing: encoding into a used scratch, prompts into the caller's buffers,
//! the way back into a vector that has grown.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/counting.rs"]
mod counting;

use std::fs;
use std::hint::black_box;
use std::sync::Arc;

use common::shared::in_repository;
use counting::allocations;
use pioxide_core::{
    FastIds, FastRow, Pi0FastPrompts, Pi0Prompts, Pi05Prompts, PromptOptions, PromptStyle, SentencePiece,
    TextScratch,
};

#[test]
fn the_count_counts() {
    assert_eq!(allocations(|| drop(black_box(vec![1, 2, 3]))), 1);
}

#[test]
fn nothing_is_allocated_in_the_steady_state() {
    let bytes = fs::read(in_repository("python/pioxide/demo/text.model")).unwrap();
    let text = Arc::new(SentencePiece::from_bytes(&bytes).unwrap());
    let (mut scratch, mut ids) = (TextScratch::default(), Vec::new());
    let texts =
        ["pick up the red cube, then 7 世界".to_owned(), "x".repeat(300), String::new(), "a b ".repeat(60)];
    let encode_all = |scratch: &mut TextScratch, ids: &mut Vec<u32>| {
        for line in &texts {
            ids.clear();
            text.encode_into(line, scratch, ids).unwrap();
        }
    };
    encode_all(&mut scratch, &mut ids);
    assert_eq!(allocations(|| encode_all(&mut scratch, &mut ids)), 0);

    let pi0 = Pi0Prompts::new(text.clone(), PromptStyle::OpenPi).unwrap();
    let pi05 = Pi05Prompts::new(text.clone(), PromptOptions::default()).unwrap();
    let fast = Pi0FastPrompts::new(text.clone(), FastIds::new(2048), PromptOptions::default()).unwrap();
    let tasks = [
        pi0.tokenize("pick up").unwrap(),
        pi05.tokenize("pick up").unwrap(),
        fast.tokenize("pick up").unwrap(),
    ];
    let (mut tokens, mut mask) = (vec![0; 250], vec![false; 250]);
    let (mut ar_mask, mut loss_mask) = (vec![0; 250], vec![false; 250]);
    let (state, actions) = ([0.25f32; 14], [5, 900, 1500]);
    let mut back = Vec::with_capacity(8);
    let count = allocations(|| {
        pi0.write_into(&tasks[0], &mut tokens, &mut mask).unwrap();
        pi05.write_into(&tasks[1], &state, &mut tokens, &mut mask).unwrap();
        fast.write_into(&tasks[2], &state, &mut tokens, &mut mask).unwrap();
        let row = FastRow {
            tokens: &mut tokens,
            mask: &mut mask,
            ar_mask: &mut ar_mask,
            loss_mask: &mut loss_mask,
        };
        fast.write_training_into(&tasks[2], &state, &actions, row).unwrap();
        fast.fast_ids(&tokens, &mut back).unwrap();
    });
    assert_eq!((count, back.as_slice()), (0, &actions[..]));
}
