//! Contracts: what a policy's numbers mean, and the way from a robot's numbers to a model's and back.

use std::ffi::c_char;
use std::path::Path;

use pioxide_core::{Contract, Error, Family, Float, Numbers};

use crate::codec::{PioxideCodec, path_text};
use crate::memory::{Buffers, Plain, area, copy_out, give, handle, read, take_back};
use crate::options::{self, Growing};
use crate::status::{PioxideStatus, Result, guard, invalid};

/// A contract, as pioxide writes it beside a policy. Never changes: any number of threads may use one at once.
pub struct PioxideContract {
    pub(crate) contract: Contract,
    /// Why they can't be computed is said when they are asked for.
    numbers: std::result::Result<Numbers, Error>,
}

/// What a number of PioxideContractInfo is where the contract does not say it.
pub const PIOXIDE_NOT_SAID: u32 = 4294967295;

/// What is known of a contract. 0 stands for a size that it does not say or says to be none.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct PioxideContractInfo {
    /// sizeof(PioxideContractInfo), set by the caller.
    pub struct_size: usize,
    /// A PioxideFamily, or PIOXIDE_NOT_SAID.
    pub family: u32,
    /// 1 where the prompt holds the state, 0 where it does not, or PIOXIDE_NOT_SAID.
    pub state_in_text: u32,
    /// Numbers in the robot's state.
    pub state_dim: usize,
    /// Numbers in the robot's action.
    pub action_dim: usize,
    /// Actions a second.
    pub hz: f64,
    /// Actions in a chunk.
    pub horizon: usize,
    /// Numbers of an action inside the model.
    pub model_dim: usize,
    /// Tokens in a prompt's row.
    pub text_len: usize,
    /// Actions of a chunk to play before the next one comes; 0 for no opinion.
    pub play_steps: usize,
    /// Ids of the action tokens.
    pub action_vocab: usize,
    /// The largest delay that training saw, in actions.
    pub max_delay: usize,
}

// SAFETY: numbers alone.
unsafe impl Growing for PioxideContractInfo {
    const FIRST: usize = 88;
    const NAME: &'static str = "PioxideContractInfo";
}

/// A text of a contract.
#[repr(u32)]
pub enum PioxideContractText {
    /// The robot's name.
    Robot = 0,
    /// The instruction where an observation has none; empty for none.
    DefaultPrompt = 1,
    /// Where an observation holds the instruction.
    PromptKey = 2,
    /// The name of number `index` of an action; empty where it is not known.
    JointName = 3,
    /// Its unit; empty where it has none or none is known.
    JointUnit = 4,
    /// The name of number `index` of the state; empty where it is not known.
    StateName = 5,
    /// Slot `index` of the model's images; empty behind the last.
    CameraSlot = 6,
    /// The robot's key of the camera that fills slot `index`; empty where none does or none is known.
    CameraKey = 7,
    /// What the action tokens are of: "fast" or another codec; empty for none.
    ActionCodec = 8,
    /// The digest of that codec.
    ActionSha256 = 9,
}

/// Reads the content of a `contract.json`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_contract_from_bytes(
    json: *const u8,
    json_len: usize,
    out: *mut *mut PioxideContract,
) -> PioxideStatus {
    // SAFETY: C keeps the header's promise for every pointer.
    guard(|| unsafe { give(out, || made(Buffers::default().input("json", json, json_len)?)) })
}

/// Reads a `contract.json`, whose path, or its directory's, is UTF-8 that ends in NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_contract_from_file(
    path: *const c_char,
    out: *mut *mut PioxideContract,
) -> PioxideStatus {
    // SAFETY: C keeps the header's promise for every pointer.
    guard(|| unsafe {
        give(out, || {
            let path = Path::new(path_text(path)?);
            let inside = path.join("contract.json");
            made(&read(if path.is_dir() { &inside } else { path })?)
        })
    })
}

fn made(json: &[u8]) -> Result<PioxideContract> {
    let contract = Contract::from_json(json)?;
    let numbers = Numbers::of(&contract);
    Ok(PioxideContract { contract, numbers })
}

/// Frees a contract; NULL is none. Prompts made by it need it no more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_contract_free(contract: *mut PioxideContract) {
    // SAFETY: C keeps the header's promise for the handle.
    guard(|| unsafe { take_back("contract", contract) });
}

