//! Texts and whole numbers in, and the question whether a signal came: what fails is said with the argument's name.

use std::time::{Duration, Instant};

use pioxide_core::Error;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::PyString;

use crate::error::{input_error, to_py};

/// Items of a batch between two looks at the clock, which take as long as a short item on some machines.
const STRIDE: u32 = 8;
/// Time between two questions whether a signal came.
const PATIENCE: Duration = Duration::from_millis(50);

/// A whole number from 0 on.
pub(crate) fn whole(value: &Bound<'_, PyAny>, name: &str) -> PyResult<usize> {
    value.extract().map_err(|_| {
        input_error(format!("{name}: expected a whole number from 0 on, got {}", describe(value)))
    })
}

/// The same, or None.
pub(crate) fn whole_or_none(value: Option<&Bound<'_, PyAny>>, name: &str) -> PyResult<Option<usize>> {
    value.map(|value| whole(value, name)).transpose()
}

/// A text.
pub(crate) fn text(value: &Bound<'_, PyAny>, name: &str) -> PyResult<PyBackedStr> {
    let text = value
        .cast::<PyString>()
        .map_err(|_| input_error(format!("{name}: expected a text, got {}", describe(value))))?;
    PyBackedStr::try_from(text.clone()).map_err(|_| {
        input_error(format!("{name}: {} holds half a surrogate pair, which is no character", describe(value)))
    })
}

/// A value as a message shows it.
pub(crate) fn describe(value: &Bound<'_, PyAny>) -> String {
    if let (Ok(dtype), Ok(shape)) = (value.getattr("dtype"), value.getattr("shape")) {
        return format!("an array of dtype {dtype}, shape {shape}");
    }
    // Numbers of thousands of digits have no text.
    let Ok(shown) = value.repr() else { return format!("a {}", value.get_type()) };
    let shown = shown.to_string_lossy();
    match shown.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &shown[..end]),
        None => shown.into_owned(),
    }
}

/// Asks Python now and then whether a signal came, so that Ctrl-C ends a long batch.
pub(crate) struct Signals {
    asked: u32,
    next: Instant,
    raised: Option<PyErr>,
}

impl Signals {
    pub(crate) fn new() -> Self {
        Self { asked: 0, next: Instant::now() + PATIENCE, raised: None }
    }

    /// Whether to go on. To be asked without the GIL.
    pub(crate) fn go_on(&mut self) -> bool {
        self.asked = self.asked.wrapping_add(1);
        if !self.asked.is_multiple_of(STRIDE) {
            return self.raised.is_none();
        }
        let now = Instant::now();
        if now >= self.next {
            self.next = now + PATIENCE;
            self.raised = Python::attach(|py| py.check_signals()).err();
        }
        self.raised.is_none()
    }

    /// The exception that an error of the batch becomes.
    pub(crate) fn explain(self, error: Error) -> PyErr {
        self.raised.filter(|_| error == Error::Interrupted).unwrap_or_else(|| to_py(error))
    }
}
