//! The demo's vocabulary against the `sentencepiece` package and the reference prompts, as recorded in
//! `tests/golden/text.json` by `tools/record_text_golden.py`.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::sync::Arc;

use common::shared::in_repository;
use pioxide_core::{
    Error, FastIds, FastRow, Pi0FastPrompts, Pi0Prompts, Pi05Prompts, PromptOptions, PromptStyle,
    SentencePiece, SubtaskOptions, SubtaskPrompts,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    pieces: Vec<Encoded>,
    ids: Vec<Decoded>,
    prompts: Vec<Prompt>,
    subtasks: Vec<Subtask>,
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

#[derive(Deserialize)]
struct Subtask {
    text: String,
    state: Vec<f64>,
    reads_state: bool,
    state_width: Option<usize>,
    question: Vec<i32>,
    answer: Option<Vec<i32>>,
    written: Vec<i32>,
    said: Option<String>,
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

#[test]
fn questions_for_subtasks_and_answers_equal_the_packages() {
    let (golden, text) = (golden(), demo());
    assert!(golden.subtasks.len() > 40);
    for case in &golden.subtasks {
        let options = SubtaskOptions { reads_state: case.reads_state, state_width: case.state_width };
        let prompts = SubtaskPrompts::new(text.clone(), options).unwrap();
        let length = case.question.len();
        for size in [length + 3, length / 2] {
            let (mut tokens, mut mask) = (vec![-1; size], vec![false; size]);
            let written = prompts.encode_into(&case.text, &case.state, &mut tokens, &mut mask).unwrap();
            assert_eq!((written.length, written.truncated), (length, size < length));
            let used = length.min(size);
            assert_eq!(tokens[..used], case.question[..used], "{:?}", case.text);
            assert_eq!(tokens[used..].iter().sum::<i32>(), 0);
            assert_eq!(mask.iter().filter(|&&counts| counts).count(), used);
        }
        assert_eq!(prompts.answer(&case.text).ok(), case.answer, "{:?}", case.text);
        let read = prompts.read(&case.written);
        assert_eq!(read.as_ref().ok(), case.said.as_ref(), "{:?}", case.text);
        assert!(case.said.is_some() || matches!(read, Err(Error::NoSubtask { ended: false, .. })));
    }
}

#[test]
fn what_is_no_subtask_is_refused_and_instructions_are_not_mixed_up() {
    let text = demo();
    let prompts = SubtaskPrompts::new(text.clone(), SubtaskOptions::default()).unwrap();
    let answer = prompts.answer("pick up_the cup").unwrap();
    assert_eq!(prompts.read(&answer).as_deref(), Ok("pick up the cup"));
    assert_eq!(prompts.read(&[prompts.end()]).unwrap_err().to_string(), "no text");
    let open = prompts.read(&answer[..answer.len() - 1]).unwrap_err().to_string();
    assert!(open.starts_with("no end after") && open.ends_with("but \"pick up the cup\""), "{open}");
    assert!(matches!(prompts.read(&[-1, prompts.end()]), Err(Error::Argument { what: "ids", .. })));
    let actions = Pi05Prompts::new(text.clone(), PromptOptions::default()).unwrap();
    let options = SubtaskOptions { reads_state: false, state_width: None };
    let stateless = SubtaskPrompts::new(text, options).unwrap();
    let (mut tokens, mut mask) = ([0; 60], [false; 60]);
    for other in [actions.tokenize("go").unwrap(), stateless.tokenize("go").unwrap()] {
        let error = prompts.write_into(&other, &[0.5], &mut tokens, &mut mask).unwrap_err().to_string();
        assert!(error.ends_with("prompts, not for subtask ones"), "{error}");
    }
    // Where the text holds no state, none is looked at.
    let go = stateless.tokenize("go").unwrap();
    stateless.write_into(&go, &[f64::NAN], &mut tokens, &mut mask).unwrap();
}
