//! Contracts and batches from C: what they say, what they refuse, and that a loop allocates nothing.

use std::ptr::{null, null_mut};

use super::counting::allocations;
use super::{Handles, ok, refused};
use crate::batches::*;
use crate::contract::*;
use crate::prompts::*;
use crate::status::PioxideStatus as Status;
use crate::subtask::*;

pub(super) const JSON: &[u8] = br#"{
    "version": 1, "family": "pi05", "robot": {"name": "arm", "cameras": {}, "state": {"j": 3}, "action_dim": 2,
    "hz": 20, "joint_names": ["left", "right"]}, "delta_mask": [1],
    "state_norm": {"mode": "mean_std"}, "action_norm": {"mode": "quantiles"},
    "norm_stats": {"state": {"mean": [0, 0, 0], "std": [1, 1, 1]}, "actions": {"q01": [-1, -1], "q99": [1, 1]}},
    "state_in_text": true, "state_text_dim": null, "prompt_style": "openpi", "text_len": 60, "action_horizon": 2,
    "unknown": ["cameras", "absent_camera", "default_prompt", "model_dim", "num_steps", "play_steps", "image_size",
    "resize", "fast", "max_delay"]}"#;

pub(super) fn contract(json: &[u8]) -> *mut PioxideContract {
    let mut made = null_mut();
    // SAFETY: every pointer leads to what the call says.
    ok(unsafe { pioxide_contract_from_bytes(json.as_ptr(), json.len(), &raw mut made) });
    made
}

fn info(contract: *const PioxideContract) -> PioxideContractInfo {
    let mut info = PioxideContractInfo {
        struct_size: size_of::<PioxideContractInfo>(),
        family: 9,
        state_in_text: 9,
        state_dim: 9,
        action_dim: 9,
        hz: 9.0,
        horizon: 9,
        model_dim: 9,
        text_len: 9,
        play_steps: 9,
        action_vocab: 9,
        max_delay: 9,
    };
    // SAFETY: every pointer leads to what the call says.
    ok(unsafe { pioxide_contract_info(contract, &raw mut info) });
    info
}

#[test]
fn a_contract_says_what_it_knows_and_what_it_does_not() {
    let contract = contract(JSON);
    let known = info(contract);
    assert_eq!((known.family, known.state_in_text, known.state_dim, known.action_dim), (1, 1, 3, 2));
    assert_eq!((known.hz, known.horizon, known.text_len, known.model_dim), (20.0, 2, 60, 0));
    let (mut room, mut len) = ([0_u8; 8], 0_usize);
    let mut text = |which, index, capacity| {
        // SAFETY: every pointer leads to what the call says.
        let status = unsafe {
            pioxide_contract_text(contract, which, index, room.as_mut_ptr(), capacity, &raw mut len)
        };
        (status, String::from_utf8_lossy(&room[..len.min(8)]).into_owned())
    };
    assert_eq!(text(3, 1, 8), (Status::Ok, "right".to_owned()));
    assert_eq!(text(3, 2, 8).1, "");
    assert_eq!(text(9, 0, 8).1, "");
    refused(text(0, 0, 2).0, Status::BufferTooSmall, "3 items");
    refused(text(10, 0, 8).0, Status::InvalidArgument, "which");
    // SAFETY: nothing uses it any more.
    unsafe { pioxide_contract_free(contract) };
}

