"""Algorithms over a model: Euler steps of a flow, tokens one after another.

sample_actions    π0 and π0.5, at `step_times`
sample_guided     π0 and π0.5, a chunk guided to continue the one before (`Guidance`, `pad_leftover`)
sample_continued  π0 and π0.5 trained with `delayed_loss`: the same without a gradient
sample_tokens     π0-FAST
sample_action_tokens  π0-FAST under a `Grammar`: whatever it writes is a whole chunk
speculate_tokens, speculate_action_tokens  the same answers in fewer passes, from a `Draft`
"""

from pioxide.sampling.constrained import Grammar, sample_action_tokens
from pioxide.sampling.flow import sample_actions, step_times
from pioxide.sampling.realtime import (
    Guidance,
    Leftover,
    Schedule,
    delayed_loss,
    pad_leftover,
    sample_continued,
    sample_guided,
)
from pioxide.sampling.speculative import (
    Draft,
    Speculation,
    speculate_action_tokens,
    speculate_tokens,
)
from pioxide.sampling.tokens import sample_tokens

__all__ = [
    "Draft",
    "Grammar",
    "Guidance",
    "Leftover",
    "Schedule",
    "Speculation",
    "delayed_loss",
    "pad_leftover",
    "sample_action_tokens",
    "sample_actions",
    "sample_continued",
    "sample_guided",
    "sample_tokens",
    "speculate_action_tokens",
    "speculate_tokens",
    "step_times",
]
