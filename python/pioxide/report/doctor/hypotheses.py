"""Why recorded numbers do not lie where their statistics say: one vector, state or actions, at a time.

Two cases are told apart. Statistics that were made from this very dataset agree with it to a few hundredths
in nearly every joint; a joint that does not, and does so after it is turned round (or scaled, or exchanged
with another), was turned round: a small difference is proof enough. Statistics from elsewhere (a base
checkpoint's) cover more than one dataset holds; there a joint must lie outside them, and a hypothesis
explain nearly all of it, before it is named. What lies inside is never a fault.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pioxide.report.doctor.diagnosis import Code
from pioxide.report.doctor.shapes import Ends, Flags, Floats, Shape, distance, distances, still

DEGREES = 180 / np.pi
# Factors that people meet: degrees and radians, percent and fractions, millimetres and metres.
FACTORS = (DEGREES, 1 / DEGREES, 100.0, 0.01, 1000.0, 0.001)

# Shapes this close are of the same data: quantiles of a few thousand frames vary by one or two hundredths.
SAME = 0.05
# From this distance on a joint of the dataset's own statistics asks for an explanation, which must then be
# four times closer than what it replaces.
ASKS, CLOSER = 0.06, 4.0
# Statistics from elsewhere: this share of frames must lie outside (2% do in good pairs), the explanation must
# bring the shape this near, and by at least so much nearer.
OUTSIDE, NEAR, GAIN = 0.25, 0.2, 0.3
# Nearly every frame outside: nothing of the joint's data was in the statistics.
ALL = 0.9


@dataclass(frozen=True)
class Vector:
    """One vector's data beside its statistics, in the model's frame.

    Attributes:
        data: Where the recorded numbers lie.
        stats: Where the statistics say they lie.
        ends: By which ends.
        outside: [D] share of the recorded numbers outside the statistics.
        grippers: [D] which numbers are grippers.
        held: [D] numbers that never move in the data.
        aside: [D] numbers that something else explains already.
    """

    data: Shape
    stats: Shape
    ends: Ends
    outside: Floats
    grippers: Flags
    held: Flags
    aside: Flags

    @property
    def moving(self) -> Flags:
        """Returns which joints move in both, and are to be judged, [D]."""
        return ~still(self.data) & ~still(self.stats) & ~self.aside


@dataclass(frozen=True)
class Misfit:
    """Why some joints' numbers do not lie in their statistics.

    Attributes:
        code: The explanation.
        joints: Which. For `SWAPPED` each takes the place of the next, the last that of the first.
        factor: What the recorded numbers must be multiplied by (`DEGREES`, `SCALE`).
        shift: [len(joints)] what must be added to the recorded numbers (`OFFSET`).
    """

    code: Code
    joints: tuple[int, ...]
    factor: float = 1.0
    shift: tuple[float, ...] = ()


def judge(vector: Vector) -> list[Misfit]:
    """Returns why joints do not fit, the explanations that cover most first; empty for a good pair."""
    own = _own(vector)
    identity = distance(vector.data, vector.stats)
    left = vector.moving.copy()
    found: list[Misfit] = []

    def take(misfit: Misfit) -> None:
        found.append(misfit)
        left[list(misfit.joints)] = False

    for factor in FACTORS:
        if joints := _scaled(vector, identity, left, factor, own):
            code = Code.DEGREES if factor in (DEGREES, 1 / DEGREES) else Code.SCALE
            take(Misfit(code, joints, factor))
    for cycle in _cycles(vector, identity, left, own):
        take(Misfit(Code.SWAPPED, cycle))
    for code, shape in _mirrors(vector):
        grippers = vector.grippers if code is Code.GRIPPER_REVERSED else True
        fits = left & grippers & _explains(vector, identity, distance(shape, vector.stats), own)
        if code is Code.GRIPPER_REVERSED and not own:
            fits |= left & grippers & _plainly_reversed(vector, shape)
        if fits.any():
            take(Misfit(code, _indices(fits)))
    shift = (vector.stats.low + vector.stats.high - vector.data.low - vector.data.high) / 2
    moved = distance(vector.data.moved(shift), vector.stats)
    # Any two ranges of one width can be moved over each other, so this comes last, and means must agree too.
    fits = left & (moved < SAME) & (identity > OUTSIDE) & _explains(vector, identity, moved, own)
    if fits.any():
        take(Misfit(Code.OFFSET, _indices(fits), shift=tuple(shift[fits].tolist())))
    return _or_another_robot(vector, found, left, own)


def _or_another_robot(vector: Vector, found: list[Misfit], left: Flags, own: bool) -> list[Misfit]:
    """Adds what nothing explains; where that is most of the robot, explanations of the rest are chance."""
    unexplained = left & (vector.outside > OUTSIDE)
    misfits = unexplained | (vector.moving & ~left)
    many = misfits.sum() >= max(2, vector.moving.sum() / 2)
    # Statistics of a few of its episodes lie within the dataset's ranges; another robot's lie elsewhere.
    slack = 0.1 * vector.stats.width
    within = (vector.data.low < vector.stats.low + slack) & (vector.data.high > vector.stats.high - slack)
    elsewhere = not misfits.any() or within[misfits].mean() < 0.75
    if not own and many and elsewhere and unexplained.sum() > misfits.sum() / 4:
        return [Misfit(Code.OTHER_ROBOT, _indices(misfits))]
    if unexplained.any():
        found.append(Misfit(Code.OUTSIDE, _indices(unexplained)))
    return sorted(found, key=lambda misfit: -len(misfit.joints))


def _own(vector: Vector) -> bool:
    """Whether the statistics were made from this dataset: half of the joints agree.

    They may do so as they are, turned round, or in units of another kind.
    """
    moving = vector.moving
    if not moving.any():
        return False
    tried = [vector.data, vector.data.mirrored(), *(vector.data.scaled(f) for f in (DEGREES, 1 / DEGREES))]
    closest = np.min([distance(shape, vector.stats) for shape in tried], axis=0)
    return float(np.mean(closest[moving] < SAME)) >= 0.5


def _explains(vector: Vector, identity: Floats, other: Floats, own: bool) -> Flags:
    if own:
        return (identity > ASKS) & (other < np.minimum(SAME, identity / CLOSER))
    return (vector.outside > OUTSIDE) & (other < NEAR) & (identity - other > GAIN)


def _scaled(vector: Vector, identity: Floats, left: Flags, factor: float, own: bool) -> tuple[int, ...]:
    """Joints in other units. Numbers that are too small lie inside their statistics, so shapes decide."""
    other = distance(vector.data.scaled(factor), vector.stats)
    fits = left & (identity > 0.5) & (other < (SAME if own else NEAR))
    # By chance a narrow joint may look like a scaled one; not half of a robot.
    enough = 1 if own else max(3, vector.moving.sum() / 2)
    return _indices(fits) if fits.sum() >= enough else ()


def _cycles(vector: Vector, identity: Floats, left: Flags, own: bool) -> list[tuple[int, ...]]:
    """Joints that stand in each other's places: pairs, or longer rounds."""
    asks = np.flatnonzero(left & (identity > (ASKS if own else GAIN)))
    if len(asks) < 2:
        return []
    table = distances(vector.data, vector.stats)[np.ix_(asks, asks)]
    best, back = table.argmin(axis=1), table.argmin(axis=0)
    limit = np.minimum(SAME, identity[asks] / CLOSER) if own else np.minimum(NEAR, identity[asks] - GAIN)
    goes = {
        i: int(j)
        for i, j in enumerate(best)
        if i != j and back[j] == i and table[i, j] < limit[i]  # each is the other's best
    }
    while broken := [i for i, j in goes.items() if j not in goes or i not in goes.values()]:
        for i in broken:
            del goes[i]
    cycles = []
    while goes:
        first = min(goes)
        cycle = [first]
        while (following := goes.pop(cycle[-1])) != first:
            cycle.append(following)
        joints = tuple(int(asks[i]) for i in cycle)
        if own or (vector.outside[list(joints)] > OUTSIDE).any():
            cycles.append(joints)
    return cycles


