//! States and actions between a robot's units and a model's: signs and grippers, actions relative to the state,
//! normalisation; and the same, inverted. Bit for bit what `pioxide.contract.Numbers` computes in Python.

use std::collections::HashSet;

use super::norm::Norm;
use super::{Contract, Gripper, NormRule, Robot, refused, stated};
use crate::json::{Within, short};
use crate::state::check_finite;
use crate::{Error, Float, Result};

/// The numeric part of a contract. Nothing of it allocates once it is made.
#[derive(Debug, Clone)]
pub struct Numbers {
    state_dim: usize,
    action_dim: usize,
    /// Empty for none.
    signs: Vec<f64>,
    /// By dimension; it may end before they do.
    grippers: Vec<Option<Gripper>>,
    /// Which actions are relative to the state; empty for none.
    relative: Vec<bool>,
    state: Norm,
    actions: Norm,
}

impl Numbers {
    /// Reads them off a contract.
    ///
    /// # Errors
    /// [`Error::Argument`] names a field that numbers depend on and that is unknown, or says why the statistics or the
    /// mask are another robot's.
    pub fn of(contract: &Contract) -> Result<Self> {
        const DOING: &str = "normalising numbers";
        let robot = stated(&contract.robot, "robot", DOING)?;
        let relative = stated(&contract.delta_mask, "delta_mask", DOING)?;
        check_mask(robot, relative)?;
        let norm = |field: &Option<NormRule>, name, key, dim| {
            let rule = *stated(field, name, DOING)?;
            Norm::new(rule, contract.stats(key), dim).within(key).map_err(refused)
        };
        let mut grippers = Vec::new();
        for &(dim, gripper) in &robot.grippers {
            grippers.resize(dim, None);
            grippers.push(Some(gripper));
        }
        Ok(Self {
            state_dim: robot.state_dim,
            action_dim: robot.action_dim,
            signs: robot.signs.clone(),
            grippers,
            relative: relative.clone(),
            state: norm(&contract.state_norm, "state_norm", "state", robot.state_dim)?,
            actions: norm(&contract.action_norm, "action_norm", "actions", robot.action_dim)?,
        })
    }

    /// S, numbers in a state.
    #[must_use]
    pub fn state_dim(&self) -> usize {
        self.state_dim
    }

    /// D, numbers in an action.
    #[must_use]
    pub fn action_dim(&self) -> usize {
        self.action_dim
    }

    /// Normalises a state `[S]` in the robot's units.
    ///
    /// # Errors
    /// [`Error::Shape`]; [`Error::NotFinite`]; [`Error::Unusable`] names a number that is past single precision when it is
    /// normalised. Then `normalised` holds nothing of meaning.
    pub fn apply_state<T: Float>(&self, state: &[T], normalised: &mut [f64]) -> Result<()> {
        self.check_state(state)?;
        same_length("a normalised state", self.state_dim, normalised.len())?;
        for (joint, (value, &x)) in normalised.iter_mut().zip(state).enumerate() {
            *value = self.state.apply(joint, self.to_model(joint, x.into(), Gripper::state));
            if value.abs() > f64::from(f32::MAX) || value.is_nan() {
                return Err(unusable("a normalised state", None, joint, *value));
            }
        }
        Ok(())
    }

    /// Normalises a chunk `[H, D]` in the robot's units that begins at `state` `[S]`.
    ///
    /// # Errors
    /// As [`Self::apply_state`].
    pub fn apply_actions<T: Float>(&self, actions: &[T], state: &[T], normalised: &mut [f64]) -> Result<()> {
        self.check_state(state)?;
        self.check_chunk("actions", actions.len(), self.action_dim)?;
        same_length("normalised actions", actions.len(), normalised.len())?;
        for joint in 0..self.action_dim {
            let start = self.start(joint, state);
            let columns = normalised.iter_mut().zip(actions).skip(joint).step_by(self.action_dim);
            for (step, (value, &x)) in columns.enumerate() {
                let x = x.into();
                if !x.is_finite() {
                    return Err(unusable("actions", Some(step), joint, x));
                }
                *value = self.actions.apply(joint, self.to_model(joint, x, Gripper::action) - start);
                if !value.is_finite() {
                    return Err(unusable("normalised actions", Some(step), joint, *value));
                }
            }
        }
        Ok(())
    }

