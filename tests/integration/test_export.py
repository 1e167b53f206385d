"""Tokens in other loaders' formats: the same rows."""

import json
import os
import pickle
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from pioxide.cli.main import main
from pioxide.data import LeRobotDataset
from pioxide.errors import DatasetError, FormatError, InputError, OutputError
from pioxide.shards import (
    ArrayRecordRows,
    TokenDataset,
    export_array_record,
    export_lerobot,
    tokenize_dataset,
)
from support.jobs import HORIZON, World, content

MODELS = ("pi0", "pi05", "pi0_fast")


@pytest.fixture(scope="module", params=MODELS)
def tokens(request, world: World, tmp_path_factory) -> TokenDataset:
    out = tmp_path_factory.mktemp("tokens") / request.param
    tokenize_dataset(world.inputs(request.param), out, world.settings(request.param))
    return TokenDataset.open(out)


def test_lerobot_dataset_has_the_rows_beside_its_frames(tokens, world, tmp_path) -> None:
    made = export_lerobot(tokens, world.v3, tmp_path / "new")
    before, after = LeRobotDataset.open(world.v3), LeRobotDataset.open(made)
    keys = ["observation.state", "action"]
    for one, two in zip(before.scan(keys), after.scan(keys), strict=True):
        for key in keys:
            np.testing.assert_array_equal(one.columns[key], two.columns[key])
        assert one.prompts[0] == two.prompts[0]
    new = {name for name in after.features if name.startswith("pioxide.")}
    assert new == set(after.features) - set(before.features)
    read = list(after.scan(sorted(new)))
    got = {
        name: np.concatenate([e.columns[f"pioxide.{name}"] for e in read])
        for name in (name.removeprefix("pioxide.") for name in new)
    }
    want = tokens[:]
    np.testing.assert_array_equal(got.pop("token_count").ravel(), want["mask"].sum(1))
    for name, values in got.items():
        np.testing.assert_array_equal(values.reshape(want[name].shape), want[name])
        assert values.dtype == want[name].dtype
    names = {"tokens", "length"} | {
        "pi0": {"state", "actions"},
        "pi05": {"actions"},
        "pi0_fast": {"prefix_length", "clipped"},
    }[tokens.model]
    assert set(got) == names
    info = json.loads((made / "meta/info.json").read_text())
    assert info["features"]["pioxide.tokens"] == {"dtype": "int32", "shape": [tokens.max_len], "names": None}
    if "actions" in names:
        assert info["features"]["pioxide.actions"]["shape"] == [HORIZON * 3]
    # What was not written anew is as it was.
    same = {n: b for n, b in content(world.v3).items() if not n.startswith("data/") and n != "meta/info.json"}
    assert same.items() <= content(made).items()
    file = next(made.glob("data/**/*.parquet"))
    assert b"huggingface" not in (pq.read_schema(file).metadata or {})


def test_lerobot_export_refuses_what_does_not_belong_together(tokens, world, tmp_path) -> None:
    with pytest.raises(DatasetError, match=r"is LeRobot v2\.1; tokens are written back into v3\.0"):
        export_lerobot(tokens, world.v21, tmp_path / "new")
    shutil.copytree(world.v3, tmp_path / "changed")
    file = tmp_path / "changed" / LeRobotDataset.open(world.v3).episodes[0].file
    pq.write_table(pq.read_table(file), file, compression="none")
    with pytest.raises(DatasetError, match="is not the dataset, or not as it was"):
        export_lerobot(tokens, tmp_path / "changed", tmp_path / "new")
    with pytest.raises(InputError, match="tokens of 74 of 148 frames"):
        export_lerobot(tokens.shard(0, 2), world.v3, tmp_path / "new")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    with pytest.raises(InputError, match="exists already"):
        export_lerobot(tokens, world.v3, tmp_path / "full")
    assert sorted(os.listdir(tmp_path)) == ["changed", "full"]


