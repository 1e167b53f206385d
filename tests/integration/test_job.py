"""The whole job on small datasets: what the rows hold, against the reference stack, and read back."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pioxide.codec import FastCodec
from pioxide.data import EpisodeData
from pioxide.errors import FormatError, InputError, OverflowingChunkError, SettingsError
from pioxide.shards import (
    FitResult,
    FitSettings,
    TokenDataset,
    estimate,
    fit,
    plan_job,
    tokenize_dataset,
)
from pioxide.transforms import DeltaActions, Quantile, load_norm_stats
from support.datasets import episodes, write_v3
from support.jobs import HORIZON, LENGTHS, World, content
from support.reference_stack import ReferenceFast, ReferencePrompts

MODELS = ("pi0", "pi05", "pi0_fast")


def plain_frames(normalization: str, stats: dict, mask: tuple[bool, ...] = ()):
    """Every frame's (episode, frame, task, state, chunk), computed frame by frame from the formulas."""

    def normalise(x, s):
        if normalization == "zscore":
            return (x - s["mean"]) / (np.array(s["std"]) + 1e-6)
        return (x - s["q01"]) / (np.array(s["q99"]) - s["q01"] + 1e-6) * 2 - 1

    stats = {k: {n: np.array(v) for n, v in s.items()} for k, s in stats["norm_stats"].items()}
    for index, episode in enumerate(episodes(LENGTHS)):
        states, actions = episode.columns["observation.state"], episode.columns["action"]
        for t in range(len(states)):
            rows = [min(t + h, len(actions) - 1) for h in range(HORIZON)]
            chunk = actions[rows]
            if mask:
                chunk = chunk - np.where(mask, states[t], np.float32(0))
            yield (
                index,
                t,
                episode.frame_tasks[t],
                normalise(states[t], stats["state"]),
                normalise(chunk, stats["actions"]),
            )


@pytest.mark.parametrize("model", MODELS)
def test_rows_equal_the_reference_stack(world: World, model: str, tmp_path: Path) -> None:
    tokenize_dataset(world.inputs(model), tmp_path / "out", world.settings(model))
    dataset = TokenDataset.open(tmp_path / "out", verify=True)
    prompts = ReferencePrompts.load(world.text_model, ReferenceFast.load(world.fitted))
    stats = json.loads((world.fitted / "norm_stats.json").read_text())
    frames = list(plain_frames("zscore" if model == "pi0" else "quantile", stats))
    rows = list(dataset)
    assert len(rows) == len(frames) == len(dataset) == sum(LENGTHS)
    for row, (episode, frame, task, state, chunk) in zip(rows, frames, strict=True):
        assert (row["episode"], row["frame"], dataset.tasks[int(row["task"])]) == (episode, frame, task)
        if model == "pi0":
            expected = prompts.pi0(task)
            np.testing.assert_array_equal(row["state"], state.astype(np.float32))
        elif model == "pi05":
            expected = prompts.pi05(task, state)
        else:
            expected = prompts.pi0_fast(task, state, chunk)
            np.testing.assert_array_equal(row["ar_mask"], expected.ar_mask)
            np.testing.assert_array_equal(row["loss_mask"], expected.loss_mask)
        if model != "pi0_fast":
            np.testing.assert_array_equal(row["actions"], chunk.astype(np.float32))
        np.testing.assert_array_equal(row["tokens"], expected.tokens)
        np.testing.assert_array_equal(row["mask"], expected.mask)
        assert row["length"] == expected.length


@pytest.mark.parametrize("model", MODELS)
def test_both_layouts_and_any_number_of_workers_give_the_same_bytes(
    world: World, model: str, tmp_path: Path
) -> None:
    settings = world.settings(model)
    v3 = tokenize_dataset(world.inputs(model), tmp_path / "v3", settings, workers=1)
    v21 = tokenize_dataset(world.inputs(model, world.v21), tmp_path / "v21", settings, workers=3)
    assert len(v3.shards) > 2
    assert v3.shards == v21.shards
    assert content(tmp_path / "v3" / "shards") == content(tmp_path / "v21" / "shards")
    again = tmp_path / "again"
    tokenize_dataset(world.inputs(model), again, settings, workers=4)
    assert content(again) == content(tmp_path / "v3")


