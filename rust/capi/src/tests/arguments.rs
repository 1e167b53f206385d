//! What C gets wrong is refused before anything is read or written.

use std::ptr::{null, null_mut};

use super::{DIM, HORIZON, Handles, chunk, last_error, ok, refused};
use crate::codec::*;
use crate::prompts::*;
use crate::queue::*;
use crate::safety::*;
use crate::scratch::pioxide_scratch_new;
use crate::state::pioxide_state_bins_f64;
use crate::status::PioxideStatus as Status;
use crate::text::*;

/// An encode call whose every argument can be spoilt.
struct Encode {
    codec: *const PioxideCodec,
    chunk: *const f64,
    horizon: usize,
    on_overflow: u32,
    ids: *mut u32,
    capacity: usize,
    count: *mut usize,
}

#[test]
fn pointers_that_can_not_be_right_are_refused_by_name() {
    let handles = Handles::new();
    let (values, mut ids, mut count) = (chunk(1), vec![7_u32; 400], 9_usize);
    let good = || Encode {
        codec: handles.codec,
        chunk: values.as_ptr(),
        horizon: HORIZON,
        on_overflow: 0,
        ids: std::ptr::null_mut(),
        capacity: 0,
        count: null_mut(),
    };
    let scratch = handles.scratch;
    let call = |e: Encode| {
        let Encode { codec, chunk, horizon, on_overflow, ids, capacity, count } = e;
        // SAFETY: every pointer leads to what the call says, or is to be refused.
        unsafe {
            pioxide_codec_encode_f64(
                codec,
                scratch,
                chunk,
                horizon,
                DIM,
                on_overflow,
                ids,
                capacity,
                count,
                null_mut(),
            )
        }
    };
    let (room, many) = (ids.as_mut_ptr(), &raw mut count);
    let good = || Encode { ids: room, capacity: 400, count: many, ..good() };
    ok(call(good()));
    let odd = values.as_ptr().wrapping_byte_add(1);
    for (spoilt, word) in [
        (Encode { codec: null(), ..good() }, "codec is NULL"),
        (Encode { codec: handles.codec.wrapping_byte_add(1), ..good() }, "codec is misaligned"),
        (Encode { chunk: null(), ..good() }, "chunk is NULL"),
        (Encode { chunk: odd, ..good() }, "chunk is misaligned"),
        (Encode { horizon: usize::MAX / 2, ..good() }, "chunk: "),
        (Encode { horizon: usize::MAX / 16, ..good() }, "more than memory"),
        (Encode { ids: null_mut(), ..good() }, "ids is NULL"),
        (Encode { capacity: usize::MAX, ..good() }, "ids: 18446744073709551615 items"),
        (Encode { ids: values.as_ptr().cast_mut().cast(), capacity: 4, ..good() }, "ids overlaps chunk"),
        (Encode { count: null_mut(), ..good() }, "count is NULL"),
        (Encode { count: room.cast(), ..good() }, "count overlaps ids"),
        (Encode { on_overflow: 2, ..good() }, "on_overflow: expected 0 (error) or 1 (clip), got 2"),
    ] {
        ids_are(&call, spoilt, word);
    }
}

fn ids_are(call: &impl Fn(Encode) -> Status, spoilt: Encode, word: &str) {
    refused(call(spoilt), Status::InvalidArgument, word);
}

#[test]
fn a_buffer_that_is_too_small_is_told_the_room_and_nothing_is_written() {
    let handles = Handles::new();
    let (values, mut ids, mut count) = (chunk(2), vec![7_u32; 400], 0_usize);
    let mut call = |capacity: usize, ids: *mut u32| {
        // SAFETY: every pointer leads to what the call says.
        let status = unsafe {
            pioxide_codec_encode_f64(
                handles.codec,
                handles.scratch,
                values.as_ptr(),
                HORIZON,
                DIM,
                0,
                ids,
                capacity,
                &raw mut count,
                null_mut(),
            )
        };
        (status, count)
    };
    let (status, needed) = call(0, null_mut());
    refused(status, Status::BufferTooSmall, "don't fit into 0");
    assert_eq!(call(needed - 1, ids.as_mut_ptr()), (Status::BufferTooSmall, needed));
    assert_eq!(ids, vec![7; 400]);
    assert_eq!(call(needed, ids.as_mut_ptr()), (Status::Ok, needed));
    assert!(ids[needed..].iter().all(|&id| id == 7));
}

