//! FAST tokens: a tokenizer read or fitted, chunks to ids and back.

use std::ffi::{CStr, c_char};
use std::path::Path;

use pioxide_core::{FastCodec, FitOptions, Float, OnOverflow, Partial};

use crate::memory::{Buffers, Plain, area, check, copy_out, give, handle, read, take_back};
use crate::options::{self, Growing};
use crate::scratch::{PioxideScratch, Room};
use crate::status::{PioxideStatus, Result, exclusive, fail, guard, invalid};

/// A FAST tokenizer. Never changes: any number of threads may use one at once, each with its own scratch.
pub struct PioxideCodec(pub(crate) FastCodec);

/// What encoding does with a coefficient that the vocabulary can't represent.
#[repr(u32)]
pub enum PioxideOnOverflow {
    /// Refuse the chunk.
    Error = 0,
    /// Take the nearest coefficient that can be represented, and count.
    Clip = 1,
}

/// What decoding does with ids that hold fewer coefficients than the chunk.
#[repr(u32)]
pub enum PioxidePartial {
    /// Refuse them.
    Error = 0,
    /// Take the missing ones, which are of the highest frequencies, as zero, and count.
    Pad = 1,
}

/// What is known of a codec.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct PioxideCodecInfo {
    /// sizeof(PioxideCodecInfo), set by the caller.
    pub struct_size: usize,
    /// The largest id plus one.
    pub vocab_size: usize,
    /// What coefficients are multiplied by before they are rounded.
    pub scale: f64,
    /// Steps in a chunk that the files name as the default; 0 where they name none.
    pub horizon: usize,
    /// Numbers in a step that the files name as the default; 0 where they name none.
    pub dim: usize,
    /// The lowest rounded coefficient around zero that has a token.
    pub lowest: i64,
    /// The highest one, without a gap between.
    pub highest: i64,
}

// SAFETY: numbers alone.
unsafe impl Growing for PioxideCodecInfo {
    const FIRST: usize = 56;
    const NAME: &'static str = "PioxideCodecInfo";
}

/// Reads the content of `tokenizer.json` and of `processor_config.json`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_codec_from_bytes(
    tokenizer_json: *const u8,
    tokenizer_json_len: usize,
    processor_config: *const u8,
    processor_config_len: usize,
    out: *mut *mut PioxideCodec,
) -> PioxideStatus {
    // SAFETY: C keeps the header's promise for every pointer.
    guard(|| unsafe {
        give(out, || {
            let mut buffers = Buffers::default();
            let tokenizer = buffers.input("tokenizer_json", tokenizer_json, tokenizer_json_len)?;
            let config = buffers.input("processor_config", processor_config, processor_config_len)?;
            Ok(PioxideCodec(FastCodec::from_json(tokenizer, config)?))
        })
    })
}

/// Reads `tokenizer.json` and `processor_config.json` in a directory, whose path is UTF-8 that ends in NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_codec_from_directory(
    path: *const c_char,
    out: *mut *mut PioxideCodec,
) -> PioxideStatus {
    // SAFETY: C keeps the header's promise for every pointer.
    guard(|| unsafe {
        give(out, || {
            let directory = Path::new(path_text(path)?);
            let tokenizer = read(&directory.join("tokenizer.json"))?;
            let config = read(&directory.join("processor_config.json"))?;
            Ok(PioxideCodec(FastCodec::from_json(&tokenizer, &config)?))
        })
    })
}

/// Fits a tokenizer of at most `vocab_size` ids to `count` chunks `[count, horizon, dim]`, normalised, end to end. The
/// same chunks give the same tokenizer on any machine, in C and in Python. `scale` is 10 in published tokenizers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_codec_fit(
    chunks: *const f64,
    count: usize,
    horizon: usize,
    dim: usize,
    vocab_size: usize,
    scale: f64,
    out: *mut *mut PioxideCodec,
) -> PioxideStatus {
    // SAFETY: C keeps the header's promise for every pointer.
    guard(|| unsafe {
        give(out, || {
            let len = area("chunks", horizon, dim)?;
            let values = Buffers::default().input("chunks", chunks, area("chunks", count, len)?)?;
            let chunks: Vec<_> = values.chunks_exact(len.max(1)).map(|chunk| (chunk, horizon, dim)).collect();
            let options = FitOptions { vocab_size, scale, ..FitOptions::default() };
            Ok(PioxideCodec(FastCodec::fit(&chunks, &options)?))
        })
    })
}

