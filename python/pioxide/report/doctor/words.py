"""What the frames told, in sentences: one diagnosis an explanation, for state and actions together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from pioxide.report.digits import short
from pioxide.report.doctor.diagnosis import Code, Diagnosis, Severity, listed, problem
from pioxide.report.doctor.hypotheses import ALL, DEGREES, Misfit
from pioxide.report.doctor.shapes import Floats
from pioxide.robots import RobotSpec

_FIT_AGAIN = "fit statistics to this dataset (`pioxide fit`), or use the dataset and robot they are of"
_WAYS_OUT = {
    Code.SWAPPED: "bring the dataset's columns into the statistics' order, or fit again",
    Code.DEGREES: "convert the recording, or fit statistics in its units; run the robot in the same",
    Code.SCALE: "convert the recording, or fit statistics in its units; run the robot in the same",
    Code.GRIPPER_REVERSED: "declare how it is counted: grippers={DIM: LinearGripper((1, 0))}, in YAML "
    "`grippers: {DIM: {measured: [1, 0]}}`",
    Code.SIGN_FLIPPED: "turn it round in the robot's `signs`, or use a robot without them "
    "(aloha(adapt_to_pi=False)); fit again if the statistics are wrong",
    Code.OFFSET: "zero the joints as the statistics' robot was, or fit statistics to this dataset",
    Code.OTHER_ROBOT: _FIT_AGAIN,
    Code.OUTSIDE: _FIT_AGAIN,
}


def describe_misfits(
    misfits: Mapping[str, Sequence[Misfit]], outside: Mapping[str, Floats], robot: RobotSpec
) -> Iterator[Diagnosis]:
    """Yields one diagnosis for each explanation.

    Args:
        misfits: For "state" and "actions".
        outside: Shares outside, likewise.
        robot: For names.
    """
    together: dict[tuple[Code, float], dict[str, list[Misfit]]] = {}
    for key, several in misfits.items():
        for misfit in several:
            together.setdefault((misfit.code, misfit.factor), {}).setdefault(key, []).append(misfit)
    for (code, factor), by_key in together.items():
        where = _where(by_key, robot)
        share = max(
            float(outside[key][list(one.joints)].max()) for key, several in by_key.items() for one in several
        )
        message = _message(code, factor, by_key, robot, share, outside)
        if code is Code.OUTSIDE and share < ALL:
            yield Diagnosis(code, Severity.WARNING, where, message, _WAYS_OUT[code])
        else:
            yield problem(code, where, message, _WAYS_OUT[code])


def _message(
    code: Code,
    factor: float,
    by_key: Mapping[str, Sequence[Misfit]],
    robot: RobotSpec,
    share: float,
    outside: Mapping[str, Floats],
) -> str:
    if code is Code.SWAPPED:
        return "the numbers lie where the statistics have another joint: " + _cycles(by_key, robot)
    if code is Code.DEGREES:
        recorded, stated = ("radians", "degrees") if factor == DEGREES else ("degrees", "radians")
        return f"recorded in {recorded}, the statistics are in {stated} (a factor of 57.3 fits)"
    if code is Code.SCALE:
        return f"recorded numbers fit the statistics once they are multiplied by {factor:g}"
    if code is Code.GRIPPER_REVERSED:
        return "the gripper is counted the other way: recorded numbers fit once open and closed are exchanged"
    if code is Code.SIGN_FLIPPED:
        return "recorded numbers fit the statistics once their sign is turned"
    if code is Code.OFFSET:
        return f"recorded numbers fit the statistics once moved by {_shifts(by_key)}"
    shares = np.concatenate([outside[k][list(m.joints)] for k, several in by_key.items() for m in several])
    if code is Code.OTHER_ROBOT:
        return (
            f"most joints lie outside the statistics ({np.median(shares):.0%} of their frames in the middle "
            "case), and nothing single explains it: these are another robot's statistics, or another task's"
        )
    return f"up to {share:.0%} of the recorded numbers lie outside what the statistics cover"


def _where(by_key: Mapping[str, Sequence[Misfit]], robot: RobotSpec) -> str:
    joints = {
        key: tuple(sorted(i for misfit in several for i in misfit.joints)) for key, several in by_key.items()
    }
    if len(joints) == 2 and len(set(joints.values())) == 1:
        return f"state and actions: {_names('actions', joints['actions'], robot)}"
    return "; ".join(f"{key}: {_names(key, several, robot)}" for key, several in joints.items())


def _names(key: str, joints: Sequence[int], robot: RobotSpec) -> str:
    return listed(name(key, i, robot) for i in joints)


def name(key: str, dim: int, robot: RobotSpec) -> str:
    """Returns a number of "state" or "actions" for people: "3 (elbow)"."""
    names = robot.state_names if key == "state" else robot.joint_names
    return f"{dim} ({names[dim]})" if dim < len(names) else str(dim)


def _cycles(by_key: Mapping[str, Sequence[Misfit]], robot: RobotSpec) -> str:
    shown: dict[str, None] = {}  # in order, each once
    for key, several in by_key.items():
        for misfit in several:
            names = [name(key, i, robot) for i in misfit.joints]
            if len(names) == 2:
                shown[f"{names[0]} and {names[1]} are exchanged"] = None
            else:
                shown[" -> ".join([*names, names[0]])] = None
    return listed(shown, 4)


def _shifts(by_key: Mapping[str, Sequence[Misfit]]) -> str:
    several = next(iter(by_key.values()))
    return listed((short(shift) for misfit in several for shift in misfit.shift), 6)
