"""A manifest that was changed, or is something else: named when it is loaded, not when a row is wrong."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from pioxide.errors import FormatError
from pioxide.shards import TokenDataset, tokenize_dataset
from support.jobs import make_world


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("manifest")
    world = make_world(root)
    tokenize_dataset(world.inputs("pi0"), root / "out", world.settings("pi0"))
    return root / "out"


@pytest.fixture
def tokens(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "out")
    return tmp_path / "out"


def change(tokens: Path, *place, value) -> None:
    manifest = json.loads((tokens / "manifest.json").read_text())
    inner = manifest
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    (tokens / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("dataset",), None, "dataset is 'None', expected dict"),
        (("dataset", "tasks"), [], "dataset.tasks"),
        (("dataset", "tasks"), {"zero": "a"}, "'zero' is no task index"),
        (("dataset", "tasks"), {"0": None}, "dataset.tasks.0"),
        (("dataset", "action_names"), [1], "dataset.action_names"),
        (("dataset", "fps"), float("nan"), "dataset.fps"),
        (("dataset", "name"), 7, "dataset.name"),
        (("settings",), [], "settings"),
        (("settings", "columns"), None, "is not a manifest"),
        (("settings", "columns", "action_keys"), [], "is not a manifest"),
        (("contract",), 3, "contract is '3', expected dict"),
        (("contract", "model"), None, "contract.model"),
        (("contract", "sha256"), 7, "contract.sha256"),
        (("inputs",), 3, "inputs"),
        (("versions",), None, "is not a manifest"),
        (("plan", "shards"), -1, "plan.shards"),
        (("plan", "frames"), 3, "plan.frames is 3, the shards have 148 rows"),
        (("complete",), 1, "complete"),
        (("shards",), None, "is not a manifest"),
        (("shards", 0), None, "is not a manifest"),
        (("shards", 0, "rows"), "7", "rows is '7', expected int"),
        (("shards", 0, "rows"), 7, "plan.frames is 148"),
        (("shards", 0, "rows"), -7, "rows is '-7'"),
        (("shards", 0, "file"), "../../secret.parquet", "file is"),
        (("shards", 0, "file"), "shard-00001.parquet", "listed twice"),
        (("shards", 0, "sha256"), "", "sha256 is"),
        (("shards", 0, "skipped"), [{"episode": "1", "reason": ""}], "skipped.episode"),
        (("shards", 0, "more"), 1, "is not a manifest"),
    ],
)
def test_changed_manifest_is_refused_by_field(tokens: Path, place, value, said: str) -> None:
    change(tokens, *place, value=value)
    with pytest.raises(FormatError, match=said) as caught:
        TokenDataset.open(tokens)
    assert str(caught.value).startswith(f"{tokens}/manifest.json")


def test_rows_are_compared_with_the_shards_themselves(tokens: Path) -> None:
    """Else `take` gives other rows than asked for."""
    first, second = (json.loads((tokens / "manifest.json").read_text())["shards"][i]["rows"] for i in (0, 1))
    change(tokens, "shards", 0, "rows", value=first - 5)
    change(tokens, "shards", 1, "rows", value=second + 5)
    with pytest.raises(FormatError, match=f"parquet has {first} rows, manifest.json says {first - 5}"):
        TokenDataset.open(tokens)


@pytest.mark.parametrize("content", [b"", b"[" * 100_000, b"\xff", b"[]", b"null", b"{}"])
def test_something_else_in_its_place(tokens: Path, content: bytes) -> None:
    (tokens / "manifest.json").write_bytes(content)
    with pytest.raises(FormatError, match=r"manifest\.json"):
        TokenDataset.open(tokens)


def test_pipe_in_its_place_is_not_waited_for(tokens: Path) -> None:
    (tokens / "manifest.json").unlink()
    os.mkfifo(tokens / "manifest.json")
    with pytest.raises(FormatError, match="not a regular file"):
        TokenDataset.open(tokens)


def test_directory_among_the_records_of_a_job(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    (tmp_path / "out/.progress/left/behind").mkdir(parents=True)
    tokenize_dataset(world.inputs("pi0"), tmp_path / "out", world.settings("pi0"))
    assert not (tmp_path / "out/.progress").exists()


def test_rows_by_number_are_those_of_take(made: Path) -> None:
    """The protocol of grain, and of PyTorch's loaders."""
    dataset = TokenDataset.open(made)
    taken = dataset.take([0, 147, 60])
    for i, index in enumerate([0, -1, np.int64(60)]):
        row = dataset[index]
        assert set(row) == set(taken)
        for name in row:
            np.testing.assert_array_equal(row[name], taken[name][i])
    assert [int(r["frame"]) for r in dataset.__getitems__([60, 0])] == [
        int(taken["frame"][i]) for i in (2, 0)
    ]
    for index in (148, -149):
        with pytest.raises(IndexError, match="of 148"):
            dataset[index]
    with pytest.raises(TypeError):
        dataset["0"]


def test_token_dataset_says_what_it_is(made: Path) -> None:
    dataset = TokenDataset.open(made)
    assert repr(dataset) == f"TokenDataset('{made}': 148 rows of v3 for pi0)"
    assert "<td>148 from 6 episodes</td>" in dataset._repr_html_()
