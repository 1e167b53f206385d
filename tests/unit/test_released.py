"""Every released checkpoint of openpi's beside every robot: the right ones agree, all others are refused."""

from dataclasses import replace

import pytest

from pioxide.contract import UNKNOWN, Contract, openpi_contract
from pioxide.contract.contract import FIELDS
from pioxide.errors import ContractError
from pioxide.policy import agree
from pioxide.robots import ROBOTS
from pioxide.weights.released import RELEASED

# Robots whose numbers are the same: gym-aloha's are the real robot's.
SAME = {"aloha": {"aloha", "aloha-sim"}, "aloha-sim": {"aloha", "aloha-sim"}}


def contract_of(name: str) -> Contract:
    """What openpi always does, and what the row says."""
    said = RELEASED[name].contract()
    stated = {field: value for field in FIELDS if (value := getattr(said, field)) is not UNKNOWN}
    base = replace(openpi_contract(said.family), source=name, **stated)
    return replace(base, model_dim=32) if base.model_dim is UNKNOWN and said.family.is_flow else base


@pytest.mark.parametrize("robot", ROBOTS)
@pytest.mark.parametrize("name", [name for name, row in RELEASED.items() if row.robot is not None])
def test_a_released_checkpoint_runs_its_own_robot_and_no_other(name: str, robot: str) -> None:
    own = RELEASED[name].robot.name
    if robot in SAME.get(own, {own}):
        agreed = agree(contract_of(name), robot)
        assert agreed.delta_mask == contract_of(name).delta_mask
        assert any(camera.key for camera in agreed.cameras)
        return
    with pytest.raises(ContractError, match=f"{name} and the robot|cameras"):
        agree(contract_of(name), robot)


@pytest.mark.parametrize("name", [name for name, row in RELEASED.items() if row.robot is None])
def test_a_base_model_asks_what_its_robot_does(name: str) -> None:
    with pytest.raises(ContractError, match="delta_mask: whether actions are relative"):
        agree(contract_of(name), "aloha")
    with pytest.raises(ContractError, match="robot: whose numbers"):
        agree(contract_of(name))
