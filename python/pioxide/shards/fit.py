"""`fit`: a dataset -> norm statistics and a FAST tokenizer, judged on episodes it has not seen."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

import pioxide
from pioxide.codec import FastCodec
from pioxide.data import EpisodeInfo, LeRobotDataset, compute_stats
from pioxide.data.faults import nothing_left
from pioxide.errors import DatasetError, FormatError, InputError, SettingsError
from pioxide.family import Normalization
from pioxide.files import new_directory, read_json, write_json
from pioxide.shards.evaluate import Evaluation
from pioxide.shards.frames import Framer, check_space
from pioxide.shards.plan import select_episodes
from pioxide.shards.settings import ActionSpace, as_json, refuse_if_different
from pioxide.transforms import save_norm_stats

FILE_NAME = "fit.json"
FORMAT = 1

# Told in a few words what is being done.
OnStage = Callable[[str], None]


@dataclass(frozen=True)
class FitSettings:
    """How a tokenizer is fitted.

    Attributes:
        space: columns, horizon and delta mask.
        normalization: of the chunks that the tokenizer sees; quantile for π0-FAST.
        vocab_size: FAST ids.
        scale: DCT coefficients are multiplied by this before rounding: larger is finer and longer.
        regex_split: whether merges stop at the borders of character classes; None takes the codec's default.
        episodes: which episodes to use at all, as in "0:10,15"; empty for all.
        held_out: share of them that the tokenizer does not see and is judged on.
        held_out_episodes: these instead of a random share.
        max_chunks: chunks to fit on, drawn from the others.
        seed: of both draws.
    """

    space: ActionSpace = field(default_factory=ActionSpace)
    normalization: Normalization = "quantile"
    vocab_size: int = 1024
    scale: float = 10.0
    regex_split: bool | None = None
    episodes: str = ""
    held_out: float = 0.1
    held_out_episodes: str = ""
    max_chunks: int = 10_000
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what can't be.

        Raises:
            InputError: a number outside its range, or an unknown normalization.
        """
        if self.normalization not in get_args(Normalization):
            raise InputError(f"normalization {self.normalization!r}: expected quantile or zscore")
        if not 0 <= self.held_out < 1:
            raise InputError(f"held_out is a share from 0 to below 1, got {self.held_out}")
        if self.max_chunks < 1:
            raise InputError(f"max_chunks is {self.max_chunks}, expected at least 1")
        if not 0 < self.scale < float("inf"):
            raise InputError(f"scale is {self.scale}, expected a positive number")


@dataclass(frozen=True)
class FitResult:
    """What `fit.json` holds.

    Attributes:
        directory: of the tokenizer and the statistics.
        settings: `FitSettings` as JSON.
        dataset: name, path (where it was), fingerprint and joints.
        versions: of the format and pioxide.
        held_out: episodes it was judged on; empty if there were too few and it was judged on what it was
            fitted on.
        skipped: episodes left out, with the reason.
        fitted_chunks: how many chunks the vocabulary was made from.
        result: see `Evaluation.result`.
        found: whether it was already there, made with the same settings.
    """

    directory: Path
    settings: dict[str, Any]
    dataset: dict[str, Any]
    versions: dict[str, Any]
    held_out: list[int]
    skipped: list[dict[str, Any]]
    fitted_chunks: int
    result: dict[str, Any]
    found: bool = False

    @classmethod
    def load(cls, directory: Path) -> FitResult:
        """Read `fit.json`.

        Raises:
            FormatError: there is none, or it is of another format.
        """
        path = directory / FILE_NAME
        if not path.exists():
            raise FormatError(f"{directory} has no {FILE_NAME}; make it with `pioxide fit`")
        value = read_json(path)
        try:
            if value["versions"]["format"] != FORMAT:
                raise FormatError(
                    f"{path}: format {value['versions']['format']}, this pioxide reads {FORMAT}"
                )
            return cls(directory=directory, **value, found=True)
        except (KeyError, TypeError) as error:
            raise FormatError(f"{path} was not written by pioxide fit ({error!r})") from error

    @property
    def space(self) -> ActionSpace:
        """The columns, horizon and delta mask it was fitted for."""
        return ActionSpace.from_json(self.settings["space"])


def fit(
    dataset: str | os.PathLike[str],
    output: str | os.PathLike[str],
    settings: FitSettings | None = None,
    *,
    skip_bad: bool = False,
    on_stage: OnStage | None = None,
) -> FitResult:
    """Make `norm_stats.json` and a FAST tokenizer (Hugging Face layout), and judge it on held-out episodes.

    The statistics cover every episode in use, held-out ones too, as the released models' do; the vocabulary
    is made from the others only. The directory appears complete or not at all.

    Args:
        dataset: a LeRobot dataset, v2.0, v2.1 or v3.0.
        output: a directory that doesn't exist, or one made earlier with the same settings, which is then
            left as it is.
        settings: how.
        skip_bad: leave out episodes that can't be read; `skipped` lists them.
        on_stage: told what is being done.

    Raises:
        SettingsError: `output` exists and is something else.
        DatasetError: the dataset, or an episode of it without `skip_bad`, can't be read.
        InputError: settings that don't fit the dataset.
        OutputError: `output` can't be written.
    """
    settings = settings or FitSettings()
    say = on_stage or (lambda _: None)
    target = Path(output)
    opened = LeRobotDataset.open(dataset)
    _, _ = check_space(settings.space, opened)
    head = {
        "settings": as_json(settings),
        "dataset": {
            "name": opened.path.resolve().name,
            "path": str(opened.path.resolve()),
            "fingerprint": opened.fingerprint(),
            "state_names": opened.names(settings.space.state_keys),
            "action_names": opened.names(settings.space.action_keys),
        },
        "versions": {"format": FORMAT, "pioxide": pioxide.__version__},
    }
    found = _existing(target, head)
    if found is not None:
        return found
    with new_directory(target) as directory:
        made = _fit(opened, directory, settings, skip_bad, say)
        write_json(directory / FILE_NAME, {**head, **made})
    return FitResult(directory=target, **head, **made)


