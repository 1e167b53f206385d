"""Recorded frames through the pipeline's numbers, there and back, and against the statistics."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from pioxide.contract import UNKNOWN, Contract, Numbers, Pipeline
from pioxide.contract.numbers import covering
from pioxide.errors import PioxideError
from pioxide.report.digits import short
from pioxide.report.doctor.diagnosis import Code, Diagnosis, Severity, listed, note, problem, warning
from pioxide.report.doctor.hypotheses import ALL, OUTSIDE, Vector, judge
from pioxide.report.doctor.relative import Blame, Relation, Ways
from pioxide.report.doctor.shapes import (
    Ends,
    Flags,
    Floats,
    ends_of,
    held,
    shape_of_stats,
    shape_of_values,
    share_outside,
    still,
)
from pioxide.report.doctor.subjects import Sample
from pioxide.report.doctor.words import describe_misfits
from pioxide.robots import RobotSpec
from pioxide.transforms import NormMode, NormRule

# Frames that go through the whole pipeline; the statistics see all of the sample.
ROUND_TRIPS, PROMPTS = 1024, 512
# float64 there and back, and with the network's float32 in between, in widths of a joint's values.
EXACT, ROUGH = 1e-6, 1e-2
# The recorded clock may be this far off the declared rate.
TICK = 0.02
_GRIPPER_WORDS = ("gripper", "claw", "jaw", "finger")


@dataclass(frozen=True)
class Replay:
    """What some frames told.

    Attributes:
        frames: How many.
        episodes: Of how many episodes.
        outside: Share of frames outside the statistics by number, for "state" and "actions"; absent where
            there is nothing to compare with.
        found: Diagnoses.
    """

    frames: int
    episodes: int
    outside: dict[str, Floats]
    found: tuple[Diagnosis, ...]


def replay(contract: Contract, sample: Sample, pipeline: Pipeline | None = None) -> Replay:
    """Puts frames through a contract.

    Args:
        contract: Its robot is known and as wide as the frames.
        sample: The frames.
        pipeline: With prompts of any length, to count their tokens; None where no tokenizer is at hand.
    """
    assert contract.robot is not UNKNOWN
    robot = contract.robot
    found = list(_recorded(sample, robot))
    states, steps = robot.apply_state(sample.states), robot.apply_actions(sample.actions)
    vectors: dict[str, Vector] = {}
    if contract.norm_stats is not UNKNOWN:
        measured = _state_vector(contract, robot, states)
        if measured is not None:
            vectors["state"] = measured
        actions, relation = _actions_vector(contract, robot, states, steps)
        if actions is not None:
            vectors["actions"] = actions
        found += relation
        for key, vector in vectors.items():
            rule = contract.state_norm if key == "state" else contract.action_norm
            found += _still(key, vector, robot, rule)
        misfits = {key: judge(vector) for key, vector in vectors.items()}
        found += describe_misfits(misfits, {key: v.outside for key, v in vectors.items()}, robot)
    found += _there_and_back(contract, sample)
    if pipeline is not None:
        found += _prompt_lengths(contract, sample, pipeline)
    outside = {key: vector.outside for key, vector in vectors.items()}
    return Replay(len(sample), sample.episodes, outside, tuple(found))


def _recorded(sample: Sample, robot: RobotSpec) -> Iterator[Diagnosis]:
    if sample.left_out:
        yield warning(
            Code.UNREADABLE,
            "dataset",
            f"{len(sample.left_out)} episodes can't be read: {listed(sample.left_out, 2)}",
            "mend them, or leave them out (--skip-bad of fit and tokenize)",
        )
    if sample.tick is not None and abs(sample.tick - 1) > TICK:
        yield problem(
            Code.RATE,
            "timestamp",
            f"the dataset's clock steps {sample.tick:.3g} times as far between frames as its fps says",
            "correct fps in meta/info.json, or the timestamps",
        )


def _state_vector(contract: Contract, robot: RobotSpec, states: Floats) -> Vector | None:
    stats = _statistics(contract, "state", contract.state_norm, robot.state_dim)
    if stats is None:
        return None
    shape, ends = stats
    names = robot.state_names or (robot.joint_names if robot.state_dim == robot.action_dim else ())
    nothing = np.zeros(robot.state_dim, bool)
    return Vector(
        shape_of_values(states, ends),
        shape,
        ends,
        share_outside(states, shape, ends),
        _grippers(robot, names, robot.state_dim),
        held(states),
        nothing,
    )


def _actions_vector(
    contract: Contract, robot: RobotSpec, states: Floats, steps: Floats
) -> tuple[Vector | None, list[Diagnosis]]:
    """The actions as the contract takes them, and whether statistics or recording mean another way."""
    stats = _statistics(contract, "actions", contract.action_norm, robot.action_dim)
    if stats is None:
        return None, []
    shape, ends = stats
    grippers = _grippers(robot, robot.joint_names, robot.action_dim)
    ways = Ways.of(steps, states, shape, ends, _paired(robot) & ~grippers)
    if contract.delta_mask is UNKNOWN:
        guess = ways.guess()
        if guess is None:
            return None, []
        mask, found = np.array(guess), [_guessed(guess, robot)]
        aside = np.zeros(robot.action_dim, bool)
    else:
        mask = np.zeros(robot.action_dim, bool)
        mask[: len(contract.delta_mask)] = contract.delta_mask
        relation = ways.judge(mask)
        found = [] if relation is None else [_related(relation, robot)]
        aside = np.isin(np.arange(robot.action_dim), () if relation is None else relation.joints)
    values = steps.copy()
    at = np.flatnonzero(mask)
    values[..., at] -= states[:, None, at]
    data = ways.taken(mask)
    return Vector(data, shape, ends, share_outside(values, shape, ends), grippers, held(values), aside), found


def _statistics(contract: Contract, key: str, rule: NormRule | object, dim: int):
    """Shape and ends of a vector's statistics; None where there are none that count."""
    if not isinstance(rule, NormRule) or rule.mode is NormMode.IDENTITY:
        return None
    try:
        stats = covering(contract, key, dim)
    except PioxideError:
        return None  # said where the contract is looked at
    named = {NormMode.MIN_MAX: Ends.RANGE, NormMode.QUANTILE10: Ends.TENTHS}
    ends = named.get(rule.mode, ends_of(stats))
    if any(getattr(stats, name) is None for name in ends.value[:2]):
        return None
    return shape_of_stats(stats, ends), ends