#[test]
fn what_a_contract_can_not_do_is_refused() {
    let handles = Handles::new();
    let (mut bad, mut prompts) = (std::ptr::dangling_mut(), null_mut());
    let known = contract(JSON);
    let empty = String::from_utf8_lossy(JSON)
        .replace("\"delta_mask\": [1],", "")
        .replace("\"cameras\",", "\"cameras\", \"delta_mask\",");
    let empty = contract(empty.as_bytes());
    let (state, mut out) = ([0.0_f64, f64::NAN, 0.0], [0.0_f64; 8]);
    // SAFETY: every pointer leads to what the call says, or is to be refused.
    unsafe {
        refused(pioxide_contract_from_bytes(b"{}".as_ptr(), 2, &raw mut bad), Status::Format, "version");
        assert!(bad.is_null());
        refused(pioxide_contract_from_file(c"/no/such".as_ptr(), &raw mut bad), Status::Io, "/no/such");
        let place = out.as_mut_ptr();
        refused(
            pioxide_contract_apply_state_f64(empty, state.as_ptr(), 3, place),
            Status::InvalidArgument,
            "delta_mask",
        );
        let status = pioxide_contract_apply_state_f64(known, state.as_ptr(), 3, place);
        refused(status, Status::NotFinite, "joint 1 is NaN");
        refused(
            pioxide_contract_apply_state_f64(known, state.as_ptr(), 2, place),
            Status::Shape,
            "expected 3",
        );
        let answer = [0.0_f32, 0.0, f32::INFINITY, 0.0];
        let (rest, from) = ([0.0; 3], answer.as_ptr());
        let status = pioxide_contract_invert_actions_f32(known, from, 2, 2, rest.as_ptr(), 3, place, 2);
        refused(status, Status::NotFinite, "joint 0 of step 1 is inf");
        let status = pioxide_contract_invert_actions_f32(known, from, 2, 2, rest.as_ptr(), 3, place, 3);
        refused(status, Status::InvalidArgument, "dim");
        let status = pioxide_contract_check_codec(known, handles.codec);
        refused(status, Status::InvalidArgument, "does not say fast");
        ok(pioxide_prompts_from_contract(handles.text, known, &raw mut prompts));
        refused(
            pioxide_prompts_from_contract(null(), known, &raw mut prompts),
            Status::InvalidArgument,
            "text",
        );
        pioxide_prompts_free(prompts);
        pioxide_contract_free(known);
        pioxide_contract_free(empty);
    }
}

#[test]
fn batches_remember_and_a_loop_allocates_nothing() {
    let handles = Handles::new();
    let contract = contract(JSON);
    let (mut prompts, mut batches) = (null_mut(), null_mut());
    let (text, ends) = (b"foldhand over\xc3\xa9", [4_usize, 13, 13]);
    let (states, answer) = ([0.25_f64; 9], [0.5_f32; 8]);
    let (mut tokens, mut mask, mut lengths, mut truncated) =
        ([0_i32; 180], [9_u8; 180], [0_i32; 3], [9_u8; 3]);
    let (mut normalised, mut actions) = ([0.0_f64; 3], [0.0_f64; 4]);
    // SAFETY: every pointer leads to what the call says, or is to be refused.
    unsafe {
        ok(pioxide_prompts_from_contract(handles.text, contract, &raw mut prompts));
        ok(pioxide_batches_new(prompts, 4, &raw mut batches));
        pioxide_prompts_free(prompts); // batches keep what they need
        let mut encode = |ends: &[usize; 3], dim| {
            pioxide_batches_encode_f64(
                batches,
                text.as_ptr(),
                ends.as_ptr(),
                3,
                states.as_ptr(),
                dim,
                tokens.as_mut_ptr(),
                mask.as_mut_ptr(),
                60,
                lengths.as_mut_ptr(),
                truncated.as_mut_ptr(),
            )
        };
        refused(encode(&[4, 3, 13], 3), Status::InvalidArgument, "a rise");
        refused(encode(&[4, 13, 14], 3), Status::InvalidArgument, "UTF-8");
        ok(encode(&ends, 3));
        let mut tick = || {
            ok(encode(&ends, 3));
            ok(pioxide_contract_apply_state_f64(contract, states.as_ptr(), 3, normalised.as_mut_ptr()));
            let state = states.as_ptr();
            ok(pioxide_contract_invert_actions_f32(
                contract,
                answer.as_ptr(),
                2,
                4,
                state,
                3,
                actions.as_mut_ptr(),
                2,
            ));
            let wide = pioxide_contract_invert_actions_f32(
                contract,
                answer.as_ptr(),
                2,
                1,
                state,
                3,
                actions.as_mut_ptr(),
                2,
            );
            assert_eq!(wide, Status::Shape);
        };
        assert_eq!(allocations(|| (0..20).for_each(|_| tick())), 0);
        pioxide_batches_free(batches);
        pioxide_contract_free(contract);
    }
    assert!(lengths.iter().all(|&length| (1..60).contains(&length)) && truncated == [0; 3]);
    assert_eq!(mask[..60].iter().filter(|&&counts| counts == 1).count(), lengths[0] as usize);
    // Relative to the state: 0.25, and 0.5 of [-1, 1] with openpi's epsilon.
    assert!((actions[0] - 0.75).abs() < 1e-5 && (actions[1] - 0.5).abs() < 1e-5);
}

