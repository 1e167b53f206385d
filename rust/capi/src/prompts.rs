//! Prompts of π0, π0.5 and π0-FAST, and the way back from what π0-FAST writes.

use std::sync::Arc;

use pioxide_core::{
    Error, FastIds, FastRow, Float, Pi0FastPrompts, PromptOptions, PromptStyle, Prompts, TokenizedInstruction,
};

use crate::contract::PioxideContract;
use crate::memory::{Buffers, Plain, copy_out, give, handle, take_back, utf8};
use crate::options::{self, Growing};
use crate::scratch::PioxideScratch;
use crate::status::{PioxideStatus, Result, exclusive, guard, invalid};
use crate::text::PioxideText;

/// How one model's prompts are written. Never changes: any number of threads may use one at once.
pub struct PioxidePrompts(pub(crate) Arc<Prompts>);

/// An instruction, cleaned and tokenized once, for as many states as come; for prompts like those that made it. Never
/// changes: any number of threads may use one at once.
pub struct PioxideInstruction(TokenizedInstruction);

/// Whose prompts.
#[repr(u32)]
pub enum PioxideFamily {
    /// π0: the text and a newline. Released models have rows of 48.
    Pi0 = 0,
    /// π0.5: the text and the state. Released models have rows of 200.
    Pi05 = 1,
    /// π0-FAST: the text and the state; the actions are tokens of the answer. Released models have rows of 250.
    Pi0Fast = 2,
}

/// The code base whose prompts are written.
#[repr(u32)]
pub enum PioxideStyle {
    /// openpi's, and so the released models'.
    Openpi = 0,
    /// LeRobot's.
    Lerobot = 1,
}

/// What prompts are to be like. Fields that are not set are to be zero.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct PioxidePromptOptions {
    /// sizeof(PioxidePromptOptions).
    pub struct_size: usize,
    /// A PioxideFamily.
    pub family: u32,
    /// A PioxideStyle.
    pub style: u32,
    /// Joints that the text holds: a narrower state is filled up with zeros. 0 writes the state as it comes.
    pub state_width: usize,
    /// π0-FAST: ids of the FAST vocabulary; else 0.
    pub fast_vocab: usize,
    /// π0-FAST: pieces at the end of the text vocabulary that FAST ids leave alone, 128 in released models; else 0.
    pub fast_skipped: usize,
}

// SAFETY: numbers alone.
unsafe impl Growing for PioxidePromptOptions {
    const FIRST: usize = 40;
    const NAME: &'static str = "PioxidePromptOptions";
}

/// Makes the prompts of one model in a vocabulary.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_prompts_new(
    text: *const PioxideText,
    options: *const PioxidePromptOptions,
    out: *mut *mut PioxidePrompts,
) -> PioxideStatus {
    // SAFETY: C keeps the header's promise for every pointer.
    guard(|| unsafe {
        give(out, || {
            let PioxideText(text) = handle("text", text)?;
            let PioxidePromptOptions { family, style, state_width, fast_vocab, fast_skipped, .. } =
                options::read("options", options)?;
            let style = match style {
                0 => PromptStyle::OpenPi,
                1 => PromptStyle::LeRobot,
                other => return Err(invalid!("style: expected 0 (openpi) or 1 (lerobot), got {other}")),
            };
            if family != 2 && (fast_vocab, fast_skipped) != (0, 0) {
                return Err(invalid!("options: fast_vocab and fast_skipped are for π0-FAST alone"));
            }
            if family == 0 && state_width != 0 {
                return Err(invalid!(
                    "options: π0's prompts hold no state, but state_width is {state_width}"
                ));
            }
            let options = PromptOptions { style, state_width: (state_width > 0).then_some(state_width) };
            let text = text.clone();
            Ok(PioxidePrompts(Arc::new(match family {
                0 => Prompts::pi0(text, style)?,
                1 => Prompts::pi05(text, options)?,
                2 => Prompts::pi0_fast(text, FastIds { count: fast_vocab, skipped: fast_skipped }, options)?,
                other => {
                    return Err(invalid!("family: expected 0 (π0), 1 (π0.5) or 2 (π0-FAST), got {other}"));
                }
            })))
        })
    })
}

/// Makes the prompts that a contract asks for. Their rows have `text_len` of its info.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_prompts_from_contract(
    text: *const PioxideText,
    contract: *const PioxideContract,
    out: *mut *mut PioxidePrompts,
) -> PioxideStatus {
    // SAFETY: C keeps the header's promise for every pointer.
    guard(|| unsafe {
        give(out, || {
            let PioxideText(text) = handle("text", text)?;
            let PioxideContract { contract, .. } = handle("contract", contract)?;
            Ok(PioxidePrompts(Arc::new(contract.prompts(text.clone())?)))
        })
    })
}

