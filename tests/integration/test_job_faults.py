"""Broken episodes, and things that don't fit together: what a job says, and what it leaves behind."""

import dataclasses
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pioxide.data import LeRobotDataset
from pioxide.errors import ContractError, DatasetError, FormatError, InputError, PioxideError, SettingsError
from pioxide.shards import (
    FitResult,
    FitSettings,
    JobRequest,
    TokenDataset,
    fit,
    plan_job,
    resolve,
    tokenize_dataset,
)
from support.datasets import rewrite, with_column
from support.jobs import HORIZON, LENGTHS, World, content

BAD = 2  # the episode that is spoilt


def rows_of(table: pa.Table, episode: int) -> np.ndarray:
    return np.flatnonzero(table["episode_index"].to_numpy() == episode)


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def removed(file: Path) -> None:
    file.unlink()


def no_parquet(file: Path) -> None:
    file.write_bytes(b"<html>404</html>")


def not_a_number(file: Path) -> None:
    def change(table: pa.Table) -> pa.Table:
        values = np.array(table["observation.state"].to_pylist(), np.float32)
        values[rows_of(table, BAD)[4], 1] = np.nan
        return with_column(table, "observation.state", pa.array(values.tolist(), pa.list_(pa.float32(), 3)))

    rewrite(file, change)


def other_dimension(file: Path) -> None:
    def change(table: pa.Table) -> pa.Table:
        rows = table["action"].to_pylist()
        rows[rows_of(table, BAD)[3]].pop()
        return with_column(table, "action", pa.array(rows, pa.list_(pa.float32())))

    rewrite(file, change)


def no_such_task(file: Path) -> None:
    def change(table: pa.Table) -> pa.Table:
        tasks = table["task_index"].to_numpy().copy()
        tasks[rows_of(table, BAD)] = 77
        return with_column(table, "task_index", pa.array(tasks))

    rewrite(file, change)


def row_missing(file: Path) -> None:
    rewrite(file, lambda t: t.filter(np.arange(len(t)) != rows_of(t, BAD)[-1]))


# What is done to the file, what is said of it, and whether it hits only one episode of a v3.0 file.
FAULTS: dict[str, tuple[Callable[[Path], None], str, bool]] = {
    "truncated": (truncated, "can't be read as Parquet", False),
    "removed": (removed, "no such file", False),
    "no Parquet": (no_parquet, "is a web page", False),
    "NaN": (not_a_number, r'"observation\.state" frame 4, dimension 1.* is nan', True),
    "wrong dimension": (other_dimension, '"action" frame 3 has 2 numbers, expected 3', True),
    "missing task": (no_such_task, "task_index 77, and no such task", True),
    "missing row": (row_missing, "has 24 rows, the metadata says 25", True),
}


def spoilt(world: World, layout: str, fault: str, root: Path) -> Path:
    path = root / "broken"
    shutil.copytree(getattr(world, layout), path)
    file = path / LeRobotDataset.open(path).episodes[BAD].file
    FAULTS[fault][0](file)
    return path


CASES = [("v21", f) for f in FAULTS] + [("v3", f) for f, (_, _, single) in FAULTS.items() if single]


