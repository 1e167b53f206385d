"""`pioxide record`: scripted demonstrations of a task of ours as a LeRobot dataset with video."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from pioxide.cli.options import METAVARS, derived, taken
from pioxide.evaluate import RecordSettings


@derived(RecordSettings)
@dataclass(frozen=True, kw_only=True)
class Record:
    """Let a scripted expert play a task in simulation, and write that as a LeRobot v3.0 dataset with video.

    The same settings give the same dataset. Needs MuJoCo: pip install "pioxide[eval]".
    """

    task: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="{reach,words,push}")]
    """reach: a disc that only the picture shows; words: one of three targets, told by words, picture and
    state together; push: a puck to a goal."""

    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar=METAVARS["output"])]
    """Directory to make."""

    def __call__(self) -> int:
        """Records, and prints how much."""
        from pioxide.cli import main, show
        from pioxide.cli.progress import FrameProgress
        from pioxide.evaluate import find_task, record

        settings = taken(self, RecordSettings)
        frames: list[int] = []
        with FrameProgress("recording") as progress:

            def count(number: int) -> None:
                frames.append(number)
                if len(frames) == 1:  # nobody knows how long the others will be
                    progress.begin(number * settings.episodes, 0)
                progress.advance(number)

            record(self.task, self.output, settings, on_episode=count)
        print(f"{self.output}: {show.counted(len(frames), 'episode')}, {show.counted(sum(frames), 'frame')}")
        robot = find_task(self.task).robot.name
        print(f"\nnext: pioxide fit {self.output} --robot {robot} --horizon 8 -o FITTED")
        return main.OK
