"""The contract of a run: how wide the network's actions are, with a base and without."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from pioxide.cli.options import slot_keys
from pioxide.codec import FastCodec
from pioxide.contract import UNKNOWN, openpi_contract
from pioxide.errors import ContractError, InputError
from pioxide.family import Family
from pioxide.robots import tabletop
from pioxide.train.config import Size
from pioxide.train.contracts import Numbers, run_contract
from pioxide.train.hosts import LAUNCHERS, join_hosts
from pioxide.train.statistics import with_statistics
from pioxide.transforms import NormRule, Stats
from support.training import toy_stats

FITTED = replace(
    openpi_contract("pi05"),
    robot=tabletop(targets=3),
    norm_stats=toy_stats(),
    delta_mask=(True, True),
    action_horizon=8,
)


@pytest.mark.parametrize(
    ("family", "based", "said", "width"),
    [
        (Family.PI05, False, 0, 2),  # its state is text
        (Family.PI0, False, 0, 8),
        (Family.PI0, True, 0, 32),
        (Family.PI0, True, 8, 8),  # a base that was trained here
    ],
)
def test_actions_are_as_wide_as_the_network_they_are_for(family, based, said, width):
    numbers = Numbers(family=family, horizon=8, model_dim=said)
    assert run_contract(FITTED, numbers, Size.MINI, based=based).model_dim == width


def test_a_delay_that_leaves_nothing_to_learn_is_refused():
    with pytest.raises(InputError, match="expected 0 to 7 actions of 8"):
        run_contract(FITTED, Numbers(horizon=8, max_delay=8), Size.MINI)


def test_a_run_normalises_by_its_models_rule_whatever_the_fit_was_told():
    numbers = Numbers(family=Family.PI0, horizon=8)
    assert run_contract(FITTED, numbers, Size.MINI).action_norm == NormRule.openpi("zscore")
    chosen = replace(numbers, normalization="quantile")
    assert run_contract(FITTED, chosen, Size.MINI).state_norm == NormRule.openpi("quantile")
    codec = FastCodec.fit(np.random.default_rng(0).normal(size=(60, 8, 2)), vocab_size=300)
    assert run_contract(FITTED, chosen, Size.MINI, codec).fast.vocab_size == codec.vocab_size
    with pytest.raises(InputError, match="fit with --normalization zscore"):
        run_contract(FITTED, numbers, Size.MINI, codec)


def test_a_camera_goes_into_the_slot_that_a_person_says():
    numbers = Numbers(horizon=8)
    keys = [camera.key for camera in FITTED.robot.cameras]
    made = run_contract(FITTED, numbers, Size.MINI, cameras={"left_wrist_0_rgb": keys[0], "base_0_rgb": None})
    assert {slot.slot: slot.key for slot in made.cameras}["left_wrist_0_rgb"] == keys[0]
    assert slot_keys(["a=b"], "--x") == {"a": "b"}
    for wrong in (["a"], ["a=b", "a=c"]):
        with pytest.raises(InputError, match="--x"):
            slot_keys(wrong, "--x")


@pytest.mark.parametrize("said", [("here", 2, 0), ("h:1", 0, 0), ("h:1", 2, 2)])
def test_hosts_that_cannot_be_are_refused_at_once(said):
    with pytest.raises(InputError, match=r"host|coordinator"):
        join_hosts(*said)


@pytest.mark.parametrize("launcher", LAUNCHERS, ids=lambda launcher: launcher.name)
def test_what_mpi_says_of_the_hosts_is_taken(launcher, monkeypatch):
    asked = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *said: asked.append(said))
    join_hosts("h:1", 4, 2)  # nothing was launched
    monkeypatch.setenv(launcher.hosts, "1")
    monkeypatch.setenv(launcher.host, "0")
    join_hosts("h:1", 4, 2)  # each host was launched alone
    monkeypatch.setenv(launcher.hosts, "8")
    monkeypatch.setenv(launcher.host, "5")
    join_hosts("h:1", None, None)
    join_hosts("h:1", 8, 5)
    assert asked == [("h:1", 4, 2), ("h:1", 4, 2), ("h:1", 8, 5), ("h:1", 8, 5)]
    with pytest.raises(InputError, match=f"hosts: {launcher.name} says 8, got 4"):
        join_hosts("h:1", 4, None)
    with pytest.raises(InputError, match=f"host: {launcher.name} says 5, got 0"):
        join_hosts("h:1", 8, 0)


def scaled(factor: float) -> dict[str, Stats]:
    """Statistics of values that spread `factor` times as far."""
    spread = {
        key: {name: getattr(one, name) * factor for name in ("mean", "std", "q01", "q99")}
        for key, one in FITTED.norm_stats.items()
    }
    return {key: Stats(**said) for key, said in spread.items()}


def moved(far: float) -> dict[str, Stats]:
    """Statistics of values that lie elsewhere, and spread alike."""
    return {
        key: Stats(mean=one.mean + far, std=one.std, q01=one.q01 + far, q99=one.q99 + far)
        for key, one in FITTED.norm_stats.items()
    }


def test_a_run_takes_the_statistics_of_a_policy():
    policy = replace(FITTED, norm_stats=scaled(1.5), source="the base")
    made = with_statistics(FITTED, policy)
    assert made.norm_stats == policy.norm_stats
    assert replace(made, norm_stats=FITTED.norm_stats) == FITTED


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"norm_stats": scaled(0.017)}, "another unit or another joint"),
        ({"norm_stats": scaled(57.3)}, "most dimensions spread over less than a tenth"),
        ({"norm_stats": moved(100.0)}, "another unit or another joint"),
        ({"norm_stats": scaled(0.0)}, "another unit or another joint"),
        ({"norm_stats": {"state": FITTED.norm_stats["state"]}}, "no statistics of actions"),
        (
            {"norm_stats": {key: Stats(mean=np.zeros(3), std=np.ones(3)) for key in ("state", "actions")}},
            "of 3",
        ),
        ({"norm_stats": UNKNOWN}, "norm_stats"),
        ({"delta_mask": UNKNOWN}, "delta_mask"),
        ({"delta_mask": (False, True)}, "disagree"),
        ({"robot": tabletop()}, "disagree"),
        ({"robot": replace(FITTED.robot, hz=7.0)}, r"robot\.hz: the dataset has .* Hz, the base has 7 Hz"),
    ],
)
def test_statistics_of_something_else_are_refused(said, why):
    with pytest.raises(ContractError, match=why):
        with_statistics(FITTED, replace(FITTED, **{"norm_stats": scaled(1.0)} | said, source="the base"))


def test_statistics_of_relative_actions_are_of_one_horizon():
    other = replace(FITTED, action_horizon=9, source="the base")
    with pytest.raises(ContractError, match="action_horizon: the dataset has 8, the base has 9"):
        with_statistics(FITTED, other)
    with pytest.raises(ContractError, match=r"the base does not say(.|\n)*action_horizon"):
        with_statistics(FITTED, replace(other, action_horizon=UNKNOWN))
    with_statistics(replace(FITTED, delta_mask=()), replace(other, delta_mask=()))
    numbers = Numbers(horizon=9)
    with pytest.raises(ContractError, match="over 8 steps, and the run's chunks have 9: fit with"):
        run_contract(FITTED, numbers, Size.TINY)
    assert run_contract(replace(FITTED, delta_mask=()), numbers, Size.TINY).action_horizon == 9
