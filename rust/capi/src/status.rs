//! How calls end: a status, and a sentence for the thread that called. No panic leaves from here.

use std::cell::RefCell;
use std::ffi::c_char;
use std::fmt::{self, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, TryLockError};

use pioxide_core::Error;

/// How a call ended. `pioxide_last_error` has the sentence.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PioxideStatus {
    /// All went well.
    Ok = 0,
    /// An argument is NULL, misaligned, too long, overlaps another, or lies outside its domain.
    InvalidArgument = 1,
    /// A length does not fit the shape.
    Shape = 2,
    /// A file's content is not what its format says.
    Format = 3,
    /// A number is NaN or infinite, or too large for what reads it.
    NotFinite = 4,
    /// A coefficient has no token in this vocabulary.
    Overflow = 5,
    /// An id that no chunk is encoded to, or that can't stand where it stands.
    Token = 6,
    /// The ids hold another number of coefficients than the chunk.
    Incomplete = 7,
    /// The sequence has no `Action: ` in it.
    NoActions = 8,
    /// A token stands where an action belongs and is none.
    NotAnAction = 9,
    /// There is not enough memory.
    OutOfMemory = 10,
    /// The result does not fit: nothing was written but the room that it needs.
    BufferTooSmall = 11,
    /// A file can't be read.
    Io = 12,
    /// Another thread is using this handle.
    Busy = 13,
    /// The program was built for a newer library and asks for what this one can't do.
    Unsupported = 14,
    /// A fault of the library. Free the handles of the call; they are not to be used again.
    Internal = 15,
    /// What a language model wrote is no subtask: it has no end, or no words before it.
    NoSubtask = 16,
}

/// A call failed; the sentence has been kept.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure(pub(crate) PioxideStatus);

pub(crate) type Result<T> = std::result::Result<T, Failure>;

const ROOM: usize = 1024;

/// A sentence of fixed room, cut where it is longer: failing allocates nothing.
struct Sentence {
    bytes: [u8; ROOM],
    len: usize,
}

impl fmt::Write for Sentence {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            // One byte stays for the NUL that ends it; none may come before.
            if self.len + c.len_utf8() >= ROOM {
                return Err(fmt::Error);
            }
            let c = if c == '\0' { '?' } else { c };
            c.encode_utf8(&mut self.bytes[self.len..]);
            self.len += c.len_utf8();
        }
        Ok(())
    }
}

thread_local! {
    static LAST: RefCell<Sentence> = const { RefCell::new(Sentence { bytes: [0; ROOM], len: 0 }) };
}

/// Keeps a sentence for this thread.
pub(crate) fn fail(status: PioxideStatus, sentence: fmt::Arguments<'_>) -> Failure {
    LAST.with_borrow_mut(|last| {
        last.len = 0;
        // Too long is cut.
        let _ = last.write_fmt(sentence);
        last.bytes[last.len] = 0;
    });
    Failure(status)
}

/// Fails with `INVALID_ARGUMENT` and a sentence about one argument.
macro_rules! invalid {
    ($($sentence:tt)*) => {
        $crate::status::fail($crate::status::PioxideStatus::InvalidArgument, format_args!($($sentence)*))
    };
}
pub(crate) use invalid;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        fail(status_of(&error), format_args!("{error}"))
    }
}

fn status_of(error: &Error) -> PioxideStatus {
    match error {
        Error::Shape { .. } => PioxideStatus::Shape,
        Error::Format { .. } => PioxideStatus::Format,
        Error::Argument { .. } => PioxideStatus::InvalidArgument,
        Error::NotFinite { .. } | Error::Unusable { .. } => PioxideStatus::NotFinite,
        Error::Overflow { .. } => PioxideStatus::Overflow,
        Error::Token { .. } => PioxideStatus::Token,
        Error::Incomplete { .. } => PioxideStatus::Incomplete,
        Error::At { error, .. } => status_of(error),
        Error::OutOfMemory { .. } => PioxideStatus::OutOfMemory,
        Error::NoActions { .. } => PioxideStatus::NoActions,
        Error::NotAnAction { .. } => PioxideStatus::NotAnAction,
        Error::NoSubtask { .. } => PioxideStatus::NoSubtask,
        _ => PioxideStatus::Internal,
    }
}

/// Runs a call; what it panics with becomes `INTERNAL`.
pub(crate) fn guard(work: impl FnOnce() -> Result<()>) -> PioxideStatus {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => PioxideStatus::Ok,
        Ok(Err(Failure(status))) => status,
        Err(payload) => {
            let said = payload.downcast_ref::<String>().map(String::as_str);
            let said = said.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no message");
            let Failure(status) = fail(
                PioxideStatus::Internal,
                format_args!("a fault of the library, please report it: {said}"),
            );
            // Dropping what was thrown could panic again.
            std::mem::forget(payload);
            status
        }
    }
}

/// Takes a handle that one thread at a time may use. Never waits.
pub(crate) fn exclusive<'a, T>(name: &str, handle: &'a Mutex<T>) -> Result<MutexGuard<'a, T>> {
    handle.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => {
            fail(PioxideStatus::Busy, format_args!("{name}: another thread is using it; give each its own"))
        }
        TryLockError::Poisoned(_) => {
            fail(PioxideStatus::Internal, format_args!("{name}: broken by an earlier fault; free it"))
        }
    })
}

/// Returns why the latest failing call of this thread failed, as UTF-8 that ends in NUL and is cut after 1023 bytes.
/// Valid until the next call that fails in this thread, or its end. Empty before any has.
#[unsafe(no_mangle)]
pub extern "C" fn pioxide_last_error() -> *const c_char {
    LAST.with(|last| last.as_ptr().cast::<c_char>().wrapping_byte_add(std::mem::offset_of!(Sentence, bytes)))
}
