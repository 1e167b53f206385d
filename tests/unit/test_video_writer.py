"""Video in LeRobot v3.0: every frame at its time, episodes one behind another, repeatable to the byte."""

import json

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from pioxide.cli import main
from pioxide.data import (
    EpisodeData,
    FrameColumns,
    LeRobotDataset,
    check_dataset,
    write_lerobot_v3,
    write_lerobot_v21,
)
from pioxide.data import writer as writer_module
from pioxide.errors import InputError
from pioxide.evaluate import RecordSettings, find_task, record

KEY = "observation.images.top"


def pictures(length: int, first: int, size: int = 16) -> np.ndarray:
    """Frames that tell their number by their brightness."""
    shades = (10 + 5 * np.arange(first, first + length)).astype(np.uint8)
    return np.broadcast_to(shades[:, None, None, None], (length, size, size, 3)).copy()


def episode(length: int, first: int = 0, **videos) -> EpisodeData:
    videos = videos or {KEY: pictures(length, first)}
    moving = np.random.default_rng(first).normal(size=(length, 2)).astype(np.float32)
    return EpisodeData({"observation.state": moving, "action": moving}, "push the puck", videos)


def write(path, episodes):
    return write_lerobot_v3(path, episodes, fps=10, robot_type="arm")


def listed(path):
    return pq.read_table(path / "meta/episodes/chunk-000/file-000.parquet").to_pylist()


def frames_of(path):
    """Seconds and mean brightness of every frame of a file."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return [
            (float(frame.pts * stream.time_base), float(frame.to_ndarray(format="rgb24").mean()))
            for frame in container.decode(stream)
        ]


def test_every_frame_is_at_its_episodes_time(tmp_path):
    root = write(tmp_path / "data", [episode(3, 0), episode(5, 3), episode(2, 8)])
    found = dict(frames_of(root / f"videos/{KEY}/chunk-000/file-000.mp4"))
    at = [(e[f"videos/{KEY}/from_timestamp"], e[f"videos/{KEY}/to_timestamp"]) for e in listed(root)]
    assert at == [(0.0, 0.3), (0.3, 0.8), (0.8, 1.0)]
    number = 0
    for (start, _), info in zip(at, listed(root), strict=True):
        for i in range(info["length"]):
            time = min(found, key=lambda t, wanted=start + i / 10: abs(t - wanted))
            assert time == pytest.approx(start + i / 10, abs=1e-4)
            assert found[time] == pytest.approx(10 + 5 * number, abs=2)
            number += 1


def test_a_dataset_with_video_is_read_and_has_no_fault(tmp_path):
    root = write(tmp_path / "data", [episode(3), episode(4)])
    dataset = LeRobotDataset.open(root)
    assert dataset.features[KEY].dtype == "video"
    assert dataset.features[KEY].shape == (16, 16, 3)
    assert [len(e) for e in dataset.scan(["action"])] == [3, 4]
    assert check_dataset(dataset, FrameColumns(("observation.state",), ("action",)), workers=1) == []
    info = json.loads((root / "meta/info.json").read_text())
    assert info["video_path"].format(video_key=KEY, chunk_index=0, file_index=0) == (
        f"videos/{KEY}/chunk-000/file-000.mp4"
    )
    stats = json.loads((root / "meta/stats.json").read_text())[KEY]
    assert np.shape(stats["mean"]) == (3, 1, 1)
    assert stats["min"][0][0][0] == pytest.approx(10 / 255)
    assert np.shape(stats["q99"]) == (3, 1, 1)


def test_a_large_file_is_closed_before_the_next_episode(tmp_path, monkeypatch):
    monkeypatch.setattr(writer_module, "VIDEO_FILE_MB", 0)
    noise = np.random.default_rng(0).integers(0, 255, (40, 64, 64, 3)).astype(np.uint8)
    root = write(tmp_path / "data", [episode(40, **{KEY: noise}) for _ in range(3)])
    places = [(e[f"videos/{KEY}/file_index"], e[f"videos/{KEY}/from_timestamp"]) for e in listed(root)]
    assert places == [(0, 0.0), (1, 0.0), (2, 0.0)]
    assert len(list(root.rglob("*.mp4"))) == 3
    assert len(frames_of(root / f"videos/{KEY}/chunk-000/file-002.mp4")) == 40


@pytest.mark.parametrize(
    ("second", "says"),
    [
        (episode(3, other=pictures(3, 0)), "expected"),
        (episode(3, **{KEY: pictures(3, 0, 32)}), "expected"),
        (episode(3, **{KEY: pictures(2, 0)}), "expected \\[3, height, width, 3\\]"),
        (episode(3, **{KEY: pictures(3, 0).astype(np.float32)}), "uint8"),
    ],
)
def test_pictures_that_do_not_agree_are_refused(tmp_path, second, says):
    with pytest.raises(InputError, match=says):
        write(tmp_path / "data", [episode(3), second])
    assert not (tmp_path / "data").exists()


def test_an_odd_picture_is_refused(tmp_path):
    with pytest.raises(InputError, match="even height and width"):
        write(tmp_path / "data", [episode(2, **{KEY: np.zeros((2, 15, 16, 3), np.uint8)})])


def test_v21_takes_no_video(tmp_path):
    with pytest.raises(InputError, match="in v3"):
        write_lerobot_v21(tmp_path / "data", [episode(3)], fps=10, robot_type="arm")


def test_demonstrations_repeat_to_the_byte(tmp_path):
    settings = RecordSettings(episodes=3)
    one, two = (record("words", tmp_path / name, settings) for name in ("one", "two"))
    files = sorted(p.relative_to(one) for p in one.rglob("*") if p.is_file())
    assert len(files) == 6
    assert all((one / file).read_bytes() == (two / file).read_bytes() for file in files)


def test_demonstrations_store_the_expert_without_its_noise(tmp_path):
    record("reach", tmp_path / "data", RecordSettings(episodes=2))
    dataset = LeRobotDataset.open(tmp_path / "data")
    (first, _) = dataset.scan(["observation.state", "action"])
    environment = find_task("reach").make()
    environment.reset(seed=0)
    np.testing.assert_allclose(first.columns["observation.state"][0], environment.tip, atol=1e-6)
    np.testing.assert_allclose(first.columns["action"][0], environment.expert_action(), atol=1e-6)
    # With noise the tip is not where the actions say.
    apart = first.columns["observation.state"][1:] - first.columns["action"][:-1]
    assert 3e-3 < apart.std() < 3e-2


@pytest.mark.parametrize(
    "settings", [{"episodes": 0}, {"first_seed": 999_999}, {"noise": -0.1}, {"correlation": 1.0}]
)
def test_settings_that_can_not_be_are_refused(settings):
    with pytest.raises(InputError):
        RecordSettings(**settings)


def test_the_command_records(tmp_path, capsys):
    assert main.main(["record", "reach", "--episodes", "2", "-o", str(tmp_path / "data")]) == main.OK
    assert "2 episodes" in capsys.readouterr().out
    assert LeRobotDataset.open(tmp_path / "data").total_frames > 5


def test_the_command_names_a_task_without_expert(tmp_path, capsys):
    assert main.main(["record", "fold", "-o", str(tmp_path / "data")]) == main.YOUR_MISTAKE
    assert "there is no expert for 'fold'" in capsys.readouterr().err
