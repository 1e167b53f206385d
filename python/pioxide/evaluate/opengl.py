"""MuJoCo, imported so that it draws without a screen: how is chosen once, before that."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from typing import Any

from pioxide.errors import InputError


def import_mujoco() -> Any:
    """Returns the module `mujoco`.

    Raises:
        InputError: It can draw nothing here.
    """
    choose_opengl()
    return importlib.import_module("mujoco")


def choose_opengl() -> None:
    """Picks a way for MuJoCo to draw without a screen: EGL, else OSMesa. `MUJOCO_GL` overrides it.

    Raises:
        InputError: Neither works.
    """
    if "MUJOCO_GL" in os.environ or sys.platform != "linux" or "mujoco" in sys.modules:
        return
    # Tried in a process of its own: a library may be there and find no device, and MuJoCo decides only once.
    code = "import mujoco; mujoco.GLContext(64, 64).make_current()"
    for name in ("egl", "osmesa"):
        environment = {**os.environ, "MUJOCO_GL": name}
        trial = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
        if trial.returncode == 0:
            os.environ["MUJOCO_GL"] = name
            return
    raise InputError(
        "MuJoCo can draw neither by EGL nor by OSMesa; install libegl1 and a driver, or libosmesa6, or say "
        "how by MUJOCO_GL"
    )