/// Frees prompts; NULL is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_prompts_free(prompts: *mut PioxidePrompts) {
    // SAFETY: C keeps the header's promise for the handle.
    guard(|| unsafe { take_back("prompts", prompts) });
}

/// Tokenizes an instruction, `len` bytes of UTF-8. This call allocates.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_prompts_tokenize(
    prompts: *const PioxidePrompts,
    utf8_text: *const u8,
    len: usize,
    out: *mut *mut PioxideInstruction,
) -> PioxideStatus {
    // SAFETY: C keeps the header's promise for every pointer.
    guard(|| unsafe {
        give(out, || {
            let PioxidePrompts(prompts) = handle("prompts", prompts)?;
            let text = utf8(&mut Buffers::default(), "utf8_text", utf8_text, len)?;
            Ok(PioxideInstruction(prompts.tokenize(text)?))
        })
    })
}

/// Frees an instruction; NULL is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_instruction_free(instruction: *mut PioxideInstruction) {
    // SAFETY: C keeps the header's promise for the handle.
    guard(|| unsafe { take_back("instruction", instruction) });
}

/// Writes one prompt: `tokens` and `mask` `[len]`, filled up with the pad id and 0. `state` `[dim]` is normalised; π0's
/// prompts hold none (NULL and 0). `*length` becomes how many ids the prompt has: more than `len` where its end did not
/// fit and was left out. Allocates only in vocabularies whose numbers can't be looked up, which PaliGemma's can.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_prompts_write_f64(
    prompts: *const PioxidePrompts,
    instruction: *const PioxideInstruction,
    state: *const f64,
    dim: usize,
    tokens: *mut i32,
    mask: *mut u8,
    len: usize,
    length: *mut usize,
) -> PioxideStatus {
    // SAFETY: C keeps the header's promise for every pointer.
    guard(|| unsafe { write(prompts, instruction, state, dim, tokens, mask, len, length) })
}

/// As pioxide_prompts_write_f64, with a state of single precision.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_prompts_write_f32(
    prompts: *const PioxidePrompts,
    instruction: *const PioxideInstruction,
    state: *const f32,
    dim: usize,
    tokens: *mut i32,
    mask: *mut u8,
    len: usize,
    length: *mut usize,
) -> PioxideStatus {
    // SAFETY: C keeps the header's promise for every pointer.
    guard(|| unsafe { write(prompts, instruction, state, dim, tokens, mask, len, length) })
}

/// # Safety
/// As the header asks of every pointer.
unsafe fn write<T: Float + Plain>(
    prompts: *const PioxidePrompts,
    instruction: *const PioxideInstruction,
    state: *const T,
    dim: usize,
    tokens: *mut i32,
    mask: *mut u8,
    len: usize,
    length: *mut usize,
) -> Result<()> {
    let mut buffers = Buffers::default();
    // SAFETY: the caller's promise is passed on.
    let (PioxidePrompts(prompts), PioxideInstruction(instruction), state, tokens, mask, length) = unsafe {
        (
            handle("prompts", prompts)?,
            handle("instruction", instruction)?,
            buffers.input("state", state, dim)?,
            buffers.output("tokens", tokens, len)?,
            buffers.mask("mask", mask, len)?,
            buffers.place("length", length)?,
        )
    };
    *length = 0;
    if !prompts.hold_state() && dim > 0 {
        return Err(invalid!("state: these prompts hold none; give NULL and 0"));
    }
    *length = prompts.write_into(instruction, state, tokens, mask)?.length;
    Ok(())
}

/// Writes one training row of π0-FAST: the prompt, then the FAST ids `actions` `[count]` in their frame. `tokens` and
/// `mask` as in pioxide_prompts_write_f64; `ar_mask` `[len]` is 1 where a token sees only what is before it, `loss_mask`
/// `[len]` 1 where it carries the loss.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_prompts_write_training_f64(
    prompts: *const PioxidePrompts,
    instruction: *const PioxideInstruction,
    state: *const f64,
    dim: usize,
    actions: *const u32,
    count: usize,
    tokens: *mut i32,
    mask: *mut u8,
    ar_mask: *mut i32,
    loss_mask: *mut u8,
    len: usize,
    length: *mut usize,
) -> PioxideStatus {
    guard(|| {
        let mut buffers = Buffers::default();
        // SAFETY: C keeps the header's promise for every pointer.
        let (prompts, PioxideInstruction(instruction), state, actions, row, length) = unsafe {
            (
                fast(prompts)?,
                handle("instruction", instruction)?,
                buffers.input("state", state, dim)?,
                buffers.input("actions", actions, count)?,
                FastRow {
                    tokens: buffers.output("tokens", tokens, len)?,
                    mask: buffers.mask("mask", mask, len)?,
                    ar_mask: buffers.output("ar_mask", ar_mask, len)?,
                    loss_mask: buffers.mask("loss_mask", loss_mask, len)?,
                },
                buffers.place("length", length)?,
            )
        };
        *length = 0;
        *length = prompts.write_training_into(instruction, state, actions, row)?.length;
        Ok(())
    })
}

