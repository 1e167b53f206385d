//! The targets of `rust/fuzz` without a fuzzer: on its corpus, and on what is left of the corpus when it is broken at
//! random. Overflow checks are on in tests. `PIOXIDE_MUTATIONS=100000 cargo test --release --test fuzz_targets` looks
//! longer.
#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub)]

#[path = "../../fuzz/src/lib.rs"]
mod fuzz;

use std::fs;
use std::path::{Path, PathBuf};

use fuzz::Random;

/// What numbers in a file are replaced by.
const NUMBERS: [&[u8]; 12] = [
    b"0",
    b"-1",
    b"1e308",
    b"1e-320",
    b"-9223372036854775808",
    b"9223372036854775807",
    b"18446744073709551615",
    b"4294967296",
    b"1048576",
    b"null",
    b"[[[[",
    b"\"\\ud800\"",
];

/// Mutations a target.
fn mutations() -> usize {
    std::env::var("PIOXIDE_MUTATIONS").ok().and_then(|count| count.parse().ok()).unwrap_or(2000)
}

/// Some input with a few places broken.
fn mutated(input: &[u8], random: &mut Random) -> Vec<u8> {
    let mut input = input.to_vec();
    for _ in 0..=random.below(3) {
        let (at, other) = (random.below(input.len()), random.below(input.len()));
        match random.below(6) {
            0 => input.truncate(at),
            1 => input.splice(at..at, NUMBERS[random.below(NUMBERS.len())].iter().copied()).for_each(drop),
            2 => drop(input.drain(at..(at + random.below(40)).min(input.len()))),
            3 => {
                let piece = input[other..(other + random.below(40)).min(input.len())].to_vec();
                input.splice(at..at, piece).for_each(drop);
            }
            4 => {
                // The digits at or after a place become another number.
                let start = at + input[at..].iter().position(u8::is_ascii_digit).unwrap_or(0);
                let end = start + input[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                let number = NUMBERS[random.below(NUMBERS.len())];
                input.splice(start..end, number.iter().copied()).for_each(drop);
            }
            _ => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
        }
        if input.is_empty() {
            break;
        }
    }
    input
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{target} has a corpus");
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// Runs a target on its corpus and on what becomes of it; an input that it fails on is left in a file.
fn search(target: &str) {
    let run = fuzz::TARGETS.iter().find(|(name, _)| *name == target).unwrap().1;
    let corpus = corpus(target);
    let mut random = Random::of(target.as_bytes());
    let mutants = (0..mutations()).map(|_| mutated(&corpus[random.below(corpus.len())], &mut random));
    for input in corpus.iter().cloned().chain(mutants) {
        if let Err(panic) = std::panic::catch_unwind(|| run(&input)) {
            let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("failing_{target}"));
            fs::write(&path, &input).unwrap();
            eprintln!("{target} fails on {}", path.display());
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn any_chunk_is_encoded_and_comes_back() {
    search("chunks");
}

#[test]
fn any_contract_is_refused_or_computes_numbers() {
    search("contract");
}

#[test]
fn any_ids_are_what_they_spell_or_an_error() {
    search("token_ids");
}

#[test]
fn any_tokenizer_json_is_refused_or_works() {
    search("tokenizer_json");
}

#[test]
fn any_processor_config_is_refused_or_works() {
    search("processor_config");
}

#[test]
fn any_text_model_is_refused_or_works() {
    search("text_model");
}

#[test]
fn any_prompt_is_whole_cut_and_batched_alike() {
    search("prompts");
}
