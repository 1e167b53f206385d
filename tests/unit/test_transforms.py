"""Transforms against numbers worked out by hand from openpi's formulas."""

import json

import numpy as np
import pytest

from pioxide.contract import Numbers
from pioxide.errors import FormatError, InputError, OutputError
from pioxide.robots import RobotSpec, StatePart
from pioxide.transforms import (
    DeltaActions,
    Pad,
    Quantile,
    Stats,
    ZScore,
    load_norm_stats,
    make_mask,
    save_norm_stats,
)

STATS = Stats(mean=[1.0, -2.0], std=[2.0, 0.5], q01=[-1.0, 0.0], q99=[3.0, 0.0])


def test_z_score_by_hand():
    out = ZScore(STATS).apply(np.array([5.0, -2.0]))
    assert out[0] == 4.0 / 2.000001
    assert out[1] == 0.0


def test_quantile_by_hand():
    # A constant dimension (q01 == q99) has only the 1e-6 as its denominator: openpi's value, however large.
    out = Quantile(STATS).apply(np.array([[1.0, 0.0], [3.0, 1e-6]]))
    np.testing.assert_array_equal(out[0], [2.0 / 4.000001 * 2.0 - 1.0, -1.0])
    np.testing.assert_allclose(out[1], [4.0 / 4.000001 * 2.0 - 1.0, 1.0], rtol=1e-15)


def test_quantile_does_not_clip():
    assert Quantile(STATS).apply([103.0, 0.0])[0] > 50


def test_unnormalise_by_hand():
    np.testing.assert_array_equal(ZScore(STATS).invert([1.0, 2.0]), [3.000001, 2.0 * 0.500001 - 2.0])
    np.testing.assert_array_equal(Quantile(STATS).invert([0.0, -1.0]), [0.5 * 4.000001 - 1.0, 0.0])


def test_results_are_float64_and_the_input_is_untouched():
    x = np.array([[5.0, -2.0, 7.0]], np.float32)
    for transform in (ZScore(STATS), Quantile(STATS)):
        for out in (transform.apply(x), transform.invert(x)):
            assert out.dtype == np.float64
            assert not np.shares_memory(out, x)
    np.testing.assert_array_equal(x, np.array([[5.0, -2.0, 7.0]], np.float32))


def test_float32_model_outputs_are_halved_in_float32_as_openpi_does():
    x = np.float32([0.1])
    expected = np.float64(np.float32(np.float32(0.1) + np.float32(1)) / np.float32(2)) * (4.0 + 1e-6) - 1.0
    assert Quantile(Stats([0], [1], [-1], [3])).invert(x)[0] == expected


@pytest.mark.parametrize("transform", [ZScore(STATS), Quantile(STATS)])
def test_dimensions_beyond_the_statistics_pass_through(transform):
    x = np.array([5.0, -2.0, 7.0, 8.0])
    np.testing.assert_array_equal(transform.apply(x)[2:], [7.0, 8.0])
    np.testing.assert_array_equal(transform.invert(x)[2:], [7.0, 8.0])


@pytest.mark.parametrize("transform", [ZScore(STATS), Quantile(STATS)])
def test_statistics_are_cut_to_a_shorter_array(transform):
    assert transform.apply([5.0]) == transform.apply([5.0, 0.0])[:1]


def test_quantile_without_quantiles_says_which_is_missing():
    with pytest.raises(InputError, match="needs q99"):
        Quantile(Stats([0.0], [1.0], q01=[0.0]))


def test_make_mask_counts_runs():
    assert make_mask(2, -1, 0, 1) == (True, True, False, True)
    assert sum(make_mask(6, -1, 6, -1)) == 12
    assert make_mask() == ()


@pytest.mark.parametrize("runs", [(True, False, True), (1.5,), ("6", "-1"), (np.True_,)])
def test_make_mask_takes_runs_and_no_mask(runs):
    with pytest.raises(InputError, match="run lengths"):
        make_mask(*runs)


def test_make_mask_takes_no_memory_for_a_run_that_no_robot_has():
    with pytest.raises(InputError, match="at most 65536 dimensions"):
        make_mask(6, -(10**15))


def test_delta_actions_are_relative_to_the_first_state_for_the_whole_chunk():
    actions = np.array([[1.0, 10.0, 100.0], [2.0, 20.0, 200.0]], np.float32)
    state = np.array([0.5, 3.0, 7.0, 9.0], np.float32)
    delta = DeltaActions(make_mask(1, -1))
    out = delta.apply(actions, state)
    np.testing.assert_array_equal(out, [[0.5, 10.0, 100.0], [1.5, 20.0, 200.0]])
    assert out.dtype == np.float32
    np.testing.assert_array_equal(actions[0], [1.0, 10.0, 100.0])
    np.testing.assert_array_equal(delta.invert(out, state), actions)


def test_delta_actions_take_a_batch_with_a_state_each():
    actions = np.zeros((2, 3, 1))
    out = DeltaActions((True,)).apply(actions, np.array([[1.0], [2.0]]))
    np.testing.assert_array_equal(out[:, 0, 0], [-1.0, -2.0])


