//! A `contract.json` that Python wrote is read, and computes what Python was recorded to compute, bit for bit; what Python
//! refuses is refused; and in the steady state nothing is allocated.
#![allow(clippy::unwrap_used)]

#[path = "common/counting.rs"]
mod counting;

use std::sync::{Arc, LazyLock};

use counting::allocations;
use pioxide_core::{
    AdvantageStyle, Contract, Error, FastCodec, Float, Numbers, PromptBatches, PromptRows, SentencePiece,
    SubtaskStyle, Written,
};
use serde_json::{Value, json};

static GOLDEN: LazyLock<Value> = LazyLock::new(|| {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/contract/contract.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
});

fn cases() -> impl Iterator<Item = (&'static str, Contract, &'static Value)> {
    GOLDEN["cases"].as_array().unwrap().iter().map(|case| {
        let contract = Contract::from_json(case["document"].to_string().as_bytes()).unwrap();
        (case["name"].as_str().unwrap(), contract, case)
    })
}

fn case(name: &str) -> Contract {
    cases().find(|(known, ..)| *known == name).unwrap().1
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

fn text() -> Arc<SentencePiece> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../python/pioxide/demo/text.model");
    Arc::new(SentencePiece::from_bytes(&std::fs::read(path).unwrap()).unwrap())
}

fn codec(vocab_size: usize) -> FastCodec {
    let value = |at: usize| 0.8 * (at as f64 / 7.0).sin();
    let chunks: Vec<Vec<f64>> = (0..12).map(|n| (n * 48..(n + 1) * 48).map(value).collect()).collect();
    let shaped: Vec<_> = chunks.iter().map(|values| (values.as_slice(), 16, 3)).collect();
    let options = pioxide_core::FitOptions { vocab_size, scale: 0.1 + 0.2, ..Default::default() };
    FastCodec::fit(&shaped, &options).unwrap()
}

/// The same bits; on ALOHA, whose gripper's angle is an arc sine, up to four steps between neighbouring numbers.
fn same(name: &str, what: &str, found: &[f64], recorded: &[f64]) {
    assert_eq!(found.len(), recorded.len());
    let steps = if name.contains("ALOHA") { 4 } else { 0 };
    for (at, (one, other)) in found.iter().zip(recorded).enumerate() {
        let apart = one.to_bits().abs_diff(other.to_bits());
        assert!(apart <= steps, "{name}: {what} {at} is {one:?}, recorded {other:?}");
    }
}

fn check_call<T: Float>(name: &str, computed: &Numbers, call: &Value) {
    let typed = |key: &str| numbers(&call[key]).into_iter().map(T::from_f64).collect::<Vec<T>>();
    let (state, actions, answer) = (typed("state"), typed("actions"), typed("answer"));
    let mut normalised = vec![0.0; state.len()];
    computed.apply_state(&state, &mut normalised).unwrap();
    same(name, "normalised_state", &normalised, &numbers(&call["normalised_state"]));
    let mut chunk = vec![0.0; actions.len()];
    computed.apply_actions(&actions, &state, &mut chunk).unwrap();
    same(name, "normalised_actions", &chunk, &numbers(&call["normalised_actions"]));
    computed.invert_actions(&answer, computed.action_dim() + 2, &state, &mut chunk).unwrap();
    same(name, "robot_actions", &chunk, &numbers(&call["robot_actions"]));
}

#[test]
fn numbers_are_those_that_python_computes() {
    for (name, contract, case) in cases() {
        let computed = Numbers::of(&contract).unwrap();
        assert_eq!(computed.action_dim() as u64, case["numbers"]["action_dim"].as_u64().unwrap());
        assert_eq!(computed.state_dim(), contract.robot.as_ref().unwrap().state_dim);
        for call in case["numbers"]["calls"].as_array().unwrap() {
            if call["single"].as_bool().unwrap() {
                check_call::<f32>(name, &computed, call);
            } else {
                check_call::<f64>(name, &computed, call);
            }
        }
    }
}

