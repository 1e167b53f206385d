"""The closed-loop example without its simulator: what it calls a seam, its noise, its loop, its options."""

import importlib
import subprocess
from pathlib import Path

import numpy as np
import pytest

from pioxide.errors import InputError

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
HORIZON = 10


@pytest.fixture
def loop(monkeypatch):
    pytest.importorskip("tyro")
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module("aloha_closed_loop")


@pytest.fixture
def seams(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module("aloha_seams")


class StillRobot:
    """Goes at once where it is sent."""

    def __init__(self):
        self.low, self.high = np.full(14, -3.0), np.full(14, 3.0)
        self.place = np.zeros(14)
        self.sent = []

    def joints(self):
        return self.place.copy()

    def observe(self):
        return {"state": self.joints()}

    def act(self, action):
        self.place = action
        self.sent.append(action)


def fickle():
    """Chunks that stand still, each somewhere else: 0, 1, 0, 1 ..."""
    calls = iter(range(1000))
    return lambda request: np.full((HORIZON, 14), float(next(calls) % 2))


def options(loop, **changed):
    return loop.Options(
        **{"horizon": HORIZON, "clock": "simulated", "latency_ticks": 3, "seconds": 1.0} | changed
    )


def recorded(seams, actions, takeovers):
    actions = np.asarray(actions, float)
    chunks = [seams.Takeover(tick, 0, actions) for tick in takeovers]
    return seams.Run("a run", actions, actions, chunks, None, [], 0)


def test_a_seam_is_a_step_from_one_chunk_into_the_next(seams):
    actions = np.full((9, 14), np.nan)
    actions[2:] = 0.01 * np.arange(7)[:, None]
    actions[5:, 3] += 0.5  # the second chunk
    actions[7:, 6] += 9.0  # a gripper, inside it
    found = seams.measure(recorded(seams, actions, [2, 5]))
    assert found.ticks.tolist() == [5]
    np.testing.assert_allclose(found.jumps, [0.51])
    assert found.ordinary_ticks.tolist() == [3, 4, 6, 7, 8]
    np.testing.assert_allclose(found.ordinary, 0.01)


def test_one_chunk_has_no_seam(seams):
    found = seams.measure(recorded(seams, np.zeros((5, 14)), [0]))
    assert len(found.jumps) == 0
    assert len(found.ordinary) == 4


def test_the_queue_remembers_chunks_that_were_played_only(seams):
    queue = seams.RecordedQueue(2)
    queue.take()
    queue.put(np.zeros((4, 2)), 0.0)
    for _ in range(4):
        queue.take()
    assert queue.put(np.ones((3, 2)), 0.0) is None  # four actions late
    queue.put(np.ones((6, 2)), 1.0)
    queue.take()
    assert [(takeover.tick, takeover.delay) for takeover in queue.takeovers] == [(1, 0), (5, 3)]
    assert np.isnan(queue.played[0]).all()
    np.testing.assert_array_equal(queue.played[1:], [[0, 0]] * 4 + [[1, 1]])


def test_the_simulated_clock_delays_every_chunk_alike(loop):
    robot = StillRobot()
    run = loop.play("fickle", robot, fickle(), options(loop), 3)
    assert run.report == (50, 0, 0.0)
    assert run.dry == 3  # for the first chunk
    # The next is asked for half a chunk after the last one's observation, and takes three ticks.
    assert [takeover.tick for takeover in run.takeovers] == [3, *range(3 + 5 + 3, 50, 5)]
    assert {takeover.delay for takeover in run.takeovers[1:]} == {3}
    assert run.actions.shape == run.sent.shape == (50, 14)
    np.testing.assert_array_equal(run.sent[3:], robot.sent)


def test_chunks_that_disagree_jump_and_the_filter_bounds_them(loop, seams):
    run = loop.play("fickle", StillRobot(), fickle(), options(loop), 3)
    found = seams.measure(run)
    np.testing.assert_array_equal(found.jumps, 1.0)
    np.testing.assert_array_equal(found.ordinary, 0.0)
    assert np.nanmax(np.abs(np.diff(run.sent, axis=0))) <= loop.SPEED / 50 + 1e-12
    assert {bite.kind for bite in run.bites} == {"velocity"}


def test_the_real_clock_plays_the_same_actions(loop):
    """How many ticks a thread takes is the machine's business; that every chunk is played is not."""
    run = loop.play("fickle", StillRobot(), fickle(), options(loop, clock="real", seconds=0.4), 3)
    # Ticks that a late one ran over are left out, and counted.
    assert len(run.actions) == run.report.ticks
    assert 20 - run.report.missed <= run.report.ticks <= 20
    assert len(run.takeovers) >= 1
    assert set(np.unique(run.actions[np.isfinite(run.actions)])) <= {0.0, 1.0}


def test_a_policy_that_fails_ends_the_run(loop):
    def broken(request):
        raise ValueError("no chunk today")

    with pytest.raises(ValueError, match="no chunk today"):
        loop.play("broken", StillRobot(), broken, options(loop), 3)


def test_noise_is_normal_smooth_and_the_seeds(loop):
    noise = loop.Noise(50, 14, smooth=20, seed=1)
    draws = np.array([noise() for _ in range(300)])
    assert abs(draws.mean()) < 0.05
    assert abs(draws.std() - 1) < 0.05
    # Neighbours under exp(-d^2 / 2 l^2) differ by sqrt(2 (1 - exp(-1 / 2 l^2))), which is 1 / l.
    assert np.diff(draws, axis=1).std() == pytest.approx(1 / 20, rel=0.1)
    np.testing.assert_array_equal(loop.Noise(50, 14, smooth=20, seed=1)(), draws[0])
    white = loop.Noise(50, 14, smooth=0, seed=1)()
    np.testing.assert_array_equal(
        white, np.random.default_rng(1).standard_normal((50, 14)).astype(np.float32)
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"latency_ticks": 0}, "latency-ticks: expected 1 to 9, got 0"),
        ({"latency_ticks": HORIZON}, "latency-ticks"),
        ({"horizon": 1, "latency_ticks": 1}, "horizon"),
        ({"seconds": 0.0}, "seconds and hz above 0"),
        ({"hz": -1.0}, "seconds and hz above 0"),
        ({"replan": 11}, "replan: expected 0 to 10 actions, got 11"),
        ({"smooth": -1.0}, "smooth"),
    ],
)
def test_options_that_cannot_run_are_refused(loop, wrong, message):
    with pytest.raises(InputError, match=message):
        options(loop, **wrong)