def test_directory_holds_all_that_training_needs_and_nothing_else(world: World, tmp_path: Path) -> None:
    tokenize_dataset(world.inputs(), tmp_path / "out", world.settings())
    names = set(content(tmp_path / "out"))
    shards = {n for n in names if n.startswith("shards/")}
    fast = {
        "tokenizer.json",
        "processor_config.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "processing_action_tokenizer.py",
    }
    assert names - shards == {
        "README.md",
        "manifest.json",
        "contract.json",
        "norm_stats.json",
        *(f"fast/{n}" for n in fast),
    }
    dataset = TokenDataset.open(tmp_path / "out")
    assert dataset.fast_directory is not None
    assert FastCodec.load(dataset.fast_directory).vocab_size == FastCodec.load(world.fitted).vocab_size
    assert load_norm_stats(tmp_path / "out") == load_norm_stats(world.fitted)
    assert dataset.norm_stats == FitResult.load(world.fitted).contract.norm_stats
    assert dataset.horizon == HORIZON


def test_manifest_counts_what_is_in_the_shards(world: World, tmp_path: Path) -> None:
    manifest = tokenize_dataset(world.inputs(), tmp_path / "out", world.settings(max_len=40))
    tables = [pq.read_table(path) for path in TokenDataset.open(tmp_path / "out").shards]
    for table, shard in zip(tables, manifest.shards, strict=True):
        lengths = table["length"].to_numpy()
        kept = np.array([len(t) for t in table["tokens"].to_pylist()])
        assert shard.rows == table.num_rows
        assert shard.episodes == len(set(table["episode"].to_pylist()))
        assert shard.tokens == kept.sum()
        assert shard.longest == lengths.max()
        assert shard.truncated == np.count_nonzero(lengths > 40) > 0
        assert kept.max() == 40
        assert shard.clipped == sum(table["clipped"].to_pylist())
    totals = manifest.totals
    assert totals["rows"] == sum(LENGTHS)
    assert totals["truncated"] == sum(s.truncated for s in manifest.shards)
    assert totals["longest"] == max(s.longest for s in manifest.shards)
    assert json.loads((tmp_path / "out/manifest.json").read_text())["totals"] == totals


def test_relative_actions_come_back_absolute(world: World, tmp_path: Path) -> None:
    fit(world.v3, tmp_path / "fit", FitSettings(horizon=HORIZON, delta_mask=(2, -1), vocab_size=400))
    tokenize_dataset(world.inputs("pi05"), tmp_path / "out", world.settings("pi05", fit=tmp_path / "fit"))
    stats = load_norm_stats(tmp_path / "fit")
    data = episodes(LENGTHS)
    raw = json.loads((tmp_path / "fit/norm_stats.json").read_text())
    plain = list(plain_frames("quantile", raw, (True, True, False)))
    for row, frame in zip(TokenDataset.open(tmp_path / "out"), plain, strict=True):
        np.testing.assert_array_equal(row["actions"], frame[4].astype(np.float32))
        columns = data[int(row["episode"])].columns
        state = columns["observation.state"][int(row["frame"])]
        absolute = DeltaActions((True, True)).invert(Quantile(stats["actions"]).invert(row["actions"]), state)
        np.testing.assert_allclose(absolute[0], columns["action"][int(row["frame"])], rtol=0, atol=1e-5)


def test_several_columns_side_by_side(world: World, tmp_path: Path) -> None:
    keys = {"state_keys": ("observation.state", "reward"), "action_keys": ("action", "reward")}
    fit(world.v3, tmp_path / "fit", FitSettings(horizon=4, vocab_size=400, **keys))
    tokenize_dataset(world.inputs("pi0"), tmp_path / "out", world.settings("pi0", fit=tmp_path / "fit"))
    batch = next(TokenDataset.open(tmp_path / "out").batches(5))
    assert batch["state"].shape == (5, 4)
    assert batch["actions"].shape == (5, 4, 4)


