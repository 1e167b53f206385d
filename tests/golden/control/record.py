"""Records what `pioxide.control` does, for the Rust half to do the same; run by hand."""

import json
from pathlib import Path

import numpy as np

from pioxide.control import ActionQueue, Limits, OnEmpty, SafetyFilter

TICKS = 80


def safety(name, dim, hz, limits, scale):
    rng = np.random.default_rng(len(name))
    one_or_each = {kind: values[0] if len(values) == 1 else values for kind, values in limits.items()}
    filter_ = SafetyFilter(Limits(**one_or_each), dim, hz)
    start = rng.normal(0, 1.5, dim)
    filter_.reset(start)
    wanted = np.cumsum(rng.normal(0, scale, (TICKS, dim)), axis=0)
    wanted[20], wanted[21, 0] = 1e70, -np.inf
    wanted[40] *= 30
    ticks = []
    for number, action in enumerate(wanted):
        if number == 50:
            filter_.hold()
        before = dict(filter_.counts)
        given = filter_(action)
        violated = [kind for kind in before if filter_.counts[kind] > before[kind]]
        ticks.append(
            {"wanted": [repr(float(x)) for x in action], "given": given.tolist(), "violated": violated}
        )
    return {
        "name": name,
        "hz": hz,
        "limits": limits,
        "start": start.tolist(),
        "hold_before": 50,
        "ticks": ticks,
    }


def queue(on_empty, slow_below):
    rng = np.random.default_rng(3)
    made = ActionQueue(on_empty, slow_below)
    events = []
    since = 0.0
    for number in range(60):
        if number % 13 in (0, 4):
            since = made.snapshot().consumed
        if number % 13 in (2, 6) or number == 40:
            chunk = np.round(rng.normal(size=(rng.integers(1, 7), 2)), 3)
            put_since = since - (20 if number == 40 else 0)
            delay = made.put(chunk, put_since)
            events.append({"put": chunk.tolist(), "since": put_since, "delay": delay})
        if number == 50:
            made.clear()
            events.append({"clear": True})
        taken = made.take()
        action = None if taken.action is None else taken.action.tolist()
        left = made.snapshot()
        events.append(
            {
                "take": action,
                "dry": taken.dry,
                "remaining": made.remaining(),
                "consumed": left.consumed,
                "leftover": left.leftover.tolist(),
            }
        )
    counts = {"late": made.late, "outdated": made.outdated, "dry_ticks": made.dry_ticks}
    return {"on_empty": on_empty.value, "slow_below": slow_below, "events": events, "counts": counts}


def record():
    """Everything, as JSON values."""
    return {
        "safety": [
            safety("free", 2, 50.0, {}, 0.1),
            safety("range and speed", 3, 50.0, {"low": [-1.0], "high": [1.0], "velocity": [2.0]}, 0.1),
            safety(
                "all of them",
                3,
                100.0,
                {
                    "low": [-1.0, -0.5, -2.0],
                    "high": [1.0, 0.7, 2.5],
                    "velocity": [3.0, 1.0, 2.0],
                    "acceleration": [20.0, 5.0, 40.0],
                },
                0.05,
            ),
            safety("soft", 1, 20.0, {"acceleration": [3.0]}, 0.1),
        ],
        "queue": [queue(OnEmpty.HOLD, 0), queue(OnEmpty.STOP, 0), queue(OnEmpty.SLOW, 3)],
    }


if __name__ == "__main__":
    target = Path(__file__).with_name("control.json")
    target.write_text(json.dumps(record(), separators=(",", ":")) + "\n")
