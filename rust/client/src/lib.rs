//! Asks a π policy server from Rust: openpi's WebSocket protocol, which openpi's servers speak too, and pioxide's
//! additions where the server knows them.
//!
//! A client is one robot's connection. It waits while the server answers, so a control loop runs it in a thread of its
//! own, and plays chunks through [`pioxide_core::ActionQueue`] and [`pioxide_core::SafetyFilter`]; `examples/arm.rs`
//! does.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use pioxide_client::{Client, Observation, Options};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut client = Client::connect("ws://127.0.0.1:8000", Options { timeout: Duration::from_secs(5), key: None })?;
//! let image = vec![0_u8; 224 * 224 * 3];
//! let mut seen = Observation::new();
//! seen.image("observation/image", 224, 224, &image)?.numbers("observation/state", &[0.0; 8]).text("prompt", "tidy up");
//! let chunk = client.infer(&seen)?;
//! println!("{} actions of {} numbers", chunk.horizon, chunk.dim);
//! # Ok(())
//! # }
//! ```

#![cfg_attr(
    not(test),
    warn(clippy::expect_used, clippy::panic, clippy::todo, clippy::unimplemented, clippy::unreachable)
)]

mod client;
mod error;
mod wire;

pub use client::{Chunk, Client, Options};
pub use error::{Error, Result};
pub use rmpv::Value;
pub use wire::{Left, Observation};
