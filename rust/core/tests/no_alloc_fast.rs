//! In a control loop the codec allocates nothing: neither encoding nor decoding, once the scratch has grown.
#![allow(clippy::unwrap_used)]

#[path = "common/counting.rs"]
mod counting;

use counting::allocations;
use pioxide_core::{Dct, FastCodec, FastScratch, FitOptions, OnOverflow, Partial};

const HORIZON: usize = 25;
const DIM: usize = 9;

fn chunk(seed: usize) -> Vec<f64> {
    (0..HORIZON * DIM).map(|i| ((i * 7 + seed * 13) as f64 * 0.11).sin() * (i % DIM) as f64 * 0.3).collect()
}

#[test]
fn nothing_is_allocated_in_the_steady_state() {
    let chunks: Vec<Vec<f64>> = (0..40).map(chunk).collect();
    let single: Vec<Vec<f32>> =
        chunks.iter().map(|chunk| chunk.iter().map(|&x| x as f32).collect()).collect();
    let given: Vec<_> = chunks.iter().map(|chunk| (chunk.as_slice(), HORIZON, DIM)).collect();
    for regex_split in [false, true] {
        let options = FitOptions { vocab_size: 400, regex_split, ..FitOptions::default() };
        let codec = FastCodec::fit(&given, &options).unwrap();
        let plan = Dct::new(HORIZON).unwrap();
        let (mut scratch, mut ids, mut actions) =
            (FastScratch::default(), Vec::new(), vec![0.0; HORIZON * DIM]);
        let mut all = |scratch: &mut FastScratch, ids: &mut Vec<u32>| {
            for (chunk, single) in chunks.iter().zip(&single) {
                ids.clear();
                codec.encode_into(&plan, chunk, DIM, OnOverflow::Clip, scratch, ids).unwrap();
                codec.decode_into(&plan, ids, DIM, Partial::Error, scratch, &mut actions).unwrap();
                ids.clear();
                codec.encode_into(&plan, single, DIM, OnOverflow::Error, scratch, ids).unwrap();
            }
        };
        all(&mut scratch, &mut ids);
        assert_eq!(allocations(|| all(&mut scratch, &mut ids)), 0);
    }
}
