//! The three prompt formats for Python. A prompt's text is tokenized once and remembered until another comes, as in
//! a control loop; a batch tokenizes each distinct text once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use numpy::ndarray::{ArrayView2, Ix1, Ix2};
use numpy::{IntoPyArray, PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadwriteArray1};
use pioxide_core::{Error, FastIds, FastRow, Float, PromptOptions, PromptStyle, Task, Written};
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

use crate::arrays::{IdRows, floats, ids, row_major, with_floats};
use crate::error::{input_error, to_py};
use crate::fast::{Decoded, DecodedBatch, FastCodec};
use crate::text::TextTokenizer;

type Tokens<'py> = Bound<'py, PyArray1<i32>>;
type Mask<'py> = Bound<'py, PyArray1<bool>>;
type TokenRows<'py> = Bound<'py, PyArray2<i32>>;
type MaskRows<'py> = Bound<'py, PyArray2<bool>>;
type Lengths<'py> = Bound<'py, PyArray1<i32>>;
/// tokens, mask, length, truncated
type One<'py> = (Tokens<'py>, Mask<'py>, usize, bool);
/// tokens, mask, lengths, truncated
type Many<'py> = (TokenRows<'py>, MaskRows<'py>, Lengths<'py>, Mask<'py>);
/// tokens, mask, ar_mask, loss_mask, length, truncated
type FastOne<'py> = (Tokens<'py>, Mask<'py>, Tokens<'py>, Mask<'py>, usize, bool);
/// tokens, mask, ar_mask, loss_mask, lengths, truncated
type FastMany<'py> = (TokenRows<'py>, MaskRows<'py>, TokenRows<'py>, MaskRows<'py>, Lengths<'py>, Mask<'py>);

/// The text tokenized last.
#[derive(Default)]
struct LastTask(Mutex<Option<(String, Arc<Task>)>>);

impl LastTask {
    fn get(&self, text: &str, make: impl FnOnce(&str) -> Result<Task, Error>) -> Result<Arc<Task>, Error> {
        let mut last = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some((known, task)) = &*last
            && known == text
        {
            return Ok(task.clone());
        }
        let task = Arc::new(make(text)?);
        *last = Some((text.to_owned(), task.clone()));
        Ok(task)
    }
}

/// The texts of a batch: each distinct one once, and which of them each row has.
struct Texts {
    distinct: Vec<String>,
    rows: Vec<usize>,
}

impl Texts {
    /// From a list of texts, one a row, or from a pair of distinct texts and an index a row.
    fn extract(prompts: &Bound<'_, PyAny>) -> PyResult<Self> {
        if let Ok(pair) = prompts.cast::<PyTuple>()
            && pair.len() == 2
            && !pair.get_item(1)?.is_instance_of::<PyString>()
        {
            let distinct: Vec<String> = texts(&pair.get_item(0)?)?;
            let rows: Vec<usize> =
                ids(&pair.get_item(1)?, "index")?.into_iter().map(|i| i as usize).collect();
            if let Some((row, text)) = rows.iter().enumerate().find(|&(_, &text)| text >= distinct.len()) {
                let count = distinct.len();
                return Err(input_error(format!("index[{row}] is {text}, but there are {count} texts")));
            }
            return Ok(Self { distinct, rows });
        }
        let mut known = HashMap::new();
        let mut this = Self { distinct: Vec::new(), rows: Vec::new() };
        for text in texts(prompts)? {
            let at = *known.entry(text).or_insert_with_key(|text| {
                this.distinct.push(text.clone());
                this.distinct.len() - 1
            });
            this.rows.push(at);
        }
        Ok(this)
    }

    fn tasks(&self, make: impl Fn(&str) -> Result<Task, Error>) -> Result<Vec<Task>, Error> {
        self.distinct.iter().map(|text| make(text)).collect()
    }

    fn expect_rows(&self, what: &str, got: usize) -> PyResult<()> {
        if self.rows.len() == got {
            return Ok(());
        }
        Err(input_error(format!("{} prompts, but {got} {what}", self.rows.len())))
    }
}

fn texts(prompts: &Bound<'_, PyAny>) -> PyResult<Vec<String>> {
    prompts.extract().map_err(|_| input_error("prompts: expected a list of texts, or (texts, index)"))
}

fn check_max_len(max_len: usize) -> PyResult<usize> {
    if (1..=1 << 20).contains(&max_len) {
        return Ok(max_len);
    }
    Err(input_error(format!("max_len: expected 1 to {}, got {max_len}", 1 << 20)))
}

