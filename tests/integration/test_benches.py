"""The Python benches run on what ships, and find pioxide's results equal to the reference's before timing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pioxide import demo

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


def test_job(tmp_path):
    result = run("job.py", tmp_path / "job.json")
    assert result["equal_rows"] == result["results"]["reference stack, 1 core"]["frames"] > 0
    assert all(r["seconds"] > 0 for r in result["results"].values())


def test_policy(tmp_path):
    pytest.importorskip("jax")
    result = run("policy.py", tmp_path / "policy.json", "--model", "tiny", "--seconds", "0.5")["results"][0]
    assert len(result["rows"]) == 6
    for row in result["rows"].values():
        assert row["apart"] < 1e-3
        assert row["p99"] >= row["p50"] > 0
    assert result["policy"]["stages"].keys() == {
        "robot",
        "images",
        "text",
        "upload",
        "model",
        "download",
        "actions",
    }
    assert result["floor"] > 0
