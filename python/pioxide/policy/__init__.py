"""A trained model as a function of what a robot sees, in the robot's own numbers. Needs JAX.

    Policy, PolicyOptions, Prediction, Timing, Speculated
    RTCConfig, RTCAttentionSchedule: how a chunk continues the one before
    compare_policies, PolicyDifference: how far an inexact option moves the actions
    keep_programs: keep compiled programs on disk

The loop that plays its chunks, and the limits on them, are in `pioxide.control`.
"""

from pioxide.engine.compile import keep_programs
from pioxide.policy.compare import PolicyDifference, compare_policies
from pioxide.policy.policy import Policy, PolicyOptions, Prediction, Speculated, Timing
from pioxide.sampling import RTCAttentionSchedule, RTCConfig

__all__ = [
    "Policy",
    "PolicyDifference",
    "PolicyOptions",
    "Prediction",
    "RTCAttentionSchedule",
    "RTCConfig",
    "Speculated",
    "Timing",
    "compare_policies",
    "keep_programs",
]
