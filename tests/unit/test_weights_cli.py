"""`pioxide info` and `pioxide convert` as a person types them."""

import io
import json
import sys

import pytest

from pioxide.cli.main import YOUR_MISTAKE, main
from pioxide.transforms import Stats, save_norm_stats
from pioxide.weights import load
from support.checkpoints import SMALL, lora, random_arrays, write_orbax
from support.lerobot_files import write_lerobot


@pytest.fixture
def source(tmp_path):
    write_orbax(random_arrays(lora(SMALL["pi05"]).shapes()), tmp_path / "source" / "params", value=True)
    stats = Stats([0.0] * 6, [1.0] * 6)
    save_norm_stats(tmp_path / "source" / "assets" / "droid", {"state": stats})
    return tmp_path / "source"


def test_info_says_what_it_is(source, capsys):
    assert main(["info", str(source), "--check", "--tensors"]) == 0
    out = capsys.readouterr().out
    assert "π0.5, openpi (Orbax)" in out
    assert "LoRA rank 3 and 2" in out
    assert "droid: state 6 (no quantiles)" in out
    assert "all values are finite" in out
    assert "PaliGemma/llm/layers/attn/q_einsum_1/lora_a  float32[4, 8, 32, 3]" in out
    # The parts add up to the whole.
    rows = [line.split() for line in out.partition("parameters")[2].splitlines()]
    numbers = {
        row[0]: int(row[-4].replace(",", "")) for row in rows if len(row) > 5 and row[-1] in ("kB", "MB")
    }
    every = next(r for r in rows if r and r[0] == "all")
    assert sum(n for name, n in numbers.items() if name != "all") == int(every[2].replace(",", ""))


def test_info_on_a_terminal_without_pi(source, monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    assert main(["info", str(source)]) == 0
    sys.stdout.flush()
    assert rb"\u03c00.5, openpi (Orbax)" in written.getvalue()


def test_info_says_what_its_numbers_mean(source, tmp_path, capsys):
    assert main(["info", str(source)]) == 0
    out = capsys.readouterr().out
    assert "quantiles (openpi)" in out
    assert "robot, delta_mask" in out
    assert main(["info", str(write_lerobot(tmp_path / "a")), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["format"], said["contract"]["action_horizon"]) == ("lerobot", 8)
    assert (said["contract"]["unknown"], said["notes"]) == (["advantage_style"], [])


def test_info_of_a_contract_that_cannot_be_obeyed_ends_with_status_2(tmp_path, capsys):
    def change(files):
        files["config"]["use_visual_memory"] = True

    assert main(["info", str(write_lerobot(tmp_path, change=change))]) == YOUR_MISTAKE
    told = capsys.readouterr()
    assert "parameters" in told.out
    assert "use_visual_memory" in told.err


def test_info_lists_faults_and_ends_with_status_2(tmp_path, capsys):
    arrays = random_arrays(SMALL["pi0"].shapes())
    del arrays["state_proj/bias"]
    write_orbax(arrays, tmp_path / "params")
    assert main(["info", str(tmp_path)]) == YOUR_MISTAKE
    assert "state_proj/bias [32]" in capsys.readouterr().err


def test_convert_merges_when_asked(source, tmp_path, capsys):
    target = tmp_path / "target"
    assert main(["convert", str(source), str(target), "--to", "lerobot"]) == YOUR_MISTAKE
    assert "merge" in capsys.readouterr().err
    arguments = [
        "convert",
        str(source),
        str(target),
        "--to",
        "lerobot",
        "--merge-lora",
        "--dtype",
        "bfloat16",
    ]
    assert main(arguments) == YOUR_MISTAKE
    assert "--action-horizon" in capsys.readouterr().err
    arguments += ["--action-horizon", "15", "--text-len", "200"]
    assert main(arguments) == 0
    assert "not written: whose numbers they are" in capsys.readouterr().out
    with load(target) as checkpoint:
        assert checkpoint.architecture == SMALL["pi05"]
        assert {spec.dtype.name for spec in checkpoint.tree.specs.values()} == {"bfloat16"}
    assert main(arguments) == YOUR_MISTAKE
    assert "is there already" in capsys.readouterr().err
