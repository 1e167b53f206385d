//! What can go wrong between a robot and its server.

use std::fmt;

/// A result whose error is [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Why there is no chunk.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The server refused, in its own words.
    Refused {
        /// The kind: "invalid", "busy", "late", "stale", "superseded", "failed"; empty from a plain openpi server.
        code: String,
        /// One sentence.
        message: String,
    },
    /// Nobody answers there, or the connection was lost; connect again.
    Closed(String),
    /// No answer came in time; the connection is of no use any more.
    Timeout,
    /// What came is not of the protocol.
    Protocol(String),
    /// An argument is not what it should be.
    Argument(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { code, message } if code.is_empty() => f.write_str(message),
            Self::Refused { code, message } => write!(f, "{code}: {message}"),
            Self::Closed(why) => write!(f, "no policy server: {why}"),
            Self::Timeout => f.write_str("the server did not answer in time"),
            Self::Protocol(why) => write!(f, "not a policy server's message: {why}"),
            Self::Argument(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Error {}
