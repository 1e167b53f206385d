"""The closed-loop example in its simulator: real-time chunking closes the seams, and a run repeats."""

import importlib
import os
from pathlib import Path

import numpy as np
import pytest

from pioxide.errors import InputError

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

# The simulator's packages warn of each other's deprecations, which is not ours to fail on.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def loop():
    pytest.importorskip(
        "gym_aloha", reason='gym-aloha is not installed: pip install "pioxide[sim]" on Python 3.11 or 3.12'
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLES)
        module = importlib.import_module("aloha_closed_loop")
        patch.setenv("MUJOCO_GL", os.environ.get("MUJOCO_GL", ""))  # put back afterwards
        if not os.environ["MUJOCO_GL"]:
            patch.delenv("MUJOCO_GL")
        try:
            module.choose_opengl()
        except InputError as error:
            pytest.skip(f"no OpenGL on this machine: {error}")
        yield module


@pytest.fixture(scope="module")
def runs(loop, tmp_path_factory):
    def once():
        out = tmp_path_factory.mktemp("out")
        given = loop.Options(clock="simulated", model="tiny", seconds=1.5, video=False, out=out)
        return loop.main(given), out

    return once


def test_real_time_chunking_closes_the_seams(loop, runs):
    found, out = runs()
    assert (out / "seams.png").stat().st_size > 10_000
    assert not list(out.glob("*.mp4"))
    without, continued = (loop.measure(run) for run in found)
    assert len(without.jumps) == len(continued.jumps) == 2
    assert without.jumps.min() > 5 * without.ordinary.mean()
    assert continued.jumps.max() < 0.2 * without.jumps.min()
    for run in found:
        assert run.report == (75, 0, 0.0)
        assert {takeover.delay for takeover in run.takeovers[1:]} == {4}
        assert np.nanmax(np.abs(np.diff(run.sent, axis=0))) <= loop.SPEED / 50 + 1e-12


def test_the_simulated_clock_repeats_a_run(runs):
    (first, _), (second, _) = runs(), runs()
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.actions, other.actions)
        np.testing.assert_array_equal(one.sent, other.sent)


def test_a_film_is_made(loop, tmp_path):
    from aloha_scene import Aloha, film

    robot = Aloha(hz=50, seed=0, prompt="wave", camera_hz=10, in_thread=True)
    try:
        for tick in range(20):
            seen = robot.observe()
            robot.act(seen["state"] + 0.01 * (tick % 2))
    finally:
        robot.close()
    assert seen["images"]["cam_high"].std() > 10, "a black picture shows nothing"
    film(tmp_path / "runs.mp4", robot.model, [("waving", robot.scenes, [10])], hz=50)

    import imageio.v2 as imageio

    with imageio.get_reader(tmp_path / "runs.mp4") as reader:
        frames = list(reader.iter_data())
    assert len(frames) == 10
    assert frames[0].shape == (480, 640, 3)
    assert frames[0].std() > 10
