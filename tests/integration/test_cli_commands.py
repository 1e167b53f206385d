"""The commands as a person types them: what they print, what they leave, and how they end."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pioxide.cli.main import main
from pioxide.codec import FastCodec
from pioxide.data import EpisodeData, LeRobotDataset, windows
from pioxide.shards import FitResult, TokenDataset
from pioxide.transforms import NormRule, Quantile, load_norm_stats
from support.datasets import rewrite, with_column, write_v21
from support.jobs import LENGTHS, World, content

pytest.importorskip("tyro")


def fit_arguments(world: World, out: Path, *more: str) -> list[str]:
    return ["fit", str(world.v3), "-o", str(out), "--horizon", "8", "--vocab-size", "400", *more]


def tokenize_arguments(world: World, out: Path, *more: str) -> list[str]:
    given = ["--fit", str(world.fitted), "--text-model", str(world.text_model), "--on-overflow", "clip"]
    return ["tokenize", str(world.v3), "-o", str(out), "--model", "pi0_fast", *given, *more]


def test_fit_prints_what_the_tokenizer_achieves_on_held_out_episodes(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "fitted"
    assert main(fit_arguments(world, out, "--held-out-episodes", "1,3")) == 0
    printed = capsys.readouterr()
    assert "judged on 52 chunks of held-out episodes 1, 3" in printed.out
    assert f"next: pioxide tokenize {world.v3} --fit {out}" in printed.out
    assert "statistics of 6 episodes" in printed.err

    # The figures, worked out chunk by chunk.
    codec, actions = FastCodec.load(out), Quantile(load_norm_stats(out)["actions"])
    dataset = LeRobotDataset.open(world.v3)
    lengths, errors = [], []
    for episode in dataset.scan(["action"], [1, 3]):
        for chunk in windows(actions.apply(episode.columns["action"]), 8):
            ids, _ = codec.encode(chunk, on_overflow="clip")
            lengths.append(len(ids))
            errors.append(codec.decode(ids, horizon=8, dim=3).actions - chunk)
    result = FitResult.load(out).result
    assert result["chunks"] == len(lengths) == 52
    ranked = sorted(lengths)
    assert result["tokens"] == {
        "mean": pytest.approx(np.mean(lengths)),
        "p50": ranked[25],
        "p99": ranked[51],
        "max": max(lengths),
    }
    assert result["compression"] == pytest.approx(24 / np.mean(lengths))
    assert result["error"]["rms"] == pytest.approx(np.sqrt(np.mean(np.square(errors))))
    assert result["error"]["max"] == pytest.approx(np.abs(errors).max())
    stats = load_norm_stats(out)["actions"]
    assert stats.q01 is not None
    assert stats.q99 is not None
    unit = (stats.q99 - stats.q01 + 1e-6) / 2
    rms = np.sqrt(np.mean(np.square(errors), axis=(0, 1))) * unit
    assert [j["rms"] for j in result["joints"]] == pytest.approx(rms)
    assert [j["name"] for j in result["joints"]] == ["waist", "elbow", "gripper"]


def test_fit_appears_whole_is_found_again_and_refuses_other_settings(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "fitted"
    assert main(fit_arguments(world, out)) == 0
    files = {
        "contract.json",
        "findings.json",
        "fit.json",
        "norm_stats.json",
        "tokenizer.json",
        "processor_config.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "processing_action_tokenizer.py",
    }
    before = content(out)
    assert set(before) == files
    assert {p.name for p in tmp_path.iterdir()} == {"fitted"}
    assert main(fit_arguments(world, out)) == 0
    assert "was made with these settings already" in capsys.readouterr().out
    assert main(fit_arguments(world, out, "--scale", "20", "--seed", "3")) == 2
    said = capsys.readouterr().err
    assert "scale: 10.0 there, 20.0 now" in said
    assert "seed: 0 there, 3 now" in said
    assert content(out) == before
    again = tmp_path / "again"
    assert main(fit_arguments(world, again)) == 0
    assert content(again) == before


def test_fit_leaves_other_peoples_directories_alone(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert main(fit_arguments(world, tmp_path)) == 2
    assert "was not made by pioxide fit" in capsys.readouterr().err
    assert content(tmp_path) == {"notes.txt": b"mine"}
    assert main(fit_arguments(world, tmp_path / "notes.txt" / "deeper")) == 2
    assert "notes.txt: File exists" in capsys.readouterr().err
    # What a killed run left is no obstacle.
    (tmp_path / ".fitted.partial").mkdir()
    (tmp_path / ".fitted.partial" / "tokenizer.json").write_text("half")
    assert main(fit_arguments(world, tmp_path / "fitted")) == 0
    assert not (tmp_path / ".fitted.partial").exists()


def test_tokenize_twice(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(tokenize_arguments(world, out, "--dry-run")) == 0
    assert "nothing written (dry run)" in capsys.readouterr().out
    assert not out.exists()
    assert main(tokenize_arguments(world, out)) == 0
    printed = capsys.readouterr().out
    assert f"{out}: complete (" in printed
    assert f"{sum(LENGTHS)} from 6 episodes" in printed
    assert f"next: pioxide inspect {out}" in printed
    before = content(out)
    assert main(tokenize_arguments(world, out)) == 0
    printed = capsys.readouterr()
    assert "complete (all of it was there already)" in printed.out
    assert "148 of 148 frames are there already" in printed.err
    assert content(out) == before
    assert main(tokenize_arguments(world, out, "--limit", "30")) == 2
    assert "limit: nothing there, 30 now" in capsys.readouterr().err


def test_rows_that_are_cut_are_said_loudly(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(tokenize_arguments(world, tmp_path / "out", "--max-len", "50")) == 0
    printed = capsys.readouterr().err
    totals = TokenDataset.open(tmp_path / "out").manifest.totals
    assert totals["truncated"] > 0
    assert f"WARNING: {tmp_path / 'out'}: {totals['truncated']} (" in printed
    assert "don't decode" in printed
    assert f"--max-len {totals['longest']} holds them all" in printed
    more = ["--max-len", str(totals["longest"])]
    assert main(tokenize_arguments(world, tmp_path / "longer", *more)) == 0
    assert "WARNING" not in capsys.readouterr().err


def test_bad_episode_by_exit_status(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken, out = tmp_path / "broken", tmp_path / "out"
    shutil.copytree(world.v21, broken)
    file = LeRobotDataset.open(broken).episodes[4].file
    (broken / file).write_bytes(b"nothing")
    arguments = tokenize_arguments(world, out)
    arguments[1] = str(broken)
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert f"{file}: episode 4: " in said
    assert "Traceback" not in said
    assert main([*arguments, "--skip-bad"]) == 3
    printed = capsys.readouterr().out
    assert "left out 1 episode:" in printed
    assert file in printed
    assert [s["episode"] for s in _skipped(out)] == [4]
    arguments = fit_arguments(world, tmp_path / "fitted", "--skip-bad")
    arguments[1] = str(broken)
    assert main(arguments) == 3
    assert file in capsys.readouterr().out


def _skipped(out: Path) -> list[dict]:
    manifest = json.loads((out / "manifest.json").read_text())
    return [s for shard in manifest["shards"] for s in shard["skipped"]]


def test_text_model_comes_from_the_cache_once_fetched(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("fsspec", reason="fetching needs fsspec (pioxide[fetch])")
    monkeypatch.setenv("PIOXIDE_CACHE", str(tmp_path / "cache"))
    arguments = tokenize_arguments(world, tmp_path / "out")
    at = arguments.index("--text-model")
    del arguments[at : at + 2]
    assert main(arguments) == 2
    assert "pioxide fetch paligemma" in capsys.readouterr().err
    assert main(["fetch", "paligemma", "--source", str(world.text_model)]) == 0
    assert str(tmp_path / "cache" / "paligemma_tokenizer.model") in capsys.readouterr().out
    assert main(["fetch", "paligemma"]) == 0
    assert "was here" in capsys.readouterr().out
    assert main(arguments) == 0
    assert main(["fetch", "--source", str(world.text_model)]) == 2
    assert "name it" in capsys.readouterr().err


def test_options_reach_the_settings(world: World, tmp_path: Path) -> None:
    out = tmp_path / "out"
    more = "--episodes 0:3 --limit 40 --shard-frames 20 --max-len 90 --normalization zscore --workers 2"
    fast = ["--fast", str(world.fitted)]
    assert main(tokenize_arguments(world, out, *more.split(), *fast)) == 0
    dataset = TokenDataset.open(out)
    expected = {"episodes": "0:3", "limit": 40, "shard_frames": 20, "on_overflow": "clip"}
    assert {name: dataset.manifest.settings[name] for name in expected} == expected
    assert (dataset.model, dataset.max_len) == ("pi0_fast", 90)
    assert dataset.contract.action_norm == dataset.contract.state_norm == NormRule.openpi("zscore")
    fitted = tmp_path / "fitted"
    more = "--state-keys observation.state,reward --action-keys action,reward --delta-mask 2,-1"
    numbers = "--scale 5 --seed 1 --max-chunks 50 --regex-split off"
    assert main(fit_arguments(world, fitted, *more.split(), *numbers.split())) == 0
    made = FitResult.load(fitted)
    assert made.columns.state_keys == ("observation.state", "reward")
    assert made.contract.delta_mask == (True, True)
    assert (made.fitted_chunks, made.settings["scale"], made.settings["regex_split"]) == (50, 5.0, False)
    assert len(made.result["joints"]) == 4


@pytest.fixture(scope="module")
def doubtful(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset with a hole in time, an empty task and a frame that is far away."""
    root = tmp_path_factory.mktemp("doubtful") / "d"
    rng = np.random.default_rng(3)
    data = []
    for index in range(6):
        state = np.cumsum(rng.normal(size=(80, 3)), axis=0).astype(np.float32)
        action = state + 0.1
        if index == 4:
            action[33, 1] = 3e7
        columns = {"observation.state": state, "action": action.astype(np.float32)}
        data.append(EpisodeData(columns, "" if index == 2 else "fold the towel"))
    write_v21(root, data)

    def late(table: pa.Table) -> pa.Table:
        times = table["timestamp"].to_numpy().copy()
        times[20:] += 5
        return with_column(table, "timestamp", pa.array(times))

    rewrite(root / "data/chunk-000/episode_000005.parquet", late)
    return root