#[test]
fn prompts_are_those_that_python_writes_one_by_one_and_in_batches() {
    let (text, tasks) = (text(), GOLDEN["tasks"].as_array().unwrap());
    for (name, contract, case) in cases() {
        let prompts = Arc::new(contract.prompts(text.clone()).unwrap());
        let (dim, len) = (Numbers::of(&contract).unwrap().state_dim(), contract.text_len.unwrap());
        // `numpy.linspace(-1.1, 1.1, dim)`
        let step = 2.2 / (dim - 1) as f64;
        let mut state: Vec<f64> = (0..dim).map(|at| at as f64 * step - 1.1).collect();
        state[dim - 1] = 1.1;
        let (mut tokens, mut mask) = (vec![0; tasks.len() * len], vec![false; tasks.len() * len]);
        let (mut lengths, mut truncated) = (vec![0; tasks.len()], vec![true; tasks.len()]);
        let rows = PromptRows {
            tokens: &mut tokens,
            mask: &mut mask,
            lengths: &mut lengths,
            truncated: &mut truncated,
        };
        let mut batches = PromptBatches::new(prompts.clone(), 2).unwrap();
        let texts = tasks.iter().map(|task| task.as_str().unwrap());
        batches.encode_into(texts, &state.repeat(tasks.len()), rows, &mut || true).unwrap();
        assert_eq!((batches.remembered(), truncated.contains(&true)), (2, false));
        for (row, (task, recorded)) in tasks.iter().zip(case["prompts"].as_array().unwrap()).enumerate() {
            let instruction = prompts.tokenize(task.as_str().unwrap()).unwrap();
            let (mut alone, mut mask) = (vec![0; len], vec![false; len]);
            let Written { length, .. } =
                prompts.write_into(&instruction, &state, &mut alone, &mut mask).unwrap();
            assert_eq!(json!(alone[..length]), *recorded, "{name}: {task}");
            assert_eq!(tokens[row * len..][..len], alone);
            assert_eq!(lengths[row] as usize, length);
        }
    }
}

#[test]
fn the_tokenizer_is_known_by_its_fingerprint() {
    let contract = case("π0-FAST");
    assert_eq!(codec(300).fingerprint().unwrap(), GOLDEN["fingerprint"].as_str().unwrap());
    contract.check_codec(&codec(300)).unwrap();
    let error = contract.check_codec(&codec(270)).unwrap_err().to_string();
    assert!(error.contains("its ids mean other actions"), "{error}");
    let error = case("another codec").check_codec(&codec(300)).unwrap_err().to_string();
    assert!(error.contains("binning tokenizer abababababab"), "{error}");
    let error = case("LeRobot's identity").check_codec(&codec(300)).unwrap_err().to_string();
    assert!(error.contains("no action tokens"), "{error}");
}

#[test]
fn what_python_refuses_is_refused_by_name() {
    for spoilt in GOLDEN["refused"].as_array().unwrap() {
        let mut document = GOLDEN["cases"][0]["document"].clone();
        let place: Vec<&str> =
            spoilt["place"].as_array().unwrap().iter().map(|x| x.as_str().unwrap()).collect();
        let last = place.iter().fold(&mut document, |inner, name| &mut inner[*name]);
        *last = spoilt["value"].clone();
        let error = Contract::from_json(document.to_string().as_bytes()).unwrap_err().to_string();
        let word = spoilt["word"].as_str().unwrap();
        assert!(error.starts_with("contract.json: ") && error.contains(word), "{spoilt}: {error}");
    }
}

/// The text of a document with other texts in some places; "" takes away what is there.
fn with_texts(document: &Value, spoilt: &[(&Value, &str)]) -> String {
    let mut document = document.clone();
    for (number, (place, text)) in spoilt.iter().enumerate() {
        let (last, path) = place.as_array().unwrap().split_last().unwrap();
        let inner = path.iter().fold(&mut document, |inner, name| match name {
            Value::String(name) => &mut inner[name.as_str()],
            _ => &mut inner[0],
        });
        let mark = json!(format!("@{number}"));
        match (inner, last) {
            (Value::Object(fields), Value::String(name)) if text.is_empty() => drop(fields.remove(name)),
            (Value::Object(fields), Value::String(name)) => drop(fields.insert(name.clone(), mark)),
            (Value::Array(items), _) if text.is_empty() => drop(items.remove(0)),
            (Value::Array(items), _) => items[0] = mark,
            other => panic!("{other:?}"),
        }
    }
    let written = document.to_string();
    let texts = spoilt.iter().enumerate();
    texts.fold(written, |written, (number, (_, text))| written.replace(&format!("\"@{number}\""), text))
}

