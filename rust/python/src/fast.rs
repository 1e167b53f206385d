//! `FastCodec` for Python. Batch work and single chunks alike run without the GIL.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, RwLock};

use numpy::ndarray::{ArrayView2, Ix2, Ix3};
use numpy::{Element, IntoPyArray, PyArray1, PyArray2, PyArray3, PyArrayMethods, PyReadonlyArray1};
use pioxide_core::{Dct, FastScratch, FitOptions, Float, OnOverflow, Partial};
use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arrays::{Floats, IdRows, floats, ids, row_major, signed, spans, with_floats};
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
    /// One plan for each horizon seen: a function of the horizon alone, so sharing it changes no answer.
    plans: RwLock<BTreeMap<usize, Arc<Dct>>>,
}

impl FastCodec {
    fn plan(&self, horizon: usize) -> PyResult<Arc<Dct>> {
        let read = self.plans.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(plan) = read.get(&horizon) {
            return Ok(plan.clone());
        }
        drop(read);
        let plan = Arc::new(Dct::new(horizon).map_err(to_py)?);
        self.plans.write().unwrap_or_else(|poisoned| poisoned.into_inner()).insert(horizon, plan.clone());
        Ok(plan)
    }

    fn encode_one<T: Float + Element>(
        &self,
        plan: &Dct,
        chunk: ArrayView2<'_, T>,
        on_overflow: OnOverflow,
        out: &mut Vec<u32>,
    ) -> pioxide_core::Result<usize> {
        let dim = chunk.ncols();
        SCRATCH.with_borrow_mut(|scratch| {
            self.codec.encode_into(plan, &row_major(&chunk), dim, on_overflow, scratch, out)
        })
    }

    /// Checks what decoding is asked for.
    pub(crate) fn shape(&self, horizon: usize, dim: usize, partial: &str) -> PyResult<Shape> {
        let partial = parse_partial(partial)?;
        let len = chunk_len(horizon, dim)?;
        Ok(Shape { plan: self.plan(horizon)?, dim, len, partial })
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
                let mut actions = vec![0.0; shape.len];
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
        spans: &[Range<usize>],
        find: impl Fn(Range<usize>, &mut Vec<u32>) -> pioxide_core::Result<()> + Send + Sync,
    ) -> PyResult<DecodedBatch<'py>> {
        let total = shape.len.checked_mul(spans.len()).ok_or_else(|| {
            input_error(format!("{} chunks of {} values are too many", spans.len(), shape.len))
        })?;
        let (actions, missing) = py
            .detach(|| {
                let (mut actions, mut found) = (vec![0.0; total], Vec::new());
                let mut missing = Vec::with_capacity(spans.len());
                SCRATCH.with_borrow_mut(|scratch| {
                    for (n, (span, out)) in spans.iter().zip(actions.chunks_exact_mut(shape.len)).enumerate()
                    {
                        found.clear();
                        let count = find(span.clone(), &mut found)
                            .and_then(|()| {
                                let (plan, dim) = (&shape.plan, shape.dim);
                                self.codec.decode_into(plan, &found, dim, shape.partial, scratch, out)
                            })
                            .map_err(|error| error.at(item, n))?;
                        missing.push(count as i64);
                    }
                    Ok(())
                })?;
                Ok((actions, missing))
            })
            .map_err(to_py)?;
        let actions = actions.into_pyarray(py).reshape([spans.len(), shape.plan.horizon(), shape.dim])?;
        Ok((actions, missing.into_pyarray(py)))
    }
}

#[pymethods]
impl FastCodec {
    #[new]
    fn new(py: Python<'_>, tokenizer_json: &[u8], processor_config: &[u8]) -> PyResult<Self> {
        let codec = py
            .detach(|| pioxide_core::FastCodec::from_json(tokenizer_json, processor_config))
            .map_err(to_py)?;
        Ok(Self { codec, plans: RwLock::default() })
    }

