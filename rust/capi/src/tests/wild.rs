//! Calls with arguments of any kind: NULL, misaligned and overlapping buffers, lengths that no memory has, struct sizes of
//! any value. Each ends in a status with a sentence, and writes nowhere but into the caller's memory.
//! `PIOXIDE_MUTATIONS=1000000 cargo test --release -p pioxide-capi wild` looks longer.

use std::ptr::{null_mut, without_provenance_mut};

#[allow(unreachable_pub)]
#[path = "../../../fuzz/src/random.rs"]
mod random;

use random::Random;

use super::contract::{JSON, contract};
use super::{Handles, last_error, ok};
use crate::batches::*;
use crate::codec::*;
use crate::contract::*;
use crate::prompts::*;
use crate::queue::*;
use crate::state::*;
use crate::status::PioxideStatus as Status;
use crate::subtask::*;
use crate::text::*;

/// Bytes that buffers begin in, behind which as many lie that they may reach into.
const ARENA: usize = 8192;
const GUARD: usize = 1024;

/// Memory of which each pointer of a call is a part, between bytes that nobody may touch.
struct Wild {
    memory: Vec<u64>,
    random: Random,
}

impl Wild {
    /// A length: small, none, or more than there can be.
    fn len(&mut self) -> usize {
        match self.random.below(20) {
            0 => usize::MAX,
            _ => self.random.below(17),
        }
    }

    fn small(&mut self) -> usize {
        self.random.below(6)
    }

    /// A buffer: of the arena at any place and alignment, or NULL.
    fn buffer<T>(&mut self) -> *mut T {
        let mut at = self.random.below(ARENA);
        if self.random.below(8) != 0 {
            at &= !7;
        }
        if self.random.below(12) == 0 {
            return null_mut();
        }
        self.memory.as_mut_ptr().cast::<u8>().wrapping_add(GUARD + at).cast()
    }

    /// A handle: the right one mostly, or NULL or misaligned.
    fn handle<T>(&mut self, right: *mut T) -> *mut T {
        match self.random.below(24) {
            0 => null_mut(),
            1 => without_provenance_mut(right.addr() + 1),
            _ => right,
        }
    }

    /// A struct of the arena with a `struct_size` of any kind and small numbers behind it.
    fn options<T>(&mut self) -> *mut T {
        let at = self.random.below(ARENA / 8) + GUARD / 8;
        let size = match self.random.below(4) {
            0 => self.random.below(5000),
            1 => usize::MAX,
            _ => size_of::<T>(),
        };
        let numbers: Vec<u64> = (0..16).map(|_| self.random.below(4) as u64).collect();
        self.memory[at..at + 16].copy_from_slice(&numbers);
        self.memory[at] = size as u64;
        let place = self.memory.as_mut_ptr().wrapping_add(at).cast::<u8>();
        place.wrapping_add(usize::from(self.random.below(16) == 0)).cast()
    }

    /// Ends of three texts.
    fn ends(&mut self) -> *const usize {
        let at = self.random.below(ARENA / 8) + GUARD / 8;
        let step = self.random.below(9) as u64;
        self.memory[at..at + 3].copy_from_slice(&[step, 2 * step, 3 * step]);
        self.memory.as_ptr().wrapping_add(at).cast()
    }

    /// Numbers and texts instead of what earlier calls left.
    fn refill(&mut self) {
        for at in 0..2 * ARENA / 8 {
            let value = match self.random.below(6) {
                0 => self.random.next(),
                1 => f64::NAN.to_bits(),
                2 => self.random.below(300) as u64,
                3 => u64::from_ne_bytes(*b"Action: "),
                _ => (self.random.below(2001) as f64 / 500.0 - 2.0).to_bits(),
            };
            self.memory[GUARD / 8 + at] = value;
        }
    }
}

