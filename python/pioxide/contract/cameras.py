"""Which of the robot's cameras fills which image slot of the model, or an error that shows both sides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pioxide.contract.contract import UNKNOWN, CameraSlot
from pioxide.errors import ContractError
from pioxide.robots import Camera, RobotSpec


def assign_cameras(
    slots: tuple[CameraSlot, ...],
    robot: RobotSpec,
    chosen: Mapping[str, str | None] | None = None,
    where: str = "the checkpoint",
) -> tuple[CameraSlot, ...]:
    """Returns the slots with the robot's key in each, in the model's order.

    A slot takes the camera that `chosen` names; else the one whose key is the slot's own; else, where the
    checkpoint leaves it open, the one that the robot's declaration sends to a slot of that name.

    Args:
        slots: As the checkpoint has them.
        robot: Its cameras.
        chosen: A robot's key by slot; None for a slot that stays empty.
        where: What messages call the checkpoint.

    Raises:
        ContractError: A slot that was filled in training has no camera, or a camera has no slot, or two.
    """
    chosen = dict(chosen or {})
    by_key = {camera.key: camera for camera in robot.cameras}
    by_slot = {camera.slot: camera for camera in robot.cameras}
    if unknown := sorted(chosen.keys() - {slot.slot for slot in slots}):
        raise _error(f"there is no image slot {unknown[0]!r}", slots, robot, where)
    if unknown := sorted({key for key in chosen.values() if key is not None} - by_key.keys()):
        raise _error(f"{robot.name} has no camera {unknown[0]!r}", slots, robot, where)
    assigned: list[CameraSlot] = []
    for slot in slots:
        if slot.slot in chosen:
            camera = by_key.get(chosen[slot.slot] or "")
        elif slot.key is UNKNOWN:
            camera = by_slot.get(slot.slot)
        else:
            camera = by_key.get(slot.key or "")
            if slot.key is not None and camera is None:
                raise _error(f"nothing fills the slot {slot.slot!r}", slots, robot, where)
        assigned.append(_filled(slot, camera))
    filled = [slot.key for slot in assigned if slot.key is not None]
    if twice := [key for key in filled if filled.count(key) > 1]:
        raise _error(f"the camera {twice[0]!r} fills two slots", slots, robot, where)
    used = {slot.key for slot in assigned}
    if left := [camera.key for camera in robot.cameras if camera.key not in used]:
        raise _error(f"the camera {left[0]!r} has no slot", slots, robot, where)
    return tuple(assigned)


def _filled(slot: CameraSlot, camera: Camera | None) -> CameraSlot:
    if camera is None:
        return replace(slot, key=None, required=False)
    return replace(slot, key=camera.key, required=camera.required)


def _shown(slot: CameraSlot) -> str:
    return slot.slot if slot.key in (UNKNOWN, slot.slot) else f"{slot.slot} ({slot.key or 'empty'})"


def _error(what: str, slots: tuple[CameraSlot, ...], robot: RobotSpec, where: str) -> ContractError:
    trained = ", ".join(_shown(slot) for slot in slots)
    has = ", ".join(camera.key for camera in robot.cameras) or "none"
    error = ContractError(
        f"{what}: {where} was trained with cameras {trained}, in this order; {robot.name} has {has}. "
        'Say which goes where, cameras={"SLOT": "ROBOT KEY"} (--camera SLOT=KEY, in training '
        "--data.camera), or use a robot without that camera"
    )
    error.fields = ("cameras",)
    return error