SAID = (
    "episode 5, frame 20: 5.02 s without a frame",
    "no task text in episode 2",
    "episode 4, frame 33, elbow",
)


def test_warnings_are_the_same_for_fit_tokenize_and_inspect_and_strict_obeys_them(
    doubtful: Path, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fitted, tokens = tmp_path / "fitted", tmp_path / "tokens"
    fitting = ["fit", str(doubtful), "-o", str(fitted), "--horizon", "8", "--vocab-size", "400"]
    assert main([*fitting, "--strict"]) == 4
    assert not fitted.exists()
    error = capsys.readouterr().err
    assert all(said in error for said in SAID), error
    assert "3 warnings, and --strict was said: nothing is made" in error
    # The far frame is a chunk without tokens, unless its episode is left out.
    assert main([*fitting, "--held-out", "0"]) == 2
    error = capsys.readouterr().err
    assert all(said in error for said in SAID)
    assert re.search(r"episode 4, the chunk from frame \d+, joint elbow: coefficient .* has no token", error)
    assert "leave the episode out with --episodes" in error
    assert main([*fitting, "--episodes", "0:4,5"]) == 0
    assert "episode 4" not in capsys.readouterr().err

    making = ["tokenize", str(doubtful), "-o", str(tokens), "--model", "pi0_fast", "--fit", str(fitted)]
    making += ["--text-model", str(world.text_model)]
    assert main([*making, "--strict"]) == 4
    assert not tokens.exists()
    error = capsys.readouterr().err
    assert all(said in error for said in SAID)
    assert main(making) == 2
    assert "--on-overflow clip" in capsys.readouterr().err
    shutil.rmtree(tokens)
    assert main([*making, "--on-overflow", "clip"]) == 0
    capsys.readouterr()

    assert main(["inspect", str(tokens), "--strict"]) == 4
    out = " ".join(capsys.readouterr().out.split())
    assert all(said in out for said in SAID), out


def test_strict_minds_rows_that_are_cut(world: World, tmp_path: Path) -> None:
    for out, options, status in [("a", ["--max-len", "20"], 0), ("b", ["--max-len", "20", "--strict"], 4)]:
        assert main(tokenize_arguments(world, tmp_path / out, *options)) == status
    assert main(tokenize_arguments(world, tmp_path / "c", "--strict")) == 0
