//! Calls from C with arguments of any kind, chosen by the input's bytes: handles, buffers of one arena, at any place and
//! alignment, NULL, lengths that no memory has. Each ends in a status with a sentence, and never in `INTERNAL`; the address
//! sanitizer and the bytes around the arena see what is written elsewhere.
#![no_main]

use std::ffi::CStr;
use std::ptr::null_mut;
use std::sync::LazyLock;

use arbitrary::{Result, Unstructured};
use pioxide_c::PioxideStatus as Status;
use pioxide_c::batches::*;
use pioxide_c::codec::*;
use pioxide_c::contract::*;
use pioxide_c::prompts::*;
use pioxide_c::queue::*;
use pioxide_c::safety::*;
use pioxide_c::scratch::*;
use pioxide_c::state::*;
use pioxide_c::status::pioxide_last_error;
use pioxide_c::subtask::*;
use pioxide_c::text::*;

/// Bytes that buffers begin in, behind which as many lie that they may reach into.
const ARENA: usize = 2048;
const GUARD: usize = 256;

const CONTRACT: &[u8] = br#"{
    "version": 1, "family": "pi05", "robot": {"name": "arm", "cameras": {}, "state": {"j": 3}, "action_dim": 2,
    "hz": 20, "joint_names": ["left", "right"]}, "delta_mask": [1],
    "state_norm": {"mode": "mean_std"}, "action_norm": {"mode": "quantiles"},
    "norm_stats": {"state": {"mean": [0, 0, 0], "std": [1, 1, 1]}, "actions": {"q01": [-1, -1], "q99": [1, 1]}},
    "state_in_text": true, "state_text_dim": null, "prompt_style": "openpi", "text_len": 60, "action_horizon": 2,
    "subtask_style": "instead", "unknown": ["cameras", "absent_camera", "default_prompt", "model_dim", "num_steps",
    "play_steps", "image_size", "resize", "fast", "max_delay"]}"#;

/// Handles that never change.
struct Shared {
    codec: *mut PioxideCodec,
    text: *mut PioxideText,
    fast: *mut PioxidePrompts,
    stated: *mut PioxidePrompts,
    questions: *mut PioxidePrompts,
    contract: *mut PioxideContract,
}

// SAFETY: the header promises that any number of threads may use them.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

static SHARED: LazyLock<Shared> = LazyLock::new(|| {
    let model = include_bytes!("../../../python/pioxide/demo/text.model");
    let chunks: Vec<f64> = (0..8 * 48).map(|i| (f64::from(i) * 0.7).sin()).collect();
    let (mut codec, mut text, mut contract) = (null_mut(), null_mut(), null_mut());
    let (mut fast, mut stated, mut questions) = (null_mut(), null_mut(), null_mut());
    let options = PioxidePromptOptions {
        struct_size: size_of::<PioxidePromptOptions>(),
        family: 2,
        style: 0,
        state_width: 0,
        fast_vocab: 300,
        fast_skipped: 128,
    };
    // SAFETY: every pointer leads to what the call says.
    let made = unsafe {
        [
            pioxide_codec_fit(chunks.as_ptr(), 8, 16, 3, 300, 10.0, &raw mut codec),
            pioxide_text_from_bytes(model.as_ptr(), model.len(), &raw mut text),
            pioxide_prompts_new(text, &raw const options, &raw mut fast),
            pioxide_contract_from_bytes(CONTRACT.as_ptr(), CONTRACT.len(), &raw mut contract),
            pioxide_prompts_from_contract(text, contract, &raw mut stated),
            pioxide_subtasks_from_contract(text, contract, &raw mut questions),
        ]
    };
    assert_eq!(made, [Status::Ok; 6]);
    Shared { codec, text, fast, stated, questions, contract }
});

/// Where arguments come from.
struct Calls<'a, 'b> {
    input: &'a mut Unstructured<'b>,
    memory: Vec<u64>,
}

impl Calls<'_, '_> {
    fn below(&mut self, most: usize) -> Result<usize> {
        self.input.int_in_range(0..=most)
    }

    fn len(&mut self) -> Result<usize> {
        Ok(match self.below(20)? {
            20 => usize::MAX,
            len => len,
        })
    }

    fn buffer<T>(&mut self) -> Result<*mut T> {
        let at = match self.below(ARENA + 100)? {
            at if at >= ARENA => return Ok(null_mut()),
            at if at % 16 == 15 => at,
            at => at & !7,
        };
        Ok(self.memory.as_mut_ptr().cast::<u8>().wrapping_add(GUARD + at).cast())
    }