    /// Brings a model's answer `[H, width]` to actions `[H, D]` in the robot's units. What is beyond D in a step was
    /// padding. `state` `[S]` is the robot's, where the chunk begins.
    ///
    /// # Errors
    /// [`Error::Shape`]; [`Error::NotFinite`] of the state; [`Error::Unusable`] names a number of the answer or of an action
    /// that is NaN or infinite. Then `actions` holds nothing of meaning.
    pub fn invert_actions<T: Float, S: Float>(
        &self,
        answer: &[T],
        width: usize,
        state: &[S],
        actions: &mut [f64],
    ) -> Result<()> {
        self.check_state(state)?;
        if width < self.action_dim {
            return Err(Error::Shape {
                what: "a step of the model's",
                expected: self.action_dim,
                got: width,
            });
        }
        let rows = self.check_chunk("the model's actions", answer.len(), width)?;
        same_length("actions", rows.saturating_mul(self.action_dim), actions.len())?;
        for joint in 0..self.action_dim {
            let start = self.start(joint, state);
            let given = answer.iter().skip(joint).step_by(width);
            let columns = actions.iter_mut().skip(joint).step_by(self.action_dim);
            for (step, (value, &x)) in columns.zip(given).enumerate() {
                let wide: f64 = x.into();
                if !wide.is_finite() {
                    return Err(unusable("the model's actions", Some(step), joint, wide));
                }
                let mut action = self.actions.invert(joint, x);
                if !self.relative.is_empty() {
                    action += start;
                }
                if let Some(sign) = self.signs.get(joint) {
                    action *= sign;
                }
                if let Some(gripper) = self.gripper(joint) {
                    action = gripper.command(action);
                }
                if !action.is_finite() {
                    return Err(unusable("actions", Some(step), joint, action));
                }
                *value = action;
            }
        }
        Ok(())
    }

    fn gripper(&self, joint: usize) -> Option<Gripper> {
        self.grippers.get(joint).copied().flatten()
    }

    fn to_model(&self, joint: usize, x: f64, map: fn(Gripper, f64) -> f64) -> f64 {
        let x = self.signs.get(joint).map_or(x, |sign| x * sign);
        self.gripper(joint).map_or(x, |gripper| map(gripper, x))
    }

    /// What an action of this joint is relative to, in the model's frame; 0 for an absolute one.
    fn start<T: Float>(&self, joint: usize, state: &[T]) -> f64 {
        match (self.relative.get(joint), state.get(joint)) {
            (Some(true), Some(&x)) => self.to_model(joint, x.into(), Gripper::state),
            _ => 0.0,
        }
    }

    fn check_state<T: Float>(&self, state: &[T]) -> Result<()> {
        same_length("a state", self.state_dim, state.len())?;
        check_finite(state)
    }

    /// The steps of a chunk.
    fn check_chunk(&self, what: &'static str, len: usize, width: usize) -> Result<usize> {
        let rows = len.checked_div(width).unwrap_or(len);
        if rows == 0 || !len.is_multiple_of(width.max(1)) {
            return Err(Error::Shape { what, expected: width.saturating_mul(rows.max(1)), got: len });
        }
        Ok(rows)
    }
}

fn same_length(what: &'static str, expected: usize, got: usize) -> Result<()> {
    if expected == got { Ok(()) } else { Err(Error::Shape { what, expected, got }) }
}

#[cold]
fn unusable(what: &'static str, step: Option<usize>, joint: usize, value: f64) -> Error {
    Error::Unusable { what, step, joint, value }
}

/// Refuses a mask under which one joint would be subtracted from another.
fn check_mask(robot: &Robot, mask: &[bool]) -> Result<()> {
    let Robot { state_dim, action_dim, joint_names, state_names, .. } = robot;
    if mask.len() > *state_dim.min(action_dim) {
        return Err(refused(format!(
            "delta_mask covers {} dimensions; the state has {state_dim}, an action {action_dim}",
            mask.len()
        )));
    }
    let (joints, states): (HashSet<&String>, HashSet<&String>) =
        (joint_names.iter().collect(), state_names.iter().collect());
    for (dim, ((name, other), &relative)) in joint_names.iter().zip(state_names).zip(mask).enumerate() {
        if relative && name != other && (states.contains(name) || joints.contains(other)) {
            return Err(refused(format!(
                "delta_mask makes action {dim} ({}) relative to state {dim} ({}): the same joints are named in another \
                 order in the state",
                short(name),
                short(other)
            )));
        }
    }
    Ok(())
}
