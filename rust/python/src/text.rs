//! `TextTokenizer` and `state_bins` for Python.

use std::cell::RefCell;
use std::sync::Arc;

use numpy::{IntoPyArray, Ix1, PyArray1};
use pioxide_core::{SentencePiece, TextScratch};
use pyo3::exceptions::{PyIndexError, PyKeyError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::arguments;
use crate::arrays::{floats, ids, row_major, signed, with_floats};
use crate::error::{input_error, to_py};

thread_local! {
    static SCRATCH: RefCell<TextScratch> = RefCell::default();
}

/// A SentencePiece BPE model; see `pioxide.codec.TextTokenizer`.
#[pyclass(frozen, subclass, module = "pioxide._core")]
pub(crate) struct TextTokenizer {
    pub(crate) model: Arc<SentencePiece>,
    bytes: Py<PyBytes>,
}

#[pymethods]
impl TextTokenizer {
    #[new]
    fn new(py: Python<'_>, model: Bound<'_, PyBytes>) -> PyResult<Self> {
        let bytes = model.as_bytes();
        let parsed = py.detach(|| SentencePiece::from_bytes(bytes)).map_err(to_py)?;
        Ok(Self { model: Arc::new(parsed), bytes: model.unbind() })
    }

    /// The `.model` file this was read from.
    fn to_bytes(&self, py: Python<'_>) -> Py<PyBytes> {
        self.bytes.clone_ref(py)
    }

    /// Encodes text.
    ///
    /// Args:
    ///     text: Any Unicode text.
    ///     bos: Whether to put the begin-of-sequence id first.
    ///     eos: Whether to put the end-of-sequence id last.
    ///
    /// Returns:
    ///     [n] ids, int32.
    #[pyo3(signature = (text, *, bos = false, eos = false))]
    fn encode<'py>(
        &self,
        py: Python<'py>,
        text: &Bound<'py, PyAny>,
        bos: bool,
        eos: bool,
    ) -> PyResult<Bound<'py, PyArray1<i32>>> {
        let text = arguments::text(text, "text")?;
        let ids = py.detach(|| {
            let mut ids = Vec::new();
            if bos {
                ids.push(special(self.model.bos(), "begin-of-sequence")?);
            }
            SCRATCH
                .with_borrow_mut(|scratch| self.model.encode_into(&text, scratch, &mut ids))
                .map_err(to_py)?;
            if eos {
                ids.push(special(self.model.eos(), "end-of-sequence")?);
            }
            PyResult::Ok(signed(ids))
        })?;
        Ok(ids.into_pyarray(py))
    }

    /// Decodes ids to text: control pieces vanish, bytes that are no UTF-8 become U+FFFD.
    ///
    /// Raises:
    ///     InputError: An id is outside the vocabulary.
    fn decode(&self, py: Python<'_>, token_ids: &Bound<'_, PyAny>) -> PyResult<String> {
        let list = ids(token_ids, "ids")?;
        py.detach(|| self.model.decode(&list)).map_err(to_py)
    }

    /// The piece of an id. Raises IndexError outside the vocabulary.
    fn piece(&self, id: &Bound<'_, PyAny>) -> PyResult<&str> {
        id.extract().ok().and_then(|id| self.model.piece(id)).ok_or_else(|| {
            let (id, size) = (arguments::describe(id), self.model.vocab_size());
            PyIndexError::new_err(format!("id {id} is outside the vocabulary of {size}"))
        })
    }

    /// The id of a piece. Raises KeyError where there is no such piece.
    fn id(&self, piece: &Bound<'_, PyAny>) -> PyResult<u32> {
        let text = arguments::text(piece, "piece")?;
        self.model.id(&text).ok_or_else(|| PyKeyError::new_err(text.to_string()))
    }

    /// Number of pieces.
    #[getter]
    fn vocab_size(&self) -> usize {
        self.model.vocab_size()
    }

    /// Begin-of-sequence id, None where the model has none.
    #[getter]
    fn bos_id(&self) -> Option<u32> {
        self.model.bos()
    }

    /// End-of-sequence id, None where the model has none.
    #[getter]
    fn eos_id(&self) -> Option<u32> {
        self.model.eos()
    }

    /// Padding id, None where the model has none.
    #[getter]
    fn pad_id(&self) -> Option<u32> {
        self.model.pad()
    }

    /// Unknown-piece id.
    #[getter]
    fn unk_id(&self) -> u32 {
        self.model.unk()
    }

    fn __len__(&self) -> usize {
        self.model.vocab_size()
    }

    fn __repr__(&self) -> String {
        format!("TextTokenizer(vocab_size={})", self.model.vocab_size())
    }
}

fn special(id: Option<u32>, name: &str) -> PyResult<u32> {
    id.ok_or_else(|| input_error(format!("this text model has no {name} piece")))
}

/// [D] bins of a normalised state; see `pioxide.codec.state_bins`.
#[pyfunction]
pub(crate) fn state_bins<'py>(
    py: Python<'py>,
    state: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyArray1<i16>>> {
    with_floats!(floats::<Ix1>(state, "state")?, array => {
        let view = array.as_array();
        let values = row_major(&view).map_err(to_py)?;
        let mut bins = vec![0_i16; values.len()];
        pioxide_core::state_bins_into(&values, &mut bins).map_err(to_py)?;
        Ok(bins.into_pyarray(py))
    })
}