    /// A struct with a `struct_size` that is right mostly, and what the arena holds behind it.
    fn options<T>(&mut self) -> Result<*mut T> {
        let at = self.below(ARENA / 8)? + GUARD / 8;
        let size = if self.below(7)? == 0 { self.below(5000)? } else { size_of::<T>() };
        self.memory[at] = size as u64;
        // So much is read of a larger struct; numbers in it are small, and pointers are none.
        for word in &mut self.memory[at + 1..at + 16] {
            *word %= 4;
        }
        Ok(if size <= 128 { self.memory.as_mut_ptr().wrapping_add(at).cast() } else { null_mut() })
    }

    /// Ends of three texts, which may fall, but are nowhere far.
    fn ends(&mut self) -> Result<*const usize> {
        let at = self.below(ARENA / 8)? + GUARD / 8;
        for word in &mut self.memory[at..at + 3] {
            *word = u64::from(self.input.arbitrary::<u8>()?) % 24;
        }
        Ok(self.memory.as_ptr().wrapping_add(at).cast())
    }

    fn prompts(&mut self) -> Result<*mut PioxidePrompts> {
        let Shared { fast, stated, questions, .. } = &*SHARED;
        Ok([*fast, *stated, *questions, null_mut()][self.below(3)?])
    }

    /// One call.
    fn call(&mut self, own: &Own) -> Result<Status> {
        let &Shared { codec, text, fast, contract, .. } = &*SHARED;
        let &Own { scratch, queue, safety, batches } = own;
        macro_rules! b {
            () => {
                self.buffer()?
            };
        }
        macro_rules! n {
            () => {
                self.len()?
            };
        }
        macro_rules! s {
            () => {
                self.below(5)?
            };
        }
        // SAFETY: every buffer is part of the arena and shorter than what lies behind it, or is to be refused.
        Ok(unsafe {
            match self.below(28)? {
                0 => pioxide_codec_encode_f64(
                    codec,
                    scratch,
                    b!(),
                    s!(),
                    s!(),
                    s!() as u32,
                    b!(),
                    n!(),
                    b!(),
                    b!(),
                ),
                1 => pioxide_codec_encode_f32(
                    codec,
                    scratch,
                    b!(),
                    s!(),
                    s!(),
                    s!() as u32,
                    b!(),
                    n!(),
                    b!(),
                    b!(),
                ),
                2 => pioxide_codec_decode(codec, scratch, b!(), n!(), s!() as u32, b!(), s!(), s!(), b!()),
                3 => pioxide_codec_info(codec, self.options()?),
                4 => pioxide_text_encode(text, scratch, b!(), n!(), b!(), n!(), b!()),
                5 => pioxide_text_decode(text, b!(), n!(), b!(), n!(), b!()),
                6 => pioxide_text_info(text, self.options()?),
                7 | 8 => {
                    let (mut made, prompts) = (null_mut(), self.prompts()?);
                    let status = pioxide_prompts_tokenize(prompts, b!(), n!(), &raw mut made);
                    if status == Status::Ok {
                        let other = self.prompts()?;
                        pioxide_prompts_write_f64(other, made, b!(), n!(), b!(), b!(), n!(), b!());
                        pioxide_prompts_write_f32(prompts, made, b!(), n!(), b!(), b!(), n!(), b!());
                        pioxide_prompts_write_training_f64(
                            fast,
                            made,
                            b!(),
                            n!(),
                            b!(),
                            n!(),
                            b!(),
                            b!(),
                            b!(),
                            b!(),
                            n!(),
                            b!(),
                        );
                    }
                    pioxide_instruction_free(made);
                    status
                }
                9 => pioxide_prompts_fast_ids(
                    self.prompts()?,
                    scratch,
                    b!(),
                    n!(),
                    s!() as u32,
                    b!(),
                    n!(),
                    b!(),
                ),
                10 => pioxide_prompts_text_ids(self.prompts()?, b!(), n!(), b!()),
                11 => pioxide_prompts_answer_start(self.prompts()?, b!(), n!(), b!()),
                12 => pioxide_prompts_answer_end(self.prompts()?, b!(), n!(), b!()),
                13 => {
                    let (ends, count) = (self.ends()?, self.below(3)?);
                    pioxide_batches_encode_f64(
                        batches,
                        b!(),
                        ends,
                        count,
                        b!(),
                        s!(),
                        b!(),
                        b!(),
                        s!(),
                        b!(),
                        b!(),
                    )
                }
                14 => pioxide_contract_info(contract, self.options()?),
                15 => pioxide_contract_text(contract, self.below(12)? as u32, n!(), b!(), n!(), b!()),
                16 => pioxide_contract_apply_state_f64(contract, b!(), n!(), b!()),
                17 => pioxide_contract_apply_state_f32(contract, b!(), n!(), b!()),
                18 => pioxide_contract_apply_actions_f64(contract, b!(), s!(), s!(), b!(), n!(), b!()),
                19 => pioxide_contract_invert_actions_f64(contract, b!(), s!(), s!(), b!(), n!(), b!(), s!()),
                20 => pioxide_contract_invert_actions_f32(contract, b!(), n!(), s!(), b!(), n!(), b!(), s!()),
                21 => pioxide_subtasks_answer(self.prompts()?, b!(), n!(), b!(), n!(), b!()),
                22 => pioxide_subtasks_read(self.prompts()?, b!(), n!(), b!(), n!(), b!()),
                23 => {
                    pioxide_queue_put(queue, b!(), s!(), s!(), f64::from_bits(self.memory[GUARD / 8]), b!())
                }
                24 => pioxide_queue_take(queue, b!(), s!(), b!()),
                25 => pioxide_queue_leftover(queue, b!(), n!(), b!()),
                26 => pioxide_safety_apply(safety, b!(), b!(), s!(), b!()),
                27 => pioxide_state_bins_f64(b!(), n!(), b!()),
                _ => pioxide_safety_reset(safety, b!(), s!()),
            }
        })
    }
}

