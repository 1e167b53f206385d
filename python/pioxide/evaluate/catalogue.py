"""The tasks that `pioxide eval --task` knows by name, and how another one is named."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from pioxide.control import Limits
from pioxide.errors import InputError
from pioxide.evaluate.adapter import Adapter, Floats, Moment
from pioxide.robots import aloha, tabletop

OWN = ("reach", "words", "push")


def find_task(name: str) -> Adapter:
    """Returns a task by its name.

    Args:
        name: One of `task_names()`, or "package.module:function", a function without arguments that returns
            an `Adapter`.

    Raises:
        InputError: There is none of that name, or the function gives something else.
    """
    if name in OWN:
        return table_task(name)
    if name in _OTHERS:
        return _OTHERS[name]()
    module, colon, function = name.partition(":")
    if not colon:
        raise InputError(
            f"there is no task {name!r}; expected one of {', '.join(task_names())}, or "
            "package.module:function that returns a pioxide.evaluate.Adapter"
        )
    try:
        made = getattr(importlib.import_module(module), function)()
    except (ImportError, AttributeError) as error:
        raise InputError(f"task {name!r}: {error}") from error
    if not isinstance(made, Adapter):
        raise InputError(f"task {name!r}: expected a pioxide.evaluate.Adapter, got {type(made).__name__}")
    return made


def task_names() -> tuple[str, ...]:
    """Returns the names of the tasks that are known."""
    return (*OWN, *_OTHERS)


def table_task(name: str) -> Adapter:
    """Returns one of our own tasks, see `pioxide.evaluate.tasks`."""
    from pioxide.evaluate.tasks import TASKS
    from pioxide.evaluate.tasks.scene import HALF

    task = TASKS[name]

    def read(seen: Mapping[str, Any], info: Mapping[str, Any]) -> Moment:
        observation = {
            "observation.images.top": seen["image"],
            "observation.state": seen["state"],
            "task": seen["instruction"],
        }
        return Moment(observation, seen["state"][:2], info["kind"], info["success"])

    return Adapter(
        name=name,
        robot=tabletop(targets=(task.state_dim - 2) // 2),
        make=task,
        read=read,
        write=lambda action: action,
        # Twice as fast as the experts move: a policy that needs more has learned something else.
        limits=Limits(low=-HALF, high=HALF, velocity=1.0),
        instructions=tuple(text for texts in task.instructions.values() for text in texts),
    )


def aloha_transfer_cube() -> Adapter:
    """Returns gym-aloha's task: the red cube from the right arm to the left.

    Raises:
        InputError: gym-aloha is not installed.
    """
    gymnasium = _gymnasium("gym_aloha", "gym-aloha")
    instruction = "Transfer the red cube from the right arm to the left arm."

    def read(seen: Mapping[str, Any], info: Mapping[str, Any]) -> Moment:
        state = np.asarray(seen["agent_pos"], np.float64)
        observation = {"state": state, "images/cam_high": seen["pixels"]["top"], "prompt": instruction}
        return Moment(observation, state, "", bool(info.get("is_success", False)))

    return Adapter(
        name="aloha-transfer-cube",
        robot=aloha(sim=True),
        make=lambda: gymnasium.make("gym_aloha/AlohaTransferCube-v0", obs_type="pixels_agent_pos"),
        read=read,
        write=lambda action: action.astype(np.float32),
        limits=Limits(velocity=6.0),
        instructions=(instruction,),
        max_steps=400,
    )


def pusht() -> Adapter:
    """Returns gym-pusht's task: a T-shaped block pushed onto its outline. Positions are in pixels of 512.

    Raises:
        InputError: gym-pusht is not installed.
    """
    from dataclasses import replace

    gymnasium = _gymnasium("gym_pusht", "gym-pusht")
    instruction = "Push the T-shaped block onto the T-shaped target."
    robot = replace(tabletop(delta=False), name="pusht", joint_units=("px", "px"))

    def read(seen: Mapping[str, Any], info: Mapping[str, Any]) -> Moment:
        state = np.asarray(seen["agent_pos"], np.float64)
        observation = {
            "observation.images.top": seen["pixels"],
            "observation.state": state,
            "task": instruction,
        }
        return Moment(observation, state, "", bool(info.get("is_success", False)))

    def write(action: Floats) -> Any:
        return np.clip(action, 0, 512).astype(np.float32)

    return Adapter(
        name="pusht",
        robot=robot,
        make=lambda: gymnasium.make("gym_pusht/PushT-v0", obs_type="pixels_agent_pos"),
        read=read,
        write=write,
        limits=Limits(low=0.0, high=512.0),
        instructions=(instruction,),
        max_steps=300,
    )


_OTHERS: dict[str, Callable[[], Adapter]] = {"aloha-transfer-cube": aloha_transfer_cube, "pusht": pusht}


def _gymnasium(module: str, package: str) -> Any:
    """Returns gymnasium with a package's environments registered.

    Raises:
        InputError: The package is not installed.
    """
    try:
        import gymnasium

        importlib.import_module(module)
    except ImportError as error:
        raise InputError(f"this task needs {package}: pip install {package} ({error})") from error
    return gymnasium
