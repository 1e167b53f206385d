"""Which episodes a fit or a job uses, and where their instructions come from: said in one way everywhere."""

from __future__ import annotations

from dataclasses import dataclass

from pioxide.data import EpisodeChoice, TaskChoice
from pioxide.data.tasks import TaskFor


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """What settings of a fit, of a job and of a request for one have in common.

    Attributes:
        episodes: Which episodes to use at all, as in 0:100,!17; all by default.
        where: Only episodes of which this is true, as in 'length >= 30 and task ~ bottle'. Known are episode,
            length, seconds, task and the columns of the list of episodes.
        frames: Which frames to use, the start of each row: a column of truth values, or a file of spans
            (.json), as `pioxide idle` and openpi write; all by default.
        task: The instruction of frames that have none.
        task_for: "all" puts it in the place of every other instruction.
        task_key: Column with the instructions, in place of task_index.
    """

    episodes: str = ""
    where: str = ""
    frames: str = ""
    task: str = ""
    task_for: TaskFor = "missing"
    task_key: str = ""

    def __post_init__(self) -> None:
        """Refuses instructions that can't be meant.

        Raises:
            InputError: "all" without a task, or with a column.
        """
        _ = self.tasks

    @property
    def selection(self) -> EpisodeChoice:
        """Returns which episodes are used."""
        return EpisodeChoice(self.episodes, self.where)

    @property
    def tasks(self) -> TaskChoice:
        """Returns where instructions come from."""
        return TaskChoice(self.task, self.task_for, self.task_key)