/// Finds the FAST ids in what π0-FAST wrote, `tokens` `[count]`: what stands between the first `Action: ` and the next `|`,
/// or from the first token on where `continued` is not 0, because the prefix ended in `Action: ` already. `*found`
/// becomes how many there are: where that is more than `capacity`, nothing else is written and the call ends in
/// PIOXIDE_STATUS_BUFFER_TOO_SMALL; `count` is always enough.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_prompts_fast_ids(
    prompts: *const PioxidePrompts,
    scratch: *const PioxideScratch,
    tokens: *const i32,
    count: usize,
    continued: u32,
    ids: *mut u32,
    capacity: usize,
    found: *mut usize,
) -> PioxideStatus {
    guard(|| {
        let mut buffers = Buffers::default();
        // SAFETY: C keeps the header's promise for every pointer.
        let (prompts, PioxideScratch(scratch), tokens, ids, found) = unsafe {
            (
                fast(prompts)?,
                handle("scratch", scratch)?,
                buffers.input("tokens", tokens, count)?,
                buffers.output("ids", ids, capacity)?,
                buffers.place("found", found)?,
            )
        };
        *found = 0;
        let mut room = exclusive("scratch", scratch)?;
        room.ids.clear();
        if continued == 0 {
            prompts.fast_ids(tokens, &mut room.ids)?;
        } else {
            prompts.continued_fast_ids(tokens, &mut room.ids)?;
        }
        copy_out("ids", &room.ids, ids, found)
    })
}

/// Writes the ids that begin π0-FAST's answer, before its action ids. `*count` becomes how many there are, as elsewhere.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_prompts_answer_start(
    prompts: *const PioxidePrompts,
    tokens: *mut i32,
    capacity: usize,
    count: *mut usize,
) -> PioxideStatus {
    // SAFETY: C keeps the header's promise for every pointer.
    guard(|| unsafe { frame(fast(prompts)?.answer_start(), tokens, capacity, count) })
}

/// Writes the ids that end π0-FAST's answer, behind its action ids. `*count` becomes how many there are, as elsewhere.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_prompts_answer_end(
    prompts: *const PioxidePrompts,
    tokens: *mut i32,
    capacity: usize,
    count: *mut usize,
) -> PioxideStatus {
    // SAFETY: C keeps the header's promise for every pointer.
    guard(|| unsafe { frame(fast(prompts)?.answer_end(), tokens, capacity, count) })
}

/// # Safety
/// As the header asks of every pointer.
unsafe fn frame(ids: &[i32], tokens: *mut i32, capacity: usize, count: *mut usize) -> Result<()> {
    let mut buffers = Buffers::default();
    // SAFETY: the caller's promise is passed on.
    let (tokens, count) =
        unsafe { (buffers.output("tokens", tokens, capacity)?, buffers.place("count", count)?) };
    copy_out("tokens", ids, tokens, count)
}

/// Writes to `tokens` `[count]` the text ids of FAST ids `[count]`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_prompts_text_ids(
    prompts: *const PioxidePrompts,
    ids: *const u32,
    count: usize,
    tokens: *mut i32,
) -> PioxideStatus {
    guard(|| {
        let mut buffers = Buffers::default();
        // SAFETY: C keeps the header's promise for every pointer.
        let (prompts, ids, tokens) = unsafe {
            (fast(prompts)?, buffers.input("ids", ids, count)?, buffers.output("tokens", tokens, count)?)
        };
        for (position, (&id, token)) in ids.iter().zip(tokens).enumerate() {
            let why = "is outside the FAST vocabulary";
            *token = prompts.text_id(id).ok_or(Error::Token { position, id, why })?;
        }
        Ok(())
    })
}

/// Prompts of π0-FAST.
///
/// # Safety
/// As [`handle`].
unsafe fn fast<'a>(prompts: *const PioxidePrompts) -> Result<&'a Pi0FastPrompts> {
    // SAFETY: the caller's promise is passed on.
    match &*unsafe { handle("prompts", prompts)? }.0 {
        Prompts::Pi0Fast(prompts) => Ok(prompts),
        _ => Err(invalid!("prompts: expected π0-FAST's")),
    }
}
