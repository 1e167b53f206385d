//! `FastCodec` for Python. Batch work and single chunks alike run without the GIL.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use numpy::ndarray::{ArrayView2, Ix2, Ix3};
use numpy::{Element, IntoPyArray, PyArray1, PyArray2, PyArray3, PyArrayMethods};
use pioxide_core::{Dct, Error, FastScratch, FitOptions, Float, OnOverflow, Partial};
use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arguments::{self, Signals, whole, whole_or_none};
use crate::arrays::{
    Floats, IdRows, Spans, empty, floats, ids, rising_offsets, row_major, signed, with_floats,
};
use crate::error::{input_error, to_py};

thread_local! {
    static SCRATCH: RefCell<FastScratch> = RefCell::default();
}

/// Actions float64 [H, D], missing.
pub(crate) type Decoded<'py> = (Bound<'py, PyArray2<f64>>, usize);
/// Actions float64 [N, H, D], missing int64 [N].
pub(crate) type DecodedBatch<'py> = (Bound<'py, PyArray3<f64>>, Bound<'py, PyArray1<i64>>);

/// What chunks to decode to.
pub(crate) struct Shape {
    plan: Arc<Dct>,
    dim: usize,
    /// Values in a chunk.
    len: usize,
    partial: Partial,
}

/// A FAST tokenizer; see `pioxide.codec.FastCodec`, which is what people use.
#[pyclass(frozen, module = "pioxide._core")]
pub(crate) struct FastCodec {
    codec: pioxide_core::FastCodec,
}

impl FastCodec {
    fn encode_one<T: Float + Element>(
        &self,
        plan: &Dct,
        chunk: ArrayView2<'_, T>,
        on_overflow: OnOverflow,
        out: &mut Vec<u32>,
    ) -> pioxide_core::Result<usize> {
        let (dim, values) = (chunk.ncols(), row_major(&chunk)?);
        // A value is four bytes at the most, and each has at most one token.
        out.try_reserve(values.len().saturating_mul(4))
            .map_err(|_| Error::OutOfMemory { what: "token ids" })?;
        SCRATCH
            .with_borrow_mut(|scratch| self.codec.encode_into(plan, &values, dim, on_overflow, scratch, out))
    }

    /// Checks what decoding is asked for.
    pub(crate) fn shape(
        &self,
        horizon: &Bound<'_, PyAny>,
        dim: &Bound<'_, PyAny>,
        partial: &Bound<'_, PyAny>,
    ) -> PyResult<Shape> {
        let partial = parse_partial(partial)?;
        let (horizon, dim) = (whole(horizon, "horizon")?, whole(dim, "dim")?);
        let len = chunk_len(horizon, dim)?;
        Ok(Shape { plan: self.codec.plan(horizon).map_err(to_py)?, dim, len, partial })
    }

