"""Frames that are left out: statistics, codec and rows are of the others, whose chunks are whole."""

import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from pioxide.cli.main import main
from pioxide.codec import TextTokenizer
from pioxide.contract import Pipeline
from pioxide.data import FrameColumns, LeRobotDataset, compute_stats, window_weights, windows
from pioxide.data.idle import IdleRule, find_idle
from pioxide.data.keeping import keep_frames
from pioxide.data.loader import Source
from pioxide.data.loader.reading import read_rows
from pioxide.data.portions import Alone, Portion
from pioxide.errors import InputError, SettingsError
from pioxide.report import inspect_directory
from pioxide.shards import FitResult, FitSettings, TokenDataset, fit, fit_jointly, resolve, tokenize_dataset
from support.datasets import episodes, write_v3
from support.jobs import HORIZON, World, make_world

pytestmark = pytest.mark.filterwarnings("ignore:.* was fitted on all frames, and rows are made of")

# Of episodes of 30, 12, 25, 40, 8 and 33 frames.
SPANS = [(0, 3, 9), (0, 20, 30), (2, 0, 25), (3, 38, 40), (5, 10, 11)]
KEPT = {0: [*range(3, 9), *range(20, 30)], 2: [*range(25)], 3: [38, 39], 5: [10]}


def written(path, spans=SPANS):
    entries = [{"episode": e, "from": start, "to": stop} for e, start, stop in spans]
    path.write_text(json.dumps(entries))
    return str(path)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def frames(tmp_path):
    return written(tmp_path / "frames.json")


def chunks_of(dataset, *, relative=()):
    """By hand: states, and windows of actions, of the frames that are kept."""
    states, chunks = [], []
    for episode in dataset.scan(["observation.state", "action"]):
        rows = KEPT.get(episode.index, [])
        state, action = episode.columns["observation.state"], episode.columns["action"]
        made = np.array(windows(action, HORIZON)[rows])
        for dim in relative:
            made[:, :, dim] -= state[rows, None, dim]
        states.append(state[rows])
        chunks.append(made)
    return np.concatenate(states), np.concatenate(chunks)


def cut_crew(dataset):
    """Reads an episode at a time, as a cluster may."""

    class Crew(Alone):
        def portions(self, source, episodes):
            return [Portion(source, (index,)) for index in sorted(episodes)]

    return Crew([dataset])


@pytest.mark.parametrize("relative", [(), (0, 2), (0, 1, 2)])
def test_statistics_are_of_kept_frames_and_their_whole_chunks(world, frames, relative):
    dataset = keep_frames(LeRobotDataset.open(world.v3), frames)
    mask = [dim in relative for dim in range(3)]
    counted = compute_stats(dataset, horizon=HORIZON, delta_mask=mask)
    crew = cut_crew(dataset)
    again = compute_stats(dataset, horizon=HORIZON, delta_mask=mask, crew=crew)
    for key, stats in counted.items():
        for name in ("mean", "std", "q01", "q99"):
            np.testing.assert_array_equal(getattr(again[key], name), getattr(stats, name))
    states, chunks = chunks_of(dataset, relative=relative)
    for key, values in (("state", states), ("actions", chunks.reshape(-1, 3))):
        np.testing.assert_allclose(counted[key].mean, values.mean(axis=0, dtype=np.float64), rtol=1e-6)
        np.testing.assert_array_equal(counted[key].min, values.min(axis=0))
        for q, found in ((0.01, counted[key].q01), (0.99, counted[key].q99)):
            np.testing.assert_array_equal(found, np.quantile(values, q, axis=0, method="inverted_cdf"))


def test_keeping_every_frame_changes_no_bit(world, tmp_path):
    every = written(tmp_path / "every.json", [(e, 0, n) for e, n in enumerate((30, 12, 25, 40, 8, 33))])
    dataset = LeRobotDataset.open(world.v3)
    plain, kept = (compute_stats(one, horizon=HORIZON) for one in (dataset, keep_frames(dataset, every)))
    for key in plain:
        np.testing.assert_array_equal(plain[key].q01, kept[key].q01)
        np.testing.assert_array_equal(plain[key].mean, kept[key].mean)
    np.testing.assert_array_equal(window_weights(9, 4), window_weights(9, 4, np.arange(9)))


def test_tokens_are_rows_of_kept_frames_equal_to_those_of_all(world, frames, tmp_path):
    made = {}
    for name, said in (("all", ""), ("kept", frames)):
        inputs, settings = resolve(world.request("pi0", frames=said))
        tokenize_dataset(inputs, tmp_path / name, settings, workers=1)
        made[name] = TokenDataset.open(tmp_path / name, verify=True)
    everything, kept = made.values()
    whole = {(row["episode"], row["frame"]): row for row in (everything[i] for i in range(len(everything)))}
    assert [(kept[i]["episode"], kept[i]["frame"]) for i in range(len(kept))] == [
        (e, frame) for e, rows in KEPT.items() for frame in rows
    ]
    for i in range(len(kept)):
        row = kept[i]
        same = whole[row["episode"], row["frame"]]
        assert all(np.array_equal(row[key], same[key]) for key in same)
    manifest = kept.manifest
    assert manifest.dataset["frames"] == {
        "digest": keep_frames(LeRobotDataset.open(world.v3), frames).kept.digest,
        "kept": 44,
        "of": 148,
    }
    assert (manifest.plan["frames"], manifest.totals["episodes"]) == (44, 4)


