//! The three prompt formats for Python.

use numpy::ndarray::{Ix1, Ix2};
use numpy::{IntoPyArray, PyArray1, PyArray2, PyArrayMethods};
use pioxide_core::{
    ActionTokens, Error, FastIds, FastPromptRows, FastRow, Instructions, PromptOptions, PromptRows,
    PromptStyle, Written,
};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::{PyString, PyTuple};

use crate::arguments::{self, Signals, whole, whole_or_none};
use crate::arrays::{
    IdRows, empty, floats, ids, packed_floats, rising_offsets, row_major, signed, with_floats, writable,
};
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

/// Texts over this many bytes are tokenized without the GIL.
const LONG: usize = 4096;

/// The texts of a batch, kept while [`Instructions`] borrow them.
struct Texts {
    texts: Vec<PyBackedStr>,
    /// Which of them each row has; `None` where each row has its own.
    index: Option<Vec<u32>>,
}

impl Texts {
    /// From a list of texts, one a row, or from a pair of distinct texts and an index a row.
    fn extract(prompts: &Bound<'_, PyAny>) -> PyResult<Self> {
        if let Ok(pair) = prompts.cast::<PyTuple>()
            && pair.len() == 2
            && !pair.get_item(1)?.is_instance_of::<PyString>()
        {
            let index = Some(ids(&pair.get_item(1)?, "index")?);
            return Ok(Self { texts: Self::list(&pair.get_item(0)?)?, index });
        }
        Ok(Self { texts: Self::list(prompts)?, index: None })
    }

    fn list(prompts: &Bound<'_, PyAny>) -> PyResult<Vec<PyBackedStr>> {
        let wrong = || input_error("prompts: expected a list of texts, or (texts, index)");
        if prompts.is_instance_of::<PyString>() {
            return Err(wrong());
        }
        let items = prompts.try_iter().map_err(|_| wrong())?;
        items.enumerate().map(|(n, item)| arguments::text(&item?, &format!("prompts[{n}]"))).collect()
    }

    fn instructions(&self) -> PyResult<Instructions<'_>> {
        let texts = self.texts.iter().map(|text| &**text);
        match &self.index {
            Some(index) => Instructions::indexed(texts.collect(), index).map_err(to_py),
            None => Ok(Instructions::of_rows(texts)),
        }
    }
}

fn expect_rows(instructions: &Instructions<'_>, what: &str, got: usize) -> PyResult<()> {
    if instructions.len() == got {
        return Ok(());
    }
    Err(input_error(format!("{} prompts, but {got} {what}", instructions.len())))
}

/// The arrays that a batch is written into.
struct Rows<'py> {
    tokens: TokenRows<'py>,
    mask: MaskRows<'py>,
    lengths: Lengths<'py>,
    truncated: Mask<'py>,
}

impl<'py> Rows<'py> {
    fn new(py: Python<'py>, count: usize, len: usize) -> PyResult<Self> {
        Ok(Self {
            tokens: empty(py, &[count, len])?,
            mask: empty(py, &[count, len])?,
            lengths: empty(py, &[count])?,
            truncated: empty(py, &[count])?,
        })
    }

    /// Lets a batch be written without the GIL.
    fn write(
        self,
        py: Python<'py>,
        write: impl FnOnce(PromptRows<'_>, &mut dyn FnMut() -> bool) -> Result<(), Error> + Send,
    ) -> PyResult<Many<'py>> {
        {
            let (mut tokens, mut mask) = (self.tokens.try_readwrite()?, self.mask.try_readwrite()?);
            let (mut lengths, mut truncated) =
                (self.lengths.try_readwrite()?, self.truncated.try_readwrite()?);
            let rows = PromptRows {
                tokens: tokens.as_slice_mut()?,
                mask: mask.as_slice_mut()?,
                lengths: lengths.as_slice_mut()?,
                truncated: truncated.as_slice_mut()?,
            };
            let mut signals = Signals::new();
            py.detach(|| write(rows, &mut || signals.go_on())).map_err(|error| signals.explain(error))?;
        }
        Ok((self.tokens, self.mask, self.lengths, self.truncated))
    }
}

