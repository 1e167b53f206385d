"""Nothing leaves the safety filter that is outside the limits or is no number, whatever comes in."""

import copy
import dataclasses
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pioxide.control import Limits, SafetyFilter
from pioxide.errors import InputError

HZ = 50.0
number = st.one_of(st.floats(-10, 10), st.floats(allow_nan=True, allow_infinity=True))


def run(safe, start, actions):
    """Every position from the start on, and the speeds between them."""
    safe.reset(start)
    positions = np.array([start, *(safe(action) for action in actions)], np.float64)
    return positions, np.diff(positions, axis=0) * safe.hz


@settings(max_examples=300, deadline=None)
@given(
    start=st.floats(-1, 1),
    actions=st.lists(st.tuples(number, number), min_size=1, max_size=60),
    velocity=st.floats(0.1, 20),
    acceleration=st.floats(0.5, 500),
)
def test_every_limit_holds_at_once_for_any_actions(start, actions, velocity, acceleration):
    limits = Limits(low=-1.0, high=[1.0, 1.5], velocity=velocity, acceleration=acceleration)
    safe = SafetyFilter(limits, dim=2, hz=HZ)
    safe.reset([start, start])
    positions = [np.array([start, start])]
    for action in actions:
        positions.append(safe(action))
    positions = np.array(positions)
    speed = np.diff(positions, axis=0) * HZ
    change = np.diff(speed, axis=0, prepend=np.zeros((1, 2))) * HZ
    assert np.isfinite(positions).all()
    assert (positions >= -1 - 1e-9).all()
    assert (positions <= np.array([1, 1.5]) + 1e-9).all()
    assert (np.abs(speed) <= velocity + 1e-6).all()
    assert (np.abs(change) <= acceleration + 1e-4).all()


def test_actions_inside_the_limits_pass_unchanged_and_count_nothing():
    t = np.arange(200) / HZ
    wanted = np.stack([0.4 - 0.4 * np.cos(t), 0.2 * np.cos(t)], axis=1)
    safe = SafetyFilter(Limits(low=-1, high=1, velocity=1.0, acceleration=10.0), dim=2, hz=HZ)
    safe.reset(wanted[0])
    for action in wanted:
        np.testing.assert_allclose(safe(action), action, atol=1e-12)
    assert not any(safe.counts.values())


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    velocity=st.floats(0.1, 5),
    acceleration=st.floats(0.5, 100),
    hz=st.sampled_from([10.0, 15.0, 50.0, 200.0]),
)
def test_any_motion_inside_the_limits_passes_unchanged(seed, velocity, acceleration, hz):
    change = np.random.default_rng(seed).uniform(-0.999, 0.999, (200, 2)) * acceleration / hz
    speed, wanted = np.zeros(2), [np.zeros(2)]
    for one in change:
        speed = np.clip(speed + one, -0.999 * velocity, 0.999 * velocity)
        wanted.append(wanted[-1] + speed / hz)
    safe = SafetyFilter(Limits(velocity=velocity, acceleration=acceleration), dim=2, hz=hz)
    positions, _ = run(safe, wanted[0], wanted[1:])
    np.testing.assert_allclose(positions, wanted, atol=1e-9)
    assert not any(safe.counts.values())


def test_a_bite_is_counted_and_told_with_its_joint():
    bites = []
    safe = SafetyFilter(Limits(low=-1, high=1, velocity=2.0), dim=3, hz=HZ, on_violation=bites.append)
    safe.reset([0, 0, 0])
    np.testing.assert_allclose(safe([0, 1, 0]), [0, 2 / HZ, 0])
    assert [(b.kind, b.joints, b.tick) for b in bites] == [("velocity", (1,), 0)]
    safe.reset([0, 0, 0.99])
    safe([0, 0, 5])
    assert bites[1].kind == "position"
    assert bites[1].joints == (2,)
    assert bites[1].wanted[2] == 5
    assert safe.counts == {"not finite": 0, "position": 1, "velocity": 1, "acceleration": 0}


def test_an_action_that_is_no_number_makes_every_joint_brake_and_hold():
    safe = SafetyFilter(Limits(acceleration=50.0), dim=2, hz=HZ)
    safe.reset([0, 0])
    for tick in range(1, 20):
        last = safe([tick * 0.001, 0])
    held = [safe([np.nan, 3.0]) for _ in range(5)]
    assert np.isfinite(held).all()
    np.testing.assert_array_equal(held[-1], held[-2])
    assert np.abs(held[-1] - last).max() < 0.01
    assert safe.counts["not finite"] == 5