fn one(py: Python<'_>, tokens: Vec<i32>, mask: Vec<bool>, written: Written) -> One<'_> {
    (tokens.into_pyarray(py), mask.into_pyarray(py), written.length, written.truncated)
}

/// Rows of equal length, written one after another.
struct Rows {
    len: usize,
    tokens: Vec<i32>,
    mask: Vec<bool>,
    lengths: Vec<i32>,
    truncated: Vec<bool>,
}

impl Rows {
    fn new(count: usize, len: usize) -> Self {
        Self {
            len,
            tokens: vec![0; count * len],
            mask: vec![false; count * len],
            lengths: Vec::with_capacity(count),
            truncated: Vec::with_capacity(count),
        }
    }

    fn fill(
        &mut self,
        mut write: impl FnMut(usize, &mut [i32], &mut [bool]) -> Result<Written, Error>,
    ) -> Result<(), Error> {
        let rows = self.tokens.chunks_exact_mut(self.len).zip(self.mask.chunks_exact_mut(self.len));
        for (n, (tokens, mask)) in rows.enumerate() {
            let written = write(n, tokens, mask).map_err(|error| error.at("row", n))?;
            self.lengths.push(written.length as i32);
            self.truncated.push(written.truncated);
        }
        Ok(())
    }

    fn into_py(self, py: Python<'_>) -> PyResult<Many<'_>> {
        let shape = [self.lengths.len(), self.len];
        Ok((
            self.tokens.into_pyarray(py).reshape(shape)?,
            self.mask.into_pyarray(py).reshape(shape)?,
            self.lengths.into_pyarray(py),
            self.truncated.into_pyarray(py),
        ))
    }
}

/// π0's prompts; see `pioxide.codec.Pi0Prompts`.
#[pyclass(frozen, module = "pioxide._core")]
pub(crate) struct Pi0Prompts {
    format: pioxide_core::Pi0Prompts,
    max_len: usize,
    last: LastTask,
}

#[pymethods]
impl Pi0Prompts {
    #[new]
    fn new(tokenizer: &TextTokenizer, max_len: usize, style: &str) -> PyResult<Self> {
        let style = parse_style(style)?;
        let format = pioxide_core::Pi0Prompts::new(tokenizer.model.clone(), style).map_err(to_py)?;
        Ok(Self { format, max_len: check_max_len(max_len)?, last: LastTask::default() })
    }

    fn encode<'py>(&self, py: Python<'py>, prompt: &str) -> PyResult<One<'py>> {
        let task = self.last.get(prompt, |text| self.format.task(text)).map_err(to_py)?;
        let (mut tokens, mut mask) = (vec![0; self.max_len], vec![false; self.max_len]);
        let written = self.format.write_into(&task, &mut tokens, &mut mask).map_err(to_py)?;
        Ok(one(py, tokens, mask, written))
    }

    fn encode_into(
        &self,
        prompt: &str,
        mut tokens: PyReadwriteArray1<'_, i32>,
        mut mask: PyReadwriteArray1<'_, bool>,
    ) -> PyResult<(usize, bool)> {
        let task = self.last.get(prompt, |text| self.format.task(text)).map_err(to_py)?;
        let written = self
            .format
            .write_into(&task, contiguous(&mut tokens, "tokens")?, contiguous(&mut mask, "mask")?)
            .map_err(to_py)?;
        Ok((written.length, written.truncated))
    }

    fn encode_batch<'py>(&self, py: Python<'py>, prompts: &Bound<'py, PyAny>) -> PyResult<Many<'py>> {
        let texts = Texts::extract(prompts)?;
        let rows = py
            .detach(|| {
                let tasks = texts.tasks(|text| self.format.task(text))?;
                let mut rows = Rows::new(texts.rows.len(), self.max_len);
                rows.fill(|n, tokens, mask| self.format.write_into(&tasks[texts.rows[n]], tokens, mask))?;
                Ok(rows)
            })
            .map_err(to_py)?;
        rows.into_py(py)
    }

    #[getter]
    fn max_len(&self) -> usize {
        self.max_len
    }
}

/// π0.5's prompts; see `pioxide.codec.Pi05Prompts`.
#[pyclass(frozen, module = "pioxide._core")]
pub(crate) struct Pi05Prompts {
    format: pioxide_core::Pi05Prompts,
    max_len: usize,
    last: LastTask,
}

