//! Coefficients to integers: times the scale in the coefficients' own precision, then to the nearest, ties to even.

use crate::Float;

/// No vocabulary represents a value as far from zero as this.
const FAR: f64 = (1 << 22) as f64;
/// Added to a number far below 2^51 it leaves no room for a fraction: rounding to even is then the addition's own, and
/// the integer is in the low bits. (Baseline x86-64 has no rounding instruction, and a library call a value is slow.)
const SHIFT: f64 = 1.5 * (1_u64 << 52) as f64;

/// Rounds `coefficients * scale` into `values`, appended. Returns false if one of them is not a number or beyond what
/// any vocabulary holds: such a one stands as the nearest value that is not beyond it ([`exactly`] has it in full).
pub(crate) fn quantise<T: Float>(coefficients: &[T], scale: f64, values: &mut Vec<i32>) -> bool {
    let start = values.len();
    values.resize(start + coefficients.len(), 0);
    let values = &mut values[start..];
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        #[target_feature(enable = "avx2")]
        fn with_avx2<T: Float>(coefficients: &[T], scale: T, values: &mut [i32]) -> bool {
            round(coefficients, scale, values)
        }
        #[allow(unsafe_code)]
        // SAFETY: the processor has AVX2, as just asked, and the function needs nothing else.
        return unsafe { with_avx2(coefficients, T::from_f64(scale), values) };
    }
    round(coefficients, T::from_f64(scale), values)
}

/// Inlined into its callers, which differ in the instructions they may use.
#[inline(always)]
fn round<T: Float>(coefficients: &[T], scale: T, values: &mut [i32]) -> bool {
    let mut within = 1_u64;
    for (value, &coefficient) in values.iter_mut().zip(coefficients) {
        let scaled: f64 = (coefficient * scale).into();
        within &= u64::from(scaled.abs() <= FAR);
        *value = (scaled.clamp(-FAR, FAR) + SHIFT).to_bits() as i32;
    }
    within == 1
}

/// One coefficient's integer, saturating; `None` for what is not a number.
pub(super) fn exactly<T: Float>(coefficient: T, scale: f64) -> Option<i64> {
    let scaled: f64 = (coefficient * T::from_f64(scale)).into();
    (!scaled.is_nan()).then(|| scaled.round_ties_even() as i64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_rounds_as_the_definition(values in prop::collection::vec(-2e7..2e7_f64, 0..40), halves in -3000..3000_i32) {
            let mut values = values;
            values.extend([f64::from(halves) / 2.0, f64::from(halves) / 20.0, 0.0, -0.0]);
            let mut got = Vec::new();
            let near = quantise(&values, 10.0, &mut got);
            prop_assert_eq!(near, values.iter().all(|x| (x * 10.0).abs() <= FAR));
            for (&x, got) in values.iter().zip(got) {
                let expected = exactly(x, 10.0).unwrap();
                prop_assert_eq!(i64::from(got), expected.clamp(-(FAR as i64), FAR as i64));
            }
        }
    }

    #[test]
    fn the_product_is_rounded_in_the_given_precision() {
        // 0.25 and 0.35 of float32 times 10 are just beside the half in double precision and on it in single.
        let mut single = Vec::new();
        assert!(quantise(&[0.25_f32, 0.35, -0.35], 10.0, &mut single));
        assert_eq!(single, [2, 4, -4]);
        let mut double = Vec::new();
        assert!(quantise(&[0.25_f64, f64::from(0.35_f32)], 10.0, &mut double));
        assert_eq!(double, [2, 3]);
        for wild in [f64::NAN, f64::INFINITY, -1e300] {
            assert!(!quantise(&[0.0, wild], 10.0, &mut double));
        }
        assert_eq!((exactly(f64::NAN, 1.0), exactly(f64::NEG_INFINITY, 1.0)), (None, Some(i64::MIN)));
    }
}
