//! Pointers from C, checked before anything is read: NULL, misaligned, overlong and overlapping ones are refused.
//!
//! What can't be checked is the caller's promise, which the header states: that a pointer leads to as many items as the
//! call says, that nobody else writes them meanwhile, and that a handle came from its `_new` and was not freed.

use std::path::Path;
use std::slice;

use crate::status::{Failure, Result, invalid};

/// Numbers of any bytes: whatever memory holds is a value.
pub(crate) trait Plain: Copy {}

impl Plain for u8 {}
impl Plain for u32 {}
impl Plain for i16 {}
impl Plain for i32 {}
impl Plain for usize {}
impl Plain for f32 {}
impl Plain for f64 {}

/// The buffers of one call, so that none is written while another is read.
#[derive(Default)]
pub(crate) struct Buffers {
    seen: [Option<Extent>; 8],
}

#[derive(Clone, Copy)]
struct Extent {
    name: &'static str,
    start: usize,
    end: usize,
    written: bool,
}

impl Buffers {
    /// What is read.
    ///
    /// # Safety
    /// Where it is not refused, `pointer` leads to `len` items, which nobody writes while the call runs.
    pub(crate) unsafe fn input<'a, T: Plain>(
        &mut self,
        name: &'static str,
        pointer: *const T,
        len: usize,
    ) -> Result<&'a [T]> {
        if !self.admit(name, pointer, len, false)? {
            return Ok(&[]);
        }
        // SAFETY: not null, aligned, at most `isize::MAX` bytes; the rest is the caller's promise, and no buffer of this
        // call that is written overlaps it.
        Ok(unsafe { slice::from_raw_parts(pointer, len) })
    }

    /// What is written.
    ///
    /// # Safety
    /// Where it is not refused, `pointer` leads to `len` items, which nobody else touches while the call runs.
    pub(crate) unsafe fn output<'a, T: Plain>(
        &mut self,
        name: &'static str,
        pointer: *mut T,
        len: usize,
    ) -> Result<&'a mut [T]> {
        if !self.admit(name, pointer, len, true)? {
            return Ok(&mut []);
        }
        // SAFETY: as in `input`, and no other buffer of this call overlaps it.
        Ok(unsafe { slice::from_raw_parts_mut(pointer, len) })
    }

    /// A mask that is written: bytes of 0 and 1.
    ///
    /// # Safety
    /// As [`Self::output`].
    pub(crate) unsafe fn mask<'a>(
        &mut self,
        name: &'static str,
        pointer: *mut u8,
        len: usize,
    ) -> Result<&'a mut [bool]> {
        // SAFETY: the caller's promise is passed on.
        let bytes = unsafe { self.output(name, pointer, len)? };
        bytes.fill(0);
        // SAFETY: a bool has the size and alignment of a byte, and each byte is 0, which is `false`.
        Ok(unsafe { slice::from_raw_parts_mut(bytes.as_mut_ptr().cast::<bool>(), bytes.len()) })
    }

    /// One value that is written.
    ///
    /// # Safety
    /// As [`Self::output`] of one item.
    pub(crate) unsafe fn place<'a, T: Plain>(
        &mut self,
        name: &'static str,
        pointer: *mut T,
    ) -> Result<&'a mut T> {
        self.admit(name, pointer, 1, true)?;
        // SAFETY: not null, aligned, overlaps no other buffer; the rest is the caller's promise.
        Ok(unsafe { &mut *pointer })
    }

    /// One value that is written where the caller wants it.
    ///
    /// # Safety
    /// As [`Self::output`] of one item, or NULL.
    pub(crate) unsafe fn optional<'a, T: Plain>(
        &mut self,
        name: &'static str,
        pointer: *mut T,
    ) -> Result<Option<&'a mut T>> {
        if pointer.is_null() {
            return Ok(None);
        }
        // SAFETY: the caller's promise is passed on.
        unsafe { self.place(name, pointer).map(Some) }
    }

    /// Checks a buffer; `false` for one of no items, whose pointer means nothing.
    fn admit<T>(&mut self, name: &'static str, pointer: *const T, len: usize, written: bool) -> Result<bool> {
        if len == 0 {
            return Ok(false);
        }
        check(name, pointer)?;
        let start = pointer.addr();
        let bytes = len.checked_mul(size_of::<T>()).filter(|&bytes| bytes <= isize::MAX as usize);
        let Some(end) = bytes.and_then(|bytes| start.checked_add(bytes)) else {
            return Err(invalid!("{name}: {len} items are more than memory can hold"));
        };
        let new = Extent { name, start, end, written };
        for slot in &mut self.seen {
            match slot {
                Some(old) if old.start < end && start < old.end && (written || old.written) => {
                    return Err(invalid!("{name} overlaps {}", old.name));
                }
                Some(_) => {}
                None => {
                    *slot = Some(new);
                    return Ok(true);
                }
            }
        }
        Err(invalid!("{name}: the call has too many buffers"))
    }
}

