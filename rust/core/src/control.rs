//! The last steps before a robot: the actions still to be played, and the limits that each of them passes.
//!
//! The same arithmetic as `pioxide.control` in Python, number for number. Nothing is allocated once both are made, and
//! nothing waits: a control loop may call either at any rate.

mod queue;
mod safety;

pub use queue::{ActionQueue, OnEmpty, Taken};
pub use safety::{Limits, SafetyFilter, Violations};
