//! NumPy arrays in and out: float32 or float64 of a given rank with any strides, integers and lists by conversion, all
//! else by a sentence that names the argument. Only memory that Rust may look at as it lies is borrowed; the rest is
//! copied first.

use std::borrow::Cow;
use std::ops::Range;

use numpy::ndarray::{ArrayView, Dimension};
use numpy::{
    Element, PyArray, PyArray1, PyArrayDescrMethods, PyArrayDyn, PyArrayMethods, PyReadonlyArray,
    PyReadwriteArray1, PyUntypedArray, PyUntypedArrayMethods,
};
use pioxide_core::Error;
use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

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

/// Borrows `value` as a float array of rank `D`; integers, float16 and nested lists are converted to float64, and float32
/// of another byte order or alignment to float32.
pub(crate) fn floats<'py, D: Dimension>(value: &Bound<'py, PyAny>, name: &str) -> PyResult<Floats<'py, D>> {
    if let Some(borrowed) = borrow(value, name)? {
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
    let wide = if kind == b'f' && array.dtype().itemsize() == 4 { "float32" } else { "float64" };
    let converted = array.call_method1("astype", (wide,))?;
    borrow(&converted, name)?.ok_or_else(|| input_error(format!("{name}: expected float32 or float64")))
}

/// [`floats`] without gaps, in row-major order.
pub(crate) fn packed_floats<'py, D: Dimension>(
    value: &Bound<'py, PyAny>,
    name: &str,
) -> PyResult<Floats<'py, D>> {
    let array = floats::<D>(value, name)?;
    // A slice can be had of Fortran's order, too, which is not what is asked for.
    if with_floats!(&array, array => array.as_array().is_standard_layout()) {
        return Ok(array);
    }
    let numpy = value.py().import("numpy")?;
    let packed = with_floats!(&array, array => numpy.call_method1("ascontiguousarray", (&**array,))?);
    floats(&packed, name)
}

fn borrow<'py, D: Dimension>(value: &Bound<'py, PyAny>, name: &str) -> PyResult<Option<Floats<'py, D>>> {
    if let Some(array) = sound::<f32, D>(value, name)? {
        return Ok(Some(Floats::F32(array.try_readonly()?)));
    }
    if let Some(array) = sound::<f64, D>(value, name)? {
        return Ok(Some(Floats::F64(array.try_readonly()?)));
    }
    Ok(None)
}

/// `value` as an array of this type and rank, if that is what it is and its elements lie where such elements may: each
/// aligned, and whole elements apart. (A field of a structured array need be neither.)
fn sound<'a, 'py, T: Element, D: Dimension>(
    value: &'a Bound<'py, PyAny>,
    name: &str,
) -> PyResult<Option<&'a Bound<'py, PyArray<T, D>>>> {
    let Ok(array) = value.cast::<PyArray<T, D>>() else { return Ok(None) };
    refuse_masked(value, name)?;
    let aligned = (array.data() as usize).is_multiple_of(align_of::<T>());
    let whole =
        |(&len, stride): (&usize, &isize)| len < 2 || stride.unsigned_abs().is_multiple_of(size_of::<T>());
    Ok((aligned && array.shape().iter().zip(array.strides()).all(whole)).then_some(array))
}

/// Refuses an array, or a list with an array in it, whose mask would be lost.
fn refuse_masked(value: &Bound<'_, PyAny>, name: &str) -> PyResult<()> {
    let list = value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>();
    if value.is_exact_instance_of::<PyUntypedArray>() || !(list || value.is_instance_of::<PyUntypedArray>()) {
        return Ok(());
    }
    let modules = value.py().import("sys")?.getattr("modules")?;
    let Ok(masked) = modules.get_item("numpy.ma") else { return Ok(()) };
    let masked = masked.getattr("MaskedArray")?;
    let found = if list {
        value.try_iter()?.map(|item| item?.is_instance(&masked)).find(|found| !matches!(found, Ok(false)))
    } else {
        Some(value.is_instance(&masked))
    };
    if found.transpose()?.unwrap_or(false) {
        return Err(input_error(format!(
            "{name}: a masked array, whose mask would be lost; fill it or leave out what is masked"
        )));
    }
    Ok(())
}

