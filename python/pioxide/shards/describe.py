"""Says in sentences what a contract means, as `fit`, `tokenize` and the demo print it."""

from __future__ import annotations

from pioxide.contract import UNKNOWN, Contract, describe
from pioxide.robots import RobotSpec

# So many joints are named; of more only the first.
NAMED = 8


def sentence(contract: Contract) -> str:
    """Returns what rows or statistics under this contract are, joint names included."""
    parts = []
    if contract.robot:
        robot = contract.robot
        chunk = f"chunks of {contract.action_horizon or 'H'} x {robot.action_dim}"
        rate = "" if robot.hz is None else f" at {robot.hz:g} Hz"
        parts.append(f"{chunk} of {robot.name}{rate}")
        parts += _turned(robot)
        parts.append(_relative(robot, contract))
    parts.append(_normalised(contract))
    if contract.family:
        parts.append(_prompt(contract))
    said = "; ".join(part for part in parts if part)
    return f"{contract.family.symbol}: {said}" if contract.family else said


def _turned(robot: RobotSpec) -> list[str]:
    found = []
    if turned := [robot.joint(i) for i, sign in enumerate(robot.signs) if sign == -1]:
        found.append(f"turned round for the model: {_named(turned)}")
    if robot.grippers:
        found.append(f"gripper maps: {_named([robot.joint(dim) for dim in sorted(robot.grippers)])}")
    return found


def _relative(robot: RobotSpec, contract: Contract) -> str:
    if contract.delta_mask is UNKNOWN:
        return ""
    mask = contract.delta_mask or ()
    relative = [robot.joint(i) for i, one in enumerate(mask) if one]
    if not relative:
        return "actions absolute"
    rest = [robot.joint(i) for i in range(robot.action_dim) if not (i < len(mask) and mask[i])]
    absolute = f", absolute in {_named(rest)}" if rest else ""
    count = f"{len(relative)} of {robot.action_dim}"
    return f"actions relative to the state in {count}: {_named(relative)}{absolute}"


def _normalised(contract: Contract) -> str:
    state, actions = contract.state_norm, contract.action_norm
    if state is UNKNOWN or actions is UNKNOWN:
        return ""
    if state == actions:
        return f"normalised by {state}"
    return f"state normalised by {state}, actions by {actions}"


def _prompt(contract: Contract) -> str:
    style = describe("prompt_style", contract.prompt_style)
    text = f"{style} prompts of up to {contract.text_len} tokens"
    if contract.state_in_text is UNKNOWN:
        return text
    return f"{text} {'with' if contract.state_in_text else 'without'} the state"


def _named(names: list[str]) -> str:
    if len(names) <= NAMED:
        return ", ".join(names)
    return f"{', '.join(names[:NAMED])} and {len(names) - NAMED} more"