def test_a_job_goes_on_with_the_same_frames_wherever_their_file_lies(world, frames, tmp_path):
    def make(said):
        inputs, settings = resolve(world.request("pi05", frames=said))
        return tokenize_dataset(inputs, tmp_path / "tokens", settings, workers=1)

    before = make(frames)
    moved = written(tmp_path / "moved.json", [(0, 3, 7), (0, 7, 9), *SPANS[1:]])  # the same, said otherwise
    assert make(moved).shards == before.shards
    for other in ("", written(tmp_path / "other.json", SPANS[1:])):
        with pytest.raises(SettingsError, match="frames: "):
            make(other)


def test_a_fit_is_of_kept_frames_and_inspect_looks_at_them(world, frames, tmp_path, capsys):
    options = [
        "--frames",
        frames,
        "--horizon",
        str(HORIZON),
        "--vocab-size",
        "300",
        "--held-out-episodes",
        "0",
    ]
    assert main(["fit", str(world.v3), "-o", str(tmp_path / "fit"), *options]) == 0
    assert "of 44 frames; 104 of 148 are left out" in capsys.readouterr().out
    made = FitResult.load(tmp_path / "fit")
    assert (made.fitted_chunks, made.result["chunks"]) == (28, 16)
    states, _ = chunks_of(LeRobotDataset.open(world.v3))
    np.testing.assert_allclose(made.contract.norm_stats["state"].mean, states.mean(axis=0), rtol=1e-5)
    assert inspect_directory(tmp_path / "fit").reconstruction.total == 16
    inputs, settings = resolve(replace(world.request(), fit=tmp_path / "fit", frames=frames))
    tokenize_dataset(inputs, tmp_path / "tokens", settings, workers=1)
    report = inspect_directory(tmp_path / "tokens")
    assert report.source.settings["frames"] == f"44 of 148, by {frames}"
    assert (report.reconstruction.measured, report.tokens.chunks) == (44, 44)
    with pytest.warns(UserWarning, match=r"was fitted on 44 frames .*, and rows are made of all frames"):
        resolve(replace(world.request(), fit=tmp_path / "fit"))
    with pytest.raises(SettingsError, match=r"frames: [0-9a-f]{16} there, nothing now"):
        fit(world.v3, tmp_path / "fit", FitSettings(horizon=HORIZON, vocab_size=300, held_out_episodes="0"))


def test_batches_draw_kept_frames_and_their_chunks_reach_past_them(world, frames, tmp_path):
    dataset = keep_frames(LeRobotDataset.open(world.v3), frames)
    inputs, settings = resolve(world.request("pi0", frames=frames))
    stated = {
        "cameras": (),
        "absent_camera": "masked",
        "image_size": 32,
        "resize": "antialias",
        "model_dim": 6,
    }
    contract = replace(settings.contract, **stated)
    tokenize_dataset(inputs, tmp_path / "tokens", settings, workers=1)
    pipeline = Pipeline(contract, TextTokenizer.load(world.text_model))
    parts = []
    for tokens in (None, TokenDataset.open(tmp_path / "tokens")):
        _, drawn, rows = read_rows(Source(dataset, contract, tokens=tokens), pipeline, timed=False)
        parts.append(rows.part(drawn))
    batch, again = parts
    np.testing.assert_allclose(batch.actions, again.actions, atol=1e-6)
    lengths = {0: 30, 2: 25, 3: 40, 5: 33}
    there = [min(HORIZON, lengths[e] - frame) for e, rows in KEPT.items() for frame in rows]
    assert batch.action_mask[:, :, 0].sum(axis=1).tolist() == there


RECORDING = "gs://d/{}/recordings/MP4--/nfs/{}/trajectory.h5"


@pytest.fixture
def droid(tmp_path):
    """A dataset that says of its episodes what DROID's records say."""
    path = write_v3(tmp_path / "droid", episodes((30, 12, 25)))
    (listed,) = path.glob("meta/episodes/**/*.parquet")
    table = pq.read_table(listed)
    for key, text in (
        ("recording_folderpath", "gs://d/{}/recordings/MP4"),
        ("file_path", "/nfs/{}/trajectory.h5"),
    ):
        table = table.append_column(key, [[text.format(i) for i in range(3)]])
    pq.write_table(table, listed)
    return LeRobotDataset.open(path)


