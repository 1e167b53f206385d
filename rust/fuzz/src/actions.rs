//! Chunks and token ids of any kind, with a few tokenizers: what is encoded comes back, and what is decoded is what the
//! tokens spell.

use std::sync::LazyLock;

use arbitrary::{Arbitrary, Unstructured};
use pioxide_core::{Error, FastCodec, FastScratch, FitOptions, Float, OnOverflow, Partial};

/// Without the split and with it, with characters that zero shares with no letter, with a coarse scale.
static CODECS: LazyLock<[FastCodec; 4]> = LazyLock::new(|| {
    let chunks: Vec<Vec<f64>> = (0..60)
        .map(|n| (0..48).map(|i| ((n * 5 + i / 3) as f64 * 0.2 + (i % 3) as f64).sin()).collect())
        .collect();
    let shaped: Vec<_> = chunks.iter().map(|chunk| (chunk.as_slice(), 16, 3)).collect();
    let plain = FitOptions { vocab_size: 330, regex_split: false, ..FitOptions::default() };
    [
        plain.clone(),
        FitOptions { regex_split: true, ..plain.clone() },
        FitOptions { regex_split: true, min_token: Some(-60), ..plain.clone() },
        FitOptions { scale: 0.37, min_token: Some(-11), ..plain },
    ]
    .map(|options| FastCodec::fit(&shaped, &options).expect("it fits"))
});

