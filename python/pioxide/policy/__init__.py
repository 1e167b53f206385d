"""A policy in a control loop: what plays its chunks, what bounds its actions.

The loop's side, NumPy only:
    Runner, ThreadWorker, Request, Chunk, DelayEstimate, run_loop
    ActionQueue, OnEmpty

The last thing before the robot:
    SafetyFilter, Limits, Bite
"""

from pioxide.policy.queue import ActionQueue, OnEmpty, Snapshot
from pioxide.policy.runner import (
    Chunk,
    DelayEstimate,
    LoopReport,
    Request,
    Runner,
    Step,
    ThreadWorker,
    run_loop,
)
from pioxide.policy.safety import Bite, Limits, SafetyFilter

__all__ = [
    "ActionQueue",
    "Bite",
    "Chunk",
    "DelayEstimate",
    "Limits",
    "LoopReport",
    "OnEmpty",
    "Request",
    "Runner",
    "SafetyFilter",
    "Snapshot",
    "Step",
    "ThreadWorker",
    "run_loop",
]
