//! Chunk to ids.

use super::{FastCodec, NO_TOKEN, OnOverflow, check_shape};
use crate::bpe::MergeScratch;
use crate::pretokenize::{self, Class};
use crate::{Dct, Error, Float, Result};

/// Room that encoding and decoding work in. Keep it between calls, and nothing is allocated once it has grown.
#[derive(Debug, Default)]
pub struct FastScratch {
    /// The rounded coefficients, row after row.
    pub(super) quantized: Vec<i32>,
    pub(super) transform: Vec<f64>,
    cuts: Vec<usize>,
    symbols: Vec<u32>,
    merging: MergeScratch<u32>,
}

impl FastCodec {
    /// Encodes one chunk [H, D], row-major, and appends its ids to `out`. Returns how many coefficients were clipped.
    ///
    /// Arithmetic is in the chunk's own precision, as the reference has it.
    ///
    /// # Errors
    /// [`Error::Shape`] for another length than the plan's horizon times `dim`. [`Error::Argument`] names the first
    /// value that is NaN or infinite. [`Error::Overflow`] names the first coefficient without tokens, unless they are
    /// to be clipped.
    pub fn encode_into<T: Float>(
        &self,
        plan: &Dct,
        chunk: &[T],
        dim: usize,
        on_overflow: OnOverflow,
        scratch: &mut FastScratch,
        out: &mut Vec<u32>,
    ) -> Result<usize> {
        quantize(plan, chunk, dim, self.config.scale, &mut scratch.quantized)?;
        let clipped = self.clip(dim, on_overflow, &mut scratch.quantized)?;
        self.merge_pieces(scratch, out);
        Ok(clipped)
    }

    /// Replaces each coefficient without tokens by the nearest one that has some. Returns how many there were.
    fn clip(&self, dim: usize, on_overflow: OnOverflow, quantized: &mut [i32]) -> Result<usize> {
        let mut clipped = 0;
        for (at, value) in quantized.iter_mut().enumerate() {
            if self.alphabet.holds(*value) {
                continue;
            }
            let overflow = Error::Overflow { frequency: at / dim, dim: at % dim, value: (*value).into() };
            *value = match (on_overflow, self.alphabet.nearest(*value)) {
                (OnOverflow::Clip, Some(nearest)) => nearest,
                _ => return Err(overflow),
            };
            clipped += 1;
        }
        Ok(clipped)
    }

    /// The ids of the coefficients by the definition: split the text, merge the bytes of each piece.
    fn merge_pieces(&self, scratch: &mut FastScratch, out: &mut Vec<u32>) {
        let FastScratch { quantized, cuts, symbols, merging, .. } = scratch;
        let characters = || quantized.iter().filter_map(|&value| self.alphabet.character(value));
        cuts.clear();
        if self.vocabulary.use_regex() {
            pretokenize::split(characters().map(Class::of), |at| cuts.push(at));
        }
        cuts.push(quantized.len());
        let mut start = 0;
        for &end in cuts.iter() {
            symbols.clear();
            for &value in &quantized[start..end] {
                let Some(character) = self.alphabet.character(value) else { continue };
                let mut utf8 = [0; 4];
                let bytes = character.encode_utf8(&mut utf8).bytes();
                symbols.extend(bytes.map(|byte| self.byte_tokens[usize::from(byte)]));
            }
            debug_assert!(!symbols.contains(&NO_TOKEN));
            self.merges.merge(symbols, merging);
            out.extend_from_slice(symbols);
            start = end;
        }
    }
}

/// The rounded coefficients of a chunk.
///
/// # Errors
/// As [`FastCodec::encode_into`], of the shape and of values that are not finite.
pub(crate) fn quantize<T: Float>(
    plan: &Dct,
    chunk: &[T],
    dim: usize,
    scale: f64,
    out: &mut Vec<i32>,
) -> Result<()> {
    check_shape(plan, chunk.len(), dim)?;
    if let Some(at) = chunk.iter().position(|&x| !Into::<f64>::into(x).is_finite()) {
        let why = format!("step {}, dimension {} is {}", at / dim, at % dim, Into::<f64>::into(chunk[at]));
        return Err(Error::Argument { what: "chunk", why });
    }
    let mut coefficients = chunk.to_vec();
    plan.forward(&mut coefficients, dim, &mut Vec::new())?;
    out.clear();
    out.extend(coefficients.iter().map(|&x| {
        let scaled = T::from_f64(Into::<f64>::into(x) * scale);
        Into::<f64>::into(scaled).round_ties_even() as i32
    }));
    Ok(())
}