/// A place in a document, and the text that stands there instead.
type Change<'a> = (&'a Value, &'a str);

#[test]
fn what_python_reads_is_read_and_nothing_else() {
    let verdicts = &GOLDEN["verdicts"];
    let list = |value: &'static Value| value.as_array().unwrap();
    let palette: Vec<&str> = list(&verdicts["palette"]).iter().map(|text| text.as_str().unwrap()).collect();
    let mut spoilt: Vec<(&Value, Vec<Change>, char)> = Vec::new();
    for one in list(&verdicts["alone"]) {
        let read = one["read"].as_str().unwrap().chars();
        spoilt.extend(
            palette.iter().zip(read).map(|(text, read)| (&one["case"], vec![(&one["place"], *text)], read)),
        );
    }
    for two in list(&verdicts["pairs"]) {
        let text =
            |one: &'static Value| (&one[0], palette[usize::try_from(one[1].as_u64().unwrap()).unwrap()]);
        let read = two["read"].as_str().unwrap().chars().next().unwrap();
        spoilt.push((&two["case"], list(&two["spoilt"]).iter().map(text).collect(), read));
    }
    let mut apart = Vec::new();
    for (name, changes, read) in &spoilt {
        let case = list(&GOLDEN["cases"]).iter().find(|case| case["name"] == **name).unwrap();
        let found = Contract::from_json(with_texts(&case["document"], changes).as_bytes());
        if found.is_ok() != (*read == '+') {
            apart.push(format!("{name}, {changes:?}: Python {read}, here {:?}", found.err()));
        }
    }
    assert!(spoilt.len() > 5000 && apart.is_empty(), "{} differ:\n{}", apart.len(), apart.join("\n"));
}

