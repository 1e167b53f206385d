"""What a person sees of a server: the page at `/`, the figures behind it, and the robots' last images."""

from __future__ import annotations

import base64
import io
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pioxide.control.safety import KINDS
from pioxide.serve.describe import in_words

if TYPE_CHECKING:
    from pioxide.policy import Policy, Prediction
    from pioxide.serve.messages import Ask

_KEPT = 512
_THUMBNAIL = 320
# Upper ends of the histogram's bars, in milliseconds; one more bar holds the rest.
EDGES = (2, 5, 10, 20, 35, 50, 75, 100, 150, 200, 350, 500, 1000)


@dataclass
class Watched:
    """One robot as the page shows it.

    Attributes:
        name: Where it connects from.
        since: When it connected, by `time.time`.
        images: Its last images by the robot's key.
        asked: When it asked last, by `time.time`; None before the first time.
        prompt: Its last instruction.
        chunk: [H, D] the last actions; None before the first.
        before: [H, D] the ones before them in the same episode.
        played: How many actions of `before` were played when `chunk` was asked for; None where the robot
            does not say.
        answers: Requests answered.
        refused: Requests refused, by code.
        limits: How often the robot's safety filter has changed an action since it connected, by kind.
        milliseconds: The last requests, from arrival to sending.
        age: Milliseconds of the last observation when it was answered.
    """

    name: str
    since: float = field(default_factory=time.time)
    images: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict[str, NDArray[np.uint8]])
    asked: float | None = None
    prompt: str = ""
    chunk: NDArray[np.float64] | None = None
    before: NDArray[np.float64] | None = None
    played: int | None = None
    answers: int = 0
    refused: dict[str, int] = field(default_factory=dict[str, int])
    limits: dict[str, int] = field(default_factory=dict[str, int])
    _generation: int = 0
    _told: Mapping[str, int] = field(default_factory=dict[str, int])
    milliseconds: deque[float] = field(default_factory=lambda: deque[float](maxlen=_KEPT))
    age: float = 0.0

    def saw(self, images: Mapping[str, NDArray[np.uint8]], prompt: str) -> None:
        """Takes what the robot sees; the images are kept until the next."""
        self.images, self.prompt, self.asked = images, prompt, time.time()

    def answered(self, ask: Ask, prediction: Prediction, total: float, age: float) -> None:
        """Takes one answer; times in seconds."""
        left = left_to_play(ask)
        self.before = self.chunk if ask.generation == self._generation else None
        self.chunk, self._generation = prediction.actions, ask.generation
        known = self.before is not None and left is not None
        self.played = max(0, len(self.chunk) - left) if known and left is not None else None
        self.answers += 1
        self.milliseconds.append(total * 1e3)
        self.age = age * 1e3

    def bitten(self, told: Mapping[str, int]) -> dict[str, int]:
        """Takes what a robot's safety filter has counted; returns what of it is new, by kind.

        A count that has fallen is another filter's, as of a new episode, and new as a whole.
        """
        before = self._told if all(told.get(kind, 0) >= n for kind, n in self._told.items()) else {}
        new: dict[str, int] = {}
        for kind, count in told.items():
            known = kind if kind in KINDS else "other"
            new[known] = new.get(known, 0) + count - before.get(kind, 0)
        for kind, count in new.items():
            self.limits[kind] = self.limits.get(kind, 0) + count
        self._told = told
        return new

    def refuse(self, code: str) -> None:
        """Counts one refusal."""
        self.refused[code] = self.refused.get(code, 0) + 1


def left_to_play(ask: Ask) -> int | None:
    """Returns how many actions a robot still had to play when it asked; None where it does not say."""
    if ask.left is None and ask.prev_chunk_left_over is not None:
        return len(ask.prev_chunk_left_over)
    return ask.left


def page() -> bytes:
    """Returns the page, which holds all that it needs but the figures."""
    return resources.files("pioxide.serve").joinpath("page.html").read_bytes()


def figures(
    policy: Policy, robots: Iterable[Watched], *, number: int, waiting: int, batches: int
) -> dict[str, Any]:
    """Returns what the page draws, as JSON values."""
    robots = list(robots)
    every = np.array([ms for robot in robots for ms in robot.milliseconds])
    counts = np.histogram(every, [0, *EDGES, np.inf])[0] if every.size else np.zeros(len(EDGES) + 1, int)
    quantiles = np.percentile(every, [50, 99]).tolist() if every.size else None
    spec = policy.robot
    return {
        "model": policy.contract.family.symbol,  # type: ignore[union-attr]
        "robot": spec.name,
        "hz": spec.hz,
        "horizon": policy.horizon,
        "names": list(spec.joint_names) or [f"action {d}" for d in range(spec.action_dim)],
        "units": list(spec.joint_units),
        "source": policy.contract.source,
        "policy": number,
        "waiting": waiting,
        "batches": batches,
        "quantiles": quantiles,
        "edges": list(EDGES),
        "histogram": counts.tolist(),
        "contract": in_words(policy.contract),
        "robots": [_robot(index, robot) for index, robot in enumerate(robots)],
    }


def _robot(index: int, robot: Watched) -> dict[str, Any]:
    return {
        "index": index,
        "name": robot.name,
        "seconds": time.time() - robot.since,
        "quiet": None if robot.asked is None else time.time() - robot.asked,
        "prompt": robot.prompt,
        "cameras": {key: _thumbnail(image) for key, image in robot.images.items()},
        "chunk": None if robot.chunk is None else robot.chunk.tolist(),
        "before": None if robot.before is None else robot.before.tolist(),
        "played": robot.played,
        "answers": robot.answers,
        "refused": robot.refused,
        "limits": dict(robot.limits),
        "last": robot.milliseconds[-1] if robot.milliseconds else None,
        "age": robot.age,
    }


def _thumbnail(image: NDArray[np.uint8]) -> str:
    """Returns an image as a data address, small enough to be sent every second."""
    from PIL import Image

    small = Image.fromarray(np.ascontiguousarray(image))
    small.thumbnail((_THUMBNAIL, _THUMBNAIL))
    out = io.BytesIO()
    small.save(out, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()
