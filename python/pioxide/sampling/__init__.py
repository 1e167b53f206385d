"""Algorithms over a model: Euler steps of a flow, tokens one after another.

sample_actions    π0 and π0.5
sample_tokens     π0-FAST
"""

from pioxide.sampling.flow import sample_actions
from pioxide.sampling.tokens import sample_tokens

__all__ = ["sample_actions", "sample_tokens"]