@pytest.mark.parametrize(("layout", "fault"), CASES)
def test_broken_episode_stops_the_job_by_name_or_is_left_out(
    world: World, layout: str, fault: str, tmp_path: Path
) -> None:
    path, out = spoilt(world, layout, fault, tmp_path), tmp_path / "out"
    inputs, settings, said = world.inputs(dataset=path), world.settings(), FAULTS[fault][1]
    with pytest.raises(DatasetError, match=rf"(?s)episode {BAD}: .*{said}.*--skip-bad") as error:
        tokenize_dataset(inputs, out, settings, workers=1)
    assert f"1 of 4 shards are finished and kept in {out}" in str(error.value)
    left = {n for n in content(out) if n.startswith("shards/")}
    assert left == {"shards/shard-00000.parquet"}

    manifest = tokenize_dataset(inputs, out, settings, skip_bad=True)
    assert [s.episode for s in manifest.skipped] == [BAD]
    assert f"episode {BAD}: " in manifest.skipped[0].reason
    rows = [(int(r["episode"]), int(r["frame"])) for r in TokenDataset.open(out, verify=True)]
    assert rows == [(e, t) for e, length in enumerate(LENGTHS) if e != BAD for t in range(length)]
    assert manifest.totals["rows"] == sum(LENGTHS) - LENGTHS[BAD]
    assert manifest.totals["episodes"] == len(LENGTHS) - 1

    # The same again is complete; without leave to skip, it stops where it stopped before.
    before = content(out)
    assert tokenize_dataset(inputs, out, settings, skip_bad=True) == manifest
    assert content(out) == before
    with pytest.raises(DatasetError, match=f"episode {BAD}: "):
        tokenize_dataset(inputs, out, settings)
    with pytest.raises(FormatError, match="is not complete"):
        TokenDataset.open(out)
    tokenize_dataset(inputs, out, settings, skip_bad=True)
    assert content(out) == before


def test_repaired_dataset_is_another_dataset(world: World, tmp_path: Path) -> None:
    path, out = spoilt(world, "v21", "truncated", tmp_path), tmp_path / "out"
    tokenize_dataset(world.inputs(dataset=path), out, world.settings(), skip_bad=True)
    file = LeRobotDataset.open(path).episodes[BAD].file
    shutil.copy(world.v21 / file, path / file)
    with pytest.raises(SettingsError, match=r"dataset\.fingerprint: "):
        tokenize_dataset(world.inputs(dataset=path), out, world.settings())


def test_every_episode_bad(world: World, tmp_path: Path) -> None:
    path = tmp_path / "broken"
    shutil.copytree(world.v21, path)
    for episode in LeRobotDataset.open(path).episodes:
        no_parquet(path / episode.file)
    said = r"(?s)every episode was left out \(6\).*episode 0: is a web page.*and 3 more"
    with pytest.raises(DatasetError, match=said):
        tokenize_dataset(world.inputs(dataset=path), tmp_path / "out", world.settings(), skip_bad=True)
    with pytest.raises(FormatError, match="is not complete"):
        TokenDataset.open(tmp_path / "out")
    with pytest.raises(DatasetError, match=said):
        fit(path, tmp_path / "fit", FitSettings(horizon=HORIZON, vocab_size=400), skip_bad=True)
    assert not (tmp_path / "fit").exists()


@pytest.mark.parametrize("fault", ["truncated", "NaN"])
def test_fit_names_the_broken_episode_or_leaves_it_out(world: World, fault: str, tmp_path: Path) -> None:
    path, settings = spoilt(world, "v21", fault, tmp_path), FitSettings(horizon=HORIZON, vocab_size=400)
    with pytest.raises(DatasetError, match=rf"episode {BAD}: .*{FAULTS[fault][1]}"):
        fit(path, tmp_path / "fit", settings)
    assert {p.name for p in tmp_path.iterdir()} == {"broken"}
    made = fit(path, tmp_path / "fit", settings, skip_bad=True)
    assert [s["episode"] for s in made.skipped] == [BAD]
    assert BAD not in made.held_out
    # As if the episode had not been selected.
    without = ",".join(str(e) for e in range(len(LENGTHS)) if e != BAD)
    other = fit(world.v21, tmp_path / "other", dataclasses.replace(settings, episodes=without))
    assert (made.result, made.held_out) == (other.result, other.held_out)


def shorter_stats(world: World, root: Path) -> dict[str, Any]:
    stats = json.loads((world.fitted / "norm_stats.json").read_text())
    for fields in stats["norm_stats"].values():
        for name in fields:
            fields[name] = fields[name][:2]
    (root / "norm_stats.json").write_text(json.dumps(stats))
    return {"stats": root}


def stats_of_nothing(world: World, root: Path) -> dict[str, Any]:
    stats = json.loads((world.fitted / "norm_stats.json").read_text())
    del stats["norm_stats"]["actions"]
    (root / "norm_stats.json").write_text(json.dumps(stats))
    return {"stats": root}


