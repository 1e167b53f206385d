//! `contract.json`: what a model's numbers mean, field by field, as `pioxide.contract` writes it in Python; and the
//! computation that follows from it, robot to model and back.

mod gripper;
mod norm;
mod numbers;
mod robot;
mod vocabulary;
mod written;

use std::collections::HashSet;

pub use gripper::Gripper;
use norm::mask_of;
pub use norm::{Arithmetic, NormMode, NormRule, Stats};
pub use numbers::Numbers;
pub use robot::{Camera, Robot};
pub use vocabulary::ActionVocabulary;

use crate::json::{Fields, Json, Read, short};
use crate::prompt::{Family, PromptStyle};
use crate::{Error, Result};

/// Numbers in a state or an action: a file that asks for more is taken for a mistake.
const MOST_DIM: usize = 1 << 16;
/// Anything else that is counted.
const MOST: usize = 1 << 32;
/// Bytes of a file.
const LARGEST_FILE: usize = 1 << 28;
const VERSION: i64 = 1;
const FIELDS: [&str; 25] = [
    "family",
    "robot",
    "cameras",
    "absent_camera",
    "delta_mask",
    "state_norm",
    "action_norm",
    "norm_stats",
    "state_in_text",
    "state_text_dim",
    "prompt_style",
    "text_len",
    "default_prompt",
    "action_horizon",
    "model_dim",
    "num_steps",
    "play_steps",
    "image_size",
    "resize",
    "fast",
    "max_delay",
    "answer_gap",
    "subtask_style",
    "advantage_style",
    "memory",
];
/// Fields that files of this version may lack, because they were not known at first: unknown there.
const ADDED: [&str; 3] = ["answer_gap", "subtask_style", "advantage_style"];
/// And those that say what older models did not have: none there.
const ADDED_NONE: [&str; 1] = ["memory"];

/// One image input of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CameraSlot {
    /// The model's name for it.
    pub slot: String,
    /// The robot's key of the camera that fills it: `Some(None)` for a slot that was empty in training, `None` where the
    /// file does not say.
    pub key: Option<Option<String>>,
    /// Whether an observation without it is an error.
    pub required: bool,
}

/// How images are resized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resize {
    /// Filtered before they are shrunk, as openpi does.
    Antialias,
    /// Interpolated alone, as LeRobot does.
    Interpolate,
}

/// How a language model writes subtasks before actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubtaskStyle {
    /// The subtask stands in the instruction's place in the prompt of the actions.
    Instead,
}

/// In which prompts an advantage stood behind the text while weights were trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AdvantageStyle {
    /// In all of them.
    Text,
    /// Left out of some, so that a policy can be asked without it, which guidance needs.
    TextOrNone,
}

/// What a model sees of the past: of each camera the frames a stride apart that end with the newest.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Memory {
    /// Frames, the newest among them.
    pub frames: usize,
    /// Seconds from one to the next.
    pub stride: f64,
    /// Layers of the vision tower from one that attends over time to the next.
    pub every: usize,
}

impl Memory {
    fn read(value: &Json) -> Read<Self> {
        let fields = value.fields(&["frames", "stride", "every"])?;
        let memory = Self {
            frames: fields.needed("frames", |value| value.count(MOST))?,
            stride: fields.needed("stride", Json::number)?,
            every: fields.needed("every", |value| value.count(MOST))?,
        };
        if memory.frames < 2 || memory.stride <= 0.0 || !memory.stride.is_finite() {
            return Err(value.wrong("2 frames or more, and seconds above 0"));
        }
        Ok(memory)
    }
}

/// What stands for a camera that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AbsentCamera {
    /// Nothing.
    Masked,
    /// A black image that the model attends to.
    Black,
}