    /// Decodes one chunk's ids.
    pub(crate) fn decode_one<'py>(
        &self,
        py: Python<'py>,
        shape: &Shape,
        ids: &[u32],
    ) -> PyResult<Decoded<'py>> {
        let (actions, missing) = py
            .detach(|| {
                let mut actions = Vec::new();
                let room = actions.try_reserve_exact(shape.len);
                room.map_err(|_| Error::OutOfMemory { what: "a chunk" })?;
                actions.resize(shape.len, 0.0);
                let missing = SCRATCH.with_borrow_mut(|scratch| {
                    self.codec.decode_into(&shape.plan, ids, shape.dim, shape.partial, scratch, &mut actions)
                })?;
                Ok((actions, missing))
            })
            .map_err(to_py)?;
        Ok((actions.into_pyarray(py).reshape([shape.plan.horizon(), shape.dim])?, missing))
    }

    /// Decodes the ids that `find` appends for each of `spans`; an error names which `item` it is in.
    pub(crate) fn decode_rows<'py>(
        &self,
        py: Python<'py>,
        shape: &Shape,
        item: &'static str,
        spans: &Spans,
        find: impl Fn(Range<usize>, &mut Vec<u32>) -> pioxide_core::Result<()> + Send + Sync,
    ) -> PyResult<DecodedBatch<'py>> {
        let actions: Bound<'_, PyArray3<f64>> = empty(py, &[spans.len(), shape.plan.horizon(), shape.dim])?;
        let missing: Bound<'_, PyArray1<i64>> = empty(py, &[spans.len()])?;
        let (mut write_actions, mut write_missing) = (actions.try_readwrite()?, missing.try_readwrite()?);
        let rows = write_actions.as_slice_mut()?.chunks_exact_mut(shape.len);
        let rows = rows.zip(write_missing.as_slice_mut()?).enumerate();
        let mut signals = Signals::new();
        let decode = || {
            let mut found = Vec::new();
            for (n, (out, missing)) in rows {
                if !signals.go_on() {
                    return Err(Error::Interrupted);
                }
                found.clear();
                let decoded = find(spans.get(n), &mut found).and_then(|()| {
                    let (plan, dim) = (&shape.plan, shape.dim);
                    // Anew for each row: a signal's handler between two of them may decode, too.
                    SCRATCH.with_borrow_mut(|scratch| {
                        self.codec.decode_into(plan, &found, dim, shape.partial, scratch, out)
                    })
                });
                *missing = decoded.map_err(|error| error.at(item, n))? as i64;
            }
            Ok(())
        };
        py.detach(decode).map_err(|error| signals.explain(error))?;
        Ok((actions, missing))
    }
}

#[pymethods]
impl FastCodec {
    #[new]
    fn new(py: Python<'_>, tokenizer_json: &[u8], processor_config: &[u8]) -> PyResult<Self> {
        let codec = py
            .detach(|| pioxide_core::FastCodec::from_json(tokenizer_json, processor_config))
            .map_err(to_py)?;
        Ok(Self { codec })
    }