@settings(max_examples=200, deadline=None)
@given(
    target=st.floats(-3, 3),
    jump=st.floats(-3, 3),
    velocity=st.one_of(st.none(), st.floats(0.1, 20)),
    acceleration=st.floats(0.5, 500),
)
def test_a_joint_that_lags_behind_does_not_run_past_what_was_wanted(target, jump, velocity, acceleration):
    safe = SafetyFilter(Limits(velocity=velocity, acceleration=acceleration), dim=1, hz=HZ)
    positions, _ = run(safe, [target + jump], [[target]] * 100)
    beyond = (target - positions[:, 0]) * np.sign(jump)
    assert beyond.max() <= 1e-9


def test_a_joint_that_lags_behind_arrives():
    safe = SafetyFilter(Limits(low=-3, high=3, velocity=2.0, acceleration=5.0), dim=1, hz=HZ)
    positions, _ = run(safe, [0.0], [[1.0]] * 100)
    assert positions[-1, 0] == 1.0
    # And catches up with what moves on meanwhile.
    positions, _ = run(safe, [0.0], [[1.0 + 0.01 * tick] for tick in range(150)])
    assert positions[-1, 0] == pytest.approx(1.0 + 0.01 * 149)


@settings(max_examples=200, deadline=None)
@given(
    start=st.floats(-4, 4),
    actions=st.lists(number, min_size=1, max_size=60),
    velocity=st.floats(0.1, 20),
    acceleration=st.floats(0.5, 500),
)
def test_a_start_outside_the_range_is_led_back_within_the_other_limits(
    start, actions, velocity, acceleration
):
    limits = Limits(low=-1.0, high=1.0, velocity=velocity, acceleration=acceleration)
    safe = SafetyFilter(limits, dim=1, hz=HZ)
    positions, speed = run(safe, [start], [[action] for action in actions])
    assert (np.abs(speed) <= velocity + 1e-6).all()
    assert (np.abs(np.diff(speed, axis=0, prepend=0.0)) * HZ <= acceleration + 1e-4).all()
    outside = np.maximum(np.abs(positions) - 1, 0)
    assert (np.diff(outside, axis=0) <= 1e-12).all()


def test_a_start_outside_the_range_does_not_jump_into_it():
    safe = SafetyFilter(Limits(low=-1, high=1, velocity=1.0), dim=1, hz=HZ)
    positions, _ = run(safe, [3.0], [[0.0]] * 200)
    np.testing.assert_allclose(positions[:4, 0], [3.0, 2.98, 2.96, 2.94])
    assert positions[-1, 0] == 0.0


@pytest.mark.parametrize(
    "limits",
    [
        Limits(),
        Limits(velocity=1.0),
        Limits(acceleration=1.0),
        Limits(low=-np.inf, high=np.inf, velocity=np.inf, acceleration=np.inf),
        Limits(low=-1e308, high=1e308, velocity=1e308, acceleration=1e308),
    ],
)
@pytest.mark.parametrize("huge", [1e308, 1e155, np.finfo(np.float32).max, -1e308])
def test_numbers_so_large_that_they_overflow_never_become_infinity_or_nan(limits, huge):
    safe = SafetyFilter(limits, dim=2, hz=HZ)
    positions, _ = run(safe, [0.0, 1.0], [[huge, 1.0], [-huge, 1.0], [0.5, 0.5], [huge, -huge]] * 3)
    assert np.isfinite(positions).all()


def test_an_action_within_the_limits_passes_to_the_last_bit():
    safe = SafetyFilter(Limits(low=-1, high=1, velocity=50.0), dim=3, hz=HZ)
    safe.reset(np.zeros(3))
    for action in np.random.default_rng(0).uniform(-0.3, 0.3, (100, 3)):
        np.testing.assert_array_equal(safe(action), action)


def test_a_tick_without_an_action_means_that_the_robot_stands():
    safe = SafetyFilter(Limits(acceleration=10.0), dim=1, hz=HZ)
    positions, speed = run(safe, [0.0], [[1.0]] * 5)
    assert speed[-1, 0] == pytest.approx(1.0)
    safe.hold()
    again = safe([1.0])
    assert (again[0] - positions[-1, 0]) * HZ == pytest.approx(10.0 / HZ)


def test_the_filter_needs_to_know_where_the_robot_is():
    safe = SafetyFilter(Limits(velocity=1.0), dim=2, hz=HZ)
    with pytest.raises(InputError, match="reset"):
        safe([0.0, 0.0])
    for start in ([0.0], [0.0, np.nan], [0.0, 1e300], "home", None, [1j, 0]):
        with pytest.raises(InputError, match="2 finite joint positions"):
            safe.reset(start)
    with pytest.raises(InputError, match="reset"):
        safe([0.0, 0.0])