fn codec(input: &mut Unstructured<'_>) -> arbitrary::Result<&'static FastCodec> {
    input.choose(&*CODECS)
}

fn shape(input: &mut Unstructured<'_>) -> arbitrary::Result<(usize, usize)> {
    Ok((input.int_in_range(1..=70)?, input.int_in_range(1..=20)?))
}

/// Any ids, decoded to a chunk of any shape.
pub fn token_ids(data: &[u8]) {
    let input = &mut Unstructured::new(data);
    let Ok((codec, (horizon, dim))) = codec(input).and_then(|codec| Ok((codec, shape(input)?))) else {
        return;
    };
    let wild = input.arbitrary().unwrap_or(false);
    let small = |id: u16| u32::from(id) % (codec.vocab_size() as u32 + 1);
    let ids: Vec<u32> = if wild {
        input.arbitrary_iter().into_iter().flatten().flatten().collect()
    } else {
        input.arbitrary_iter().into_iter().flatten().flatten().map(small).collect()
    };
    let (plan, mut scratch) = (codec.plan(horizon).expect("in range"), FastScratch::default());
    let size = horizon * dim;
    let mut decode = |partial| {
        let mut out = vec![f64::NAN; size];
        codec.decode_into(&plan, &ids, dim, partial, &mut scratch, &mut out).map(|missing| (missing, out))
    };
    let (strict, padded) = (decode(Partial::Error), decode(Partial::Pad));
    let (text, unfinished) = match spelled(codec, &ids) {
        Ok(found) => found,
        Err(at) => {
            for result in [strict, padded] {
                assert!(
                    matches!(&result, Err(Error::Token { position, .. }) if *position == at),
                    "{result:?}"
                );
            }
            return;
        }
    };
    let count = text.chars().count();
    if count > size || (count == size && unfinished) {
        assert!(
            matches!(strict, Err(Error::Incomplete { .. }))
                && matches!(padded, Err(Error::Incomplete { .. }))
        );
        return;
    }
    let (missing, actions) = padded.expect("there is room");
    assert_eq!(missing, size - count);
    match strict {
        Ok(strict) => assert!(missing == 0 && strict == (0, actions.clone())),
        Err(error) => assert!(missing > 0 && matches!(error, Error::Incomplete { .. }), "{error}"),
    }
    // Each character is a coefficient of what was decoded.
    let mut coefficients = vec![0.0; size];
    plan.forward(&actions, dim, &mut Vec::new(), &mut coefficients).expect("of this shape");
    let values = text.chars().map(|c| i64::from(u32::from(c)) + codec.min_token());
    let wanted: Vec<f64> =
        values.map(|value| value as f64 / codec.scale()).chain(std::iter::repeat(0.0)).take(size).collect();
    let largest = wanted.iter().fold(1.0, |most: f64, x| most.max(x.abs()));
    assert!(wanted.iter().zip(&coefficients).all(|(wanted, got)| (wanted - got).abs() <= 1e-11 * largest));
}

/// What ids spell, and whether a character is left unfinished behind it; else the position of the id that is wrong.
fn spelled(codec: &FastCodec, ids: &[u32]) -> Result<(String, bool), usize> {
    let (mut text, mut rest) = (String::new(), Vec::new());
    for (position, &id) in ids.iter().enumerate() {
        rest.extend_from_slice(codec.token_bytes(id).ok_or(position)?);
        let valid = match std::str::from_utf8(&rest) {
            Ok(whole) => whole.len(),
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            Err(_) => return Err(position),
        };
        text.extend(
            rest.drain(..valid).collect::<Vec<u8>>().utf8_chunks().map(|chunk| chunk.valid().to_owned()),
        );
    }
    Ok((text, !rest.is_empty()))
}

/// Any chunk of either precision, encoded and decoded.
pub fn chunks(data: &[u8]) {
    let input = &mut Unstructured::new(data);
    let Ok(codec) = codec(input) else { return };
    match input.int_in_range(0..=3) {
        Ok(0) => check_chunk(codec, input, |bits: u64| f64::from_bits(bits)),
        Ok(1) => check_chunk(codec, input, |bits: u32| f32::from_bits(bits)),
        Ok(2) => check_chunk(codec, input, |steps: i16| f64::from(steps) / 4096.0),
        Ok(_) => check_chunk(codec, input, |steps: i8| f32::from(steps) / 20.0),
        Err(_) => {}
    }
}

fn check_chunk<'a, T: Float, A: Arbitrary<'a>>(
    codec: &FastCodec,
    input: &mut Unstructured<'a>,
    value: impl Fn(A) -> T,
) {
    let Ok((horizon, dim)) = shape(input) else { return };
    let size = horizon * dim;
    let mut chunk: Vec<T> =
        input.arbitrary_iter().into_iter().flatten().flatten().map(value).take(size).collect();
    chunk.resize(size, chunk.last().copied().unwrap_or_default());
    let (plan, mut scratch) = (codec.plan(horizon).expect("in range"), FastScratch::default());
    let mut encode = |on_overflow| {
        let mut ids = vec![7];
        let result = codec.encode_into(&plan, &chunk, dim, on_overflow, &mut scratch, &mut ids);
        assert!(ids[0] == 7 && (result.is_ok() || ids.len() == 1), "nothing half-written");
        result.map(|clipped| (clipped, ids.split_off(1)))
    };
    let (strict, clipped) = (encode(OnOverflow::Error), encode(OnOverflow::Clip));
    let finite = chunk.iter().all(|&x| x.into().is_finite());
    let (count, ids) = match clipped {
        Ok(found) => found,
        Err(error) => {
            let far = chunk.iter().any(|&x| x.into().abs() > 1e30);
            assert!(matches!(error, Error::Argument { .. }) && (!finite || far), "{error}");
            assert!(strict.is_err());
            return;
        }
    };
    assert!(finite && count <= size && (1..=4 * size).contains(&ids.len()));
    match strict {
        Ok(strict) => assert_eq!(strict, (0, ids.clone())),
        Err(error) => assert!(count > 0 && matches!(error, Error::Overflow { .. }), "{error}"),
    }
    let (mut back, mut scratch) = (vec![0.0; size], FastScratch::default());
    assert_eq!(codec.decode_into(&plan, &ids, dim, Partial::Error, &mut scratch, &mut back), Ok(0));
    let mut again = Vec::new();
    let clipped_again = codec.encode_into(&plan, &back, dim, OnOverflow::Error, &mut scratch, &mut again);
    assert_eq!((clipped_again, &again), (Ok(0), &ids), "what was decoded is encoded as before");
    if count == 0 {
        check_error(codec, &chunk, &back, dim);
    }
}

/// Where nothing was clipped, no coefficient is further off than half a step, and so no column than that a step.
fn check_error<T: Float>(codec: &FastCodec, chunk: &[T], back: &[f64], dim: usize) {
    let horizon = chunk.len() / dim;
    // Single precision rounds the coefficients, and a half step is as good upwards as downwards.
    let largest = chunk.iter().fold(0.0, |most: f64, &x| most.max(x.into().abs()));
    let rounding = 1e-5 * (largest * (horizon as f64).sqrt() + 1.0);
    let most = (0.5 / codec.scale() + rounding) * (horizon as f64).sqrt();
    for column in 0..dim {
        let off = |at: usize| {
            let x: f64 = chunk[at].into();
            (x - back[at]).powi(2)
        };
        let error = (column..chunk.len()).step_by(dim).map(off).sum::<f64>().sqrt();
        assert!(error <= most, "column {column} is off by {error}, more than {most}");
    }
}
