"""`Source`: one dataset that batches are made of, and what a person says about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from numpy.typing import NDArray

from pioxide.contract import Contract
from pioxide.data.advantages import Advantages
from pioxide.data.columns import FrameColumns
from pioxide.data.lerobot import LeRobotDataset
from pioxide.data.subtasks import Subtasks
from pioxide.errors import InputError


class TokenRows(Protocol):
    """Rows that `pioxide tokenize` made, as `pioxide.shards.TokenDataset` gives them."""

    @property
    def contract(self) -> Contract:
        """Returns what the rows mean."""
        ...

    def __len__(self) -> int:
        """Rows."""
        ...

    def batches(self, size: int) -> Iterator[Mapping[str, NDArray[Any]]]:
        """Batches in the order of the dataset."""
        ...


@dataclass(frozen=True)
class Source:
    """One dataset, read as its contract says.

    Attributes:
        dataset: Whose frames; `LeRobotDataset.with_tasks` gives it other instructions.
        contract: What its numbers, cameras and prompts mean. Sources of one loader may be of several robots;
            what is the model's has to be the same.
        columns: Which of its columns are state and actions.
        episodes: Which episodes; None for all.
        weight: The share of rows that are from here, in relation to the other sources' weights. None takes as
            many as it has frames; where one source has a weight, all need one.
        cameras: The dataset's feature by the robot's key of a camera, where their names differ; None as
            feature for a camera that the dataset does not have and the robot can do without.
        on_overflow: π0-FAST: what to do with a coefficient that has no token.
        tokens: Rows of `pioxide tokenize` of this dataset: then nothing is tokenized here, `columns`,
            instructions and `on_overflow` are theirs, and of the dataset only images are read.
        subtasks: What the robot does in each frame, which stands in the instruction's place in the prompts of
            actions. Frames without a subtask are left out, and the loader says how many.
        advantages: Which frames have good actions, for prompts that say so; the contract's `advantage_style`
            has to be one. Every frame of the chosen episodes needs one.
        name: What messages call it.
    """

    dataset: LeRobotDataset
    contract: Contract
    columns: FrameColumns = field(default_factory=FrameColumns)
    episodes: tuple[int, ...] | None = None
    weight: float | None = None
    cameras: Mapping[str, str | None] = field(default_factory=dict[str, str | None])
    on_overflow: Literal["error", "clip"] = "error"
    tokens: TokenRows | None = None
    subtasks: Subtasks | None = None
    advantages: Advantages | None = None
    name: str = ""

    def __post_init__(self) -> None:
        """Refuses what can't be.

        Raises:
            InputError: No episodes, or a weight that is none.
        """
        object.__setattr__(self, "name", self.name or self.dataset.path.name)
        if self.episodes is not None:
            object.__setattr__(self, "episodes", tuple(dict.fromkeys(self.episodes)))
            if not self.episodes:
                raise InputError(f"{self.name}: no episodes are chosen")
        if self.weight is not None and not 0 < self.weight < float("inf"):
            raise InputError(f"{self.name}: weight is {self.weight}, expected a number above 0")
        if self.tokens is not None and not (self.subtasks is None and self.advantages is None):
            what = "advantages" if self.subtasks is None else "subtasks"
            raise InputError(
                f"{self.name}: token rows hold their instructions already; {what} are of the recording"
            )
        if self.on_overflow not in ("error", "clip"):
            raise InputError(f"{self.name}: on_overflow {self.on_overflow!r}, expected error or clip")