    /// Returns (ids int32, clipped).
    fn encode<'py>(
        &self,
        py: Python<'py>,
        chunk: &Bound<'py, PyAny>,
        on_overflow: &str,
    ) -> PyResult<(Bound<'py, PyArray1<i32>>, usize)> {
        let on_overflow = parse_on_overflow(on_overflow)?;
        with_floats!(floats::<Ix2>(chunk, "chunk")?, array => {
            let view = array.as_array();
            let plan = self.plan(view.nrows())?;
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
        on_overflow: &str,
    ) -> PyResult<(Bound<'py, PyArray1<i32>>, Bound<'py, PyArray1<i64>>, Bound<'py, PyArray1<i64>>)> {
        let on_overflow = parse_on_overflow(on_overflow)?;
        with_floats!(floats::<Ix3>(chunks, "chunks")?, array => {
            let view = array.as_array();
            let plan = self.plan(view.shape()[1])?;
            let (ids, offsets, clipped) = py
                .detach(|| {
                    let (mut ids, mut offsets, mut clipped) = (Vec::new(), vec![0_i64], Vec::new());
                    for (n, chunk) in view.outer_iter().enumerate() {
                        let count = self
                            .encode_one(&plan, chunk, on_overflow, &mut ids)
                            .map_err(|error| error.at("chunk", n))?;
                        offsets.push(ids.len() as i64);
                        clipped.push(count as i64);
                    }
                    Ok((signed(ids), offsets, clipped))
                })
                .map_err(to_py)?;
            Ok((ids.into_pyarray(py), offsets.into_pyarray(py), clipped.into_pyarray(py)))
        })
    }

    /// Returns (actions float64 [horizon, dim], missing).
    fn decode<'py>(
        &self,
        py: Python<'py>,
        ids: &Bound<'py, PyAny>,
        horizon: usize,
        dim: usize,
        partial: &str,
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
        offsets: Option<PyReadonlyArray1<'py, i64>>,
        horizon: usize,
        dim: usize,
        partial: &str,
    ) -> PyResult<DecodedBatch<'py>> {
        let rows = match offsets {
            Some(offsets) => {
                let flat = ids(tokens, "ids")?;
                IdRows { spans: spans(&offsets, flat.len())?, flat }
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
        horizon: Option<usize>,
        dim: Option<usize>,
    ) -> PyResult<Bound<'py, PyDict>> {
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
    fn token_bytes(&self, id: usize) -> PyResult<Option<&[u8]>> {
        let size = self.codec.vocab_size();
        match u32::try_from(id) {
            Ok(id) if (id as usize) < size => Ok(self.codec.token_bytes(id)),
            _ => Err(PyIndexError::new_err(format!("id {id} is outside the vocabulary of {size}"))),
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
    chunks: Vec<Bound<'_, PyAny>>,
    vocab_size: usize,
    scale: f64,
    regex_split: Option<bool>,
) -> PyResult<(Vec<u8>, Vec<u8>)> {
    let mut options = FitOptions { vocab_size, scale, ..FitOptions::default() };
    if let Some(regex_split) = regex_split {
        options.regex_split = regex_split;
    }
    let arrays = chunks.iter().map(|chunk| floats::<Ix2>(chunk, "chunks")).collect::<PyResult<Vec<_>>>()?;
    let codec = if arrays.iter().all(|array| matches!(array, Floats::F32(_))) {
        fit_all::<f32>(py, &arrays, &options)
    } else {
        fit_all::<f64>(py, &arrays, &options)
    }
    .map_err(to_py)?;
    let files = codec.files(None, None).map_err(to_py)?;
    Ok((files.tokenizer_json.into_bytes(), files.processor_config.into_bytes()))
}

// The conversion is one for float32 alone, and the macro writes the line for both.
#[expect(clippy::useless_conversion)]
fn fit_all<T: Float>(
    py: Python<'_>,
    arrays: &[Floats<'_, Ix2>],
    options: &FitOptions,
) -> pioxide_core::Result<pioxide_core::FastCodec> {
    let chunks: Vec<(Vec<T>, usize, usize)> = arrays
        .iter()
        .map(|array| {
            with_floats!(array, array => {
                let view = array.as_array();
                let values = view.iter().map(|&x| T::from_f64(f64::from(x))).collect();
                (values, view.nrows(), view.ncols())
            })
        })
        .collect();
    py.detach(|| {
        let views: Vec<_> = chunks.iter().map(|(values, h, d)| (values.as_slice(), *h, *d)).collect();
        pioxide_core::FastCodec::fit(&views, options)
    })
}

fn parse_on_overflow(name: &str) -> PyResult<OnOverflow> {
    match name {
        "error" => Ok(OnOverflow::Error),
        "clip" => Ok(OnOverflow::Clip),
        other => Err(input_error(format!("on_overflow: expected \"error\" or \"clip\", got {other:?}"))),
    }
}

fn parse_partial(name: &str) -> PyResult<Partial> {
    match name {
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
