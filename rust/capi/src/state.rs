//! A normalised state as bins.

use pioxide_core::{Float, state_bins_into};

use crate::memory::{Buffers, Plain};
use crate::status::{PioxideStatus, Result, guard};

/// Writes the bin of each of `dim` joints of a normalised state: 0 to 255 over [-1, 1), -1 below, 255 from 1 on.
/// Threads need nothing of their own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_state_bins_f64(
    state: *const f64,
    dim: usize,
    bins: *mut i16,
) -> PioxideStatus {
    // SAFETY: C keeps the header's promise for every pointer.
    guard(|| unsafe { write_bins(state, dim, bins) })
}

/// As pioxide_state_bins_f64, of single precision.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_state_bins_f32(
    state: *const f32,
    dim: usize,
    bins: *mut i16,
) -> PioxideStatus {
    // SAFETY: C keeps the header's promise for every pointer.
    guard(|| unsafe { write_bins(state, dim, bins) })
}

/// # Safety
/// As the header asks of every pointer.
unsafe fn write_bins<T: Float + Plain>(state: *const T, dim: usize, bins: *mut i16) -> Result<()> {
    let mut buffers = Buffers::default();
    // SAFETY: the caller's promise is passed on.
    let (state, bins) = unsafe { (buffers.input("state", state, dim)?, buffers.output("bins", bins, dim)?) };
    Ok(state_bins_into(state, bins)?)
}