#[test]
fn any_call_ends_in_a_status() {
    let calls = std::env::var("PIOXIDE_MUTATIONS").ok().and_then(|count| count.parse().ok()).unwrap_or(2000);
    let handles = Handles::new();
    let &Handles { codec, scratch, text, prompts, instruction } = &handles;
    let contract = contract(JSON);
    let (mut batches, mut queue, mut questions) = (null_mut(), null_mut(), null_mut());
    let asking = PioxideSubtaskOptions { struct_size: 24, without_state: 0, reserved: 0, state_width: 0 };
    let queue_options = PioxideQueueOptions {
        struct_size: size_of::<PioxideQueueOptions>(),
        dim: 3,
        most: 16,
        slow_below: 0,
        on_empty: 0,
        reserved: 0,
    };
    // SAFETY: every pointer leads to what the call says.
    unsafe {
        ok(pioxide_batches_new(prompts, 3, &raw mut batches));
        ok(pioxide_queue_new(&raw const queue_options, &raw mut queue));
        ok(pioxide_subtasks_new(text, &raw const asking, &raw mut questions));
    }
    let mut w = Wild { memory: vec![0; (2 * ARENA + 2 * GUARD) / 8], random: Random::of(b"wild") };
    let end = w.memory.len() - GUARD / 8;
    let mut good = 0;
    for call in 0..calls {
        if call % 16 == 0 {
            w.refill();
        }
        // SAFETY: every buffer is part of the arena and shorter than what lies behind it, or is to be refused.
        let status = unsafe {
            match w.random.below(27) {
                0 => pioxide_codec_encode_f64(
                    w.handle(codec),
                    w.handle(scratch),
                    w.buffer(),
                    w.small(),
                    w.small(),
                    1,
                    w.buffer(),
                    w.len(),
                    w.buffer(),
                    w.buffer(),
                ),
                1 => pioxide_codec_encode_f32(
                    w.handle(codec),
                    w.handle(scratch),
                    w.buffer(),
                    w.len(),
                    w.small(),
                    w.small() as u32,
                    w.buffer(),
                    w.len(),
                    w.buffer(),
                    w.buffer(),
                ),
                2 => pioxide_codec_decode(
                    w.handle(codec),
                    w.handle(scratch),
                    w.buffer(),
                    w.len(),
                    w.small() as u32,
                    w.buffer(),
                    w.small(),
                    w.small(),
                    w.buffer(),
                ),
                3 => pioxide_text_encode(
                    w.handle(text),
                    w.handle(scratch),
                    w.buffer(),
                    w.len(),
                    w.buffer(),
                    w.len(),
                    w.buffer(),
                ),
                4 => {
                    pioxide_text_decode(w.handle(text), w.buffer(), w.len(), w.buffer(), w.len(), w.buffer())
                }
                5 => pioxide_text_info(w.handle(text), w.options()),
                6 => pioxide_codec_info(w.handle(codec), w.options()),
                7 => pioxide_prompts_write_f64(
                    w.handle(prompts),
                    w.handle(instruction),
                    w.buffer(),
                    w.len(),
                    w.buffer(),
                    w.buffer(),
                    w.len(),
                    w.buffer(),
                ),
                8 => pioxide_prompts_write_training_f64(
                    w.handle(prompts),
                    w.handle(instruction),
                    w.buffer(),
                    w.len(),
                    w.buffer(),
                    w.len(),
                    w.buffer(),
                    w.buffer(),
                    w.buffer(),
                    w.buffer(),
                    w.len(),
                    w.buffer(),
                ),
                9 => pioxide_prompts_fast_ids(
                    w.handle(prompts),
                    w.handle(scratch),
                    w.buffer(),
                    w.len(),
                    w.small() as u32,
                    w.buffer(),
                    w.len(),
                    w.buffer(),
                ),
                10 => pioxide_prompts_text_ids(w.handle(prompts), w.buffer(), w.len(), w.buffer()),
                11 => pioxide_prompts_answer_start(w.handle(prompts), w.buffer(), w.len(), w.buffer()),
                12 => pioxide_batches_encode_f64(
                    w.handle(batches),
                    w.buffer(),
                    w.ends(),
                    w.small().min(3),
                    w.buffer(),
                    w.small(),
                    w.buffer(),
                    w.buffer(),
                    w.small(),
                    w.buffer(),
                    w.buffer(),
                ),
                13 => pioxide_contract_info(w.handle(contract), w.options()),
                14 => pioxide_contract_text(
                    w.handle(contract),
                    w.random.below(12) as u32,
                    w.len(),
                    w.buffer(),
                    w.len(),
                    w.buffer(),
                ),
                15 => pioxide_contract_apply_state_f64(w.handle(contract), w.buffer(), w.len(), w.buffer()),
                16 => pioxide_contract_apply_actions_f64(
                    w.handle(contract),
                    w.buffer(),
                    w.len(),
                    w.small(),
                    w.buffer(),
                    w.len(),
                    w.buffer(),
                ),
                17 => pioxide_contract_invert_actions_f32(
                    w.handle(contract),
                    w.buffer(),
                    w.small(),
                    w.small(),
                    w.buffer(),
                    3,
                    w.buffer(),
                    w.small(),
                ),
                18 => pioxide_contract_invert_actions_f64(
                    w.handle(contract),
                    w.buffer(),
                    w.len(),
                    w.len(),
                    w.buffer(),
                    w.len(),
                    w.buffer(),
                    w.len(),
                ),
                19 => pioxide_queue_put(
                    w.handle(queue),
                    w.buffer(),
                    w.len(),
                    w.small(),
                    w.small() as f64,
                    w.buffer(),
                ),
                20 => pioxide_queue_take(w.handle(queue), w.buffer(), w.small(), w.buffer()),
                21 => pioxide_queue_info(w.handle(queue), w.options()),
                22 => pioxide_state_bins_f64(w.buffer(), w.len(), w.buffer()),
                23 => pioxide_subtasks_answer(
                    w.handle(questions),
                    w.buffer(),
                    w.len(),
                    w.buffer(),
                    w.len(),
                    w.buffer(),
                ),
                24 => pioxide_subtasks_read(
                    w.handle(questions),
                    w.buffer(),
                    w.len(),
                    w.buffer(),
                    w.len(),
                    w.buffer(),
                ),
                25 => {
                    let mut made = null_mut();
                    let status = pioxide_subtasks_new(w.handle(text), w.options(), &raw mut made);
                    pioxide_prompts_free(made);
                    status
                }
                _ => {
                    let mut made = null_mut();
                    let status = pioxide_prompts_new(w.handle(text), w.options(), &raw mut made);
                    pioxide_prompts_free(made);
                    let mut made = null_mut();
                    pioxide_queue_new(w.options(), &raw mut made);
                    pioxide_queue_free(made);
                    status
                }
            }
        };
        good += usize::from(status == Status::Ok);
        assert_ne!(status, Status::Internal, "call {call}: {}", last_error());
        assert!(status == Status::Ok || !last_error().is_empty());
        let guards = w.memory[..GUARD / 8].iter().chain(&w.memory[end..]);
        assert!(guards.copied().all(|bytes| bytes == 0), "call {call} wrote outside of its buffers");
    }
    assert!(good > calls / 50, "only {good} calls of {calls} went through");
    // SAFETY: nothing uses them any more.
    unsafe {
        pioxide_batches_free(batches);
        pioxide_prompts_free(questions);
        pioxide_queue_free(queue);
        pioxide_contract_free(contract);
    }
}
