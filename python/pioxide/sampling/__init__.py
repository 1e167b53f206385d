"""Algorithms over a model: Euler steps of a flow, tokens one after another.

sample_actions    π0 and π0.5, at `step_times`
sample_tokens     π0-FAST
"""

from pioxide.sampling.flow import sample_actions, step_times
from pioxide.sampling.tokens import sample_tokens

__all__ = ["sample_actions", "sample_tokens", "step_times"]