def _fit(
    dataset: LeRobotDataset, directory: Path, settings: FitSettings, skip_bad: bool, say: OnStage
) -> dict[str, Any]:
    space = settings.space
    chosen = select_episodes(settings.episodes, [e.index for e in dataset.episodes])
    skipped: list[dict[str, Any]] = []

    def left_out(info: EpisodeInfo, error: DatasetError) -> None:
        skipped.append({"episode": info.index, "reason": str(error)})

    say(f"statistics of {len(chosen)} episodes")
    try:
        stats = compute_stats(
            dataset,
            horizon=space.horizon,
            state_keys=space.state_keys,
            action_keys=space.action_keys,
            delta_mask=space.mask,
            episodes=chosen,
            on_bad=left_out if skip_bad else None,
        )
    except InputError as error:
        if len(skipped) == len(chosen):
            raise nothing_left([s["reason"] for s in skipped]) from error
        raise
    framer = Framer.make(space, stats, settings.normalization)
    bad = {s["episode"] for s in skipped}
    fit_on, held_out = _split([e for e in chosen if e not in bad], settings)

    chunks = _sample(dataset, framer, fit_on, settings)
    say(f"a vocabulary of {settings.vocab_size} from {len(chunks)} chunks of {len(fit_on)} episodes")
    codec = FastCodec.fit(
        chunks, vocab_size=settings.vocab_size, scale=settings.scale, regex_split=settings.regex_split
    )
    say(f"judging it on {len(held_out)} held-out episodes" if held_out else "judging it on the same episodes")
    names = dataset.names(space.action_keys)
    evaluation = Evaluation(codec, framer.actions, names)
    for episode in dataset.scan(space.columns, held_out or fit_on):
        for block in framer.blocks(episode):
            evaluation.add(block.chunks)

    codec.save(directory, horizon=space.horizon, dim=len(names))
    save_norm_stats(directory, stats)
    return {
        "held_out": held_out,
        "skipped": skipped,
        "fitted_chunks": len(chunks),
        "result": evaluation.result(),
    }


def _split(episodes: Sequence[int], settings: FitSettings) -> tuple[list[int], list[int]]:
    """Episodes to fit on and episodes to judge on; the latter empty when one episode is all there is."""
    if not episodes:
        raise InputError("nothing to fit on: every episode was left out")
    if settings.held_out_episodes:
        held_out = set(select_episodes(settings.held_out_episodes, episodes))
    else:
        number = round(settings.held_out * len(episodes))
        if settings.held_out > 0 and len(episodes) > 1:
            number = min(max(number, 1), len(episodes) - 1)
        held_out = set(np.random.default_rng(settings.seed).permutation(episodes)[:number].tolist())
    fit_on = [e for e in episodes if e not in held_out]
    if not fit_on:
        raise InputError("nothing to fit on: every episode is held out")
    return fit_on, sorted(held_out)


def _sample(
    dataset: LeRobotDataset, framer: Framer, episodes: Sequence[int], settings: FitSettings
) -> NDArray[np.float64]:
    """Up to `max_chunks` chunks [n, H, D] of these episodes, every frame equally likely."""
    lengths = [dataset.episode(e).length for e in episodes]
    total = sum(lengths)
    number = min(total, settings.max_chunks)
    drawn = np.sort(np.random.default_rng(settings.seed).choice(total, number, replace=False))
    first = dict(zip(episodes, np.cumsum([0, *lengths[:-1]]).tolist(), strict=True))
    dim = dataset.dim(settings.space.action_keys)
    out = np.empty((number, settings.space.horizon, dim))
    filled = 0
    for episode in dataset.scan(settings.space.columns, episodes):
        for block in framer.blocks(episode):
            start = first[episode.index] + int(block.frame_index[0])
            rows = drawn[np.searchsorted(drawn, start) : np.searchsorted(drawn, start + len(block))] - start
            out[filled : filled + len(rows)] = block.chunks[rows]
            filled += len(rows)
    return out


def _existing(target: Path, head: dict[str, Any]) -> FitResult | None:
    """The result of an earlier run with the same settings; None where the target does not exist yet."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return None
    if not (target / FILE_NAME).is_file():
        raise SettingsError(f"{target} exists and was not made by pioxide fit; choose another directory")
    found = FitResult.load(target)
    before = {
        **found.settings,
        "dataset": {"fingerprint": found.dataset.get("fingerprint")},
        "versions": found.versions,
    }
    now = {
        **head["settings"],
        "dataset": {"fingerprint": head["dataset"]["fingerprint"]},
        "versions": head["versions"],
    }
    refuse_if_different(before, now, target)
    return found
