//! NumPy arrays in: float32 or float64 of a given rank with any strides, integers and lists by conversion, all else by
//! a sentence that names the argument.

use std::borrow::Cow;
use std::ops::Range;

use numpy::ndarray::{ArrayView, Dimension};
use numpy::{
    Element, PyArray, PyArray1, PyArrayDescrMethods, PyArrayDyn, PyArrayMethods, PyReadonlyArray,
    PyReadonlyArray1, PyUntypedArray, PyUntypedArrayMethods,
};
use pyo3::prelude::*;

use crate::error::input_error;

/// A borrowed array of one of the two float types the codec computes in.
pub(crate) enum Floats<'py, D: Dimension> {
    F32(PyReadonlyArray<'py, f32, D>),
    F64(PyReadonlyArray<'py, f64, D>),
}

/// Runs the same expression on either float type.
macro_rules! with_floats {
    ($floats:expr, $array:ident => $body:expr) => {
        match $floats {
            $crate::arrays::Floats::F32($array) => $body,
            $crate::arrays::Floats::F64($array) => $body,
        }
    };
}
pub(crate) use with_floats;

/// Borrows `value` as a float array of rank `D`; integers, float16 and nested lists are converted to float64.
pub(crate) fn floats<'py, D: Dimension>(
    value: &Bound<'py, PyAny>,
    name: &'static str,
) -> PyResult<Floats<'py, D>> {
    if let Some(borrowed) = borrow(value)? {
        return Ok(borrowed);
    }
    let array = asarray(value, name)?;
    let kind = array.dtype().kind();
    if !matches!(kind, b'f' | b'i' | b'u' | b'b') {
        return Err(input_error(format!("{name}: expected float32 or float64, got dtype {}", array.dtype())));
    }
    if let Some(rank) = D::NDIM
        && array.ndim() != rank
    {
        return Err(input_error(format!(
            "{name}: expected {rank} dimensions, got shape {:?}",
            array.shape()
        )));
    }
    let converted = array.call_method1("astype", ("float64",))?;
    borrow(&converted)?.ok_or_else(|| input_error(format!("{name}: expected float32 or float64")))
}

fn borrow<'py, D: Dimension>(value: &Bound<'py, PyAny>) -> PyResult<Option<Floats<'py, D>>> {
    if let Ok(array) = value.cast::<PyArray<f32, D>>() {
        return Ok(Some(Floats::F32(array.try_readonly()?)));
    }
    if let Ok(array) = value.cast::<PyArray<f64, D>>() {
        return Ok(Some(Floats::F64(array.try_readonly()?)));
    }
    Ok(None)
}

fn asarray<'py>(value: &Bound<'py, PyAny>, name: &str) -> PyResult<Bound<'py, PyUntypedArray>> {
    let array = value.py().import("numpy")?.call_method1("asarray", (value,)).map_err(|error| {
        input_error(format!("{name}: NumPy can't make an array of it ({})", error.value(value.py())))
    })?;
    Ok(array.cast_into::<PyUntypedArray>()?)
}

/// Ids as unsigned 32-bit integers, from any integer array or list; a negative or fractional id is an error.
pub(crate) fn ids(value: &Bound<'_, PyAny>, name: &str) -> PyResult<Vec<u32>> {
    let mut flat = Vec::new();
    let position = |at| format!("{name}[{at}]");
    if !extend_ids(&mut flat, value, position)? {
        let array = asarray(value, name)?;
        if array.ndim() != 1 {
            let shape = array.shape();
            return Err(input_error(format!("{name}: expected 1 dimension, got shape {shape:?}")));
        }
        let array = integers(&array, name)?;
        flat = checked_ids(array.try_readonly()?.as_array(), position)?;
    }
    Ok(flat)
}

/// Appends the ids of the array that most callers have: int32 without gaps. Returns whether `value` is one.
fn extend_ids(
    flat: &mut Vec<u32>,
    value: &Bound<'_, PyAny>,
    position: impl Fn(usize) -> String,
) -> PyResult<bool> {
    let Ok(array) = value.cast::<PyArray1<i32>>() else { return Ok(false) };
    let array = array.try_readonly()?;
    let Ok(values) = array.as_slice() else { return Ok(false) };
    if values.iter().fold(0, |all, id| all | id) < 0 {
        checked_ids(array.as_array(), position)?;
    }
    flat.extend(values.iter().map(|&id| id as u32));
    Ok(true)
}

