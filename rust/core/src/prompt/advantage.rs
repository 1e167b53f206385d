//! What is said of the actions behind an instruction, to weights that were trained on good and bad ones.

use std::borrow::Cow;

use super::clean::is_space;
use crate::{Error, Result};

/// Whether actions are better than what usually happens (RECAP, arXiv 2511.14759).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advantage {
    /// They are: what a policy is asked for.
    Positive,
    /// They are not.
    Negative,
}

impl Advantage {
    const ALL: [Self; 2] = [Self::Positive, Self::Negative];

    fn said(self) -> &'static str {
        match self {
            Self::Positive => "Advantage: positive",
            Self::Negative => "Advantage: negative",
        }
    }

    /// The instruction with the advantage in a line of its own behind it; `None` leaves it as it is.
    pub(super) fn behind(advantage: Option<Self>, prompt: &str) -> Result<Cow<'_, str>> {
        let Some(advantage) = advantage else { return Ok(prompt.into()) };
        let text = prompt.trim_end_matches(is_space);
        let lower = text.to_lowercase();
        if Self::ALL.iter().any(|one| lower.ends_with(&one.said().to_lowercase())) {
            let why = "it says its advantage already, which these prompts add; leave it out".to_owned();
            return Err(Error::Argument { what: "instruction", why });
        }
        Ok(format!("{text}\n{}", advantage.said()).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_advantage_stands_once_in_a_line_of_its_own() {
        let positive = Some(Advantage::Positive);
        assert_eq!(Advantage::behind(None, "fold \n").unwrap(), "fold \n");
        assert_eq!(Advantage::behind(positive, "fold \x1f\n").unwrap(), "fold\nAdvantage: positive");
        for said in ["fold, advantage: Negative \n", "fold\nAdvantage: positive"] {
            assert!(Advantage::behind(positive, said).unwrap_err().to_string().contains("already"));
        }
    }
}
