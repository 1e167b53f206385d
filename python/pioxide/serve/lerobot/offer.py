"""What a deployment says of itself to LeRobot's clients, and their names for a robot's numbers and cameras.

A client must send exactly what is said here: the same features in the same order, with the same shapes, names
and conventions. Nothing is guessed from an array's shape.
"""

from __future__ import annotations

import enum
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pioxide.contract import known, to_json
from pioxide.errors import InputError
from pioxide.serve.hosts import is_this_machine
from pioxide.serve.lerobot.values import LIMITS, ErrorCode, Refused, is_segment

if TYPE_CHECKING:
    from pioxide.policy import Policy
    from pioxide.robots import RobotSpec

ALIGNMENT = "chunk_alignment_v1"
STATE, IMAGES = "observation.state", "observation.images."


class Mode(enum.StrEnum):
    """How chunks follow one another."""

    CHUNK = "chunk"
    RTC_GUIDED = "rtc_guided"
    RTC_TRAINED = "rtc_trained"


@dataclass(frozen=True)
class ZenohConfig:
    """What a person may choose of the door for LeRobot's clients.

    Attributes:
        deployment: The name that clients ask for.
        listen: Where Zenoh listens; only this machine by default.
        file: Zenoh's own configuration (JSON5), as for TLS with certificates of clients.
        semantics: The convention of the robot's numbers, which clients must name alike; by default the
            robot's name.
        image: Height and width of the images that clients send, of cameras that `images` does not name.
        images: The same by LeRobot's name of a camera.
        joint_suffix: Appended to the names of the state's and action's numbers, as LeRobot's robots do.
        deadline: Seconds after which a question is of no use.
        absence: Seconds after which a session whose client has gone is closed.
    """

    deployment: str
    listen: str = "tcp/127.0.0.1:7447"
    file: Path | None = None
    semantics: str = ""
    image: tuple[int, int] = (480, 640)
    images: Mapping[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    joint_suffix: str = ".pos"
    deadline: float = 5.0
    absence: float = 10.0

    def __post_init__(self) -> None:
        """Refuses what can't work.

        Raises:
            InputError: A name that can't stand in a key, no address, a size or a time that is not above 0.
        """
        if not is_segment(self.deployment):
            raise InputError(
                f"deployment {self.deployment!r}: expected letters, digits, _, . and -, at most 128"
            )
        if re.fullmatch(r"[a-z]+/\S+:\d+", self.listen) is None:
            raise InputError(f"listen {self.listen!r}: expected an address as tcp/127.0.0.1:7447")
        if min(*self.image, *(n for size in self.images.values() for n in size)) < 1:
            raise InputError("image: expected a height and a width of 1 or more")
        if not (self.deadline > 0 and self.absence > 0):
            raise InputError("deadline and absence must be above 0")

    @property
    def is_local(self) -> bool:
        """Returns whether only this machine reaches the address."""
        return is_this_machine(self.listen.partition("/")[2].rpartition(":")[0].strip("[]"))


class Offer:
    """What one policy offers.

    Attributes:
        artifact: Says which checkpoint and contract it is.
        semantics: The convention of its numbers.
        modes: How chunks may follow one another.
        capabilities: As the protocol says them.
        horizon: Actions that are predicted.
        play: Actions that a client plays of a chunk in `Mode.CHUNK`.
    """

    def __init__(self, policy: Policy, config: ZenohConfig) -> None:
        """Describes a policy.

        Raises:
            InputError: The robot has no rate, no camera names that differ, or a size is of no camera.
        """
        robot, contract = policy.robot, policy.contract
        if robot.hz is None:
            raise InputError(f"{robot.name}: LeRobot's clients must know its rate, and it has no hz")
        self._robot = robot
        self.semantics = config.semantics or robot.name
        said = json.dumps(to_json(contract), sort_keys=True)
        self.artifact = hashlib.sha256(said.encode()).hexdigest()
        self.modes = _modes(policy)
        self.horizon, self._dim = policy.horizon, robot.action_dim
        play = contract.play_steps
        self.play = min(play, self.horizon) if isinstance(play, int) else self.horizon
        self._cameras = _camera_names(policy)
        if unknown := sorted(set(config.images) - set(self._cameras)):
            raise InputError(f"images: no camera {unknown[0]!r}; there are {', '.join(self._cameras)}")
        suffix = config.joint_suffix
        self._features = [
            self._numbers(STATE, robot.state_dim, robot.state_names, suffix),
            *(
                {
                    "name": name,
                    "shape": [*config.images.get(name, config.image), 3],
                    "dtype": "uint8",
                    "kind": "rgb",
                    "names": [],
                    "semantics": f"rgb-{name.removeprefix(IMAGES)}",
                }
                for name in self._cameras
            ),
        ]
        self._action = self._numbers("action", self._dim, robot.joint_names, suffix)
        self.capabilities: dict[str, Any] = {
            "modes": [str(one) for one in self.modes],
            "prediction_steps": self.horizon,
            "execution_steps": self.play,
            "action_interval": 1.0 / robot.hz,
            "features": self._features,
            "action_feature": self._action,
            "language": False,
            "training_max_delay": contract.max_delay if isinstance(contract.max_delay, int) else 0,
            "rtc_horizon": self.horizon if len(self.modes) > 1 else 0,
            "current_observation_only": True,
            "retains_session_state": True,
            "action_representation": "canonical",
        }

    def _numbers(self, name: str, size: int, names: tuple[str, ...], suffix: str) -> dict[str, Any]:
        return {
            "name": name,
            "shape": [size],
            "dtype": "float32",
            "kind": "tensor",
            "names": [f"{one}{suffix}" for one in names],
            "semantics": self.semantics,
        }

    def refuse_other(self, body: Mapping[str, Any]) -> Mode:
        """Returns the mode that a client opens a session for.

        Raises:
            Refused: It expects other features, numbers, rates or modes than are offered.
        """
        for name, ours in (("semantics", self.semantics), ("action_feature", self._action)):
            if body.get(name) != ours:
                raise Refused(ErrorCode.INCOMPATIBLE, f"{name}: expected {ours}, got {body.get(name)}")
        theirs = body.get("features")
        if not isinstance(theirs, list) or len(theirs) != len(self._features):
            told = [one["name"] for one in self._features]
            raise Refused(ErrorCode.INCOMPATIBLE, f"features: expected {told}, in this order")
        for one, ours in zip(theirs, self._features, strict=True):
            if one != ours:
                raise Refused(ErrorCode.INCOMPATIBLE, f"features: expected {ours}, got {one}")
        if body.get("expected_artifact") not in (None, self.artifact):
            raise Refused(ErrorCode.INCOMPATIBLE, f"this deployment is of the artifact {self.artifact}")
        interval, ours = body.get("action_interval"), self.capabilities["action_interval"]
        if not isinstance(interval, int | float) or abs(interval - ours) > 1e-6 * ours:
            raise Refused(ErrorCode.INCOMPATIBLE, f"action_interval: expected {ours:g} s, got {interval}")
        if body.get("encoding") not in ("raw", "jpeg"):
            raise Refused(ErrorCode.UNSUPPORTED, "encoding: expected raw or jpeg")
        if body.get("mode") not in self.capabilities["modes"]:
            raise Refused(ErrorCode.UNSUPPORTED, f"mode: expected {' or '.join(self.modes)}")
        return Mode(body["mode"])

    def observation(self, supplied: Any, task: str) -> dict[str, Any]:
        """Returns what a client sent under the robot's own keys.

        Raises:
            Refused: A feature is missing, superfluous, or of another shape or dtype.
        """
        told = {one["name"]: one for one in self._features}
        if not isinstance(supplied, dict) or set(supplied) != set(told):
            raise Refused(ErrorCode.INCOMPATIBLE, f"features: expected {', '.join(told)}")
        for name, one in told.items():
            value = supplied[name]
            if not isinstance(value, np.ndarray):
                raise Refused(ErrorCode.INCOMPATIBLE, f"{name}: expected a {one['kind']}")
            if list(value.shape) != one["shape"] or value.dtype.name != one["dtype"]:
                got = f"{list(value.shape)} of {value.dtype}"
                raise Refused(
                    ErrorCode.INCOMPATIBLE, f"{name}: expected {one['shape']} of {one['dtype']}, got {got}"
                )
        seen: dict[str, Any] = {key: supplied[name] for name, key in self._cameras.items()}
        first = 0
        for part in self._robot.state:
            seen[part.key] = supplied[STATE][first : first + part.size].astype(np.float64)
            first += part.size
        return {**seen, self._robot.prompt_key: task}

    def left_over(self, value: Any) -> NDArray[np.float64] | None:
        """Returns the actions that a client still plays, in the robot's units.

        Raises:
            Refused: They are no actions [n, D] of a chunk.
        """
        if value is None:
            return None
        good = isinstance(value, np.ndarray) and value.ndim == 2 and value.dtype.name == "float32"
        if not good or value.shape[1] != self._dim or len(value) > self.horizon:
            raise Refused(
                ErrorCode.MALFORMED, f"a continuation: expected float32 [n, {self._dim}], n to {self.horizon}"
            )
        return value.astype(np.float64)

    def limits(self, config: ZenohConfig) -> dict[str, Any]:
        """Returns what a message may hold and how long things may take."""
        return {
            "action_deadline_s": config.deadline,
            "language_deadline_s": 0.0,
            "idle_timeout_s": config.absence,
            "max_input_chars": LIMITS.text_bytes // 4,
            "max_output_chars": 0,
            "codec": {
                "max_payload_bytes": LIMITS.message_bytes,
                "max_decoded_bytes": LIMITS.decoded_bytes,
                "max_nodes": LIMITS.items,
                "max_depth": LIMITS.depth,
                "max_string_bytes": LIMITS.text_bytes,
            },
            "inflight_inference": 1,
        }


def _modes(policy: Policy) -> tuple[Mode, ...]:
    from pioxide.policy import FlowSampler

    sampler = policy.options.sampler
    if not policy.continues or not isinstance(sampler, FlowSampler):
        return (Mode.CHUNK,)
    return (Mode.CHUNK, Mode.RTC_TRAINED if sampler.realtime == "trained" else Mode.RTC_GUIDED)


def _camera_names(policy: Policy) -> dict[str, str]:
    """Returns LeRobot's names of the cameras, and the robot's keys."""
    named: dict[str, str] = {}
    robot: RobotSpec = policy.robot
    for camera in known(policy.contract.cameras, "cameras"):
        if camera.key is None:
            continue
        key = str(camera.key)
        name = key if key.startswith(IMAGES) else IMAGES + re.split(r"[/.]", key)[-1]
        if name in named:
            raise InputError(f"{robot.name}: two cameras would be called {name!r}")
        named[name] = key
    return named
