"""Contracts of several robots that one model drives: what they share, and which of them is meant.

Weights that were trained on several robots have one contract for each, told apart by the robot's name. None
of them stands for the others: whoever needs one says which.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from pioxide.contract.compare import refuse_differences
from pioxide.contract.contract import FIELDS, UNKNOWN, CameraSlot, Contract, Unknown, known
from pioxide.contract.document import to_json
from pioxide.errors import ContractError

# What is the model's, and the same whichever robot it drives; the rest is a robot's own.
MODEL_SIDE = (
    "family",
    "absent_camera",
    "state_in_text",
    "prompt_style",
    "text_len",
    "action_horizon",
    "model_dim",
    "image_size",
    "resize",
    "fast",
    "max_delay",
    "subtask_style",
    "advantage_style",
    "memory",
)


def refuse_other_models(contracts: Sequence[Contract], names: Sequence[str]) -> None:
    """Refuses contracts that one model can't have: another size, prompt or image slot.

    Args:
        contracts: Of one dataset or robot each.
        names: What messages call them.

    Raises:
        ContractError: Shows the first and one that is not its model's, field by field.
    """
    first, fields = contracts[0], set(MODEL_SIDE)
    if not isinstance(first.family, Unknown) and not first.family.is_flow:
        fields.discard("model_dim")  # π0-FAST writes as many numbers as the robot has
    for name, other in zip(names[1:], contracts[1:], strict=True):
        refuse_differences(first, other, names=(names[0], name), only=fields)
        slots = [[camera.slot for camera in one.cameras or ()] for one in (first, other)]
        if slots[0] != slots[1]:
            raise ContractError(
                f"{names[0]} has image slots {', '.join(slots[0]) or 'none'}, and {name} has "
                f"{', '.join(slots[1]) or 'none'}: one model has one list of them, in one order"
            )


def one_a_robot(contracts: Iterable[Contract], where: str = "") -> tuple[Contract, ...]:
    """Returns the contracts of several datasets with each robot's once, in the order in which robots come.

    Args:
        contracts: Of one dataset or robot each.
        where: What messages call whatever has them.

    Raises:
        ContractError: There are none, or a robot is not known; two that differ are of one robot's name; or
            they are not one model's.
    """
    found: dict[str, Contract] = {}
    for contract in contracts:
        name = robot_name(contract)
        before = found.setdefault(name, contract)
        if _meant(before) != _meant(contract):
            refuse_differences(before, contract, names=(f"{name} here", f"{name} there"))
            raise ContractError(
                f"{where or 'a run'}: two contracts that differ are of robots called {name!r}, so that its "
                "name would not tell which statistics are meant: give each robot a name of its own"
            )
    if not found:
        raise ContractError(f"{where or 'a run'}: there is no contract")
    refuse_other_models(list(found.values()), [f"the robot {name}" for name in found])
    return tuple(found.values())


def choose_robot(contracts: Sequence[Contract], robot: str | None, where: str) -> Contract:
    """Returns one robot's contract; of a single one that one, whatever its robot is called.

    Args:
        contracts: As `one_a_robot` gives them.
        robot: The robot's name; None where nobody said.
        where: What messages call whatever has them.

    Raises:
        ContractError: There are several, and nobody said which, or there is none of that name.
    """
    if len(contracts) == 1:
        return contracts[0]
    names = ", ".join(robot_name(one) for one in contracts)
    if robot is None:
        why = f"{where} is of several robots, each with numbers of its own ({names}): say which"
    else:
        chosen = [one for one in contracts if robot_name(one) == robot]
        if chosen:
            return chosen[0]
        why = f"{where} is of several robots, and {robot!r} is none of them ({names}): name one"
    error = ContractError(f"{why}, robot= (--robot NAME)")
    error.fields = ("robot",)
    raise error


def shared_contract(contracts: Sequence[Contract]) -> Contract:
    """Returns what several robots' contracts all say alike; what is a robot's own is UNKNOWN in it."""
    first, *others = contracts
    if not others:
        return first
    documents = [to_json(one) for one in contracts]
    apart = [name for name in FIELDS if any(one.get(name) != documents[0].get(name) for one in documents)]
    said: dict[str, Any] = dict.fromkeys(apart, UNKNOWN)
    if "cameras" in apart and all(not isinstance(one.cameras, Unknown) for one in contracts):
        slots = [tuple(camera.slot for camera in known(one.cameras, "cameras")) for one in contracts]
        if len(set(slots)) == 1:
            said["cameras"] = tuple(CameraSlot(slot) for slot in slots[0])
    return replace(first, **said)


def robot_name(contract: Contract) -> str:
    """Returns what a contract's robot is called.

    Raises:
        ContractError: The contract does not say its robot.
    """
    contract.require("robot", doing="telling robots apart")
    return known(contract.robot, "robot").name


def _meant(contract: Contract) -> dict[str, Any]:
    return to_json(replace(contract, source=""))
