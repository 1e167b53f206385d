"""How late a control loop's ticks are, with a real clock and a real thread, against a slow policy.

    python benches/loop.py                    # 50 Hz for a minute, 80 ms give or take 30
    python benches/loop.py --busy             # the policy multiplies matrices instead of waiting

The robot is a number that is where it was last told to be. The policy's action at step n is n, so a gap or a
repeat in what was played shows at once. On a busy machine ticks are late because nobody wakes the loop; what
the loop itself takes is counted in processor time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pioxide.control import (
    ActionQueue,
    DelayEstimate,
    Limits,
    OnEmpty,
    Request,
    Runner,
    SafetyFilter,
    Step,
    ThreadWorker,
    WallClock,
    run_loop,
)


class RecordingClock(WallClock):
    """Remembers by how much each sleep ended too late, in seconds."""

    def __init__(self) -> None:
        self.late: list[float] = []

    def sleep_until(self, when: float) -> None:
        super().sleep_until(when)
        self.late.append(self.now() - when)


class RecordingDelay(DelayEstimate):
    """Remembers every measured delay, in actions."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.every: list[float] = []

    def add(self, delay: float) -> None:
        super().add(delay)
        self.every.append(delay)


@dataclass
class RecordingRunner(Runner):
    """Remembers the processor time of each step, in seconds."""

    took: list[float] = field(default_factory=list)

    def step(self, observation: Mapping[str, Any], at: float | None = None) -> Step:
        start = time.thread_time()
        step = super().step(observation, at)
        self.took.append(time.thread_time() - start)
        return step


def counting_policy(
    horizon: int, seconds: Callable[[], float], *, busy: bool
) -> Callable[[Request], NDArray[np.float64]]:
    """Answers the next `horizon` whole numbers after `seconds()`."""
    matrix = np.full((200, 200), 1e-3)

    def policy(request: Request) -> NDArray[np.float64]:
        until = time.perf_counter() + seconds()
        while busy and time.perf_counter() < until:
            np.matmul(matrix, matrix)
        time.sleep(max(0.0, until - time.perf_counter()))
        return request.observation["step"] + np.arange(horizon, dtype=float)[:, None]

    return policy


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--hz", type=float, default=50.0)
    parser.add_argument("--latency-ms", type=float, default=80.0)
    parser.add_argument("--jitter-ms", type=float, default=30.0)
    parser.add_argument("--horizon", type=int, default=50)
    parser.add_argument("--busy", action="store_true", help="the policy computes instead of waiting")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)

    random = np.random.default_rng(options.seed)

    def latency() -> float:
        jitter = random.uniform(-options.jitter_ms, options.jitter_ms)
        return max(0.0, options.latency_ms + jitter) / 1e3

    worker = ThreadWorker(counting_policy(options.horizon, latency, busy=options.busy))
    clock, delay = RecordingClock(), RecordingDelay()
    safety = SafetyFilter(Limits(velocity=2 * options.hz, acceleration=1e6), dim=1, hz=options.hz)
    safety.reset([0.0])
    played: list[float] = []
    queue = ActionQueue(OnEmpty.HOLD)
    with RecordingRunner(worker, queue, options.horizon // 2, safety, delay) as runner:
        report = run_loop(
            runner,
            lambda: {"step": played[-1] + 1 if played else 0.0},
            lambda action: played.append(float(action[0])),
            hz=options.hz,
            seconds=options.seconds,
            clock=clock,
        )

    def spread(values: Sequence[float], digits: int) -> str:
        return " ".join(f"{value:.{digits}f}" for value in np.quantile(values or [np.nan], [0.5, 0.99, 1.0]))

    steps = np.diff(np.round(played, 6))
    late = [seconds * 1e3 for seconds in clock.late]
    missed = f"{report.missed} (over {100 / options.hz:g} ms late, or left out)"
    dropped = queue.late + queue.outdated
    print(
        f"{options.hz:g} Hz for {options.seconds:g} s, chunks of {options.horizon}, "
        f"policy {options.latency_ms:g} ± {options.jitter_ms:g} ms"
    )
    for name, value in {
        "ticks begun, missed": f"{report.ticks}, {missed}",
        "late by, p50 p99 max": f"{spread(late, 3)} ms",
        "a step takes, p50 p99 max": f"{spread([t * 1e3 for t in runner.took], 3)} ms of processor time",
        "chunks, dropped, failed": f"{runner.inferences}, {dropped}, {runner.errors}",
        "delay, p50 p99 max": f"{spread(delay.every, 0)} actions",
        "ticks without a fresh action": f"{queue.dry_ticks} (those before the first chunk are among them)",
        "played, gaps, repeats": f"{len(played)}, {(steps > 1).sum()}, {(steps < 1).sum()}",
    }.items():
        print(f"{name:32}{value}")


if __name__ == "__main__":
    main()