/// Frees a codec; NULL is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_codec_free(codec: *mut PioxideCodec) {
    // SAFETY: C keeps the header's promise for the handle.
    guard(|| unsafe { take_back("codec", codec) });
}

/// Says what is known of a codec; set `info->struct_size` before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_codec_info(
    codec: *const PioxideCodec,
    info: *mut PioxideCodecInfo,
) -> PioxideStatus {
    // SAFETY: C keeps the header's promise for every pointer.
    guard(|| unsafe {
        let PioxideCodec(codec) = handle("codec", codec)?;
        let (lowest, highest) = codec.value_range();
        let known = PioxideCodecInfo {
            struct_size: 0,
            vocab_size: codec.vocab_size(),
            scale: codec.scale(),
            horizon: codec.time_horizon().unwrap_or(0),
            dim: codec.action_dim().unwrap_or(0),
            lowest,
            highest,
        };
        options::write("info", info, &known)
    })
}

/// Makes room in a scratch for chunks `[horizon, dim]`, so that not even the first call in a loop allocates.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_codec_prepare(
    codec: *const PioxideCodec,
    scratch: *const PioxideScratch,
    horizon: usize,
    dim: usize,
) -> PioxideStatus {
    guard(|| {
        // SAFETY: C keeps the header's promise for every pointer.
        let (PioxideCodec(codec), PioxideScratch(scratch)) =
            unsafe { (handle("codec", codec)?, handle("scratch", scratch)?) };
        prepare(codec, &mut *exclusive("scratch", scratch)?, horizon, dim)
    })
}

fn prepare(codec: &FastCodec, room: &mut Room, horizon: usize, dim: usize) -> Result<()> {
    let len = area("chunk", horizon, dim)?;
    // A longer chunk is refused here, before memory for it is asked for.
    let (plan, scratch, ids) = room.plan(codec, horizon)?;
    let no_room = || fail(PioxideStatus::OutOfMemory, format_args!("{horizon} by {dim} numbers don't fit"));
    let mut chunk = Vec::new();
    chunk.try_reserve_exact(len).map_err(|_| no_room())?;
    reserve(ids, len)?;
    // Zeros are many equal tokens, far values the longest characters, the rest anything between.
    for spread in [0.0_f64, 1e6, 3.0] {
        chunk.clear();
        chunk.extend((0..len).map(|at| ((at * at % 1013) as f64 * 0.37).sin() * spread));
        ids.clear();
        codec.encode_into(&plan, &chunk, dim, OnOverflow::Clip, scratch, ids)?;
        let narrow: Vec<f32> = chunk.iter().map(|&x| x as f32).collect();
        ids.clear();
        codec.encode_into(&plan, &narrow, dim, OnOverflow::Clip, scratch, ids)?;
        codec.decode_into(&plan, ids, dim, Partial::Pad, scratch, &mut chunk)?;
    }
    Ok(())
}

/// Room for the ids of a chunk: a value is four bytes at the most, and each has at most one token.
fn reserve(ids: &mut Vec<u32>, values: usize) -> Result<()> {
    ids.clear();
    ids.try_reserve_exact(values.saturating_mul(4)).map_err(|_| {
        fail(PioxideStatus::OutOfMemory, format_args!("ids of {values} numbers: there is not enough memory"))
    })
}

/// Encodes a chunk `[horizon, dim]`, row after row, to ids. `on_overflow` is a PioxideOnOverflow. `*count` becomes how
/// many ids there are: where that is more than `capacity`, nothing else is written and the call ends in
/// PIOXIDE_STATUS_BUFFER_TOO_SMALL; 4 * horizon * dim is always enough. `*clipped`, if not NULL, becomes how many
/// coefficients were clipped.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_codec_encode_f64(
    codec: *const PioxideCodec,
    scratch: *const PioxideScratch,
    chunk: *const f64,
    horizon: usize,
    dim: usize,
    on_overflow: u32,
    ids: *mut u32,
    capacity: usize,
    count: *mut usize,
    clipped: *mut usize,
) -> PioxideStatus {
    // SAFETY: C keeps the header's promise for every pointer.
    guard(|| unsafe {
        encode(codec, scratch, chunk, horizon, dim, on_overflow, ids, capacity, count, clipped)
    })
}

