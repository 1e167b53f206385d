//! The actions still to be played.

use std::sync::Mutex;

use pioxide_core::{ActionQueue, OnEmpty, Taken};

use crate::memory::{Buffers, area, copy_out, give, handle, take_back};
use crate::options::{self, Growing};
use crate::status::{PioxideStatus, exclusive, guard, invalid};

/// An action queue. One thread at a time: a call that finds it in use fails with PIOXIDE_STATUS_BUSY and changes
/// nothing. Where a policy's thread puts chunks and a loop's thread takes actions, hold a lock of yours around the
/// calls, or hand the chunk over to the loop's thread.
pub struct PioxideQueue(Mutex<ActionQueue>);

/// What a queue gives when no action is left.
#[repr(u32)]
pub enum PioxideOnEmpty {
    /// The last action again.
    Hold = 0,
    /// Nothing: the loop is to stop.
    Stop = 1,
    /// The rest of the chunk at half speed once `slow_below` actions or fewer are left, then the last action.
    Slow = 2,
}

/// What pioxide_queue_take wrote.
#[repr(u32)]
pub enum PioxideTaken {
    /// A fresh action.
    Fresh = 0,
    /// The queue is dry: the last action again.
    Held = 1,
    /// Nothing was written: no action has come yet, or a dry queue is to stop the robot.
    Nothing = 2,
}

/// What a queue is to be like. Fields that are not set are to be zero.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct PioxideQueueOptions {
    /// sizeof(PioxideQueueOptions).
    pub struct_size: usize,
    /// Numbers in an action.
    pub dim: usize,
    /// Actions in the longest chunk.
    pub most: usize,
    /// With PIOXIDE_ON_EMPTY_SLOW: from how many actions left on; else 0.
    pub slow_below: usize,
    /// A PioxideOnEmpty.
    pub on_empty: u32,
    /// To be 0.
    pub reserved: u32,
}

// SAFETY: numbers alone.
unsafe impl Growing for PioxideQueueOptions {
    const FIRST: usize = 40;
    const NAME: &'static str = "PioxideQueueOptions";
}

/// What is known of a queue.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct PioxideQueueInfo {
    /// sizeof(PioxideQueueInfo), set by the caller.
    pub struct_size: usize,
    /// Actions consumed since the start, with fractions where the queue plays slowly: to be read when an observation is
    /// taken, and given to pioxide_queue_put with its chunk.
    pub consumed: f64,
    /// Whole actions left in the current chunk.
    pub remaining: usize,
    /// Chunks that came so late that nothing of them was left.
    pub late: u64,
    /// Chunks whose observation was older than the current chunk's.
    pub outdated: u64,
    /// Ticks without a fresh action.
    pub dry_ticks: u64,
}

// SAFETY: numbers alone.
unsafe impl Growing for PioxideQueueInfo {
    const FIRST: usize = 48;
    const NAME: &'static str = "PioxideQueueInfo";
}

/// Makes an empty queue, with room for its longest chunk. Nothing is allocated from then on.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_queue_new(
    options: *const PioxideQueueOptions,
    out: *mut *mut PioxideQueue,
) -> PioxideStatus {
    // SAFETY: C keeps the header's promise for every pointer.
    guard(|| unsafe {
        give(out, || {
            let PioxideQueueOptions { dim, most, slow_below, on_empty, reserved, .. } =
                options::read("options", options)?;
            if reserved != 0 {
                return Err(invalid!("options: reserved is to be 0, got {reserved}"));
            }
            let on_empty = match (on_empty, slow_below) {
                (0, 0) => OnEmpty::Hold,
                (1, 0) => OnEmpty::Stop,
                (2, below) => OnEmpty::Slow { below },
                (0 | 1, _) => {
                    return Err(invalid!("options: slow_below is {slow_below}, but on_empty is not slow"));
                }
                (other, _) => {
                    return Err(invalid!("on_empty: expected 0 (hold), 1 (stop) or 2 (slow), got {other}"));
                }
            };
            Ok(PioxideQueue(Mutex::new(ActionQueue::new(dim, most, on_empty)?)))
        })
    })
}

