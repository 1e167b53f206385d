"""What the tasks on the table share, as a gymnasium environment: physics, pictures, success, steps."""

from __future__ import annotations

import string
from collections.abc import Mapping
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from pioxide.errors import InputError
from pioxide.evaluate.opengl import import_mujoco
from pioxide.evaluate.tasks.scene import CONTROL_HZ, HALF, camera, compiled

Floats = NDArray[np.float64]

# Steps in a row that a task has to be fulfilled.
HOLD = 3
FILM_SIZE = 256


class TableTask(gymnasium.Env[dict[str, Any], NDArray[np.floating]]):
    """A tip on a table. An action is where the tip shall be, [2] in metres from the middle.

    An observation has `image` [size, size, 3], `state`, and `instruction`. `step` ends the episode as
    soon as the task was fulfilled for three steps in a row (`info["success"]`), or its time is over. What
    lies where follows from the seed of `reset` alone.

    Attributes:
        data: MuJoCo's state.
        kind: Which kind of instruction this episode has, for tables by kind.
        instruction: This episode's.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": CONTROL_HZ}  # noqa: RUF012
    things: ClassVar[str]
    image_size: ClassVar[int] = 64
    max_steps: ClassVar[int] = 30
    state_dim: ClassVar[int] = 2
    # Metres that the scripted expert moves in a step.
    pace: ClassVar[float] = 0.05
    # Every kind of instruction, with all its instructions.
    instructions: ClassVar[Mapping[str, tuple[str, ...]]]
    # Parts of a kind, which are laid out when they are asked for, and never drawn.
    parts: ClassVar[tuple[str, ...]] = ()

    def __init__(self, render_mode: str | None = "rgb_array") -> None:
        """Makes MuJoCo's state; nothing is drawn yet.

        Raises:
            InputError: Neither EGL nor OSMesa draws here.
        """
        self.render_mode = render_mode
        self._mujoco = mujoco = import_mujoco()
        self._model = compiled(self.things)
        self.data = mujoco.MjData(self._model)
        self.action_space = spaces.Box(-HALF, HALF, (2,), np.float64)
        self.observation_space = spaces.Dict(
            {
                "image": spaces.Box(0, 255, (self.image_size, self.image_size, 3), np.uint8),
                "state": spaces.Box(-1.0, 1.0, (self.state_dim,), np.float64),
                "instruction": spaces.Text(200, charset=string.printable),
            }
        )
        self.kind, self.instruction = "", ""
        self._steps = self._held = 0

    # What a task says of itself.

    def _lay(self, random: np.random.Generator, kind: str) -> None:
        """Lays everything out, and chooses `instruction` among those of `kind`."""
        raise NotImplementedError

    def _state(self) -> Floats:
        """Returns the state that the policy is told."""
        return self.tip

    def _fulfilled(self) -> bool:
        """Returns whether the task is fulfilled at this moment."""
        raise NotImplementedError

    def expert_action(self) -> Floats:
        """Returns what the scripted expert does now."""
        raise NotImplementedError

    # gymnasium's side.

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begins an episode.

        Args:
            seed: What lies where, and which instruction.
            options: `{"kind": ...}` chooses the kind of instruction, or several with commas between, of which
                one is drawn; by default all.

        Raises:
            InputError: There is no such option or kind.
        """
        super().reset(seed=seed)
        options = dict(options or {})
        kinds = list(self.instructions)
        kind = kinds[self.np_random.integers(len(kinds))]
        asked = str(options.pop("kind", kind)).split(",")
        unknown = [one for one in asked if one not in (*kinds, *self.parts)]
        if options or unknown:
            wrong = f"option {next(iter(options))!r}" if options else f"kind {unknown[0]!r}"
            there = ", ".join((*kinds, *self.parts))
            raise InputError(f"{type(self).__name__}: there is no {wrong}; the kinds are {there}")
        kind = asked[self.np_random.integers(len(asked))]
        self._mujoco.mj_resetData(self._model, self.data)
        self.kind = kind
        self._lay(self.np_random, kind)
        self.data.ctrl[:] = self.tip
        self._mujoco.mj_forward(self._model, self.data)
        self._steps = self._held = 0
        return self._observe(), self._info()

    def step(self, action: NDArray[np.floating]) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Sends the tip to `action` for a tenth of a second; the reward is 1 when the task is done.

        Raises:
            InputError: The action is not two finite numbers.
        """
        target = np.asarray(action, np.float64)
        if target.shape != (2,) or not np.isfinite(target).all():
            raise InputError(f"action: expected two finite numbers, got {action!r}")
        self.data.ctrl[:] = np.clip(target, -HALF, HALF)
        steps = round(1 / CONTROL_HZ / self._model.opt.timestep)
        self._mujoco.mj_step(self._model, self.data, steps)
        self._steps += 1
        self._held = self._held + 1 if self._fulfilled() else 0
        done = self._held >= HOLD
        return self._observe(), float(done), done, self._steps >= self.max_steps and not done, self._info()

    def render(self) -> NDArray[np.uint8]:  # type: ignore[override]
        """Returns [256, 256, 3] for people: with what the policy is not shown."""
        return camera(self.things, FILM_SIZE, True).picture(self.data)

    # For tasks.

    @property
    def tip(self) -> Floats:
        """Returns where the tip is, [2] in metres."""
        return np.array([self.data.joint("tip_x").qpos[0], self.data.joint("tip_y").qpos[0]])

    def place(self, name: str) -> Floats:
        """Returns where a thing is, [2] in metres."""
        return self.data.body(name).xpos[:2].copy()

    def _put_tip(self, where: Floats) -> None:
        self.data.joint("tip_x").qpos[0], self.data.joint("tip_y").qpos[0] = where

    def _put(self, name: str, where: Floats) -> None:
        self.data.mocap_pos[self._model.body(name).mocapid[0]] = [*where, 0.002]

    def _towards(self, goal: Floats, pace: float | None = None) -> Floats:
        """Returns the next point on the straight line to `goal`."""
        way = goal - self.tip
        return self.tip + way * min(1.0, (pace or self.pace) / max(float(np.linalg.norm(way)), 1e-9))

    def _observe(self) -> dict[str, Any]:
        return {
            "image": camera(self.things, self.image_size).picture(self.data),
            "state": self._state(),
            "instruction": self.instruction,
        }

    def _info(self) -> dict[str, Any]:
        return {"success": self._held >= HOLD, "kind": self.kind}


def near(a: Floats, b: Floats, metres: float) -> bool:
    """Returns whether two places are within `metres` of each other."""
    return bool(np.linalg.norm(a - b) < metres)
