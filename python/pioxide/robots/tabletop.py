"""The simulated tip on a table that `pioxide.evaluate` trains and tests on: two numbers, one camera above."""

from pioxide.robots.parts import Camera, StatePart
from pioxide.robots.spec import RobotSpec
from pioxide.transforms import make_mask

_TIP = ("tip_x", "tip_y")


def tabletop(*, targets: int = 0, delta: bool | None = True) -> RobotSpec:
    """Returns a tip on a table: `observation.state` [2 + 2 targets] in metres, a camera above, 10 Hz.

    An action is where the tip shall be, in metres from the table's middle.

    Args:
        targets: How many places on the table the state names behind the tip's own.
        delta: Whether actions are relative to the tip, as its tasks are trained; None leaves it to the
            checkpoint.
    """
    places = tuple(f"target{i + 1}_{axis}" for i in range(targets) for axis in "xy")
    return RobotSpec(
        name="tabletop-targets" if targets else "tabletop",
        cameras=(Camera("observation.images.top", "base_0_rgb"),),
        state=(StatePart("observation.state", 2 + 2 * targets),),
        action_dim=2,
        hz=10.0,
        prompt_key="task",
        actions_key="action",
        delta_mask=None if delta is None else make_mask(2) if delta else (),
        joint_names=_TIP,
        state_names=(*_TIP, *places),
        joint_units=("m", "m"),
    )
