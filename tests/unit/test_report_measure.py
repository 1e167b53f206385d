"""The report's accumulators against the same figures computed from all the data at once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pioxide.report.measure import DensityMeter, ErrorMeter, RangeMeter


def episodes(seed=0, count=5, horizon=8, dim=3):
    rng = np.random.default_rng(seed)
    for episode in range(count):
        original = rng.normal(size=(rng.integers(2, 30), horizon, dim))
        decoded = original + rng.normal(scale=0.01 * (1 + episode), size=original.shape)
        yield episode, np.arange(len(original)), original, decoded


def test_errors_equal_those_of_all_chunks_at_once():
    meter = ErrorMeter(8, 3, worst=2)
    everything = list(episodes())
    for part in everything:
        meter.add(*part)
    errors = np.abs(np.concatenate([d - o for _, _, o, d in everything]))
    unit = np.array([1.0, 2.0, 4.0])
    result = meter.result(total=999, unit=unit)
    assert (result.measured, result.total) == (len(errors), 999)
    np.testing.assert_allclose(result.rms, np.sqrt(np.square(errors).mean(axis=(0, 1))))
    np.testing.assert_allclose(result.rms_by_step, np.sqrt(np.square(errors).mean(axis=0)))
    np.testing.assert_array_equal(result.worst, errors.max(axis=(0, 1)))
    np.testing.assert_allclose(result.overall_rms, np.sqrt(np.square(errors).mean()))


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_the_99th_percentile_is_known_to_a_third_of_a_per_cent(seed):
    rng = np.random.default_rng(seed)
    scale = 10.0 ** rng.uniform(-6, 3)
    error = rng.exponential(scale, size=(50, 4, 2))
    meter = ErrorMeter(4, 2, worst=1)
    meter.add(0, np.arange(50), np.zeros_like(error), error)
    exact = np.quantile(error.reshape(-1, 2), 0.99, axis=0, method="inverted_cdf")
    np.testing.assert_allclose(meter.result(50, np.ones(2)).p99, exact, rtol=0.0036)


def test_worst_chunks_come_from_different_episodes_worst_first():
    meter = ErrorMeter(8, 3, worst=3)
    for part in episodes(count=6):
        meter.add(*part)
    chunks = meter.result(1, np.ones(3)).worst_chunks
    assert len(chunks) == 3
    assert len({c.episode for c in chunks}) == 3
    assert [c.error for c in chunks] == sorted((c.error for c in chunks), reverse=True)
    everything = {e: np.abs(d - o).max() for e, _, o, d in episodes(count=6)}
    assert chunks[0].error == max(everything.values())
    assert np.abs(chunks[0].decoded - chunks[0].original).max() == chunks[0].error
    top = chunks[0].worst_joints(1)[0]
    assert np.abs(chunks[0].decoded - chunks[0].original)[:, top].max() == chunks[0].error


def test_few_episodes_give_more_chunks_each_but_none_that_overlap():
    horizon = 8
    rng = np.random.default_rng(3)
    original = rng.normal(size=(100, horizon, 2))
    decoded = original + rng.normal(scale=0.1, size=original.shape)
    meter = ErrorMeter(horizon, 2, worst=4)
    for start in range(0, 100, 30):  # an episode may come in several blocks
        part = slice(start, start + 30)
        meter.add(7, np.arange(100)[part], original[part], decoded[part])
    chunks = meter.result(100, np.ones(2)).worst_chunks
    assert len(chunks) == 4
    assert chunks[0].error == np.abs(decoded - original).max()
    frames = sorted(c.frame for c in chunks)
    assert min(np.diff(frames)) >= horizon


def test_perfect_decoding_is_zero_everywhere():
    meter = ErrorMeter(2, 2, worst=1)
    chunks = np.ones((3, 2, 2))
    meter.add(4, np.arange(3), chunks, chunks)
    result = meter.result(3, np.ones(2))
    assert not result.rms.any()
    assert not result.p99.any()
    assert not result.worst.any()


def test_ranges_count_what_lies_beyond_the_quantiles():
    values = np.random.default_rng(1).normal(size=(1000, 2)) * [1, 10]
    values[:, 1] = 3.0
    q01, q99 = np.quantile(values, [0.01, 0.99], axis=0)
    meter = RangeMeter(q01, q99)
    for part in np.array_split(values, 7):
        meter.add(part)
    result = meter.result(("a", "b"), values.mean(axis=0), values.std(axis=0))
    assert result.outside[0] == pytest.approx(0.02, abs=0.001)
    assert result.outside[1] == 0
    assert result.constant.tolist() == [False, True]
    assert result.degenerate.tolist() == [False, False]
    normalised = (values[:, 0] - q01[0]) / (q99[0] - q01[0] + 1e-6) * 2 - 1
    assert result.reach[0] == pytest.approx(np.abs(normalised).max())


def test_a_joint_that_hardly_ever_moves_is_told_from_one_that_never_does():
    values = np.zeros((1000, 1))
    values[7] = 0.5
    meter = RangeMeter(*np.quantile(values, [0.01, 0.99], axis=0))
    meter.add(values)
    result = meter.result(("gripper",), values.mean(axis=0), values.std(axis=0))
    assert result.degenerate.tolist() == [True]
    assert result.constant.tolist() == [False]


def test_density_keeps_every_value_and_puts_outliers_in_the_outermost_bins():
    meter = DensityMeter(1)
    meter.add(np.array([[-7.0], [-2.0], [0.0], [0.01], [1.999], [2.0], [55.0]]))
    density = meter.result()
    assert density.counts.sum() == 7
    assert density.counts[0, 0] == 2
    assert density.counts[0, -1] == 3
    assert density.counts[0, 50] == 2
