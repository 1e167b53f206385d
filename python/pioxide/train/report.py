"""What a run says of itself: means over the updates since the last line, and who is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import numpy as np
from numpy.typing import NDArray

from pioxide.train.config import TrainConfig
from pioxide.train.losses import NAMED_MEANS, Mean
from pioxide.train.step import StepResult


@dataclass(frozen=True)
class Report:
    """The updates since the last report.

    Attributes:
        step: Updates done.
        updates: How many of them are new.
        loss: Mean over all that counted in them.
        grad_norm: Mean over the updates, before clipping.
        clipped: Which share of the updates was clipped.
        update_norm: Mean.
        param_norm: At the last one.
        learning_rate: Of the last one.
        by_dimension: [W] π0 and π0.5's loss by dimension, NaN for padded ones; or None.
        by_time: [TIME_BINS] by flow time; or None.
        accuracy: Share of tokens that had the best score, where tokens are learnt; or None.
        flow: The flow's loss, where tokens are learnt beside it; or None.
        entropy: The tokens' loss there; or None.
    """

    step: int
    updates: int
    loss: float
    grad_norm: float
    clipped: float
    update_norm: float
    param_norm: float
    learning_rate: float
    by_dimension: NDArray[np.float64] | None
    by_time: NDArray[np.float64] | None
    accuracy: float | None
    flow: float | None = None
    entropy: float | None = None

    def numbers(self) -> dict[str, float]:
        """Returns all that are finite, by name."""
        flat: dict[str, float] = {
            "loss": self.loss,
            "grad_norm": self.grad_norm,
            "clipped": self.clipped,
            "update_norm": self.update_norm,
            "param_norm": self.param_norm,
            "learning_rate": self.learning_rate,
        }
        for name, field in NAMED_MEANS.items():
            if (value := getattr(self, field)) is not None:
                flat[name] = value
        for name, values in (("loss_dimension", self.by_dimension), ("loss_time", self.by_time)):
            if values is not None:
                flat |= {f"{name}/{i:02d}": float(v) for i, v in enumerate(values)}
        return {name: value for name, value in flat.items() if np.isfinite(value)}


class Reporter(Protocol):
    """Somebody who is told: a progress bar, TensorBoard, a tracker."""

    def updated(self, report: Report) -> None:
        """Reports updates that are done."""
        ...

    def judged(self, step: int, numbers: dict[str, float]) -> None:
        """Reports how the policy was judged."""
        ...


def report_of(step: int, config: TrainConfig, results: Sequence[StepResult]) -> Report:
    """Returns the report of some updates."""
    host: list[StepResult] = jax.device_get(list(results))
    norms = np.array([one.grad_norm for one in host], np.float64)
    parts = [one.parts for one in host]

    def mean(name: str) -> Any:
        means = [getattr(one, name) for one in parts]
        return None if means[0] is None else _mean(means)

    return Report(
        step,
        len(host),
        float(mean("loss")),
        float(norms.mean()),
        float((norms > config.optimizer.clip).mean()),
        float(np.mean([one.update_norm for one in host])),
        float(host[-1].param_norm),
        float(host[-1].learning_rate),
        mean("by_dimension"),
        mean("by_time"),
        *(None if (one := mean(name)) is None else float(one) for name in NAMED_MEANS.values()),
    )


def _mean(means: Sequence[Mean]) -> Any:
    total = np.sum([np.asarray(one.total, np.float64) for one in means], axis=0)
    count = np.sum([np.asarray(one.counted, np.float64) for one in means], axis=0)
    return np.where(count > 0, total / np.maximum(count, 1e-9), np.nan)