/// What a dataset, a tokenizer, weights and a robot must agree on. A field that nobody stated is `None`; where the file
/// may state that there is none of a thing, that is `Some(None)`.
///
/// [`Numbers::of`] has the computation, [`Contract::prompts`] the prompts.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Contract {
    /// Which model.
    pub family: Option<Family>,
    /// The robot's layout: order, names, units, signs and grippers of state and actions, their rate.
    pub robot: Option<Robot>,
    /// The image slots in the model's order, and what fills each.
    pub cameras: Option<Vec<CameraSlot>>,
    /// What stands for a camera that is not there.
    pub absent_camera: Option<AbsentCamera>,
    /// By action dimension, whether it is relative to the state; it ends with the last that is.
    pub delta_mask: Option<Vec<bool>>,
    /// How the state is normalised.
    pub state_norm: Option<NormRule>,
    /// How (relative) actions are normalised.
    pub action_norm: Option<NormRule>,
    /// Statistics by key: "state" and "actions".
    pub norm_stats: Option<Vec<(String, Stats)>>,
    /// Whether the prompt holds the state.
    pub state_in_text: Option<bool>,
    /// Numbers of the state in the prompt, filled up with zeros; `Some(None)` for the robot's own.
    pub state_text_dim: Option<Option<usize>>,
    /// Whose prompt text.
    pub prompt_style: Option<PromptStyle>,
    /// Tokens of a prompt before it is cut.
    pub text_len: Option<usize>,
    /// The instruction where an observation has none.
    pub default_prompt: Option<Option<String>>,
    /// H, actions in a chunk.
    pub action_horizon: Option<usize>,
    /// W, numbers of an action inside the model.
    pub model_dim: Option<usize>,
    /// Flow steps; `Some(None)` for π0-FAST.
    pub num_steps: Option<Option<usize>>,
    /// Actions of a chunk to play before the next; `Some(None)` for no opinion.
    pub play_steps: Option<Option<usize>>,
    /// Pixels along an image's edge.
    pub image_size: Option<usize>,
    /// How images are resized.
    pub resize: Option<Resize>,
    /// What the model's action tokens are of; `Some(None)` for none.
    pub fast: Option<Option<ActionVocabulary>>,
    /// The largest inference delay that training saw, in actions.
    pub max_delay: Option<usize>,
    /// Positions left free between a π0-FAST prompt and its answer.
    pub answer_gap: Option<usize>,
    /// How π0.5's language model writes a subtask before actions; `Some(None)` for a model that did not learn to.
    pub subtask_style: Option<Option<SubtaskStyle>>,
    /// Whether prompts say if the actions are good ones; `Some(None)` for weights that know no advantage.
    pub advantage_style: Option<Option<AdvantageStyle>>,
    /// What the model sees of the past; `Some(None)` for a model that sees the present alone.
    pub memory: Option<Option<Memory>>,
    /// Where all this was read, for messages.
    pub source: String,
}

impl Contract {
    /// Reads the content of a `contract.json`.
    ///
    /// # Errors
    /// [`Error::Format`] for another version, or names a field that is missing, unknown here, of another type or outside
    /// its range.
    pub fn from_json(bytes: &[u8]) -> Result<Self> {
        let read = if bytes.len() > LARGEST_FILE {
            Err(format!("{} bytes are more than {LARGEST_FILE}", bytes.len()))
        } else {
            Json::parse(bytes).and_then(|document| Self::read(&document))
        };
        read.map_err(|why| Error::Format { what: "contract.json", why })
    }

    fn read(document: &Json) -> Read<Self> {
        let all = document.map()?;
        let find = |name: &str| all.iter().find(|(key, _)| key == name).map(|(_, value)| value);
        match find("version") {
            Some(Json::Whole(VERSION)) => {}
            Some(other) => return Err(format!("version {other}, and version {VERSION} is read here")),
            None => return Err("it has no version".to_owned()),
        }
        let known: Vec<&str> = FIELDS.into_iter().chain(["version", "source", "unknown"]).collect();
        let fields = document.fields(&known)?;
        let unknown = fields.needed("unknown", |value| value.each(|name| name.text().map(str::to_owned)))?;
        let unknown: HashSet<&str> = unknown.iter().map(String::as_str).collect();
        if let Some(foreign) = unknown.iter().find(|name| !FIELDS.contains(name)) {
            return Err(format!(
                "unknown: there is no field {:?} here; a newer pioxide wrote it",
                short(foreign)
            ));
        }
        for name in FIELDS {
            let stated = fields.get(name).is_some();
            let added = ADDED.contains(&name) || ADDED_NONE.contains(&name);
            if stated == unknown.contains(name) && (stated || !added) {
                return Err(format!(
                    "field {name:?} must be stated, or listed under \"unknown\"; not both and not neither"
                ));
            }
        }
        let mut contract = Self::stated(fields)?;
        if fields.get("memory").is_none() && !unknown.contains("memory") {
            contract.memory = Some(None);
        }
        if contract.memory.flatten().is_some() {
            if contract.family.is_some_and(|family| family != Family::Pi05) {
                return Err("memory: this family sees no past, π0.5 may".to_owned());
            }
            if contract.absent_camera == Some(AbsentCamera::Black) {
                return Err(
                    "memory: absent_camera has to be masked, as what lies before an episode is".to_owned()
                );
            }
        }
        Ok(contract)
    }

