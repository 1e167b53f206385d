//! pioxide-core under Python names: converts arguments, releases the GIL, nothing else.

use pyo3::prelude::*;

/// The compiled half of pioxide.
#[pymodule(gil_used = false)]
mod _core {
    #[pymodule_export]
    const VERSION: &str = env!("CARGO_PKG_VERSION");
}