/// Frees a queue; NULL is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_queue_free(queue: *mut PioxideQueue) {
    // SAFETY: C keeps the header's promise for the handle.
    guard(|| unsafe { take_back("queue", queue) });
}

/// Lets a new chunk `[rows, dim]` take over at the place that the robot has reached meanwhile. `since` is what `consumed`
/// was when its observation was taken. `*delay`, if not NULL, becomes how many actions it came late, or -1 where the
/// chunk was dropped: `late` or `outdated` has then counted it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_queue_put(
    queue: *const PioxideQueue,
    actions: *const f64,
    rows: usize,
    dim: usize,
    since: f64,
    delay: *mut f64,
) -> PioxideStatus {
    guard(|| {
        let mut buffers = Buffers::default();
        // SAFETY: C keeps the header's promise for every pointer.
        let (PioxideQueue(queue), actions, delay) = unsafe {
            (
                handle("queue", queue)?,
                buffers.input("actions", actions, area("actions", rows, dim)?)?,
                buffers.optional("delay", delay)?,
            )
        };
        let mut queue = exclusive("queue", queue)?;
        if dim != queue.dim() {
            return Err(invalid!("dim: the queue's actions have {} numbers, got {dim}", queue.dim()));
        }
        let came = queue.put(actions, since)?;
        if let Some(delay) = delay {
            *delay = came.unwrap_or(-1.0);
        }
        Ok(())
    })
}

/// Writes the next action `[dim]` to play. `*taken` becomes a PioxideTaken.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_queue_take(
    queue: *const PioxideQueue,
    action: *mut f64,
    dim: usize,
    taken: *mut u32,
) -> PioxideStatus {
    guard(|| {
        let mut buffers = Buffers::default();
        // SAFETY: C keeps the header's promise for every pointer.
        let (PioxideQueue(queue), action, taken) = unsafe {
            (handle("queue", queue)?, buffers.output("action", action, dim)?, buffers.place("taken", taken)?)
        };
        let came = exclusive("queue", queue)?.take(action)?;
        *taken = match came {
            Taken::Fresh => PioxideTaken::Fresh,
            Taken::Held => PioxideTaken::Held,
            Taken::Nothing => PioxideTaken::Nothing,
        } as u32;
        Ok(())
    })
}

/// Writes what is left of the current chunk `[n, dim]`, the next action first: what a policy is to continue. `*count`
/// becomes how many numbers that is: where it is more than `capacity`, nothing else is written and the call ends in
/// PIOXIDE_STATUS_BUFFER_TOO_SMALL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_queue_leftover(
    queue: *const PioxideQueue,
    actions: *mut f64,
    capacity: usize,
    count: *mut usize,
) -> PioxideStatus {
    guard(|| {
        let mut buffers = Buffers::default();
        // SAFETY: C keeps the header's promise for every pointer.
        let (PioxideQueue(queue), actions, count) = unsafe {
            (
                handle("queue", queue)?,
                buffers.output("actions", actions, capacity)?,
                buffers.place("count", count)?,
            )
        };
        *count = 0;
        copy_out("actions", exclusive("queue", queue)?.leftover(), actions, count)
    })
}

/// Says where a queue is; set `info->struct_size` before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_queue_info(
    queue: *const PioxideQueue,
    info: *mut PioxideQueueInfo,
) -> PioxideStatus {
    // SAFETY: C keeps the header's promise for every pointer.
    guard(|| unsafe {
        let PioxideQueue(queue) = handle("queue", queue)?;
        let queue = exclusive("queue", queue)?;
        let known = PioxideQueueInfo {
            struct_size: 0,
            consumed: queue.consumed(),
            remaining: queue.remaining(),
            late: queue.late(),
            outdated: queue.outdated(),
            dry_ticks: queue.dry_ticks(),
        };
        options::write("info", info, &known)
    })
}

/// Forgets chunk and last action, as between episodes; a chunk on its way is dropped as outdated.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_queue_clear(queue: *const PioxideQueue) -> PioxideStatus {
    guard(|| {
        // SAFETY: C keeps the header's promise for the handle.
        let PioxideQueue(queue) = unsafe { handle("queue", queue)? };
        exclusive("queue", queue)?.clear();
        Ok(())
    })
}
