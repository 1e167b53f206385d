"""Reads the output of `pioxide tokenize` or `pioxide fit`, and the dataset behind it, into a `Report`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pioxide.codec import ActionCodec, load_codec
from pioxide.contract import Contract, known
from pioxide.data import (
    Episode,
    EpisodeChoice,
    FrameColumns,
    LeRobotDataset,
    Level,
    TaskChoice,
    check_dataset,
    cores,
)
from pioxide.data.keeping import keep_frames
from pioxide.errors import DatasetError, FormatError, InputError
from pioxide.family import RELEASED_ACTION_DIM
from pioxide.report.facts import Prompts, Report, Source, Tokens
from pioxide.report.measure import DensityMeter, ErrorMeter, RangeMeter
from pioxide.shards import FitResult, FrameCutter, TokenDataset
from pioxide.shards.at_hand import tokens_at_hand
from pioxide.shards.evaluate import robot_units
from pioxide.shards.fit import JOINT_FILE
from pioxide.transforms import Stats
from pioxide.transforms.actions import mask_runs

_SUFFIX_END = 2  # "|" and the end of sequence


def inspect_directory(
    directory: str | os.PathLike[str],
    *,
    dataset: str | os.PathLike[str] | None = None,
    max_chunks: int = 20_000,
    worst: int = 6,
) -> Report:
    """Measures what a directory of tokens, or a fitted tokenizer, is worth.

    Args:
        directory: output of `pioxide tokenize` (an address, too) or `pioxide fit`.
        dataset: the dataset it was made from, where it is no longer at the place that was noted down.
        max_chunks: chunks to decode and compare; from a larger dataset every n-th frame is taken.
        worst: how many of the worst chunks to keep.

    Raises:
        FormatError: the directory is neither, or is damaged.
        InputError: `dataset` is another dataset.
        DatasetError: the dataset can't be read.
    """
    root = tokens_at_hand(directory)
    if (root / "manifest.json").is_file():
        tokens = _Tokens(root, dataset, max_chunks, worst)
        report = _dated(tokens.report(), root / "manifest.json")
        return _warned(report, tokens.dataset, tokens.tokens.columns, tokens.manifest.settings)
    if (root / "fit.json").is_file():
        fitted = _Fit(root, dataset, max_chunks, worst)
        report = _dated(fitted.report(), root / "fit.json")
        return _warned(report, fitted.dataset, fitted.fitted.columns, fitted.fitted.settings)
    if (root / JOINT_FILE).is_file():
        FitResult.load(root)  # says which fits it holds
    raise FormatError(f"{root} holds neither tokens (manifest.json) nor a fitted tokenizer (fit.json)")


def _warned(
    report: Report, dataset: LeRobotDataset | None, columns: FrameColumns, settings: dict[str, Any]
) -> Report:
    """The report with what `pioxide check` says of the episodes in use."""
    if dataset is None:
        return report
    chosen = EpisodeChoice.noted(settings).of(dataset)
    found = check_dataset(dataset, columns, episodes=chosen, width=RELEASED_ACTION_DIM, workers=cores())
    return replace(report, warnings=tuple(f for f in found if f.level is Level.WARNING))


def _dated(report: Report, file: Path) -> Report:
    """The report with the time at which what it is about was finished."""
    made = datetime.fromtimestamp(file.stat().st_mtime, UTC).strftime("%Y-%m-%d %H:%M UTC")
    look = f"pioxide inspect {file.parent.resolve()}"
    settings = {**report.source.settings, "finished": made, "to look again": look}
    return replace(report, source=replace(report.source, settings=settings))


@dataclass
class _Meters:
    """Everything that is summed up over the dataset's chunks."""

    errors: ErrorMeter
    actions: RangeMeter
    state: RangeMeter
    density: DensityMeter
    use: NDArray[np.int64]
    lengths: list[NDArray[np.int64]]
    episodes: list[NDArray[np.int64]]
    clipped_chunks: int = 0
    clipped: int = 0

    @classmethod
    def make(cls, horizon: int, stats: Mapping[str, Stats], worst: int, vocab_size: int) -> _Meters:
        dim = stats["actions"].dim
        return cls(
            ErrorMeter(horizon, dim, worst),
            RangeMeter(*_quantiles(stats["actions"])),
            RangeMeter(*_quantiles(stats["state"])),
            DensityMeter(dim),
            np.zeros(vocab_size, np.int64),
            [],
            [],
        )

    def ranges(self, episode: Episode, cutter: FrameCutter) -> None:
        """Adds an episode's states and, unless they are relative, its actions, frame by frame.

        They are those that the statistics are of: with the robot's signs and grippers applied.
        """
        robot, columns = cutter.numbers.robot, cutter.columns
        used = slice(None) if episode.kept is None else episode.kept
        self.state.add(robot.apply_state(columns.state(episode)[used]))
        if not any(cutter.numbers.delta_mask):
            self.actions.add(robot.apply_actions(columns.actions(episode)[used]))

    def chunks(self, cutter: FrameCutter, chunks: NDArray[np.float64]) -> None:
        """Adds normalised chunks [n, H, D]."""
        self.density.add(chunks)
        if any(cutter.numbers.delta_mask):
            self.actions.add(cutter.numbers.actions.invert(chunks))