#[pymethods]
impl Pi05Prompts {
    #[new]
    #[pyo3(signature = (tokenizer, max_len, style, state_width))]
    fn new(
        py: Python<'_>,
        tokenizer: &TextTokenizer,
        max_len: usize,
        style: &str,
        state_width: Option<usize>,
    ) -> PyResult<Self> {
        let options = PromptOptions { style: parse_style(style)?, state_width };
        let model = tokenizer.model.clone();
        let format = py.detach(|| pioxide_core::Pi05Prompts::new(model, options)).map_err(to_py)?;
        Ok(Self { format, max_len: check_max_len(max_len)?, last: LastTask::default() })
    }

    fn encode<'py>(&self, py: Python<'py>, prompt: &str, state: &Bound<'py, PyAny>) -> PyResult<One<'py>> {
        let task = self.last.get(prompt, |text| self.format.task(text)).map_err(to_py)?;
        let (mut tokens, mut mask) = (vec![0; self.max_len], vec![false; self.max_len]);
        let written = with_floats!(floats::<Ix1>(state, "state")?, array => {
            self.format.write_into(&task, &row_major(&array.as_array()), &mut tokens, &mut mask).map_err(to_py)?
        });
        Ok(one(py, tokens, mask, written))
    }

    fn encode_into(
        &self,
        prompt: &str,
        state: &Bound<'_, PyAny>,
        mut tokens: PyReadwriteArray1<'_, i32>,
        mut mask: PyReadwriteArray1<'_, bool>,
    ) -> PyResult<(usize, bool)> {
        let task = self.last.get(prompt, |text| self.format.task(text)).map_err(to_py)?;
        let (tokens, mask) = (contiguous(&mut tokens, "tokens")?, contiguous(&mut mask, "mask")?);
        let written = with_floats!(floats::<Ix1>(state, "state")?, array => {
            self.format.write_into(&task, &row_major(&array.as_array()), tokens, mask).map_err(to_py)?
        });
        Ok((written.length, written.truncated))
    }

    fn encode_batch<'py>(
        &self,
        py: Python<'py>,
        prompts: &Bound<'py, PyAny>,
        states: &Bound<'py, PyAny>,
    ) -> PyResult<Many<'py>> {
        let texts = Texts::extract(prompts)?;
        let rows = with_floats!(floats::<Ix2>(states, "states")?, array => {
            let states: ArrayView2<'_, _> = array.as_array();
            texts.expect_rows("states", states.nrows())?;
            py.detach(|| {
                let tasks = texts.tasks(|text| self.format.task(text))?;
                let mut rows = Rows::new(texts.rows.len(), self.max_len);
                rows.fill(|n, tokens, mask| {
                    self.format.write_into(&tasks[texts.rows[n]], &row_major(&states.row(n)), tokens, mask)
                })?;
                Ok(rows)
            })
            .map_err(to_py)?
        });
        rows.into_py(py)
    }

    #[getter]
    fn max_len(&self) -> usize {
        self.max_len
    }

    /// Whether the state is written from a table, which this vocabulary was proven to allow.
    #[getter]
    fn uses_table(&self) -> bool {
        self.format.uses_table()
    }
}

/// π0-FAST's prompts; see `pioxide.codec.Pi0FastPrompts`.
#[pyclass(frozen, module = "pioxide._core")]
pub(crate) struct Pi0FastPrompts {
    format: pioxide_core::Pi0FastPrompts,
    max_len: usize,
    last: LastTask,
}

#[pymethods]
impl Pi0FastPrompts {
    #[new]
    #[pyo3(signature = (tokenizer, fast_vocab, max_len, style, state_width, skipped_ids))]
    fn new(
        py: Python<'_>,
        tokenizer: &TextTokenizer,
        fast_vocab: usize,
        max_len: usize,
        style: &str,
        state_width: Option<usize>,
        skipped_ids: usize,
    ) -> PyResult<Self> {
        let options = PromptOptions { style: parse_style(style)?, state_width };
        let fast = FastIds { count: fast_vocab, skipped: skipped_ids };
        let model = tokenizer.model.clone();
        let format = py.detach(|| pioxide_core::Pi0FastPrompts::new(model, fast, options)).map_err(to_py)?;
        Ok(Self { format, max_len: check_max_len(max_len)?, last: LastTask::default() })
    }