/// Encodes a chunk of single precision; else as pioxide_codec_encode_f64. Its ids may differ from those of the same
/// numbers in double precision, as they do in Python.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_codec_encode_f32(
    codec: *const PioxideCodec,
    scratch: *const PioxideScratch,
    chunk: *const f32,
    horizon: usize,
    dim: usize,
    on_overflow: u32,
    ids: *mut u32,
    capacity: usize,
    count: *mut usize,
    clipped: *mut usize,
) -> PioxideStatus {
    // SAFETY: C keeps the header's promise for every pointer.
    guard(|| unsafe {
        encode(codec, scratch, chunk, horizon, dim, on_overflow, ids, capacity, count, clipped)
    })
}

/// # Safety
/// As the header asks of every pointer.
unsafe fn encode<T: Float + Plain>(
    codec: *const PioxideCodec,
    scratch: *const PioxideScratch,
    chunk: *const T,
    horizon: usize,
    dim: usize,
    on_overflow: u32,
    ids: *mut u32,
    capacity: usize,
    count: *mut usize,
    clipped: *mut usize,
) -> Result<()> {
    let mut buffers = Buffers::default();
    // SAFETY: the caller's promise is passed on.
    let (PioxideCodec(codec), PioxideScratch(scratch), chunk, ids, count, clipped) = unsafe {
        (
            handle("codec", codec)?,
            handle("scratch", scratch)?,
            buffers.input("chunk", chunk, area("chunk", horizon, dim)?)?,
            buffers.output("ids", ids, capacity)?,
            buffers.place("count", count)?,
            buffers.optional("clipped", clipped)?,
        )
    };
    *count = 0;
    let on_overflow = match on_overflow {
        0 => OnOverflow::Error,
        1 => OnOverflow::Clip,
        other => return Err(invalid!("on_overflow: expected 0 (error) or 1 (clip), got {other}")),
    };
    let mut room = exclusive("scratch", scratch)?;
    let (plan, scratch, found) = room.plan(codec, horizon)?;
    reserve(found, chunk.len())?;
    let many = codec.encode_into(&plan, chunk, dim, on_overflow, scratch, found)?;
    copy_out("ids", found, ids, count)?;
    if let Some(clipped) = clipped {
        *clipped = many;
    }
    Ok(())
}

/// Decodes ids to a chunk `[horizon, dim]`, row after row. `partial` is a PioxidePartial. `*missing`, if not NULL,
/// becomes how many coefficients were missing and taken as zero. Where it fails, `actions` holds nothing of meaning.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_codec_decode(
    codec: *const PioxideCodec,
    scratch: *const PioxideScratch,
    ids: *const u32,
    count: usize,
    partial: u32,
    actions: *mut f64,
    horizon: usize,
    dim: usize,
    missing: *mut usize,
) -> PioxideStatus {
    guard(|| {
        let mut buffers = Buffers::default();
        // SAFETY: C keeps the header's promise for every pointer.
        let (PioxideCodec(codec), PioxideScratch(scratch), ids, actions, missing) = unsafe {
            (
                handle("codec", codec)?,
                handle("scratch", scratch)?,
                buffers.input("ids", ids, count)?,
                buffers.output("actions", actions, area("actions", horizon, dim)?)?,
                buffers.optional("missing", missing)?,
            )
        };
        let partial = match partial {
            0 => Partial::Error,
            1 => Partial::Pad,
            other => return Err(invalid!("partial: expected 0 (error) or 1 (pad), got {other}")),
        };
        let mut room = exclusive("scratch", scratch)?;
        let (plan, scratch, _) = room.plan(codec, horizon)?;
        let many = codec.decode_into(&plan, ids, dim, partial, scratch, actions)?;
        if let Some(missing) = missing {
            *missing = many;
        }
        Ok(())
    })
}

/// A path.
///
/// # Safety
/// Where it is not NULL, `path` leads to text that ends in NUL.
pub(crate) unsafe fn path_text<'a>(path: *const c_char) -> Result<&'a str> {
    check("path", path)?;
    // SAFETY: not null; the rest is the caller's promise.
    let path = unsafe { CStr::from_ptr(path) };
    path.to_str().map_err(|error| invalid!("path is no UTF-8: {error}"))
}
