//! Properties of the FAST codec on made-up chunks and vocabularies: what is encoded comes back, what can't be
//! represented is refused or clipped to the nearest and always decodes, and no file or id list makes it panic.
#![allow(clippy::unwrap_used)]

use std::sync::LazyLock;

use pioxide_core::{Dct, Error, FastCodec, FastScratch, FitOptions, OnOverflow, Partial};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Fitted on smooth motions of 8 x 3, one without and one with the split.
static FITTED: LazyLock<[FastCodec; 2]> = LazyLock::new(|| {
    let chunks: Vec<Vec<f64>> = (0..60)
        .map(|n| (0..24).map(|i| ((n * 5 + i / 3) as f64 * 0.2 + (i % 3) as f64).sin()).collect())
        .collect();
    let given: Vec<_> = chunks.iter().map(|chunk| (chunk.as_slice(), 8, 3)).collect();
    [false, true].map(|regex_split| {
        FastCodec::fit(&given, &FitOptions { vocab_size: 330, regex_split, ..FitOptions::default() }).unwrap()
    })
});

/// A codec that lacks these bytes, and the merges that need them.
fn without(codec: &FastCodec, missing: &[u8], min_token: i64) -> FastCodec {
    let files = codec.files(None, None).unwrap();
    let mut tokenizer: Value = serde_json::from_str(&files.tokenizer_json).unwrap();
    let lacks =
        |text: &str| codec_bytes(text).is_none_or(|bytes| bytes.iter().any(|byte| missing.contains(byte)));
    let model = &mut tokenizer["model"];
    let vocab = model["vocab"].as_object_mut().unwrap();
    vocab.retain(|text, _| !lacks(text));
    model["merges"].as_array_mut().unwrap().retain(|merge| !lacks(&merge.as_str().unwrap().replace(' ', "")));
    let mut config: Value = serde_json::from_str(&files.processor_config).unwrap();
    config["min_token"] = json!(min_token);
    FastCodec::from_json(tokenizer.to_string().as_bytes(), config.to_string().as_bytes()).unwrap()
}

/// The bytes that a token's text stands for, from the published table: printable Latin-1 is itself, the other bytes
/// follow from U+0100.
fn codec_bytes(text: &str) -> Option<Vec<u8>> {
    let itself = |byte: &u8| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let others: Vec<u8> = (0..=255).filter(|byte| !itself(byte)).collect();
    text.chars()
        .map(|c| match u8::try_from(u32::from(c)) {
            Ok(byte) => Some(byte).filter(itself),
            Err(_) => others.get(u32::from(c) as usize - 0x100).copied(),
        })
        .collect()
}

/// A chunk [1, D] whose coefficients are these values: at horizon 1 the transform changes nothing.
fn chunk_of(values: &[i32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value) / 10.0).collect()
}

fn decoded(codec: &FastCodec, ids: &[u32], len: usize) -> Vec<i64> {
    let (plan, mut out) = (Dct::new(1).unwrap(), vec![0.0; len]);
    codec.decode_into(&plan, ids, len, Partial::Error, &mut FastScratch::default(), &mut out).unwrap();
    out.iter().map(|x| (x * 10.0).round() as i64).collect()
}

