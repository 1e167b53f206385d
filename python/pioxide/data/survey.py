"""Many datasets checked at once, each whatever the others are like: what `pioxide check` prints."""

from __future__ import annotations

import glob
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pioxide.data.checks import judge, look
from pioxide.data.columns import FrameColumns, JointChoice
from pioxide.data.filmed import check_videos
from pioxide.data.findings import Code, Finding, Level, merged
from pioxide.data.layout import check_layout
from pioxide.data.lerobot import LeRobotDataset
from pioxide.data.recorded import check_recorded
from pioxide.data.selection import EpisodeChoice
from pioxide.errors import PioxideError
from pioxide.files import as_address

OnDone = Callable[["Checked"], None]


@dataclass(frozen=True)
class CheckSettings:
    """How datasets are checked.

    Attributes:
        state_keys: columns of the state; None takes LeRobot's names, else what resembles them.
        action_keys: columns of the actions, likewise.
        choice: which of their dimensions, all by default.
        episodes: which, all by default.
        width: numbers that the model takes, None for any.
        videos: whether videos are opened.
    """

    state_keys: tuple[str, ...] | None = None
    action_keys: tuple[str, ...] | None = None
    choice: JointChoice = field(default_factory=JointChoice)
    episodes: EpisodeChoice = field(default_factory=EpisodeChoice)
    width: int | None = 32
    videos: bool = True

    def columns(self, dataset: LeRobotDataset) -> FrameColumns:
        """Returns which columns of a dataset are looked at.

        Raises:
            InputError: it has none of them.
        """
        guessed = FrameColumns.guess(dataset)
        columns = FrameColumns(self.state_keys or guessed.state_keys, self.action_keys or guessed.action_keys)
        return self.choice.of(dataset, columns)


@dataclass(frozen=True)
class Checked:
    """What is known of one dataset.

    Attributes:
        path: its directory.
        version: of its format, "" where it could not be opened; likewise the next three.
        robot: as recorded.
        episodes: as listed.
        frames: as listed.
        findings: faults first; empty where all is well.
        unseen: what was not looked at, and why.
    """

    path: Path
    version: str = ""
    robot: str = ""
    episodes: int = 0
    frames: int = 0
    findings: tuple[Finding, ...] = ()
    unseen: tuple[str, ...] = ()

    def count(self, level: Level) -> int:
        """Returns how many findings are of this level."""
        return sum(finding.level is level for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        """Returns the same as plain JSON values."""
        return {
            "path": str(self.path),
            "version": self.version,
            "robot": self.robot,
            "episodes": self.episodes,
            "frames": self.frames,
            "findings": [
                {
                    "code": finding.code.value,
                    "level": finding.level.value,
                    "place": finding.place,
                    "message": finding.message,
                    "way_out": finding.way_out,
                    "episodes": list(finding.episodes),
                }
                for finding in self.findings
            ],
            "not_looked_at": list(self.unseen),
        }


def find_datasets(paths: Sequence[str]) -> list[Path]:
    """Returns the datasets at, below, or matched by these paths, in order, each once.

    A path at which there is none is given back as it is, so that checking it says so.

    Args:
        paths: datasets, directories that hold some at any depth, `info.json` files, or globs.
    """
    found: list[Path] = []
    for text in paths:
        if as_address(text):
            found.append(Path(text))
            continue
        matched = sorted(glob.glob(text, recursive=True)) if glob.has_magic(text) else [text]
        for path in map(Path, matched or [text]):
            if path.name == "info.json" and path.parent.name == "meta":
                found.append(path.parent.parent)
            else:
                found += list(_below(path)) or [path]
    return list(dict.fromkeys(found))


def check_datasets(
    paths: Sequence[Path],
    settings: CheckSettings,
    *,
    workers: int | None = None,
    on_done: OnDone | None = None,
) -> list[Checked]:
    """Checks datasets on all cores; one that is broken, or ends the process that reads it, stops no other.

    Args:
        paths: of the datasets.
        settings: how.
        workers: processes, or threads for a single dataset; one a core by default.
        on_done: told of each dataset when it is done.
    """
    number = workers or cores()
    if len(paths) == 1 or number == 1:
        done = []
        for path in paths:
            done.append(check_one(path, settings, number))
            if on_done is not None:
                on_done(done[-1])
        return done
    results = _side_by_side(paths, settings, min(number, len(paths)), on_done)
    return [results[path] for path in paths]


def check_one(path: Path, settings: CheckSettings, workers: int = 1) -> Checked:
    """Checks one dataset; whatever is wrong with it is a finding."""
    opened: LeRobotDataset | None = None
    unseen: list[str] = []
    try:
        opened = LeRobotDataset.open(path)
        columns = settings.columns(opened)
        chosen = settings.episodes.of(opened)
        summaries, faults = look(opened, columns, chosen, workers=workers)
        findings = judge(opened, columns, summaries, faults, width=settings.width)
        findings += check_layout(opened, columns, summaries)
        findings += check_recorded(opened, columns, summaries)
        cameras = [key for key, feature in opened.features.items() if not feature.is_numeric]
        if settings.videos and cameras and as_address(path):
            unseen = [f"{', '.join(cameras)}: at an address, and only numbers are brought here"]
        elif settings.videos:
            filmed = check_videos(opened, [summary.index for summary in summaries], workers=workers)
            findings, unseen = merged([*findings, *filmed.findings]), filmed.unseen
        elif cameras:
            unseen = [f"{', '.join(cameras)}: left out"]
    except PioxideError as error:
        findings = [Finding(Code.UNUSABLE, str(path), str(error))]
    except Exception as error:  # the others are to be checked all the same
        reason = f"checking it failed ({type(error).__name__}: {error})"
        findings = [Finding(Code.UNUSABLE, str(path), reason, "please report this as a fault of pioxide")]
    if opened is None:
        return Checked(path, findings=tuple(findings))
    return Checked(
        path,
        opened.version,
        opened.robot_type,
        len(opened.episodes),
        opened.total_frames,
        tuple(findings),
        tuple(unseen),
    )


def _side_by_side(
    paths: Sequence[Path], settings: CheckSettings, workers: int, on_done: OnDone | None
) -> dict[Path, Checked]:
    results: dict[Path, Checked] = {}

    def keep(checked: Checked) -> None:
        results[checked.path] = checked
        if on_done is not None:
            on_done(checked)

    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        futures: dict[Future[Checked], Path] = {
            pool.submit(check_one, path, settings): path for path in paths
        }
        for future in as_completed(futures):
            try:
                keep(future.result())
            except BrokenProcessPool:  # one of them ended its process: those that are left, one by one
                break
    for path in paths:
        if path not in results:
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                try:
                    keep(pool.submit(check_one, path, settings).result())
                except BrokenProcessPool:
                    reason = "reading it ends the process (a fault in pyarrow, or not enough memory)"
                    keep(Checked(path, findings=(Finding(Code.UNUSABLE, str(path), reason),)))
    return results


def _below(path: Path) -> Iterator[Path]:
    """Datasets at or below a directory; what has a `meta/` or `data/` of its own counts as one."""
    for folder, inner, _ in os.walk(path, followlinks=False):
        if (Path(folder) / "meta/info.json").exists() or {"meta", "data"} <= set(inner):
            yield Path(folder)
            inner.clear()
        else:
            inner.sort()


def cores() -> int:
    """Returns how many cores this process may use, which in a container can be fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
