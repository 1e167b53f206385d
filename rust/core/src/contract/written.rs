//! The prompts that a contract asks for.

use std::sync::Arc;

use super::{Contract, refused, stated};
use crate::prompt::{
    Advantage, Family, FastIds, PromptOptions, Prompts, SubtaskOptions, SubtaskPrompts, is_blank,
};
use crate::{Result, SentencePiece};

impl Contract {
    /// The prompts of its family and style. Rows have [`Contract::text_len`] ids. Where [`Contract::subtask_style`] says so,
    /// what stands in the instruction's place is the subtask that the model wrote. Where [`Contract::advantage_style`] says
    /// so, each instruction says that the actions are good ones.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) names a field that is unknown, or what the family can't do, or the
    /// vocabulary can't hold.
    pub fn prompts(&self, text: Arc<SentencePiece>) -> Result<Prompts> {
        let advantage = self.advantage_style.flatten().map(|_| Advantage::Positive);
        Ok(self.plain_prompts(text)?.with_advantage(advantage))
    }

    fn plain_prompts(&self, text: Arc<SentencePiece>) -> Result<Prompts> {
        const DOING: &str = "writing prompts";
        let family = *stated(&self.family, "family", DOING)?;
        let style = *stated(&self.prompt_style, "prompt_style", DOING)?;
        let in_text = *stated(&self.state_in_text, "state_in_text", DOING)?;
        stated(&self.text_len, "text_len", DOING)?;
        let reads = match family {
            Family::Pi0 => false,
            Family::Pi05 => in_text,
            Family::Pi0Fast => true,
        };
        if in_text != reads {
            let how = if reads { "always" } else { "never" };
            return Err(refused(format!(
                "state_in_text is {in_text}, and the prompt of {family:?} {how} holds the state"
            )));
        }
        if !in_text {
            return Prompts::pi0(text, style);
        }
        let state_width = *stated(&self.state_text_dim, "state_text_dim", DOING)?;
        let options = PromptOptions { style, state_width };
        if family == Family::Pi05 {
            return Prompts::pi05(text, options);
        }
        match stated(&self.fast, "fast", DOING)? {
            Some(actions) => Prompts::pi0_fast(text, FastIds::new(actions.vocab_size), options),
            None => Err(refused("it has no action tokens, and π0-FAST writes some".to_owned())),
        }
    }

    /// How its model is asked for a subtask, which then stands in the instruction's place in [`Self::prompts`]. Rows have
    /// [`Contract::text_len`] ids.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) names a field that is unknown, or where the model is not π0.5 or did not
    /// learn to write subtasks.
    pub fn subtask_prompts(&self, text: Arc<SentencePiece>) -> Result<SubtaskPrompts> {
        const DOING: &str = "writing subtasks";
        let family = *stated(&self.family, "family", DOING)?;
        stated(&self.text_len, "text_len", DOING)?;
        let reads_state = *stated(&self.state_in_text, "state_in_text", DOING)?;
        let style = stated(&self.subtask_style, "subtask_style", DOING)?;
        if family != Family::Pi05 {
            return Err(refused(format!("{family:?} writes no subtasks, Pi05 does")));
        }
        if style.is_none() {
            let why =
                "subtask_style says that these weights did not learn to write subtasks; train them on some";
            return Err(refused(why.to_owned()));
        }
        let state_width =
            if reads_state { *stated(&self.state_text_dim, "state_text_dim", DOING)? } else { None };
        SubtaskPrompts::new(text, SubtaskOptions { reads_state, state_width })
    }

    /// The instruction of an observation: its own, or the contract's where it has none.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) where neither says anything.
    pub fn instruction<'a>(&'a self, own: &'a str) -> Result<&'a str> {
        let otherwise = self.default_prompt.as_ref().and_then(Option::as_deref);
        let found = [Some(own), otherwise].into_iter().flatten().find(|text| !is_blank(text));
        found.ok_or_else(|| refused("there is no instruction, and no default_prompt".to_owned()))
    }
}
