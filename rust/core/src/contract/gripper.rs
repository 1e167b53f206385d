//! How a gripper's numbers map to those that the model was trained on, in the operations' order that Python has.

use crate::json::{Json, Read};

/// How a gripper's numbers map to those that the model was trained on. Nothing is clipped.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Gripper {
    /// On a line.
    Linear {
        /// What the robot measures where the model's number is 0, and where it is 1.
        measured: (f64, f64),
        /// What it is commanded there.
        commanded: (f64, f64),
    },
    /// ALOHA's: measured as a fraction of the finger's travel, commanded as one of the leader's angle, and known to the
    /// model as the motor's angle.
    Aloha,
}

/// ALOHA: metres between the fingers, closed and open, and the linkage between finger and motor.
const CLOSED: f64 = 0.01844;
const OPEN: f64 = 0.05800;
const ARM_LENGTH: f64 = 0.036;
const HORN_RADIUS: f64 = 0.022;
/// Radians of the motor that the model's 0 and 1 stand for, and the ends of the leader's command.
const ANGLE_LOW: f64 = 0.5476;
const ANGLE_HIGH: f64 = 1.6296;
const COMMAND_LOW: f64 = -0.6213;
const COMMAND_HIGH: f64 = 1.4910;

impl Gripper {
    /// From a measured value to the model's.
    pub(super) fn state(self, x: f64) -> f64 {
        match self {
            Self::Linear { measured: (zero, one), .. } => (x - zero) / (one - zero),
            Self::Aloha => {
                let linear = x * (OPEN - CLOSED) + CLOSED;
                let sine = (HORN_RADIUS * HORN_RADIUS + linear * linear - ARM_LENGTH * ARM_LENGTH)
                    / (2.0 * HORN_RADIUS * linear);
                (sine.clamp(-1.0, 1.0).asin() - ANGLE_LOW) / (ANGLE_HIGH - ANGLE_LOW)
            }
        }
    }

    /// From a commanded value to the model's, as in training.
    pub(super) fn action(self, x: f64) -> f64 {
        match self {
            Self::Linear { commanded: (zero, one), .. } => (x - zero) / (one - zero),
            Self::Aloha => x * (COMMAND_HIGH - COMMAND_LOW) + COMMAND_LOW - ANGLE_LOW,
        }
    }

    /// From the model's value to a command.
    pub(super) fn command(self, x: f64) -> f64 {
        match self {
            Self::Linear { commanded: (zero, one), .. } => zero + x * (one - zero),
            Self::Aloha => (x + ANGLE_LOW - COMMAND_LOW) / (COMMAND_HIGH - COMMAND_LOW),
        }
    }
}

/// Grippers under their dimensions, rising.
pub(super) fn by_dimension(value: &Json) -> Read<Vec<(usize, Gripper)>> {
    let mut read = value.each_value(|key, value| {
        let dim = key.bytes().all(|byte| byte.is_ascii_digit()).then(|| key.parse().ok()).flatten();
        Ok((dim.ok_or_else(|| "expected a dimension as its key".to_owned())?, gripper(value)?))
    })?;
    read.sort_unstable_by_key(|(dim, _)| *dim);
    match read.windows(2).find(|pair| matches!(pair, [(one, _), (other, _)] if one == other)) {
        Some(_) => Err("a dimension stands twice".to_owned()),
        None => Ok(read),
    }
}

fn gripper(value: &Json) -> Read<Gripper> {
    if matches!(value, Json::Text(kind) if kind == "aloha") {
        return Ok(Gripper::Aloha);
    }
    let fields = value.fields(&["measured", "commanded"])?;
    let measured = fields.needed("measured", ends)?;
    Ok(Gripper::Linear { measured, commanded: fields.optional("commanded", ends)?.unwrap_or(measured) })
}

fn ends(value: &Json) -> Read<(f64, f64)> {
    match *value.each(Json::number)? {
        [zero, one] if zero != one => Ok((zero, one)),
        _ => Err("expected two different numbers".to_owned()),
    }
}