@pytest.mark.parametrize("model", MODELS)
def test_batches_take_and_rows_agree(world: World, model: str, tmp_path: Path) -> None:
    tokenize_dataset(world.inputs(model), tmp_path / "out", world.settings(model))
    dataset = TokenDataset.open(tmp_path / "out")
    rows = list(dataset)
    for size in (1, 7, 64, 1000):
        batches = list(dataset.batches(size))
        assert [len(b["frame"]) for b in batches[:-1]] == [size] * (len(batches) - 1)
        for name in rows[0]:
            joined = np.concatenate([b[name] for b in batches])
            np.testing.assert_array_equal(joined, np.stack([r[name] for r in rows]))
    assert sum(len(b["frame"]) for b in dataset.batches(64, drop_last=True)) == len(rows) // 64 * 64
    picked = [100, 3, 3, 147, 0, 60]
    taken = dataset.take(picked)
    for name in rows[0]:
        np.testing.assert_array_equal(taken[name], np.stack([rows[i][name] for i in picked]))
    turned = list(dataset.batches(1000, shards=[1, 0]))
    first = dataset.manifest.shards[0].rows
    assert turned[0]["episode"][-first:].tolist() == [int(r["episode"]) for r in rows[:first]]
    for wrong in ([], [-1], [len(rows)]):
        with pytest.raises(InputError, match="row numbers from 0"):
            dataset.take(wrong)


def test_limit_and_selection(world: World, tmp_path: Path) -> None:
    whole, part = tmp_path / "whole", tmp_path / "part"
    tokenize_dataset(world.inputs("pi05"), whole, world.settings("pi05"))
    tokenize_dataset(world.inputs("pi05"), part, world.settings("pi05", episodes="1:4,5", limit=60))
    rows = list(TokenDataset.open(part))
    assert [(int(r["episode"]), int(r["frame"])) for r in rows] == [
        *((1, t) for t in range(12)),
        *((2, t) for t in range(25)),
        *((3, t) for t in range(23)),
    ]
    # A chunk at the limit still sees the actions behind it.
    same = [r for r in TokenDataset.open(whole) if (r["episode"], r["frame"]) == (3, 22)]
    np.testing.assert_array_equal(rows[-1]["actions"], same[0]["actions"])


