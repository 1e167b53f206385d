"""Record the demo dataset: two simulated ALOHA arms at 50 Hz, driven by a scripted expert, no cameras.

The physics, the scenes and the success criterion are gym-aloha's (joint position control, MuJoCo). The expert
writes each arm's way as poses of its fingertips at given times; inverse kinematics turns them into joint
targets, which are the recorded actions; the simulated arms follow as well as they can, which is the recorded
state.

    uv venv simulation && uv pip install --python simulation "gym-aloha==0.1.5" "mujoco==3.8.1" pyarrow
    PYTHONPATH=python simulation/bin/python tools/record_demo.py python/pioxide/demo/dataset

The same versions, machine type and seed give the same numbers.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

os.environ.setdefault("MUJOCO_GL", "disabled")  # nothing is drawn, so no OpenGL is needed

import mujoco
import numpy as np
from dm_control import mujoco as dm_mujoco
from dm_control.rl import control
from gym_aloha.constants import ASSETS_DIR, DT, FPS, JOINTS, START_ARM_POSE
from gym_aloha.tasks.sim import BOX_POSE, InsertionTask, TransferCubeTask

from pioxide.data import EpisodeData, write_lerobot_v3

Array = np.ndarray
FINGERTIPS = np.array([0.135, 0.0, 0.0])  # from the gripper's frame to between its fingertips, metres
OPEN, CLOSED = 1.0, 0.0
# Where peg and socket are held: towards the arm, so that the two grippers don't meet; the flat peg a little
# above its middle, because the fingers would touch the table first.
PEG_GRIP = np.array([0.025, 0.0, 0.012])
SOCKET_GRIP = np.array([-0.025, 0.0, 0.0])
DOWN = np.deg2rad(60)  # how far a gripper points down to grasp what lies on the table
TREMOR = 0.0015  # radians: a teleoperator's hand is not quite still
# Few and damped steps of inverse kinematics: the fingertips lag a little where the wrist is straight and
# can't turn sideways, instead of the wrist spinning to follow.
ITERATIONS, DAMPING = 5, 1e-2
SPEED = 3.0  # radians a second, as fast as the real arm's joints turn


class CubeTask(TransferCubeTask):
    """gym-aloha's red cube, without cameras."""

    def get_observation(self, physics):
        """The measured joints only."""
        return {"qpos": self.get_qpos(physics)}


class PegTask(InsertionTask):
    """gym-aloha's red peg and blue socket, without cameras."""

    def get_observation(self, physics):
        """The measured joints only."""
        return {"qpos": self.get_qpos(physics)}


@dataclass(frozen=True)
class Pose:
    """Where an arm's fingertips are to be, and when.

    Position in metres, angles in radians (an arm faces the other at yaw 0), gripper 0 closed, 1 open.
    """

    time: float
    position: Array
    yaw: float
    pitch: float
    roll: float
    gripper: float


@dataclass
class Way:
    """One arm's poses in order of time; each new one starts from the last."""

    base: Array  # [2] where the arm stands, metres
    poses: list[Pose]
    rng: np.random.Generator

    def to(self, seconds, position=None, *, yaw=None, pitch=None, roll=None, gripper=None, sway=0.0) -> Way:
        """Be there so many seconds later, give or take a tenth; what isn't named stays. `sway`: noise [m]."""
        last = self.poses[-1]
        position = last.position if position is None else np.asarray(position, float)
        self.poses.append(
            Pose(
                last.time + seconds * self.rng.uniform(0.9, 1.1),
                position + self.rng.uniform(-sway, sway, 3),
                last.yaw if yaw is None else yaw,
                last.pitch if pitch is None else pitch,
                last.roll if roll is None else roll,
                last.gripper if gripper is None else gripper,
            )
        )
        return self

    def until(self, time: float) -> Way:
        """Stay as it is until then."""
        last = self.poses[-1]
        if time > last.time:
            self.poses.append(replace(last, time=time))
        return self

    @property
    def end(self) -> float:
        """When the last pose is reached."""
        return self.poses[-1].time

    def at(self, time: float) -> Pose:
        """The pose at any time, by minimum jerk: it starts and ends each stretch at rest."""
        times = [pose.time for pose in self.poses]
        i = int(np.clip(np.searchsorted(times, time, side="right") - 1, 0, len(times) - 2))
        a, b = self.poses[i], self.poses[i + 1]
        s = np.clip((time - a.time) / max(b.time - a.time, 1e-9), 0, 1)
        s = s**3 * (10 - 15 * s + 6 * s * s)
        mix = [(1 - s) * x + s * y for x, y in zip(_numbers(a), _numbers(b), strict=True)]
        return Pose(time, *mix)