/// Runs `encode`, without the GIL where the text is long.
fn maybe_detached<R: Send>(
    py: Python<'_>,
    prompt: &str,
    encode: impl FnOnce() -> Result<R, Error> + Send,
) -> PyResult<R> {
    if prompt.len() > LONG { py.detach(encode) } else { encode() }.map_err(to_py)
}

fn check_max_len(max_len: &Bound<'_, PyAny>) -> PyResult<usize> {
    match whole(max_len, "max_len")? {
        len @ 1..=0x10_0000 => Ok(len),
        other => Err(input_error(format!("max_len: expected 1 to {}, got {other}", 1 << 20))),
    }
}

fn options(style: &Bound<'_, PyAny>, state_width: Option<&Bound<'_, PyAny>>) -> PyResult<PromptOptions> {
    Ok(PromptOptions { style: parse_style(style)?, state_width: whole_or_none(state_width, "state_width")? })
}

fn parse_style(style: &Bound<'_, PyAny>) -> PyResult<PromptStyle> {
    match &*arguments::text(style, "style")? {
        "openpi" => Ok(PromptStyle::OpenPi),
        "lerobot" => Ok(PromptStyle::LeRobot),
        other => Err(input_error(format!("style: expected \"openpi\" or \"lerobot\", got {other:?}"))),
    }
}

