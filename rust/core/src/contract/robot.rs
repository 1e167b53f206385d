//! A robot to a model: the layout of its state and actions, signs, grippers, names and rate.

use std::collections::HashSet;

use super::MOST_DIM;
use super::gripper::{self, Gripper};
use super::norm::mask_of;
use crate::json::{Json, Read, short};

const FIELDS: [&str; 14] = [
    "name",
    "cameras",
    "state",
    "action_dim",
    "hz",
    "prompt_key",
    "actions_key",
    "signs",
    "grippers",
    "delta_mask",
    "joint_names",
    "state_names",
    "joint_units",
    "ignored_keys",
];

/// A robot, declared.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Robot {
    /// What messages call it.
    pub name: String,
    /// Its cameras.
    pub cameras: Vec<Camera>,
    /// The observation's keys that hold the state, in order, and how many numbers each holds.
    pub state: Vec<(String, usize)>,
    /// Numbers in the state, S.
    pub state_dim: usize,
    /// Numbers in an action, D.
    pub action_dim: usize,
    /// Actions a second, where that is known.
    pub hz: Option<f64>,
    /// Where an observation holds the instruction.
    pub prompt_key: String,
    /// Where a training example holds its actions.
    pub actions_key: String,
    /// `[D]` 1 or -1 for joints that turn the other way; empty for none.
    pub signs: Vec<f64>,
    /// Grippers and their dimensions, rising.
    pub grippers: Vec<(usize, Gripper)>,
    /// Which actions are relative to the state; `None` where it is the checkpoint's to say.
    pub delta_mask: Option<Vec<bool>>,
    /// `[D]` names of an action's numbers; empty where they are not known.
    pub joint_names: Vec<String>,
    /// `[S]` names of the state's numbers; empty where they are not known.
    pub state_names: Vec<String>,
    /// `[D]` units of an action's numbers; empty where they are not known.
    pub joint_units: Vec<String>,
    /// Keys that an observation may have and that are not read.
    pub ignored_keys: Vec<String>,
}

/// One camera of a robot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Camera {
    /// The model's name for its view.
    pub slot: String,
    /// Where an observation holds it.
    pub key: String,
    /// Whether an observation without it is an error.
    pub required: bool,
}

impl Robot {
    pub(super) fn read(value: &Json) -> Read<Self> {
        let fields = value.fields(&FIELDS)?;
        let names = |name| fields.optional(name, |value| value.each(|one| one.text().map(str::to_owned)));
        let state = fields.needed("state", |value| {
            value.each_value(|key, size| Ok((named(key)?, size.count(MOST_DIM)?)))
        })?;
        let key = |name, otherwise: &str| {
            fields.optional(name, Json::name).map(|key| key.unwrap_or_else(|| otherwise.to_owned()))
        };
        let this = Self {
            name: fields.needed("name", Json::name)?,
            cameras: fields.needed("cameras", |value| value.each_value(camera))?,
            state_dim: state.iter().map(|(_, size)| size).fold(0, |sum, &size| sum.saturating_add(size)),
            state,
            action_dim: fields.needed("action_dim", |value| value.count(MOST_DIM))?,
            hz: fields.optional("hz", |value| value.or_null(rate))?.unwrap_or(Some(50.0)),
            prompt_key: key("prompt_key", "prompt")?,
            actions_key: key("actions_key", "actions")?,
            signs: fields.optional("signs", |value| value.each(sign))?.unwrap_or_default(),
            grippers: fields.optional("grippers", gripper::by_dimension)?.unwrap_or_default(),
            delta_mask: fields.optional("delta_mask", mask_of)?,
            joint_names: names("joint_names")?.unwrap_or_default(),
            state_names: names("state_names")?.unwrap_or_default(),
            joint_units: names("joint_units")?.unwrap_or_default(),
            ignored_keys: fields
                .optional("ignored_keys", |value| value.each(Json::name))?
                .unwrap_or_default(),
        };
        this.check()?;
        Ok(this)
    }

    /// Refuses a layout that can't be right.
    fn check(&self) -> Read<()> {
        let Self { state_dim, action_dim, .. } = *self;
        if !(1..=MOST_DIM).contains(&state_dim) {
            return Err(format!("state: expected 1 to {MOST_DIM} numbers, got {state_dim}"));
        }
        let mut keys = HashSet::new();
        let all = self.cameras.iter().map(|camera| &camera.key).chain(self.state.iter().map(|(key, _)| key));
        let others = [&self.prompt_key, &self.actions_key].into_iter().chain(&self.ignored_keys);
        if let Some(twice) = all.chain(others).find(|key| !keys.insert(*key)) {
            return Err(format!("key {:?} stands twice", short(twice)));
        }
        if !self.signs.is_empty() && (self.signs.len() != action_dim || state_dim != action_dim) {
            let got = self.signs.len();
            return Err(format!(
                "signs: expected {action_dim}, and a state as wide as an action, got {got} and {state_dim}"
            ));
        }
        let both = state_dim.min(action_dim);
        if let Some(mask) = self.delta_mask.as_ref().filter(|mask| mask.len() > both) {
            return Err(format!(
                "delta_mask has {} entries, and only {both} dimensions are both in the state and in an action",
                mask.len()
            ));
        }
        for (what, names, dim) in [
            ("joint_names", &self.joint_names, action_dim),
            ("state_names", &self.state_names, state_dim),
            ("joint_units", &self.joint_units, action_dim),
        ] {
            if !names.is_empty() && names.len() != dim {
                return Err(format!("{what}: expected {dim} texts or none, got {}", names.len()));
            }
        }
        match self.grippers.iter().find(|(dim, _)| *dim >= both) {
            Some((dim, _)) => Err(format!("there is no gripper dimension {dim}")),
            None => Ok(()),
        }
    }
}

fn named(key: &str) -> Read<String> {
    if key.is_empty() { Err("a key is empty".to_owned()) } else { Ok(key.to_owned()) }
}

fn camera(slot: &str, value: &Json) -> Read<Camera> {
    let slot = named(slot)?;
    if let Json::Text(_) = value {
        return Ok(Camera { slot, key: value.name()?, required: true });
    }
    let fields = value.fields(&["key", "required"])?;
    let required = fields.optional("required", Json::flag)?.unwrap_or(true);
    Ok(Camera { slot, key: fields.needed("key", Json::name)?, required })
}

fn rate(value: &Json) -> Read<f64> {
    value.number().ok().filter(|hz| *hz > 0.0 && hz.is_finite()).ok_or_else(|| value.wrong("a rate above 0"))
}

fn sign(value: &Json) -> Read<f64> {
    match value {
        Json::Whole(1) => Ok(1.0),
        Json::Whole(-1) => Ok(-1.0),
        _ => Err(value.wrong("1 or -1")),
    }
}