def _numbers(pose: Pose):
    return pose.position, pose.yaw, pose.pitch, pose.roll, pose.gripper


class Kinematics:
    """Joint angles that put an arm's fingertips at a pose: damped least squares on a copy of the scene."""

    def __init__(self, model: mujoco.MjModel, side: str):
        """Start from the arms' usual pose; `side` is "left" or "right"."""
        self.model, self.data = model, mujoco.MjData(model)
        self.data.qpos[:16] = START_ARM_POSE
        self.body = model.body(f"vx300s_{side}/gripper_link").id
        self.joints = slice(0, 6) if side == "left" else slice(8, 14)
        self.base = model.body(f"vx300s_{side}").pos[:2]
        self.facing = 0.0 if side == "left" else np.pi
        self.low, self.high = model.jnt_range[self.joints].T

    def fingertips(self) -> tuple[Array, Array]:
        """Position [3] and orientation [3, 3] now."""
        mujoco.mj_kinematics(self.model, self.data)
        rotation = self.data.xmat[self.body].reshape(3, 3)
        return self.data.xpos[self.body] + rotation @ FINGERTIPS, rotation

    def solve(self, pose: Pose) -> Array:
        """The six joints [rad], no further from the last solution than they can turn in one step."""
        goal = _rotation(2, self.facing + pose.yaw) @ _rotation(1, pose.pitch) @ _rotation(0, pose.roll)
        jacobian = np.zeros((6, self.model.nv))
        last = self.data.qpos[self.joints].copy()
        low, high = np.maximum(self.low, last - SPEED * DT), np.minimum(self.high, last + SPEED * DT)
        for _ in range(ITERATIONS):
            position, rotation = self.fingertips()
            mujoco.mj_comPos(self.model, self.data)
            mujoco.mj_jac(self.model, self.data, jacobian[:3], jacobian[3:], position, self.body)
            error = np.concatenate([pose.position - position, _turn(goal @ rotation.T)])
            if np.abs(error).max() < 1e-6:
                break
            j = jacobian[:, self.joints]
            step = j.T @ np.linalg.solve(j @ j.T + DAMPING * np.eye(6), error)
            self.data.qpos[self.joints] = np.clip(self.data.qpos[self.joints] + step, low, high)
        return self.data.qpos[self.joints].copy()


def _rotation(axis: int, angle: float) -> Array:
    c, s = np.cos(angle), np.sin(angle)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    out = np.eye(3)
    out[i, i], out[j, j], out[i, j], out[j, i] = c, c, -s, s
    return out


def _turn(rotation: Array) -> Array:
    """A rotation matrix as axis times angle [3]."""
    quaternion, out = np.zeros(4), np.zeros(3)
    mujoco.mju_mat2Quat(quaternion, rotation.ravel())
    mujoco.mju_quat2Vel(out, quaternion, 1.0)
    return out


@dataclass(frozen=True)
class Scene:
    """A task as the expert sees it: where things are, and both arms waiting."""

    things: Array  # [N, 3] metres
    left: Way
    right: Way
    rng: np.random.Generator


@dataclass(frozen=True)
class Skill:
    """An instruction, how the expert does it, and how to see that it worked."""

    instruction: str
    scene: type
    plan: Callable[[Scene], None]
    worked: Callable[[Outcome], bool]


@dataclass
class Outcome:
    """What one attempt gave."""

    states: list[Array] = field(default_factory=list)
    actions: list[Array] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    things: Array = field(default_factory=lambda: np.zeros((0, 3)))  # where they ended, metres
    touched: bool = False  # whether a finger still touches one


def by(x: float, y: float, z: float) -> Array:
    """A way in space [m]."""
    return np.array([x, y, z], float)


def grasp(arm: Way, thing: Array, offset=0.0) -> None:
    """Come from above with an open gripper, close it around the thing."""
    spot = thing + offset
    # On the way the gripper points away from the base, as the arm reaches: turned sideways, the wrist would
    # flip when it passes its straight position. Only above the thing does it turn to line up with it.
    away = spot[:2] - arm.base
    yaw = np.arctan(away[1] / away[0])
    arm.to(1.3, spot + by(0, 0, 0.09), yaw=yaw, pitch=DOWN, gripper=OPEN, sway=0.008)
    arm.to(0.8, spot, yaw=0.0)
    arm.to(0.5, gripper=CLOSED)
    arm.to(0.15)


