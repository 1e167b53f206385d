"""A dataset's own numbers as a robot, and a declared robot checked against them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from pioxide.contract import Contract, moved_names, refuse_differences
from pioxide.data.columns import FrameColumns, pick
from pioxide.data.lerobot import LeRobotDataset
from pioxide.errors import ContractError
from pioxide.robots import Camera, RobotSpec, StatePart

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
        state=_state_parts(dataset, columns),
        action_dim=len(columns.action_names(dataset)),
        hz=float(dataset.fps) if dataset.fps > 0 else None,
        prompt_key="task",
        actions_key=actions_key,
        joint_names=_names(dataset, columns.action_keys, columns.action_names(dataset)),
        state_names=_names(dataset, columns.state_keys, columns.state_names(dataset)),
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


def recorded_robot(robot: RobotSpec, dataset: LeRobotDataset, columns: FrameColumns) -> RobotSpec:
    """Returns a declared robot with the dimensions that were chosen of the dataset's.

    A robot that is as wide as the dataset's columns is taken to be what was recorded, so what is chosen of
    the one is chosen of the other; one that is as wide as the choice is taken as it is.

    Raises:
        ContractError: Its numbers are not the dataset's, or a sign, a gripper or a relative action would go
            to another joint.
    """
    where = f"the robot {robot.name}"
    whole = FrameColumns(columns.state_keys, columns.action_keys)
    wide = (dataset.dim(whole.state_keys), dataset.dim(whole.action_keys))
    if columns == whole or (robot.state_dim, robot.action_dim) != wide:
        check_robot(robot, dataset, columns, where)
        return robot
    check_robot(robot, dataset, whole, where)
    state = columns.state_dims or tuple(range(wide[0]))
    actions = columns.action_dims or tuple(range(wide[1]))
    mask = robot.delta_mask and tuple(
        dim < len(robot.delta_mask) and robot.delta_mask[dim] for dim in actions
    )
    _refuse_torn(robot, state, actions, mask or ())
    found = dataset_robot(dataset, columns)
    return replace(
        robot,
        state=found.state,
        action_dim=len(actions),
        signs=tuple(robot.signs[dim] for dim in actions) if robot.signs else (),
        grippers={new: robot.grippers[dim] for new, dim in enumerate(actions) if dim in robot.grippers},
        delta_mask=mask,
        joint_names=tuple(robot.joint_names[dim] for dim in actions) if robot.joint_names else (),
        state_names=tuple(robot.state_names[dim] for dim in state) if robot.state_names else (),
        joint_units=tuple(robot.joint_units[dim] for dim in actions) if robot.joint_units else (),
    )


def named_mask(terms: Sequence[str], names: Sequence[str]) -> tuple[bool, ...]:
    """Returns a delta mask of the joints that are chosen by name, glob, number or slice; see `pick`.

    Raises:
        InputError: A name is none of them; shows those that are.
    """
    chosen = pick(terms, names, "an action")
    return tuple(chosen is None or dim in chosen for dim in range(len(names)))


def _refuse_torn(
    robot: RobotSpec, state: tuple[int, ...], actions: tuple[int, ...], mask: Sequence[bool]
) -> None:
    """Refuses a choice under which what holds for state and action alike would meet two joints."""
    turned = {dim for dim, sign in enumerate(robot.signs) if sign == -1} | set(robot.grippers)
    for place, dim in enumerate(actions):
        there = state[place] if place < len(state) else None
        relative = place < len(mask) and mask[place]
        if there != dim and (relative or dim in turned or there in turned):
            error = ContractError(
                f"{robot.name} treats joint {robot.joint(dim)} alike in state and action (its sign, its "
                "gripper, or because it is relative), and the two are chosen differently; choose with "
                "--joints or --drop"
            )
            error.fields = ("robot",)
            raise error


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


def _state_parts(dataset: LeRobotDataset, columns: FrameColumns) -> tuple[StatePart, ...]:
    """The state's columns with as many numbers as are chosen; one part where they are mixed up."""
    keys = columns.state_keys
    owners = [key for key in keys for _ in range(dataset.dim([key]))]
    if columns.state_dims is not None:
        owners = [owners[dim] for dim in columns.state_dims]
    runs = [(key, len(list(run))) for key, run in groupby(owners)]
    if len({key for key, _ in runs}) < len(runs):
        return (StatePart(keys[0], len(owners)),)
    return tuple(StatePart(key, size) for key, size in runs)


def _names(dataset: LeRobotDataset, keys: tuple[str, ...], names: list[str]) -> tuple[str, ...]:
    """Names of all dimensions, or none where the dataset leaves some without."""
    complete = all(dataset.features[key].names or dataset.dim([key]) == 1 for key in keys)
    return tuple(names) if complete else ()
