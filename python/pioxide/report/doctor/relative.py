"""Whether statistics of actions are of absolute actions or of differences from the state, by the frames."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from pioxide.report.doctor.shapes import Ends, Flags, Floats, Shape, distance, shape_of_values, still

# A joint speaks where its numbers lie clearly elsewhere than the statistics, and clearly there the other way.
FAR, NEAR = 0.4, 0.15


class Blame(Enum):
    """What is the other way than the contract says."""

    ABSOLUTE_STATISTICS = "the statistics are of absolute actions"
    RELATIVE_STATISTICS = "the statistics are of actions relative to the state"
    RELATIVE_RECORDING = "the recorded actions are differences from the state already"


@dataclass(frozen=True)
class Relation:
    """Which joints' actions are taken the wrong way, and what is to blame."""

    blame: Blame
    joints: tuple[int, ...]


@dataclass(frozen=True)
class Ways:
    """One robot's action chunks in three ways, and the statistics they should lie in.

    Attributes:
        absolute: Where the recorded actions lie.
        relative: Where they lie after the state is subtracted; as recorded where there is none to subtract.
        summed: Where they lie after it is added.
        stats: Where the statistics say.
        paired: [D] joints that the state holds too, at the same place; grippers are left out.
    """

    absolute: Shape
    relative: Shape
    summed: Shape
    stats: Shape
    paired: Flags

    @classmethod
    def of(cls, steps: Floats, states: Floats, stats: Shape, ends: Ends, paired: Flags) -> Ways:
        """Measures chunks [N, H, D] that begin at states [N, S], both in the model's frame."""
        offset = np.zeros((len(steps), 1, steps.shape[-1]))
        both = min(steps.shape[-1], states.shape[-1])
        offset[:, 0, :both] = states[:, :both]
        absolute, relative, summed = (
            shape_of_values(values, ends) for values in (steps, steps - offset, steps + offset)
        )
        return cls(absolute, relative, summed, stats, paired & ~still(stats) & ~still(relative))

    def taken(self, mask: Flags) -> Shape:
        """Returns where the actions lie, relative where the mask is True."""
        return Shape(*(np.where(mask, r, a) for r, a in zip(self.relative, self.absolute, strict=True)))

    def judge(self, mask: Flags) -> Relation | None:
        """Returns what contradicts a mask [D], by at least half of the joints; None where nothing does."""
        now = distance(self.taken(mask), self.stats)
        absolute, relative, summed = (
            distance(shape, self.stats) for shape in (self.absolute, self.relative, self.summed)
        )
        masked, plain = self.paired & mask, self.paired & ~mask
        if found := _half(masked, now < FAR, absolute):
            return Relation(Blame.ABSOLUTE_STATISTICS, found)
        # Commands stay near the state: without it little is left of them. Here more is left.
        apart = self.absolute.width / np.maximum(self.relative.width, 1e-12)
        if found := _half(masked, now < FAR, apart, below=0.5):
            return Relation(Blame.RELATIVE_RECORDING, found)
        if found := _half(plain, now < FAR, relative):
            return Relation(Blame.RELATIVE_STATISTICS, found)
        if found := _half(plain, now < FAR, summed):
            return Relation(Blame.RELATIVE_RECORDING, found)
        return None

    def guess(self) -> tuple[bool, ...] | None:
        """Returns the mask [D] that the statistics speak for, joint by joint; None where they are silent."""
        absolute, relative = (distance(shape, self.stats) for shape in (self.absolute, self.relative))
        one = self.paired & (relative < NEAR) & (absolute > FAR)
        other = (absolute < NEAR) & (~self.paired | (relative > FAR))
        clear = (one | other)[self.paired]
        return tuple(one.tolist()) if clear.any() and clear.mean() >= 0.5 else None


def _half(among: Flags, fine: Flags, other: Floats, below: float = NEAR) -> tuple[int, ...]:
    """Joints that are not fine and would be the other way, where they are at least half; else none."""
    fits = among & ~fine & (other < below)
    return tuple(np.flatnonzero(fits).tolist()) if fits.any() and fits.sum() >= among.sum() / 2 else ()