def hand_over(scene: Scene) -> None:
    """Right picks the cube, both meet in the air, left takes it."""
    meet = np.array([0.0, 0.5, 0.25]) + scene.rng.uniform(-0.015, 0.015, 3)
    grasp(scene.right, scene.things[0])
    scene.right.to(1.3, meet)
    scene.left.until(scene.right.end - 1.6)
    scene.left.to(1.4, meet - by(0.12, 0, 0), pitch=0.0, roll=np.pi / 2, gripper=OPEN, sway=0.004)
    scene.left.until(scene.right.end).to(0.8, meet - by(0.012, 0, 0)).to(0.5, gripper=CLOSED).to(0.15)
    scene.right.until(scene.left.end).to(0.4, gripper=OPEN).to(0.9, meet + by(0.13, 0, 0.06), sway=0.01)
    scene.left.until(scene.right.end - 0.6).to(0.9, meet - by(0.14, 0, -0.02), sway=0.01)


def lift_cube(scene: Scene) -> None:
    """Right picks the cube and holds it up."""
    grasp(scene.right, scene.things[0])
    scene.right.to(1.2, scene.things[0] + by(0.02, 0, 0.2), sway=0.02).to(0.5)


def move_cube(scene: Scene) -> None:
    """Right picks the cube, puts it down in the middle, lets go."""
    goal = np.array([0.0, 0.5, scene.things[0][2]])
    grasp(scene.right, scene.things[0])
    scene.right.to(0.6, scene.things[0] + by(0, 0, 0.1), sway=0.01)
    scene.right.to(1.0, goal + by(0, 0, 0.08), sway=0.005).to(0.7, goal + by(0, 0, 0.002))
    scene.right.to(0.4, gripper=OPEN).to(0.8, goal + by(0.06, 0, 0.12), sway=0.01).to(0.3)


def insert_peg(scene: Scene) -> None:
    """Right picks the peg, left the socket; in the air the peg goes in."""
    peg, socket = scene.things
    middle = np.array([0.0, 0.5, 0.2]) + scene.rng.uniform(-0.01, 0.01, 3)
    grasp(scene.right, peg, PEG_GRIP)
    grasp(scene.left, socket, SOCKET_GRIP)
    both = max(scene.right.end, scene.left.end)
    scene.right.until(both).to(1.3, middle + PEG_GRIP + by(0.14, 0, 0))
    scene.left.until(both).to(1.3, middle + SOCKET_GRIP + by(-0.09, 0, 0))
    both = max(scene.right.end, scene.left.end)
    scene.left.until(both)
    scene.right.until(both).to(1.2, middle + PEG_GRIP - by(0.005, 0, 0)).to(0.5)


def lift_socket(scene: Scene) -> None:
    """Left picks the socket and holds it up."""
    grasp(scene.left, scene.things[1], SOCKET_GRIP)
    scene.left.to(1.2, scene.things[1] + by(-0.03, 0, 0.18), sway=0.02).to(0.5)


SKILLS = (
    Skill(
        "Transfer the red cube from the right arm to the left arm.",
        CubeTask,
        hand_over,
        lambda o: min(o.rewards[-10:]) == 4 and o.things[0][2] > 0.1,
    ),
    Skill(
        "Insert the red peg into the blue socket.",
        PegTask,
        insert_peg,
        # Against the pin inside the socket: the contact comes and goes with the tremor.
        lambda o: max(o.rewards[-10:]) == 4 and np.abs(o.things[0] - o.things[1]).max() < 0.105,
    ),
    Skill(
        "Lift the red cube with the right arm.",
        CubeTask,
        lift_cube,
        lambda o: min(o.rewards[-10:]) == 2 and o.things[0][2] > 0.1,
    ),
    Skill(
        "Put the red cube in the middle of the table.",
        CubeTask,
        move_cube,
        lambda o: not o.touched and o.things[0][2] < 0.03 and np.hypot(*(o.things[0][:2] - [0, 0.5])) < 0.025,
    ),
    Skill(
        "Pick up the blue socket with the left arm.",
        PegTask,
        lift_socket,
        lambda o: o.touched and o.things[1][2] > 0.1,
    ),
)


