"""`pioxide demo` and `pioxide inspect` from the command line, on the dataset and the text model that ship."""

import json
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest

from pioxide import demo
from pioxide.cli.main import main
from pioxide.codec import FastCodec
from pioxide.data import LeRobotDataset
from pioxide.report import inspect_directory
from pioxide.report.findings import findings
from pioxide.shards import FrameCutter, TokenDataset

pytest.importorskip("matplotlib")
pytest.importorskip("tyro")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """The output of the demo, made once, on a machine without network."""
    output = tmp_path_factory.mktemp("demo") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", _no_network)
        assert main(["demo", "--output", str(output)]) == 0
    return output


def _no_network(*_):
    raise AssertionError("the demo opened a connection")


def test_the_demo_ends_with_tables_and_the_path_of_the_page(made, capsys):
    before = {p: p.read_bytes() for p in made.rglob("*") if p.is_file()}
    assert main(["demo", "--output", str(made)]) == 0
    printed = capsys.readouterr().out
    page = Path(printed.strip().splitlines()[-1].removeprefix("page: "))
    assert page == (made / "report.html").resolve()
    assert "Worst chunks" in printed
    # A second run changes nothing.
    assert before == {p: p.read_bytes() for p in made.rglob("*") if p.is_file()}


def test_the_report_agrees_with_figures_worked_out_one_chunk_at_a_time(made):
    report = inspect_directory(made / "tokens")
    tokens = TokenDataset.open(made / "tokens")
    dataset = LeRobotDataset.open(demo.dataset_path())
    codec = FastCodec.load(made / "fit")
    cutter = FrameCutter.of(tokens.contract, tokens.columns)
    errors, lengths = [], []
    for episode in dataset.scan(tokens.columns.all):
        for block in cutter.blocks(episode):
            for chunk in block.chunks:
                ids = codec.encode(chunk).ids
                lengths.append(len(ids))
                errors.append(np.abs(codec.decode(ids, horizon=50, dim=14).actions - chunk))
    assert report.tokens is not None
    assert report.reconstruction is not None
    assert report.prompts is not None
    assert report.tokens.per_chunk.tolist() == lengths
    assert report.tokens.use.sum() == sum(lengths)
    np.testing.assert_allclose(report.reconstruction.rms, np.sqrt(np.square(errors).mean(axis=(0, 1))))
    np.testing.assert_array_equal(report.reconstruction.worst, np.max(errors, axis=(0, 1)))
    assert report.differing == 0
    assert report.prompts.lengths.tolist() == [int(row["length"]) for row in tokens]
    top = report.reconstruction.worst_chunks[0]
    stats = tokens.norm_stats["actions"]
    assert stats.q01 is not None
    assert stats.q99 is not None
    actions = dataset.read(top.episode, ["action"]).columns["action"].astype(np.float64)
    steps = np.minimum(np.arange(top.frame, top.frame + 50), len(actions) - 1)
    expected = (actions[steps] - stats.q01) / (stats.q99 - stats.q01 + 1e-6) * 2 - 1
    np.testing.assert_allclose(top.original, expected)


def test_sampling_takes_every_nth_frame_and_leaves_lengths_whole(made):
    report = inspect_directory(made / "tokens", max_chunks=500, worst=2)
    assert report.reconstruction is not None
    assert report.tokens is not None
    assert 400 <= report.reconstruction.measured <= 500
    assert report.reconstruction.total == len(report.tokens.per_chunk) == 3799
    assert len(report.reconstruction.worst_chunks) == 2


def test_a_fitted_tokenizer_is_judged_on_what_it_has_not_seen(made, capsys):
    assert main(["inspect", str(made / "fit")]) == 0
    assert (made / "fit" / "report.html").is_file()
    assert "FAST tokenizer" in capsys.readouterr().out
    report = inspect_directory(made / "fit")
    fitted = json.loads((made / "fit" / "fit.json").read_text())
    assert report.tokens is not None
    assert set(report.tokens.episode.tolist()) == set(fitted["held_out"])
    assert report.tokens.per_chunk.mean() == pytest.approx(fitted["result"]["tokens"]["mean"])
    assert report.reconstruction is not None
    assert report.reconstruction.overall_rms == pytest.approx(fitted["result"]["error"]["rms"])
    (made / "fit" / "report.html").unlink()


@pytest.mark.parametrize("model", ["pi0", "pi05"])
def test_models_without_action_tokens_show_actions_and_prompts(made, tmp_path, model, capsys):
    arguments = ["--fit", str(made / "fit"), "--text-model", str(demo.text_model_path()), "--limit", "700"]
    tokens = tmp_path / "tokens"
    command = ["tokenize", str(demo.dataset_path()), "-o", str(tokens), "--model", model, *arguments]
    assert main(command) == 0
    assert main(["inspect", str(tokens), "-o", str(tmp_path / "page.html")]) == 0
    report = inspect_directory(tokens)
    assert report.tokens is None
    assert report.density is not None
    assert report.density.counts.sum() == 700 * 50 * 14
    html = (tmp_path / "page.html").read_text()
    assert "Normalised actions" in html
    assert "Use of the vocabulary" not in html
    assert not (tokens / "report.html").exists()


