//! pioxide-core under Python names: converts arguments, releases the GIL, nothing else.

#![warn(clippy::expect_used, clippy::panic, clippy::todo, clippy::unimplemented, clippy::unreachable)]

mod arguments;
mod arrays;
mod error;
mod fast;
mod prompts;
mod safety;
mod text;

use pyo3::prelude::*;

/// The compiled half of pioxide.
#[pymodule(gil_used = false)]
mod _core {
    #[pymodule_export]
    use crate::fast::{FastCodec, fast_fit};
    #[pymodule_export]
    use crate::prompts::{Pi0FastPrompts, Pi0Prompts, Pi05Prompts};
    #[pymodule_export]
    use crate::safety::SafetyFilter;
    #[pymodule_export]
    use crate::text::{TextTokenizer, state_bins};

    /// The version of the package.
    #[pymodule_export]
    const VERSION: &str = env!("CARGO_PKG_VERSION");
}