fn value() -> impl Strategy<Value = i32> {
    prop_oneof![6 => Just(0), 4 => -3..4_i32, 3 => -40..40_i32, 2 => -1100..2000_i32, 1 => -60_000..1_200_000_i32]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn what_is_encoded_comes_back(
        which in 0..2_usize,
        values in prop::collection::vec(prop_oneof![5 => Just(0), 2 => -1024..54_271_i32, 5 => -9..9_i32], 1..120),
    ) {
        let (codec, mut ids) = (&FITTED[which], vec![7]);
        let mut scratch = FastScratch::default();
        let (plan, chunk) = (Dct::new(1).unwrap(), chunk_of(&values));
        let clipped = codec.encode_into(&plan, &chunk, values.len(), OnOverflow::Error, &mut scratch, &mut ids);
        prop_assert_eq!(clipped, Ok(0));
        prop_assert_eq!(ids.remove(0), 7);
        let expected: Vec<i64> = values.iter().map(|&value| value.into()).collect();
        prop_assert_eq!(decoded(codec, &ids, values.len()), expected);
    }

    #[test]
    fn clipping_takes_the_nearest_and_always_decodes(
        which in 0..2_usize,
        missing in prop::collection::btree_set(any::<u8>(), 0..30),
        min_token in -700..1_i64,
        values in prop::collection::vec(value(), 1..60),
    ) {
        let missing: Vec<u8> = missing.into_iter().collect();
        let codec = without(&FITTED[which], &missing, min_token);
        let has = |value: i64| {
            let character = u32::try_from(value - min_token).ok().and_then(char::from_u32);
            character.is_some_and(|c| !c.to_string().bytes().any(|byte| missing.contains(&byte)))
        };
        let ranges = codec.representable();
        let (plan, chunk, mut scratch) = (Dct::new(1).unwrap(), chunk_of(&values), FastScratch::default());
        let mut ids = Vec::new();
        let dim = values.len();
        let clipped = codec.encode_into(&plan, &chunk, dim, OnOverflow::Clip, &mut scratch, &mut ids).unwrap();
        let got = decoded(&codec, &ids, dim);
        for (&value, &got) in values.iter().zip(&got) {
            let value = i64::from(value);
            prop_assert!(has(got) && ranges.iter().any(|&(first, last)| (first..=last).contains(&got)));
            prop_assert!(got == value || !has(value));
            // Nothing that it has is nearer, nor as near and nearer to zero.
            let away = (got - value).abs();
            for nearer in value - away.min(3000)..=value + away.min(3000) {
                let closer = (nearer - value).abs() < away || nearer.abs() < got.abs();
                prop_assert!(nearer == got || !closer || !has(nearer), "{value} -> {got}, not {nearer}");
            }
        }
        let changed = values.iter().zip(&got).filter(|&(&value, &got)| i64::from(value) != got).count();
        prop_assert_eq!(clipped, changed);
        let refused = codec.encode_into(&plan, &chunk, dim, OnOverflow::Error, &mut scratch, &mut ids);
        match values.iter().position(|&value| !has(value.into())) {
            None => prop_assert_eq!(refused, Ok(0)),
            Some(at) => prop_assert_eq!(
                refused,
                Err(Error::Overflow { frequency: 0, dim: at, value: values[at].into(), range: codec.value_range() })
            ),
        }
    }

    #[test]
    fn any_ids_decode_or_say_why_not(
        which in 0..2_usize,
        ids in prop::collection::vec(0..340_u32, 0..50),
        len in 1..80_usize,
    ) {
        let (codec, plan, mut scratch) = (&FITTED[which], Dct::new(1).unwrap(), FastScratch::default());
        let mut out = vec![0.0; len];
        let padded = codec.decode_into(&plan, &ids, len, Partial::Pad, &mut scratch, &mut out);
        let strict = codec.decode_into(&plan, &ids, len, Partial::Error, &mut scratch, &mut out);
        let both = |is: &dyn Fn(&Error) -> bool| padded.as_ref().is_err_and(is) && strict.as_ref().is_err_and(is);
        let broken = |error: &Error| matches!(error, Error::Token { .. });
        let miscounted = |error: &Error| matches!(error, Error::Incomplete { .. });
        // By the definition: all bytes joined.
        let bytes: Option<Vec<&[u8]>> = ids.iter().map(|&id| codec.token_bytes(id)).collect();
        let Some(bytes) = bytes.map(|parts| parts.concat()) else {
            prop_assert!(both(&broken));
            return Ok(());
        };
        let (text, unfinished) = match std::str::from_utf8(&bytes) {
            Ok(text) => (text, false),
            Err(error) if error.error_len().is_none() => {
                (std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap(), true)
            }
            Err(_) => {
                prop_assert!(both(&broken));
                return Ok(());
            }
        };
        let got = text.chars().count();
        if got > len || (got == len && unfinished) {
            prop_assert!(both(&miscounted));
        } else {
            prop_assert_eq!(padded, Ok(len - got));
            prop_assert_eq!(strict.is_ok(), got == len);
        }
    }

    #[test]
    fn no_file_makes_it_panic(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let files = FITTED[0].files(Some(8), Some(3)).unwrap();
        let (tokenizer, config) = (files.tokenizer_json.into_bytes(), files.processor_config.into_bytes());
        let broken = |good: &[u8]| {
            let (mut bad, at) = (good.to_vec(), at.index(good.len()));
            if cut {
                bad.truncate(at);
            } else {
                bad[at] = byte;
            }
            bad
        };
        for read in [FastCodec::from_json(&broken(&tokenizer), &config), FastCodec::from_json(&tokenizer, &broken(&config))] {
            match read {
                Err(error) => prop_assert!(matches!(error, Error::Format { .. }), "{error}"),
                // A digit of an id or a letter of a text: another vocabulary, which works like any other.
                Ok(codec) => {
                    let (plan, chunk) = (Dct::new(1).unwrap(), [0.0, 3.0, -0.5, 1e7]);
                    let mut ids = Vec::new();
                    codec
                        .encode_into(&plan, &chunk, 4, OnOverflow::Clip, &mut FastScratch::default(), &mut ids)
                        .unwrap();
                }
            }
        }
    }
}

