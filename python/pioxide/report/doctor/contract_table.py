"""A contract as rows for people: joints, cameras, and everything else in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from pioxide.contract import UNKNOWN, Contract, Pipeline, PromptStyle, Resize, describe
from pioxide.contract.numbers import covering
from pioxide.errors import PioxideError
from pioxide.family import Family
from pioxide.report.doctor.shapes import Floats, ends_of, shape_of_stats
from pioxide.robots import AlohaGripper, Gripper, LinearGripper
from pioxide.transforms import Arithmetic, NormMode, NormRule

EXAMPLE_INSTRUCTION = "pick up the cup"
_MODES = {
    NormMode.IDENTITY: "left as it is",
    NormMode.MEAN_STD: "mean to 0 and standard deviation to 1",
    NormMode.MIN_MAX: "minimum to -1 and maximum to 1",
    NormMode.QUANTILES: "1% quantile to -1 and 99% quantile to 1",
    NormMode.QUANTILE10: "10% quantile to -1 and 90% quantile to 1",
}


@dataclass(frozen=True)
class JointRow:
    """One number of state and actions.

    Attributes:
        index: Its place.
        name: As the robot names it, "" where nobody does.
        unit: Of the robot's number, "" where nobody says.
        state_range: Two ends by the state's statistics, in the model's frame; None without.
        action_range: Likewise of the (relative) actions.
        sign: 1 or -1.
        relative: Whether the action is relative to the state; None where nobody says.
        gripper: Its map in words, "" for none.
        state_outside: Share of recorded states outside the statistics; None without a dataset.
        action_outside: Likewise of actions.
    """

    index: int
    name: str
    unit: str
    state_range: tuple[float, float] | None
    action_range: tuple[float, float] | None
    sign: int
    relative: bool | None
    gripper: str
    state_outside: float | None = None
    action_outside: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Returns it as plain values."""
        return asdict(self)


@dataclass(frozen=True)
class PromptExample:
    """The prompt of an example instruction and the mean state.

    Attributes:
        text: As the model reads it, control pieces left out.
        tokens: How many ids it takes; None where the real text model is not at hand.
        limit: How many there is room for; None where nobody says.
    """

    text: str
    tokens: int | None
    limit: int | None


def joint_rows(contract: Contract, outside: dict[str, Floats]) -> list[JointRow]:
    """Returns a row for each number of the robot's state and actions; none where no robot is known.

    Args:
        contract: Whose.
        outside: Shares outside the statistics, by "state" and "actions", as a replay measured them.
    """
    robot = contract.robot
    if robot is UNKNOWN:
        return []
    state, actions = (
        _ranges(contract, key, dim)
        for key, dim in (("state", robot.state_dim), ("actions", robot.action_dim))
    )
    mask = contract.delta_mask
    rows = []
    for i in range(max(robot.state_dim, robot.action_dim)):
        names = robot.joint_names if i < len(robot.joint_names) else robot.state_names
        relative = None if mask is UNKNOWN or i >= robot.action_dim else i < len(mask) and mask[i]
        rows.append(
            JointRow(
                i,
                names[i] if i < len(names) else "",
                robot.joint_units[i] if i < len(robot.joint_units) else "",
                _at(state, i),
                _at(actions, i),
                robot.signs[i] if robot.signs else 1,
                relative,
                gripper_words(robot.grippers[i]) if i in robot.grippers else "",
                _share(outside, "state", i),
                _share(outside, "actions", i),
            )
        )
    return rows


def facts(contract: Contract) -> Iterator[tuple[str, str]]:
    """Yields name and value of everything that is no table, in words; what is unknown is left out."""
    if contract.family is not UNKNOWN:
        yield "model", contract.family.symbol
    robot = contract.robot
    if robot is not UNKNOWN:
        rate = "rate unknown" if robot.hz is None else f"{robot.hz:g} Hz"
        yield "robot", f"{robot.name}, {robot.state_dim} state and {robot.action_dim} action numbers, {rate}"
    if contract.action_horizon is not UNKNOWN:
        seconds = (
            "" if robot is UNKNOWN or robot.hz is None else f", {contract.action_horizon / robot.hz:.2g} s"
        )
        played = f", {contract.play_steps} of them played" if contract.play_steps else ""
        yield "chunk", f"{contract.action_horizon} actions{seconds}{played}"
    for name, rule in (("state", contract.state_norm), ("actions", contract.action_norm)):
        if rule is not UNKNOWN:
            yield f"{name} normalised", norm_words(rule)
    if contract.state_in_text is not UNKNOWN:
        yield "state goes", _state_goes(contract)
    if contract.text_len is not UNKNOWN:
        style = "" if contract.prompt_style is UNKNOWN else f", {_HOUSES[contract.prompt_style]}'s text"
        yield "prompt", f"up to {contract.text_len} tokens{style}"
    if contract.default_prompt:
        yield "without an instruction", repr(contract.default_prompt)
    if contract.image_size is not UNKNOWN:
        how = {Resize.ANTIALIAS: ", filtered (openpi)", Resize.INTERPOLATE: ", not filtered (LeRobot)"}
        resized = "" if contract.resize is UNKNOWN else how[contract.resize]
        yield "images", f"{contract.image_size} x {contract.image_size}{resized}"
    if contract.model_dim is not UNKNOWN:
        yield "inside the model", f"{contract.model_dim} numbers an action"
    for name in (
        "num_steps",
        "fast",
        "max_delay",
        "answer_gap",
        "subtask_style",
        "advantage_style",
        "memory",
    ):
        if (value := getattr(contract, name)) not in (UNKNOWN, None):
            yield _TITLES[name], describe(name, value)