    /// `action_ids` None writes the prefix alone.
    fn encode<'py>(
        &self,
        py: Python<'py>,
        prompt: &str,
        state: &Bound<'py, PyAny>,
        action_ids: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<FastOne<'py>> {
        let task = self.last.get(prompt, |text| self.format.task(text)).map_err(to_py)?;
        let actions = action_ids.map(|value| ids(value, "action ids")).transpose()?;
        let (mut tokens, mut mask) = (vec![0; self.max_len], vec![false; self.max_len]);
        let (mut ar_mask, mut loss_mask) = (vec![0; self.max_len], vec![false; self.max_len]);
        let written = with_floats!(floats::<Ix1>(state, "state")?, array => {
            let view = array.as_array();
            let row = FastRow {
                tokens: &mut tokens, mask: &mut mask, ar_mask: &mut ar_mask, loss_mask: &mut loss_mask,
            };
            self.write(&task, &row_major(&view), actions.as_deref(), row).map_err(to_py)?
        });
        Ok((
            tokens.into_pyarray(py),
            mask.into_pyarray(py),
            ar_mask.into_pyarray(py),
            loss_mask.into_pyarray(py),
            written.length,
            written.truncated,
        ))
    }

    /// Writes the prefix alone.
    fn encode_into(
        &self,
        prompt: &str,
        state: &Bound<'_, PyAny>,
        mut tokens: PyReadwriteArray1<'_, i32>,
        mut mask: PyReadwriteArray1<'_, bool>,
    ) -> PyResult<(usize, bool)> {
        let task = self.last.get(prompt, |text| self.format.task(text)).map_err(to_py)?;
        let (tokens, mask) = (contiguous(&mut tokens, "tokens")?, contiguous(&mut mask, "mask")?);
        let written = with_floats!(floats::<Ix1>(state, "state")?, array => {
            self.format.write_into(&task, &row_major(&array.as_array()), tokens, mask).map_err(to_py)?
        });
        Ok((written.length, written.truncated))
    }

    /// `flat_ids` and `offsets` are those of a token batch; both None write the prefixes alone.
    #[pyo3(signature = (prompts, states, flat_ids, offsets))]
    fn encode_batch<'py>(
        &self,
        py: Python<'py>,
        prompts: &Bound<'py, PyAny>,
        states: &Bound<'py, PyAny>,
        flat_ids: Option<&Bound<'py, PyAny>>,
        offsets: Option<PyReadonlyArray1<'py, i64>>,
    ) -> PyResult<FastMany<'py>> {
        let texts = Texts::extract(prompts)?;
        let flat = flat_ids.map(|value| ids(value, "action ids")).transpose()?;
        let spans = match (&flat, &offsets) {
            (Some(flat), Some(offsets)) => Some(crate::arrays::spans(offsets, flat.len())?),
            _ => None,
        };
        if let Some(spans) = &spans {
            texts.expect_rows("action chunks", spans.len())?;
        }
        let len = self.max_len;
        let (rows, ar_mask, loss_mask) = with_floats!(floats::<Ix2>(states, "states")?, array => {
            let states: ArrayView2<'_, _> = array.as_array();
            texts.expect_rows("states", states.nrows())?;
            py.detach(|| {
                let tasks = texts.tasks(|text| self.format.task(text))?;
                let mut rows = Rows::new(texts.rows.len(), len);
                let mut ar_mask = vec![0; texts.rows.len() * len];
                let mut loss_mask = vec![false; texts.rows.len() * len];
                let mut more = ar_mask.chunks_exact_mut(len).zip(loss_mask.chunks_exact_mut(len));
                rows.fill(|n, tokens, mask| {
                    let (ar_mask, loss_mask) = more.next().unwrap_or_default();
                    let actions = match (&flat, &spans) {
                        (Some(flat), Some(spans)) => Some(&flat[spans[n].clone()]),
                        _ => None,
                    };
                    let row = FastRow { tokens, mask, ar_mask, loss_mask };
                    self.write(&tasks[texts.rows[n]], &row_major(&states.row(n)), actions, row)
                })?;
                Ok((rows, ar_mask, loss_mask))
            })
            .map_err(to_py)?
        });
        let shape = [texts.rows.len(), len];
        let (tokens, mask, lengths, truncated) = rows.into_py(py)?;
        let ar_mask = ar_mask.into_pyarray(py).reshape(shape)?;
        let loss_mask = loss_mask.into_pyarray(py).reshape(shape)?;
        Ok((tokens, mask, ar_mask, loss_mask, lengths, truncated))
    }

    /// The text ids before the action ids.
    #[getter]
    fn answer_start<'py>(&self, py: Python<'py>) -> Tokens<'py> {
        PyArray1::from_slice(py, self.format.answer_start())
    }

    /// The text ids behind the action ids.
    #[getter]
    fn answer_end<'py>(&self, py: Python<'py>) -> Tokens<'py> {
        PyArray1::from_slice(py, self.format.answer_end())
    }

    /// FAST ids as text ids.
    fn text_ids<'py>(&self, py: Python<'py>, fast_ids: &Bound<'py, PyAny>) -> PyResult<Tokens<'py>> {
        let fast_ids = ids(fast_ids, "fast_ids")?;
        let text_id = |(at, &id): (usize, &u32)| {
            self.format
                .text_id(id)
                .ok_or_else(|| input_error(format!("fast_ids[{at}]: {id} is outside the FAST vocabulary")))
        };
        let found: PyResult<Vec<i32>> = fast_ids.iter().enumerate().map(text_id).collect();
        Ok(found?.into_pyarray(py))
    }

    /// The FAST ids in a generated sequence; `continued` where its prefix ended in "Action: " already.
    fn fast_ids<'py>(
        &self,
        py: Python<'py>,
        tokens: &Bound<'py, PyAny>,
        continued: bool,
    ) -> PyResult<Bound<'py, PyArray1<i32>>> {
        let tokens = crate::arrays::signed(ids(tokens, "tokens")?);
        let mut found = Vec::new();
        self.find(&tokens, continued, &mut found).map_err(to_py)?;
        Ok(crate::arrays::signed(found).into_pyarray(py))
    }

    /// A generated sequence to (actions float64 [horizon, dim], missing); `continued` as in `fast_ids`.
    #[expect(clippy::too_many_arguments)]
    fn ids_to_actions<'py>(
        &self,
        py: Python<'py>,
        codec: &FastCodec,
        tokens: &Bound<'py, PyAny>,
        horizon: usize,
        dim: usize,
        partial: &str,
        continued: bool,
    ) -> PyResult<Decoded<'py>> {
        let tokens = crate::arrays::signed(ids(tokens, "tokens")?);
        let mut found = Vec::new();
        self.find(&tokens, continued, &mut found).map_err(to_py)?;
        codec.decode_one(py, &codec.shape(horizon, dim, partial)?, &found)
    }

    /// Generated sequences to (actions float64 [N, horizon, dim], missing int64 [N]).
    #[expect(clippy::too_many_arguments)]
    fn ids_to_actions_batch<'py>(
        &self,
        py: Python<'py>,
        codec: &FastCodec,
        tokens: &Bound<'py, PyAny>,
        horizon: usize,
        dim: usize,
        partial: &str,
        continued: bool,
    ) -> PyResult<DecodedBatch<'py>> {
        let IdRows { flat, spans } = IdRows::extract(tokens, "tokens")?;
        let tokens = crate::arrays::signed(flat);
        let shape = codec.shape(horizon, dim, partial)?;
        codec.decode_rows(py, &shape, "sequence", &spans, |span, found| {
            self.find(&tokens[span], continued, found)
        })
    }

    #[getter]
    fn max_len(&self) -> usize {
        self.max_len
    }

    /// Whether the state is written from a table, which this vocabulary was proven to allow.
    #[getter]
    fn uses_table(&self) -> bool {
        self.format.uses_table()
    }
}

