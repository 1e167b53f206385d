//! The demo's vocabulary against the `sentencepiece` package and the reference prompts, as recorded in
//! `tests/golden/text.json` by `tools/record_text_golden.py`.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::sync::Arc;

use common::shared::in_repository;
use pioxide_core::{
    FastIds, FastRow, Pi0FastPrompts, Pi0Prompts, Pi05Prompts, PromptOptions, PromptStyle, SentencePiece,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    pieces: Vec<Encoded>,
    ids: Vec<Decoded>,
    prompts: Vec<Prompt>,
}

#[derive(Deserialize)]
struct Encoded {
    text: String,
    ids: Vec<u32>,
    decoded: String,
}

#[derive(Deserialize)]
struct Decoded {
    ids: Vec<u32>,
    decoded: String,
}

#[derive(Deserialize)]
struct Prompt {
    text: String,
    state: Vec<f64>,
    max_len: usize,
    actions: Vec<u32>,
    pi0: Vec<i32>,
    pi0_length: usize,
    pi05: Vec<i32>,
    pi05_length: usize,
    fast: Vec<i32>,
    fast_length: usize,
    training: Vec<i32>,
    training_length: usize,
}

fn golden() -> Golden {
    serde_json::from_slice(&fs::read(in_repository("tests/golden/text.json")).unwrap()).unwrap()
}

fn demo() -> Arc<SentencePiece> {
    let bytes = fs::read(in_repository("python/pioxide/demo/text.model")).unwrap();
    Arc::new(SentencePiece::from_bytes(&bytes).unwrap())
}

#[test]
fn ids_and_texts_equal_the_packages() {
    let (golden, text) = (golden(), demo());
    assert!(golden.pieces.len() > 80);
    for case in &golden.pieces {
        assert_eq!(text.encode(&case.text).unwrap(), case.ids, "{:?}", case.text);
        assert_eq!(text.decode(&case.ids).unwrap(), case.decoded, "{:?}", case.text);
        assert_eq!(case.decoded, case.text.replace('\u{2581}', " "));
    }
    for case in &golden.ids {
        assert_eq!(text.decode(&case.ids).unwrap(), case.decoded, "{:?}", case.ids);
    }
}

#[test]
fn the_demos_vocabulary_is_laid_out_as_paligemmas() {
    let text = demo();
    assert_eq!((text.pad(), text.eos(), text.bos(), text.unk()), (Some(0), Some(1), Some(2), 3));
    let last = text.vocab_size() as u32 - 1;
    assert_eq!((text.piece(last), text.piece(last - 127)), (Some("<seg127>"), Some("<seg000>")));
    assert_eq!(
        (text.piece(last - 128), text.piece(last - 128 - 1023)),
        (Some("<loc1023>"), Some("<loc0000>"))
    );
    assert_eq!(text.encode("\n").unwrap().len(), 1);
    assert!(Pi05Prompts::new(text.clone(), PromptOptions::default()).unwrap().uses_table());
    assert!(Pi0FastPrompts::new(text, FastIds::new(2048), PromptOptions::default()).unwrap().uses_table());
}

#[test]
fn prompts_equal_the_reference_stacks() {
    let (golden, text) = (golden(), demo());
    let pi0 = Pi0Prompts::new(text.clone(), PromptStyle::OpenPi).unwrap();
    let pi05 = Pi05Prompts::new(text.clone(), PromptOptions::default()).unwrap();
    let fast = Pi0FastPrompts::new(text, FastIds::new(2048), PromptOptions::default()).unwrap();
    assert!(golden.prompts.iter().any(|case| case.training_length > case.max_len));
    for case in &golden.prompts {
        let size = case.max_len;
        let (mut tokens, mut mask) = (vec![-1; size], vec![false; size]);
        let check =
            |tokens: &[i32], mask: &[bool], written: pioxide_core::Written, ids: &[i32], length: usize| {
                let used = length.min(size);
                assert_eq!((written.length, written.truncated), (length, length > size), "{:?}", case.text);
                assert_eq!(&tokens[..used], ids, "{:?}", case.text);
                assert!(tokens[used..].iter().all(|&id| id == 0));
                assert!(mask.iter().enumerate().all(|(at, &real)| real == (at < used)));
            };
        let written = pi0.write_into(&pi0.tokenize(&case.text).unwrap(), &mut tokens, &mut mask).unwrap();
        check(&tokens, &mask, written, &case.pi0, case.pi0_length);
        let task = pi05.tokenize(&case.text).unwrap();
        let written = pi05.write_into(&task, &case.state, &mut tokens, &mut mask).unwrap();
        check(&tokens, &mask, written, &case.pi05, case.pi05_length);
        let task = fast.tokenize(&case.text).unwrap();
        let written = fast.write_into(&task, &case.state, &mut tokens, &mut mask).unwrap();
        check(&tokens, &mask, written, &case.fast, case.fast_length);
        let (mut ar_mask, mut loss_mask) = (vec![-1; size], vec![false; size]);
        let row = FastRow {
            tokens: &mut tokens,
            mask: &mut mask,
            ar_mask: &mut ar_mask,
            loss_mask: &mut loss_mask,
        };
        let written = fast.write_training_into(&task, &case.state, &case.actions, row).unwrap();
        check(&tokens, &mask, written, &case.training, case.training_length);
        for at in 0..size {
            let lossy = (case.fast_length..case.training_length.min(size)).contains(&at);
            assert_eq!((loss_mask[at], ar_mask[at]), (lossy, i32::from(lossy)), "{:?} at {at}", case.text);
        }
        if case.training_length <= size {
            let mut back = vec![99];
            fast.fast_ids(&tokens[case.fast_length..], &mut back).unwrap();
            assert_eq!(back[1..], case.actions, "{:?}", case.text);
        }
    }
}