MISFITS = {
    "stats too short": (shorter_stats, 'statistics of "state" cover 2 numbers, and the robot has 3'),
    "stats without actions": (stats_of_nothing, 'have no "actions"'),
    "no stats": (lambda w, r: {"stats": r / "nowhere.json"}, "nowhere.json"),
    "no dataset": (lambda w, r: {"dataset": r / "nowhere"}, "nowhere"),
    "no text model": (lambda w, r: {"text_model": r / "nowhere.model"}, "nowhere.model"),
    "text model is something else": (lambda w, r: {"text_model": w.v3 / "meta/info.json"}, "info.json"),
    "FAST is empty": (lambda w, r: {"fast": r}, "tokenizer.json"),
    "other columns than fitted": (lambda w, r: {"action_keys": ("reward",)}, "was fitted for other columns"),
    "no such column": (lambda w, r: {"action_keys": ("actions",), "stats": w.fitted}, 'no feature "actions"'),
    "mask too long": (lambda w, r: {"delta_mask": (7, -1), "stats": w.fitted}, "mask covers 7 dimensions"),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_what_does_not_fit_is_said_before_anything_is_written(
    world: World, misfit: str, tmp_path: Path
) -> None:
    change, said = MISFITS[misfit]
    root = tmp_path / "given"
    root.mkdir()
    request = world.request(**change(world, root))
    with pytest.raises(PioxideError, match=re.escape(said)):
        tokenize_dataset(resolve(request)[0], tmp_path / "out", resolve(request)[1])
    assert not (tmp_path / "out").exists()


def test_selection_of_nothing(world: World) -> None:
    with pytest.raises(InputError, match="'9' names no episode of this dataset, which has 0 to 5"):
        plan_job(world.inputs(), world.settings(episodes="9"))


def test_request_takes_from_the_fitted_directory_and_refuses_contradictions(world: World) -> None:
    request = JobRequest(world.v3, "pi0_fast", world.text_model, fit=world.fitted)
    inputs, settings = resolve(request)
    fitted = FitResult.load(world.fitted).contract
    assert inputs.fast == world.fitted
    for name in ("robot", "delta_mask", "state_norm", "action_norm", "norm_stats", "action_horizon", "fast"):
        assert getattr(settings.contract, name) == getattr(fitted, name)
    assert resolve(dataclasses.replace(request, model="pi0"))[0].fast is None
    with pytest.raises(ContractError, match=r"action_horizon: .* has 8, the request has 50"):
        resolve(dataclasses.replace(request, horizon=50))
    with pytest.raises(
        ContractError, match=r"has absolute actions, the request has actions relative by mask 2"
    ):
        resolve(dataclasses.replace(request, delta_mask=(2, -1)))
    with pytest.raises(ContractError, match=r"has quantiles \(openpi\), the request has mean_std"):
        resolve(dataclasses.replace(request, normalization="zscore"))
    with pytest.raises(ContractError, match=r"fitted for chunks 8 x 3 .*and here horizon is 50"):
        resolve(dataclasses.replace(request, horizon=50, stats=world.fitted))
    other = dataclasses.replace(request, model="pi05", horizon=50, stats=world.fitted)
    assert resolve(other)[1].contract.action_horizon == 50
    with pytest.raises(InputError, match="normalising needs statistics"):
        resolve(dataclasses.replace(request, model="pi0", fit=None))
    with pytest.raises(InputError, match="pi0_fast needs a FAST tokenizer"):
        resolve(dataclasses.replace(request, fit=None, stats=world.fitted))
    with pytest.raises(ContractError, match="delta_mask: whether actions are relative"):
        resolve(dataclasses.replace(request, model="pi0", fit=None, stats=world.fitted))
    with pytest.raises(FormatError, match=r"has no fit\.json; make it with `pioxide fit`"):
        resolve(dataclasses.replace(request, fit=world.v3))
