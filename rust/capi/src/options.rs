//! Structs that may grow: the caller says in `struct_size` how much of one it knows.
//!
//! A program built with an older header passes a smaller struct: the fields it lacks are zero, which is their default. A
//! program built with a newer header passes a larger one: that works as long as the fields unknown here are zero.

use std::mem::MaybeUninit;

use crate::memory::check;
use crate::status::{PioxideStatus, Result, fail, invalid};

/// A larger `struct_size` is taken for a field that nobody set.
const LARGEST: usize = 4096;

/// A `repr(C)` struct that begins with `struct_size: usize` and of which zeros are a value.
///
/// # Safety
/// Just that: numbers and pointers, nothing that zero bytes are no value of.
pub(crate) unsafe trait Growing: Copy {
    /// `struct_size` of its first version.
    const FIRST: usize;
    /// Its name in C.
    const NAME: &'static str;
}

/// Reads a struct that the caller filled.
///
/// # Safety
/// Where it is not refused, `pointer` leads to as many bytes as its `struct_size` says.
pub(crate) unsafe fn read<T: Growing>(name: &str, pointer: *const T) -> Result<T> {
    // SAFETY: the caller's promise is passed on.
    let size = unsafe { size::<T>(name, pointer)? };
    let known = size.min(size_of::<T>());
    let bytes = pointer.cast::<u8>();
    for at in known..size {
        // SAFETY: `at` is below `struct_size`.
        if unsafe { bytes.add(at).read() } != 0 {
            return Err(fail(
                PioxideStatus::Unsupported,
                format_args!(
                    "{name}: byte {at} of this {} asks for what only a newer library can do",
                    T::NAME
                ),
            ));
        }
    }
    let mut value = MaybeUninit::<T>::zeroed();
    // SAFETY: both have `known` bytes and are apart; what is not copied is zero, which is a value of `T`.
    Ok(unsafe {
        bytes.copy_to_nonoverlapping(value.as_mut_ptr().cast(), known);
        value.assume_init()
    })
}

/// Writes what the caller knows of a struct; its `struct_size` stays.
///
/// # Safety
/// Where it is not refused, `pointer` leads to as many bytes as its `struct_size` says, and nobody else touches them.
pub(crate) unsafe fn write<T: Growing>(name: &str, pointer: *mut T, value: &T) -> Result<()> {
    // SAFETY: the caller's promise is passed on.
    let size = unsafe { size::<T>(name, pointer)? };
    let (skip, from) = (size_of::<usize>(), std::ptr::from_ref(value).cast::<u8>());
    // SAFETY: both have that many bytes, and `value` is the library's own.
    unsafe {
        let (from, to) = (from.add(skip), pointer.cast::<u8>().add(skip));
        from.copy_to_nonoverlapping(to, size.min(size_of::<T>()) - skip);
    }
    Ok(())
}

/// # Safety
/// Where it is not refused, `pointer` leads to its `struct_size` at least.
unsafe fn size<T: Growing>(name: &str, pointer: *const T) -> Result<usize> {
    check(name, pointer)?;
    // SAFETY: not null, aligned as the whole struct is; `struct_size` comes first.
    let size = unsafe { pointer.cast::<usize>().read() };
    if (T::FIRST..=LARGEST).contains(&size) {
        return Ok(size);
    }
    let (first, kind) = (T::FIRST, T::NAME);
    Err(invalid!("{name}: struct_size is {size}, expected sizeof({kind}), which is {first} or more"))
}
