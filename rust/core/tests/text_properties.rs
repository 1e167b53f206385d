//! What holds for any text, any vocabulary and any state: encoding as its definition says, decoding as its inverse,
//! prompts from parts as prompts encoded whole.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashMap;
use std::fs;
use std::sync::{Arc, LazyLock};

use common::shared::{in_reference, in_repository};
use common::{CONTROL, NORMAL, UNKNOWN, USER_DEFINED, model};
use pioxide_core::{
    FastIds, Pi0FastPrompts, Pi0Prompts, Pi05Prompts, PromptOptions, PromptStyle, SentencePiece, TextScratch,
};
use proptest::prelude::*;

/// A vocabulary with the formats in it.
struct Formats {
    text: Arc<SentencePiece>,
    pi0: Pi0Prompts,
    pi05: Pi05Prompts,
    fast: Option<Pi0FastPrompts>,
}

impl Formats {
    fn new(model: &[u8]) -> Self {
        let text = Arc::new(SentencePiece::from_bytes(model).unwrap());
        Self {
            pi0: Pi0Prompts::new(text.clone(), PromptStyle::OpenPi).unwrap(),
            pi05: Pi05Prompts::new(text.clone(), PromptOptions::default()).unwrap(),
            fast: Pi0FastPrompts::new(text.clone(), FastIds::new(1024), PromptOptions::default()).ok(),
            text,
        }
    }
}

static DEMO: LazyLock<Formats> =
    LazyLock::new(|| Formats::new(&fs::read(in_repository("python/pioxide/demo/text.model")).unwrap()));

static PALIGEMMA: LazyLock<Option<Formats>> = LazyLock::new(|| {
    Some(Formats::new(&fs::read(in_reference("reference/paligemma_tokenizer.model")?).unwrap()))
});

/// BPE as it is defined, one merge at a time over the whole text.
fn plain_bpe(pieces: &[(String, f32, u8)], text: &str) -> Vec<String> {
    let scores: HashMap<&str, f32> = pieces.iter().map(|(text, score, _)| (text.as_str(), *score)).collect();
    let mut symbols: Vec<(String, bool)> = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let defined =
            pieces.iter().filter(|(text, _, kind)| *kind == USER_DEFINED && rest.starts_with(text.as_str()));
        let longest = defined.max_by_key(|(text, _, _)| text.len());
        let length = longest.map_or(first.len_utf8(), |(text, _, _)| text.len());
        symbols.push((rest[..length].to_owned(), longest.is_some()));
        rest = &rest[length..];
    }
    loop {
        let mut best: Option<(f32, usize)> = None;
        for at in 1..symbols.len() {
            let ((left, left_fixed), (right, right_fixed)) = (&symbols[at - 1], &symbols[at]);
            if *left_fixed || *right_fixed {
                continue;
            }
            if let Some(&score) = scores.get(format!("{left}{right}").as_str())
                && best.is_none_or(|(highest, _)| score > highest)
            {
                best = Some((score, at));
            }
        }
        let Some((_, at)) = best else { break };
        let (right, _) = symbols.remove(at);
        symbols[at - 1].0.push_str(&right);
    }
    symbols.into_iter().map(|(text, _)| text).collect()
}

/// Pieces over a small alphabet, many sharing a score, some user-defined.
fn vocabularies() -> impl Strategy<Value = Vec<(String, f32, u8)>> {
    let piece = ("[ab\u{2581}]{1,4}", -6i8..=0, prop_oneof![9 => Just(NORMAL), 1 => Just(USER_DEFINED)]);
    proptest::collection::vec(piece, 1..40).prop_map(|pieces| {
        let mut seen = std::collections::HashSet::new();
        let unique = pieces.into_iter().filter(|(text, _, _)| seen.insert(text.clone()));
        unique.map(|(text, score, kind)| (text, f32::from(score), kind)).collect()
    })
}

fn built(pieces: &[(String, f32, u8)]) -> SentencePiece {
    let mut all = vec![("<unk>", 0.0, UNKNOWN), ("<s>", 0.0, CONTROL)];
    all.extend(pieces.iter().map(|(text, score, kind)| (text.as_str(), *score, *kind)));
    SentencePiece::from_bytes(&model(&all, true)).unwrap()
}

fn check_encoding(pieces: &[(String, f32, u8)], text: &str) {
    let sp = built(pieces);
    let wanted = plain_bpe(pieces, &text.replace(' ', "\u{2581}"));
    let ids = sp.encode(text).unwrap();
    let known = |symbol: &String| pieces.iter().any(|(text, _, _)| text == symbol);
    let wanted: Vec<String> = wanted
        .iter()
        .flat_map(|symbol| match known(symbol) {
            true => vec![symbol.clone()],
            false => symbol.bytes().map(|byte| format!("<0x{byte:02X}>")).collect(),
        })
        .collect();
    let got: Vec<&str> = ids.iter().map(|&id| sp.piece(id).unwrap()).collect();
    assert_eq!(got, wanted, "{text:?} with {pieces:?}");
}

/// A format's row without its padding, which is the whole prompt as the buffer is long.
fn row(
    write: impl FnOnce(&mut [i32], &mut [bool]) -> pioxide_core::Result<pioxide_core::Written>,
) -> Vec<i32> {
    let (mut tokens, mut mask) = (vec![-7; 4096], vec![false; 4096]);
    let written = write(&mut tokens, &mut mask).unwrap();
    assert!(!written.truncated && mask[..written.length].iter().all(|&real| real));
    tokens.truncate(written.length);
    tokens
}