def attempt(skill: Skill, seed: int) -> Outcome:
    """Set the scene by the seed, plan, and let the arms do it."""
    rng = np.random.default_rng(seed)
    task = skill.scene(random=seed)
    file = "bimanual_viperx_transfer_cube.xml" if skill.scene is CubeTask else "bimanual_viperx_insertion.xml"
    physics = dm_mujoco.Physics.from_xml_path(str(ASSETS_DIR / file))
    env = control.Environment(physics, task, float("inf"), control_timestep=DT)
    things = _lay_out(skill.scene, rng)
    BOX_POSE[0] = np.concatenate([[*thing, 1, 0, 0, 0] for thing in things])  # gym-aloha reads it on reset
    state = env.reset().observation["qpos"]
    model = physics.model.ptr
    arms = [Kinematics(model, side) for side in ("left", "right")]
    ways = [Way(arm.base, [_start(arm, state[6])], rng).to(rng.uniform(0.1, 0.3)) for arm in arms]
    skill.plan(Scene(things, *ways, rng))
    outcome = Outcome()
    tremor = np.zeros(14)
    for step in range(int(max(way.end for way in ways) * FPS) + 15):
        tremor = 0.95 * tremor + TREMOR * np.sqrt(1 - 0.95**2) * rng.normal(size=14) * _ARM_JOINTS
        poses = [way.at(step * DT) for way in ways]
        action = np.concatenate(
            [[*arm.solve(pose), pose.gripper] for arm, pose in zip(arms, poses, strict=True)]
        )
        action = (action + tremor).astype(np.float32)
        outcome.states.append(state.astype(np.float32))
        outcome.actions.append(action)
        result = env.step(action.astype(np.float64))  # what is recorded is what was commanded, to the bit
        state = result.observation["qpos"]
        outcome.rewards.append(result.reward)
    outcome.things = physics.data.qpos[16:].reshape(-1, 7)[:, :3].copy()
    outcome.touched = _touched(physics)
    return outcome


_ARM_JOINTS = np.array([1, 1, 1, 1, 1, 1, 0] * 2)


def _start(arm: Kinematics, gripper: float) -> Pose:
    """An arm's usual pose: it faces the other one."""
    position, rotation = arm.fingertips()
    return Pose(0.0, position.copy(), 0.0, float(np.arcsin(-rotation[2, 0])), 0.0, gripper)


def _lay_out(scene: type, rng: np.random.Generator) -> Array:
    """Where the things lie, on the table and at rest: the ranges of gym-aloha."""
    if scene is CubeTask:
        return rng.uniform([[0.0, 0.4, 0.02]], [[0.2, 0.6, 0.02]])
    return rng.uniform([[0.1, 0.4, 0.01], [-0.2, 0.4, 0.022]], [[0.2, 0.6, 0.01], [-0.1, 0.6, 0.022]])


def _touched(physics) -> bool:
    """Whether any finger touches a thing."""
    names = [
        (physics.model.id2name(c.geom1, "geom"), physics.model.id2name(c.geom2, "geom"))
        for c in physics.data.contact
    ]
    return any("finger" in a + b and any(t in a + b for t in ("red", "socket")) for a, b in names)


def record(counts: dict[str, int], seed: int) -> Iterator[EpisodeData]:
    """The successful attempts, skill after skill in turns, so that any few episodes show several."""
    wanted = [
        skill
        for turn in range(max(counts.values()))
        for skill in SKILLS
        if turn < counts[skill.plan.__name__]
    ]
    for skill in wanted:
        while True:
            outcome = attempt(skill, seed)
            worked = skill.worked(outcome)
            print(
                f"seed {seed}: {skill.instruction} {len(outcome.states)} frames, "
                f"{'kept' if worked else 'failed'}, things at {outcome.things.round(3).tolist()}"
            )
            seed += 1
            if worked:
                break
        columns = {"observation.state": np.array(outcome.states), "action": np.array(outcome.actions)}
        yield EpisodeData(columns, skill.instruction)


def main() -> None:
    """Record and write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("directory", type=Path, help="where the dataset is to be; must not exist")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    counts = {"hand_over": 3, "insert_peg": 3, "lift_cube": 2, "move_cube": 2, "lift_socket": 2}
    write_lerobot_v3(
        arguments.directory,
        record(counts, arguments.seed),
        fps=FPS,
        robot_type="aloha",
        names={"observation.state": JOINTS, "action": JOINTS},
        compression="zstd",
    )


if __name__ == "__main__":
    main()
