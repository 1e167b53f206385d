"""`pioxide check`: what is wrong with robot datasets, before anything is made of them."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from tyro.conf import FlagCreatePairsOff

from pioxide.cli.options import left_open, listed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TextIO

    from pioxide.data import Checked, Finding, FrameColumns, LeRobotDataset


@dataclass(frozen=True)
class Check:
    """Look at robot datasets before anything is made of them: broken files, holes, still joints, outliers.

    Ends with 0 where every dataset can be used, 3 where an episode or a dataset can't be, and with --strict
    4 where there are warnings.
    """

    paths: Annotated[tuple[str, ...], tyro.conf.Positional, left_open("PATH [PATH ...]")]
    """Datasets, directories with datasets at any depth, or globs."""

    state_keys: Annotated[str | None, left_open("A,B")] = None
    """Columns that make up the state; observation.state, or what resembles it."""

    action_keys: Annotated[str | None, left_open("A,B")] = None
    """Columns that make up an action; action, or what resembles it."""

    joints: Annotated[str | None, left_open("A,B")] = None
    """Which dimensions of both, in this order: names, globs (left_*), numbers, slices (0:7); all."""

    drop: Annotated[str | None, left_open("A,B")] = None
    """Dimensions to leave out of both."""

    state_joints: Annotated[str | None, left_open("A,B")] = None
    """Dimensions of the state, in place of joints."""

    action_joints: Annotated[str | None, left_open("A,B")] = None
    """Dimensions of an action, in place of joints."""

    episodes: Annotated[str, left_open("A:B,!C")] = ""
    """Which episodes, as in 0:100,!17; all by default."""

    where: Annotated[str, left_open("CONDITION")] = ""
    """Only episodes of which this is true, as in 'length >= 30 and task ~ bottle'."""

    width: int = 32
    """Numbers that the model takes; 0 for any."""

    no_videos: FlagCreatePairsOff[bool] = False
    """Leave videos unopened."""

    json: FlagCreatePairsOff[bool] = False
    """Print JSON: a list with an object a dataset."""

    page: Annotated[Path | None, left_open("FILE.html")] = None
    """Write one page with pictures of what was found, which works offline."""

    strict: FlagCreatePairsOff[bool] = False
    """End with status 4 where there are warnings."""

    workers: Annotated[int | None, left_open("INT")] = None
    """Processes; one a core by default."""

    def __call__(self) -> int:
        """Check them all, print what was found."""
        from pioxide.cli import main, show
        from pioxide.cli.progress import DatasetProgress, working
        from pioxide.data import (
            CheckSettings,
            EpisodeChoice,
            JointChoice,
            Level,
            check_datasets,
            find_datasets,
        )
        from pioxide.errors import InputError
        from pioxide.files import json_text

        if not self.paths:
            raise InputError("name a dataset, a directory with datasets, or a glob")
        joints = (self.joints, self.drop, self.state_joints, self.action_joints)
        settings = CheckSettings(
            None if self.state_keys is None else listed(self.state_keys),
            None if self.action_keys is None else listed(self.action_keys),
            JointChoice(*(listed(text or "") for text in joints)),
            EpisodeChoice(self.episodes, self.where),
            self.width or None,
            videos=not self.no_videos,
        )
        paths = find_datasets(self.paths)
        with DatasetProgress("check") as progress, working("check") if len(paths) == 1 else nullcontext():
            if len(paths) > 1:
                progress.begin(len(paths), 0)

            def say(checked: Checked) -> None:
                if len(paths) > 1:
                    progress.one(checked.path)

            done = check_datasets(paths, settings, workers=self.workers, on_done=say)
        if self.json:
            print(json_text([checked.as_json() for checked in done]), end="")
        else:
            print_checked(done)
        if self.page is not None:
            from pioxide.report import write_check_page

            write_check_page(done, settings, self.page)
            print(f"page: {show.printable(str(self.page))}", file=sys.stderr if self.json else None)
        if any(checked.count(Level.FAULT) for checked in done):
            return main.LEFT_OUT
        return main.FOUND if self.strict and any(checked.findings for checked in done) else main.OK


def warn(
    dataset: LeRobotDataset,
    columns: FrameColumns,
    *,
    episodes: Sequence[int] | None = None,
    width: int | None = None,
    strict: bool = False,
    found: Sequence[Finding] | None = None,
) -> bool:
    """Prints on standard error what a person should know before a command uses a dataset.

    Episodes that can't be read are left to the command itself: it stops there, or lists them. What was
    `found` already is not looked for again.

    Returns:
        Whether the command must end here: there are warnings, and `strict` was said.
    """
    from pioxide.cli import output, show
    from pioxide.data import Level, check_dataset, cores

    if found is None:
        found = check_dataset(dataset, columns, episodes=episodes, width=width, workers=cores())
    warnings = [finding for finding in found if finding.level is Level.WARNING]
    for one in warnings:
        output.current.event("warning", code=one.code.value, place=one.place, message=one.message)
    if output.current.events is not sys.stderr:
        print_findings(warnings, sys.stderr)
    if strict and warnings:
        said = f"{show.counted(len(warnings), 'warning')}, and --strict was said: nothing is made"
        output.current.failed(said, 4)
    return strict and bool(warnings)


def print_checked(done: Sequence[Checked]) -> None:
    """Prints a table with a line a dataset, and below it what was found in each."""
    from pioxide.cli import show
    from pioxide.data import Level

    rows = []
    for checked in done:
        figures = (f"{checked.episodes:,}", f"{checked.frames:,}") if checked.version else ("", "")
        counts = (str(checked.count(level) or "") for level in (Level.FAULT, Level.WARNING))
        rows.append([show.printable(str(checked.path)), checked.version or "?", *figures, *counts])
    columns = ["dataset", "version", "episodes", "frames", "faults", "warnings"]
    show.table(show.counted(len(done), "dataset"), columns, rows)
    for checked in done:
        if checked.findings or checked.unseen:
            print(f"\n{show.printable(str(checked.path))}")
            print_findings(checked.findings)
        for what in checked.unseen:
            print(f"  not looked at: {show.printable(what)}")
    if not any(checked.findings for checked in done):
        print("\nnothing found")


def print_findings(findings: Sequence[Finding], file: TextIO | None = None) -> None:
    """Prints one line a finding, and the way out below it."""
    from pioxide.cli import show

    for finding in findings:
        line = f"  {finding.level.value}: {finding.place}: {finding.message} [{finding.code.value}]"
        print(show.printable(line), file=file)
        if finding.way_out:
            print(f"      {show.printable(finding.way_out)}", file=file)
