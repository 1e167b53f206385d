"""A trained model as a function of what a robot sees, in the robot's own numbers. Needs JAX.

    Policy, PolicyOptions, Prediction, Timing, SpeculativeStats
    SubtaskOptions, Subtask: what π0.5 says that it does next
    Session, Continuation: one robot's part of a policy that several share
    agree: one contract out of what checkpoint, robot and person say; model_contract: of a model of yours
    FlowSampler, TokenSampler: how a model answers
    RTCConfig, RTCAttentionSchedule: how a chunk continues the one before
    compare_policies, PolicyDifference: how far an inexact option moves the actions
    keep_programs: keep compiled programs on disk

The loop that plays its chunks, and the limits on them, are in `pioxide.control`.
"""

from pioxide.engine import FlowSampler, SpeculativeStats, TokenSampler, keep_programs
from pioxide.policy.agree import agree, model_contract
from pioxide.policy.answer import PolicyOptions, Prediction, SubtaskOptions, Timing
from pioxide.policy.compare import PolicyDifference, compare_policies
from pioxide.policy.continuation import Continuation
from pioxide.policy.policy import Policy
from pioxide.policy.session import Session, Subtask
from pioxide.sampling import RTCAttentionSchedule, RTCConfig

__all__ = [
    "Continuation",
    "FlowSampler",
    "Policy",
    "PolicyDifference",
    "PolicyOptions",
    "Prediction",
    "RTCAttentionSchedule",
    "RTCConfig",
    "Session",
    "SpeculativeStats",
    "Subtask",
    "SubtaskOptions",
    "Timing",
    "TokenSampler",
    "agree",
    "compare_policies",
    "keep_programs",
    "model_contract",
]
