//! A first, plain form of the codec, to be replaced by the planned one.

pub(crate) mod fast;

use crate::{Error, Float, Result};

/// Bins a whole state.
///
/// # Errors
/// [`Error::Argument`] naming the first joint that is NaN or infinite.
pub fn state_bins_into<T: Float>(state: &[T], out: &mut [i16]) -> Result<()> {
    for (joint, (&x, bin)) in state.iter().zip(out).enumerate() {
        let x: f64 = x.into();
        if !x.is_finite() {
            return Err(Error::Argument { what: "state", why: format!("joint {joint} is {x}") });
        }
        *bin = ((x * 128.0).floor() + 128.0).clamp(-1.0, 255.0) as i16;
    }
    Ok(())
}