def test_a_dataset_that_moved_is_asked_for_and_another_one_refused(made, tmp_path, capsys):
    dataset = tmp_path / "moved"
    shutil.copytree(demo.dataset_path(), dataset)
    fitted, tokens = tmp_path / "fit", tmp_path / "tokens"
    assert main(["fit", str(dataset), "-o", str(fitted), "--horizon", "8", "--vocab-size", "400"]) == 0
    text = ["--text-model", str(demo.text_model_path()), "--limit", "400", "--model", "pi0_fast"]
    assert main(["tokenize", str(dataset), "-o", str(tokens), "--fit", str(fitted), *text]) == 0
    dataset.rename(tmp_path / "elsewhere")
    capsys.readouterr()

    assert main(["inspect", str(tokens)]) == 0
    assert "pass its path with --dataset" in " ".join(capsys.readouterr().out.split())
    assert inspect_directory(tokens).reconstruction is None
    assert main(["inspect", str(fitted)]) == 2
    assert "--dataset" in capsys.readouterr().err
    report = inspect_directory(tokens, dataset=tmp_path / "elsewhere")
    assert report.reconstruction is not None
    assert report.reconstruction.measured == 400

    (tmp_path / "elsewhere/meta/info.json").write_text(
        (tmp_path / "elsewhere/meta/info.json").read_text().replace("aloha", "another robot")
    )
    assert main(["inspect", str(tokens), "--dataset", str(tmp_path / "elsewhere")]) == 2
    assert "fingerprint" in capsys.readouterr().err


def test_tokens_that_are_not_those_of_their_frames_are_counted(made, tmp_path):
    tokens = tmp_path / "tokens"
    shutil.copytree(made / "tokens", tokens)
    config = tokens / "fast/processor_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"scale": 11}))
    report = inspect_directory(tokens, max_chunks=200)
    assert report.reconstruction is not None
    assert report.differing > 0.9 * report.reconstruction.measured


def test_prompts_cut_before_their_action_tokens_are_counted_as_lost_and_as_nothing_else(made, tmp_path):
    options = ["--model", "pi0_fast", "--fit", str(made / "fit"), "--text-model", str(demo.text_model_path())]
    prefixes = [int(row["prefix_length"]) for row in TokenDataset.open(made / "tokens")]
    cut = int(np.median(prefixes))
    tokens = tmp_path / "tokens"
    data = str(demo.dataset_path())
    assert main(["tokenize", data, "-o", str(tokens), *options, "--max-len", str(cut)]) == 0
    report, whole = inspect_directory(tokens), inspect_directory(made / "tokens")
    assert report.tokens is not None
    assert whole.tokens is not None
    kept = np.array(prefixes) < cut
    assert 0 < kept.sum() < len(kept)
    assert report.tokens.per_chunk.tolist() == whole.tokens.per_chunk[kept].tolist()
    assert (report.differing, report.tokens.lost, report.tokens.chunks) == (0, (~kept).sum(), len(kept))
    assert any(f"of {report.tokens.lost:,} all of them" in finding.text for finding in findings(report))


def test_a_directory_of_something_else_is_refused(tmp_path, capsys):
    assert main(["inspect", str(tmp_path)]) == 2
    assert "neither tokens (manifest.json) nor a fitted tokenizer (fit.json)" in capsys.readouterr().err


def test_relative_actions_are_shown_as_what_is_normalised(tmp_path):
    fitted = tmp_path / "fit"
    command = ["fit", str(demo.dataset_path()), "-o", str(fitted), "--horizon", "10", "--vocab-size", "400"]
    assert main([*command, "--delta-mask", "6,-1,6,-1", "--held-out", "0"]) == 0
    report = inspect_directory(fitted)
    dataset = LeRobotDataset.open(demo.dataset_path())
    relative = []
    for episode in dataset.scan(["action", "observation.state"]):
        actions = episode.columns["action"].astype(np.float64)
        steps = np.minimum(np.arange(len(actions))[:, None] + np.arange(10), len(actions) - 1)
        moved = actions[steps]
        moved[..., :6] -= episode.columns["observation.state"][:, None, :6]
        relative.append(moved.reshape(-1, 14))
    values = np.concatenate(relative)[:, :7]
    assert report.actions is not None
    np.testing.assert_allclose(report.actions.low[:7], values.min(axis=0), atol=1e-12)
    np.testing.assert_allclose(report.actions.high[:7], values.max(axis=0), atol=1e-12)
    assert (report.actions.outside[:6] <= 0.0201).all()
    assert "relative by (6, -1, 6)" in report.source.settings["actions"]


@pytest.mark.parametrize("model", ["pi0", "pi0_fast"])
def test_statistics_padded_to_the_models_width_are_those_of_the_joints(made, tmp_path, model):
    """As openpi writes them: 32 numbers for 14 joints."""
    document = json.loads((made / "fit/norm_stats.json").read_text())
    for of_key in document["norm_stats"].values():
        for name, values in of_key.items():
            of_key[name] = values + [1.0 if name in ("std", "q99") else 0.0] * 18
    stats = tmp_path / "norm_stats.json"
    stats.write_text(json.dumps(document))
    tokens = tmp_path / "tokens"
    command = ["tokenize", str(demo.dataset_path()), "-o", str(tokens), "--model", model]
    fitted = ["--fit", str(made / "fit"), "--text-model", str(demo.text_model_path())]
    assert main([*command, *fitted, "--stats", str(stats), "--limit", "300"]) == 0
    assert main(["inspect", str(tokens)]) == 0
    report = inspect_directory(tokens)
    assert report.actions is not None
    assert report.actions.q99.shape == report.actions.low.shape == (14,)
