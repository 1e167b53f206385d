//! π0.5's questions for a subtask and the answers to them. A question is a prompt like any other: it is tokenized, written
//! and batched by the calls for prompts.

use std::sync::Arc;

use pioxide_core::{Prompts, SubtaskOptions, SubtaskPrompts};

use crate::contract::PioxideContract;
use crate::memory::{Buffers, copy_out, give, handle, utf8};
use crate::options::{self, Growing};
use crate::prompts::PioxidePrompts;
use crate::status::{PioxideStatus, Result, guard, invalid};
use crate::text::PioxideText;

/// What questions for a subtask are to be like. Fields that are not set are to be zero.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct PioxideSubtaskOptions {
    /// sizeof(PioxideSubtaskOptions).
    pub struct_size: usize,
    /// 1 where the text is to be without the state, as of models that were trained so; else 0.
    pub without_state: u32,
    /// To be 0.
    pub reserved: u32,
    /// Joints that the text holds: a narrower state is filled up with zeros. 0 writes the state as it comes.
    pub state_width: usize,
}

// SAFETY: numbers alone.
unsafe impl Growing for PioxideSubtaskOptions {
    const FIRST: usize = 24;
    const NAME: &'static str = "PioxideSubtaskOptions";
}

/// Makes π0.5's questions for a subtask in a vocabulary. pioxide_prompts_tokenize, pioxide_prompts_write_f64 and batches
/// write them; actions are then asked for by π0.5's prompts, whose instruction is the subtask.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_subtasks_new(
    text: *const PioxideText,
    options: *const PioxideSubtaskOptions,
    out: *mut *mut PioxidePrompts,
) -> PioxideStatus {
    // SAFETY: C keeps the header's promise for every pointer.
    guard(|| unsafe {
        give(out, || {
            let PioxideText(text) = handle("text", text)?;
            let PioxideSubtaskOptions { without_state, reserved, state_width, .. } =
                options::read("options", options)?;
            if without_state > 1 || reserved != 0 {
                return Err(invalid!("options: expected without_state of 0 or 1, and 0 in reserved"));
            }
            if without_state == 1 && state_width != 0 {
                return Err(invalid!("options: the text holds no state, but state_width is {state_width}"));
            }
            let state_width = (state_width > 0).then_some(state_width);
            let options = SubtaskOptions { reads_state: without_state == 0, state_width };
            Ok(PioxidePrompts(Arc::new(Prompts::subtask(text.clone(), options)?)))
        })
    })
}

/// Makes the questions for a subtask that a contract's model learnt. Their rows have `text_len` of its info.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_subtasks_from_contract(
    text: *const PioxideText,
    contract: *const PioxideContract,
    out: *mut *mut PioxidePrompts,
) -> PioxideStatus {
    // SAFETY: C keeps the header's promise for every pointer.
    guard(|| unsafe {
        give(out, || {
            let PioxideText(text) = handle("text", text)?;
            let PioxideContract { contract, .. } = handle("contract", contract)?;
            Ok(PioxidePrompts(Arc::new(Prompts::Subtask(contract.subtask_prompts(text.clone())?))))
        })
    })
}

/// Writes the ids of an answer, whose text is `len` bytes of UTF-8, its end included. `*count` becomes how many there are:
/// where that is more than `capacity`, nothing else is written and the call ends in PIOXIDE_STATUS_BUFFER_TOO_SMALL. This
/// call allocates.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_subtasks_answer(
    prompts: *const PioxidePrompts,
    utf8_text: *const u8,
    len: usize,
    tokens: *mut i32,
    capacity: usize,
    count: *mut usize,
) -> PioxideStatus {
    guard(|| {
        let mut buffers = Buffers::default();
        // SAFETY: C keeps the header's promise for every pointer.
        let (prompts, text, tokens, count) = unsafe {
            (
                subtasks(prompts)?,
                utf8(&mut buffers, "utf8_text", utf8_text, len)?,
                buffers.output("tokens", tokens, capacity)?,
                buffers.place("count", count)?,
            )
        };
        *count = 0;
        copy_out("tokens", &prompts.answer(text)?, tokens, count)
    })
}

/// Reads the subtask in what π0.5 wrote, `tokens` `[count]`: the text up to the end of the sequence, in UTF-8 without a
/// NUL. `*len` becomes how many bytes it has: where that is more than `capacity`, nothing else is written and the call ends
/// in PIOXIDE_STATUS_BUFFER_TOO_SMALL. PIOXIDE_STATUS_NO_SUBTASK where there is no end or no text. This call allocates.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_subtasks_read(
    prompts: *const PioxidePrompts,
    tokens: *const i32,
    count: usize,
    utf8_text: *mut u8,
    capacity: usize,
    len: *mut usize,
) -> PioxideStatus {
    guard(|| {
        let mut buffers = Buffers::default();
        // SAFETY: C keeps the header's promise for every pointer.
        let (prompts, tokens, room, len) = unsafe {
            (
                subtasks(prompts)?,
                buffers.input("tokens", tokens, count)?,
                buffers.output("utf8_text", utf8_text, capacity)?,
                buffers.place("len", len)?,
            )
        };
        *len = 0;
        copy_out("utf8_text", prompts.read(tokens)?.as_bytes(), room, len)
    })
}

/// Questions for a subtask.
///
/// # Safety
/// As [`handle`].
unsafe fn subtasks<'a>(prompts: *const PioxidePrompts) -> Result<&'a SubtaskPrompts> {
    // SAFETY: the caller's promise is passed on.
    match &*unsafe { handle("prompts", prompts)? }.0 {
        Prompts::Subtask(prompts) => Ok(prompts),
        _ => Err(invalid!("prompts: expected questions for a subtask")),
    }
}
