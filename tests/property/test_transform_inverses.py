"""Every transform and its inverse, over random shapes, statistics and values."""

import hypothesis.strategies as st
import numpy as np
from hypothesis import given, settings
from hypothesis.extra.numpy import array_shapes, arrays

from pioxide.contract import Numbers
from pioxide.robots import RobotSpec, StatePart
from pioxide.transforms import DeltaActions, NormRule, Pad, Quantile, Stats, ZScore, make_mask

NUMBERS = st.floats(-1e3, 1e3, allow_subnormal=False)
FLOATS = st.sampled_from([np.float32, np.float64])


@st.composite
def stats_and_values(draw):
    dim = draw(st.integers(1, 9))
    mean, q01 = draw(arrays(np.float64, (2, dim), elements=NUMBERS))
    std, span = draw(arrays(np.float64, (2, dim), elements=st.floats(0, 1e3, allow_subnormal=False)))
    shape = (*draw(array_shapes(min_dims=1, max_dims=2, max_side=4)), draw(st.integers(1, 12)))
    return Stats(mean, std, q01, q01 + span), draw(arrays(np.float64, shape, elements=NUMBERS))


@given(stats_and_values(), FLOATS)
@settings(deadline=None)
def test_z_score_inverts(case, dtype):
    stats, x = case[0], case[1].astype(dtype)
    transform = ZScore(stats)
    np.testing.assert_allclose(transform.invert(transform.apply(x)), x, rtol=1e-12, atol=1e-9)


@given(stats_and_values(), FLOATS)
@settings(deadline=None)
def test_quantile_inverts(case, dtype):
    stats, x = case[0], case[1].astype(dtype)
    transform = Quantile(stats)
    np.testing.assert_allclose(transform.invert(transform.apply(x)), x, rtol=1e-12, atol=1e-9)


@given(st.data(), st.lists(st.integers(-3, 3), max_size=5))
@settings(deadline=None)
def test_delta_actions_invert(data, runs):
    mask = make_mask(*runs)
    dim = len(mask) + data.draw(st.integers(0 if mask else 1, 3))
    state_dim = len(mask) + data.draw(st.integers(0, 3))
    lead = data.draw(st.sampled_from([(), (1,), (3,), (2, 3)]))
    horizon = data.draw(st.integers(1, 5))
    actions = data.draw(arrays(np.float64, (*lead, horizon, dim), elements=NUMBERS))
    state = data.draw(arrays(np.float64, (*lead, state_dim), elements=NUMBERS))
    before = actions.copy(), state.copy()
    delta = DeltaActions(mask)
    relative = delta.apply(actions, state)
    np.testing.assert_allclose(delta.invert(relative, state), actions, atol=1e-12)
    np.testing.assert_array_equal(relative[..., len(mask) :], actions[..., len(mask) :])
    np.testing.assert_array_equal(actions, before[0])
    np.testing.assert_array_equal(state, before[1])


@given(st.data(), st.integers(0, 6), st.integers(0, 6), FLOATS)
def test_pad_inverts(data, dim, more, dtype):
    x = data.draw(arrays(dtype, (3, dim), elements=st.floats(-10, 10, width=16)))
    padded = Pad(dim, dim + more).apply(x)
    assert padded.shape == (3, dim + more)
    assert not padded[:, dim:].any()
    np.testing.assert_array_equal(Pad(dim, dim + more).invert(padded), x)


@given(st.data(), st.booleans(), st.sampled_from(["identity", "zscore", "quantile"]), st.integers(0, 3))
@settings(deadline=None)
def test_all_of_a_robots_numbers_invert(data, relative, mode, more):
    dim, rng = data.draw(st.integers(1, 6)), np.random.default_rng(data.draw(st.integers(0, 999)))
    mean, q01 = rng.normal(size=(2, dim))
    std, span = rng.uniform(0.1, 3, (2, dim))
    normalizer = NormRule.openpi(mode).make(Stats(mean, std, q01, q01 + span))
    robot = RobotSpec(
        "any", (), (StatePart("state", dim),), dim, signs=tuple(rng.choice([1, -1], dim).tolist())
    )
    mask = tuple((rng.random(dim) < 0.5).tolist()) if relative else ()
    numbers = Numbers(robot, mask, normalizer, normalizer, 1.0)
    state, actions = rng.normal(size=(2, dim)), rng.normal(size=(2, 7, dim))
    padded = Pad(dim, dim + more).apply(numbers.apply_actions(actions, state))
    np.testing.assert_allclose(numbers.invert_actions(padded, state), actions, atol=1e-12)
