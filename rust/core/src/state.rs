//! A normalised state as 256 bins a joint, which is how π0.5 and π0-FAST read it in their prompts.

use crate::{Error, Float, Result};

/// The bin of one joint: 0 to 255 over [-1, 1), each 1/128 wide and holding its lower edge; -1 below, 255 from 1 on.
/// `None` where the value is NaN or infinite.
///
/// The same as `numpy.digitize(x, numpy.linspace(-1, 1, 257)[:-1]) - 1`. Scaling by 128 is exact, adding 1 first would
/// not be.
#[inline]
pub fn state_bin<T: Float>(x: T) -> Option<i16> {
    let x: f64 = x.into();
    let scaled = (x * 128.0).clamp(-129.0, 127.0);
    // Rounded down by hand: a call of `floor` is slow where the processor's instruction may not be assumed.
    let truncated = scaled as i32;
    let shifted = truncated.wrapping_sub(i32::from(scaled < f64::from(truncated))).wrapping_add(128);
    x.is_finite().then_some(shifted as i16)
}

/// The bins of a state, one a joint.
///
/// # Errors
/// [`Error::Shape`] when `bins` has another length than `state`, [`Error::NotFinite`] names the first joint that is NaN
/// or infinite. Then `bins` is as it was.
pub fn state_bins_into<T: Float>(state: &[T], bins: &mut [i16]) -> Result<()> {
    if bins.len() != state.len() {
        return Err(Error::Shape { what: "bins", expected: state.len(), got: bins.len() });
    }
    check_finite(state)?;
    for (bin, &x) in bins.iter_mut().zip(state) {
        *bin = state_bin(x).unwrap_or_default();
    }
    Ok(())
}

/// Refuses a state with a joint that is NaN or infinite.
#[inline]
pub(crate) fn check_finite<T: Float>(state: &[T]) -> Result<()> {
    if state.iter().all(|&x| x.into().is_finite()) { Ok(()) } else { Err(not_finite(state)) }
}

#[cold]
fn not_finite<T: Float>(state: &[T]) -> Error {
    let values = state.iter().map(|&x| x.into());
    let found = values.enumerate().find(|(_, x): &(usize, f64)| !x.is_finite());
    let (joint, value) = found.unwrap_or_default();
    Error::NotFinite { joint, value }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// NumPy's `digitize` as it is defined: how many edges are not above the value.
    fn digitize(x: f64) -> i16 {
        (0..256).filter(|&edge| f64::from(edge) / 128.0 - 1.0 <= x).count() as i16 - 1
    }

    #[test]
    fn every_edge_opens_its_bin_in_both_precisions() {
        for edge in -129..=130 {
            let x = f64::from(edge) / 128.0;
            for near in [x.next_down(), x, x.next_up()] {
                assert_eq!(state_bin(near), Some(digitize(near)), "{near:?}");
            }
            let x = x as f32;
            for near in [x.next_down(), x, x.next_up()] {
                assert_eq!(state_bin(near), Some(digitize(near.into())), "{near:?}");
            }
        }
    }

    #[test]
    fn known_bins() {
        for (x, bin) in [(-1.0, 0), (0.0, 128), (-1e-9, 127), (0.0078125, 129), (0.9921875, 255), (1.0, 255)]
        {
            assert_eq!(state_bin(x), Some(bin));
        }
        assert_eq!(
            [f64::MIN, (-1.0f64).next_down(), f64::MAX].map(state_bin),
            [Some(-1), Some(-1), Some(255)]
        );
    }

    #[test]
    fn a_joint_that_is_no_number_is_named_and_nothing_is_written() {
        assert_eq!([f32::NAN, f32::INFINITY, f32::NEG_INFINITY].map(state_bin), [None; 3]);
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let mut bins = [7; 3];
            let error = state_bins_into(&[0.0, 1.0, value], &mut bins).unwrap_err();
            assert!(matches!(error, Error::NotFinite { joint: 2, .. }), "{error:?}");
            assert_eq!(error.to_string(), format!("state: joint 2 is {value}"));
            assert_eq!(bins, [7; 3]);
        }
        let error = state_bins_into(&[0.0f32; 3], &mut [0; 2]).unwrap_err();
        assert_eq!(error, Error::Shape { what: "bins", expected: 3, got: 2 });
    }

    proptest! {
        #[test]
        fn bins_are_digitizes(state in proptest::collection::vec(prop_oneof![-1.1..1.1f64, any::<f32>().prop_map(f64::from)], 0..40)) {
            let finite: Vec<f64> = state.into_iter().filter(|x| x.is_finite()).collect();
            let mut bins = vec![0; finite.len()];
            state_bins_into(&finite, &mut bins).unwrap();
            let expected: Vec<i16> = finite.iter().map(|&x| digitize(x)).collect();
            prop_assert_eq!(bins, expected);
        }
    }
}
