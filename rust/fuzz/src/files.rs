//! Files of any content: refused by name, or read and then as good as any other.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use pioxide_core::{
    Dct, Error, FastCodec, FastFiles, FastIds, FastScratch, FitOptions, OnOverflow, Partial, Pi0FastPrompts,
    Pi0Prompts, Pi05Prompts, PromptOptions, PromptStyle, SentencePiece, TextScratch,
};
use serde_json::Value;

use super::random::Random;

/// A small tokenizer's files.
static GOOD: LazyLock<FastFiles> = LazyLock::new(|| {
    let chunk = |n: usize| (0..64).map(|i| ((n * n + i) as f64 / 7.0).sin()).collect::<Vec<f64>>();
    let chunks: Vec<Vec<f64>> = (0..12).map(chunk).collect();
    let shaped: Vec<_> = chunks.iter().map(|values| (values.as_slice(), 16, 4)).collect();
    let options = FitOptions { vocab_size: 300, ..FitOptions::default() };
    FastCodec::fit(&shaped, &options).and_then(|codec| codec.files(Some(16), Some(4))).expect("it fits")
});

/// Any `tokenizer.json`.
pub fn tokenizer_json(data: &[u8]) {
    check_codec(FastCodec::from_json(data, GOOD.processor_config.as_bytes()), data);
}

/// Any `processor_config.json`.
pub fn processor_config(data: &[u8]) {
    check_codec(FastCodec::from_json(GOOD.tokenizer_json.as_bytes(), data), data);
}

fn check_codec(read: Result<FastCodec, Error>, data: &[u8]) {
    let codec = match read {
        Ok(codec) => codec,
        Err(error) => {
            assert!(matches!(error, Error::Format { .. }), "{error}");
            return;
        }
    };
    assert!((1e-30..=1e30).contains(&codec.scale()) && codec.min_token().unsigned_abs() <= 1 << 20);
    assert!(codec.time_horizon().is_none_or(|horizon| (1..=Dct::MAX_HORIZON).contains(&horizon)));
    let (first, last) = codec.value_range();
    assert!(codec.representable().iter().any(|&(low, high)| low <= first && last <= high));
    check_files(&codec);
    let random = &mut Random::of(data);
    let ids = check_way_there_and_back(&codec, random);
    check_merges(&codec, &ids);
    check_wild_ids(&codec, random);
}

/// What is written reads as the same tokenizer.
fn check_files(codec: &FastCodec) {
    let files = codec.files(None, None).expect("a tokenizer has files");
    let again = FastCodec::from_json(files.tokenizer_json.as_bytes(), files.processor_config.as_bytes());
    assert!(again.expect("what was written reads").files(None, None).as_ref() == Ok(&files));
}

/// Encodes a chunk, which can fail in the ways that it is said to alone. Returns the ids where nothing was clipped.
fn check_way_there_and_back(codec: &FastCodec, random: &mut Random) -> Vec<u32> {
    let (dim, horizon) = (1 + random.below(5), 1 + random.below(40));
    let chunk: Vec<f64> = (0..dim * horizon).map(|_| random.below(2001) as f64 / 500.0 - 2.0).collect();
    let (plan, mut scratch, mut ids) =
        (codec.plan(horizon).expect("in range"), FastScratch::default(), vec![7]);
    let mut encode = |chunk: &[f64], on_overflow| {
        ids.truncate(1);
        let clipped = codec.encode_into(&plan, chunk, dim, on_overflow, &mut scratch, &mut ids);
        clipped.map(|clipped| (clipped, ids[1..].to_vec()))
    };
    let (clipped, found) = encode(&chunk, OnOverflow::Clip).expect("clipping takes any finite chunk");
    assert!(clipped <= chunk.len() && (1..=4 * chunk.len()).contains(&found.len()));
    assert!(found.iter().all(|&id| codec.token_bytes(id).is_some()));
    match encode(&chunk, OnOverflow::Error) {
        Ok(strict) => assert_eq!(strict, (0, found.clone())),
        Err(error) => assert!(clipped > 0 && matches!(error, Error::Overflow { .. }), "{error}"),
    }
    let (mut back, mut padded) = (vec![0.0; chunk.len()], vec![0.0; chunk.len()]);
    let mut scratch = FastScratch::default();
    for (partial, out) in [(Partial::Error, &mut back), (Partial::Pad, &mut padded)] {
        let missing = codec.decode_into(&plan, &found, dim, partial, &mut scratch, out);
        assert_eq!(missing, Ok(0), "what was encoded decodes");
    }
    assert!(back == padded && back.iter().all(|x| x.is_finite()));
    assert_eq!(
        encode(&back, OnOverflow::Error),
        Ok((0, found.clone())),
        "what was decoded is encoded as before"
    );
    found
}