def _mirrors(vector: Vector) -> list[tuple[Code, Shape]]:
    """Shapes of numbers that run the other way: grippers between their ends, joints about 0."""
    stats, data = vector.stats, vector.data
    middle = (stats.low + stats.high) / 2
    # Grippers are counted from 0 to 1 or to 100, or in their own range.
    fraction = (stats.low > -0.2) & (stats.high < 1.3) & (stats.high > 0.5)
    percent = (stats.low > -20) & (stats.high < 130) & (stats.high > 50)
    about = np.where(fraction, 0.5, np.where(percent, 50.0, middle))
    return [
        (Code.GRIPPER_REVERSED, data.mirrored(about)),
        (Code.GRIPPER_REVERSED, data.mirrored(middle)),
        (Code.SIGN_FLIPPED, data.mirrored()),
    ]


def _plainly_reversed(vector: Vector, mirrored: Shape) -> Flags:
    """Whether a gripper is mostly open in the data and as much closed in the statistics, or the reverse.

    Statistics from elsewhere cover its whole range either way round; only the mean tells, if it is far off.
    """
    off = np.abs(vector.data.mean - vector.stats.mean) / np.maximum(vector.stats.width, 1e-12)
    return (off > 0.5) & (distance(mirrored, vector.stats) < NEAR)


def _indices(flags: Flags) -> tuple[int, ...]:
    return tuple(np.flatnonzero(flags).tolist())