def test_openpis_list_of_droid_is_read(droid, tmp_path):
    file = tmp_path / "ranges.json"
    said = {
        RECORDING.format(2, 2): [[3, 9], [15, 20]],
        RECORDING.format(0, 0): [],
        RECORDING.format(7, 7): [[0, 9]],
    }
    file.write_text(json.dumps(said))
    kept = keep_frames(droid, str(file)).kept
    assert {index: of.tolist() for index, of in kept.spans.items()} == {2: [[3, 9], [15, 20]]}
    own = keep_frames(droid, written(tmp_path / "own.json", [(2, 15, 20), (2, 3, 9)])).kept
    assert kept.digest == own.digest
    for ranges, words in (
        ({RECORDING.format(2, 2): [[3, 26]]}, "trajectory.h5: expected 0 <= from < to <= 25"),
        ({RECORDING.format(2, 2): [[3]]}, r"expected \[from, to\]"),
        ({RECORDING.format(9, 9): [[3, 4]]}, "names none of the 3 recordings"),
    ):
        file.write_text(json.dumps(ranges))
        with pytest.raises(InputError, match=words):
            keep_frames(droid, str(file))


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([{"episode": 7}], "no episode 7"),
        ([{"episode": 0, "from": 3, "to": 31}], "span 0: expected 0 <= from < to <= 30"),
        ([{"episode": 0, "from": 3}], "span 0: expected episode, from and to"),
        ([{"episode": 0, "from": True, "to": 2}], "from: expected a whole number"),
        ([{"episode": 0, "from": 0, "to": 5}, {"episode": 0, "from": 4, "to": 6}], "frame 4 of episode 0"),
        ([], "keeps no frame"),
        ("all", "expected a list of spans"),
        ({}, "need recording_folderpath and file_path"),
    ],
)
def test_spans_that_can_not_be_meant_are_refused(world, tmp_path, entries, words):
    (tmp_path / "frames.json").write_text(json.dumps(entries))
    with pytest.raises(InputError, match=words):
        keep_frames(LeRobotDataset.open(world.v3), str(tmp_path / "frames.json"))


def test_a_column_says_it_too(tmp_path):
    data = episodes((6, 5))
    flags = [np.array([0, 1, 1, 0, 0, 1], bool), np.zeros(5, bool)]
    data = [
        replace(one, columns={**one.columns, "moving": flag}) for one, flag in zip(data, flags, strict=True)
    ]
    dataset = LeRobotDataset.open(write_v3(tmp_path / "d", data))
    kept = keep_frames(dataset, "moving").kept
    assert {index: of.tolist() for index, of in kept.spans.items()} == {0: [[1, 3], [5, 6]]}
    for column, words in (("action", "of which there is moving"), ("reward", "expected true or false")):
        with pytest.raises(InputError, match=words):
            keep_frames(dataset, column)


def test_a_file_is_of_one_dataset(world, frames, tmp_path):
    with pytest.raises(InputError, match="of one dataset"):
        fit_jointly([world.v3, world.v21], tmp_path / "fit", FitSettings(horizon=HORIZON, frames=frames))


def test_idle_frames_are_found_as_openpi_finds_them():
    """By hand: `#` moves, `.` does not; the first frame never counts as idle."""
    drawn = "#" * 30 + "." * 7 + "#" * 16 + "." * 6 + "#" * 10 + "." * 40 + "#" * 15
    steps = np.array([c == "#" for c in drawn], float)
    actions = np.column_stack([np.cumsum(steps) * 0.01, np.zeros(len(drawn))])
    made = IdleRule(threshold=1e-3).judge(actions, np.array([1e-3]))
    # From 37 on the six frames are too few to be idle; the last 15 are too short a stretch.
    assert made.kept.tolist() == [[0, 20], [37, 59]]
    assert (made.idle, made.short, made.tails) == (47, 15, 20)


def test_a_threshold_is_a_thousandth_of_each_range_by_default(tmp_path, capsys):
    rng = np.random.default_rng(0)
    data = []
    for _ in range(2):
        action = np.column_stack([np.linspace(0, 1000, 60), np.full(60, 3.0), rng.random(60)]).astype(
            np.float32
        )
        action[20:40] = action[20] + [0.4, 0, 0.0004] * np.arange(20)[:, None] / 20
        data.append(replace(episodes((60,))[0], columns={"observation.state": action, "action": action}))
    path = write_v3(tmp_path / "d", data)
    dataset = LeRobotDataset.open(path)
    found = find_idle(dataset, FrameColumns(), IdleRule(tail=0))
    assert {index: one.kept.tolist() for index, one in found.judged.items()} == {
        index: [[0, 21], [40, 60]] for index in (0, 1)
    }
    file = tmp_path / "frames.json"
    assert main(["idle", str(path), "-o", str(file), "--tail", "0"]) == 0
    assert "82 (68.3%) of the frames are left" in capsys.readouterr().out
    assert keep_frames(dataset, str(file)).kept.kept == 82
    for options, words in (
        (["-o", str(file)], "is there already"),
        (["-o", str(tmp_path / "x.json"), "--threshold", "1e6"], "no frame of 2 episodes is left"),
        (["-o", str(tmp_path / "x.json"), "--threshold", "0"], "above 0"),
    ):
        assert main(["idle", str(path), *options]) == 2
        assert words in capsys.readouterr().err
