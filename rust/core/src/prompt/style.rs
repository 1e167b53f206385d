//! Whose prompts: openpi and LeRobot train the same three models on texts that differ, and weights need the text they
//! were trained on.

use super::to_i32;
use crate::{Result, SentencePiece};

/// The code base whose prompts are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PromptStyle {
    /// openpi's, and so the released models'.
    #[default]
    OpenPi,
    /// LeRobot's. π0: the text is not cleaned, and its newline is encoded together with it. π0-FAST: case is kept,
    /// newlines become spaces, and the answer begins with a second beginning of sequence, which carries no loss. All
    /// three: control pieces written out in a text, such as `<eos>`, are those pieces.
    LeRobot,
}

/// What prompts of one model may differ in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PromptOptions {
    /// Whose prompts.
    pub style: PromptStyle,
    /// Joints that the text holds: a narrower state is filled up with zeros, which become bin 128. `None` writes the
    /// state as it comes. LeRobot up to 0.4 wrote 32 joints, later versions and openpi those of the robot.
    pub state_width: Option<usize>,
}

impl PromptStyle {
    /// The ids of a text.
    pub(super) fn encode(self, text: &SentencePiece, prompt: &str) -> Result<Vec<i32>> {
        Ok(to_i32(&match self {
            Self::OpenPi => text.encode(prompt)?,
            Self::LeRobot => text.encode_with_marks(prompt)?,
        }))
    }
}
