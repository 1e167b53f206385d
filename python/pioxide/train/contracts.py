"""The contract of a run: what the data's own says, the base's, and the recipe's choices, together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from pioxide.codec import ActionCodec
from pioxide.contract import (
    UNKNOWN,
    AdvantageStyle,
    CameraSlot,
    Contract,
    Memory,
    SubtaskStyle,
    Unknown,
    action_vocabulary,
    assign_cameras,
    known,
    openpi_contract,
)
from pioxide.errors import ContractError, InputError
from pioxide.family import RELEASED_ACTION_DIM, Family
from pioxide.train.config import Size
from pioxide.transforms import NormRule


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """What a recipe chooses of a run's contract.

    Attributes:
        family: Which model.
        horizon: Actions in a chunk.
        model_dim: Numbers of an action inside the network; 0 for 32 where there is a base, as released ones
            have, and for as many as the robot needs where there is none. That of a base that is narrower.
        text_len: Ids in a prompt; 0 for the family's.
        state_in_text: Whether π0.5 reads the state.
        image_size: Pixels along an image's edge; 0 for the size's.
        max_delay: For trained real-time chunking: the largest delay, in actions; 0 for none.
        prompt: The instruction where an observation has none.
        normalization: Of state and actions; empty for the model's own: zscore for π0, else quantile.
        memory_frames: π0.5: frames of each camera that it sees, the newest among them; 1 for no memory. MEM
            (arXiv 2603.03596) has 6.
        memory_stride: Seconds from one to the next; a whole number of the dataset's frames.
        memory_every: Layers of the vision tower from one that attends over time to the next.
    """

    family: Family = Family.PI05
    horizon: int = 50
    model_dim: int = 0
    text_len: int = 0
    state_in_text: bool = True
    image_size: int = 0
    max_delay: int = 0
    prompt: str = ""
    normalization: Literal["", "zscore", "quantile"] = ""
    memory_frames: int = 1
    memory_stride: float = 1.0
    memory_every: int = 4

    @property
    def memory(self) -> Memory | None:
        """Returns what the model sees of the past; None for nothing.

        Raises:
            InputError: A number out of its range.
        """
        if self.memory_frames == 1:
            return None
        return Memory(self.memory_frames, self.memory_stride, self.memory_every)


IMAGE_SIZES = {Size.TINY: 28, Size.MINI: 64, Size.SMALL: 112, Size.FULL: 224}


def run_contract(
    fitted: Contract,
    numbers: Numbers,
    size: Size,
    codec: ActionCodec | None = None,
    *,
    based: bool = False,
    subtasks: bool = False,
    advantage: AdvantageStyle | None = None,
    cameras: Mapping[str, str | None] | None = None,
) -> Contract:
    """Returns the contract of a run on a dataset.

    Args:
        fitted: What `pioxide fit` wrote of the dataset: robot, statistics, relative actions, rules.
        numbers: The recipe's.
        size: The network's.
        codec: The action tokenizer of π0-FAST, or of tokens that a flow model learns too; else None.
        based: Whether the run starts from released weights, whose width is 32.
        subtasks: Whether the language model learns to say subtasks.
        advantage: Whether prompts hold an advantage, and all of them.
        cameras: A robot's camera key by image slot, where names do not tell.

    Raises:
        InputError: The delay leaves no action to learn, or the model writes no subtasks; or the action
            tokenizer was fitted on actions normalised otherwise.
        ContractError: Cameras and slots do not fit, or the statistics are of relative actions over another
            horizon.
    """
    family = numbers.family
    fitted.require("robot", "norm_stats", "delta_mask", doing="training")
    robot = known(fitted.robot, "robot")
    of = numbers.horizon if isinstance(fitted.action_horizon, Unknown) else fitted.action_horizon
    if any(known(fitted.delta_mask, "delta_mask")) and of != numbers.horizon:
        raise ContractError(
            f"action_horizon: the statistics are of actions relative to the state over {of} steps, and the "
            f"run's chunks have {numbers.horizon}: fit with `pioxide fit --horizon {numbers.horizon}`, or "
            f"train with --numbers.horizon {of}"
        )
    if not 0 <= numbers.max_delay < numbers.horizon:
        raise InputError(
            f"max_delay: expected 0 to {numbers.horizon - 1} actions of {numbers.horizon}, "
            f"got {numbers.max_delay}"
        )
    if subtasks and family is not Family.PI05:
        raise InputError(f"data.subtasks: {family.symbol} says none; π0.5 does (--numbers.family pi05)")
    if numbers.memory is not None and family is not Family.PI05:
        raise InputError(
            f"numbers.memory_frames: {family.symbol} sees no past; π0.5 may (--numbers.family pi05)"
        )
    rule = _rule(fitted, numbers, codec)
    base = openpi_contract(family)
    slots = tuple(CameraSlot(slot) for slot in _slots(family, {camera.slot for camera in robot.cameras}))
    own_width = max(robot.action_dim, robot.state_dim if family.state_is_vector else 0)
    width = robot.action_dim if not family.is_flow else own_width
    if family.is_flow and (based or size is Size.FULL):
        width = max(width, RELEASED_ACTION_DIM)
    return replace(
        base,
        robot=robot,
        cameras=assign_cameras(slots, robot, cameras, where=f"a new {family.symbol}"),
        delta_mask=fitted.delta_mask,
        norm_stats=fitted.norm_stats,
        action_norm=rule,
        state_norm=rule,
        state_in_text=numbers.state_in_text if family is Family.PI05 else base.state_in_text,
        text_len=numbers.text_len or family.text_len,
        default_prompt=numbers.prompt or None,
        action_horizon=numbers.horizon,
        model_dim=numbers.model_dim or width,
        image_size=numbers.image_size or IMAGE_SIZES[size],
        fast=None if codec is None else action_vocabulary(codec),
        max_delay=numbers.max_delay if family.is_flow else 0,
        answer_gap=0,
        subtask_style=SubtaskStyle.INSTEAD if subtasks else None,
        advantage_style=advantage,
        memory=numbers.memory,
        source="the run",
    )


def _rule(fitted: Contract, numbers: Numbers, codec: ActionCodec | None) -> NormRule:
    """Returns how a run normalises. Statistics serve every rule; an action tokenizer is of actions by one."""
    chosen = numbers.normalization or numbers.family.normalization
    rule = NormRule.openpi(chosen)
    if codec is not None and fitted.action_norm not in (UNKNOWN, rule):
        raise InputError(
            f"data.fit: its action tokenizer is of actions normalised by {fitted.action_norm}, and this "
            f"run's are by {rule}: fit with --normalization {chosen}, or say numbers.normalization"
        )
    return rule


def _slots(family: Family, robots: set[str]) -> tuple[str, ...]:
    if family is Family.PI0_FAST and not robots & set(family.cameras[1:]):
        return Family.PI0.cameras
    return family.cameras
