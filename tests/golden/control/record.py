"""Records what `pioxide.control` does, for the Rust half to do the same; run by hand.

The filter's numbers in `control.json` were computed in NumPy, by code that the compiled one replaced.
"""

import json
from pathlib import Path

import numpy as np

from pioxide.control import ActionQueue, Limits, OnEmpty, SafetyFilter
from pioxide.errors import InputError

TICKS = 80
# Zeros of both signs, the ends of what is a number of a robot's (1e60) and of what is one at all.
EXTREMES = [0.0, -0.0, 1.0, -1.0, 0.5, 1e-9, 5e-324, 1e30, 1e59, 1e60, -1e60, np.nextafter(1e60, np.inf)]
EXTREMES += [1e308, -1e308, np.inf, -np.inf, np.nan]
RATES = [1e-9, 0.3, 20.0, 50.0, 1000.0, 1e9]


def texts(numbers):
    """Numbers to the last bit, also those for which JSON has no word."""
    return [repr(float(x)) for x in numbers]


def limited(dim, hz, limits):
    one_or_each = {kind: values[0] if len(values) == 1 else values for kind, values in limits.items()}
    return SafetyFilter(Limits(**one_or_each), dim, hz)


def played(name, filter_, limits, start, wanted, hold_before):
    """What a filter makes of each action, and which joints each limit changed."""
    violated = {}
    filter_.on_violation = lambda violation: violated.update({violation.kind: list(violation.joints)})
    filter_.reset(start)
    ticks = []
    for number, action in enumerate(wanted):
        if number == hold_before:
            filter_.hold()
        violated.clear()
        given = filter_(action)
        ticks.append({"wanted": texts(action), "given": texts(given), "violated": dict(violated)})
    return {
        "name": name,
        "hz": filter_.hz,
        "limits": {kind: texts(values) for kind, values in limits.items()},
        "start": texts(start),
        "hold_before": hold_before,
        "ticks": ticks,
    }


def safety(name, dim, hz, limits, scale):
    rng = np.random.default_rng(len(name))
    start = rng.normal(0, 1.5, dim)
    wanted = np.cumsum(rng.normal(0, scale, (TICKS, dim)), axis=0)
    wanted[20], wanted[21, 0] = 1e70, -np.inf
    wanted[40] *= 30
    return played(name, limited(dim, hz, limits), limits, start, wanted, hold_before=50)


def extreme(seed):
    """Limits, starts and actions at the ends of what numbers can be, and where two of them are equal."""
    rng = np.random.default_rng(seed)
    dim, hz = int(rng.integers(1, 4)), float(rng.choice(RATES))
    while True:
        limits = {
            kind: rng.choice(EXTREMES, dim)
            for kind in ("low", "high", "velocity", "acceleration")
            if rng.random() < 0.6
        }
        try:
            filter_ = limited(dim, hz, limits)
        except InputError:
            continue
        break
    start = rng.choice(EXTREMES, dim)
    start[~(np.abs(start) <= 1e60)] = 0.0
    wanted = rng.choice(EXTREMES, (20, dim))
    usable = rng.random((20, 1)) < 0.7
    wanted = np.where(usable & ~(np.abs(wanted) <= 1e60), -0.5, wanted)
    return played(f"extreme {seed}", filter_, limits, start, wanted, hold_before=10)


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
        events.append(taken(made))
    return {"on_empty": on_empty.value, "slow_below": slow_below, "events": events, "counts": counts(made)}


def random_queue(seed):
    """Whatever may be done to a queue, in any order: chunks early, late, outdated and refused among it."""
    rng = np.random.default_rng(seed)
    on_empty = list(OnEmpty)[seed % 3]
    slow_below = int(rng.integers(1, 6)) if on_empty is OnEmpty.SLOW else 0
    made = ActionQueue(on_empty, slow_below)
    events, asked = [], [0.0]
    for _ in range(80):
        what = rng.random()
        if what < 0.15:
            asked.append(made.snapshot().consumed)
        elif what < 0.18:
            made.clear()
            events.append({"clear": True})
        elif what < 0.35:
            chunk = np.round(rng.normal(size=(rng.integers(0, 9), 2)), 3)
            if rng.random() < 0.1 and chunk.size:
                chunk[-1, 1] = rng.choice([np.nan, np.inf, -np.inf])
            since = (
                asked[-1] if rng.random() < 0.7 else rng.choice([*asked, asked[-1] + 0.5, -np.inf, np.nan])
            )
            event = {"put": [texts(row) for row in chunk], "since": repr(float(since))}
            try:
                event["delay"] = made.put(chunk, float(since))
            except InputError:
                event["refused"] = True
            events.append(event)
        else:
            events.append(taken(made))
    return {"on_empty": on_empty.value, "slow_below": slow_below, "events": events, "counts": counts(made)}


def taken(made):
    action, dry = made.take()
    left = made.snapshot()
    return {
        "take": None if action is None else action.tolist(),
        "dry": dry,
        "remaining": made.remaining(),
        "consumed": left.consumed,
        "leftover": left.leftover.tolist(),
    }


def counts(made):
    return {"late": made.late, "outdated": made.outdated, "dry_ticks": made.dry_ticks}


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
            *(extreme(seed) for seed in range(60)),
        ],
        "queue": [
            queue(OnEmpty.HOLD, 0),
            queue(OnEmpty.STOP, 0),
            queue(OnEmpty.SLOW, 3),
            *(random_queue(seed) for seed in range(30)),
        ],
    }


if __name__ == "__main__":
    target = Path(__file__).with_name("control.json")
    target.write_text(json.dumps(record(), separators=(",", ":")) + "\n")