    fn stated(fields: Fields<'_>) -> Read<Self> {
        let count = |name| fields.optional(name, |value| value.count(MOST));
        let count_or_none = |name| fields.optional(name, |value| value.or_null(|value| value.count(MOST)));
        let up_to = |name, most: usize| {
            fields.optional(name, |value| {
                let number = value.whole().ok().and_then(|number| usize::try_from(number).ok());
                number
                    .filter(|number| *number <= most)
                    .ok_or_else(|| value.wrong(format_args!("0 to {most}")))
            })
        };
        let text = |value: &Json| value.text().map(str::to_owned);
        Ok(Self {
            family: fields.optional("family", family)?,
            robot: fields.optional("robot", Robot::read)?,
            cameras: fields.optional("cameras", cameras)?,
            absent_camera: fields.optional("absent_camera", |value| match value.text()? {
                "masked" => Ok(AbsentCamera::Masked),
                "black" => Ok(AbsentCamera::Black),
                _ => Err(value.wrong("masked or black")),
            })?,
            delta_mask: fields.optional("delta_mask", mask_of)?.map(trimmed),
            state_norm: fields.optional("state_norm", NormRule::read)?,
            action_norm: fields.optional("action_norm", NormRule::read)?,
            norm_stats: fields.optional("norm_stats", |value| {
                value.each_value(|key, stats| Ok((key.to_owned(), Stats::read(stats)?)))
            })?,
            state_in_text: fields.optional("state_in_text", Json::flag)?,
            state_text_dim: count_or_none("state_text_dim")?,
            prompt_style: fields.optional("prompt_style", |value| match value.text()? {
                "openpi" => Ok(PromptStyle::OpenPi),
                "lerobot" => Ok(PromptStyle::LeRobot),
                _ => Err(value.wrong("openpi or lerobot")),
            })?,
            text_len: count("text_len")?,
            default_prompt: fields.optional("default_prompt", |value| value.or_null(text))?,
            action_horizon: count("action_horizon")?,
            model_dim: count("model_dim")?,
            num_steps: count_or_none("num_steps")?,
            play_steps: count_or_none("play_steps")?,
            image_size: count("image_size")?,
            resize: fields.optional("resize", |value| match value.text()? {
                "antialias" => Ok(Resize::Antialias),
                "interpolate" => Ok(Resize::Interpolate),
                _ => Err(value.wrong("antialias or interpolate")),
            })?,
            fast: fields.optional("fast", |value| value.or_null(ActionVocabulary::read))?,
            max_delay: up_to("max_delay", MOST)?,
            answer_gap: up_to("answer_gap", 1)?,
            subtask_style: fields.optional("subtask_style", |value| {
                value.or_null(|value| match value.text()? {
                    "instead" => Ok(SubtaskStyle::Instead),
                    _ => Err(value.wrong("instead or null")),
                })
            })?,
            advantage_style: fields.optional("advantage_style", |value| {
                value.or_null(|value| match value.text()? {
                    "text" => Ok(AdvantageStyle::Text),
                    "text_or_none" => Ok(AdvantageStyle::TextOrNone),
                    _ => Err(value.wrong("text, text_or_none or null")),
                })
            })?,
            memory: fields.optional("memory", |value| value.or_null(Memory::read))?,
            source: fields.optional("source", text)?.unwrap_or_default(),
        })
    }

    /// Statistics by their key.
    #[must_use]
    pub fn stats(&self, key: &str) -> Option<&Stats> {
        self.norm_stats.as_ref()?.iter().find(|(known, _)| known == key).map(|(_, stats)| stats)
    }
}

/// A field that is needed.
fn stated<'a, T>(field: &'a Option<T>, name: &str, doing: &str) -> Result<&'a T> {
    field.as_ref().ok_or_else(|| refused(format!("it does not say {name}, which {doing} needs")))
}

fn refused(why: String) -> Error {
    Error::Argument { what: "contract", why }
}

/// A mask without the absolute dimensions at its end, which say nothing.
fn trimmed(mut mask: Vec<bool>) -> Vec<bool> {
    mask.truncate(mask.iter().rposition(|&relative| relative).map_or(0, |last| last.saturating_add(1)));
    mask
}

fn family(value: &Json) -> Read<Family> {
    match value.text()?.to_lowercase().replace('-', "_").replace('.', "").as_str() {
        "pi0" => Ok(Family::Pi0),
        "pi05" => Ok(Family::Pi05),
        "pi0_fast" => Ok(Family::Pi0Fast),
        _ => Err(value.wrong("pi0, pi05 or pi0_fast")),
    }
}

fn cameras(value: &Json) -> Read<Vec<CameraSlot>> {
    let cameras = value.each(|value| {
        let fields = value.fields(&["slot", "key", "required"])?;
        let key = |value: &Json| value.or_null(|value| value.text().map(str::to_owned));
        Ok(CameraSlot {
            slot: fields.needed("slot", |value| value.text().map(str::to_owned))?,
            key: fields.optional("key", key)?,
            required: fields.needed("required", Json::flag)?,
        })
    })?;
    let (mut slots, mut keys) = (HashSet::new(), HashSet::new());
    for camera in &cameras {
        if !slots.insert(&camera.slot) {
            return Err(format!("slot {:?} stands twice", short(&camera.slot)));
        }
        if let Some(Some(key)) = &camera.key
            && !keys.insert(key)
        {
            return Err(format!("the camera {:?} fills two slots", short(key)));
        }
    }
    Ok(cameras)
}