#[test]
fn questions_for_a_subtask_are_prompts_and_their_answers_are_read() {
    let handles = Handles::new();
    let said =
        String::from_utf8_lossy(JSON).replace("\"text_len\"", "\"subtask_style\": \"instead\", \"text_len\"");
    let (silent, contract) = (contract(JSON), contract(said.as_bytes()));
    let (mut prompts, mut other, mut instruction) = (null_mut(), null_mut(), null_mut());
    let (mut tokens, mut mask, mut length) = ([0_i32; 60], [0_u8; 60], 0_usize);
    let mut options =
        PioxideSubtaskOptions { struct_size: 24, without_state: 1, reserved: 0, state_width: 3 };
    // SAFETY: every pointer leads to what the call says, or is to be refused.
    unsafe {
        let status = pioxide_subtasks_from_contract(handles.text, silent, &raw mut prompts);
        refused(status, Status::InvalidArgument, "does not say subtask_style");
        let status = pioxide_subtasks_new(handles.text, &raw const options, &raw mut other);
        refused(status, Status::InvalidArgument, "state_width is 3");
        options.without_state = 2;
        let status = pioxide_subtasks_new(handles.text, &raw const options, &raw mut other);
        refused(status, Status::InvalidArgument, "without_state");
        (options.without_state, options.state_width) = (1, 0);
        ok(pioxide_subtasks_new(handles.text, &raw const options, &raw mut other));
        ok(pioxide_subtasks_from_contract(handles.text, contract, &raw mut prompts));
        ok(pioxide_prompts_tokenize(prompts, b"tidy up".as_ptr(), 7, &raw mut instruction));
        let (state, row, places) = ([0.5_f64; 3], tokens.as_mut_ptr(), mask.as_mut_ptr());
        let many = &raw mut length;
        ok(pioxide_prompts_write_f64(prompts, instruction, state.as_ptr(), 3, row, places, 60, many));
        assert!((10..60).contains(&length) && mask[length - 1] == 1 && mask[length] == 0);
        let status = pioxide_prompts_write_f64(other, instruction, state.as_ptr(), 3, row, places, 60, many);
        refused(status, Status::InvalidArgument, "hold none");
        let status = pioxide_prompts_write_f64(other, instruction, null(), 0, row, places, 60, many);
        refused(status, Status::InvalidArgument, "not for stateless subtask ones");
        ok(pioxide_subtasks_answer(prompts, b"pick up".as_ptr(), 7, row, 60, many));
        let mut text = [0_u8; 16];
        let (room, mut bytes) = (text.as_mut_ptr(), 0_usize);
        ok(pioxide_subtasks_read(prompts, row, length, room, 16, &raw mut bytes));
        assert_eq!((bytes, &text[..7]), (7, &b"pick up"[..]));
        let status = pioxide_subtasks_read(prompts, row, length, room, 3, &raw mut bytes);
        refused(status, Status::BufferTooSmall, "7 items");
        let status = pioxide_subtasks_read(prompts, row, length - 1, room, 16, &raw mut bytes);
        refused(status, Status::NoSubtask, "no end after");
        let status = pioxide_subtasks_answer(handles.prompts, b"a".as_ptr(), 1, row, 60, many);
        refused(status, Status::InvalidArgument, "expected questions");
        pioxide_instruction_free(instruction);
        pioxide_prompts_free(prompts);
        pioxide_prompts_free(other);
        pioxide_contract_free(contract);
        pioxide_contract_free(silent);
    }
}
