"""A trained model as a function of what a robot sees, in the robot's own numbers. Needs JAX.

    Policy, PolicyOptions, Prediction, Timing, SpeculativeStats
    FlowSampler, TokenSampler: how a model answers
    RTCConfig, RTCAttentionSchedule: how a chunk continues the one before
    compare_policies, PolicyDifference: how far an inexact option moves the actions
    keep_programs: keep compiled programs on disk

The loop that plays its chunks, and the limits on them, are in `pioxide.control`.
"""

from pioxide.engine import FlowSampler, SpeculativeStats, TokenSampler, keep_programs
from pioxide.policy.compare import PolicyDifference, compare_policies
from pioxide.policy.policy import Policy, PolicyOptions, Prediction, Timing
from pioxide.sampling import RTCAttentionSchedule, RTCConfig

__all__ = [
    "FlowSampler",
    "Policy",
    "PolicyDifference",
    "PolicyOptions",
    "Prediction",
    "RTCAttentionSchedule",
    "RTCConfig",
    "SpeculativeStats",
    "Timing",
    "TokenSampler",
    "compare_policies",
    "keep_programs",
]
