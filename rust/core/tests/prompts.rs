//! Prompts against what openpi recorded, and what the three formats do at their edges.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::sync::Arc;

use common::shared::{in_reference, in_repository};
use pioxide_core::{
    FastIds, FastRow, Pi0FastPrompts, Pi0Prompts, Pi05Prompts, PromptOptions, PromptStyle, SentencePiece,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    kind: String,
    max_len: usize,
    prompt: String,
    state: Vec<f64>,
    state_dtype: String,
    tokens: Vec<i32>,
    length: usize,
    ar_mask: Option<String>,
    loss_mask: Option<String>,
}

fn cases(path: &std::path::Path) -> Vec<Case> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn bits(mask: &[bool]) -> String {
    mask.iter().map(|&bit| if bit { '1' } else { '0' }).collect()
}

/// The FAST ids of a recorded training row. A truncated row lost its end, so it gets one that overruns it too.
fn recorded_actions(case: &Case, marker: &[i32], bar: i32, first: i32) -> Vec<u32> {
    let loss = case.loss_mask.as_ref().unwrap();
    let (start, end) = match (loss.find('1'), loss.rfind('1')) {
        (Some(start), Some(end)) => (start, end + 1),
        _ => return vec![7; case.max_len],
    };
    let suffix = &case.tokens[start..end.min(case.tokens.len())];
    let Some(ids) = suffix.strip_prefix(marker) else { return vec![7; case.max_len] };
    let cut = end == case.max_len && ids.last() != Some(&1);
    let ids: Vec<u32> = ids.iter().take_while(|&&id| id != bar).map(|&id| (first - id) as u32).collect();
    if cut { [ids, vec![7; case.max_len]].concat() } else { ids }
}

fn check(text: &Arc<SentencePiece>, cases: &[Case]) {
    let pi0 = Pi0Prompts::new(text.clone(), PromptStyle::OpenPi).unwrap();
    let pi05 = Pi05Prompts::new(text.clone(), PromptOptions::default()).unwrap();
    let fast = Pi0FastPrompts::new(text.clone(), FastIds::new(2048), PromptOptions::default()).unwrap();
    assert!(pi05.uses_table() && fast.uses_table());
    for (number, case) in cases.iter().enumerate() {
        let size = case.max_len;
        let (mut tokens, mut mask) = (vec![-1; size], vec![false; size]);
        let (mut ar, mut loss) = (vec![-1; size], vec![false; size]);
        let narrow: Vec<f32> = case.state.iter().map(|&x| x as f32).collect();
        let single = case.state_dtype == "float32";
        let written = match case.kind.as_str() {
            "pi0" => pi0.write_into(&pi0.tokenize(&case.prompt).unwrap(), &mut tokens, &mut mask),
            "pi05" => {
                let task = pi05.tokenize(&case.prompt).unwrap();
                match single {
                    true => pi05.write_into(&task, &narrow, &mut tokens, &mut mask),
                    false => pi05.write_into(&task, &case.state, &mut tokens, &mut mask),
                }
            }
            "pi0_fast" => {
                let task = fast.tokenize(&case.prompt).unwrap();
                match single {
                    true => fast.write_into(&task, &narrow, &mut tokens, &mut mask),
                    false => fast.write_into(&task, &case.state, &mut tokens, &mut mask),
                }
            }
            "pi0_fast_train" => {
                let task = fast.tokenize(&case.prompt).unwrap();
                let actions = recorded_actions(case, &[4022, 235292, 235248], 235371, 257023);
                let row =
                    FastRow { tokens: &mut tokens, mask: &mut mask, ar_mask: &mut ar, loss_mask: &mut loss };
                fast.write_training_into(&task, &case.state, &actions, row)
            }
            other => panic!("case {number} is of unknown kind {other}"),
        }
        .unwrap();
        let used = written.length.min(size);
        assert_eq!(
            &tokens[..used],
            &case.tokens[..used.min(case.tokens.len())],
            "case {number}: {:?}",
            case.prompt
        );
        assert_eq!(used, case.length, "case {number}");
        assert!(tokens[used..].iter().all(|&id| id == 0), "case {number}");
        assert_eq!(bits(&mask), "1".repeat(used) + &"0".repeat(size - used), "case {number}");
        if case.kind == "pi0_fast_train" {
            assert_eq!(&bits(&loss), case.loss_mask.as_ref().unwrap(), "case {number}");
            let ar: String = ar.iter().map(i32::to_string).collect();
            assert_eq!(&ar, case.ar_mask.as_ref().unwrap(), "case {number}");
        }
    }
}

#[test]
fn recorded_prompts_come_out_id_for_id() {
    let Some(model) = in_reference("reference/paligemma_tokenizer.model") else { return };
    let text = Arc::new(SentencePiece::from_bytes(&fs::read(model).unwrap()).unwrap());
    check(&text, &cases(&in_repository("tests/golden/prompts.jsonl")));
    if let Some(all) = in_reference("reference/prompts.jsonl") {
        check(&text, &cases(&all));
    }
}