def _grippers(robot: RobotSpec, names: tuple[str, ...], dim: int) -> Flags:
    named = {i for i, name in enumerate(names) if any(word in name.lower() for word in _GRIPPER_WORDS)}
    return np.isin(np.arange(dim), [*named, *robot.grippers])


def _paired(robot: RobotSpec) -> Flags:
    """Action numbers that the state holds at the same place, as far as names tell."""
    at = np.arange(robot.action_dim)
    if not (robot.joint_names and robot.state_names):
        return at < robot.state_dim
    return np.array([i < robot.state_dim and robot.joint_names[i] == robot.state_names[i] for i in at])


def _guessed(mask: tuple[bool, ...], robot: RobotSpec) -> Diagnosis:
    joints = [robot.joint(i) for i, one in enumerate(mask) if one]
    kind = f"relative for {listed(joints)}" if joints else "absolute"
    return note(
        Code.RELATIVE_STATISTICS,
        "delta_mask",
        f"nothing says whether actions are relative; by the recorded frames the statistics are {kind}",
        "state it: --delta-mask",
    )


def _related(relation: Relation, robot: RobotSpec) -> Diagnosis:
    says = "absolute" if relation.blame is Blame.RELATIVE_STATISTICS else "relative to the state"
    ways_out = {
        Blame.ABSOLUTE_STATISTICS: "fit again with the contract's --delta-mask, or say that actions are "
        "absolute",
        Blame.RELATIVE_STATISTICS: "say which actions are relative (--delta-mask), or fit again without",
        Blame.RELATIVE_RECORDING: "record the commanded positions, or add the state to the recorded actions; "
        "the contract's mask is for absolute recordings",
    }
    contract = "" if relation.blame is Blame.RELATIVE_RECORDING else f"; the contract says {says}"
    return problem(
        Code.RELATIVE_STATISTICS,
        f"actions: {listed(robot.joint(i) for i in relation.joints)}",
        f"{relation.blame.value}{contract}",
        ways_out[relation.blame],
    )


