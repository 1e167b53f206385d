"""How often a policy succeeded, with its uncertainty, by kind of instruction and by what was taken away."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pioxide.errors import InputError
from pioxide.evaluate.adapter import Variant
from pioxide.evaluate.lane import Outcome

Z95 = 1.959963984540054


def wilson(successes: int, trials: int, z: float = Z95) -> tuple[float, float]:
    """Returns the Wilson score interval of a rate; 95% by default.

    It stays inside [0, 1] and is honest where all or none succeed: 100 of 100 is at least 96.3%.

    Raises:
        InputError: There is no trial, or more successes than trials.
    """
    if not 0 <= successes <= trials or trials < 1:
        raise InputError(
            f"expected at least one trial, and successes among them, got {successes} of {trials}"
        )
    rate = successes / trials
    middle = (rate + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials**2))
    # At the ends the bounds are 0 and 1 exactly, where rounding would pass them by a hair.
    low = 0.0 if successes == 0 else max(0.0, middle - half)
    high = 1.0 if successes == trials else min(1.0, middle + half)
    return low, high


@dataclass(frozen=True)
class Score:
    """Successes among the episodes of one variant, of one kind of instruction or of all.

    Attributes:
        variant: What was taken from the policy.
        kind: Kind of instruction; "" for all.
        successes: Episodes in which the task was done.
        episodes: Episodes.
        low: Lower end of the 95% interval of the success rate.
        high: Upper end.
        steps: Mean number of actions of successful episodes; NaN where there are none.
        jerk: Mean jerk of all, see `Outcome`.
        limited: Share of actions that the safety filter changed.
    """

    variant: Variant
    kind: str
    successes: int
    episodes: int
    low: float
    high: float
    steps: float
    jerk: float
    limited: float

    @property
    def rate(self) -> float:
        """Returns the share of successes."""
        return self.successes / self.episodes

    def as_json(self) -> dict[str, Any]:
        """Returns plain values; `steps` is None where no episode succeeded."""
        return {
            "variant": str(self.variant),
            "kind": self.kind or "all",
            "successes": self.successes,
            "episodes": self.episodes,
            "rate": self.rate,
            "low": self.low,
            "high": self.high,
            "steps": None if math.isnan(self.steps) else self.steps,
            "jerk": self.jerk,
            "limited": self.limited,
        }


def scores(outcomes: Iterable[Outcome]) -> list[Score]:
    """Returns the scores by variant, each over all kinds first, then by kind where there are several."""
    outcomes = list(outcomes)
    found: list[Score] = []
    for variant in Variant:
        of_variant = [one for one in outcomes if one.episode.variant is variant]
        kinds = sorted({one.kind for one in of_variant})
        if of_variant:
            found.append(_score(variant, "", of_variant))
        if len(kinds) > 1:
            found += [_score(variant, kind, [o for o in of_variant if o.kind == kind]) for kind in kinds]
    return found


def _score(variant: Variant, kind: str, outcomes: Sequence[Outcome]) -> Score:
    done = [one for one in outcomes if one.success]
    low, high = wilson(len(done), len(outcomes))
    return Score(
        variant,
        kind,
        len(done),
        len(outcomes),
        low,
        high,
        float(np.mean([one.steps for one in done])) if done else math.nan,
        float(np.mean([one.jerk for one in outcomes])),
        sum(one.limited for one in outcomes) / sum(one.steps for one in outcomes),
    )
