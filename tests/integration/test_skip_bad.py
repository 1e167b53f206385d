"""What one episode can have, through the commands: left out with --skip-bad, and said; the rest is made."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pioxide.cli.main import main
from pioxide.data import EpisodeData, LeRobotDataset, compute_stats, write_lerobot_v3
from pioxide.errors import DatasetError, OverflowingChunkError
from pioxide.shards import FitResult, FitSettings, TokenDataset, fit, fit_jointly, plan_job, run_job
from support.datasets import episodes, rewrite, write_v3, write_v21
from support.exporters import as_cloth, as_gr1
from support.jobs import LENGTHS, World, make_world

SETTINGS = FitSettings(horizon=8, vocab_size=300, max_chunks=100_000, held_out=0.0)
V3_EPISODES = "meta/episodes/chunk-000/file-000.parquet"


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


def wild(root: Path, where=(1, 4), lengths=(400, 300, 400, 350, 200)) -> Path:
    """A dataset with a frame of 1e8 in some episodes: too few to count in the quantiles."""
    data = episodes(lengths)
    for index in where:
        data[index].columns["action"][lengths[index] // 2, 1] = 1e8
    return write_v3(root, data)


def test_fit_leaves_out_episodes_that_no_tokenizer_can_represent(tmp_path):
    root = wild(tmp_path / "d")
    with pytest.raises(
        OverflowingChunkError, match=r"episode 1, the chunk from frame \d+, joint elbow.*--skip-bad"
    ):
        fit(root, tmp_path / "f", SETTINGS)
    made = fit(root, tmp_path / "f", SETTINGS, skip_bad=True)
    assert [entry["episode"] for entry in made.skipped] == [1, 4]
    assert "joint elbow" in made.skipped[1]["reason"]
    kept = compute_stats(LeRobotDataset.open(root), horizon=8, episodes=[0, 2, 3])
    assert made.contract.norm_stats == kept
    joint = fit_jointly([root, wild(tmp_path / "e", where=())], tmp_path / "j", SETTINGS, skip_bad=True)
    assert [[entry["episode"] for entry in one.skipped] for one in joint.members.values()] == [[1, 4], []]


def test_fit_of_nothing_but_wild_episodes_says_so(tmp_path):
    root = wild(tmp_path / "d", where=(0,), lengths=(400,))
    with pytest.raises(DatasetError, match="every episode was left out"):
        fit(root, tmp_path / "f", SETTINGS, skip_bad=True)
    with pytest.raises(DatasetError, match="every episode was left out"):
        fit_jointly([root], tmp_path / "f", SETTINGS, skip_bad=True)


@pytest.mark.parametrize("length", [300, 5000], ids=["one block", "several blocks"])
def test_tokenize_leaves_out_episodes_without_tokens(world, tmp_path, length):
    root = wild(tmp_path / "d", where=(), lengths=(40, length, 30))
    data = episodes((40, length, 30))
    data[1].columns["action"][length - 20, 1] = 1e9  # in the last block
    root = write_v3(tmp_path / "w", data)
    fit(root, tmp_path / "f", FitSettings(horizon=8, vocab_size=300, episodes="0,2"))
    request = {"dataset": root, "fit": tmp_path / "f", "on_overflow": "error", "shard_frames": 10_000}
    settings = world.settings(**request)
    inputs = world.inputs(dataset=root)
    inputs = type(inputs)(root, inputs.text_model, tmp_path / "f")
    with pytest.raises(OverflowingChunkError, match="episode 1, "):
        run_job(plan_job(inputs, settings), tmp_path / "t")
    manifest = run_job(plan_job(inputs, settings), tmp_path / "t", skip_bad=True)
    assert [s.episode for s in manifest.skipped] == [1]
    tokens = TokenDataset.open(tmp_path / "t", verify=True)
    assert sorted({int(row["episode"]) for row in tokens}) == [0, 2]
    assert len(tokens) == manifest.totals["rows"] == 70


@pytest.mark.parametrize("change", [as_gr1, as_cloth])
def test_what_other_exporters_write_is_used_as_it_is(world, tmp_path, change, capsys):
    root = change(write_v21(tmp_path / "d", episodes(LENGTHS)))
    assert main(["check", str(root)]) == 0
    options = ["--horizon", "8", "--vocab-size", "400"]
    assert main(["fit", str(root), "-o", str(tmp_path / "f"), *options]) == 0
    given = ["--model", "pi0_fast", "--fit", str(tmp_path / "f"), "--text-model", str(world.text_model)]
    assert main(["tokenize", str(root), "-o", str(tmp_path / "t"), *given, "--on-overflow", "clip"]) == 0
    tokens = TokenDataset.open(tmp_path / "t", verify=True)
    assert len(tokens) == sum(LENGTHS)
    assert (
        FitResult.load(tmp_path / "f").contract.norm_stats == FitResult.load(world.fitted).contract.norm_stats
    )


def test_metadata_that_is_lost_costs_its_episodes_and_ends_with_3(world, tmp_path, capsys):
    root = write_v3(tmp_path / "d", episodes(LENGTHS))

    def spoil(table):
        lengths = table["length"].to_pylist()
        lengths[3] = None
        place = table.column_names.index("length")
        return table.set_column(place, "length", pa.array(lengths))

    rewrite(root / V3_EPISODES, spoil)
    next((root / "meta").glob("tasks.*")).unlink()
    options = ["--horizon", "8", "--vocab-size", "400"]
    assert main(["fit", str(root), "-o", str(tmp_path / "f"), *options]) == 2
    assert "episode 3: length is None" in capsys.readouterr().err
    assert main(["fit", str(root), "-o", str(tmp_path / "f"), *options, "--skip-bad"]) == 3
    said = capsys.readouterr()
    assert "meta/tasks.jsonl" in said.err
    assert "the list of episodes says the task" in said.err
    given = ["--model", "pi05", "--fit", str(tmp_path / "f"), "--text-model", str(world.text_model)]
    assert main(["tokenize", str(root), "-o", str(tmp_path / "t"), *given, "--skip-bad"]) == 3
    tokens = TokenDataset.open(tmp_path / "t", verify=True)
    assert sorted({int(row["episode"]) for row in tokens}) == [0, 1, 2, 4, 5]
    assert set(tokens.manifest.dataset["tasks"].values()) == {"fold the towel", "stack the cups"}


def test_a_dataset_without_any_instruction_is_used_with_one_that_is_given(world, tmp_path, capsys):
    kept = ("observation.state", "action")
    data = [EpisodeData({key: e.columns[key] for key in kept}, "") for e in episodes(LENGTHS)]
    root = write_lerobot_v3(tmp_path / "d", data, fps=50, robot_type="arm")
    next((root / "meta").glob("tasks.*")).unlink()
    options = ["--horizon", "8", "--vocab-size", "400"]
    assert main(["fit", str(root), "-o", str(tmp_path / "f"), *options]) == 2
    assert "no instruction is known (meta/tasks.jsonl: no such file" in capsys.readouterr().err
    task = ["--task", "wave"]
    assert main(["fit", str(root), "-o", str(tmp_path / "f"), *options, *task]) == 0
    given = ["--model", "pi05", "--fit", str(tmp_path / "f"), "--text-model", str(world.text_model)]
    assert main(["tokenize", str(root), "-o", str(tmp_path / "t"), *given, *task]) == 0
    tokens = TokenDataset.open(tmp_path / "t")
    assert list(tokens.manifest.dataset["tasks"].values()) == ["wave"]
    assert np.unique([row["task"] for row in tokens]).tolist() == [0]