#[test]
fn handles_are_null_after_a_failure_and_freeing_null_is_nothing() {
    let mut codec = std::ptr::dangling_mut();
    // SAFETY: every pointer leads to what the call says, or is to be refused.
    unsafe {
        let status = pioxide_codec_from_bytes(b"{".as_ptr(), 1, b"{}".as_ptr(), 2, &raw mut codec);
        refused(status, Status::Format, "tokenizer.json");
        assert!(codec.is_null());
        refused(pioxide_codec_from_directory(c"/no/such".as_ptr(), &raw mut codec), Status::Io, "/no/such");
        refused(pioxide_codec_from_directory(null(), &raw mut codec), Status::InvalidArgument, "path");
        refused(
            pioxide_codec_from_directory(c"\xff".as_ptr(), &raw mut codec),
            Status::InvalidArgument,
            "UTF-8",
        );
        refused(pioxide_scratch_new(null_mut()), Status::InvalidArgument, "out is NULL");
        pioxide_codec_free(null_mut());
        pioxide_queue_free(null_mut());
        let mut text = null_mut();
        refused(pioxide_text_from_bytes(b"no".as_ptr(), 2, &raw mut text), Status::Format, "");
    }
}

#[test]
fn a_handle_in_use_is_busy_and_nobody_waits() {
    let handles = Handles::new();
    // SAFETY: the handle lives.
    let held = unsafe { (*handles.scratch).0.lock().unwrap() };
    let mut count = 0_usize;
    let call = || {
        // SAFETY: every pointer leads to what the call says.
        unsafe {
            pioxide_text_encode(handles.text, handles.scratch, null(), 0, null_mut(), 0, &raw mut count)
        }
    };
    let mut call = call;
    refused(call(), Status::Busy, "another thread");
    drop(held);
    ok(call());
}

#[test]
fn structs_may_be_older_or_newer_than_the_library() {
    #[repr(C)]
    struct Newer {
        known: PioxideQueueOptions,
        more: u64,
    }
    let known = PioxideQueueOptions {
        struct_size: size_of::<Newer>(),
        dim: 2,
        most: 4,
        slow_below: 0,
        on_empty: 0,
        reserved: 0,
    };
    let mut queue = null_mut();
    let mut make = |newer: Newer| {
        // SAFETY: `struct_size` is the struct's, or is to be refused.
        unsafe {
            let status = pioxide_queue_new((&raw const newer).cast(), &raw mut queue);
            pioxide_queue_free(queue);
            status
        }
    };
    ok(make(Newer { known, more: 0 }));
    refused(make(Newer { known, more: 1 }), Status::Unsupported, "newer library");
    for size in [0, 1, 39, 5000, usize::MAX] {
        let known = PioxideQueueOptions { struct_size: size, ..known };
        refused(make(Newer { known, more: 0 }), Status::InvalidArgument, "struct_size is");
    }
    for (on_empty, slow_below, reserved, word) in
        [(3, 0, 0, "on_empty"), (0, 1, 0, "not slow"), (2, 0, 0, "1 or more"), (0, 0, 1, "reserved")]
    {
        let known = PioxideQueueOptions { on_empty, slow_below, reserved, ..known };
        refused(make(Newer { known, more: 0 }), Status::InvalidArgument, word);
    }
}

#[test]
fn a_program_that_knows_less_gets_no_more() {
    let handles = Handles::new();
    let mut info = PioxideCodecInfo {
        struct_size: size_of::<PioxideCodecInfo>(),
        vocab_size: 0,
        scale: 0.0,
        horizon: 0,
        dim: 0,
        lowest: 0,
        highest: 0,
    };
    // SAFETY: every pointer leads to what the call says.
    ok(unsafe { pioxide_codec_info(handles.codec, &raw mut info) });
    assert_eq!((info.struct_size, info.scale), (size_of::<PioxideCodecInfo>(), 10.0));
    assert!((257..=300).contains(&info.vocab_size) && info.lowest < 0 && info.highest > 0);
    info.struct_size = 8;
    // SAFETY: as above; the size is to be refused.
    refused(
        unsafe { pioxide_codec_info(handles.codec, &raw mut info) },
        Status::InvalidArgument,
        "struct_size is 8",
    );
}

