"""What a server expects and gives, told before the first observation: `/v1/metadata`, first frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pioxide.contract import FIELDS, Contract, describe, known, to_json
from pioxide.serve.messages import KEY, PROTOCOL
from pioxide.serve.wire import WireLimits

if TYPE_CHECKING:
    from pioxide.policy import Policy
    from pioxide.robots import RobotSpec


def metadata(policy: Policy, limits: WireLimits) -> dict[str, Any]:
    """Returns what a client has to know, as plain values: JSON and MessagePack hold it alike.

    Args:
        policy: What answers.
        limits: What a message may hold.
    """
    import pioxide

    contract = policy.contract
    robot, horizon, memory = policy.robot, policy.horizon, policy.contract.memory
    return {
        KEY: {
            "protocol": PROTOCOL,
            "version": pioxide.__version__,
            "model": known(contract.family, "family").symbol,
            "robot": robot.name,
            "hz": robot.hz,
            "horizon": horizon,
            "play_steps": contract.play_steps if isinstance(contract.play_steps, int) else None,
            "continues": policy.continues,
            # What a client has to show it between requests, as frames.
            "memory": {"frames": memory.frames, "stride": memory.stride} if memory else None,
            "observation": observation_schema(contract, robot),
            "answer": {
                "actions": {
                    "shape": [horizon, robot.action_dim],
                    "dtype": "float64",
                    "names": list(robot.joint_names),
                    "units": list(robot.joint_units),
                    "description": "the robot's own units; row 0 belongs to the observation",
                }
            },
            "limits": dict(vars(limits)),
            "contract": in_words(contract),
        }
    }


def in_words(contract: Contract) -> dict[str, str]:
    """Returns what a contract says, field by field."""
    return {name: describe(name, getattr(contract, name)) for name in FIELDS}


def document(policy: Policy, limits: WireLimits) -> dict[str, Any]:
    """Returns `metadata` with the whole contract as `contract.json` has it, statistics included."""
    said = metadata(policy, limits)
    return {KEY: {**said[KEY], "contract_json": to_json(policy.contract)}}


def observation_schema(contract: Contract, robot: RobotSpec) -> dict[str, Any]:
    """Returns a JSON schema of an observation, its arrays told by `shape` and `dtype`.

    Keys are flat, "observation/image"; nested maps of the same names are taken too.
    """
    properties: dict[str, Any] = {}
    required: list[str] = []
    absent = {camera.key for camera in known(contract.cameras, "cameras") if not camera.required}
    for camera in known(contract.cameras, "cameras"):
        if not isinstance(camera.key, str):
            continue
        properties[camera.key] = {
            "type": "array",
            "dtype": "uint8",
            "shape": ["h", "w", 3],
            "slot": camera.slot,
            "description": f"camera image for {camera.slot}, of any size; it is resized to "
            f"{contract.image_size} x {contract.image_size}",
        }
        if camera.key not in absent:
            required.append(camera.key)
    first = 0
    for part in robot.state:
        names = list(robot.state_names[first : first + part.size])
        first += part.size
        properties[part.key] = {"type": "array", "dtype": "float", "shape": [part.size], "names": names}
        required.append(part.key)
    default = contract.default_prompt
    properties[robot.prompt_key] = {"type": "string", "description": "the instruction"}
    if isinstance(default, str):
        properties[robot.prompt_key]["default"] = default
    else:
        required.append(robot.prompt_key)
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
