//! In a loop nothing is allocated: from the first call on where room was made, failing calls included.

use std::ptr::{null, null_mut};

use super::counting::allocations;
use super::{DIM, HORIZON, Handles, chunk, ok};
use crate::codec::*;
use crate::prompts::*;
use crate::queue::*;
use crate::safety::*;
use crate::status::PioxideStatus;
use crate::text::pioxide_text_encode;

#[test]
fn nothing_is_allocated_in_the_steady_state() {
    let handles = Handles::new();
    let &Handles { codec, scratch, text, prompts, instruction } = &handles;
    let chunks: Vec<Vec<f64>> = (0..40).map(chunk).collect();
    let (mut queue, mut safety) = (null_mut(), null_mut());
    let queue_options = PioxideQueueOptions {
        struct_size: size_of::<PioxideQueueOptions>(),
        dim: DIM,
        most: HORIZON,
        slow_below: 0,
        on_empty: 0,
        reserved: 0,
    };
    let limit = [2.0];
    let safety_options = PioxideSafetyOptions {
        struct_size: size_of::<PioxideSafetyOptions>(),
        dim: DIM,
        hz: 1000.0,
        low: null(),
        low_len: 0,
        high: null(),
        high_len: 0,
        velocity: limit.as_ptr(),
        velocity_len: 1,
        acceleration: null(),
        acceleration_len: 0,
    };
    let (mut ids, mut actions) = ([0_u32; 4 * HORIZON * DIM], [0.0_f64; HORIZON * DIM]);
    let (mut count, mut taken, mut tokens, mut mask) = (0_usize, 0_u32, [0_i32; 250], [0_u8; 250]);
    let mut back = [0_u32; 4 * HORIZON * DIM];
    // SAFETY: every pointer leads to what the call says.
    let counted = unsafe {
        ok(pioxide_queue_new(&raw const queue_options, &raw mut queue));
        ok(pioxide_safety_new(&raw const safety_options, &raw mut safety));
        ok(pioxide_safety_reset(safety, [0.0; DIM].as_ptr(), DIM));
        ok(pioxide_codec_prepare(codec, scratch, HORIZON, DIM));
        // Text has no such call: the longest one comes once before.
        ok(pioxide_text_encode(
            text,
            scratch,
            b"fold the towel".as_ptr(),
            14,
            ids.as_mut_ptr(),
            190,
            &raw mut count,
        ));
        allocations(|| {
            for chunk in &chunks {
                let (room, many) = (ids.as_mut_ptr(), &raw mut count);
                ok(pioxide_codec_encode_f64(
                    codec,
                    scratch,
                    chunk.as_ptr(),
                    HORIZON,
                    DIM,
                    1,
                    room,
                    ids.len(),
                    many,
                    null_mut(),
                ));
                let written = count;
                ok(pioxide_codec_decode(
                    codec,
                    scratch,
                    ids.as_ptr(),
                    written,
                    0,
                    actions.as_mut_ptr(),
                    HORIZON,
                    DIM,
                    null_mut(),
                ));
                ok(pioxide_prompts_text_ids(prompts, ids.as_ptr(), written, tokens.as_mut_ptr()));
                ok(pioxide_prompts_fast_ids(
                    prompts,
                    scratch,
                    tokens.as_ptr(),
                    written,
                    1,
                    back.as_mut_ptr(),
                    back.len(),
                    many,
                ));
                assert_eq!(back[..count], ids[..written]);
                let (row, places) = (tokens.as_mut_ptr(), mask.as_mut_ptr());
                ok(pioxide_prompts_write_f64(
                    prompts,
                    instruction,
                    chunk.as_ptr(),
                    DIM,
                    row,
                    places,
                    250,
                    many,
                ));
                let not_finite = [f64::NAN];
                let refused = pioxide_prompts_write_f64(
                    prompts,
                    instruction,
                    not_finite.as_ptr(),
                    1,
                    row,
                    places,
                    250,
                    many,
                );
                assert_eq!(refused, PioxideStatus::NotFinite);
                ok(pioxide_queue_clear(queue));
                let mut info = PioxideQueueInfo {
                    struct_size: size_of::<PioxideQueueInfo>(),
                    consumed: 0.0,
                    remaining: 0,
                    late: 0,
                    outdated: 0,
                    dry_ticks: 0,
                };
                ok(pioxide_queue_info(queue, &raw mut info));
                ok(pioxide_queue_put(queue, actions.as_ptr(), HORIZON, DIM, info.consumed, null_mut()));
                let mut action = [0.0; DIM];
                ok(pioxide_queue_take(queue, action.as_mut_ptr(), DIM, &raw mut taken));
                let place = action.as_mut_ptr();
                ok(pioxide_safety_apply(safety, place, place, DIM, null_mut()));
            }
        })
    };
    assert_eq!((counted, taken), (0, 0));
    // SAFETY: nothing uses them any more.
    unsafe {
        pioxide_queue_free(queue);
        pioxide_safety_free(safety);
    }
}
