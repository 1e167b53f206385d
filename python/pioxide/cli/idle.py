"""`pioxide idle`: which frames of a dataset are not idle, as a file for `--frames`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from pioxide.cli.options import METAVARS, derived, left_open, listed, taken
from pioxide.data.idle import IdleRule

if TYPE_CHECKING:
    from pioxide.data.idle import Idle as Found


@derived(IdleRule)
@dataclass(frozen=True, kw_only=True)
class Idle:
    """Find stretches of a dataset in which the robot stands still, so that nothing is learned from them.

    Writes the frames that are left as spans, which `fit`, `tokenize` and `train` take as --frames; they can
    be looked at and changed. For DROID, as openpi does it: --joints 'joint_*' --threshold 0.001.
    """

    dataset: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar=METAVARS["dataset"])]
    """A LeRobot dataset, v2.0, v2.1 or v3.0, or what `pioxide index` made."""

    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="FILE.json")]
    """The file to write."""

    action_keys: Annotated[str, left_open("A,B")] = ""
    """Columns that make up an action; action."""

    joints: Annotated[str, left_open("A,B")] = ""
    """Which of its numbers to look at: names, globs (left_*), numbers, slices (0:7), !NAME to leave one out;
    all."""

    episodes: Annotated[str, left_open(METAVARS["episodes"])] = ""
    """Which episodes, as in 0:100,!17; others are left out. All by default."""

    where: Annotated[str, left_open(METAVARS["where"])] = ""
    """Only episodes of which this is true, as in 'length >= 30 and task ~ bottle'."""

    def __call__(self) -> int:
        """Finds them, and says how many there are."""
        from pioxide.cli import main, output
        from pioxide.cli.progress import working
        from pioxide.data import EpisodeChoice, FrameColumns, LeRobotDataset
        from pioxide.data.columns import pick
        from pioxide.data.idle import find_idle
        from pioxide.errors import InputError
        from pioxide.files import write_json

        if self.output.suffix != ".json":
            raise InputError(f"{self.output}: what --frames reads ends in .json")
        if self.output.exists():
            raise InputError(f"{self.output} is there already; name another file, or delete it")
        dataset = LeRobotDataset.open(self.dataset)
        keys = listed(self.action_keys) or ("action",)
        dims = pick(listed(self.joints), dataset.names(keys), "an action")
        columns = FrameColumns(action_keys=keys, action_dims=dims)
        chosen = EpisodeChoice(self.episodes, self.where).of(dataset)
        with working("idle"):
            found = find_idle(dataset, columns, taken(self, IdleRule), chosen)
        write_json(self.output, found.spans())
        output.current.result = {"output": str(self.output), "frames": found.frames, "kept": found.kept}
        self._say(found)
        return main.OK

    def _say(self, found: Found) -> None:
        from pioxide.cli import show

        parts = found.judged.values()
        print(f"{self.output}: {show.share(found.kept, found.frames)} of the frames are left")
        show.facts(
            [
                ("idle", show.share(sum(one.idle for one in parts), found.frames)),
                ("in short stretches", show.share(sum(one.short for one in parts), found.frames)),
                ("at ends of stretches", show.share(sum(one.tails for one in parts), found.frames)),
                ("episodes without any", show.share(len(found.without), len(found.judged))),
            ]
        )
        for index, reason in found.bad:
            print(f"NOTE: episode {index} is left whole, since it can't be read: {reason}")
        print(f"\nnext: pioxide fit {self.dataset} -o FITTED --frames {self.output}")
