"""The datasets of `pioxide train`: one, or several of a robot, each with episodes that are held out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pioxide.data import EpisodeChoice, LeRobotDataset
from pioxide.data.keeping import keep_frames
from pioxide.errors import InputError
from pioxide.shards import FitResult, FitSettings, JointResult, fit, fit_jointly
from pioxide.shards.joint import is_joint


@dataclass(frozen=True)
class Part:
    """One dataset of a run.

    Attributes:
        dataset: With its pictures at hand.
        fitted: What `pioxide fit` made of it.
        training: Episodes to train on.
        held_out: Episodes to judge by.
        weight: The share of rows from here, in relation to the others'; None for as many as it has frames.
    """

    dataset: LeRobotDataset
    fitted: FitResult
    training: tuple[int, ...]
    held_out: tuple[int, ...]
    weight: float | None

    @property
    def name(self) -> str:
        """Returns what messages call it."""
        return str(self.dataset.path)


def fit_parts(paths: Sequence[str], directory: Path, settings: FitSettings) -> None:
    """Fits a run's datasets, together where there are several.

    Raises:
        PioxideError: As `fit` and `fit_jointly`.
    """

    def say(stage: str) -> None:
        print(f"{stage} ...", file=sys.stderr)

    if len(paths) == 1:
        fit(paths[0], directory, settings, on_stage=say)
    else:
        fit_jointly(paths, directory, settings, on_stage=say)


def open_parts(
    paths: Sequence[str], directory: Path, weights: Sequence[float], choice: EpisodeChoice, frames: str = ""
) -> list[Part]:
    """Opens a run's datasets, each with what was fitted of it.

    Args:
        paths: Of the datasets.
        directory: What `pioxide fit` made of them.
        weights: One a dataset, or none.
        choice: Which episodes to use at all.
        frames: Which frames to use; see `data.keeping`.

    Raises:
        InputError: Another number of weights, a dataset twice, one that was not fitted there, or frames that
            are none of its own.
        FormatError: The directory is none of `pioxide fit`'s.
        DatasetError: A dataset can't be read.
    """
    if weights and len(weights) != len(paths):
        raise InputError(f"data.weight: {len(weights)} for {len(paths)} datasets: say one for each")
    if len(set(paths)) < len(paths):
        raise InputError("data.also: a dataset stands twice; data.weight makes one count more")
    if is_joint(directory):
        fits = list(JointResult.load(directory).members.values())
    else:
        fits = [FitResult.load(directory)]
    parts: list[Part] = []
    for number, path in enumerate(paths):
        dataset = keep_frames(LeRobotDataset.open(path, pictures=True), frames)
        fingerprint = dataset.fingerprint()
        fitted = next((one for one in fits if one.dataset["fingerprint"] == fingerprint), None)
        if fitted is None:
            of = ", ".join(f"{one.dataset['name']} ({one.dataset['path']})" for one in fits)
            raise InputError(
                f"data.fit: {directory} was made of {of}, and {path} is another dataset or has changed "
                "since: held-out and damaged episodes would not be its own. Fit it (with the others); "
                "--data.statistics takes another's statistics alone"
            )
        _say_frames(dataset, fitted)
        skipped = {one["episode"] for one in fitted.skipped}
        chosen = choice.of(dataset)
        parts.append(
            Part(
                dataset,
                fitted,
                tuple(i for i in chosen if i not in skipped and i not in fitted.held_out),
                tuple(sorted(i for i in fitted.held_out if dataset.rows(i))),
                weights[number] if weights else None,
            )
        )
    return parts


def _say_frames(dataset: LeRobotDataset, fitted: FitResult) -> None:
    """Says which frames are used, and where the statistics are of others."""
    kept, noted = dataset.kept, fitted.dataset.get("frames", {})
    if kept is not None:
        print(f"frames: {kept}", file=sys.stderr)
    if noted.get("digest") != (None if kept is None else kept.digest):
        of = f"{noted['kept']:,} frames ({fitted.settings['frames']})" if noted else "all frames"
        print(
            f"NOTE: the statistics of {fitted.directory} are of {of}, and other frames are used",
            file=sys.stderr,
        )