/// Refuses NULL and misaligned pointers.
pub(crate) fn check<T>(name: &str, pointer: *const T) -> Result<()> {
    if pointer.is_null() {
        return Err(invalid!("{name} is NULL"));
    }
    if !pointer.is_aligned() {
        return Err(invalid!("{name} is misaligned: expected a multiple of {} bytes", align_of::<T>()));
    }
    Ok(())
}

/// A handle.
///
/// # Safety
/// Where it is not refused, `pointer` came from [`give`] and is not freed while the call runs.
pub(crate) unsafe fn handle<'a, T: Sync>(name: &str, pointer: *const T) -> Result<&'a T> {
    check(name, pointer)?;
    // SAFETY: not null, aligned; the rest is the caller's promise. Handles are only ever shared, never borrowed mutably.
    Ok(unsafe { &*pointer })
}

/// Gives a new handle to the caller.
///
/// # Safety
/// `out` is NULL, misaligned, or leads to room for a pointer.
pub(crate) unsafe fn give<T: Send + Sync>(out: *mut *mut T, make: impl FnOnce() -> Result<T>) -> Result<()> {
    check("out", out)?;
    // SAFETY: not null, aligned; the rest is the caller's promise.
    unsafe { out.write(std::ptr::null_mut()) };
    let made = Box::into_raw(Box::new(make()?));
    // SAFETY: as above.
    unsafe { out.write(made) };
    Ok(())
}

/// Takes a handle back; NULL is none.
///
/// # Safety
/// Where it is not refused, `pointer` came from [`give`], and nothing uses it any more.
pub(crate) unsafe fn take_back<T>(name: &str, pointer: *mut T) -> Result<()> {
    if pointer.is_null() {
        return Ok(());
    }
    check(name, pointer)?;
    // SAFETY: it came from `Box::into_raw` in `give`, and comes back once.
    drop(unsafe { Box::from_raw(pointer) });
    Ok(())
}

/// UTF-8 text.
///
/// # Safety
/// As [`Buffers::input`].
pub(crate) unsafe fn utf8<'a>(
    buffers: &mut Buffers,
    name: &'static str,
    text: *const u8,
    len: usize,
) -> Result<&'a str> {
    // SAFETY: the caller's promise is passed on.
    let bytes = unsafe { buffers.input(name, text, len)? };
    std::str::from_utf8(bytes).map_err(|error| invalid!("{name} is no UTF-8: {error}"))
}

/// The content of a file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| {
        crate::status::fail(crate::PioxideStatus::Io, format_args!("{}: {error}", path.display()))
    })
}

/// Numbers in a chunk.
pub(crate) fn area(name: &str, rows: usize, dim: usize) -> Result<usize> {
    rows.checked_mul(dim).ok_or_else(|| invalid!("{name}: {rows} by {dim} are more than memory can hold"))
}

/// Copies a result where it fits; says in `count` how much there is.
pub(crate) fn copy_out<T: Copy>(name: &str, result: &[T], room: &mut [T], count: &mut usize) -> Result<()> {
    *count = result.len();
    match room.get_mut(..result.len()) {
        Some(room) => {
            room.copy_from_slice(result);
            Ok(())
        }
        None => Err(too_small(name, result.len(), room.len())),
    }
}

fn too_small(name: &str, needed: usize, capacity: usize) -> Failure {
    crate::status::fail(
        crate::PioxideStatus::BufferTooSmall,
        format_args!("{name}: {needed} items don't fit into {capacity}"),
    )
}
