"""A policy in a control loop: what plays its chunks, what bounds its actions.

The loop's side, NumPy only:
    Runner, ThreadWorker, Request, DelayEstimate
    run_loop, WallClock, LoopReport
    ActionQueue, OnEmpty

The last thing before the robot:
    SafetyFilter, Limits, Bite

The policy itself, which imports JAX when it is first asked for:
    Policy, PolicyOptions, Prediction, Timing, Speculated, Guidance, Schedule, keep_programs
    deviation, Deviation: how far an inexact option moves the actions
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pioxide.policy.loop import LoopReport, WallClock, run_loop
from pioxide.policy.queue import ActionQueue, OnEmpty, Snapshot
from pioxide.policy.runner import (
    DelayEstimate,
    Request,
    Runner,
    Step,
    ThreadWorker,
)
from pioxide.policy.safety import Bite, Limits, SafetyFilter

if TYPE_CHECKING:
    from pioxide.policy.compile import keep_programs
    from pioxide.policy.policy import Policy, PolicyOptions, Prediction, Speculated, Timing
    from pioxide.policy.quantize import Deviation, deviation
    from pioxide.sampling import Guidance, Schedule

_WITH_JAX = {
    "keep_programs": "pioxide.policy.compile",
    **dict.fromkeys(
        ("Policy", "PolicyOptions", "Prediction", "Speculated", "Timing"), "pioxide.policy.policy"
    ),
    **dict.fromkeys(("Deviation", "deviation"), "pioxide.policy.quantize"),
    **dict.fromkeys(("Guidance", "Schedule"), "pioxide.sampling"),
}


def __getattr__(name: str) -> Any:
    if name not in _WITH_JAX:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_WITH_JAX[name]), name)


__all__ = [
    "ActionQueue",
    "Bite",
    "DelayEstimate",
    "Deviation",
    "Guidance",
    "Limits",
    "LoopReport",
    "OnEmpty",
    "Policy",
    "PolicyOptions",
    "Prediction",
    "Request",
    "Runner",
    "SafetyFilter",
    "Schedule",
    "Snapshot",
    "Speculated",
    "Step",
    "ThreadWorker",
    "Timing",
    "WallClock",
    "deviation",
    "keep_programs",
    "run_loop",
]