/// Says what is known of a contract; set `info->struct_size` before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_contract_info(
    contract: *const PioxideContract,
    info: *mut PioxideContractInfo,
) -> PioxideStatus {
    // SAFETY: C keeps the header's promise for every pointer.
    guard(|| unsafe {
        let PioxideContract { contract, .. } = handle("contract", contract)?;
        let robot = contract.robot.as_ref();
        let known = PioxideContractInfo {
            struct_size: 0,
            family: contract.family.map_or(PIOXIDE_NOT_SAID, |family| match family {
                Family::Pi0 => 0,
                Family::Pi05 => 1,
                Family::Pi0Fast => 2,
            }),
            state_in_text: contract.state_in_text.map_or(PIOXIDE_NOT_SAID, u32::from),
            state_dim: robot.map_or(0, |robot| robot.state_dim),
            action_dim: robot.map_or(0, |robot| robot.action_dim),
            hz: robot.and_then(|robot| robot.hz).unwrap_or(0.0),
            horizon: contract.action_horizon.unwrap_or(0),
            model_dim: contract.model_dim.unwrap_or(0),
            text_len: contract.text_len.unwrap_or(0),
            play_steps: contract.play_steps.flatten().unwrap_or(0),
            action_vocab: contract
                .fast
                .iter()
                .flatten()
                .map(|actions| actions.vocab_size)
                .next()
                .unwrap_or(0),
            max_delay: contract.max_delay.unwrap_or(0),
        };
        options::write("info", info, &known)
    })
}

/// Writes a text of a contract as UTF-8 without a NUL. `which` is a PioxideContractText; `index` is for those that are of
/// one number or slot. `*len` becomes how many bytes there are: where that is more than `capacity`, nothing else is
/// written and the call ends in PIOXIDE_STATUS_BUFFER_TOO_SMALL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_contract_text(
    contract: *const PioxideContract,
    which: u32,
    index: usize,
    utf8_text: *mut u8,
    capacity: usize,
    len: *mut usize,
) -> PioxideStatus {
    guard(|| {
        let mut buffers = Buffers::default();
        // SAFETY: C keeps the header's promise for every pointer.
        let (PioxideContract { contract, .. }, room, len) = unsafe {
            (
                handle("contract", contract)?,
                buffers.output("utf8_text", utf8_text, capacity)?,
                buffers.place("len", len)?,
            )
        };
        *len = 0;
        let (robot, actions) = (contract.robot.as_ref(), contract.fast.as_ref().and_then(Option::as_ref));
        let camera = contract.cameras.as_ref().and_then(|cameras| cameras.get(index));
        let text: Option<&String> = match which {
            0 => robot.map(|robot| &robot.name),
            1 => contract.default_prompt.as_ref().and_then(Option::as_ref),
            2 => robot.map(|robot| &robot.prompt_key),
            3 => robot.and_then(|robot| robot.joint_names.get(index)),
            4 => robot.and_then(|robot| robot.joint_units.get(index)),
            5 => robot.and_then(|robot| robot.state_names.get(index)),
            6 => camera.map(|camera| &camera.slot),
            7 => camera.and_then(|camera| camera.key.as_ref()).and_then(Option::as_ref),
            8 => actions.map(|actions| &actions.codec),
            9 => actions.map(|actions| &actions.sha256),
            other => return Err(invalid!("which: expected a PioxideContractText, got {other}")),
        };
        copy_out("utf8_text", text.map_or(&[][..], |text| text.as_bytes()), room, len)
    })
}

/// Refuses a codec whose ids mean other actions than the contract's, or that was fitted for other chunks. Allocates.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_contract_check_codec(
    contract: *const PioxideContract,
    codec: *const PioxideCodec,
) -> PioxideStatus {
    guard(|| {
        // SAFETY: C keeps the header's promise for every pointer.
        let (PioxideContract { contract, .. }, PioxideCodec(codec)) =
            unsafe { (handle("contract", contract)?, handle("codec", codec)?) };
        Ok(contract.check_codec(codec)?)
    })
}

/// Normalises a state `[dim]` in the robot's units, as prompts and π0 read it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_contract_apply_state_f64(
    contract: *const PioxideContract,
    state: *const f64,
    dim: usize,
    normalised: *mut f64,
) -> PioxideStatus {
    // SAFETY: C keeps the header's promise for every pointer.
    guard(|| unsafe { apply_state(contract, state, dim, normalised) })
}

