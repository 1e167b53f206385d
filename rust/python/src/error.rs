//! The one place where an error of the core becomes a Python exception of `pioxide.errors`.

use pioxide_core::Error;
use pyo3::PyErr;
use pyo3::exceptions::PyMemoryError;

mod raised {
    pyo3::import_exception!(pioxide.errors, InputError);
    pyo3::import_exception!(pioxide.errors, FormatError);
    pyo3::import_exception!(pioxide.errors, OverflowingChunkError);
    pyo3::import_exception!(pioxide.errors, IncompleteChunkError);
}

/// An `InputError` with this sentence.
pub(crate) fn input_error(sentence: impl Into<String>) -> PyErr {
    raised::InputError::new_err(sentence.into())
}

/// The Python exception that stands for an error of the core, with its sentence.
pub(crate) fn to_py(error: Error) -> PyErr {
    let sentence = error.to_string();
    let mut kind = &error;
    while let Error::At { error, .. } = kind {
        kind = error;
    }
    match kind {
        Error::OutOfMemory { .. } => PyMemoryError::new_err(sentence),
        Error::Format { .. } => raised::FormatError::new_err(sentence),
        Error::Overflow { .. } => raised::OverflowingChunkError::new_err(sentence),
        Error::Incomplete { .. } => raised::IncompleteChunkError::new_err(sentence),
        _ => raised::InputError::new_err(sentence),
    }
}