/// In a vocabulary that does not split texts, tokens are what merging gives, one pair at a time, by the definition.
fn check_merges(codec: &FastCodec, ids: &[u32]) {
    if codec.vocab_size() > 2000 {
        return;
    }
    let files = codec.files(None, None).expect("a tokenizer has files");
    let file: Value = serde_json::from_str(&files.tokenizer_json).expect("it is JSON");
    if file["pre_tokenizer"]["use_regex"] != Value::Bool(false) {
        return;
    }
    let vocabulary = file["model"]["vocab"].as_object().expect("an object");
    let merges = file["model"]["merges"].as_array().expect("a list");
    let id = |text: &str| vocabulary[text].as_u64().expect("an id") as u32;
    let rules: HashMap<(u32, u32), (usize, u32)> = merges
        .iter()
        .enumerate()
        .map(|(rank, merge)| {
            let (left, right) = merge.as_str().and_then(|merge| merge.split_once(' ')).expect("two tokens");
            ((id(left), id(right)), (rank, id(&format!("{left}{right}"))))
        })
        .collect();
    let bytes: HashMap<u8, u32> = (0..codec.vocab_size() as u32)
        .filter_map(|id| match codec.token_bytes(id)? {
            &[byte] => Some((byte, id)),
            _ => None,
        })
        .collect();
    let text: Vec<u8> = ids.iter().filter_map(|&id| codec.token_bytes(id)).flatten().copied().collect();
    let mut symbols: Vec<u32> = text.iter().map(|byte| bytes[byte]).collect();
    let found = |symbols: &[u32], at: usize| rules.get(&(symbols[at], symbols[at + 1])).copied();
    while let Some((_, at)) = (0..symbols.len().saturating_sub(1))
        .filter_map(|at| found(&symbols, at).map(|(rank, _)| (rank, at)))
        .min()
    {
        symbols[at] = found(&symbols, at).expect("just found").1;
        symbols.remove(at + 1);
    }
    assert_eq!(ids, symbols, "tokens are what merging gives");
}

/// Ids of any kind are decoded or refused, whatever the tokenizer.
fn check_wild_ids(codec: &FastCodec, random: &mut Random) {
    let (dim, horizon) = (1 + random.below(5), 1 + random.below(40));
    let plan = codec.plan(horizon).expect("in range");
    let ids: Vec<u32> = (0..random.below(60)).map(|_| random.next() as u32 % 1200).collect();
    let mut out = vec![0.0; dim * horizon];
    match codec.decode_into(&plan, &ids, dim, Partial::Pad, &mut FastScratch::default(), &mut out) {
        Ok(missing) => assert!(missing <= out.len() && out.iter().all(|x| x.is_finite())),
        Err(error) => assert!(matches!(error, Error::Token { .. } | Error::Incomplete { .. }), "{error}"),
    }
}