#[test]
fn files_that_could_not_be_reproduced_are_refused_by_name() {
    let files = FITTED[1].files(None, None).unwrap();
    let good: Value = serde_json::from_str(&files.tokenizer_json).unwrap();
    let refuse = |path: &str, value: Value| {
        let mut bad = good.clone();
        *bad.pointer_mut(path).unwrap() = value;
        let read = FastCodec::from_json(bad.to_string().as_bytes(), files.processor_config.as_bytes());
        let error = read.err().unwrap_or_else(|| panic!("{path} was taken")).to_string();
        let key = path.rsplit('/').next().unwrap();
        assert!(error.starts_with("tokenizer.json: ") && error.contains(key), "{path}: {error}");
    };
    refuse("/normalizer", json!({"type": "NFC"}));
    refuse("/truncation", json!({"max_length": 5}));
    refuse("/added_tokens", json!([{"id": 1, "content": "x"}]));
    refuse("/pre_tokenizer", json!({"type": "Whitespace"}));
    refuse("/pre_tokenizer/add_prefix_space", json!(true));
    refuse("/decoder", json!({"type": "WordPiece"}));
    refuse("/model/type", json!("Unigram"));
    refuse("/model/dropout", json!(0.1));
    refuse("/model/unk_token", json!("a"));
    refuse("/model/continuing_subword_prefix", json!("##"));
    refuse("/model/end_of_word_suffix", json!("</w>"));
    refuse("/model/byte_fallback", json!(true));
    refuse("/model/ignore_merges", json!(true));
    for (merges, word) in [
        (json!([["a", "nowhere"]]), "nowhere"),
        (json!(["a b c"]), "merge 0"),
        (json!([5]), "merge 0"),
        (json!([["a", "b", "c"]]), "merge 0"),
    ] {
        let mut bad = good.clone();
        bad["model"]["merges"] = merges;
        let read = FastCodec::from_json(bad.to_string().as_bytes(), files.processor_config.as_bytes());
        let error = read.err().unwrap().to_string();
        assert!(error.contains(word), "{error}");
    }
    for (vocab, word) in [
        (json!({"a": 0, "b": 0}), "both have id 0"),
        (json!({"a": 4_000_000_000_u64}), "4000000000"),
        (json!({"": 0}), "empty"),
        (json!({"a": -1}), "tokenizer.json"),
        (json!({}), "no value at all"),
    ] {
        let mut bad = good.clone();
        bad["model"]["vocab"] = vocab;
        bad["model"]["merges"] = json!([]);
        let read = FastCodec::from_json(bad.to_string().as_bytes(), files.processor_config.as_bytes());
        let error = read.err().unwrap().to_string();
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn chunks_and_options_that_make_no_sense_are_refused() {
    let (codec, plan, mut scratch) = (&FITTED[0], Dct::new(4).unwrap(), FastScratch::default());
    let mut encode = |chunk: &[f64], dim| {
        let mut ids = vec![1, 2];
        let result = codec.encode_into(&plan, chunk, dim, OnOverflow::Clip, &mut scratch, &mut ids);
        assert_eq!(ids[..2], [1, 2]);
        assert_eq!(ids.len() > 2, result.is_ok());
        result.map_err(|error| error.to_string())
    };
    assert_eq!(encode(&[0.0; 8], 2), Ok(0));
    assert_eq!(encode(&[0.0; 8], 3).unwrap_err(), "chunk: expected 12 values, got 8");
    assert!(encode(&[0.0; 8], 0).unwrap_err().contains("dim"));
    let mut chunk = [0.0; 8];
    chunk[5] = f64::NAN;
    assert_eq!(encode(&chunk, 2).unwrap_err(), "chunk: step 2, dimension 1 is NaN");
    chunk[5] = f64::NEG_INFINITY;
    assert_eq!(encode(&chunk, 2).unwrap_err(), "chunk: step 2, dimension 1 is -inf");
    // Finite, and still no number once it is transformed: refused or clipped, never a token out of nothing.
    chunk = [f64::MAX, 0.0, f64::MAX, 0.0, -f64::MAX, 0.0, f64::MAX, 0.0];
    assert!(encode(&chunk, 2).is_ok_and(|clipped| clipped > 0) || encode(&chunk, 2).is_err());
    let fit = |options: FitOptions| {
        FastCodec::fit(&[(&[0.5_f64; 8][..], 4, 2)], &options).map(|_| ()).map_err(|error| error.to_string())
    };
    let good = FitOptions::default();
    assert_eq!(fit(good.clone()), Ok(()));
    assert!(fit(FitOptions { vocab_size: 256, ..good.clone() }).unwrap_err().contains("vocab_size"));
    assert!(fit(FitOptions { scale: f64::NAN, ..good.clone() }).unwrap_err().contains("scale"));
    assert!(fit(FitOptions { min_token: Some(1), ..good.clone() }).unwrap_err().contains("min_token"));
    let error = fit(FitOptions { min_token: Some(0), scale: 1e6, ..good.clone() }).unwrap_err();
    assert!(error.starts_with("chunk 0: coefficient 1000000 at time-frequency 0, dimension 0"), "{error}");
    let none: &[(&[f64], usize, usize)] = &[];
    assert!(FastCodec::fit(none, &good).is_err());
}

#[test]
fn a_fit_ends_wherever_it_is_told_to() {
    let chunks: Vec<Vec<f64>> = (0..9).map(|n| (0..16).map(|i| f64::from(n * i).sin()).collect()).collect();
    let given: Vec<_> = chunks.iter().map(|chunk| (chunk.as_slice(), 8, 2)).collect();
    let options = FitOptions { vocab_size: 270, ..FitOptions::default() };
    let fit = |patience: usize| {
        let mut asked = 0;
        let fitted = FastCodec::fit_while(&given, &options, &mut || {
            asked += 1;
            asked <= patience
        });
        (fitted.map(|codec| codec.files(None, None).unwrap()), asked)
    };
    let (whole, asked) = fit(usize::MAX);
    // Each chunk is transformed and spelt, and each of the fourteen tokens is a merge.
    assert!(whole.is_ok() && asked == 9 + 9 + 14, "{asked}");
    for patience in 0..asked {
        assert_eq!(fit(patience).0.map(|_| ()), Err(Error::Interrupted));
    }
}

#[test]
fn the_range_grows_with_the_data() {
    let fit = |size: f64| {
        let chunk = [-size; 4];
        let codec = FastCodec::fit(&[(&chunk[..], 4, 1)], &FitOptions::default()).unwrap();
        (codec.min_token(), codec.value_range())
    };
    assert_eq!(fit(1.0), (-1024, (-1024, 0xd7ff - 1024)));
    assert_eq!(fit(100.0), (-0x5000, (-0x5000, 0xd7ff - 0x5000)));
}

#[test]
fn threads_can_share_it() {
    fn shared<T: Send + Sync>() {}
    shared::<FastCodec>();
    fn sent<T: Send>() {}
    sent::<FastScratch>();
}
