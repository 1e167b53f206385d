//! One error type for the whole crate: each variant is one way to fail, with the place and the value as fields.

use std::fmt;

/// A result whose error is [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, where, and with which value.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Error {
    /// A slice's length does not fit the shape it was said to have.
    Shape {
        /// What the slice holds.
        what: &'static str,
        /// The length expected.
        expected: usize,
        /// The length that came.
        got: usize,
    },
    /// A file's content is not what its format says.
    Format {
        /// The file or section, for example `tokenizer.json`.
        what: &'static str,
        /// What was expected and what came.
        why: String,
    },
    /// An argument is outside its domain.
    Argument {
        /// The argument's name.
        what: &'static str,
        /// What was expected and what came.
        why: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shape { what, expected, got } => write!(f, "{what}: expected {expected} values, got {got}"),
            Self::Format { what, why } => write!(f, "{what}: {why}"),
            Self::Argument { what, why } => write!(f, "{what}: {why}"),
        }
    }
}

impl std::error::Error for Error {}