fn asarray<'py>(value: &Bound<'py, PyAny>, name: &str) -> PyResult<Bound<'py, PyUntypedArray>> {
    refuse_masked(value, name)?;
    let array = value.py().import("numpy")?.call_method1("asarray", (value,)).map_err(|error| {
        input_error(format!("{name}: NumPy can't make an array of it ({})", error.value(value.py())))
    })?;
    Ok(array.cast_into::<PyUntypedArray>()?)
}

/// An array to write into: of this type, of one dimension, without gaps.
pub(crate) fn writable<'py, T: Element>(
    value: &Bound<'py, PyAny>,
    name: &str,
) -> PyResult<PyReadwriteArray1<'py, T>> {
    let expected = || {
        let dtype = T::get_dtype(value.py());
        input_error(format!(
            "{name}: expected an aligned {dtype} array of one dimension without gaps to write into, got {}",
            crate::arguments::describe(value)
        ))
    };
    let array = sound::<T, _>(value, name)?.filter(|array| array.is_contiguous()).ok_or_else(expected)?;
    array.try_readwrite().map_err(|error| input_error(format!("{name}: it can't be written into ({error})")))
}

/// A new array, its values not set.
pub(crate) fn empty<'py, T: Element, D: Dimension>(
    py: Python<'py>,
    shape: &[usize],
) -> PyResult<Bound<'py, PyArray<T, D>>> {
    let made = py.import("numpy")?.call_method1("empty", (PyTuple::new(py, shape)?, T::get_dtype(py)));
    let array = made.map_err(|error| {
        let (error, dtype) = (error.value(py).to_string(), T::get_dtype(py));
        PyMemoryError::new_err(format!("a result of shape {shape:?}, {dtype}, can't be held: {error}"))
    })?;
    Ok(array.cast_into()?)
}

/// Ids as unsigned 32-bit integers, from any integer array or list; a negative or fractional id is an error.
pub(crate) fn ids(value: &Bound<'_, PyAny>, name: &str) -> PyResult<Vec<u32>> {
    let mut flat = Vec::new();
    let position = |at| format!("{name}[{at}]");
    if !extend_ids(&mut flat, value, name, position)? {
        let array = asarray(value, name)?;
        if array.ndim() != 1 {
            let shape = array.shape();
            return Err(input_error(format!("{name}: expected 1 dimension, got shape {shape:?}")));
        }
        flat = checked_integers(&array, name, position)?;
    }
    Ok(flat)
}

/// Appends the ids of the array that most callers have: int32 without gaps. Returns whether `value` is one.
fn extend_ids(
    flat: &mut Vec<u32>,
    value: &Bound<'_, PyAny>,
    name: &str,
    position: impl Fn(usize) -> String,
) -> PyResult<bool> {
    let Some(array) = sound::<i32, numpy::Ix1>(value, name)? else { return Ok(false) };
    let array = array.try_readonly()?;
    let Ok(values) = array.as_slice() else { return Ok(false) };
    if values.iter().fold(0, |all, id| all | id) < 0 {
        checked_ids(array.as_array(), position)?;
    }
    flat.extend(values.iter().map(|&id| id as u32));
    Ok(true)
}

/// Where sequences lie among the ids of all.
pub(crate) enum Spans {
    Even { rows: usize, len: usize },
    Listed(Vec<Range<usize>>),
}

impl Spans {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Even { rows, .. } => *rows,
            Self::Listed(spans) => spans.len(),
        }
    }

    pub(crate) fn get(&self, n: usize) -> Range<usize> {
        match self {
            Self::Even { len, .. } => n * len..(n + 1) * len,
            Self::Listed(spans) => spans[n].clone(),
        }
    }
}