@pytest.mark.parametrize(
    ("actions", "state", "message"),
    [
        ((4,), (4,), r"\[\.\.\., H, D\]"),
        ((2, 5, 4), (3, 4), "leading shapes"),
        ((5, 1), (4,), "mask covers 2 dimensions, but the actions have 1"),
        ((5, 4), (1,), "the state has 1"),
    ],
)
def test_delta_actions_refuse_shapes_that_do_not_match(actions, state, message):
    with pytest.raises(InputError, match=message):
        DeltaActions((True, True)).apply(np.zeros(actions), np.zeros(state))


def test_pad_fills_with_zeros_and_slices_back():
    pad = Pad(2, 4)
    out = pad.apply(np.ones((3, 2), np.float32))
    np.testing.assert_array_equal(out, [[1, 1, 0, 0]] * 3)
    assert out.dtype == np.float32
    np.testing.assert_array_equal(pad.invert(out), np.ones((3, 2)))
    with pytest.raises(InputError, match=r"expected \[\.\.\., 2\], got shape \(3,\)"):
        pad.apply(np.ones(3))
    with pytest.raises(InputError, match="5 dimensions don't fit a model of 4"):
        Pad(5, 4)


def test_numbers_run_delta_then_normalise_and_padding_comes_last():
    robot = RobotSpec("two joints", (), (StatePart("state", 2),), 2)
    numbers = Numbers(robot, (True, False), ZScore(STATS), Quantile(STATS), 3.0)
    state, actions = np.array([1.0, -2.0]), np.array([[2.0, 0.0]])
    np.testing.assert_array_equal(numbers.apply_state(state), [0.0, 0.0])
    normalised = numbers.apply_actions(actions, state)
    np.testing.assert_array_equal(normalised, [[2.0 / 4.000001 * 2.0 - 1.0, -1.0]])
    padded = Pad(2, 3).apply(normalised)
    np.testing.assert_allclose(numbers.invert_actions(padded, state), actions, atol=1e-15)


def test_norm_stats_written_here_are_openpis_layout(tmp_path):
    file = save_norm_stats(tmp_path / "assets", {"state": STATS, "actions": Stats([0.0], [1.0])})
    assert file == tmp_path / "assets" / "norm_stats.json"
    assert json.loads(file.read_text()) == {
        "norm_stats": {
            "state": {"mean": [1.0, -2.0], "std": [2.0, 0.5], "q01": [-1.0, 0.0], "q99": [3.0, 0.0]},
            "actions": {"mean": [0.0], "std": [1.0], "q01": None, "q99": None},
        }
    }
    assert load_norm_stats(tmp_path / "assets") == {"state": STATS, "actions": Stats([0.0], [1.0])}
    assert [p.name for p in file.parent.iterdir()] == ["norm_stats.json"]


def test_norm_stats_survive_exactly(tmp_path):
    stats = Stats(*np.sort(np.random.default_rng(0).uniform(0, 1, (4, 9)), axis=0))
    assert load_norm_stats(save_norm_stats(tmp_path / "s.json", {"state": stats}))["state"] == stats


def test_whole_numbers_in_norm_stats_are_read_as_float64(tmp_path):
    (tmp_path / "norm_stats.json").write_text('{"norm_stats": {"state": {"mean": [1, 2], "std": [0, 3]}}}')
    stats = load_norm_stats(tmp_path)["state"]
    assert stats.mean.dtype == stats.std.dtype == np.float64
    assert stats.q01 is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", 'no "norm_stats"'),
        ('{"norm_stats": {"state": 3}}', '"state" is not an object'),
        ('{"norm_stats": {"state": {"mean": [1]}}}', '"state" has no "std"'),
        ('{"norm_stats": {"state": {"mean": [1], "std": [1, 2]}}}', "std has 2 numbers, mean has 1"),
        ('{"norm_stats": {"state": {"mean": [1, NaN], "std": [1, 2]}}}', r"mean\[1\] is nan"),
        ('{"norm_stats": {"state": {"mean": ["a"], "std": [1]}}}', "mean is not a list of numbers"),
        ('{"norm_stats": {"state": {"mean": ["1"], "std": [1]}}}', "mean is not a list of numbers"),
        ('{"norm_stats": {"state": {"mean": [1%s], "std": [1]}}}' % ("0" * 400), "mean is not a list"),
        ('{"norm_stats": {"state": {"mean": [1], "std": [-1]}}}', r"std\[0\] is negative"),
    ],
)
def test_a_broken_norm_stats_file_is_named_with_its_fault(tmp_path, text, message):
    (tmp_path / "norm_stats.json").write_text(text)
    with pytest.raises(FormatError, match=message) as caught:
        load_norm_stats(tmp_path)
    assert "norm_stats.json" in str(caught.value)


def test_a_missing_norm_stats_file_is_named(tmp_path):
    with pytest.raises(FormatError, match=r"norm_stats\.json"):
        load_norm_stats(tmp_path)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    save_norm_stats(tmp_path, {"state": STATS})

    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match="No space"):
        save_norm_stats(tmp_path, {"state": Stats([0.0], [1.0])})
    assert load_norm_stats(tmp_path)["state"] == STATS
    assert [p.name for p in tmp_path.iterdir()] == ["norm_stats.json"]