#[test]
fn states_and_prompts_refuse_what_the_core_refuses() {
    let handles = Handles::new();
    let (mut bins, mut tokens, mut mask, mut length) = ([0_i16; 2], [0_i32; 64], [9_u8; 64], 0_usize);
    let write = |state: &[f64], tokens: &mut [i32; 64], mask: &mut [u8; 64], length: &mut usize| {
        // SAFETY: every pointer leads to what the call says.
        unsafe {
            pioxide_prompts_write_f64(
                handles.prompts,
                handles.instruction,
                state.as_ptr(),
                state.len(),
                tokens.as_mut_ptr(),
                mask.as_mut_ptr(),
                64,
                length,
            )
        }
    };
    ok(write(&[0.5, -0.25], &mut tokens, &mut mask, &mut length));
    assert!((1..64).contains(&length));
    let expected: Vec<u8> = (0..64).map(|at| u8::from(at < length)).collect();
    assert_eq!(mask.as_slice(), expected);
    refused(
        write(&[0.5, f64::NAN], &mut tokens, &mut mask, &mut length),
        Status::NotFinite,
        "joint 1 is NaN",
    );
    assert_eq!(length, 0);
    // SAFETY: every pointer leads to what the call says.
    unsafe {
        let state = [0.0, f64::INFINITY];
        refused(pioxide_state_bins_f64(state.as_ptr(), 2, bins.as_mut_ptr()), Status::NotFinite, "joint 1");
        ok(pioxide_state_bins_f64([0.0, 1.0].as_ptr(), 2, bins.as_mut_ptr()));
        assert_eq!(bins, [128, 255]);
        let mut found = 0_usize;
        let mut ids = [0_u32; 4];
        let nothing = pioxide_prompts_fast_ids(
            handles.prompts,
            handles.scratch,
            tokens.as_ptr(),
            0,
            0,
            ids.as_mut_ptr(),
            4,
            &raw mut found,
        );
        refused(nothing, Status::NoActions, "Action: ");
        refused(
            pioxide_prompts_text_ids(handles.prompts, [300].as_ptr(), 1, tokens.as_mut_ptr()),
            Status::Token,
            "300",
        );
        let mut instruction = null_mut();
        refused(
            pioxide_prompts_tokenize(handles.prompts, b"\xff".as_ptr(), 1, &raw mut instruction),
            Status::InvalidArgument,
            "UTF-8",
        );
    }
}

#[test]
fn an_action_may_be_limited_in_place() {
    let limits = [1.0, 2.0];
    let options = PioxideSafetyOptions {
        struct_size: size_of::<PioxideSafetyOptions>(),
        dim: 2,
        hz: 10.0,
        low: null(),
        low_len: 0,
        high: null(),
        high_len: 0,
        velocity: limits.as_ptr(),
        velocity_len: 2,
        acceleration: null(),
        acceleration_len: 0,
    };
    let mut safety = null_mut();
    let (mut action, mut violations) = ([9.0, 0.1, 0.0], 0_u32);
    // SAFETY: every pointer leads to what the call says, or is to be refused.
    unsafe {
        ok(pioxide_safety_new(&raw const options, &raw mut safety));
        let place = action.as_mut_ptr();
        refused(pioxide_safety_apply(safety, place, place, 2, null_mut()), Status::InvalidArgument, "reset");
        ok(pioxide_safety_reset(safety, [0.0; 2].as_ptr(), 2));
        ok(pioxide_safety_apply(safety, place, place, 2, &raw mut violations));
        assert_eq!((action, violations), ([0.1, 0.1, 0.0], PIOXIDE_VIOLATED_VELOCITY));
        let crossed = pioxide_safety_apply(safety, place, place.add(1), 2, null_mut());
        refused(crossed, Status::InvalidArgument, "wanted overlaps given");
        refused(pioxide_safety_apply(safety, place, place, 1, null_mut()), Status::Shape, "expected 2");
        pioxide_safety_free(safety);
    }
    assert!(!last_error().is_empty());
}