#[test]
fn what_is_no_contract_is_refused() {
    for (content, word) in [
        ("", "EOF"),
        ("[]", "an object"),
        ("{}", "no version"),
        (r#"{"version": 1}"#, "unknown"),
        (r#"{"version": 1, "version": 1, "unknown": []}"#, "stands twice"),
        (r#"{"version": 1, "unknown": []}"#, "\"family\" must be stated"),
    ] {
        let error = Contract::from_json(content.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(word), "{content}: {error}");
    }
    let deep = format!("{{\"version\": 1, \"a\": {}", "[".repeat(100_000));
    assert!(Contract::from_json(deep.as_bytes()).unwrap_err().to_string().contains("recursion"));
    let many = format!("{{\"delta_mask\": [{}1]}}", "65536, ".repeat(3));
    assert!(Contract::from_json(many.as_bytes()).is_err());
}

#[test]
fn a_contract_that_does_not_say_enough_names_what_it_lacks() {
    let all = "family robot cameras absent_camera delta_mask state_norm action_norm norm_stats state_in_text \
               state_text_dim prompt_style text_len default_prompt action_horizon model_dim num_steps play_steps \
               image_size resize fast max_delay memory";
    let unknown: Vec<&str> = all.split_whitespace().collect();
    let empty =
        Contract::from_json(json!({"version": 1, "unknown": unknown}).to_string().as_bytes()).unwrap();
    assert_eq!(empty, Contract::default());
    assert!(Numbers::of(&empty).unwrap_err().to_string().contains("does not say robot"));
    assert!(empty.prompts(text()).unwrap_err().to_string().contains("does not say family"));
    assert!(empty.instruction(" \n").unwrap_err().to_string().contains("no instruction"));
    assert_eq!(case("π0.5 without a state").subtask_style, Some(Some(SubtaskStyle::Instead)));
    assert_eq!(case("π0.5 with an advantage").advantage_style, Some(Some(AdvantageStyle::Text)));
    let memory = case("π0.5 without a state").memory.flatten().unwrap();
    assert_eq!((memory.frames, memory.stride, memory.every), (6, 0.5, 4));
    assert_eq!(case("π0-FAST").instruction(" \x1f"), Ok("fold"));
    assert_eq!(case("π0-FAST").instruction("hand over"), Ok("hand over"));
}

#[test]
fn statistics_of_another_robot_and_masks_across_joints_are_refused() {
    let mut contract = case("LeRobot's min_max");
    let robot = contract.robot.as_mut().unwrap();
    robot.state_names = ["b", "a", "c", "d"].map(str::to_owned).to_vec();
    let error = Numbers::of(&contract).unwrap_err().to_string();
    assert!(error.contains("action 0 (a) relative to state 0 (b)"), "{error}");
    let mut contract = case("π0.5 with quantiles and relative actions");
    contract.robot.as_mut().unwrap().action_dim = 5;
    let error = Numbers::of(&contract).unwrap_err().to_string();
    assert!(error.contains("cover 6 numbers, and the robot has 5"), "{error}");
}

#[test]
fn numbers_that_can_not_be_used_are_named() {
    let computed = Numbers::of(&case("π0.5 with quantiles and relative actions")).unwrap();
    let (mut state, mut out, mut actions) = ([0.0; 6], [0.0; 6], [0.0; 12]);
    state[2] = f64::NAN;
    let error = computed.apply_state(&state, &mut out).unwrap_err();
    assert!(matches!(error, Error::NotFinite { joint: 2, .. }));
    state[2] = 1e300;
    let error = computed.apply_state(&state, &mut out).unwrap_err();
    assert!(matches!(error, Error::Unusable { joint: 2, step: None, .. }), "{error}");
    state[2] = 0.0;
    let mut answer = [0.0_f32; 64];
    answer[32 + 3] = f32::INFINITY;
    let error = computed.invert_actions(&answer, 32, &state, &mut actions).unwrap_err();
    assert_eq!(error.to_string(), "the model's actions: joint 3 of step 1 is inf");
    let far = [f64::MAX; 64];
    let error = computed.invert_actions(&far, 32, &state, &mut actions).unwrap_err();
    assert!(error.to_string().starts_with("actions: joint"), "{error}");
    answer[32 + 3] = 0.0;
    // What is beyond the robot's numbers was padding.
    answer[32 + 7] = f32::NAN;
    computed.invert_actions(&answer, 32, &state, &mut actions).unwrap();
    for (width, room) in [(5, 12), (32, 11), (31, 12), (0, 12)] {
        let error = computed.invert_actions(&answer, width, &state, &mut actions[..room]).unwrap_err();
        assert!(matches!(error, Error::Shape { .. }), "{error}");
    }
    assert!(computed.invert_actions(&[0.0; 0], 32, &state, &mut actions).is_err());
    assert!(computed.apply_actions(&actions, &state[..5], &mut [0.0; 12]).is_err());
}

#[test]
fn nothing_is_allocated_in_the_steady_state() {
    let contract = case("π0.5 with quantiles and relative actions");
    let computed = Numbers::of(&contract).unwrap();
    let mut batches = PromptBatches::new(Arc::new(contract.prompts(text()).unwrap()), 4).unwrap();
    let (state, answer) = ([0.25_f32; 6], [0.5_f32; 4 * 32]);
    let (mut normalised, mut actions, mut back) = ([0.0; 6], [0.0; 24], [0.0; 24]);
    let (mut tokens, mut mask) = (vec![0; 400], vec![false; 400]);
    let (mut lengths, mut truncated) = ([0; 2], [false; 2]);
    let mut tick = |batches: &mut PromptBatches| {
        computed.apply_state(&state, &mut normalised).unwrap();
        computed.apply_actions(&[0.5; 24], &state, &mut actions).unwrap();
        computed.invert_actions(&answer, 32, &state, &mut back).unwrap();
        assert!(computed.apply_state(&[f32::NAN; 6], &mut normalised).is_err());
        assert!(computed.invert_actions(&[f32::NAN; 128], 32, &state, &mut back).is_err());
        let rows = PromptRows {
            tokens: &mut tokens,
            mask: &mut mask,
            lengths: &mut lengths,
            truncated: &mut truncated,
        };
        batches.encode_into(["fold", "hand over"].into_iter(), &[0.1; 12], rows, &mut || true).unwrap();
    };
    tick(&mut batches);
    assert_eq!(allocations(|| (0..20).for_each(|_| tick(&mut batches))), 0);
    assert!(back.iter().all(|x| x.is_finite()));
}
