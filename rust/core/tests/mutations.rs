//! Files that were broken at random, and what is done with those that still read: nothing panics, overflows (overflow
//! checks are on in tests) or hangs. `PIOXIDE_MUTATIONS=1000000 cargo test --release --test mutations` looks longer.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use pioxide_core::{
    FastCodec, FastIds, FastScratch, FitOptions, OnOverflow, Partial, Pi0FastPrompts, PromptOptions,
    PromptStyle, SentencePiece,
};

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

fn cases() -> usize {
    std::env::var("PIOXIDE_MUTATIONS").ok().and_then(|count| count.parse().ok()).unwrap_or(400)
}

/// Numbers without end, the same in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, most: usize) -> usize {
        (self.next() % most.max(1) as u64) as usize
    }
}

/// A file with a few places broken.
fn mutated(file: &[u8], random: &mut Random) -> Vec<u8> {
    let mut file = file.to_vec();
    for _ in 0..=random.below(3) {
        let (at, other) = (random.below(file.len()), random.below(file.len()));
        match random.below(6) {
            0 => file.truncate(at),
            1 => file.splice(at..at, NUMBERS[random.below(NUMBERS.len())].iter().copied()).for_each(drop),
            2 => drop(file.drain(at..(at + random.below(40)).min(file.len()))),
            3 => {
                let piece = file[other..(other + random.below(40)).min(file.len())].to_vec();
                file.splice(at..at, piece).for_each(drop);
            }
            4 => {
                // The digits at or after a place become another number.
                let start = at + file[at..].iter().position(u8::is_ascii_digit).unwrap_or(0);
                let end = start + file[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                let number = NUMBERS[random.below(NUMBERS.len())];
                file.splice(start..end, number.iter().copied()).for_each(drop);
            }
            _ => {
                if let Some(byte) = file.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
        }
        if file.is_empty() {
            break;
        }
    }
    file
}

/// Encodes and decodes with a tokenizer, whatever it is.
fn use_codec(codec: &FastCodec, random: &mut Random) {
    let (dim, horizon) = (1 + random.below(5), 1 + random.below(40));
    let chunk: Vec<f64> = (0..dim * horizon).map(|_| (random.next() % 2001) as f64 / 500.0 - 2.0).collect();
    let (plan, mut scratch, mut ids) = (codec.plan(horizon).unwrap(), FastScratch::default(), Vec::new());
    let mut back = vec![0.0; chunk.len()];
    if codec.encode_into(&plan, &chunk, dim, OnOverflow::Clip, &mut scratch, &mut ids).is_ok() {
        let missing = codec.decode_into(&plan, &ids, dim, Partial::Error, &mut scratch, &mut back);
        assert_eq!(missing, Ok(0), "what was encoded decodes");
        assert!(back.iter().all(|x| x.is_finite()));
    }
    let wild: Vec<u32> = (0..random.below(60)).map(|_| random.next() as u32 % 1200).collect();
    let _ = codec.decode_into(&plan, &wild, dim, Partial::Pad, &mut scratch, &mut back);
    let again = codec.files(Some(horizon), Some(dim)).unwrap();
    FastCodec::from_json(again.tokenizer_json.as_bytes(), again.processor_config.as_bytes()).unwrap();
}

fn fitted() -> FastCodec {
    let chunk = |n: usize| (0..64).map(|i| ((n * n + i) as f64 / 7.0).sin()).collect::<Vec<f64>>();
    let chunks: Vec<Vec<f64>> = (0..12).map(chunk).collect();
    let shaped: Vec<_> = chunks.iter().map(|values| (values.as_slice(), 16, 4)).collect();
    FastCodec::fit(&shaped, &FitOptions { vocab_size: 300, ..FitOptions::default() }).unwrap()
}

#[test]
fn broken_tokenizers_are_refused_or_work() {
    let files = fitted().files(Some(16), Some(4)).unwrap();
    let (vocabulary, settings) = (files.tokenizer_json.as_bytes(), files.processor_config.as_bytes());
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut read = 0;
    for case in 0..cases() {
        let codec = if case % 2 == 0 {
            FastCodec::from_json(&mutated(vocabulary, &mut random), settings)
        } else {
            FastCodec::from_json(vocabulary, &mutated(settings, &mut random))
        };
        if let Ok(codec) = codec {
            read += 1;
            use_codec(&codec, &mut random);
        }
    }
    assert!(read > 0, "some still read");
}

#[test]
fn broken_text_models_are_refused_or_work() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../python/pioxide/demo/text.model");
    let model = std::fs::read(path).unwrap();
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let (mut read, mut tokens, mut mask) = (0, [0; 40], [false; 40]);
    for case in 0..cases() / 4 {
        let Ok(text) = SentencePiece::from_bytes(&mutated(&model, &mut random)) else { continue };
        read += 1;
        let prompt: String =
            (0..random.below(30)).filter_map(|_| char::from_u32(random.next() as u32 % 0x3000)).collect();
        let ids = text.encode(&prompt).unwrap();
        text.decode(&ids).unwrap();
        let style = if case % 2 == 0 { PromptStyle::OpenPi } else { PromptStyle::LeRobot };
        let options = PromptOptions { style, state_width: (case % 3 == 0).then_some(7) };
        if let Ok(prompts) = Pi0FastPrompts::new(Arc::new(text), FastIds::new(300), options) {
            prompts.encode_into(&prompt, &[0.5, -2.0, 1e300], &mut tokens, &mut mask).unwrap();
            let wild: Vec<i32> = (0..random.below(30)).map(|_| random.next() as i32 % 5000).collect();
            let _ = prompts.fast_ids(&wild, &mut Vec::new());
        }
    }
    assert!(read > 0, "some still read");
}