def _still(key: str, vector: Vector, robot: RobotSpec, rule: NormRule | object) -> Iterator[Diagnosis]:
    """Joints that do not move, in the data or in the statistics."""
    data, stats = vector.held, still(vector.stats)
    lost = data & (vector.outside > ALL)
    if lost.any():
        yield problem(
            Code.OUTSIDE,
            _where(key, lost, robot),
            "never moves in the dataset, and stands where the statistics have nothing",
            "fit statistics to this dataset, or find out why the joint stands elsewhere",
        )
    if (rest := data & ~lost).any():
        yield note(Code.CONSTANT, _where(key, rest, robot), "never moves in the dataset")
    if (jumps := stats & ~data & (vector.outside > OUTSIDE)).any():
        yield problem(
            Code.CONSTANT,
            _where(key, jumps, robot),
            "moves in the dataset, and the statistics hold one value: normalised numbers become enormous",
            "fit statistics to this dataset",
        )
    if (seldom := stats & ~data & (vector.outside <= OUTSIDE)).any():
        blown = isinstance(rule, NormRule) and rule.mode in (NormMode.QUANTILES, NormMode.QUANTILE10)
        message = "moves so seldom that the statistics' ends are one value"
        if blown:
            yield warning(
                Code.RARELY_MOVES,
                _where(key, seldom, robot),
                f"{message}: quantile normalisation makes these moves enormous",
                "normalise by mean and standard deviation, or drop the number or its episodes",
            )
        else:
            yield note(Code.RARELY_MOVES, _where(key, seldom, robot), message)


def _where(key: str, joints: Flags, robot: RobotSpec) -> str:
    names = robot.state_names if key == "state" else robot.joint_names
    shown = (f"{i} ({names[i]})" if i < len(names) else str(i) for i in np.flatnonzero(joints).tolist())
    return f"{key}: {listed(shown)}"


def _there_and_back(contract: Contract, sample: Sample) -> Iterator[Diagnosis]:
    """Whether recorded actions come back from the model's numbers."""
    try:
        numbers = Numbers.of(contract)
    except PioxideError:
        return  # said where the contract is looked at
    part = slice(None, None, max(1, len(sample) // ROUND_TRIPS))
    states, actions = sample.states[part], sample.actions[part]
    model = numbers.apply_actions(actions, states)
    width = np.maximum(np.ptp(actions, axis=(0, 1)), 1e-3 * np.abs(actions).max(axis=(0, 1), initial=1e-3))
    for values, limit, how in (
        (model, EXACT, ""),
        (model.astype(np.float32), ROUGH, " in the network's float32"),
    ):
        back = numbers.invert_actions(values, states)
        error = np.abs(back - actions).max(axis=(0, 1)) / width
        if (error > limit).any():
            dim = int(np.argmax(error))
            yield problem(
                Code.ROUND_TRIP,
                f"actions: {numbers.robot.joint(dim)}",
                f"recorded actions do not come back{how}: off by {short(float(error[dim]))} of the joint's "
                f"range; normalised numbers reach {short(float(np.abs(model[..., dim]).max()))}",
                "look at this joint's statistics and gripper map",
            )
            return


def _prompt_lengths(contract: Contract, sample: Sample, pipeline: Pipeline) -> Iterator[Diagnosis]:
    if contract.text_len is UNKNOWN:
        return
    part = slice(None, None, max(1, len(sample) // PROMPTS))
    normalised = pipeline.numbers.apply_state(sample.states[part])
    texts = [sample.prompts[i] or contract.default_prompt or " " for i in sample.prompt_index[part]]
    ids, _ = pipeline.tokenize(texts, normalised)
    lengths = np.array([len(one) for one in ids])
    if (cut := lengths > contract.text_len).any():
        severity = Severity.PROBLEM if cut.mean() > 0.01 else Severity.WARNING
        yield Diagnosis(
            Code.PROMPT_TOO_LONG,
            severity,
            "text_len",
            f"{cut.mean():.1%} of the prompts are cut at {contract.text_len} tokens; the longest needs "
            f"{lengths.max()}",
            f"shorten the instructions, or train with prompts of {lengths.max()} tokens (text_len)",
        )


def any_length(contract: Contract) -> Contract:
    """Returns the contract with room for any prompt, so that its whole text can be shown and counted."""
    return replace(contract, text_len=4096)
