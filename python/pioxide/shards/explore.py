"""`fit --explore`: tries codecs on a dataset, judges each on episodes it has not seen, and recommends one.

Time and memory don't grow with the dataset: statistics, chunks and episodes are drawn, by a seed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from pioxide.contract import known
from pioxide.data import EpisodeInfo, LeRobotDataset, compute_stats
from pioxide.data.keeping import keep_frames
from pioxide.errors import DatasetError, InputError
from pioxide.shards.codecs import CodecOptions
from pioxide.shards.fit import FitSettings, begun_contract, split_episodes
from pioxide.shards.frames import FrameCutter
from pioxide.shards.recommend import Recommendation, recommend
from pioxide.shards.settings import as_json
from pioxide.shards.trials import Sample, Samples, Trial, codecs_to_try, judged

# Tells which codec is on trial, how many were before it, and how many there are.
OnTrial = Callable[[str, int, int], None]
# The most numbers of all chunks together, whatever their size: 320 MB.
MOST_NUMBERS = 40_000_000
CODEC_FIELDS = ("codec", "vocab_size", "scale", "regex_split", "bins", "limit", "control_points", "degree")


@dataclass(frozen=True)
class ExploreSettings:
    """How codecs are compared.

    Attributes:
        max_error: Explore: RMS error that is small enough, in normalised actions; 0.02 is 1% of the range
            from q01 to q99.
        noise: Explore: by how much actions and state are moved to see how many tokens change, as a standard
            deviation of normalised actions.
        max_tokens: Explore: the most tokens of an answer, its end included, as a policy's sampler has it.
        max_episodes: Explore: episodes that are looked at, drawn from those in use.
        train_chunks: Explore: chunks that codecs are fitted on, and that the context model counts in.
        judge_chunks: Explore: chunks of other episodes that all of it is judged on.
    """

    max_error: float = 0.02
    noise: float = 0.01
    max_tokens: int = 256
    max_episodes: int = 200
    train_chunks: int = 3000
    judge_chunks: int = 600

    def __post_init__(self) -> None:
        """Refuses what can't be.

        Raises:
            InputError: A number below what makes sense.
        """
        for name, least in (("max_error", 0), ("noise", 0)):
            if not getattr(self, name) > least:
                raise InputError(f"{name}: expected a number above {least}, got {getattr(self, name)}")
        for name, least in (
            ("max_tokens", 2),
            ("max_episodes", 3),
            ("train_chunks", 50),
            ("judge_chunks", 1),
        ):
            if getattr(self, name) < least:
                raise InputError(f"{name}: expected at least {least}, got {getattr(self, name)}")


@dataclass(frozen=True)
class Exploration:
    """Codecs compared on one dataset.

    Attributes:
        dataset: Its name and rate, the joints, and which of them are relative.
        settings: `ExploreSettings` as JSON, and under "fit" `FitSettings`.
        drawn: Episodes to fit on, to weigh the context model by, and to judge on; chunks of each; and
            episodes that were left out.
        trials: One a codec, in the order they were tried.
        recommendation: Which of them, and why.
    """

    dataset: dict[str, Any]
    settings: dict[str, Any]
    drawn: dict[str, Any]
    trials: list[Trial]
    recommendation: Recommendation

    def to_json(self) -> dict[str, Any]:
        """Returns all of it as plain JSON values."""
        return asdict(self)


def explore(
    dataset: str | os.PathLike[str],
    settings: FitSettings | None = None,
    how: ExploreSettings | None = None,
    *,
    codecs: Sequence[CodecOptions] | None = None,
    skip_bad: bool = False,
    on_trial: OnTrial | None = None,
) -> Exploration:
    """Tries codecs on a dataset.

    Args:
        dataset: A LeRobot dataset, v2.0, v2.1 or v3.0.
        settings: Which numbers are encoded: robot, columns, horizon, normalisation, episodes. What says how
            the codec is made must be left at its default.
        how: How much is looked at, and what is good enough.
        codecs: Which; by default those of `codecs_to_try`.
        skip_bad: Leave out episodes that can't be read; `drawn` lists them.
        on_trial: Told before each trial.

    Raises:
        InputError: Fewer than three episodes, settings of one codec, or no codecs.
        DatasetError: The dataset, or an episode of it without `skip_bad`, can't be read.
        ContractError: The robot's numbers are not the dataset's.
    """
    settings, how = settings or FitSettings(), how or ExploreSettings()
    _refuse_codec(settings)
    opened = keep_frames(LeRobotDataset.open(dataset).with_tasks(settings.tasks), settings.frames)
    samples, cutter, names, drawn = _drawn(opened, settings, how, skip_bad)
    tried: list[Trial] = []
    options = list(codecs_to_try(samples.train.chunks) if codecs is None else codecs)
    if not options:
        raise InputError("codecs: expected at least one to try")
    for number, one in enumerate(options):
        if on_trial is not None:
            on_trial(str(one), number, len(options))
        tried.append(judged(one, samples, cutter.numbers, names, noise=how.noise, seed=settings.seed))
    return Exploration(
        dataset={
            "name": opened.path.resolve().name,
            "fps": opened.fps,
            "joints": names,
            "relative": [n for n, one in zip(names, cutter.numbers.delta_mask, strict=False) if one],
        },
        settings={**asdict(how), "fit": as_json(settings)},
        drawn=drawn,
        trials=tried,
        recommendation=recommend(tried, max_error=how.max_error, max_tokens=how.max_tokens),
    )


def _refuse_codec(settings: FitSettings) -> None:
    usual = {f.name: f.default for f in fields(FitSettings)}
    if said := [name for name in CODEC_FIELDS if getattr(settings, name) != usual[name]]:
        option = f"--{said[0].replace('_', '-')}"
        raise InputError(f"{option} says how one codec is made, and exploring tries several: leave it out")


def _drawn(
    dataset: LeRobotDataset, settings: FitSettings, how: ExploreSettings, skip_bad: bool
) -> tuple[Samples, FrameCutter, list[str], dict[str, Any]]:
    """Chunks that are drawn, what cut them, the names of their dimensions, and where they come from."""
    columns = settings.columns(dataset)
    contract = begun_contract(dataset, settings, columns)
    rng = np.random.default_rng(settings.seed)
    chosen = settings.selection.of(dataset)
    if len(chosen) > how.max_episodes:
        chosen = sorted(rng.permutation(chosen)[: how.max_episodes].tolist())
    skipped: list[dict[str, Any]] = []

    def left_out(info: EpisodeInfo, error: DatasetError) -> None:
        skipped.append({"episode": info.index, "reason": str(error)})

    stats = compute_stats(
        dataset,
        horizon=settings.horizon,
        columns=columns,
        delta_mask=known(contract.delta_mask, "delta_mask"),
        robot=known(contract.robot, "robot"),
        episodes=chosen,
        on_bad=left_out if skip_bad else None,
    )
    bad = {one["episode"] for one in skipped}
    usable = [e for e in chosen if e not in bad]
    # One episode says little of how others will differ: three are held out, where that is a third at most.
    least = min(3, len(usable) // 3) / max(len(usable), 1)
    settings = replace(settings, held_out=max(settings.held_out, least))
    fit_on, held_out = split_episodes(usable, settings)
    if len(fit_on) < 2 or not held_out:
        raise InputError(
            f"exploring judges codecs on episodes they have not seen: it needs three episodes at least, and "
            f"{len(fit_on)} to fit on and {len(held_out)} held out are too few"
        )
    tune = sorted(rng.permutation(fit_on)[: max(1, len(fit_on) // 8)].tolist())
    train = [e for e in fit_on if e not in tune]
    cutter = FrameCutter.of(replace(contract, norm_stats=stats), columns)
    size = settings.horizon * cutter.numbers.robot.action_dim
    most = max(50, MOST_NUMBERS // size)
    wanted = {"train": how.train_chunks, "tune": how.judge_chunks, "judge": how.judge_chunks}
    samples = Samples(
        **{
            name: _sample(dataset, cutter, episodes, min(wanted[name], most), rng)
            for name, episodes in (("train", train), ("tune", tune), ("judge", held_out))
        }
    )
    drawn = {
        "episodes": {"train": train, "tune": tune, "judge": list(held_out)},
        "chunks": {f.name: len(getattr(samples, f.name)) for f in fields(Samples)},
        "skipped": skipped,
    }
    return samples, cutter, columns.action_names(dataset), drawn


def _sample(
    dataset: LeRobotDataset,
    cutter: FrameCutter,
    episodes: Sequence[int],
    number: int,
    rng: np.random.Generator,
) -> Sample:
    """Up to `number` chunks of these episodes, every frame equally likely."""
    lengths = [dataset.rows(e) for e in episodes]
    drawn = np.sort(rng.choice(sum(lengths), min(number, sum(lengths)), replace=False))
    first = dict(zip(episodes, np.cumsum([0, *lengths[:-1]]).tolist(), strict=True))
    chunks, states, places = [], [], []
    for episode in dataset.scan(cutter.columns.all, episodes):
        start = first[episode.index]
        for block in cutter.blocks(episode):
            rows = drawn[np.searchsorted(drawn, start) : np.searchsorted(drawn, start + len(block))] - start
            chunks.append(block.chunks[rows])
            states.append(block.state[rows])
            places.append(np.full(len(rows), episode.index, np.int64))
            start += len(block)
    return Sample(np.concatenate(chunks), np.concatenate(states), np.concatenate(places))
