"""Windows, and statistics over them, against NumPy on the chunks written out in full."""

import numpy as np
import pytest

from pioxide.data import (
    EpisodeData,
    ExactQuantiles,
    FrameColumns,
    LeRobotDataset,
    chunk_stats,
    compute_stats,
    delta_windows,
    window_weights,
    windows,
    write_lerobot_v21,
)
from pioxide.data.quantiles import Moments
from pioxide.errors import DatasetError, InputError
from support.datasets import episodes, write_v3, write_v21
from support.running_histogram import RunningHistogram

KEYS = ["observation.state", "action"]


def assert_is_stats_of(stats, values):
    """`values` [N, D], every one written out."""
    wide = values.astype(np.float64)
    np.testing.assert_allclose(stats.mean, wide.mean(axis=0), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(stats.std, wide.std(axis=0), rtol=1e-10, atol=1e-13)
    for found, q in ((stats.q01, 0.01), (stats.q99, 0.99)):
        np.testing.assert_array_equal(found, np.quantile(values, q, axis=0, method="inverted_cdf"))


def all_chunks(data, horizon, mask):
    return np.concatenate(
        [
            delta_windows(e.columns["action"], e.columns["observation.state"], mask, horizon).reshape(-1, 3)
            for e in data
        ]
    )


def test_windows_by_hand():
    actions = np.array([[1, 10], [2, 20], [3, 30]], np.float32)
    out = windows(actions, 2)
    np.testing.assert_array_equal(out, [[[1, 10], [2, 20]], [[2, 20], [3, 30]], [[3, 30], [3, 30]]])
    assert out.dtype == np.float32
    np.testing.assert_array_equal(windows(actions, 5)[1, :, 0], [2, 3, 3, 3, 3])
    np.testing.assert_array_equal(windows(actions, 1)[:, 0], actions)


def test_windows_share_one_copy_that_can_not_be_written():
    out = windows(np.zeros((100, 3)), 50)
    assert not out.flags.writeable
    assert out.base is not None
    assert out.strides[0] == out.strides[1]


def test_delta_windows_by_hand():
    out = delta_windows(np.array([[1.0, 5.0], [2.0, 6.0]]), np.array([[0.5, 0], [1.0, 0]]), (True, False), 2)
    np.testing.assert_array_equal(out, [[[0.5, 5], [1.5, 6]], [[1.0, 6], [1.0, 6]]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: windows(np.zeros(3), 2), r"\[T, D\] with T >= 1, got shape \(3,\)"),
        (lambda: windows(np.zeros((0, 3)), 2), r"got shape \(0, 3\)"),
        (lambda: windows(np.zeros((2, 3)), 0), "got horizon 0"),
        (lambda: delta_windows(np.zeros((3, 2)), np.zeros((2, 2)), (True,), 2), "3 actions but 2 states"),
        (lambda: window_weights(0, 5), "0 frames"),
    ],
)
def test_windows_refuse_what_is_no_episode(call, message):
    with pytest.raises(InputError, match=message):
        call()


@pytest.mark.parametrize("length", [1, 2, 5, 30])
@pytest.mark.parametrize("horizon", [1, 2, 7, 50])
def test_weights_count_each_action_in_all_windows(length, horizon):
    counted = np.bincount(windows(np.arange(length)[:, None], horizon).ravel(), minlength=length)
    np.testing.assert_array_equal(window_weights(length, horizon), counted)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("mask", [None, (True, True, True), (True, False, True), (True,)])
@pytest.mark.parametrize("write", [write_v3, write_v21])
def test_statistics_of_a_dataset_are_those_of_its_chunks(tmp_path, write, mask, dtype):
    data = episodes((60, 1, 200, 17), dtype)
    dataset = LeRobotDataset.open(write(tmp_path / "d", data))
    stats = compute_stats(dataset, horizon=20, delta_mask=mask)
    assert_is_stats_of(stats["state"], np.concatenate([e.columns["observation.state"] for e in data]))
    assert_is_stats_of(stats["actions"], all_chunks(data, 20, mask or ()))


def test_reading_again_instead_of_keeping_changes_nothing(tmp_path):
    dataset = LeRobotDataset.open(write_v3(tmp_path / "d", episodes((60, 1, 200))))
    kept = compute_stats(dataset, horizon=9, delta_mask=(True,))
    assert compute_stats(dataset, horizon=9, delta_mask=(True,), cache_bytes=0) == kept


def test_state_and_actions_may_differ_in_precision():
    rng = np.random.default_rng(0)
    pairs = [(rng.normal(size=(50, 3)), rng.normal(size=(50, 4)).astype(np.float32)) for _ in range(3)]
    stats = chunk_stats(lambda: pairs, horizon=7, delta_mask=(False, True))
    assert_is_stats_of(stats["state"], np.concatenate([s for s, _ in pairs]))
    expected = np.concatenate([delta_windows(a, s, (False, True), 7).reshape(-1, 4) for s, a in pairs])
    assert_is_stats_of(stats["actions"], expected)