/// Many sequences of ids, one after another, and where each lies.
pub(crate) struct IdRows {
    pub(crate) flat: Vec<u32>,
    pub(crate) spans: Spans,
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
            if !extend_ids(&mut flat, &array.call_method1("ravel", ())?, name, position)? {
                flat = checked_integers(&array, name, position)?;
            }
            return Ok(Self { flat, spans: Spans::Even { rows, len } });
        }
        let rows = value.try_iter().map_err(|_| {
            input_error(format!("{name}: expected sequences of ids, or an array of two dimensions"))
        })?;
        let (mut flat, mut spans) = (Vec::new(), Vec::new());
        for (n, row) in rows.enumerate() {
            let (row, start) = (row?, flat.len());
            if !extend_ids(&mut flat, &row, name, |at| format!("{name}[{n}][{at}]"))? {
                flat.extend(ids(&row, &format!("{name}[{n}]"))?);
            }
            spans.push(start..flat.len());
        }
        Ok(Self { flat, spans: Spans::Listed(spans) })
    }

    /// From the ids of all, and where each sequence starts and the last one ends.
    pub(crate) fn with_offsets(ids: Vec<u32>, offsets: &[usize]) -> Self {
        let spans = offsets.windows(2).map(|pair| pair[0]..pair[1]).collect();
        Self { flat: ids, spans: Spans::Listed(spans) }
    }
}

/// The elements of an integer array as ids. Without elements it may have any dtype, as an empty list becomes a float
/// array.
fn checked_integers(
    array: &Bound<'_, PyUntypedArray>,
    name: &str,
    position: impl Fn(usize) -> String,
) -> PyResult<Vec<u32>> {
    let kind = array.dtype().kind();
    if array.len() != 0 && !matches!(kind, b'i' | b'u') {
        return Err(input_error(format!("{name}: expected integers, got dtype {}", array.dtype())));
    }
    if kind == b'u' {
        let array = array.call_method1("astype", ("uint64",))?.cast_into::<PyArrayDyn<u64>>()?;
        return checked_ids(array.try_readonly()?.as_array(), position);
    }
    let array = array.call_method1("astype", ("int64",))?.cast_into::<PyArrayDyn<i64>>()?;
    checked_ids(array.try_readonly()?.as_array(), position)
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
pub(crate) fn row_major<'a, T: Element + Copy, D: Dimension>(
    view: &'a ArrayView<'a, T, D>,
) -> Result<Cow<'a, [T]>, Error> {
    if let Some(slice) = view.as_slice() {
        return Ok(Cow::Borrowed(slice));
    }
    let mut values = Vec::new();
    values.try_reserve_exact(view.len()).map_err(|_| Error::OutOfMemory { what: "a chunk" })?;
    values.extend(view.iter().copied());
    Ok(Cow::Owned(values))
}

/// Ids as NumPy users keep them; a vocabulary never reaches 2^31.
pub(crate) fn signed(ids: Vec<u32>) -> Vec<i32> {
    ids.into_iter().map(|id| id as i32).collect()
}

/// Where each of several runs of ids starts, and where the last ends, from any integer array.
pub(crate) fn rising_offsets(value: &Bound<'_, PyAny>, total: usize) -> PyResult<Vec<usize>> {
    let array = asarray(value, "offsets")?;
    let wrong = || input_error(format!("offsets: expected a rise from 0 to the {total} ids"));
    if array.ndim() != 1 || !matches!(array.dtype().kind(), b'i' | b'u') {
        return Err(wrong());
    }
    let array = array.call_method1("astype", ("int64",))?.cast_into::<PyArray1<i64>>()?;
    let array = array.try_readonly()?;
    let ends: Option<Vec<usize>> = array.as_array().iter().map(|&o| usize::try_from(o).ok()).collect();
    ends.filter(|ends| ends.first() == Some(&0) && ends.last() == Some(&total) && ends.is_sorted())
        .ok_or_else(wrong)
}
