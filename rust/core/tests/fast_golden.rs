//! FAST ids against the published processor's, as recorded in `tests/golden/fast` by `record.py` there.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::shared::in_repository;
use pioxide_core::{Dct, Error, FastCodec, FastScratch, OnOverflow, Partial};
use serde_json::Value;

struct Golden {
    codec: FastCodec,
    plan: Dct,
    dim: usize,
    cases: Vec<Case>,
}

struct Case {
    chunk: Vec<f64>,
    ids: Vec<u32>,
    round_trips: bool,
}

fn golden(name: &str) -> Golden {
    let record: Value = serde_json::from_slice(&fs::read(in_repository(name)).unwrap()).unwrap();
    let grid = record["grid"].as_f64().unwrap();
    let list = |value: &Value| value.as_array().unwrap().clone();
    let cases = list(&record["cases"]).into_iter().map(|case| Case {
        chunk: list(&case["chunk"]).iter().map(|x| x.as_f64().unwrap() / grid).collect(),
        ids: list(&case["ids"]).iter().map(|id| id.as_u64().unwrap() as u32).collect(),
        round_trips: case["round_trips"].as_bool().unwrap(),
    });
    let bytes = |key: &str| record[key].to_string().into_bytes();
    Golden {
        codec: FastCodec::from_json(&bytes("tokenizer"), &bytes("processor_config")).unwrap(),
        plan: Dct::new(record["shape"][0].as_u64().unwrap() as usize).unwrap(),
        dim: record["shape"][1].as_u64().unwrap() as usize,
        cases: cases.collect(),
    }
}

#[test]
fn ids_are_the_published_ones_wherever_those_decode_to_what_was_encoded() {
    for name in ["g1_h16_v1024", "g1_h50_v2048"] {
        let Golden { codec, plan, dim, cases } = golden(&format!("tests/golden/fast/{name}.json"));
        let (mut scratch, mut same, mut refused) = (FastScratch::default(), 0, 0);
        for Case { chunk, ids, round_trips } in cases {
            let mut got = Vec::new();
            let encoded = codec.encode_into(&plan, &chunk, dim, OnOverflow::Error, &mut scratch, &mut got);
            if !round_trips {
                assert!(matches!(encoded, Err(Error::Overflow { .. })), "{encoded:?}");
                assert!(got.is_empty());
                let clipped =
                    codec.encode_into(&plan, &chunk, dim, OnOverflow::Clip, &mut scratch, &mut got).unwrap();
                assert!(clipped > 0);
                refused += 1;
            } else {
                assert_eq!(encoded, Ok(0));
                assert_eq!(got, ids);
                same += 1;
            }
            let mut actions = vec![f64::NAN; chunk.len()];
            let missing =
                codec.decode_into(&plan, &got, dim, Partial::Error, &mut scratch, &mut actions).unwrap();
            assert_eq!(missing, 0);
            let squares: f64 = actions.iter().zip(&chunk).map(|(a, b)| (a - b) * (a - b)).sum();
            let root_mean = (squares / chunk.len() as f64).sqrt();
            // Half a step of each coefficient at most, and the transform keeps lengths.
            assert!(!round_trips || root_mean <= 0.5 / codec.scale(), "{root_mean}");
        }
        assert!(
            same >= 5 && (refused > 0 || name == "g1_h50_v2048"),
            "{name}: {same} same, {refused} refused"
        );
    }
}

#[test]
fn what_a_vocabulary_lacks_is_said() {
    let codec = golden("tests/golden/fast/g1_h16_v1024.json").codec;
    assert_eq!((codec.min_token(), codec.scale(), codec.vocab_size()), (-48, 10.0, 1024));
    assert_eq!((codec.time_horizon(), codec.action_dim()), (Some(16), Some(14)));
    let (low, high) = codec.value_range();
    assert!((-48..0).contains(&low) && (1..207).contains(&high));
    // Ids that the published trainer gave to characters where bytes were meant: no chunk is encoded to them.
    let dead: Vec<u32> = (0..1024).filter(|&id| codec.token_bytes(id).is_none()).collect();
    assert!(dead.len() > 10);
    let plan = Dct::new(1).unwrap();
    let error = codec
        .decode_into(&plan, &[dead[0]], 1, Partial::Pad, &mut FastScratch::default(), &mut [0.0])
        .unwrap_err();
    assert!(matches!(error, Error::Token { position: 0, id, .. } if id == dead[0]), "{error}");
}
