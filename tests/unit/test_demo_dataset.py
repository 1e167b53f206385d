"""The dataset that ships with pioxide: it opens, it is small, and it holds what its README says."""

import numpy as np
import pytest

from pioxide.data import LeRobotDataset, compute_stats
from pioxide.demo import dataset_path

KEYS = ["observation.state", "action"]


@pytest.fixture(scope="module")
def dataset() -> LeRobotDataset:
    return LeRobotDataset.open(dataset_path())


def test_it_is_what_the_readme_says(dataset):
    assert (dataset.version, dataset.fps, dataset.robot_type) == ("v3.0", 50, "aloha")
    readme = (dataset_path().parent / "README.md").read_text()
    assert f"{len(dataset.episodes)} episodes, {dataset.total_frames:,} frames" in readme
    counts = {}
    for episode in dataset.episodes:
        (task,) = episode.tasks
        counts[task] = counts.get(task, 0) + 1
    assert len(counts) == 5
    for task, count in counts.items():
        assert f"| {task} | {count} |" in readme
    assert dataset.names(["action"])[6] == "left_arm_gripper"


def test_it_is_small():
    size = sum(file.stat().st_size for file in dataset_path().rglob("*") if file.is_file())
    assert size < 600_000


def test_the_arms_do_what_they_are_told(dataset):
    """The state follows the command of the step before within 0.15 rad; held things keep grippers open."""
    arm = [i for i in range(14) if i not in (6, 13)]
    for episode in dataset.scan(KEYS):
        state, action = (episode.columns[key] for key in KEYS)
        assert state.shape == action.shape == (len(episode), 14)
        assert state.dtype == action.dtype == np.float32
        assert np.abs(state[1:, arm] - action[:-1, arm]).max() < 0.15
        grippers = action[:, [6, 13]]
        assert grippers.min() >= 0
        assert grippers.max() == 1
        # A gripper that was told to close and closed on something stays clearly open.
        assert (state[:, [6, 13]] - grippers).max() > 0.3
        # Every episode moves: the joints that work turn by more than a third of a radian.
        assert np.ptp(action[:, arm], axis=0).max() > 0.3


def test_every_dimension_has_something_to_normalise(dataset):
    stats = compute_stats(dataset, horizon=50)
    for value in stats.values():
        assert value.std.min() > 0.01
        assert np.all(value.q99 - value.q01 > 0.02)