class _Tokens:
    """A directory of `pioxide tokenize`."""

    def __init__(self, root: Path, dataset: Any, max_chunks: int, worst: int) -> None:
        self.tokens = TokenDataset.open(root)
        self.manifest = self.tokens.manifest
        self.stats = self.tokens.norm_stats
        self.cutter = FrameCutter.of(self.tokens.contract, self.tokens.columns)
        self.dataset, self.missing = _find(dataset, self.manifest.dataset, self.manifest.settings)
        self.codec = load_codec(self.tokens.fast_directory) if self.tokens.fast_directory else None
        self.meters = _Meters.make(
            self.cutter.horizon, self.stats, worst, self.codec.vocab_size if self.codec else 0
        )
        self.step = max(1, -(-len(self.tokens) // max_chunks))
        self.differing = self.compared = self.lost = 0
        self.text_before_actions: int | None = None  # ids of "Action: "

    def report(self) -> Report:
        lengths = self._pass()
        names = tuple(self.manifest.dataset["action_names"])
        meters, stats = self.meters, self.stats
        seen = self.dataset is not None
        tokens = None
        if self.codec is not None and sum(map(len, meters.lengths)):
            tokens = Tokens(
                np.concatenate(meters.lengths),
                np.concatenate(meters.episodes),
                meters.use,
                meters.clipped_chunks,
                meters.clipped,
                _name(self.codec),
                self.lost,
            )
        return Report(
            source=self._source(names),
            actions=meters.actions.result(names, stats["actions"].need("mean"), stats["actions"].need("std"))
            if seen
            else None,
            state=self._state() if seen else None,
            tokens=tokens,
            reconstruction=meters.errors.result(len(self.tokens), robot_units(self.cutter.numbers))
            if self.compared
            else None,
            prompts=Prompts(lengths, self.tokens.max_len),
            density=meters.density.result() if seen or self.codec is None else None,
            skipped=tuple((s.episode, s.reason) for s in self.manifest.skipped),
            differing=self.differing,
            missing=self.missing,
        )

    def _pass(self) -> NDArray[np.int64]:
        """One pass over shards and dataset side by side; returns prompt lengths [N]."""
        lengths = []
        originals = self._originals()
        for index, rows in self._by_episode():
            lengths.append(rows["length"].astype(np.int64))
            episode = originals(index)
            if episode is not None:
                self.meters.ranges(episode, self.cutter)
            if self.codec is None:
                self.meters.density.add(rows["actions"][:: self.step])
                if episode is not None and any(self.cutter.numbers.delta_mask):
                    self.meters.actions.add(self.cutter.numbers.actions.invert(rows["actions"][:: self.step]))
            else:
                self._fast(rows, episode)
        return np.concatenate(lengths) if lengths else np.zeros(0, np.int64)

    def _fast(self, rows: dict[str, NDArray[Any]], episode: Episode | None) -> None:
        meters, codec = self.meters, self.codec
        assert codec is not None
        if episode is not None:
            self._compare(rows, episode, codec)
        # What the prompt holds besides FAST ids is the same in every row.
        around = (3 if self.text_before_actions is None else self.text_before_actions) + _SUFFIX_END
        told = rows["prefix_length"] < self.tokens.max_len
        per_chunk = rows["length"].astype(np.int64) - rows["prefix_length"] - around
        meters.lengths.append(per_chunk[told])
        meters.episodes.append(rows["episode"].astype(np.int64)[told])
        self.lost += int(np.count_nonzero(~told))
        meters.clipped_chunks += int(np.count_nonzero(rows["clipped"]))
        meters.clipped += int(rows["clipped"].sum())

    def _compare(self, rows: dict[str, NDArray[Any]], episode: Episode, codec: ActionCodec) -> None:
        """Encodes sampled frames again, checks that the shard holds these ids, decodes them."""
        episode = replace(episode, kept=rows["frame"].astype(np.int64))
        after = 0
        for block in self.cutter.blocks(episode):
            first, after = after, after + len(block)
            picked = np.arange(-first % self.step, len(block), self.step)
            if not len(picked):
                continue
            chunks = np.ascontiguousarray(block.chunks[picked])
            batch = codec.encode_batch(chunks, on_overflow=self.manifest.settings["on_overflow"])
            decoded, _ = codec.decode_batch(batch, horizon=self.cutter.horizon, dim=chunks.shape[2])
            self.meters.errors.add(episode.index, block.frame_index[picked], chunks, decoded)
            self.meters.chunks(self.cutter, chunks)
            self.meters.use += np.bincount(batch.ids, minlength=len(self.meters.use))
            self.compared += len(picked)
            for i, ids in zip((first + picked).tolist(), batch, strict=True):
                self.differing += not self._holds(rows, i, ids)

    def _holds(self, rows: dict[str, NDArray[Any]], i: int, ids: NDArray[np.int32]) -> bool:
        """Whether what row i has of its suffix is these FAST ids: a row stores a constant minus the id."""
        prefix, length = int(rows["prefix_length"][i]), int(rows["length"][i])
        if prefix >= self.tokens.max_len:
            return True  # nothing of the suffix is left
        if self.text_before_actions is None:
            self.text_before_actions = length - prefix - len(ids) - _SUFFIX_END
        start = prefix + self.text_before_actions
        held = rows["tokens"][i, start : min(start + len(ids), self.tokens.max_len)].astype(np.int64)
        complete = length == start + len(ids) + _SUFFIX_END
        return complete and len(np.unique(held + ids[: len(held)])) <= 1

    def _by_episode(self) -> Iterator[tuple[int, dict[str, NDArray[Any]]]]:
        """Rows of the shards, an episode at a time."""
        waiting: list[dict[str, NDArray[Any]]] = []
        for batch in self.tokens.batches(4096):
            borders = np.flatnonzero(np.diff(batch["episode"])) + 1
            for start, stop in zip([0, *borders], [*borders, len(batch["episode"])], strict=True):
                part = {name: values[start:stop] for name, values in batch.items()}
                if waiting and waiting[0]["episode"][0] != part["episode"][0]:
                    yield _joined(waiting)
                    waiting = []
                waiting.append(part)
        if waiting:
            yield _joined(waiting)

    def _originals(self):
        """A function from episode index to the original episode, or to None without a dataset."""
        dataset = self.dataset
        if dataset is None:
            return lambda _: None
        bad = {s.episode for s in self.manifest.skipped}
        chosen = EpisodeChoice.noted(self.manifest.settings).of(dataset)
        wanted = [index for index in chosen if index not in bad]
        # Files are read once, in the order they lie on disk; an episode that comes early waits for its turn.
        scan = dataset.scan(self.cutter.columns.all, wanted, on_bad=lambda *_: None)
        early: dict[int, Episode] = {}

        def get(index: int) -> Episode | None:
            while index not in early:
                episode = next(scan, None)
                if episode is None:
                    raise DatasetError(f"episode {index} of {dataset.path} can't be read any more")
                if episode.index == index:
                    return episode
                if episode.index > index:
                    early[episode.index] = episode
            return early.pop(index)

        return get

    def _state(self):
        names = tuple(self.manifest.dataset["state_names"])
        return self.meters.state.result(
            names, self.stats["state"].need("mean"), self.stats["state"].need("std")
        )

    def _source(self, names: tuple[str, ...]) -> Source:
        settings, about, totals = self.manifest.settings, self.manifest.dataset, self.manifest.totals
        shown = {
            **_meaning(self.tokens.contract, self.cutter),
            "prompt length": str(self.tokens.max_len),
            "what overflows": settings["on_overflow"] if self.codec else "",
            "episodes": " where ".join(filter(None, (settings["episodes"] or "all", settings["where"]))),
            "frames": _frames(settings, about),
            "limit": f"{settings['limit']:,} frames" if settings["limit"] else "",
            "action tokenizer": self.codec.description if self.codec else "",
            "shards": f"{len(self.manifest.shards)}, {totals['bytes'] / 1e6:.1f} MB",
            "dataset fingerprint": about["fingerprint"],
            "versions": ", ".join(f"{k} {v}" for k, v in self.manifest.versions.items()),
        }
        return Source(
            name=about["name"],
            model=self.tokens.model,
            dataset=str(self.dataset.path) if self.dataset else about["name"],
            robot=about["robot_type"],
            fps=about["fps"],
            horizon=self.cutter.horizon,
            dim=len(names),
            joints=names,
            episodes=totals["episodes"],
            frames=len(self.tokens),
            settings=shown,
        )


class _Fit:
    """A directory of `pioxide fit`, judged on the episodes that were held out."""

    def __init__(self, root: Path, dataset: Any, max_chunks: int, worst: int) -> None:
        self.fitted = FitResult.load(root)
        self.root = root
        self.max_chunks, self.worst = max_chunks, worst
        found, missing = _find(dataset, self.fitted.dataset, self.fitted.settings)
        if found is None:
            raise InputError(f"{missing} A fitted tokenizer can't be judged without it.")
        self.dataset = keep_frames(found, self.fitted.settings["frames"])
        noted = self.fitted.dataset.get("frames")
        if (self.dataset.kept and self.dataset.kept.as_json()) != noted:
            raise InputError(
                f"frames: {self.fitted.settings['frames']} has changed since {root} was made of it"
            )

    def report(self) -> Report:
        fitted, cutter = self.fitted, FrameCutter.of(self.fitted.contract, self.fitted.columns)
        stats = known(fitted.contract.norm_stats, "norm_stats")
        codec = load_codec(self.root)
        meters = _Meters.make(cutter.horizon, stats, self.worst, codec.vocab_size)
        bad = {s["episode"] for s in fitted.skipped}
        used = EpisodeChoice.noted(fitted.settings).of(self.dataset)
        everything = [index for index in used if index not in bad]
        judged = set(fitted.held_out or everything)
        total = sum(self.dataset.rows(e) for e in judged)
        step = max(1, -(-total // self.max_chunks))
        for episode in self.dataset.scan(cutter.columns.all, everything):
            meters.ranges(episode, cutter)
            if episode.index in judged:
                for block in cutter.blocks(episode):
                    self._judge(meters, cutter, codec, episode.index, block, step)
        names = tuple(fitted.dataset["action_names"])
        tokens = Tokens(
            np.concatenate(meters.lengths),
            np.concatenate(meters.episodes),
            meters.use,
            meters.clipped_chunks,
            meters.clipped,
            _name(codec),
        )
        return Report(
            source=self._source(names, codec, cutter, len(judged), total),
            actions=meters.actions.result(names, stats["actions"].need("mean"), stats["actions"].need("std")),
            state=meters.state.result(
                tuple(fitted.dataset["state_names"]), stats["state"].need("mean"), stats["state"].need("std")
            ),
            tokens=tokens,
            reconstruction=meters.errors.result(total, robot_units(cutter.numbers)),
            density=meters.density.result(),
            skipped=tuple((s["episode"], s["reason"]) for s in fitted.skipped),
        )

    def _judge(
        self, meters: _Meters, cutter: FrameCutter, codec: ActionCodec, episode: int, block: Any, step: int
    ) -> None:
        picked = np.arange(-int(block.frame_index[0]) % step, len(block), step)
        if not len(picked):
            return
        chunks = np.ascontiguousarray(block.chunks[picked])
        batch = codec.encode_batch(chunks, on_overflow="clip")
        decoded, _ = codec.decode_batch(batch, horizon=chunks.shape[1], dim=chunks.shape[2])
        meters.errors.add(episode, block.frame_index[picked], chunks, decoded)
        meters.chunks(cutter, chunks)
        meters.use += np.bincount(batch.ids, minlength=len(meters.use))
        meters.lengths.append(np.diff(batch.offsets))
        meters.episodes.append(np.full(len(picked), episode, np.int64))
        meters.clipped_chunks += int(np.count_nonzero(batch.clipped))
        meters.clipped += int(batch.clipped.sum())

    def _source(
        self, names: tuple[str, ...], codec: ActionCodec, cutter: FrameCutter, episodes: int, frames: int
    ) -> Source:
        fitted = self.fitted
        shown = {
            "judged on": "episodes it has not seen: " + ", ".join(map(str, fitted.held_out))
            if fitted.held_out
            else "the episodes it was fitted on",
            "fitted on": f"{fitted.fitted_chunks:,} chunks",
            "action tokenizer": codec.description,
            **_meaning(fitted.contract, cutter),
            "dataset fingerprint": fitted.dataset["fingerprint"],
            "versions": ", ".join(f"{k} {v}" for k, v in fitted.versions.items()),
        }
        return Source(
            name=fitted.dataset["name"],
            model="fit",
            dataset=str(self.dataset.path),
            robot=self.dataset.robot_type,
            fps=self.dataset.fps,
            horizon=cutter.horizon,
            dim=len(names),
            joints=names,
            episodes=episodes,
            frames=frames,
            settings=shown,
        )


def _find(
    given: str | os.PathLike[str] | None, noted: dict[str, Any], settings: dict[str, Any]
) -> tuple[LeRobotDataset | None, str]:
    """The dataset, or None and a sentence that says why not."""
    path = given or noted.get("path")
    if not path or (given is None and not Path(path).is_dir()):
        where = f" ({path})" if path else ""
        return None, f'The dataset "{noted["name"]}" is not at hand{where}; pass its path with --dataset.'
    dataset = LeRobotDataset.open(path)
    if dataset.fingerprint() != noted["fingerprint"]:
        raise InputError(
            f"{path} is not the dataset this was made from, or has changed since: its fingerprint is "
            f"{dataset.fingerprint()}, expected {noted['fingerprint']}"
        )
    return dataset.with_tasks(TaskChoice.noted(settings)), ""


def _frames(settings: dict[str, Any], noted: dict[str, Any]) -> str:
    """Which frames were used; nothing where all were."""
    if "frames" not in noted:
        return ""
    return f"{noted['frames']['kept']:,} of {noted['frames']['of']:,}, by {settings['frames']}"


def _quantiles(stats: Stats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """q01 and q99, or where a file has none what they would be for a normal distribution."""
    if stats.q01 is not None and stats.q99 is not None:
        return stats.q01, stats.q99
    mean, std = stats.need("mean"), stats.need("std")
    return mean - 2.326 * std, mean + 2.326 * std


def _joined(parts: list[dict[str, NDArray[Any]]]) -> tuple[int, dict[str, NDArray[Any]]]:
    rows = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return int(rows["episode"][0]), rows


def _meaning(contract: Contract, cutter: FrameCutter) -> dict[str, str]:
    """What the numbers are, as the page lists it."""
    runs = mask_runs(cutter.numbers.delta_mask)
    relative = f", relative by ({', '.join(map(str, runs))})" if runs else ""
    robot = cutter.numbers.robot
    return {
        "robot": robot.name + ("" if robot.plain else ", its signs and grippers applied"),
        "state": ", ".join(cutter.columns.state_keys),
        "actions": ", ".join(cutter.columns.action_keys) + relative,
        "normalisation": str(contract.action_norm),
    }


def _name(codec: ActionCodec) -> str:
    return {"fast": "FAST", "beast": "BEAST"}.get(codec.kind, codec.kind)
