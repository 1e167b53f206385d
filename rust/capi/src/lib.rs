//! `libpioxide`: pioxide-core for C and C++. Checks arguments, converts, nothing else; `include/pioxide.h` is generated
//! from this crate by cbindgen, and its text says what callers must know.
//!
//! Every exported function runs inside [`status::guard`], which lets no panic out, and reads its pointers through
//! [`memory`], which is where nearly all of `unsafe` is.

#![cfg_attr(
    not(test),
    warn(clippy::expect_used, clippy::panic, clippy::todo, clippy::unimplemented, clippy::unreachable)
)]

pub mod batches;
pub mod codec;
pub mod contract;
mod memory;
mod options;
pub mod prompts;
pub mod queue;
pub mod safety;
pub mod scratch;
pub mod state;
pub mod status;
pub mod subtask;
pub mod text;

pub use status::PioxideStatus;

#[cfg(test)]
mod tests;

use std::ffi::c_char;

/// The version of the binary interface that this header describes: programs built with one find the same in a library
/// for as long as it does not change. Structs may grow and functions may be added without a change of it.
pub const PIOXIDE_ABI_VERSION: u32 = 1;

/// Returns PIOXIDE_ABI_VERSION of the library that was loaded, to be compared with the header's.
#[unsafe(no_mangle)]
pub extern "C" fn pioxide_abi_version() -> u32 {
    PIOXIDE_ABI_VERSION
}

/// Returns the version of the library as text that ends in NUL and lives as long as the program.
#[unsafe(no_mangle)]
pub extern "C" fn pioxide_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}