/// As pioxide_contract_apply_state_f64, from single precision.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_contract_apply_state_f32(
    contract: *const PioxideContract,
    state: *const f32,
    dim: usize,
    normalised: *mut f64,
) -> PioxideStatus {
    // SAFETY: C keeps the header's promise for every pointer.
    guard(|| unsafe { apply_state(contract, state, dim, normalised) })
}

/// # Safety
/// As the header asks of every pointer.
unsafe fn apply_state<T: Float + Plain>(
    contract: *const PioxideContract,
    state: *const T,
    dim: usize,
    normalised: *mut f64,
) -> Result<()> {
    let mut buffers = Buffers::default();
    // SAFETY: the caller's promise is passed on.
    let (numbers, state, normalised) = unsafe {
        (
            numbers(contract)?,
            buffers.input("state", state, dim)?,
            buffers.output("normalised", normalised, dim)?,
        )
    };
    Ok(numbers.apply_state(state, normalised)?)
}

/// Normalises a chunk `[rows, dim]` in the robot's units that begins at the robot's `state` `[state_dim]`: relative to it
/// where the contract says so. What is encoded to action tokens.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_contract_apply_actions_f64(
    contract: *const PioxideContract,
    actions: *const f64,
    rows: usize,
    dim: usize,
    state: *const f64,
    state_dim: usize,
    normalised: *mut f64,
) -> PioxideStatus {
    guard(|| {
        let mut buffers = Buffers::default();
        let len = area("actions", rows, dim)?;
        // SAFETY: C keeps the header's promise for every pointer.
        let (numbers, actions, state, normalised) = unsafe {
            (
                numbers(contract)?,
                buffers.input("actions", actions, len)?,
                buffers.input("state", state, state_dim)?,
                buffers.output("normalised", normalised, len)?,
            )
        };
        same_width(numbers, dim)?;
        Ok(numbers.apply_actions(actions, state, normalised)?)
    })
}

/// Brings a model's answer `[rows, width]` to `actions` `[rows, dim]` in the robot's units. What is beyond the robot's
/// numbers in a row was padding. `state` `[state_dim]` is the robot's, of the observation that was answered.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_contract_invert_actions_f64(
    contract: *const PioxideContract,
    answer: *const f64,
    rows: usize,
    width: usize,
    state: *const f64,
    state_dim: usize,
    actions: *mut f64,
    dim: usize,
) -> PioxideStatus {
    // SAFETY: C keeps the header's promise for every pointer.
    guard(|| unsafe { invert(contract, answer, rows, width, state, state_dim, actions, dim) })
}

/// As pioxide_contract_invert_actions_f64, from an answer of single precision, which a network's is: its actions are
/// then Python's to the last bit.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pioxide_contract_invert_actions_f32(
    contract: *const PioxideContract,
    answer: *const f32,
    rows: usize,
    width: usize,
    state: *const f64,
    state_dim: usize,
    actions: *mut f64,
    dim: usize,
) -> PioxideStatus {
    // SAFETY: C keeps the header's promise for every pointer.
    guard(|| unsafe { invert(contract, answer, rows, width, state, state_dim, actions, dim) })
}

/// # Safety
/// As the header asks of every pointer.
unsafe fn invert<T: Float + Plain>(
    contract: *const PioxideContract,
    answer: *const T,
    rows: usize,
    width: usize,
    state: *const f64,
    state_dim: usize,
    actions: *mut f64,
    dim: usize,
) -> Result<()> {
    let mut buffers = Buffers::default();
    // SAFETY: the caller's promise is passed on.
    let (numbers, answer, state, actions) = unsafe {
        (
            numbers(contract)?,
            buffers.input("answer", answer, area("answer", rows, width)?)?,
            buffers.input("state", state, state_dim)?,
            buffers.output("actions", actions, area("actions", rows, dim)?)?,
        )
    };
    same_width(numbers, dim)?;
    Ok(numbers.invert_actions(answer, width, state, actions)?)
}

/// # Safety
/// As [`handle`].
unsafe fn numbers<'a>(contract: *const PioxideContract) -> Result<&'a Numbers> {
    // SAFETY: the caller's promise is passed on.
    match &unsafe { handle("contract", contract)? }.numbers {
        Ok(numbers) => Ok(numbers),
        Err(error) => Err(invalid!("{error}")),
    }
}

fn same_width(numbers: &Numbers, dim: usize) -> Result<()> {
    let expected = numbers.action_dim();
    if dim == expected {
        Ok(())
    } else {
        Err(invalid!("dim: the robot's actions have {expected}, got {dim}"))
    }
}