def test_export_that_is_interrupted_leaves_nothing(tokens, world, tmp_path) -> None:
    class Impatient:
        def begin(self, total: int, done: int) -> None: ...
        def advance(self, frames: int) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_lerobot(tokens, world.v3, tmp_path / "new", progress=Impatient())
    pytest.importorskip("array_record")
    with pytest.raises(KeyboardInterrupt):
        export_array_record(tokens, tmp_path / "new", progress=Impatient())
    assert os.listdir(tmp_path) == []


def test_lerobot_reads_its_columns(tokens, world, tmp_path) -> None:
    """As LeRobot loads data files: by Hugging Face's datasets, with the features that info.json declares."""
    datasets = pytest.importorskip("datasets", reason="needs Hugging Face's datasets")
    made = export_lerobot(tokens, world.v3, tmp_path / "new")
    files = [str(path) for path in sorted(made.glob("data/**/*.parquet"))]
    loaded = datasets.Dataset.from_parquet(files, cache_dir=str(tmp_path / "cache"))
    np.testing.assert_array_equal(np.array(loaded["pioxide.tokens"]), tokens[:]["tokens"])


def test_array_records_are_the_rows(tokens, tmp_path) -> None:
    grain = pytest.importorskip("grain", reason="needs grain (pioxide[train])")
    pytest.importorskip("array_record", reason="needs array-record (pioxide[train])")
    made = export_array_record(tokens, tmp_path / "new")
    rows = ArrayRecordRows(made)
    assert len(rows) == len(tokens)
    for number in (0, 1, 60, 147, -1):
        one, two = rows[number], tokens[number]
        assert one.keys() == two.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], two[name])
            assert one[name].dtype == two[name].dtype
    with pytest.raises(IndexError, match="row 148 of 148"):
        rows[148]
    loader = grain.MapDataset.source(rows).shuffle(seed=3).batch(10)
    seen = np.concatenate([loader[i]["tokens"] for i in range(len(loader))])
    assert sorted(map(bytes, seen)) == sorted(map(bytes, tokens[:]["tokens"]))
    assert pickle.loads(pickle.dumps(rows))[5]["frame"] == tokens[5]["frame"]
    assert repr(rows) == f"ArrayRecordRows('{made}': 148 rows)"
    beside = {"contract.json", "norm_stats.json"} | (
        {"fast/tokenizer.json"} if tokens.fast_directory else set()
    )
    assert beside <= content(made).keys()
    with pytest.raises(InputError, match="exists already"):
        export_array_record(tokens, made)
    with pytest.raises(InputError, match="a host's part"):
        export_array_record(tokens.shard(0, 2), tmp_path / "other")
    file = next(made.glob("tokens-*"))
    file.rename(made / "away")
    with pytest.raises(FormatError, match="is missing; export the tokens again"):
        ArrayRecordRows(made)
    file.write_bytes(b"nothing")
    with pytest.raises(FormatError, match="export the tokens again"):
        ArrayRecordRows(made)
    (made / "layout.json").write_text('{"format": 1}')
    with pytest.raises(FormatError, match="is not pioxide's"):
        ArrayRecordRows(made)
    with pytest.raises(FormatError, match="ends before its"):
        rows.layout.unpack(b"1234")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        export_array_record(tokens, tmp_path / "file" / "new")


def test_export_command(tokens, world, tmp_path, capsys) -> None:
    pytest.importorskip("tyro")
    assert main(["export", str(tokens.path), "--to", "lerobot", "-o", str(tmp_path / "new")]) == 0
    assert "148 rows" in capsys.readouterr().out
    assert LeRobotDataset.open(tmp_path / "new").total_frames == 148
    line = ["export", str(tokens.path), "--to", "array_record", "-o", str(tmp_path / "records")]
    assert main([*line, "--dataset", str(world.v3)]) == 2
    assert "--dataset is for --to lerobot" in capsys.readouterr().err
    pytest.importorskip("array_record")
    pytest.importorskip("grain")
    assert main(line) == 0
    assert len(ArrayRecordRows(tmp_path / "records")) == 148