    /// Returns (ids int32, clipped).
    fn encode<'py>(
        &self,
        py: Python<'py>,
        chunk: &Bound<'py, PyAny>,
        on_overflow: &Bound<'py, PyAny>,
    ) -> PyResult<(Bound<'py, PyArray1<i32>>, usize)> {
        let on_overflow = parse_on_overflow(on_overflow)?;
        with_floats!(floats::<Ix2>(chunk, "chunk")?, array => {
            let view = array.as_array();
            let plan = self.codec.plan(view.nrows()).map_err(to_py)?;
            let (ids, clipped) = py
                .detach(|| {
                    let mut ids = Vec::new();
                    let clipped = self.encode_one(&plan, view, on_overflow, &mut ids)?;
                    Ok((signed(ids), clipped))
                })
                .map_err(to_py)?;
            Ok((ids.into_pyarray(py), clipped))
        })
    }

    /// Returns (ids int32, offsets int64 [N + 1], clipped int64 [N]).
    #[expect(clippy::type_complexity)]
    fn encode_batch<'py>(
        &self,
        py: Python<'py>,
        chunks: &Bound<'py, PyAny>,
        on_overflow: &Bound<'py, PyAny>,
    ) -> PyResult<(Bound<'py, PyArray1<i32>>, Bound<'py, PyArray1<i64>>, Bound<'py, PyArray1<i64>>)> {
        let on_overflow = parse_on_overflow(on_overflow)?;
        with_floats!(floats::<Ix3>(chunks, "chunks")?, array => {
            let view = array.as_array();
            let plan = self.codec.plan(view.shape()[1]).map_err(to_py)?;
            let offsets: Bound<'_, PyArray1<i64>> = empty(py, &[view.shape()[0] + 1])?;
            let clipped: Bound<'_, PyArray1<i64>> = empty(py, &[view.shape()[0]])?;
            let (mut write_offsets, mut write_clipped) = (offsets.try_readwrite()?, clipped.try_readwrite()?);
            let (offset, clip) = (write_offsets.as_slice_mut()?, write_clipped.as_slice_mut()?);
            let mut signals = Signals::new();
            let encode = || {
                let mut ids = Vec::new();
                offset[0] = 0;
                for (n, chunk) in view.outer_iter().enumerate() {
                    if !signals.go_on() {
                        return Err(Error::Interrupted);
                    }
                    let count = self
                        .encode_one(&plan, chunk, on_overflow, &mut ids)
                        .map_err(|error| error.at("chunk", n))?;
                    (offset[n + 1], clip[n]) = (ids.len() as i64, count as i64);
                }
                ids.shrink_to_fit();
                Ok(signed(ids))
            };
            let ids = py.detach(encode).map_err(|error| signals.explain(error))?;
            Ok((ids.into_pyarray(py), offsets, clipped))
        })
    }

    /// Returns (actions float64 [horizon, dim], missing).
    fn decode<'py>(
        &self,
        py: Python<'py>,
        ids: &Bound<'py, PyAny>,
        horizon: &Bound<'py, PyAny>,
        dim: &Bound<'py, PyAny>,
        partial: &Bound<'py, PyAny>,
    ) -> PyResult<Decoded<'py>> {
        let ids = crate::arrays::ids(ids, "ids")?;
        let shape = self.shape(horizon, dim, partial)?;
        self.decode_one(py, &shape, &ids)
    }

    /// `tokens` are sequences of ids, or with `offsets` the ids of all. Returns (actions float64 [N, horizon, dim],
    /// missing int64 [N]).
    #[pyo3(signature = (tokens, offsets, horizon, dim, partial))]
    fn decode_batch<'py>(
        &self,
        py: Python<'py>,
        tokens: &Bound<'py, PyAny>,
        offsets: Option<&Bound<'py, PyAny>>,
        horizon: &Bound<'py, PyAny>,
        dim: &Bound<'py, PyAny>,
        partial: &Bound<'py, PyAny>,
    ) -> PyResult<DecodedBatch<'py>> {
        let rows = match offsets {
            Some(ends) => {
                let flat = ids(tokens, "ids")?;
                let ends = rising_offsets(ends, flat.len())?;
                IdRows::with_offsets(flat, &ends)
            }
            None => IdRows::extract(tokens, "tokens")?,
        };
        let shape = self.shape(horizon, dim, partial)?;
        self.decode_rows(py, &shape, "chunk", &rows.spans, |span, found| {
            found.extend_from_slice(&rows.flat[span]);
            Ok(())
        })
    }

    /// The files of the published layout, name to content.
    fn files<'py>(
        &self,
        py: Python<'py>,
        horizon: Option<&Bound<'py, PyAny>>,
        dim: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let (horizon, dim) = (whole_or_none(horizon, "horizon")?, whole_or_none(dim, "dim")?);
        let files = self.codec.files(horizon, dim).map_err(to_py)?;
        let dict = PyDict::new(py);
        dict.set_item("tokenizer.json", files.tokenizer_json)?;
        dict.set_item("processor_config.json", files.processor_config)?;
        dict.set_item("tokenizer_config.json", files.tokenizer_config)?;
        dict.set_item("special_tokens_map.json", files.special_tokens_map)?;
        Ok(dict)
    }

    #[getter]
    fn vocab_size(&self) -> usize {
        self.codec.vocab_size()
    }

    #[getter]
    fn scale(&self) -> f64 {
        self.codec.scale()
    }

    #[getter]
    fn min_token(&self) -> i64 {
        self.codec.min_token()
    }

    #[getter]
    fn value_range(&self) -> (i64, i64) {
        self.codec.value_range()
    }

    #[getter]
    fn representable(&self) -> Vec<(i64, i64)> {
        self.codec.representable().to_vec()
    }

    /// What a token decodes to; None for an id that no chunk has.
    fn token_bytes(&self, id: &Bound<'_, PyAny>) -> PyResult<Option<&[u8]>> {
        let size = self.codec.vocab_size();
        match id.extract::<u32>() {
            Ok(id) if (id as usize) < size => Ok(self.codec.token_bytes(id)),
            _ => {
                let id = arguments::describe(id);
                Err(PyIndexError::new_err(format!("id {id} is outside the vocabulary of {size}")))
            }
        }
    }

    #[getter]
    fn horizon(&self) -> Option<usize> {
        self.codec.time_horizon()
    }

    #[getter]
    fn dim(&self) -> Option<usize> {
        self.codec.action_dim()
    }
}