/// Any SentencePiece `.model`.
pub fn text_model(data: &[u8]) {
    let text = match SentencePiece::from_bytes(data) {
        Ok(text) => Arc::new(text),
        Err(error) => {
            assert!(matches!(error, Error::Format { .. }), "{error}");
            return;
        }
    };
    let random = &mut Random::of(data);
    let size = text.vocab_size();
    assert!(size > 0 && text.piece(size as u32).is_none() && (text.unk() as usize) < size);
    let mut scratch = TextScratch::default();
    for _ in 0..3 {
        check_text(&text, &written(&text, random), &mut scratch);
    }
    let wild: Vec<u32> = (0..random.below(30)).map(|_| random.below(size + 1) as u32).collect();
    let outside = wild.iter().any(|&id| id as usize >= size);
    match text.decode(&wild) {
        Ok(_) => assert!(!outside),
        Err(error) => assert!(outside && matches!(error, Error::Argument { .. }), "{error}"),
    }
    check_frames(&text, random);
}

/// A text made of pieces and of any characters.
fn written(text: &SentencePiece, random: &mut Random) -> String {
    let mut out = String::new();
    for _ in 0..random.below(24) {
        match random.below(4) {
            0 => out.extend(char::from_u32(random.next() as u32 % 0x3000)),
            1 => out.push([' ', '\n', '7', 'a', '_', '\u{2581}'][random.below(6)]),
            _ => out.push_str(text.piece(random.below(text.vocab_size()) as u32).unwrap_or_default()),
        }
    }
    out
}

fn check_text(text: &SentencePiece, prompt: &str, scratch: &mut TextScratch) {
    let ids = text.encode(prompt).expect("any text has ids");
    assert!(ids.iter().all(|&id| (id as usize) < text.vocab_size() && !text.is_control(id)), "{prompt:?}");
    // A space may become the three bytes of its stand-in, and one may be put in front.
    assert!(ids.len() <= 3 * (prompt.len() + 1), "{prompt:?}");
    let mut again = vec![7];
    text.encode_into(prompt, scratch, &mut again).expect("any text has ids");
    assert_eq!(again[1..], ids, "what was encoded before changes nothing");
    text.decode(&ids).expect("ids of a text are in the vocabulary");
    text.decode(&text.encode_with_marks(prompt).expect("any text has ids")).expect("in the vocabulary");
}

/// Prompts in any vocabulary that has what they need.
fn check_frames(text: &Arc<SentencePiece>, random: &mut Random) {
    let style = if random.below(2) == 0 { PromptStyle::OpenPi } else { PromptStyle::LeRobot };
    let options = PromptOptions { style, state_width: (random.below(3) == 0).then_some(7) };
    let prompt = written(text, random);
    let state = [0.5, -2.0, 1e300];
    let (mut tokens, mut mask) = ([0; 40], [false; 40]);
    if let Ok(prompts) = Pi0Prompts::new(text.clone(), style) {
        prompts.encode_into(&prompt, &mut tokens, &mut mask).expect("any text has a prompt");
    }
    if let Ok(prompts) = Pi05Prompts::new(text.clone(), options) {
        prompts.encode_into(&prompt, &state, &mut tokens, &mut mask).expect("any text has a prompt");
    }
    let fast = FastIds { count: 1 + random.below(20), skipped: random.below(3) };
    let Ok(prompts) = Pi0FastPrompts::new(text.clone(), fast, options) else { return };
    prompts.encode_into(&prompt, &state, &mut tokens, &mut mask).expect("any text has a prompt");
    for id in 0..fast.count as u32 {
        assert_eq!(prompts.text_id(id).and_then(|token| prompts.fast_id(token)), Some(id));
    }
    let wild: Vec<i32> = (0..random.below(30)).map(|_| random.below(5000) as i32 - 10).collect();
    let mut found = vec![7];
    let result = prompts.fast_ids(&wild, &mut found);
    assert!(found[0] == 7 && (result.is_ok() || found.len() == 1), "nothing half-written");
}
