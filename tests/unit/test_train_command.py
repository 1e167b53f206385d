"""`pioxide train` up to its first batch: what options make of prompts, the contract and a run's settings."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import pioxide.train.run
from pioxide.cli.main import main
from pioxide.contract import AdvantageStyle, load_contract, save_contract
from pioxide.demo import text_model_path
from pioxide.transforms import Stats
from support.videos import write_v3_video


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("world")
    camera = "observation.images.front"
    write_v3_video(root / "data", lengths=(9, 8, 7, 8), cameras=(camera,))
    said = [{"episode": e, "advantage": "positive" if e % 4 < 2 else "negative"} for e in range(4)]
    (root / "good.json").write_text(json.dumps(said))
    assert main(["fit", str(root / "data"), "-o", str(root / "fit"), "--horizon", "4", "--quiet"]) in (0, 4)
    return root


@pytest.fixture
def begun(world, tmp_path, monkeypatch):
    """Begins a run that ends before its first update; returns what it was given."""

    def begin(*options):
        given = {}

        def train(config, source, directory, *, data, **_):
            batch = next(iter(source.batches()))
            given.update(contract=source.contracts[0], texts=source.loader.texts(batch), data=data)
            given.update(names=source.loader.names, sources=batch.source)
            return pioxide.train.run.Trained(Path(directory), Path("none"), 0, 0.0)

        monkeypatch.setattr(pioxide.train.run, "train", train)
        made = [] if "--data.fit" in options else ["--data.fit", str(world / "fit")]
        made += ["--data.text-model", str(text_model_path())]
        made += ["--numbers.horizon", "4", "--data.camera", "base_0_rgb=observation.images.front"]
        made += ["--numbers.text-len", "48", "--data.workers", "0", "--train.batch-size", "16"]
        run = ["train", "mini", str(world / "data"), "-o", str(tmp_path / "run"), *made, *options]
        return main(run), given

    return begin


def test_labels_become_prompts_and_a_contract(world, begun, capsys):
    file = str(world / "good.json")
    status, given = begun("--data.advantage", file, "--data.advantage-dropout", "0.4")
    assert status == 0
    assert "advantage: 17 of 32 frames are positive" in capsys.readouterr().err
    assert given["contract"].advantage_style is AdvantageStyle.TEXT_OR_NONE
    ends = {
        text.strip().rpartition("Advantage:")[2].split(",")[0].split("\n")[0].strip()
        for text in given["texts"]
    }
    assert {"positive", "negative"} < ends
    assert any("Advantage" not in text for text in given["texts"])
    assert given["data"]["advantage"].startswith(f"{file} (")  # and a digest of what is in it
    assert given["data"]["advantage_dropout"] == 0.4
    status, given = begun("--data.advantage", file, "--data.advantage-dropout", "0")
    assert given["contract"].advantage_style is AdvantageStyle.TEXT
    assert all("Advantage" in text for text in given["texts"])


def test_a_run_keeps_which_labels_it_had_and_not_only_where(begun, tmp_path):
    kept = []
    for bad in ((2, 3), (3,)):
        said = [{"episode": e, "advantage": "negative" if e in bad else "positive"} for e in range(4)]
        (tmp_path / "good.json").write_text(json.dumps(said))
        kept.append(begun("--data.advantage", str(tmp_path / "good.json"))[1]["data"]["advantage"])
    assert kept[0] != kept[1]


def test_a_run_without_labels_knows_no_advantage(begun, capsys):
    status, given = begun()
    assert (status, given["contract"].advantage_style) == (0, None)
    assert not any("Advantage" in text for text in given["texts"])
    assert "advantage" not in given["data"]
    for options, says in (
        (("--data.advantage-share", "0.3"), "say which actions are good"),
        (("--data.advantage", "god"), "no column 'god'"),
        (("--data.advantage", "action"), "numbers a frame"),
        (("--data.advantage", "x.json", "--data.advantage-dropout", "1"), "advantage_dropout"),
    ):
        assert begun(*options)[0] == 2
        assert says in capsys.readouterr().err


def test_the_fit_of_another_dataset_is_refused(begun, world, tmp_path, capsys):
    """Its held-out episodes would be taken for this one's, though they were trained on."""
    write_v3_video(tmp_path / "other", lengths=(8, 8, 9, 7), cameras=("observation.images.front",))
    made = ["fit", str(tmp_path / "other"), "-o", str(tmp_path / "fit"), "--horizon", "4", "--quiet"]
    assert main(made) in (0, 4)
    status, given = begun("--data.fit", str(tmp_path / "fit"))
    assert (status, given) == (2, {})
    said = capsys.readouterr().err
    assert "was made of other" in said
    assert "--data.statistics" in said


def test_a_policys_statistics_replace_the_datasets(begun, world, tmp_path, capsys):
    fitted = load_contract(world / "fit")
    stats = {
        key: Stats(**{name: 1.5 * getattr(one, name) for name in ("mean", "std", "q01", "q99")})
        for key, one in fitted.norm_stats.items()
    }
    save_contract(replace(fitted, norm_stats=stats), tmp_path)
    status, given = begun("--data.statistics", str(tmp_path / "contract.json"))
    assert status == 0
    assert given["contract"].norm_stats == stats
    status, _ = begun("--data.statistics", str(tmp_path / "contract.json"), "--numbers.family", "PI0_FAST")
    assert status == 2
    assert "learn tokens" in capsys.readouterr().err


def test_datasets_of_a_robot_are_mixed_by_weight(begun, world, tmp_path, capsys):
    write_v3_video(tmp_path / "more", (9, 7, 8, 8), cameras=("observation.images.front",), seed=1)
    both = [str(world / "data"), str(tmp_path / "more")]
    assert main(["fit", *both, "-o", str(tmp_path / "fit"), "--horizon", "4", "--quiet"]) in (0, 4)
    mixed = ("--data.also", both[1], "--data.fit", str(tmp_path / "fit"))
    status, given = begun(*mixed, "--data.weight", "1", "3")
    assert status == 0
    assert given["data"]["also"] == [both[1]]
    assert given["names"] == ("data", "more")
    counted = np.bincount(given["sources"], minlength=2)
    assert counted[1] == 3 * counted[0]
    for options, says in (
        ((*mixed, "--data.weight", "1"), "1 for 2 datasets"),
        (("--data.also", both[0]), "stands twice"),
        (("--data.also", both[1]), "was made of data"),
        ((*mixed, "--data.episodes", "0:2"), "data.episodes is of one dataset"),
    ):
        assert begun(*options) == (2, {})
        assert says in capsys.readouterr().err
