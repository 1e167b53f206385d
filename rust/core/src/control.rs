//! The last steps before a robot: the actions still to be played, and the limits that each of them passes.
//!
//! Python's safety filter is this one. Its action queue is one of its own, for chunks of any length and for many threads,
//! and gives the same actions: both are held to the same recorded calls. Nothing is allocated once both are made, and nothing
//! waits: a control loop may call either at any rate.

mod queue;
mod safety;

pub use queue::{ActionQueue, OnEmpty, Taken};
pub use safety::{Limits, Motion, SafetyFilter, Violations};
