//! Room to work in: with it, calls in a control loop allocate nothing.

use std::sync::{Arc, Mutex};

use pioxide_core::{Dct, FastCodec, FastScratch, TextScratch};

use crate::memory::{give, take_back};
use crate::status::{PioxideStatus, Result, guard};

/// Room to work in, for any codec, text and prompts. Each thread has its own: a call that finds it in use fails with
/// PIOXIDE_STATUS_BUSY. It grows with what it is used for and keeps what it has.
#[derive(Default)]
pub struct PioxideScratch(pub(crate) Mutex<Room>);

#[derive(Default)]
pub(crate) struct Room {
    pub(crate) fast: FastScratch,
    pub(crate) text: TextScratch,
    pub(crate) ids: Vec<u32>,
    /// The transform of the last horizon, which is the same for every codec.
    plan: Option<Arc<Dct>>,
}

impl Room {
    /// The transform of a horizon, and the rest of the room.
    pub(crate) fn plan(
        &mut self,
        codec: &FastCodec,
        horizon: usize,
    ) -> Result<(Arc<Dct>, &mut FastScratch, &mut Vec<u32>)> {
        let plan = match &self.plan {
            Some(plan) if plan.horizon() == horizon => plan.clone(),
            _ => self.plan.insert(codec.plan(horizon)?).clone(),
        };
        Ok((plan, &mut self.fast, &mut self.ids))
    }
}

/// Makes room to work in.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_scratch_new(out: *mut *mut PioxideScratch) -> PioxideStatus {
    // SAFETY: C keeps the header's promise for `out`.
    guard(|| unsafe { give(out, || Ok(PioxideScratch::default())) })
}

/// Frees it; NULL is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_scratch_free(scratch: *mut PioxideScratch) {
    // SAFETY: C keeps the header's promise for the handle.
    guard(|| unsafe { take_back("scratch", scratch) });
}