def test_dry_run_foretells_the_job_and_writes_nothing(world: World, tmp_path: Path) -> None:
    # So small a dataset is its own sample: what is foretold is what comes.
    settings = world.settings(shard_frames=1000, max_len=60)
    job = plan_job(world.inputs(), settings)
    foretold = estimate(job, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    totals = tokenize_dataset(world.inputs(), tmp_path / "out", settings).totals
    assert (foretold.rows, foretold.episodes) == (totals["rows"], totals["episodes"])
    assert (foretold.bytes, foretold.longest) == (totals["bytes"], totals["longest"])
    assert foretold.tokens * foretold.rows == pytest.approx(totals["tokens"])
    assert foretold.truncated * foretold.rows == pytest.approx(totals["truncated"])
    assert (foretold.finished, estimate(job, tmp_path / "out").finished) == (0, 1)
    with pytest.raises(SettingsError, match="text_len: 60 there, 200 now"):
        estimate(plan_job(world.inputs(), world.settings(max_len=200)), tmp_path / "out")


def test_dry_run_sees_what_lies_beyond_the_first_frames(world: World, tmp_path: Path) -> None:
    """A long prompt at the end of a long episode, where a sample of first frames would not look."""
    rng = np.random.default_rng(0)
    state = np.cumsum(rng.normal(size=(900, 3)), axis=0).astype(np.float32)
    tasks = ["fold the towel"] * 700 + ["fold the towel, then stack the cups and put the lid on " * 3] * 200
    data = write_v3(tmp_path / "d", [EpisodeData({"observation.state": state, "action": state}, tasks)])
    settings = world.settings("pi0", max_len=60)
    foretold = estimate(plan_job(world.inputs("pi0", data), settings), tmp_path / "out")
    totals = tokenize_dataset(world.inputs("pi0", data), tmp_path / "out", settings).totals
    assert foretold.longest == totals["longest"] > 60
    assert foretold.truncated * foretold.rows == pytest.approx(totals["truncated"]) == 200


def test_overflow_stops_with_the_place_or_is_counted(world: World, tmp_path: Path) -> None:
    # Statistics of a far smaller motion make the same actions huge.
    stats = json.loads((world.fitted / "norm_stats.json").read_text())
    for name in ("q01", "q99"):
        stats["norm_stats"]["actions"][name] = [x * 1e-6 for x in stats["norm_stats"]["actions"][name]]
    (tmp_path / "norm_stats.json").write_text(json.dumps(stats))
    inputs, other = world.inputs(), {"stats": tmp_path / "norm_stats.json"}
    with pytest.raises(
        OverflowingChunkError, match=r"episode 0, the chunk from frame \d+, joint waist: .*--on-overflow clip"
    ):
        tokenize_dataset(inputs, tmp_path / "out", world.settings(on_overflow="error", **other), workers=1)
    assert not list((tmp_path / "out/shards").iterdir())
    manifest = tokenize_dataset(inputs, tmp_path / "clip", world.settings(on_overflow="clip", **other))
    assert manifest.totals["clipped_rows"] == sum(LENGTHS)
    assert manifest.totals["clipped"] >= sum(LENGTHS)
    clipped = np.concatenate([b["clipped"] for b in TokenDataset.open(tmp_path / "clip").batches(50)])
    assert clipped.sum() == manifest.totals["clipped"]


def test_progress_adds_up(world: World, tmp_path: Path) -> None:
    class Heard:
        def __init__(self) -> None:
            self.begun: list[tuple[int, int]] = []
            self.frames = 0

        def begin(self, total: int, done: int) -> None:
            self.begun.append((total, done))

        def advance(self, frames: int) -> None:
            self.frames += frames

    heard = Heard()
    tokenize_dataset(world.inputs(), tmp_path / "out", world.settings(), progress=heard, workers=1)
    assert (heard.begun, heard.frames) == ([(sum(LENGTHS), 0)], sum(LENGTHS))
    (tmp_path / "out/shards/shard-00001.parquet").unlink()
    again = Heard()
    manifest = tokenize_dataset(world.inputs(), tmp_path / "out", world.settings(), progress=again, workers=1)
    lost = manifest.shards[1].rows
    assert (again.begun, again.frames) == ([(sum(LENGTHS), sum(LENGTHS) - lost)], lost)


def test_unfinished_or_damaged_output_is_not_read(world: World, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(FormatError, match="is not the output of pioxide tokenize"):
        TokenDataset.open(tmp_path)
    tokenize_dataset(world.inputs(), out, world.settings())
    shard = out / "shards/shard-00001.parquet"
    whole = shard.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 3] ^= 1
    shard.write_bytes(flipped)
    with pytest.raises(FormatError, match=r"shard-00001\.parquet is damaged"):
        TokenDataset.open(out, verify=True)
    with pytest.raises(FormatError, match=r"shard-00001\.parquet can't be read"):
        list(TokenDataset.open(out).batches(10))
    shard.write_bytes(whole[:-1])
    with pytest.raises(FormatError, match="is damaged"):
        TokenDataset.open(out)
    shard.unlink()
    with pytest.raises(FormatError, match="is missing"):
        TokenDataset.open(out)
    value = json.loads((out / "manifest.json").read_text())
    (out / "manifest.json").write_text(json.dumps(value | {"complete": False}))
    with pytest.raises(FormatError, match="is not complete"):
        TokenDataset.open(out)
    value["versions"]["format"] = 99
    (out / "manifest.json").write_text(json.dumps(value))
    with pytest.raises(FormatError, match="format 99, this pioxide reads format 2"):
        TokenDataset.open(out)
