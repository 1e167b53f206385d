"""How each robot's observations and actions map to a model's, one file a robot. NumPy only.

What a robot is:
    RobotSpec, Camera, StatePart, RobotInput
    Gripper, LinearGripper, AlohaGripper

Robots that released checkpoints know:
    aloha, droid, libero, so101, ur5e, unitree_g1

The robot of the tasks in `pioxide.evaluate`:
    tabletop

`ROBOTS` names them all, for command lines.
"""

from collections.abc import Callable

from pioxide.robots.aloha import aloha
from pioxide.robots.droid import droid
from pioxide.robots.libero import libero
from pioxide.robots.parts import AlohaGripper, Camera, Gripper, LinearGripper, StatePart
from pioxide.robots.single_arm import so101, ur5e
from pioxide.robots.spec import RobotInput, RobotSpec
from pioxide.robots.tabletop import tabletop
from pioxide.robots.unitree import unitree_g1


class _Robots(dict[str, Callable[[], RobotSpec]]):
    """Robots by name, which shows the names alone."""

    def __repr__(self) -> str:
        return f"ROBOTS: {', '.join(self)}"


ROBOTS: dict[str, Callable[[], RobotSpec]] = _Robots(
    {
        "aloha": aloha,
        "aloha-sim": lambda: aloha(sim=True),
        "droid": droid,
        "droid-jointpos": lambda: droid(joint_positions=True),
        "libero": libero,
        "so101": so101,
        "tabletop": tabletop,
        "tabletop-targets": lambda: tabletop(targets=3),
        "unitree-g1": unitree_g1,
        "ur5e": ur5e,
    }
)

__all__ = [
    "ROBOTS",
    "AlohaGripper",
    "Camera",
    "Gripper",
    "LinearGripper",
    "RobotInput",
    "RobotSpec",
    "StatePart",
    "aloha",
    "droid",
    "libero",
    "so101",
    "tabletop",
    "unitree_g1",
    "ur5e",
]