/// Prompts as openpi makes them: one string, encoded whole.
fn check_prompts(Formats { text, pi0, pi05, fast }: &Formats, prompt: &str, state: &[f64]) {
    let edges: Vec<f64> = (0..256).map(|bin| f64::from(bin) / 128.0 - 1.0).collect();
    let bins = state.iter().map(|x| (edges.partition_point(|edge| edge <= x) as i32 - 1).to_string());
    let bins = bins.collect::<Vec<_>>().join(" ");
    let ids = |part: &str| text.encode(part).unwrap().iter().map(|&id| id as i32).collect::<Vec<_>>();
    let whole = |prompt: &str| [vec![text.bos().unwrap() as i32], ids(prompt)].concat();
    let strip = |text: &str| {
        text.trim_matches(|c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)).replace('_', " ")
    };
    let cleaned = strip(prompt).replace('\n', " ");
    let got = row(|tokens, mask| pi0.write_into(&pi0.tokenize(prompt).unwrap(), tokens, mask));
    assert_eq!(got, [whole(&cleaned), ids("\n")].concat(), "{prompt:?}");
    let got = row(|tokens, mask| pi05.write_into(&pi05.tokenize(prompt).unwrap(), state, tokens, mask));
    assert_eq!(got, whole(&format!("Task: {cleaned}, State: {bins};\nAction: ")), "{prompt:?}");
    if let Some(fast) = fast {
        let got = row(|tokens, mask| fast.write_into(&fast.tokenize(prompt).unwrap(), state, tokens, mask));
        let cleaned = strip(&prompt.to_lowercase());
        assert_eq!(got, whole(&format!("Task: {cleaned}, State: {bins};\n")), "{prompt:?}");
    }
}

/// Mostly what prompts are made of, and anything else.
fn prompts() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-zA-Z0-9 ,.;:_|\\-\n\u{2581}]{0,40}",
        "\\PC{0,20}",
        any::<String>(),
        "(pick|cube|, |; |: | 1|\\)){0,12}"
    ]
}

fn states() -> impl Strategy<Value = Vec<f64>> {
    let edge = (-140i32..140).prop_map(|step| f64::from(step) / 128.0);
    proptest::collection::vec(prop_oneof![-1.5..1.5f64, edge, -1e300..1e300f64], 0..34)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn short_texts_are_encoded_as_bpe_is_defined(pieces in vocabularies(), text in "[abc \u{2581}]{0,12}") {
        check_encoding(&pieces, &text);
    }

    #[test]
    fn decoding_inverts_encoding(text in any::<String>()) {
        let shown = text.replace('\u{2581}', " ");
        for formats in [Some(&*DEMO), PALIGEMMA.as_ref()].into_iter().flatten() {
            let ids = formats.text.encode(&text).unwrap();
            prop_assert_eq!(&formats.text.decode(&ids).unwrap(), &shown);
        }
    }

    #[test]
    fn prompts_from_parts_are_prompts_encoded_whole(prompt in prompts(), state in states()) {
        for formats in [Some(&*DEMO), PALIGEMMA.as_ref()].into_iter().flatten() {
            assert!(formats.pi05.uses_table());
            check_prompts(formats, &prompt, &state);
        }
    }

    #[test]
    fn a_scratch_used_before_changes_nothing(texts in proptest::collection::vec(any::<String>(), 1..5)) {
        let (mut scratch, mut out) = (TextScratch::default(), Vec::new());
        for text in &texts {
            let before = out.len();
            DEMO.text.encode_into(text, &mut scratch, &mut out).unwrap();
            prop_assert_eq!(&out[before..], DEMO.text.encode(text).unwrap());
        }
    }

    #[test]
    fn any_bytes_are_a_model_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = SentencePiece::from_bytes(&bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn long_texts_are_encoded_as_bpe_is_defined(pieces in vocabularies(), text in "[ab \u{2581}]{50,300}") {
        check_encoding(&pieces, &text);
    }
}

#[test]
fn where_numbers_join_their_neighbours_prompts_are_encoded_whole() {
    // A piece across each border that the table relies on, in turn.
    for joined in [",\u{2581}", ":\u{2581}", "7\u{2581}", "7;"] {
        let mut pieces = vec![("<unk>", 0.0, UNKNOWN), ("<s>", 0.0, CONTROL), ("</s>", 0.0, CONTROL)];
        let characters: Vec<String> = ('!'..='~').chain(['\u{2581}', '\n']).map(String::from).collect();
        pieces.extend(characters.iter().map(|c| (c.as_str(), -9.0, NORMAL)));
        let plain = Formats::new(&model(&pieces, true));
        assert!(plain.pi05.uses_table());
        pieces.push((joined, -1.0, NORMAL));
        let joining = Formats::new(&model(&pieces, true));
        assert!(!joining.pi05.uses_table(), "{joined:?}");
        for formats in [plain, joining] {
            check_prompts(&formats, "go to 7, then 77", &[0.04, -1.0, 0.5, 0.6, -0.95]);
            check_prompts(&formats, "", &[]);
        }
    }
}
