//! The codec against its definition: each value a character, the text split and each piece merged by rank.

use proptest::prelude::*;

use super::*;
use crate::FitOptions;
use crate::pretokenize::Class;

/// Tokens of the values' text, by the definition.
fn defined(codec: &FastCodec, values: &[i32]) -> Vec<u32> {
    let text: Vec<char> = values
        .iter()
        .map(|&value| char::from_u32((i64::from(value) - codec.min_token()) as u32).unwrap())
        .collect();
    let mut cuts = Vec::new();
    if codec.vocabulary.use_regex() {
        let (cutter, mut state) = (Cutter::new(), Cutter::START);
        for (at, class) in text.iter().map(|&c| Class::of(c)).chain([Class::End]).enumerate() {
            state = cutter.step(state, class, at.saturating_sub(1), at, &mut cuts);
        }
    }
    cuts.push(text.len() as u32);
    let (mut ids, mut start) = (Vec::new(), 0);
    for end in cuts {
        let piece: String = text[start..end as usize].iter().collect();
        let mut symbols: Vec<u32> =
            piece.bytes().map(|byte| codec.byte_tokens[usize::from(byte)].unwrap()).collect();
        codec.merges.merge(&mut symbols, &mut MergeScratch::default());
        ids.extend(symbols);
        start = end as usize;
    }
    ids
}

/// Stretches of one value, zeros above all, and single values.
fn values() -> impl Strategy<Value = Vec<i32>> {
    let stretch = prop_oneof![
        4 => (Just(0), 1..60_usize),
        3 => (-3..4_i32, 1..4_usize),
        2 => (-60..90_i32, 1..12_usize),
        1 => (-60..3000_i32, 1..3_usize),
    ];
    prop::collection::vec(stretch, 1..24).prop_map(|all| {
        all.into_iter().flat_map(|(value, count)| std::iter::repeat_n(value, count)).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn ids_are_those_of_the_definition(
        corpus in prop::collection::vec(values(), 1..8),
        texts in prop::collection::vec(values(), 1..8),
        regex_split in any::<bool>(),
        min_token in prop_oneof![Just(-0x5000), Just(-1024), Just(-480), Just(-354), -130..-60_i64],
    ) {
        // At horizon 1 the transform changes nothing.
        let chunk = |values: &[i32]| values.iter().map(|&value| f64::from(value) / 10.0).collect::<Vec<_>>();
        let corpus: Vec<_> = corpus.iter().chain(&texts).map(|values| chunk(values)).collect();
        let given: Vec<_> = corpus.iter().map(|chunk| (chunk.as_slice(), 1, chunk.len())).collect();
        let options = FitOptions { vocab_size: 420, regex_split, min_token: Some(min_token), ..FitOptions::default() };
        let codec = FastCodec::fit(&given, &options).unwrap();
        prop_assert!(codec.longest.is_some());
        let (plan, mut scratch) = (Dct::new(1).unwrap(), FastScratch::default());
        for values in texts {
            let mut ids = Vec::new();
            let chunk = chunk(&values);
            codec.encode_into(&plan, &chunk, values.len(), OnOverflow::Error, &mut scratch, &mut ids).unwrap();
            prop_assert_eq!(ids, defined(&codec, &values));
        }
    }
}

#[test]
fn a_vocabulary_with_rules_out_of_order_is_merged_by_rank() {
    let chunk: Vec<f64> = (0..300).map(|i| f64::from(i * i % 7) / 10.0).collect();
    let options = FitOptions { vocab_size: 300, ..FitOptions::default() };
    let fitted = FastCodec::fit(&[(&chunk[..], 1, 300)], &options).unwrap();
    let files = fitted.files(None, None).unwrap();
    let mut tokenizer: serde_json::Value = serde_json::from_str(&files.tokenizer_json).unwrap();
    tokenizer["model"]["merges"].as_array_mut().unwrap().reverse();
    let codec =
        FastCodec::from_json(tokenizer.to_string().as_bytes(), files.processor_config.as_bytes()).unwrap();
    assert!(codec.longest.is_none());
    let mut ids = Vec::new();
    let (plan, mut scratch) = (Dct::new(1).unwrap(), FastScratch::default());
    codec.encode_into(&plan, &chunk, 300, OnOverflow::Error, &mut scratch, &mut ids).unwrap();
    let values: Vec<i32> = chunk.iter().map(|x| (x * 10.0).round() as i32).collect();
    assert_eq!(ids, defined(&codec, &values));
    let mut back = vec![0.0; 300];
    codec.decode_into(&plan, &ids, 300, Partial::Error, &mut scratch, &mut back).unwrap();
    assert!(back.iter().zip(&chunk).all(|(a, b)| (a - b).abs() < 1e-12));
}
