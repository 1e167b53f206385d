//! SentencePiece text: ids and back.

use std::ffi::c_char;
use std::path::Path;
use std::sync::Arc;

use pioxide_core::SentencePiece;

use crate::codec::path_text;
use crate::memory::{Buffers, copy_out, give, handle, read, take_back, utf8};
use crate::options::{self, Growing};
use crate::scratch::{PioxideScratch, Room};
use crate::status::{PioxideStatus, exclusive, guard};

/// A SentencePiece vocabulary. Never changes: any number of threads may use one at once, each with its own scratch.
/// Prompts made with it keep what they need: it may be freed before them.
pub struct PioxideText(pub(crate) Arc<SentencePiece>);

/// What is known of a vocabulary.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct PioxideTextInfo {
    /// sizeof(PioxideTextInfo), set by the caller.
    pub struct_size: usize,
    /// Pieces.
    pub vocab_size: usize,
    /// The id that begins a sequence; -1 where there is none.
    pub bos: i64,
    /// The id that ends a sequence; -1 where there is none.
    pub eos: i64,
    /// The id that fills up a batch; -1 where there is none.
    pub pad: i64,
    /// The id that stands for what has no piece.
    pub unk: i64,
}

// SAFETY: numbers alone.
unsafe impl Growing for PioxideTextInfo {
    const FIRST: usize = 48;
    const NAME: &'static str = "PioxideTextInfo";
}

/// Reads the content of a `.model` file.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_text_from_bytes(
    model: *const u8,
    model_len: usize,
    out: *mut *mut PioxideText,
) -> PioxideStatus {
    // SAFETY: C keeps the header's promise for every pointer.
    guard(|| unsafe {
        give(out, || {
            let model = Buffers::default().input("model", model, model_len)?;
            Ok(PioxideText(Arc::new(SentencePiece::from_bytes(model)?)))
        })
    })
}

/// Reads a `.model` file, whose path is UTF-8 that ends in NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_text_from_file(
    path: *const c_char,
    out: *mut *mut PioxideText,
) -> PioxideStatus {
    // SAFETY: C keeps the header's promise for every pointer.
    guard(|| unsafe {
        give(out, || {
            let model = read(Path::new(path_text(path)?))?;
            Ok(PioxideText(Arc::new(SentencePiece::from_bytes(&model)?)))
        })
    })
}

/// Frees a vocabulary; NULL is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_text_free(text: *mut PioxideText) {
    // SAFETY: C keeps the header's promise for the handle.
    guard(|| unsafe { take_back("text", text) });
}

/// Says what is known of a vocabulary; set `info->struct_size` before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_text_info(
    text: *const PioxideText,
    info: *mut PioxideTextInfo,
) -> PioxideStatus {
    // SAFETY: C keeps the header's promise for every pointer.
    guard(|| unsafe {
        let PioxideText(text) = handle("text", text)?;
        let or_none = |id: Option<u32>| id.map_or(-1, i64::from);
        let known = PioxideTextInfo {
            struct_size: 0,
            vocab_size: text.vocab_size(),
            bos: or_none(text.bos()),
            eos: or_none(text.eos()),
            pad: or_none(text.pad()),
            unk: text.unk().into(),
        };
        options::write("info", info, &known)
    })
}

/// Encodes `len` bytes of UTF-8. No beginning or end is added. `*count` becomes how many ids there are: where that is
/// more than `capacity`, nothing else is written and the call ends in PIOXIDE_STATUS_BUFFER_TOO_SMALL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_text_encode(
    text: *const PioxideText,
    scratch: *const PioxideScratch,
    utf8_text: *const u8,
    len: usize,
    ids: *mut u32,
    capacity: usize,
    count: *mut usize,
) -> PioxideStatus {
    guard(|| {
        let mut buffers = Buffers::default();
        // SAFETY: C keeps the header's promise for every pointer.
        let (PioxideText(text), PioxideScratch(scratch), line, ids, count) = unsafe {
            (
                handle("text", text)?,
                handle("scratch", scratch)?,
                utf8(&mut buffers, "utf8_text", utf8_text, len)?,
                buffers.output("ids", ids, capacity)?,
                buffers.place("count", count)?,
            )
        };
        *count = 0;
        let mut room = exclusive("scratch", scratch)?;
        let Room { text: scratch, ids: found, .. } = &mut *room;
        found.clear();
        text.encode_into(line, scratch, found)?;
        copy_out("ids", found, ids, count)
    })
}

/// Decodes ids to UTF-8 without a NUL. `*len` becomes how many bytes there are: where that is more than `capacity`,
/// nothing else is written and the call ends in PIOXIDE_STATUS_BUFFER_TOO_SMALL. This call allocates.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_text_decode(
    text: *const PioxideText,
    ids: *const u32,
    count: usize,
    utf8_text: *mut u8,
    capacity: usize,
    len: *mut usize,
) -> PioxideStatus {
    guard(|| {
        let mut buffers = Buffers::default();
        // SAFETY: C keeps the header's promise for every pointer.
        let (PioxideText(text), ids, room, len) = unsafe {
            (
                handle("text", text)?,
                buffers.input("ids", ids, count)?,
                buffers.output("utf8_text", utf8_text, capacity)?,
                buffers.place("len", len)?,
            )
        };
        *len = 0;
        copy_out("utf8_text", text.decode(ids)?.as_bytes(), room, len)
    })
}
