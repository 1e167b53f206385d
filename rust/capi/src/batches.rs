//! Many prompts at once.

use std::sync::Mutex;

use pioxide_core::{PromptBatches, PromptRows};

use crate::memory::{Buffers, area, give, handle, take_back, utf8};
use crate::prompts::PioxidePrompts;
use crate::status::{PioxideStatus, Result, exclusive, guard, invalid};

/// Batches of prompts, which remember the instructions that came last. One thread at a time: a call that finds them in
/// use fails with PIOXIDE_STATUS_BUSY and changes nothing.
pub struct PioxideBatches(Mutex<PromptBatches>);

/// Makes batches of these prompts that remember the `most` instructions used last. The prompts may be freed before them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_batches_new(
    prompts: *const PioxidePrompts,
    most: usize,
    out: *mut *mut PioxideBatches,
) -> PioxideStatus {
    // SAFETY: C keeps the header's promise for every pointer.
    guard(|| unsafe {
        give(out, || {
            let PioxidePrompts(prompts) = handle("prompts", prompts)?;
            Ok(PioxideBatches(Mutex::new(PromptBatches::new(prompts.clone(), most)?)))
        })
    })
}

/// Frees batches; NULL is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_batches_free(batches: *mut PioxideBatches) {
    // SAFETY: C keeps the header's promise for the handle.
    guard(|| unsafe { take_back("batches", batches) });
}

/// Writes a batch of `count` prompts. Their instructions stand end to end in `utf8_text`, and instruction i ends before
/// byte `ends[i]`. `states` `[count, dim]` are normalised; π0's prompts hold none (NULL and 0). `tokens` and `mask`
/// `[count, len]` are as in pioxide_prompts_write_f64, `lengths` `[count]` how many ids each prompt has, `truncated` `[count]` is 1
/// where its end did not fit. Allocates where an
/// instruction is not remembered. Where the call fails, rows hold nothing of meaning.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_batches_encode_f64(
    batches: *const PioxideBatches,
    utf8_text: *const u8,
    ends: *const usize,
    count: usize,
    states: *const f64,
    dim: usize,
    tokens: *mut i32,
    mask: *mut u8,
    len: usize,
    lengths: *mut i32,
    truncated: *mut u8,
) -> PioxideStatus {
    // SAFETY: C keeps the header's promise for every pointer.
    guard(|| unsafe {
        encode(batches, utf8_text, ends, count, states, dim, tokens, mask, len, lengths, truncated)
    })
}

/// # Safety
/// As the header asks of every pointer.
unsafe fn encode(
    batches: *const PioxideBatches,
    utf8_text: *const u8,
    ends: *const usize,
    count: usize,
    states: *const f64,
    dim: usize,
    tokens: *mut i32,
    mask: *mut u8,
    len: usize,
    lengths: *mut i32,
    truncated: *mut u8,
) -> Result<()> {
    let mut buffers = Buffers::default();
    let size = area("tokens", count, len)?;
    // SAFETY: the caller's promise is passed on.
    let (PioxideBatches(batches), ends, states, tokens, mask, lengths, truncated) = unsafe {
        (
            handle("batches", batches)?,
            buffers.input("ends", ends, count)?,
            buffers.input("states", states, area("states", count, dim)?)?,
            buffers.output("tokens", tokens, size)?,
            buffers.mask("mask", mask, size)?,
            buffers.output("lengths", lengths, count)?,
            buffers.mask("truncated", truncated, count)?,
        )
    };
    if !ends.is_sorted() {
        return Err(invalid!("ends: expected a rise"));
    }
    // SAFETY: as above; the last end is the text's.
    let text = unsafe { utf8(&mut buffers, "utf8_text", utf8_text, ends.last().copied().unwrap_or(0))? };
    let mut start = 0;
    for &end in ends {
        if text.get(start..end).is_none() {
            return Err(invalid!("ends: {end} is inside of a character"));
        }
        start = end;
    }
    let mut batches = exclusive("batches", batches)?;
    if !batches.prompts().hold_state() && dim > 0 {
        return Err(invalid!("states: these prompts hold none; give NULL and 0"));
    }
    let mut start = 0;
    let texts = ends.iter().map(|&end| text.get(std::mem::replace(&mut start, end)..end).unwrap_or_default());
    let rows = PromptRows { tokens, mask, lengths, truncated };
    Ok(batches.encode_into(texts, states, rows, &mut || true)?)
}