/// Trains a tokenizer; returns the content of `tokenizer.json` and of `processor_config.json`.
#[pyfunction]
#[pyo3(signature = (chunks, *, vocab_size, scale, regex_split))]
pub(crate) fn fast_fit(
    py: Python<'_>,
    chunks: &Bound<'_, PyAny>,
    vocab_size: &Bound<'_, PyAny>,
    scale: f64,
    regex_split: Option<bool>,
) -> PyResult<(Vec<u8>, Vec<u8>)> {
    let vocab_size = whole(vocab_size, "vocab_size")?;
    let mut options = FitOptions { vocab_size, scale, ..FitOptions::default() };
    if let Some(regex_split) = regex_split {
        options.regex_split = regex_split;
    }
    let chunks = chunks
        .try_iter()
        .map_err(|_| input_error(format!("chunks: expected arrays, got {}", arguments::describe(chunks))))?;
    let arrays = chunks
        .enumerate()
        .map(|(n, chunk)| floats::<Ix2>(&chunk?, &format!("chunks[{n}]")))
        .collect::<PyResult<Vec<_>>>()?;
    let mut signals = Signals::new();
    let codec = if arrays.iter().all(|array| matches!(array, Floats::F32(_))) {
        fit_all::<f32>(py, &arrays, &options, &mut signals)
    } else {
        fit_all::<f64>(py, &arrays, &options, &mut signals)
    }
    .map_err(|error| signals.explain(error))?;
    let files = codec.files(None, None).map_err(to_py)?;
    Ok((files.tokenizer_json.into_bytes(), files.processor_config.into_bytes()))
}

// The conversion is one for float32 alone, and the macro writes the line for both.
#[expect(clippy::useless_conversion)]
fn fit_all<T: Float>(
    py: Python<'_>,
    arrays: &[Floats<'_, Ix2>],
    options: &FitOptions,
    signals: &mut Signals,
) -> pioxide_core::Result<pioxide_core::FastCodec> {
    let chunks: Vec<(Vec<T>, usize, usize)> = arrays
        .iter()
        .map(|array| {
            with_floats!(array, array => {
                let view = array.as_array();
                let mut values = Vec::new();
                let room = values.try_reserve_exact(view.len());
                room.map_err(|_| Error::OutOfMemory { what: "chunks" })?;
                values.extend(view.iter().map(|&x| T::from_f64(f64::from(x))));
                Ok((values, view.nrows(), view.ncols()))
            })
        })
        .collect::<pioxide_core::Result<_>>()?;
    py.detach(|| {
        let views: Vec<_> = chunks.iter().map(|(values, h, d)| (values.as_slice(), *h, *d)).collect();
        pioxide_core::FastCodec::fit_while(&views, options, &mut || signals.go_on())
    })
}

fn parse_on_overflow(value: &Bound<'_, PyAny>) -> PyResult<OnOverflow> {
    match &*arguments::text(value, "on_overflow")? {
        "error" => Ok(OnOverflow::Error),
        "clip" => Ok(OnOverflow::Clip),
        other => Err(input_error(format!("on_overflow: expected \"error\" or \"clip\", got {other:?}"))),
    }
}

fn parse_partial(value: &Bound<'_, PyAny>) -> PyResult<Partial> {
    match &*arguments::text(value, "partial")? {
        "error" => Ok(Partial::Error),
        "pad" => Ok(Partial::Pad),
        other => Err(input_error(format!("partial: expected \"error\" or \"pad\", got {other:?}"))),
    }
}

/// Values in a chunk, refused where it could not be held: a typing slip must not ask for terabytes.
fn chunk_len(horizon: usize, dim: usize) -> PyResult<usize> {
    const MOST: usize = 1 << 28;
    match horizon.checked_mul(dim) {
        Some(len @ 1..=MOST) => Ok(len),
        _ => Err(input_error(format!("a chunk of horizon {horizon} and dim {dim} is not one we can decode"))),
    }
}
