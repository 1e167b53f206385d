"""Nothing leaves the safety filter that is outside the limits or is no number, whatever comes in."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pioxide.errors import InputError
from pioxide.policy import Limits, SafetyFilter

HZ = 50.0
number = st.one_of(st.floats(-10, 10), st.floats(allow_nan=True, allow_infinity=True))


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


def test_a_bite_is_counted_and_told_with_its_joint():
    bites = []
    safe = SafetyFilter(Limits(low=-1, high=1, velocity=2.0), dim=3, hz=HZ, on_bite=bites.append)
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


def test_the_first_action_needs_to_be_a_number():
    with pytest.raises(InputError, match="joint 1"):
        SafetyFilter(Limits(), dim=2, hz=HZ)([0, np.inf])


@pytest.mark.parametrize(
    "limits",
    [
        Limits(low=1, high=-1),
        Limits(velocity=0),
        Limits(acceleration=[1, -1]),
        Limits(low=[0, 0, 0]),
        Limits(high=np.nan),
    ],
)
def test_limits_that_cannot_be_meant_are_refused(limits):
    with pytest.raises(InputError, match="limits"):
        SafetyFilter(limits, dim=2, hz=HZ)