_HOUSES = {PromptStyle.OPENPI: "openpi", PromptStyle.LEROBOT: "LeRobot"}
_TITLES = {
    "num_steps": "flow steps",
    "fast": "action tokens",
    "max_delay": "trained for a delay of",
    "answer_gap": "answer begins after",
    "subtask_style": "writes subtasks",
    "advantage_style": "reads the actions' advantage",
    "memory": "sees of the past",
}


def camera_rows(contract: Contract) -> list[tuple[str, str, str]]:
    """Returns slot, camera and whether it is needed, in the model's order."""
    if contract.cameras is UNKNOWN:
        return []
    rows = []
    for camera in contract.cameras:
        if camera.key is UNKNOWN:
            key, needed = "unknown", ""
        elif camera.key is None:
            key, needed = "empty", "" if contract.absent_camera is UNKNOWN else str(contract.absent_camera)
        else:
            key, needed = str(camera.key), "required" if camera.required else "optional"
        rows.append((camera.slot, key, needed))
    return rows


def prompt_example(
    contract: Contract, pipeline: Pipeline, instruction: str | None, *, counted: bool
) -> PromptExample | None:
    """Returns the text of a prompt; None where the pipeline writes none.

    Args:
        contract: Whose; the mean state of its statistics is written.
        pipeline: With room for any prompt.
        instruction: Of the dataset; by default the contract's own, or an invented one.
        counted: Whether the pipeline's text model is the real one, so that ids may be counted.
    """
    prompts = pipeline.prompts
    if prompts is None:
        return None
    text = instruction or contract.default_prompt or EXAMPLE_INSTRUCTION
    dim = pipeline.numbers.robot.state_dim
    try:
        mean = pipeline.numbers.state.apply(covering(contract, "state", dim).need("mean"))
    except PioxideError:  # nothing is normalised, or by statistics without a mean
        mean = pipeline.numbers.state.invert([0.0] * dim) * 0
    ids, _ = pipeline.tokenize([text], mean[None])
    written = prompts.tokenizer.decode([i for i in ids[0].tolist() if i != prompts.tokenizer.bos_id])
    limit = contract.text_len if isinstance(contract.text_len, int) else None
    return PromptExample(written, len(ids[0]) if counted else None, limit)


def norm_words(rule: NormRule) -> str:
    """Returns a normalisation in words."""
    whose = {Arithmetic.OPENPI: "openpi's arithmetic", Arithmetic.LEROBOT: "LeRobot's arithmetic"}
    words = _MODES[rule.mode]
    return words if rule.mode is NormMode.IDENTITY else f"{words} ({whose[rule.arithmetic]})"


def gripper_words(gripper: Gripper) -> str:
    """Returns a gripper's map in words."""
    if isinstance(gripper, AlohaGripper):
        return "ALOHA's linkage"
    if isinstance(gripper, LinearGripper):
        zero, one = gripper.measured
        return f"{zero:g}..{one:g} to 0..1"
    return type(gripper).__name__


def _ranges(contract: Contract, key: str, dim: int):
    if contract.norm_stats is UNKNOWN:
        return None
    try:
        stats = covering(contract, key, dim)
        return shape_of_stats(stats, ends_of(stats))
    except PioxideError:
        return None


def _at(shape: Any, i: int) -> tuple[float, float] | None:
    return None if shape is None or i >= len(shape.low) else (float(shape.low[i]), float(shape.high[i]))


def _share(outside: dict[str, Floats], key: str, i: int) -> float | None:
    return float(outside[key][i]) if key in outside and i < len(outside[key]) else None


def _state_goes(contract: Contract) -> str:
    if contract.state_in_text:
        padded = f", filled up to {contract.state_text_dim} numbers" if contract.state_text_dim else ""
        return f"into the prompt, as numbers from 0 to 255{padded}"
    if contract.family is Family.PI0:
        return "into the network, as a vector"
    return "nowhere: this model never sees it" if contract.family is not UNKNOWN else "not into the prompt"
