"""Chooses among trials: accurate enough, fits into an answer, and then the easiest to predict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pioxide.shards.trials import Trial

# Chunks that may be clipped, as a share.
MOST_CLIPPED = 0.01
# Bits a chunk that are as good as the fewest.
AS_GOOD = 1.05


@dataclass(frozen=True)
class Recommendation:
    """Which codec, and why.

    Attributes:
        options: How `pioxide fit` makes it: the options to type.
        reasons: Whole sentences.
        suits: Whether it is all that was asked for, or only the nearest to it.
    """

    options: str
    reasons: list[str]
    suits: bool


def recommend(trials: Sequence[Trial], *, max_error: float, max_tokens: int) -> Recommendation:
    """Returns the codec whose tokens are easiest to predict among those that lose little enough.

    Among those within 5% of the fewest bits, the one of fewest tokens: each token costs a policy a pass.
    """
    faults = {id(trial): _faults(trial, max_error, max_tokens) for trial in trials}
    suitable = [trial for trial in trials if not faults[id(trial)]]
    if not suitable:
        nearest = min(trials, key=lambda t: (len(faults[id(t)]), _excess(t, max_error, max_tokens), t.bits))
        return Recommendation(
            nearest.options,
            [
                f"No codec that was tried suits: the nearest is {nearest.label}, and "
                f"{_listed(faults[id(nearest)])}."
            ],
            suits=False,
        )
    fewest = min(trial.bits for trial in suitable)
    best = min((t for t in suitable if t.bits <= AS_GOOD * fewest), key=lambda t: t.tokens["mean"])
    reasons = [
        f"{best.label}: {best.bits:,.0f} bits a chunk in {best.tokens['mean']:.0f} tokens, and its "
        f"error of {best.rms:.4f} is below {max_error:g}."
    ]
    reasons += _others(best, trials, faults, max_error, max_tokens)
    if best.bits > fewest:
        reasons.append(
            f"The fewest bits of a suitable codec are {fewest:,.0f}; it was chosen for its fewer tokens."
        )
    return Recommendation(best.options, reasons, suits=True)


def _others(
    best: Trial, trials: Sequence[Trial], faults: dict[int, list[str]], max_error: float, max_tokens: int
) -> list[str]:
    """A sentence for each other kind of codec: how its best compares, or why none suits."""
    reasons: list[str] = []
    for kind in dict.fromkeys(trial.codec for trial in trials if trial.codec != best.codec):
        own = [trial for trial in trials if trial.codec == kind]
        fit = [trial for trial in own if not faults[id(trial)]]
        if fit:
            other = min(fit, key=lambda t: t.bits)
            share = other.bits / best.bits
            compared = f"{share:.1f} times the bits" if share >= 1.15 else f"{other.bits:,.0f} bits"
            reasons.append(
                f"{other.label} is accurate enough too: {compared}, {other.tokens['mean']:.0f} tokens."
            )
        else:
            other = min(own, key=lambda t: (len(faults[id(t)]), _excess(t, max_error, max_tokens)))
            reasons.append(f"{other.label} does not suit: {_listed(faults[id(other)])}.")
    return reasons


def _faults(trial: Trial, max_error: float, max_tokens: int) -> list[str]:
    found: list[str] = []
    if trial.rms > max_error:
        found.append(f"its error of {trial.rms:.4f} is above {max_error:g}")
    if trial.clipped > MOST_CLIPPED:
        found.append(f"{trial.clipped:.1%} of the chunks are clipped")
    if trial.tokens["p99"] >= max_tokens:
        found.append(f"chunks take {trial.tokens['p99']:,.0f} tokens (99%), and an answer has {max_tokens:,}")
    return found


def _excess(trial: Trial, max_error: float, max_tokens: int) -> float:
    """How far a codec is from what is asked for, as a factor."""
    return max(trial.rms / max_error, 1) * max(trial.tokens["p99"] / max_tokens, 1)


def _listed(parts: Sequence[str]) -> str:
    return " and ".join(parts)