fn one(py: Python<'_>, tokens: Vec<i32>, mask: Vec<bool>, written: Written) -> One<'_> {
    (tokens.into_pyarray(py), mask.into_pyarray(py), written.length, written.truncated)
}

/// π0's prompts; see `pioxide.codec.Pi0Prompts`.
#[pyclass(frozen, module = "pioxide._core")]
pub(crate) struct Pi0Prompts {
    format: pioxide_core::Pi0Prompts,
    max_len: usize,
}

#[pymethods]
impl Pi0Prompts {
    #[new]
    fn new(
        tokenizer: &TextTokenizer,
        max_len: &Bound<'_, PyAny>,
        style: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        let (max_len, style) = (check_max_len(max_len)?, parse_style(style)?);
        let format = pioxide_core::Pi0Prompts::new(tokenizer.model.clone(), style).map_err(to_py)?;
        Ok(Self { format, max_len })
    }

    fn encode<'py>(&self, py: Python<'py>, prompt: &Bound<'py, PyAny>) -> PyResult<One<'py>> {
        let prompt = arguments::text(prompt, "prompt")?;
        let (mut tokens, mut mask) = (vec![0; self.max_len], vec![false; self.max_len]);
        let encode = || self.format.encode_into(&prompt, &mut tokens, &mut mask);
        let written = maybe_detached(py, &prompt, encode)?;
        Ok(one(py, tokens, mask, written))
    }

    fn encode_into(
        &self,
        py: Python<'_>,
        prompt: &Bound<'_, PyAny>,
        tokens: &Bound<'_, PyAny>,
        mask: &Bound<'_, PyAny>,
    ) -> PyResult<(usize, bool)> {
        let prompt = arguments::text(prompt, "prompt")?;
        let (mut tokens, mut mask) = (writable(tokens, "tokens")?, writable(mask, "mask")?);
        let (tokens, mask) = (tokens.as_slice_mut()?, mask.as_slice_mut()?);
        let written = maybe_detached(py, &prompt, || self.format.encode_into(&prompt, tokens, mask))?;
        Ok((written.length, written.truncated))
    }

    fn encode_batch<'py>(&self, py: Python<'py>, prompts: &Bound<'py, PyAny>) -> PyResult<Many<'py>> {
        let texts = Texts::extract(prompts)?;
        let instructions = texts.instructions()?;
        Rows::new(py, instructions.len(), self.max_len)?
            .write(py, |rows, go_on| self.format.encode_batch_into(&instructions, rows, go_on))
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
}

#[pymethods]
impl Pi05Prompts {
    #[new]
    #[pyo3(signature = (tokenizer, max_len, style, state_width))]
    fn new(
        py: Python<'_>,
        tokenizer: &TextTokenizer,
        max_len: &Bound<'_, PyAny>,
        style: &Bound<'_, PyAny>,
        state_width: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let (max_len, options) = (check_max_len(max_len)?, options(style, state_width)?);
        let model = tokenizer.model.clone();
        let format = py.detach(|| pioxide_core::Pi05Prompts::new(model, options)).map_err(to_py)?;
        Ok(Self { format, max_len })
    }

    fn encode<'py>(
        &self,
        py: Python<'py>,
        prompt: &Bound<'py, PyAny>,
        state: &Bound<'py, PyAny>,
    ) -> PyResult<One<'py>> {
        let prompt = arguments::text(prompt, "prompt")?;
        let (mut tokens, mut mask) = (vec![0; self.max_len], vec![false; self.max_len]);
        let written = with_floats!(floats::<Ix1>(state, "state")?, array => {
            let view = array.as_array();
            maybe_detached(py, &prompt, || {
                self.format.encode_into(&prompt, &row_major(&view)?, &mut tokens, &mut mask)
            })?
        });
        Ok(one(py, tokens, mask, written))
    }

    fn encode_into(
        &self,
        py: Python<'_>,
        prompt: &Bound<'_, PyAny>,
        state: &Bound<'_, PyAny>,
        tokens: &Bound<'_, PyAny>,
        mask: &Bound<'_, PyAny>,
    ) -> PyResult<(usize, bool)> {
        let prompt = arguments::text(prompt, "prompt")?;
        let (mut tokens, mut mask) = (writable(tokens, "tokens")?, writable(mask, "mask")?);
        let (tokens, mask) = (tokens.as_slice_mut()?, mask.as_slice_mut()?);
        let written = with_floats!(floats::<Ix1>(state, "state")?, array => {
            let view = array.as_array();
            maybe_detached(py, &prompt, || {
                self.format.encode_into(&prompt, &row_major(&view)?, tokens, mask)
            })?
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
        let instructions = texts.instructions()?;
        with_floats!(packed_floats::<Ix2>(states, "states")?, array => {
            expect_rows(&instructions, "states", array.as_array().nrows())?;
            let states = array.as_slice()?;
            Rows::new(py, instructions.len(), self.max_len)?
                .write(py, |rows, go_on| self.format.encode_batch_into(&instructions, states, rows, go_on))
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

/// π0-FAST's prompts; see `pioxide.codec.Pi0FastPrompts`.
#[pyclass(frozen, module = "pioxide._core")]
pub(crate) struct Pi0FastPrompts {
    format: pioxide_core::Pi0FastPrompts,
    max_len: usize,
}

#[pymethods]
impl Pi0FastPrompts {
    #[new]
    #[pyo3(signature = (tokenizer, fast_vocab, max_len, style, state_width, skipped_ids))]
    fn new(
        py: Python<'_>,
        tokenizer: &TextTokenizer,
        fast_vocab: usize,
        max_len: &Bound<'_, PyAny>,
        style: &Bound<'_, PyAny>,
        state_width: Option<&Bound<'_, PyAny>>,
        skipped_ids: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        let (max_len, options) = (check_max_len(max_len)?, options(style, state_width)?);
        let fast = FastIds { count: fast_vocab, skipped: whole(skipped_ids, "skipped_ids")? };
        let model = tokenizer.model.clone();
        let format = py.detach(|| pioxide_core::Pi0FastPrompts::new(model, fast, options)).map_err(to_py)?;
        Ok(Self { format, max_len })
    }

    /// `action_ids` None writes the prefix alone.
    #[pyo3(signature = (prompt, state, action_ids))]
    fn encode<'py>(
        &self,
        py: Python<'py>,
        prompt: &Bound<'py, PyAny>,
        state: &Bound<'py, PyAny>,
        action_ids: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<FastOne<'py>> {
        let prompt = arguments::text(prompt, "prompt")?;
        let actions = action_ids.map(|value| ids(value, "action ids")).transpose()?;
        let (mut tokens, mut mask) = (vec![0; self.max_len], vec![false; self.max_len]);
        let (mut ar_mask, mut loss_mask) = (vec![0; self.max_len], vec![false; self.max_len]);
        let written = with_floats!(floats::<Ix1>(state, "state")?, array => {
            let view = array.as_array();
            maybe_detached(py, &prompt, || {
                let state = row_major(&view)?;
                let Some(actions) = actions else {
                    return self.format.encode_into(&prompt, &state, &mut tokens, &mut mask);
                };
                let row = FastRow {
                    tokens: &mut tokens, mask: &mut mask, ar_mask: &mut ar_mask, loss_mask: &mut loss_mask,
                };
                self.format.encode_training_into(&prompt, &state, &actions, row)
            })?
        });
        let (tokens, mask, length, truncated) = one(py, tokens, mask, written);
        Ok((tokens, mask, ar_mask.into_pyarray(py), loss_mask.into_pyarray(py), length, truncated))
    }

    /// Writes the prefix alone.
    fn encode_into(
        &self,
        py: Python<'_>,
        prompt: &Bound<'_, PyAny>,
        state: &Bound<'_, PyAny>,
        tokens: &Bound<'_, PyAny>,
        mask: &Bound<'_, PyAny>,
    ) -> PyResult<(usize, bool)> {
        let prompt = arguments::text(prompt, "prompt")?;
        let (mut tokens, mut mask) = (writable(tokens, "tokens")?, writable(mask, "mask")?);
        let (tokens, mask) = (tokens.as_slice_mut()?, mask.as_slice_mut()?);
        let written = with_floats!(floats::<Ix1>(state, "state")?, array => {
            let view = array.as_array();
            maybe_detached(py, &prompt, || {
                self.format.encode_into(&prompt, &row_major(&view)?, tokens, mask)
            })?
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
        offsets: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<FastMany<'py>> {
        let texts = Texts::extract(prompts)?;
        let instructions = texts.instructions()?;
        let actions = match (flat_ids, offsets) {
            (Some(flat), Some(ends)) => {
                let flat = ids(flat, "action ids")?;
                let ends = rising_offsets(ends, flat.len())?;
                expect_rows(&instructions, "action chunks", ends.len() - 1)?;
                Some((flat, ends))
            }
            _ => None,
        };
        let (count, len) = (instructions.len(), self.max_len);
        let ar_mask: TokenRows<'_> = empty(py, &[count, len])?;
        let loss_mask: MaskRows<'_> = empty(py, &[count, len])?;
        let many = {
            let (mut ar_rows, mut loss_rows) = (ar_mask.try_readwrite()?, loss_mask.try_readwrite()?);
            let (ar_rows, loss_rows) = (ar_rows.as_slice_mut()?, loss_rows.as_slice_mut()?);
            with_floats!(packed_floats::<Ix2>(states, "states")?, array => {
                expect_rows(&instructions, "states", array.as_array().nrows())?;
                let states = array.as_slice()?;
                Rows::new(py, count, len)?.write(py, |prompts, go_on| {
                    let Some((ids, offsets)) = &actions else {
                        ar_rows.fill(0);
                        loss_rows.fill(false);
                        return self.format.encode_batch_into(&instructions, states, prompts, go_on);
                    };
                    let actions = ActionTokens { ids, offsets };
                    let rows = FastPromptRows { prompts, ar_mask: ar_rows, loss_mask: loss_rows };
                    self.format.encode_training_batch_into(&instructions, states, actions, rows, go_on)
                })?
            })
        };
        let (tokens, mask, lengths, truncated) = many;
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
    ) -> PyResult<Tokens<'py>> {
        let tokens = signed(ids(tokens, "tokens")?);
        let mut found = Vec::new();
        self.find(&tokens, continued, &mut found).map_err(to_py)?;
        Ok(signed(found).into_pyarray(py))
    }

    /// A generated sequence to (actions float64 [horizon, dim], missing); `continued` as in `fast_ids`.
    #[expect(clippy::too_many_arguments)]
    fn ids_to_actions<'py>(
        &self,
        py: Python<'py>,
        codec: &FastCodec,
        tokens: &Bound<'py, PyAny>,
        horizon: &Bound<'py, PyAny>,
        dim: &Bound<'py, PyAny>,
        partial: &Bound<'py, PyAny>,
        continued: bool,
    ) -> PyResult<Decoded<'py>> {
        let tokens = signed(ids(tokens, "tokens")?);
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
        horizon: &Bound<'py, PyAny>,
        dim: &Bound<'py, PyAny>,
        partial: &Bound<'py, PyAny>,
        continued: bool,
    ) -> PyResult<DecodedBatch<'py>> {
        let IdRows { flat, spans } = IdRows::extract(tokens, "tokens")?;
        let tokens = signed(flat);
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
}
