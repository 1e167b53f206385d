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
    /// A state holds a value that is no number.
    NotFinite {
        /// Which joint, from 0.
        joint: usize,
        /// NaN or an infinity.
        value: f64,
    },
    /// A number that goes into a conversion or comes out of it is NaN, infinite, or too large for what reads it.
    Unusable {
        /// What the number is part of.
        what: &'static str,
        /// Which step of a chunk, from 0; `None` where there are no steps.
        step: Option<usize>,
        /// Which joint, from 0.
        joint: usize,
        /// The number.
        value: f64,
    },
    /// A coefficient has no token in this vocabulary.
    Overflow {
        /// Time-frequency index.
        frequency: usize,
        /// Dimension.
        dim: usize,
        /// The rounded coefficient.
        value: i64,
        /// The lowest and the highest coefficient that have one, without a gap between.
        range: (i64, i64),
    },
    /// A token that no chunk is encoded to, or that can't stand where it stands.
    Token {
        /// Its position among the ids.
        position: usize,
        /// Its id.
        id: u32,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Ids hold another number of coefficients than the chunk.
    Incomplete {
        /// Coefficients in the chunk.
        expected: usize,
        /// Coefficients that came.
        got: usize,
    },
    /// An error in one item of a batch.
    At {
        /// What the item is: a row, a chunk.
        what: &'static str,
        /// Which one, from 0.
        index: usize,
        /// What went wrong in it.
        error: Box<Error>,
    },
    /// The caller wanted a batch to stop.
    Interrupted,
    /// Memory for a result can't be had.
    OutOfMemory {
        /// What was to be held.
        what: &'static str,
    },
    /// A generated sequence has no `Action: ` in it, so it holds no actions.
    NoActions {
        /// How many tokens were looked through.
        tokens: usize,
    },
    /// A token stands where an action belongs and is none.
    NotAnAction {
        /// Its position in the sequence.
        position: usize,
        /// Its text id.
        id: i32,
    },
    /// What a language model wrote is no subtask: it has no end, or no words before it.
    NoSubtask {
        /// How many tokens were looked through.
        tokens: usize,
        /// Whether an end is among them.
        ended: bool,
        /// What stands before it.
        text: String,
    },
}

impl Error {
    /// The same error, said of item `index` of a batch.
    #[must_use]
    pub fn at(self, what: &'static str, index: usize) -> Self {
        Self::At { what, index, error: Box::new(self) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shape { what, expected, got } => write!(f, "{what}: expected {expected} values, got {got}"),
            Self::Format { what, why } => write!(f, "{what}: {why}"),
            Self::Argument { what, why } => write!(f, "{what}: {why}"),
            Self::NotFinite { joint, value } => write!(f, "state: joint {joint} is {value}"),
            Self::Unusable { what, step: None, joint, value } => {
                write!(f, "{what}: joint {joint} is {value}")
            }
            Self::Unusable { what, step: Some(step), joint, value } => {
                write!(f, "{what}: joint {joint} of step {step} is {value}")
            }
            Self::Overflow { frequency, dim, value, range: (low, high) } => write!(
                f,
                "coefficient {value} at time-frequency {frequency}, dimension {dim} has no token (those from {low} to \
                 {high} have one); are the actions normalised?"
            ),
            Self::Token { position, id, why } => write!(f, "token {position} (id {id}) {why}"),
            Self::Incomplete { expected, got } => {
                write!(f, "the ids hold {got} coefficients, a whole chunk has {expected}")
            }
            Self::At { what, index, error } => write!(f, "{what} {index}: {error}"),
            Self::Interrupted => f.write_str("interrupted"),
            Self::OutOfMemory { what } => write!(f, "{what}: there is not enough memory"),
            Self::NoActions { tokens } => {
                write!(f, "none of the {tokens} tokens begins the actions with \"Action: \"")
            }
            Self::NotAnAction { position, id } => write!(f, "token {position} (id {id}) is no action token"),
            Self::NoSubtask { ended: true, .. } => f.write_str("no text"),
            Self::NoSubtask { tokens, text, .. } => write!(f, "no end after {tokens} tokens, but {text:?}"),
        }
    }
}

impl std::error::Error for Error {}