@pytest.mark.parametrize("action", [[0.0], [[0.0, 0.0]], "go", None, [None, 0.0], [1j, 0.0], ["0", "1"]])
def test_what_is_no_action_is_refused(action):
    safe = SafetyFilter(Limits(), dim=2, hz=HZ)
    safe.reset([0, 0])
    with pytest.raises(InputError, match="expected an action of 2 numbers, got"):
        safe(action)


def test_a_bite_tells_what_the_robot_gets_and_which_limit_was_in_the_way():
    bites = []
    limits = Limits(low=-1, high=1, velocity=2.0, acceleration=10.0)
    safe = SafetyFilter(limits, dim=2, hz=HZ, on_violation=bites.append)
    safe.reset([0, 0])
    given_ = safe([5.0, 0.0])
    assert [bite.kind for bite in bites] == ["position", "velocity", "acceleration"]
    for bite in bites:
        np.testing.assert_array_equal(bite.given, given_)
        assert bite.joints == (0,)
    # Braking before the end of the range is the position limit's doing, not the velocity's.
    bites.clear()
    alone = SafetyFilter(Limits(low=-1, high=1, acceleration=10.0), dim=1, hz=HZ, on_violation=bites.append)
    run(alone, [0.0], [[1.0 + 0.1 * tick] for tick in range(50)])
    assert {bite.kind for bite in bites} == {"position", "acceleration"}


def test_a_callback_that_raises_leaves_the_filter_where_the_robot_is():
    def refuse(bite):
        raise RuntimeError("bite")

    safe = SafetyFilter(Limits(velocity=1.0, acceleration=10.0), dim=1, hz=HZ)
    positions, _ = run(safe, [0.0], [[1.0]] * 4)
    safe.on_violation = refuse
    with pytest.raises(RuntimeError, match="bite"):
        safe([1.0])
    safe.on_violation = None
    # It got no action, so it stands where it was, and goes on from rest.
    assert (safe([1.0])[0] - positions[-1, 0]) * HZ == pytest.approx(10.0 / HZ)


@pytest.mark.parametrize(
    "limits",
    [
        Limits(low=1, high=-1),
        Limits(velocity=0),
        Limits(acceleration=[1, -1]),
        Limits(low=[0, 0, 0]),
        Limits(high=np.nan),
        Limits(low=np.inf, high=np.inf),
        Limits(acceleration=1e-320),
        Limits(velocity="fast"),
        Limits(velocity=[None, 1]),
    ],
)
def test_limits_that_cannot_be_meant_are_refused(limits):
    with pytest.raises(InputError, match="limits"):
        SafetyFilter(limits, dim=2, hz=HZ)


def test_while_a_callback_runs_the_robot_stands_and_what_it_does_is_overtaken_by_what_is_sent():
    safe = SafetyFilter(Limits(velocity=1.0, acceleration=10.0), dim=1, hz=HZ)
    positions, _ = run(safe, [0.0], [[1.0]] * 4)
    stood = []

    def meddle(violation):
        other = copy.copy(safe)
        other.on_violation = None
        stood.append(other([1.0]))
        safe.reset([5.0])

    safe.on_violation = meddle
    sent = safe([1.0])
    # In the callback nothing was sent yet: from rest, as far as the acceleration allows in one tick.
    assert (stood[0] - positions[-1])[0] * HZ == pytest.approx(10.0 / HZ)
    safe.on_violation = None
    # Once it was sent, that is where the robot is.
    assert abs(safe([1.0]) - sent)[0] <= 1.0 / HZ + 1e-12


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda safe: pickle.loads(pickle.dumps(safe))])
def test_a_copy_goes_on_where_the_filter_was_and_by_itself(again):
    safe = SafetyFilter(Limits(-1, [1.0, 2.0], 1.0, 10.0), dim=2, hz=HZ)
    with pytest.raises(InputError, match="reset"):
        again(safe)([0.0, 0.0])
    positions, _ = run(safe, [0.0, 0.0], [[1.0, -1.0]] * 5)
    other = again(safe)
    assert other == safe
    ahead = [other([1.0, -1.0]) for _ in range(5)]
    np.testing.assert_array_equal([safe([1.0, -1.0]) for _ in range(5)], ahead)
    assert (ahead[0] != positions[-1]).all()


@pytest.mark.parametrize("name", ["limits", "dim", "hz"])
def test_what_a_filter_was_made_with_is_not_changed_beneath_it(name):
    safe = SafetyFilter(Limits(velocity=1.0), dim=1, hz=HZ)
    with pytest.raises(InputError, match=f"{name}: .* make another"):
        setattr(safe, name, getattr(safe, name))
    assert dataclasses.replace(safe, hz=2 * HZ).hz == 2 * HZ


def test_a_robot_of_more_joints_than_memory_holds_is_a_memory_error():
    with pytest.raises(MemoryError, match="safety filter"):
        SafetyFilter(Limits(velocity=1.0), dim=10**15, hz=HZ)
