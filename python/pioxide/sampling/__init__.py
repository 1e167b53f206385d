"""Algorithms over a model: Euler steps of a flow, tokens one after another.

sample_actions: π0 and π0.5, at `step_times`
sample_guided_rtc: the same, each chunk guided to continue the one before it (`RTCConfig`)
sample_trained_rtc: the same without a gradient, for weights trained with `training_time_rtc_loss`
Guided: a model whose velocity is guided away from that of a prompt without its advantage
sample_tokens: π0-FAST
sample_action_tokens: π0-FAST under a `Grammar`, so that every answer is a whole chunk
speculate_tokens, speculate_action_tokens: the same answers in fewer passes, from a `Draft`
"""

from pioxide.sampling.constrained import Grammar, sample_action_tokens
from pioxide.sampling.flow import sample_actions, step_times
from pioxide.sampling.guidance import Guided
from pioxide.sampling.realtime import (
    PrevChunkLeftOver,
    RTCAttentionSchedule,
    RTCConfig,
    pad_prev_chunk_left_over,
    sample_guided_rtc,
    sample_trained_rtc,
    training_time_rtc_loss,
)
from pioxide.sampling.speculative import (
    Draft,
    Speculation,
    speculate_action_tokens,
    speculate_tokens,
)
from pioxide.sampling.tokens import BROKEN, sample_tokens

__all__ = [
    "BROKEN",
    "Draft",
    "Grammar",
    "Guided",
    "PrevChunkLeftOver",
    "RTCAttentionSchedule",
    "RTCConfig",
    "Speculation",
    "pad_prev_chunk_left_over",
    "sample_action_tokens",
    "sample_actions",
    "sample_guided_rtc",
    "sample_tokens",
    "sample_trained_rtc",
    "speculate_action_tokens",
    "speculate_tokens",
    "step_times",
    "training_time_rtc_loss",
]
