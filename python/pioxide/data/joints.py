"""What is odd about joints over all episodes of a dataset: part of `data.checks`, from its summaries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from pioxide.data.findings import Code, Finding, Quantity, Spot, numbers
from pioxide.data.summary import ColumnSummary, EpisodeSummary, Floats

# A joint that has one value in at least this share of the frames moves seldom: its q01 and q99 are equal.
SELDOM = 0.98
# Values further beyond q01..q99 than so many times their distance are outliers.
FAR = 5.0
# What normalisation adds to q99 - q01 and to the standard deviation before it divides by them.
TINY = 1e-6
# Steps from frame to frame against the spread within an episode: 1 for white noise, near 0 for motion.
NOISE = 0.5
# A ratio that all joints share between episodes, and what it means.
UNITS = {57.29578: "degrees and radians", 1000.0: "millimetres and metres", 100.0: "per cent and fractions"}
UNIT_TOLERANCE = 0.25  # of the ratio's logarithm
GRIPPERS = ("gripper", "grip", "jaw", "claw")
MOST = 5  # joints that are named one by one


def units(summaries: Sequence[EpisodeSummary]) -> tuple[list[Finding], set[int]]:
    """Episodes of which all joints are larger or smaller by a ratio that a change of units explains."""
    found: list[Finding] = []
    unlike: set[int] = set()
    for what in ("state", "actions"):
        parts = [s.state if what == "state" else s.actions for s in summaries]
        size: Floats = np.array([np.maximum(np.abs(p.low), np.abs(p.high)) for p in parts])
        usable = (size > 1e-9).all(axis=0)
        if not usable.any() or len(summaries) < 2:
            continue
        logs = np.log(size[:, usable])
        level = np.median(logs - np.median(logs, axis=0), axis=1)
        order = np.sort(level)
        gap = int(np.argmax(np.diff(order)))
        if order[gap] == order[gap + 1]:  # all alike
            continue
        border = (order[gap] + order[gap + 1]) / 2
        small = level < border
        # The joints themselves must agree on the ratio, and not only their median.
        apart = np.median(logs[~small], axis=0) - np.median(logs[small], axis=0)
        ratio = float(np.median(apart))
        for factor, units in UNITS.items():
            together = np.mean(np.abs(apart - ratio) < 0.7)
            if abs(ratio - np.log(factor)) > UNIT_TOLERANCE * np.log(factor) / 2 or together < 0.5:
                continue
            fewer = small if small.sum() * 2 < len(small) else ~small
            indices = tuple(s.index for s, chosen in zip(summaries, fewer, strict=True) if chosen)
            kind = "smaller" if fewer is small else "larger"
            message = f"all joints of the {what} are about {np.exp(ratio):.0f} times {kind} than elsewhere"
            way_out = f"as {units} are apart: convert these episodes"
            found.append(Finding(Code.UNITS, numbers(indices, "episode"), message, way_out, indices))
            unlike.update(indices)
            break
    return found, unlike


class Joints:
    """The joints of the state or of the actions, over all episodes."""

    def __init__(
        self, quantity: Quantity, names: Sequence[str], parts: Sequence[tuple[int, int, ColumnSummary]]
    ) -> None:
        self.quantity, self.names, self.parts = quantity, names, parts
        self.indices = [index for index, _, _ in parts]
        self.frames = sum(length for _, length, _ in parts)
        self.low = self._array("low")
        self.high = self._array("high")
        sample = np.concatenate([part.sample for _, _, part in parts]).astype(np.float64)
        self.q01, self.q99 = np.quantile(sample, [0.01, 0.99], axis=0)
        self.width = self.q99 - self.q01
        self.common, self.share = self._commonest()

    @property
    def constant(self) -> NDArray[np.bool_]:
        """Returns [D] joints that never move."""
        return self.low.min(axis=0) == self.high.max(axis=0)

    @property
    def stuck(self) -> NDArray[np.bool_]:
        """Returns [D] joints that move so seldom that q01 equals q99."""
        return (self.share >= SELDOM) & ~self.constant

    @property
    def noisy(self) -> NDArray[np.bool_]:
        """Returns [D] joints whose steps are as large as their spread."""
        if self.frames < 20 * len(self.parts):
            return np.zeros(len(self.names), bool)
        steps, spread = self._array("step_squares"), self._array("squares")
        # Of the episode in the middle: a single jump in one makes no noise of a joint.
        ratio = np.median(np.divide(steps, 2 * spread, out=np.zeros(steps.shape), where=spread > 0), axis=0)
        return (ratio > NOISE) & ~self.constant & ~self.stuck

    @property
    def far(self) -> tuple[Floats, Floats]:
        """Returns [episodes, D] how far values lie beyond q01 and q99 at most, in the distance of these."""
        usable = ~self.constant & ~self.stuck & (self.width > 0)
        over = np.where(usable, self.width, 1)
        above = np.where(usable, (self.high - self.q99) / over, 0)
        return above, np.where(usable, (self.q01 - self.low) / over, 0)

    @property
    def outlying(self) -> NDArray[np.bool_]:
        """Returns [episodes, D] where there are outliers."""
        return np.maximum(*self.far) > FAR

    def still(self) -> list[Finding]:
        """Joints that have one value."""
        way_out = "check the sensor, or drop the joint: where it does move, its numbers are far out of range"
        joints = np.flatnonzero(self.constant)
        if not joints.size:
            return []
        value = self.low.min(axis=0)[joints[0]]
        message = "never moves" + (f" from {value:g}" if joints.size == 1 else "")
        return [Finding(Code.STILL, self.place(joints), message, way_out)]

    def tiny(self) -> list[Finding]:
        """Joints of which normalisation leaves next to nothing."""
        way_out = "record it in smaller units; where it is noise of a joint at rest, drop the joint"
        joints = np.flatnonzero((self.width > 0) & (self.width < TINY) & ~self.stuck)
        if not joints.size:
            return []
        message = (
            f"98% of its values lie within {self.width[joints].max():.3g}, and normalisation divides by that "
            f"plus {TINY:g}: next to nothing is left of its motion"
        )
        return [Finding(Code.TINY, self.place(joints), message, way_out)]

    def seldom(self) -> list[Finding]:
        """Joints that have one value but for a few frames."""
        found = []
        for joint in np.flatnonzero(self.stuck)[:MOST]:
            other = [
                (index, part)
                for index, _, part in self.parts
                if part.low[joint] != self.common[joint] or part.high[joint] != self.common[joint]
            ]
            index, part = other[0]
            at = part.low_at if part.low[joint] != self.common[joint] else part.high_at
            message = (
                f"is {self.common[joint]:g} in {self.share[joint]:.1%} of the frames, so that q01 equals q99 "
                "and quantile normalisation blows the others up"
            )
            way_out = "drop the joint, leave its episodes out, or use --normalization zscore"
            place = f"{self.place([joint])}, first in episode {index}, frame {at[joint]}"
            spot = self.spot(joint, index, int(at[joint]))
            found.append(Finding(Code.SELDOM, place, message, way_out, tuple(i for i, _ in other), spot))
        return found

    def noise(self) -> list[Finding]:
        """Joints whose steps are as large as their spread."""
        joints = np.flatnonzero(self.noisy)
        if not joints.size:
            return []
        message = "jumps from frame to frame as noise does, without motion"
        spot = self.spot(joints[0], self.indices[0])
        return [Finding(Code.NOISE, self.place(joints), message, "drop it, or check the sensor", (), spot)]

    def outliers(self) -> list[Finding]:
        """Values far beyond the others, by episode, frame and joint."""
        above, below = self.far
        far = np.maximum(above, below)  # [episodes, D]
        found = []
        joints = np.flatnonzero(far.max(axis=0) > FAR)
        for joint in joints[np.argsort(-far.max(axis=0)[joints])][:MOST]:
            row = int(np.argmax(far[:, joint]))
            index, _, part = self.parts[row]
            up = above[row, joint] >= below[row, joint]
            value, frame = (part.high, part.high_at) if up else (part.low, part.low_at)
            hit = tuple(i for i, much in zip(self.indices, far[:, joint], strict=True) if much > FAR)
            message = (
                f"is {value[joint]:g}, where 98% of the values lie between {self.q01[joint]:g} and "
                f"{self.q99[joint]:g}" + (f" ({numbers(hit, 'episode')})" if len(hit) > 1 else "")
            )
            way_out = (
                "leave the episode out with --episodes, mend the frame, or use `tokenize --on-overflow clip`"
            )
            place = f"episode {index}, frame {frame[joint]}, {self.place([joint])}"
            spot = self.spot(joint, index, int(frame[joint]))
            found.append(Finding(Code.OUTLIER, place, message, way_out, hit, spot))
        return found

    def mirrored(self) -> list[Finding]:
        """Grippers that begin, and are on average, where the others' mirror image would."""
        found = []
        for joint in (i for i, name in enumerate(self.names) if is_gripper(name)):
            if self.width[joint] <= 0 or len(self.parts) < 3:
                continue
            start, mean = (
                (self._array(name)[:, joint] - self.q01[joint]) / self.width[joint]
                for name in ("start", "mean")
            )
            usual, middle = float(np.median(start)), float(np.median(mean))
            turned = (
                (np.abs(start - usual) > 0.5)
                & (np.abs(start - (1 - usual)) < 0.2)
                & (np.abs(mean - (1 - middle)) < 0.2)
            )
            if np.mean(np.abs(start[~turned] - usual) < 0.2) < 0.8:
                continue  # it begins anywhere
            if turned.any():
                indices = tuple(i for i, t in zip(self.indices, turned, strict=True) if t)
                message = f"{self.place([joint])} is turned round: open where others are closed"
                place = numbers(indices, "episode")
                spot = self.spot(joint, indices[0])
                found.append(Finding(Code.REVERSED, place, message, "turn it back there", indices, spot))
        return found

    def spot(self, joint: int, episode: int | None = None, frame: int | None = None) -> Spot:
        """Returns where a joint is to be seen."""
        return Spot(self.quantity, int(joint), episode, None if frame is None else int(frame))

    def place(self, joints: Iterable[int]) -> str:
        """Returns the names of joints for a message, with whose they are."""
        named = [self.names[i] for i in joints]
        more = f" and {len(named) - MOST} more" if len(named) > MOST else ""
        return f"{', '.join(named[:MOST])}{more} ({self.quantity.value})"

    def _array(self, name: str) -> Floats:
        return np.array([getattr(part, name) for _, _, part in self.parts])

    def _commonest(self) -> tuple[Floats, Floats]:
        """The value that most frames have, and their share, a joint; from each episode's own."""
        values, counts = self._array("common"), self._array("common_count")
        best, share = np.zeros(len(self.names)), np.zeros(len(self.names))
        for joint in range(len(self.names)):
            kinds, place = np.unique(values[:, joint], return_inverse=True)
            sums = np.bincount(place.reshape(-1), weights=counts[:, joint])
            best[joint], share[joint] = kinds[np.argmax(sums)], sums.max() / self.frames
        return best, share


def opposed(names: Sequence[str], summaries: Sequence[EpisodeSummary]) -> list[Finding]:
    """Finds actions that move against the state in some episodes and with it in the others."""
    rows = [(s.index, s.agreement) for s in summaries if s.agreement is not None]
    if len(rows) < 3:
        return []
    agreement = np.array([row for _, row in rows])
    usual = np.median(agreement, axis=0)
    moved = np.array([s.actions.high - s.actions.low for s in summaries if s.agreement is not None])
    opposed = (agreement < -0.7) & (usual > 0.7) & (moved > 0.2 * moved.max(axis=0))
    found = []
    for joint in np.flatnonzero(opposed.any(axis=0))[:MOST]:
        indices = tuple(index for (index, _), hit in zip(rows, opposed[:, joint], strict=True) if hit)
        message = f"{names[joint]} of the actions is turned round: it moves against the state"
        spot = Spot(Quantity.ACTIONS, int(joint), indices[0])
        place = numbers(indices, "episode")
        found.append(Finding(Code.REVERSED, place, message, "turn it back there", indices, spot))
    return found


def is_gripper(name: str) -> bool:
    """Returns whether a joint is called a gripper."""
    return any(word in name.lower() for word in GRIPPERS)
