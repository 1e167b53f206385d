"""A dataset's own numbers as a robot, and a declared robot checked against them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pioxide.contract import Contract, moved_names, refuse_differences
from pioxide.data import LeRobotDataset
from pioxide.errors import ContractError
from pioxide.robots import Camera, RobotSpec, StatePart
from pioxide.shards.settings import FrameColumns

_IMAGES = ("video", "image")


def dataset_robot(dataset: LeRobotDataset, columns: FrameColumns) -> RobotSpec:
    """Returns the robot whose numbers are the dataset's as they are: no signs, no gripper maps.

    Args:
        dataset: Its features say widths, names and cameras, its rate is the robot's.
        columns: What the state and the actions are.

    Raises:
        InputError: A column is missing or holds no numbers.
    """
    cameras = tuple(
        Camera(key, slot=key) for key, feature in dataset.features.items() if feature.dtype in _IMAGES
    )
    taken = {*columns.state_keys, *(camera.key for camera in cameras), "task"}
    actions_key = next(key for key in (columns.action_keys[0], "action", "actions") if key not in taken)
    return RobotSpec(
        name=dataset.robot_type or "robot",
        cameras=cameras,
        state=tuple(StatePart(key, dataset.dim([key])) for key in columns.state_keys),
        action_dim=dataset.dim(columns.action_keys),
        hz=float(dataset.fps) if dataset.fps > 0 else None,
        prompt_key="task",
        actions_key=actions_key,
        joint_names=_names(dataset, columns.action_keys),
        state_names=_names(dataset, columns.state_keys),
    )


def check_robot(robot: RobotSpec, dataset: LeRobotDataset, columns: FrameColumns, where: str) -> None:
    """Refuses a dataset whose numbers are not the robot's: another width, order or rate.

    Args:
        robot: As the contract has it.
        dataset: Whose frames are to be read as its.
        columns: The dataset's state and actions.
        where: What messages call the robot's side.

    Raises:
        ContractError: Shows both sides, and the ways out.
        InputError: A column is missing or holds no numbers.
    """
    found = dataset_robot(dataset, columns)
    # A dataset records what the robot measures; which way round that is for a model, it can't say.
    found = replace(found, signs=robot.signs, grippers=robot.grippers)
    try:
        refuse_differences(
            Contract(robot=robot), Contract(robot=found), names=(where, f"the dataset {dataset.path}")
        )
    except ContractError as error:
        raised = ContractError(
            f"{error}\nName the columns of {robot.name} (--state-keys, --action-keys), pass the robot "
            "that was recorded (--robot NAME or FILE.yaml), or use that robot's dataset"
        )
        raised.fields = error.fields
        raise raised from None


def other_names(ours: Sequence[str], theirs: Sequence[str]) -> list[tuple[str, str]]:
    """Returns the pairs at one place whose names are not the same words.

    Whether "waist" and "motor_0" are one joint a person has to see; an order that is plainly another is
    `check_robot`'s to refuse.
    """
    if not ours or not theirs:
        return []
    return [(one, two) for one, two in zip(ours, theirs, strict=True) if not _same(one, two)]


def _same(one: str, two: str) -> bool:
    # A name that moves when another joint is put before it is known on the other side.
    return bool(moved_names((one,), ("", two)))


def _names(dataset: LeRobotDataset, keys: tuple[str, ...]) -> tuple[str, ...]:
    """Names of all dimensions, or none where the dataset leaves some without."""
    complete = all(dataset.features[key].names or dataset.dim([key]) == 1 for key in keys)
    return tuple(dataset.names(keys)) if complete else ()
