"""The Python benches run on what ships, and find pioxide's results equal to the reference's before timing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pioxide import demo
from support.videos import write_v21_video

BENCHES = Path(__file__).resolve().parents[2] / "benches"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        sys.platform != "linux", reason="benches hold themselves to a core, which needs Linux"
    ),
]


def run(name: str, output: Path, *options: str | Path) -> dict:
    options = options or ("--quick", "--dataset", demo.dataset_path())
    command = [sys.executable, BENCHES / name, *options, "--json", output]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(output.read_text())


def test_tokens(tmp_path):
    result = run("tokens.py", tmp_path / "tokens.json")
    assert len(result["rows"]) == 9
    for row in result["rows"]:
        assert row["checked"]
        assert row["reference"] > 0
        assert row["pioxide"] > 0


def test_loader(tmp_path):
    dataset = write_v21_video(tmp_path / "dataset", (30, 25))
    result = run("loader.py", tmp_path / "loader.json", dataset, "--seconds", "0.1")
    assert [row["way"] for row in result["rows"]] == ["numbers", "video", "cache"]
    assert all(row["pioxide"]["samples"] >= 32 for row in result["rows"])


def test_job(tmp_path):
    result = run("job.py", tmp_path / "job.json")
    assert result["equal_rows"] == result["results"]["reference stack, 1 core"]["frames"] > 0
    assert all(r["seconds"] > 0 for r in result["results"].values())


POLICY = ("--model", "tiny", "--seconds", "0.3")


def test_policy(tmp_path):
    pytest.importorskip("jax")
    parts = [option for part in ("rows", "call", "batch", "upload") for option in ("--part", part)]
    result = run("policy.py", tmp_path / "policy.json", *POLICY, "--kind", "pi05", *parts)["results"][0]
    *exact, rounded = result["rows"].values()
    assert len(exact) == 6
    assert all(row["apart"] < 1e-3 for row in exact)
    assert 1e-4 < rounded["apart"] < 0.1
    for row in result["rows"].values():
        assert row["p99"] >= row["p50"] > 0
    assert result["policy"]["stages"].keys() == {
        "robot",
        "images",
        "text",
        "upload",
        "model",
        "download",
        "actions",
        "subtask",
    }
    assert list(result["batch"]) == ["1 robot", "4 robots", "16 robots"]
    assert all(row["p99"] >= row["p50"] > 0 for row in result["batch"].values())
    assert len(result["upload"]) == 3
    assert result["floor"] > 0


def test_policy_of_tokens(tmp_path):
    pytest.importorskip("jax")
    options = (*POLICY, "--kind", "pi0_fast", "--part", "rows", "--markdown")
    rows = run("policy.py", tmp_path / "policy.json", *options)["results"][0]["rows"]
    *plain, constrained, wrong, right, rounded = rows.values()
    assert len(plain) == 6
    assert {row["apart"] for row in (*plain, constrained, wrong, right)} == {0}
    assert rounded["passes"] == constrained["passes"]
    assert wrong["passes"] == constrained["passes"] < plain[0]["passes"]
    assert wrong["accepted"] == 0
    assert right["passes"] + right["accepted"] == constrained["passes"]
    assert right["passes"] < constrained["passes"] / 4


def test_policy_start(tmp_path):
    pytest.importorskip("jax")
    options = (*POLICY, "--kind", "pi0", "--part", "start")
    start = run("policy.py", tmp_path / "policy.json", *options)["results"][0]["start"]
    assert len(start) == 3
    assert all(took["compile"] > 0 and took["shapes"] > 0 for took in start.values())


def test_models(tmp_path):
    pytest.importorskip("jax")
    options = ("--model", "tiny", "--kind", "pi05", "--kind", "pi0_fast", "--depth", "2", "--seconds", "0.3")
    flow, fast = run("models.py", tmp_path / "models.json", *options)["results"]
    assert len(flow["training"]) == 4
    assert len(fast["training"]) == 5
    for result in (flow, fast):
        assert len(result["inference"]) == 3
        for row in (*result["training"].values(), *result["inference"].values()):
            assert row["apart"] < 1e-3
            assert row["p99"] >= row["p50"] > 0
            assert row["processor"] > 0
            assert row["compile"] > 0
        assert all(clock > 0 for way in result["depth"].values() for clock, _ in way.values())


def test_serve(tmp_path):
    rows = run("serve.py", tmp_path / "serve.json", "--robots", "2", "--seconds", "0.3")["results"]
    assert all(row["per_second"] > 0 and 0 < row["fairness"] <= 1 for row in rows.values())
    chaos = ("--requests", "2000", "--robots", "2")
    survived = run("serve.py", tmp_path / "chaos.json", *chaos)["results"]["survived"]
    assert sum(survived[name] for name in ("answered", "refused", "vanished", "garbage")) == 2000
    assert survived["answered"] > 1500
    assert survived["vanished"]
    assert survived["garbage"]
