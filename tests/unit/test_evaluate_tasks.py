"""The tasks on the table: repeatable by seed, solved by their experts, telling only what they should."""

import numpy as np
import pytest

from pioxide.errors import InputError, PioxideError
from pioxide.evaluate.tasks import TASKS, Push, Reach, Words


def play(environment, seed, kind=None):
    environment.reset(seed=seed, options={} if kind is None else {"kind": kind})
    while True:
        _, reward, ended, late, info = environment.step(environment.expert_action())
        if ended or late:
            return info["success"], reward


@pytest.mark.parametrize("name", TASKS)
def test_experts_succeed(name):
    environment = TASKS[name]()
    assert [play(environment, seed) for seed in range(30)] == [(True, 1.0)] * 30


@pytest.mark.parametrize("name", TASKS)
def test_gymnasium_finds_no_fault(name):
    from gymnasium.utils.env_checker import check_env

    check_env(TASKS[name](), skip_render_check=True)


@pytest.mark.parametrize("name", TASKS)
def test_a_seed_lays_everything_out(name):
    first, second = TASKS[name](), TASKS[name]()
    one, two, other = first.reset(seed=7)[0], second.reset(seed=7)[0], second.reset(seed=8)[0]
    for key in ("image", "state"):
        np.testing.assert_array_equal(one[key], two[key])
        assert not np.array_equal(one[key], other[key])


@pytest.mark.parametrize("name", TASKS)
def test_standing_still_is_no_success(name):
    environment = TASKS[name]()
    successes = 0
    for seed in range(20):
        environment.reset(seed=seed)
        for _ in range(5):
            *_, info = environment.step(environment.tip)
        successes += info["success"]
    assert successes <= 1


def test_the_disc_is_in_no_number():
    environment = Reach()
    seen, _ = environment.reset(seed=3)
    np.testing.assert_allclose(seen["state"], environment.tip)
    assert seen["state"].shape == (2,)


def test_the_floor_is_zero_for_the_network():
    floor = Reach().reset(seed=0)[0]["image"].reshape(-1, 3)
    assert (floor == 128).all(axis=1).mean() > 0.9


def test_targets_are_in_the_state_and_not_in_the_picture():
    environment = Words()
    seen, _ = environment.reset(seed=0)
    np.testing.assert_allclose(seen["state"][2:4], environment.place("target1"))
    before = seen["image"]
    environment._put("target1", np.array([0.1, 0.1]))
    environment._mujoco.mj_forward(environment._model, environment.data)
    np.testing.assert_array_equal(environment._observe()["image"], before)
    assert not np.array_equal(environment.render(), before)


def test_only_the_lamp_tells_which_target_is_lit():
    """Neither words nor state do: the same instruction, and every colour comes."""
    environment = Words()
    colours = set()
    for seed in range(30):
        seen, info = environment.reset(seed=seed, options={"kind": "lit"})
        assert info["kind"] == "lit"
        assert seen["instruction"] == "touch the lit one"
        pixels = seen["image"].reshape(-1, 3).astype(int)
        lamp = int(pixels[np.ptp(pixels, axis=1).argmax()].argmax())
        assert lamp == environment._target
        colours.add(lamp)
    assert colours == {0, 1, 2}


def test_a_named_target_is_not_the_lamps():
    environment = Words()
    same = 0
    for seed in range(60):
        seen, _ = environment.reset(seed=seed, options={"kind": "named"})
        pixels = seen["image"].reshape(-1, 3).astype(int)
        same += int(pixels[np.ptp(pixels, axis=1).argmax()].argmax()) == environment._target
    assert 8 <= same <= 35  # a third by chance


def test_kinds_can_be_asked_for_together_and_by_part():
    environment, seen = Words(), set()
    for seed in range(30):
        _, info = environment.reset(seed=seed, options={"kind": "named,lit-two"})
        seen.add(info["kind"])
        if info["kind"] == "lit-two":
            assert (environment.instruction, environment._target) == ("touch the lit one", 1)
    assert seen == {"named", "lit-two"}


def test_asking_for_a_kind_changes_nothing_else():
    environment = Words()
    for seed in range(6):
        drawn, info = environment.reset(seed=seed)
        asked, _ = environment.reset(seed=seed, options={"kind": info["kind"]})
        np.testing.assert_array_equal(asked["state"], drawn["state"])
        assert asked["instruction"] == drawn["instruction"]


def test_pushing_moves_the_puck_and_nothing_else_does():
    environment = Push()
    environment.reset(seed=1)
    before = environment.place("puck")
    environment.step(environment.tip)
    np.testing.assert_allclose(environment.place("puck"), before, atol=1e-9)
    for _ in range(20):
        environment.step(environment.expert_action())
    assert np.linalg.norm(environment.place("puck") - before) > 0.02


@pytest.mark.parametrize("action", [[0.0], [np.nan, 0.0], [[0.0, 0.0]]])
def test_an_action_that_is_none_is_refused(action):
    environment = Reach()
    environment.reset(seed=0)
    with pytest.raises(InputError, match="two finite numbers"):
        environment.step(np.array(action))


@pytest.mark.parametrize("options", [{"kind": "sung"}, {"kind": "named,"}, {"colour": "red"}])
def test_an_unknown_option_is_refused(options):
    with pytest.raises(InputError, match="there is no"):
        Words().reset(seed=0, options=options)


def test_far_too_much_noise_ends_a_recording(tmp_path):
    from pioxide.evaluate import RecordSettings, record

    with pytest.raises(PioxideError, match="lower the noise"):
        record("push", tmp_path / "data", RecordSettings(episodes=20, noise=0.4))
    assert not (tmp_path / "data").exists()