/// Handles of one thread, new for each input.
struct Own {
    scratch: *mut PioxideScratch,
    queue: *mut PioxideQueue,
    safety: *mut PioxideSafety,
    batches: *mut PioxideBatches,
}

impl Own {
    fn new() -> Self {
        let mut own =
            Self { scratch: null_mut(), queue: null_mut(), safety: null_mut(), batches: null_mut() };
        let queue = PioxideQueueOptions {
            struct_size: size_of::<PioxideQueueOptions>(),
            dim: 3,
            most: 4,
            slow_below: 2,
            on_empty: 2,
            reserved: 0,
        };
        let limit = [2.0];
        let limits = PioxideSafetyOptions {
            struct_size: size_of::<PioxideSafetyOptions>(),
            dim: 3,
            hz: 50.0,
            low: null_mut(),
            low_len: 0,
            high: limit.as_ptr(),
            high_len: 1,
            velocity: limit.as_ptr(),
            velocity_len: 1,
            acceleration: null_mut(),
            acceleration_len: 0,
        };
        // SAFETY: every pointer leads to what the call says.
        let made = unsafe {
            [
                pioxide_scratch_new(&raw mut own.scratch),
                pioxide_queue_new(&raw const queue, &raw mut own.queue),
                pioxide_safety_new(&raw const limits, &raw mut own.safety),
                pioxide_batches_new(SHARED.stated, 2, &raw mut own.batches),
            ]
        };
        assert_eq!(made, [Status::Ok; 4]);
        own
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // SAFETY: nothing uses them any more.
        unsafe {
            pioxide_scratch_free(self.scratch);
            pioxide_queue_free(self.queue);
            pioxide_safety_free(self.safety);
            pioxide_batches_free(self.batches);
        }
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut memory = vec![0_u64; (2 * ARENA + 2 * GUARD) / 8];
    // What buffers hold: the input itself, over and over.
    if !data.is_empty() {
        let bytes: Vec<u8> = data.iter().copied().cycle().take(2 * ARENA).collect();
        for (word, bytes) in memory[GUARD / 8..].iter_mut().zip(bytes.chunks_exact(8)) {
            *word = bytes.iter().fold(0, |word, &byte| word << 8 | u64::from(byte));
        }
    }
    let own = Own::new();
    let mut calls = Calls { input: &mut Unstructured::new(data), memory };
    while !calls.input.is_empty() {
        let Ok(status) = calls.call(&own) else { break };
        // SAFETY: it is text that ends in NUL.
        let said = unsafe { CStr::from_ptr(pioxide_last_error()) };
        assert_ne!(status, Status::Internal, "{said:?}");
        assert!(status == Status::Ok || !said.is_empty());
        let words = calls.memory.len();
        let (guards, end) = (GUARD / 8, words - GUARD / 8);
        let around = calls.memory[..guards].iter().chain(&calls.memory[end..]);
        assert!(around.copied().all(|word| word == 0), "written outside of the buffers");
    }
});
