"""`pioxide index`: an RLDS dataset (DROID, Open X-Embodiment) as one that every other command reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from tyro.conf import FlagCreatePairsOff

from pioxide.cli.options import METAVARS, left_open, listed
from pioxide.errors import InputError

if TYPE_CHECKING:
    from pioxide.data.rlds import Indexed, RldsDirectory, RldsMapping


@dataclass(frozen=True)
class Index:
    """Make a dataset of RLDS records (DROID, Open X-Embodiment), which every other command then reads.

    Numbers and instructions are written as LeRobot v3.0 has them; pictures stay in the records, which must
    stay where they are. Every record's checksum is compared. Without -o it lists the features that there are.
    Run again to go on after a stop.
    """

    records: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RLDS")]
    """A directory that TFDS wrote, with its version: droid/1.0.1."""

    output: Annotated[
        Path | None, tyro.conf.arg(aliases=["-o"], metavar=METAVARS["output"], help_behavior_hint="")
    ] = None
    """The dataset's directory."""

    mapping: Annotated[str, left_open("NAME")] = ""
    """What the features mean: droid (joint velocities) or droid-jointpos, both at 15 Hz, with one of two
    exterior cameras drawn for each episode and one of three instructions for each frame. Options below
    replace parts of it."""

    state: Annotated[str, left_open("A,B")] = ""
    """Features of a step that make up the state, side by side."""

    action: Annotated[str, left_open("A,B")] = ""
    """Features of a step that make up an action."""

    cameras: Annotated[str, left_open("NAME=A,NAME=A|B")] = ""
    """Pictures by the name that a camera gets; of A|B each episode has one, drawn evenly. All colour
    pictures, by the last part of their key."""

    instructions: Annotated[str | None, left_open("A,B")] = None
    """Texts, of which each frame has one that is not empty, drawn evenly; language_instruction. With "" none:
    `fit --task` gives one."""

    fps: Annotated[float, left_open("NUMBER")] = 0.0
    """Steps a second, which no RLDS dataset says."""

    robot_type: Annotated[str, left_open("TEXT")] = ""
    """What the robot is called."""

    split: str = "train"
    """Which split."""

    skip_bad: FlagCreatePairsOff[bool] = False
    """Leave out episodes that can't be read, and shards that are missing, with a reason each."""

    workers: int = 4
    """Shards read at once."""

    def __call__(self) -> int:
        """Makes it, and says what is there then."""
        from pioxide.cli import doubts, main, output
        from pioxide.cli.progress import FrameProgress
        from pioxide.data.rlds import RldsDirectory, index_rlds

        directory = RldsDirectory.open(self.records, self.split)
        if self.output is None:
            _list(directory)
            return main.OK
        mapping = self._mapping(directory)
        with FrameProgress("index", "episodes") as progress:
            progress.begin(sum(directory.records), 0)
            made = index_rlds(
                directory,
                mapping,
                self.output,
                skip_bad=self.skip_bad,
                workers=self.workers,
                on_done=progress.advance,
            )
        output.current.result = {
            "output": str(made.path),
            "episodes": made.episodes,
            "frames": made.frames,
            "skipped": [index for index, _ in made.left_out],
        }
        _say(made)
        if made.left_out:
            doubts.left_out(list(made.left_out))
            return main.LEFT_OUT
        return main.OK

    def _mapping(self, directory: RldsDirectory) -> RldsMapping:
        """What was said, over what the named mapping says.

        Raises:
            InputError: There is no such mapping, or a camera can't be read.
        """
        from pioxide.data.rlds import MAPPINGS, RldsMapping, all_cameras

        if self.mapping and self.mapping not in MAPPINGS:
            raise InputError(f"there is no mapping {self.mapping!r}; there is {', '.join(MAPPINGS)}")
        known = MAPPINGS.get(self.mapping)
        base = known or RldsMapping((), ())
        state, action = listed(self.state), listed(self.action)
        if self.cameras:
            cameras = _cameras(self.cameras)
        else:
            cameras = base.cameras if known else all_cameras(directory)
        return dataclasses.replace(
            base,
            state=state or base.state,
            action=action or base.action,
            cameras=cameras,
            instructions=base.instructions if self.instructions is None else listed(self.instructions),
            fps=self.fps or base.fps,
            robot_type=self.robot_type or base.robot_type,
            state_names=() if state else base.state_names,
            action_names=() if action else base.action_names,
        )


def _cameras(text: str) -> Mapping[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for one in listed(text):
        name, equals, keys = one.partition("=")
        several = tuple(key.strip() for key in keys.split("|") if key.strip())
        if not (name and equals and several):
            raise InputError(f"--cameras {one!r}: expected NAME=KEY or NAME=KEY|KEY")
        if name in found:
            raise InputError(f"--cameras: the camera {name!r} stands twice")
        found[name] = several
    return found


def _list(directory: RldsDirectory) -> None:
    from pioxide.cli import show

    what = f"{directory.name} {directory.version}, {directory.split}"
    print(
        f"{what}: {sum(directory.records):,} episodes in {len(directory.files):,} shards ({directory.kind})"
    )
    for title, steps in (("feature of a step", True), ("of an episode", False)):
        rows = [
            [key, leaf.kind, leaf.dtype, "x".join(map(str, leaf.shape))]
            for key, leaf in directory.keys(steps=steps).items()
        ]
        if rows:
            show.table("", [title, "kind", "type", "shape"], rows)
    print(f"\nnext: pioxide index {directory.path} -o DATASET --state A,B --action A,B --fps N")


def _say(made: Indexed) -> None:
    from pioxide.cli import show

    print(f"{made.path}: {'was complete' if made.found else 'complete'}")
    show.facts([("episodes", f"{made.episodes:,}"), ("frames", f"{made.frames:,}")])
    print(f"\nnext: pioxide fit {made.path} -o FITTED")