def test_columns_stand_side_by_side(tmp_path):
    data = episodes((40, 30))
    dataset = LeRobotDataset.open(write_v21(tmp_path / "d", data))
    stats = compute_stats(
        dataset, horizon=4, columns=FrameColumns(("reward", "observation.state"), ("action",))
    )
    assert stats["state"].dim == 4
    assert stats["state"].mean[0] == pytest.approx(np.concatenate([e.columns["reward"] for e in data]).mean())


def test_some_episodes_only(tmp_path):
    data = episodes((40, 30, 20))
    dataset = LeRobotDataset.open(write_v21(tmp_path / "d", data))
    stats = compute_stats(dataset, horizon=4, episodes=iter([0, 2]))
    assert_is_stats_of(stats["actions"], all_chunks([data[0], data[2]], 4, ()))


@pytest.mark.parametrize("cache_bytes", [0, 1 << 30])
def test_a_bad_episode_is_left_out_and_reported_once(tmp_path, cache_bytes):
    data = episodes((40, 30, 20))
    dataset = LeRobotDataset.open(write_v21(tmp_path / "d", data))
    (dataset.path / dataset.episodes[1].file).unlink()
    with pytest.raises(DatasetError, match="episode 1: no such file"):
        compute_stats(dataset, horizon=4)
    bad = []
    stats = compute_stats(
        dataset, horizon=4, on_bad=lambda info, _: bad.append(info.index), cache_bytes=cache_bytes
    )
    assert bad == [1]
    assert_is_stats_of(stats["actions"], all_chunks([data[0], data[2]], 4, ()))


def test_constant_dimensions_have_no_spread(tmp_path):
    state = np.full((30, 2), 0.1, np.float32)
    data = [EpisodeData({"observation.state": state, "action": state}, "stand")]
    root = write_lerobot_v21(tmp_path / "d", data, fps=10, robot_type="x")
    stats = compute_stats(LeRobotDataset.open(root), horizon=8)
    for value in stats.values():
        np.testing.assert_array_equal(value.q01, state[0])
        np.testing.assert_array_equal(value.q99, state[0])
        np.testing.assert_array_equal(value.std, [0, 0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"horizon": 0}, "horizon is 0"),
        ({"horizon": 4, "delta_mask": (True,) * 4}, "mask covers 4 dimensions, but the actions have 3"),
        ({"horizon": 4, "columns": FrameColumns(action_keys=("torque",))}, 'no feature "torque"'),
        ({"horizon": 4, "episodes": []}, "at least two frames"),
    ],
)
def test_statistics_refuse_what_has_none(tmp_path, options, message):
    dataset = LeRobotDataset.open(write_v21(tmp_path / "d"))
    with pytest.raises(InputError, match=message):
        compute_stats(dataset, **options)


def test_episodes_of_different_width_are_refused():
    pairs = [(np.zeros((5, 2)), np.zeros((5, 2))), (np.zeros((5, 2)), np.zeros((5, 3)))]
    with pytest.raises(InputError, match="an episode has 3 dimensions, earlier ones 2"):
        chunk_stats(lambda: pairs, horizon=2)


def test_quantiles_that_are_not_given_all_passes_say_so():
    quantiles = ExactQuantiles(1, np.float32)
    quantiles.add(np.ones((3, 1), np.float32))
    quantiles.next_pass()
    with pytest.raises(InputError, match="1 passes over the values are missing"):
        _ = quantiles.values
    with pytest.raises(InputError, match="not given the same values"):
        quantiles.next_pass()


def test_moments_keep_their_digits_far_from_zero():
    """E[x^2] - E[x]^2 in float64 would give a std of 0 here, or nonsense."""
    values = 1e9 + np.random.default_rng(0).normal(size=(1000, 2))
    moments = Moments(2)
    for block in np.split(values, [1, 10, 400]):
        moments.add(block)
    np.testing.assert_allclose(moments.std, values.std(axis=0), rtol=1e-9)


@pytest.mark.parametrize("relative", [False, True])
def test_real_data_against_numpy_and_against_openpis_histogram(shared, relative):
    """Exact here; on this data the histogram is off by up to 7 of its bins, each 1/5000 of the range."""
    dataset = LeRobotDataset.open(shared("data/g1_pick_bottle"))
    mask, horizon = (True,) * 14 if relative else (), 16
    stats = compute_stats(dataset, horizon=horizon, delta_mask=mask)["actions"]
    running, every = RunningHistogram(), []
    for episode in dataset.scan(KEYS):
        chunks = delta_windows(episode.columns["action"], episode.columns["observation.state"], mask, horizon)
        every.append(chunks.reshape(-1, 26))
        running.add(every[-1].astype(np.float64))
    every = np.concatenate(every)
    assert_is_stats_of(stats, every)
    np.testing.assert_allclose(stats.mean, running.mean, atol=1e-12)
    np.testing.assert_allclose(stats.std, running.std, atol=1e-9)
    bin_width = (every.max(axis=0) - every.min(axis=0)) / 5000
    for exact, q in ((stats.q01, 0.01), (stats.q99, 0.99)):
        bins_off = np.abs(exact - running.quantile(q)) / bin_width
        assert 0.1 < bins_off.max() <= 8
