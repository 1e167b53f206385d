//! Limits that each action passes before the robot.

use std::sync::Mutex;

use pioxide_core::{Limits, SafetyFilter};

use crate::memory::{Buffers, give, handle, take_back};
use crate::options::{self, Growing};
use crate::status::{PioxideStatus, Result, exclusive, guard};

/// A safety filter. One thread at a time: a call that finds it in use fails with PIOXIDE_STATUS_BUSY and changes
/// nothing.
pub struct PioxideSafety(Mutex<Filter>);

struct Filter {
    filter: SafetyFilter,
    /// The wanted action: the given one may be written over the caller's.
    wanted: Vec<f64>,
}

/// A number of the action was NaN, infinite or beyond 1e60: every joint brakes and holds.
pub const PIOXIDE_VIOLATED_NOT_FINITE: u32 = 1;
/// Out of the range, or too fast to brake before its end.
pub const PIOXIDE_VIOLATED_POSITION: u32 = 2;
/// Too fast.
pub const PIOXIDE_VIOLATED_VELOCITY: u32 = 4;
/// Too sudden.
pub const PIOXIDE_VIOLATED_ACCELERATION: u32 = 8;

/// What a filter is to hold. Of each kind, one number for every joint, one for all, or none for no limit.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct PioxideSafetyOptions {
    /// sizeof(PioxideSafetyOptions).
    pub struct_size: usize,
    /// Numbers in an action.
    pub dim: usize,
    /// Actions a second.
    pub hz: f64,
    /// Lowest positions, in the action's units.
    pub low: *const f64,
    /// How many: 0, 1 or dim.
    pub low_len: usize,
    /// Highest positions.
    pub high: *const f64,
    /// How many: 0, 1 or dim.
    pub high_len: usize,
    /// Largest speeds, units a second.
    pub velocity: *const f64,
    /// How many: 0, 1 or dim.
    pub velocity_len: usize,
    /// Largest changes of velocity, units a second squared.
    pub acceleration: *const f64,
    /// How many: 0, 1 or dim.
    pub acceleration_len: usize,
}

// SAFETY: numbers and pointers alone.
unsafe impl Growing for PioxideSafetyOptions {
    const FIRST: usize = 88;
    const NAME: &'static str = "PioxideSafetyOptions";
}

/// Makes a filter; the limits are copied. Nothing is allocated from then on.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_safety_new(
    options: *const PioxideSafetyOptions,
    out: *mut *mut PioxideSafety,
) -> PioxideStatus {
    // SAFETY: C keeps the header's promise for every pointer, those in the struct too.
    guard(|| unsafe {
        give(out, || {
            let options = options::read("options", options)?;
            let mut buffers = Buffers::default();
            let limits = Limits {
                low: buffers.input("low", options.low, options.low_len)?,
                high: buffers.input("high", options.high, options.high_len)?,
                velocity: buffers.input("velocity", options.velocity, options.velocity_len)?,
                acceleration: buffers.input(
                    "acceleration",
                    options.acceleration,
                    options.acceleration_len,
                )?,
            };
            let filter = SafetyFilter::new(options.dim, options.hz, &limits)?;
            let wanted = vec![0.0; options.dim];
            Ok(PioxideSafety(Mutex::new(Filter { filter, wanted })))
        })
    })
}

/// Frees a filter; NULL is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_safety_free(safety: *mut PioxideSafety) {
    // SAFETY: C keeps the header's promise for the handle.
    guard(|| unsafe { take_back("safety", safety) });
}

/// Starts anew at rest at `position` `[dim]`, the measured joints; to be called before the first action.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_safety_reset(
    safety: *const PioxideSafety,
    position: *const f64,
    dim: usize,
) -> PioxideStatus {
    guard(|| {
        // SAFETY: C keeps the header's promise for every pointer.
        let (PioxideSafety(safety), position) =
            unsafe { (handle("safety", safety)?, Buffers::default().input("position", position, dim)?) };
        Ok(exclusive("safety", safety)?.filter.reset(position)?)
    })
}

/// A tick in which nothing is sent: the robot stands at the last action, and goes on from rest.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_safety_hold(safety: *const PioxideSafety) -> PioxideStatus {
    guard(|| {
        // SAFETY: C keeps the header's promise for the handle.
        let PioxideSafety(safety) = unsafe { handle("safety", safety)? };
        exclusive("safety", safety)?.filter.hold();
        Ok(())
    })
}

/// Writes to `given` `[dim]` the action to send: the nearest one to `wanted` `[dim]` that the limits allow. They may be
/// the same buffer, but not overlap otherwise. `*violations`, if not NULL, becomes which limits changed it: a sum of
/// PIOXIDE_VIOLATED_*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_safety_apply(
    safety: *const PioxideSafety,
    wanted: *const f64,
    given: *mut f64,
    dim: usize,
    violations: *mut u32,
) -> PioxideStatus {
    // SAFETY: C keeps the header's promise for every pointer.
    guard(|| unsafe { apply(safety, wanted, given, dim, violations) })
}

/// # Safety
/// As the header asks of every pointer.
unsafe fn apply(
    safety: *const PioxideSafety,
    wanted: *const f64,
    given: *mut f64,
    dim: usize,
    violations: *mut u32,
) -> Result<()> {
    let mut buffers = Buffers::default();
    let in_place = std::ptr::eq(wanted, given);
    // SAFETY: the caller's promise is passed on.
    let (PioxideSafety(safety), given, violations) = unsafe {
        (
            handle("safety", safety)?,
            buffers.output("given", given, dim)?,
            buffers.optional("violations", violations)?,
        )
    };
    let mut safety = exclusive("safety", safety)?;
    let Filter { filter, wanted: copy } = &mut *safety;
    // SAFETY: as above; in place there is one buffer alone.
    let asked = if in_place { &*given } else { unsafe { buffers.input("wanted", wanted, dim)? } };
    let Some(copy) = copy.get_mut(..dim).filter(|_| dim == filter.dim()) else {
        return Err(pioxide_core::Error::Shape { what: "an action", expected: filter.dim(), got: dim }.into());
    };
    copy.copy_from_slice(asked);
    let violated = filter.apply(copy, given)?;
    if let Some(violations) = violations {
        *violations = [
            (violated.not_finite, PIOXIDE_VIOLATED_NOT_FINITE),
            (violated.position, PIOXIDE_VIOLATED_POSITION),
            (violated.velocity, PIOXIDE_VIOLATED_VELOCITY),
            (violated.acceleration, PIOXIDE_VIOLATED_ACCELERATION),
        ]
        .iter()
        .map(|&(is, bit)| u32::from(is) * bit)
        .sum();
    }
    Ok(())
}
