"""Faults planted in small stand-ins, each found by its code and its place; nothing in what is in order."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from pioxide import demo
from pioxide.data import (
    Checked,
    CheckSettings,
    Code,
    Finding,
    FrameColumns,
    LeRobotDataset,
    Level,
    check_datasets,
    find_datasets,
)
from pioxide.data.motion import _apart, _neighbours
from pioxide.data.summary import summarize
from pioxide.data.survey import check_one
from support.datasets import episodes, write_v3
from support.planted import (
    CAMERAS,
    EPISODES,
    FAULTS,
    FRAMES,
    LFS,
    Planted,
    arrays,
    data_file,
    filmed,
    glitch,
    refilmed,
    video_faults,
    write,
)
from support.videos import write_v3_video, write_video

VIDEO_FAULTS = video_faults()


@pytest.mark.parametrize("name", FAULTS)
def test_planted_fault_is_found(name: str, tmp_path: Path) -> None:
    _found(FAULTS[name], tmp_path)


@pytest.mark.parametrize("name", VIDEO_FAULTS)
def test_planted_fault_of_a_video_is_found(name: str, tmp_path: Path) -> None:
    _found(VIDEO_FAULTS[name], tmp_path)


def _found(fault: Planted, tmp_path: Path) -> None:
    checked = check_one(fault.make(tmp_path / "d"), CheckSettings())
    found = [f for f in checked.findings if f.code is fault.code]
    assert found, checked.findings
    assert any(fault.place in f.place for f in found), found
    assert any(re.search(fault.message, f.message) for f in found), found
    # Nothing is said besides that the fault does not bring with it.
    also = {f.code for f in checked.findings} - {fault.code, *fault.also}
    assert not also, checked.findings


def test_nothing_is_found_in_videos_that_are_well(tmp_path: Path) -> None:
    checked = check_one(filmed(lambda root: None)(tmp_path / "d"), CheckSettings())
    assert (checked.findings, checked.unseen) == ((), ())


def test_a_camera_that_sees_something_at_its_edge_is_not_called_blank(tmp_path: Path) -> None:
    def thing_on_the_left(t: int) -> np.ndarray:
        image = np.full((48, 64, 3), 128, np.uint8)
        image[20:28, t // 8 : 8 + t // 8] = 0
        return image

    assert check_one(filmed(refilmed(thing_on_the_left))(tmp_path / "d"), CheckSettings()).findings == ()


@pytest.mark.parametrize("per_file", [1, 2, 3])
def test_an_early_end_costs_the_episodes_behind_it_in_a_file_of_several(
    per_file: int, tmp_path: Path
) -> None:
    root = write_v3_video(tmp_path / "d", lengths=(12, 15, 13), per_file=per_file)
    settings = CheckSettings()
    assert check_one(root, settings).findings == ()
    file = root / f"videos/{CAMERAS[0]}/chunk-000/file-000.mp4"
    write_video(file, [1 + t for t in range(14)])
    (lost, *others), length = split_by_code(check_one(root, settings), Code.VIDEO)
    if per_file == 1:
        assert [f.code for f in (lost, *others)] == [Code.VIDEO_LENGTH]
        return
    assert {f.episodes for f in (lost, *others)} == ({(1,)} if per_file == 2 else {(1,), (2,)})
    assert "has no frame at" in lost.message
    assert [f.code for f in length] == [Code.VIDEO_LENGTH]


def split_by_code(checked: Checked, code: Code) -> tuple[list[Finding], list[Finding]]:
    """The findings of this kind and the others; all of them first where none is."""
    of_code = [finding for finding in checked.findings if finding.code is code]
    return of_code or list(checked.findings), [f for f in checked.findings if f.code is not code]


def test_what_is_not_looked_at_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = filmed(lambda root: shutil.rmtree(root / "videos"))(tmp_path / "d")
    absent = check_one(root, CheckSettings())
    assert absent.findings == ()
    assert absent.unseen == tuple(f"videos of {key}: none of 8 is here" for key in CAMERAS)
    assert "left out" in check_one(root, CheckSettings(videos=False)).unseen[0]
    monkeypatch.setattr("pioxide.data.filmed._reader", lambda: None)
    assert "pip install 'pioxide[video]'" in check_one(root, CheckSettings()).unseen[0]


@pytest.mark.parametrize("v3", [False, True])
def test_nothing_is_found_where_all_is_well(v3: bool, tmp_path: Path) -> None:
    checked = check_one(write(tmp_path / "d", arrays(), v3=v3), CheckSettings())
    assert checked.findings == ()
    assert (checked.episodes, checked.frames) == (EPISODES, EPISODES * FRAMES)


def test_nothing_is_found_in_recordings_of_a_simulation() -> None:
    assert check_one(demo.dataset_path(), CheckSettings()).findings == ()


REAL = Path(__file__).parents[2] / "../shared/data"


@pytest.mark.skipif(not REAL.is_dir(), reason="REAL RECORDINGS ARE NOT HERE: ../shared/data")
def test_nothing_is_found_in_recordings_of_a_real_robot() -> None:
    paths = find_datasets([str(REAL)])
    assert paths
    for checked in check_datasets(paths, CheckSettings(), workers=1):
        assert checked.findings == (), checked


def test_every_dataset_is_checked_whatever_the_others_are_like(tmp_path: Path) -> None:
    good = write(tmp_path / "a/good", arrays())
    broken = write(tmp_path / "b/deep/broken", arrays(), v3=True)
    for file in broken.glob("data/*/*.parquet"):
        file.write_bytes(LFS)
    (tmp_path / "c/meta").mkdir(parents=True)
    (tmp_path / "c/data").mkdir()
    (tmp_path / "d").mkdir()
    paths = find_datasets(
        [str(tmp_path), str(tmp_path / "nothing"), str(tmp_path / "a/*"), str(tmp_path / "d")]
    )
    assert paths == [good, broken, tmp_path / "c", tmp_path / "nothing", tmp_path / "d"]
    done: list[Path] = []
    results = check_datasets(paths, CheckSettings(), workers=2, on_done=lambda c: done.append(c.path))
    assert [c.path for c in results] == paths
    assert sorted(done) == sorted(paths)
    assert [c.count(Level.FAULT) for c in results] == [0, EPISODES, 1, 1, 1]
    alone = check_datasets(paths, CheckSettings(), workers=1)
    assert alone == results


def test_where_all_before_lie_clear_of_all_after_medians_are_numpys() -> None:
    rng = np.random.default_rng(0)
    means = rng.normal(size=(31, 4))
    means[:, 1] += 9 * (np.arange(31) >= 12)
    means[:, 2] -= np.arange(31) * 9
    cuts = np.arange(3, 29)
    clear, gap = _apart(means, cuts)
    assert np.count_nonzero(clear > 0) > len(cuts)
    for row, cut in enumerate(cuts):
        before, after = means[:cut], means[cut:]
        apart = np.maximum(after.min(0) - before.max(0), before.min(0) - after.max(0))
        np.testing.assert_array_equal(clear[row], apart)
        medians = np.abs(np.median(after, axis=0) - np.median(before, axis=0))
        np.testing.assert_array_equal(gap[row][apart > 0], medians[apart > 0])


def test_the_same_episodes_are_found_as_by_comparing_all() -> None:
    prints = np.random.default_rng(1).uniform(size=(60, 5))
    prints[40:50] = prints[7] + 0.9e-3 * np.arange(-5, 5)[:, None] / 5
    for row, others in enumerate(_neighbours(prints)):
        every = np.flatnonzero(np.abs(prints[row + 1 :] - prints[row]).max(axis=1) < 1e-3) + row + 1
        assert set(every.tolist()) <= set(others.tolist())
        assert not len(others) or others.min() > row


def test_what_is_kept_of_an_episode_holds_none_of_its_frames(tmp_path: Path) -> None:
    dataset = LeRobotDataset.open(write_v3(tmp_path / "long", episodes((2000,))))
    columns = FrameColumns()
    (episode,) = dataset.scan(columns.all)
    kept = summarize(episode, columns, fps=dataset.fps, step=500)
    for column in (kept.state, kept.actions):
        arrays = [value for value in vars(column).values() if isinstance(value, np.ndarray)]
        owners = [array if array.base is None else array.base for array in arrays]
        assert sum(owner.nbytes for owner in owners) < 2000


def test_threads_see_what_one_sees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pioxide.data.checks.PART_FRAMES", 100)
    data = arrays()
    glitch(data)
    root = write(tmp_path / "d", data)
    data_file(root, 5).unlink()
    assert check_one(root, CheckSettings(), 3) == check_one(root, CheckSettings(), 1)


def test_motion_that_normalisation_would_swallow_is_said(tmp_path: Path) -> None:
    """Velocities in kilometres a frame, say: every chunk would be the same few tokens."""
    data = episodes((40, 40, 40))
    for episode in data:
        episode.columns["action"][:, 1] *= 1e-8
    found = [
        one
        for one in check_one(write_v3(tmp_path / "d", data), CheckSettings()).findings
        if one.code is Code.TINY
    ]
    assert [one.place for one in found] == ["elbow (actions)"]
    assert "next to nothing is left of its motion" in found[0].message


def test_episodes_of_a_single_frame_are_not_called_shorter_than_themselves(tmp_path: Path) -> None:
    found = check_one(write_v3(tmp_path / "d", episodes((1, 1, 1))), CheckSettings()).findings
    assert [one.message for one in found if one.code is Code.LENGTH] == [
        "has a single frame, as are episodes 1 and 2"
    ]
