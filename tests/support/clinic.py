"""Good pairs for `doctor`: a dataset on disk, and a contract whose statistics were made from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from pioxide.contract import CameraSlot, Contract, save_contract
from pioxide.data import EpisodeData, LeRobotDataset, chunk_stats, write_lerobot_v3
from pioxide.family import Family
from pioxide.report.doctor import Code, Examination, Request, Severity, examine
from pioxide.robots import RobotSpec
from pioxide.transforms import NormRule

TASKS = ["pick up the cup", "open the drawer"]


def record(
    path: Path,
    robot: RobotSpec,
    *,
    episodes: int = 8,
    length: int = 160,
    seed: int = 0,
    change: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]] = lambda s, a: (s, a),
    names: dict[str, list[str]] | None = None,
    fps: float | None = None,
) -> Path:
    """Writes a dataset of smooth movements: each joint has a range of its own, off centre; grippers open and
    close between 0 and 1, and are mostly closed.

    Args:
        path: Where.
        robot: Widths, names and rate; its cameras are not recorded.
        episodes: How many.
        length: Frames of each.
        seed: Of the movements; the ranges depend on the joint alone.
        change: Applied to an episode's states and actions before they are written.
        names: In place of the robot's.
        fps: In place of the robot's.
    """
    rng = np.random.default_rng(seed)
    data = []
    for number in range(episodes):
        action = np.stack([_joint(rng, robot, i, length) for i in range(robot.action_dim)], axis=1)
        lagged = np.concatenate([action[:1], action[:-1]])
        # What the state has beyond the action's joints moves by itself.
        more = [_joint(rng, robot, i, length)[:, None] for i in range(robot.action_dim, robot.state_dim)]
        state = np.concatenate([lagged, *more], axis=1)[:, : robot.state_dim]
        state = state + rng.normal(0, 0.002, state.shape)
        state, action = change(state, action)
        columns = {"observation.state": state.astype(np.float32), "action": action.astype(np.float32)}
        data.append(EpisodeData(columns, TASKS[number % 2]))
    own = {"action": list(robot.joint_names), "observation.state": list(robot.state_names)}
    named = {key: value for key, value in (own if names is None else names).items() if value}
    return write_lerobot_v3(path, data, fps=fps or robot.hz or 30, robot_type=robot.name, names=named)


def _joint(rng: np.random.Generator, robot: RobotSpec, dim: int, length: int) -> np.ndarray:
    t = np.arange(length) / length
    if dim < len(robot.joint_names) and "gripper" in robot.joint_names[dim]:
        opens, width = rng.uniform(0.1, 0.6), rng.uniform(0.1, 0.25)
        return np.clip(1.2 * np.exp(-(((t - opens) / width) ** 4)) - 0.1, 0, 1)
    centre = 0.35 * ((dim % 3) - 1) * (1 + dim % 2) + 0.15
    size = 0.25 + 0.12 * ((dim * 5) % 7)
    waves = sum(
        rng.uniform(0.3, 0.5) * np.sin(2 * np.pi * (k * t * rng.uniform(0.7, 1.2) + rng.random()))
        for k in (1, 2)
    )
    return centre + size * (waves + 0.25 * waves**2)


def contract_for(
    dataset: Path,
    robot: RobotSpec,
    *,
    family: Family = Family.PI05,
    mask: tuple[bool, ...] | None = None,
    horizon: int = 20,
    episodes: list[int] | None = None,
    **changes,
) -> Contract:
    """Returns a contract in which every field is stated, with statistics made as training makes them."""
    opened = LeRobotDataset.open(dataset)
    keys = ["observation.state", "action"]
    chosen = [
        (robot.apply_state(e.stack(keys[:1])), robot.apply_actions(e.stack(keys[1:])))
        for e in opened.scan(keys, episodes)
    ]
    mask = mask if mask is not None else robot.delta_mask or ()
    rule = NormRule.openpi(family.normalization)
    cameras = {camera.slot: camera for camera in robot.cameras}
    slots = list(dict.fromkeys([*family.cameras, *cameras]))
    base = Contract(
        family=family,
        robot=robot,
        cameras=tuple(
            CameraSlot(slot, cameras[slot].key if slot in cameras else None, required=False) for slot in slots
        ),
        absent_camera="masked",
        answer_gap=0 if family.is_flow else 1,
        delta_mask=mask,
        state_norm=rule,
        action_norm=rule,
        norm_stats=chunk_stats(lambda: chosen, horizon=horizon, delta_mask=mask),
        state_in_text=not family.state_is_vector,
        state_text_dim=None,
        prompt_style="openpi",
        text_len=family.text_len,
        default_prompt=None,
        action_horizon=horizon,
        model_dim=32,
        num_steps=10 if family.is_flow else None,
        play_steps=None,
        image_size=224,
        resize="antialias",
        fast=None,
        max_delay=0,
        subtask_style=None,
        advantage_style=None,
        memory=None,
        source="a test",
    )
    return replace(base, **changes)


def write(directory: Path, contract: Contract) -> str:
    """Saves a contract in a directory of its own; returns the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    save_contract(contract, directory)
    return str(directory)


def see(directory: Path, contract: Contract, dataset: Path | None = None, **named) -> Examination:
    """Examines a contract, as `pioxide doctor` does."""
    place = write(directory, contract)
    return examine(Request(place, dataset=dataset, **named))


def faults(examination: Examination) -> dict[Code, str]:
    """Returns warnings and problems by code, each as "where: message -> way out", several joined by " | "."""
    found: dict[Code, str] = {}
    for one in examination.found:
        if one.severity is not Severity.NOTE:
            text = f"{one.where}: {one.message} -> {one.way_out}"
            found[one.code] = f"{found[one.code]} | {text}" if one.code in found else text
    return found
