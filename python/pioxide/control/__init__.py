"""The loop beside the robot: plays action chunks at a fixed rate, and bounds what reaches the motors.

Playing chunks while the next one is computed:
    Runner, RunState, ThreadWorker, Showing, Request, DelayEstimate
    run_loop, WallClock, LoopReport
    ActionQueue, OnEmpty

The last thing before the robot:
    SafetyFilter, Limits, LimitViolation
"""

from pioxide.control.loop import LoopReport, WallClock, run_loop
from pioxide.control.queue import ActionQueue, OnEmpty, Snapshot
from pioxide.control.runner import DelayEstimate, Request, Runner, RunState, Showing, Step, ThreadWorker
from pioxide.control.safety import Limits, LimitViolation, SafetyFilter

__all__ = [
    "ActionQueue",
    "DelayEstimate",
    "LimitViolation",
    "Limits",
    "LoopReport",
    "OnEmpty",
    "Request",
    "RunState",
    "Runner",
    "SafetyFilter",
    "Showing",
    "Snapshot",
    "Step",
    "ThreadWorker",
    "WallClock",
    "run_loop",
]
