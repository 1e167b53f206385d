"""gym-aloha's two simulated arms as a robot for a control loop, and films of what they did.

Physics and scene are gym-aloha's (joint position control, MuJoCo). Pictures are made by a camera of its own
rate beside the loop, as on a real robot: without a GPU one picture can take longer than a tick.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path

import imageio.v2 as imageio
import mujoco
import numpy as np
from dm_control import mujoco as dm_mujoco
from dm_control.rl import control
from gym_aloha.constants import ASSETS_DIR
from gym_aloha.tasks.sim import BOX_POSE, TransferCubeTask
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

CAMERA_SIZE = 224, 224  # height and width of what the policy sees
FILM_SIZE = 480, 640
MISSED = "#d1495b"


class CubeTask(TransferCubeTask):
    """gym-aloha's red cube, without the three pictures that it renders in every step."""

    def get_observation(self, physics):
        """The measured joints only."""
        return {"qpos": self.get_qpos(physics)}


class Eye:
    """Draws the scene for given joint positions. OpenGL wants it made, used and closed in one thread."""

    def __init__(self, model: mujoco.MjModel, camera: str, size: tuple[int, int], *, fine: bool) -> None:
        """`fine` is for people: shadows and smooth edges, which cost most of a picture without a GPU."""
        model.vis.quality.offsamples = 4 if fine else 0
        model.vis.quality.shadowsize = 2048
        self._model, self._camera, self._fine = model, camera, fine
        self._data = mujoco.MjData(model)
        self._renderer = mujoco.Renderer(model, *size)

    def picture(self, qpos: NDArray[np.float64]) -> NDArray[np.uint8]:
        """[h, w, 3] for MuJoCo's `qpos`."""
        self._data.qpos[:] = qpos
        mujoco.mj_forward(self._model, self._data)
        self._renderer.update_scene(self._data, self._camera)
        if not self._fine:
            self._renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
            self._renderer.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
        return self._renderer.render()

    def close(self) -> None:
        """Frees what OpenGL holds."""
        self._renderer.close()


class Aloha:
    """Two arms, a cube and a camera, advanced one control period by each `act`.

    Attributes:
        low: [14] the lowest joint positions (radians; grippers 0 to 1).
        high: [14] the highest.
        scenes: MuJoCo's `qpos` at each `observe`, for `film`.
    """

    def __init__(self, *, hz: float, seed: int, prompt: str, camera_hz: float, in_thread: bool) -> None:
        """Lays the cube somewhere by the seed.

        Args:
            hz: Actions a second; a period must be a multiple of the physics' 2 ms.
            seed: Where the cube lies.
            prompt: The instruction.
            camera_hz: Pictures a second.
            in_thread: Whether the camera runs beside the loop, or in it every so many ticks, which makes a
                simulated run repeatable.
        """
        place = np.random.default_rng(seed).uniform([0.0, 0.4, 0.02], [0.2, 0.6, 0.02])
        BOX_POSE[0] = np.array([*place, 1, 0, 0, 0])  # gym-aloha reads it on reset
        physics = dm_mujoco.Physics.from_xml_path(str(ASSETS_DIR / "bimanual_viperx_transfer_cube.xml"))
        self._physics, self.model = physics, physics.model.ptr
        self._env = control.Environment(physics, CubeTask(random=seed), float("inf"), control_timestep=1 / hz)
        self._joints = self._env.reset().observation["qpos"]
        low, high = self.model.jnt_range[:16].T.copy()
        arms = np.r_[0:6, 8:14]
        self.low, self.high = np.zeros(14), np.ones(14)
        self.low[np.r_[0:6, 7:13]], self.high[np.r_[0:6, 7:13]] = low[arms], high[arms]
        self.scenes: list[NDArray[np.float64]] = []
        self._prompt, self._every = prompt, max(1, round(hz / camera_hz))
        self._closed = threading.Event()
        self._pictured = threading.Event()
        self._picture = np.zeros((*CAMERA_SIZE, 3), np.uint8)
        self._newest = physics.data.qpos.copy()
        self._failure: Exception | None = None
        self._thread: threading.Thread | None = None
        if in_thread:
            self._thread = threading.Thread(target=self._watch, args=(1 / camera_hz,), name="camera")
            self._thread.start()
            self._pictured.wait()
        else:
            self._eye = Eye(self.model, "top", CAMERA_SIZE, fine=False)

    def joints(self) -> NDArray[np.float64]:
        """[14] measured: six joints [rad] and a gripper (0 closed, 1 open), left then right."""
        return self._joints.copy()

    def observe(self) -> dict:
        """What the policy is given: joints, the camera's newest picture, the instruction.

        Raises:
            Exception: What ended the camera.
        """
        if self._failure is not None:
            raise self._failure
        self._newest = self._physics.data.qpos.copy()
        self.scenes.append(self._newest)
        if self._thread is None and (len(self.scenes) - 1) % self._every == 0:
            self._picture = self._eye.picture(self._newest)
        return {"state": self.joints(), "images": {"cam_high": self._picture}, "prompt": self._prompt}

    def act(self, action: NDArray[np.float64]) -> None:
        """Sends joint targets [14], and lets a control period pass."""
        self._joints = self._env.step(action).observation["qpos"]

    def close(self) -> None:
        """Ends the camera."""
        self._closed.set()
        if self._thread is None:
            self._eye.close()
        else:
            self._thread.join()

    def _watch(self, period: float) -> None:
        try:
            eye = Eye(self.model, "top", CAMERA_SIZE, fine=False)
            while not self._closed.is_set():
                begun = time.perf_counter()
                self._picture = eye.picture(self._newest)
                self._pictured.set()
                self._closed.wait(max(0.0, begun + period - time.perf_counter()))
            eye.close()
        except Exception as error:  # for the loop's thread, which must not wait for it either
            self._failure = error
            self._pictured.set()


def film(
    path: Path,
    model: mujoco.MjModel,
    runs: Sequence[tuple[str, Sequence[NDArray[np.float64]], Sequence[int]]],
    *,
    hz: float,
    fps: float = 25.0,
) -> None:
    """Writes runs side by side as one mp4, at the speed they were played.

    Args:
        path: The file.
        model: The scene.
        runs: Title, MuJoCo's `qpos` by tick, and the ticks at which a chunk took over.
        hz: Ticks a second.
        fps: Pictures a second.
    """
    eye = Eye(model, "angle", FILM_SIZE, fine=True)
    big, small = ImageFont.load_default(size=26), ImageFont.load_default(size=18)
    ticks = min(len(scenes) for _, scenes, _ in runs)
    with imageio.get_writer(path, fps=fps, codec="libx264", quality=8, macro_block_size=16) as writer:
        for frame in range(int(ticks / hz * fps)):
            tick = min(round(frame * hz / fps), ticks - 1)
            views = []
            for title, scenes, seams in runs:
                view = Image.fromarray(eye.picture(scenes[tick]))
                draw = ImageDraw.Draw(view)
                draw.text((20, 16), title, font=big, fill="white")
                last = max((seam for seam in seams if seam <= tick), default=None)
                if last is not None and tick - last < hz / 5:
                    draw.text((20, 50), "chunk takes over", font=small, fill=MISSED)
                draw.text((FILM_SIZE[1] - 76, 20), f"{tick / hz:.1f} s", font=small, fill="white")
                views.append(np.asarray(view))
            writer.append_data(np.concatenate(views, axis=1))
    eye.close()