/// Many sequences of ids, one after another, and where each lies.
pub(crate) struct IdRows {
    pub(crate) flat: Vec<u32>,
    pub(crate) spans: Vec<Range<usize>>,
}

impl IdRows {
    /// From an array of two dimensions, or from anything to be iterated over that holds what [`ids`] takes.
    pub(crate) fn extract(value: &Bound<'_, PyAny>, name: &str) -> PyResult<Self> {
        let array = if value.hasattr("ndim")? { Some(asarray(value, name)?) } else { None };
        // An array of objects holds sequences, of whatever lengths.
        if let Some(array) = array.filter(|array| array.dtype().kind() != b'O') {
            let [rows, len] = *array.shape() else {
                let shape = array.shape();
                return Err(input_error(format!("{name}: expected 2 dimensions, got shape {shape:?}")));
            };
            let position = |at| format!("{name}[{}, {}]", at / len, at % len);
            let mut flat = Vec::new();
            if !extend_ids(&mut flat, &array.call_method1("ravel", ())?, position)? {
                let array = integers(&array, name)?;
                flat = checked_ids(array.try_readonly()?.as_array(), position)?;
            }
            return Ok(Self { flat, spans: (0..rows).map(|n| n * len..(n + 1) * len).collect() });
        }
        let rows = value.try_iter().map_err(|_| {
            input_error(format!("{name}: expected sequences of ids, or an array of two dimensions"))
        })?;
        let mut this = Self { flat: Vec::new(), spans: Vec::new() };
        for (n, row) in rows.enumerate() {
            let (row, start) = (row?, this.flat.len());
            if !extend_ids(&mut this.flat, &row, |at| format!("{name}[{n}][{at}]"))? {
                this.flat.extend(ids(&row, &format!("{name}[{n}]"))?);
            }
            this.spans.push(start..this.flat.len());
        }
        Ok(this)
    }
}

/// An integer array as int64. Without elements it may have any dtype, as an empty list becomes a float array.
fn integers<'py>(array: &Bound<'py, PyUntypedArray>, name: &str) -> PyResult<Bound<'py, PyArrayDyn<i64>>> {
    if array.len() != 0 && !matches!(array.dtype().kind(), b'i' | b'u') {
        return Err(input_error(format!("{name}: expected integers, got dtype {}", array.dtype())));
    }
    Ok(array.call_method1("astype", ("int64",))?.cast_into::<PyArrayDyn<i64>>()?)
}

fn checked_ids<T: Copy + TryInto<u32> + std::fmt::Display, D: Dimension>(
    view: ArrayView<'_, T, D>,
    position: impl Fn(usize) -> String,
) -> PyResult<Vec<u32>> {
    view.iter()
        .enumerate()
        .map(|(at, &id)| {
            id.try_into().map_err(|_| input_error(format!("{}: {id} is not a token id", position(at))))
        })
        .collect()
}

/// The values in row-major order: borrowed where they lie so already, else copied.
pub(crate) fn row_major<'a, T: Element + Copy, D: Dimension>(view: &'a ArrayView<'a, T, D>) -> Cow<'a, [T]> {
    match view.as_slice() {
        Some(slice) => Cow::Borrowed(slice),
        None => Cow::Owned(view.iter().copied().collect()),
    }
}

/// Ids as NumPy users keep them; a vocabulary never reaches 2^31.
pub(crate) fn signed(ids: Vec<u32>) -> Vec<i32> {
    ids.into_iter().map(|id| id as i32).collect()
}

/// Where each run of ids lies among `total` of them.
pub(crate) fn spans(offsets: &PyReadonlyArray1<'_, i64>, total: usize) -> PyResult<Vec<Range<usize>>> {
    let offsets = offsets.as_array();
    let ends: Option<Vec<usize>> = offsets.iter().map(|&o| usize::try_from(o).ok()).collect();
    ends.filter(|ends| ends.first() == Some(&0) && ends.last() == Some(&total) && ends.is_sorted())
        .map(|ends| ends.windows(2).map(|pair| pair[0]..pair[1]).collect())
        .ok_or_else(|| input_error(format!("offsets: expected a rise from 0 to the {total} ids")))
}