impl Pi0FastPrompts {
    fn find(&self, tokens: &[i32], continued: bool, found: &mut Vec<u32>) -> Result<(), Error> {
        if continued {
            self.format.continued_fast_ids(tokens, found)
        } else {
            self.format.fast_ids(tokens, found)
        }
    }

    fn write<T: Float>(
        &self,
        task: &Task,
        state: &[T],
        actions: Option<&[u32]>,
        row: FastRow<'_>,
    ) -> Result<Written, Error> {
        match actions {
            Some(actions) => self.format.write_training_into(task, state, actions, row),
            None => self.format.write_into(task, state, row.tokens, row.mask),
        }
    }
}

fn parse_style(name: &str) -> PyResult<PromptStyle> {
    match name {
        "openpi" => Ok(PromptStyle::OpenPi),
        "lerobot" => Ok(PromptStyle::LeRobot),
        other => Err(input_error(format!("style: expected \"openpi\" or \"lerobot\", got {other:?}"))),
    }
}

fn contiguous<'a, T: numpy::Element>(
    array: &'a mut PyReadwriteArray1<'_, T>,
    name: &str,
) -> PyResult<&'a mut [T]> {
    array
        .as_slice_mut()
        .map_err(|_| input_error(format!("{name}: expected a contiguous array to write into")))
}
