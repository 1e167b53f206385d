"""The table in MuJoCo, seen from above, and cameras that all environments of one task share."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pioxide.evaluate.opengl import import_mujoco

# Metres from the table's middle to its edges; the camera sees a little more.
HALF = 0.5
CONTROL_HZ = 10
TIP_RADIUS = 0.03
# Geoms of this group are drawn in films for people, and not in what a policy sees.
HIDDEN_GROUP = 3

# The floor is mid-grey: pixels that are 0 for the network. A bright one drowns its position embeddings.
# All light is ambient, so that a colour is the same wherever it lies.
_SCENE = """
<mujoco>
  <option timestep="0.005" integrator="implicitfast" gravity="0 0 0"/>
  <visual>
    <quality shadowsize="0" offsamples="{samples}"/>
    <headlight ambient="1 1 1" diffuse="0 0 0" specular="0 0 0"/>
    <global offwidth="1024" offheight="1024"/>
  </visual>
  <default>
    <geom contype="0" conaffinity="0"/>
    <joint type="slide" damping="1"/>
  </default>
  <worldbody>
    <camera name="top" pos="0 0 2" projection="orthographic" fovy="1.1"/>
    <geom type="plane" size="0.7 0.7 0.1" rgba="0.5 0.5 0.5 1"/>
    <body name="tip" pos="0 0 0.05">
      <joint name="tip_x" axis="1 0 0"/>
      <joint name="tip_y" axis="0 1 0"/>
      <geom name="tip" type="sphere" size="{radius}" mass="0.1" rgba="0 0 0 1" contype="1" conaffinity="1"/>
    </body>
    {things}
  </worldbody>
  <actuator>
    <position joint="tip_x" kp="200" dampratio="1"/>
    <position joint="tip_y" kp="200" dampratio="1"/>
  </actuator>
</mujoco>
"""


def disc(name: str, radius: float, colour: str, *, hidden: bool = False) -> str:
    """Returns a flat disc that can be laid anywhere: a mocap body, which nothing bumps into."""
    group = HIDDEN_GROUP if hidden else 0
    return (
        f'<body name="{name}" mocap="true"><geom name="{name}" type="cylinder" size="{radius} 0.002" '
        f'rgba="{colour} 1" group="{group}"/></body>'
    )


def puck(radius: float, colour: str, damping: float) -> str:
    """Returns a ball that slides over the table when the tip pushes it, and soon stops."""
    return (
        f'<body name="puck" pos="0 0 0.05"><joint name="puck_x" axis="1 0 0" damping="{damping}"/>'
        f'<joint name="puck_y" axis="0 1 0" damping="{damping}"/><geom name="puck" type="sphere" '
        f'size="{radius}" mass="0.1" rgba="{colour} 1" contype="1" conaffinity="1" condim="1"/></body>'
    )


@cache
def compiled(things: str, samples: int = 0) -> Any:
    """Returns the scene with these things on the table, as MuJoCo's model; the same one for the same things.

    Args:
        things: MJCF of `disc` and `puck`.
        samples: Of every pixel; 0 draws over a thousand pictures a second without a GPU, 4 is for people.
    """
    return import_mujoco().MjModel.from_xml_string(
        _SCENE.format(things=things, radius=TIP_RADIUS, samples=samples)
    )


class Camera:
    """Draws the table from above. Made and used in one thread, as OpenGL wants it."""

    def __init__(self, things: str, size: int, *, hidden: bool) -> None:
        """Opens an OpenGL context.

        Args:
            things: As in `compiled`.
            size: Pixels along an edge.
            hidden: Whether what the policy must not see is drawn too, with smooth edges.
        """
        mujoco = import_mujoco()
        self._renderer = mujoco.Renderer(compiled(things, 4 if hidden else 0), size, size)
        self._option = mujoco.MjvOption()
        self._option.geomgroup[HIDDEN_GROUP] = hidden
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            self._renderer.scene.flags[flag] = 0

    def picture(self, data: Any) -> NDArray[np.uint8]:
        """Returns [size, size, 3] of the scene as `data` has it."""
        self._renderer.update_scene(data, "top", scene_option=self._option)
        return self._renderer.render().copy()


@cache
def camera(things: str, size: int, hidden: bool = False) -> Camera:
    """Returns a camera that all environments share: a context each would take minutes for fifty of them."""
    return Camera(things, size, hidden=hidden)