def test_the_command_line_knows_them(loop):
    import tyro

    given = [
        "--clock",
        "simulated",
        "--horizon",
        "30",
        "--no-video",
        "--out",
        "there",
        "--latency-ticks",
        "6",
    ]
    assert tyro.cli(loop.Options, args=given) == loop.Options(
        clock="simulated", horizon=30, video=False, out=Path("there"), latency_ticks=6
    )


def test_the_picture_is_drawn(loop, seams, tmp_path):
    pytest.importorskip("matplotlib")
    runs = [loop.play(name, StillRobot(), fickle(), options(loop), 3) for name in ("one", "other")]
    seams.plot(tmp_path / "seams.png", runs, hz=50, speed=3.0, subtitle="fickle")
    assert (tmp_path / "seams.png").read_bytes()[:4] == b"\x89PNG"
    loop.table(runs)


@pytest.mark.parametrize(
    ("works", "chosen"), [({"egl", "osmesa"}, "egl"), ({"osmesa"}, "osmesa"), (set(), None)]
)
def test_egl_comes_before_osmesa_and_neither_is_an_error(loop, monkeypatch, works, chosen):
    def trial(command, *, env, **_):
        return subprocess.CompletedProcess(command, 0 if env["MUJOCO_GL"] in works else 1)

    monkeypatch.setattr(loop.sys, "platform", "linux")
    monkeypatch.setattr(loop.subprocess, "run", trial)
    monkeypatch.setattr(loop.os, "environ", {"PATH": "/bin"})
    if chosen is None:
        with pytest.raises(InputError, match="neither by EGL nor by OSMesa"):
            loop.choose_opengl()
    else:
        loop.choose_opengl()
    assert loop.os.environ.get("MUJOCO_GL") == chosen


def test_the_users_own_choice_of_opengl_stays(loop, monkeypatch):
    monkeypatch.setattr(loop.subprocess, "run", lambda *_, **__: pytest.fail("nothing is to be tried"))
    monkeypatch.setattr(loop.os, "environ", {"MUJOCO_GL": "glfw"})
    loop.choose_opengl()
    assert loop.os.environ == {"MUJOCO_GL": "glfw"}


def test_without_gym_aloha_it_says_what_to_install(loop, monkeypatch, tmp_path):
    monkeypatch.setattr(loop, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install \"pioxide\[sim\]\""):
        loop.main(options(loop, out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()
