"""What is shown in Rerun's viewer: to a stand-in that keeps every call, and read back from a real file."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pioxide.control import ActionQueue, Limits, OnEmpty, Request, Runner, SafetyFilter, ThreadWorker
from pioxide.control.rerun import Moment, RerunLog
from pioxide.errors import InputError
from pioxide.evaluate.watched import WatchedPlayer
from pioxide.policy import Session
from pioxide.serve import Client, ServeConfig
from support.servers import DIM, Echo, seen, serving

JOINTS = ["lift", "turn"]
IMAGE = np.full((4, 6, 3), 7, np.uint8)
STATE = np.array([1.0, 2.0])
SEEN = {"observation": {"image": IMAGE, "state": STATE}, "prompt": "lift it", "depth": IMAGE[0]}


class StandIn:
    """Rerun's module as far as it is used; keeps (path, seconds, what) of everything that is logged."""

    def __init__(self):
        self.logged, self.targets, self.time = [], [], None
        self.Scalars = type("Scalars", (), {"__init__": self._keep, "columns": staticmethod(lambda **c: c)})
        self.TextLog = self.TextDocument = self.Clear = type("Words", (), {"__init__": self._keep})
        self.Image = lambda pixels: SimpleNamespace(compress=lambda jpeg_quality: pixels.shape)
        self.TimeColumn = lambda name, duration: duration
        self.new_entity_path = "/".join

    @staticmethod
    def _keep(self, *given, **named):
        self.given = [*given, *named.values()]

    def RecordingStream(self, _):
        return self

    def save(self, path):
        self.targets.append(path)

    connect_grpc = save

    def set_time(self, _, duration):
        self.time = duration

    def log(self, path, what):
        self.logged.append(("/".join(path), self.time, getattr(what, "given", what)))

    def send_columns(self, path, indexes, columns):
        self.logged.append((path, indexes[0], columns["scalars"]))

    def flush(self):
        self.closed = True

    disconnect = flush

    def of(self, path):
        return [(when, what) for where, when, what in self.logged if where == path]


@pytest.fixture
def viewer(monkeypatch):
    viewer = StandIn()
    monkeypatch.setitem(sys.modules, "rerun", viewer)
    return viewer


def chunk(first):
    return first + np.arange(8.0).reshape(4, 2)


def test_pictures_states_and_limits_are_shown_and_chunks_over_what_they_supersede(viewer, tmp_path):
    with RerunLog(str(tmp_path / "a.rrd"), hz=10.0, joints=JOINTS) as log:
        log.take(Moment("arm", 1.0, SEEN, chunk(0.0)))
        log.take(Moment("arm", 1.3, SEEN, chunk(10.0), left=1, limits={"velocity": 2, "position": 0}))
    assert viewer.targets == [str(tmp_path / "a.rrd")]
    assert viewer.closed
    assert viewer.of("arm/cameras/observation/image") == [(1.0, IMAGE.shape), (1.3, IMAGE.shape)]
    assert [what[0].tolist() for _, what in viewer.of("arm/state/observation/state")] == [[1.0, 2.0]] * 2
    assert viewer.of("arm/prompt")[0] == (1.0, ["lift it"])
    (when, planned), _ = viewer.of("arm/chunks/turn/0")
    assert np.allclose(when, [1.0, 1.1, 1.2, 1.3])
    assert planned.tolist() == [1.0, 3.0, 5.0, 7.0]
    assert viewer.of("arm/chunks/turn/1")[0][1].tolist() == [11.0, 13.0, 15.0, 17.0]
    ((when, played),) = viewer.of("arm/played/lift")
    assert np.allclose(when, [1.0, 1.1, 1.2])
    assert played.tolist() == [0.0, 2.0, 4.0]
    assert viewer.of("arm/limits/velocity") == [(1.3, [2])]
    assert viewer.of("arm/limits") == [(1.3, ["velocity limit changed 2 actions", "WARN"])]
    assert not any("depth" in path for path, *_ in viewer.logged)


def test_a_runner_is_shown_with_what_its_safety_filter_changed_and_never_waits(viewer):
    safety = SafetyFilter(Limits(velocity=1.0), 2, hz=10.0)
    safety.reset(np.zeros(2))
    with RerunLog("rerun+http://127.0.0.1:9876/proxy", hz=10.0, joints=JOINTS) as log:
        source = log.watching(lambda request: chunk(0.0), "left arm")
        with Runner(ThreadWorker(source, log.reset), ActionQueue(OnEmpty.HOLD), 2, safety) as runner:
            while runner.inferences < 3:
                runner.step(SEEN)
            runner.reset(np.zeros(2))
        assert log._episode == 1
        # What is slower than its robots loses moments, and holds up nobody.
        log._thread.join(0)
        for _ in range(1000):
            log.take(Moment("arm", 0.0, {}, chunk(0.0)))
    assert viewer.targets == ["rerun+http://127.0.0.1:9876/proxy"]
    assert len(viewer.of("left arm/played/lift")) >= 2
    assert viewer.of("left arm/limits/velocity")[-1][1][0] >= 1


def test_a_server_shows_every_robot_below_its_address(viewer):
    config = ServeConfig(port=0, rerun="rerun+http://127.0.0.1:9876/proxy")
    policy = Echo()
    policy.robot = replace(policy.robot, hz=10.0)
    with serving(policy, config) as server, Client(f"ws://127.0.0.1:{server.port}") as client:
        client.limits = {"velocity": 3}
        client(seen(1.0))
        client(seen(2.0), prev_chunk_left_over=np.ones((1, DIM)))
        client.reset()  # nothing more is played of what that episode was answered
        client(seen(3.0), prev_chunk_left_over=np.ones((0, DIM)))
    assert viewer.closed
    robot = viewer.logged[0][0].partition("/")[0]
    assert robot.startswith("127.0.0.1:")
    assert len(viewer.of(f"{robot}/cameras/image")) == 3
    ((_, played),) = viewer.of(f"{robot}/played/lift")
    assert played == pytest.approx([1.0, 1.01, 1.02])
    assert viewer.of(f"{robot}/chunks/grip/1")[0][1][0] == 2.0
    assert viewer.of(f"{robot}/limits")[0][1] == ["velocity limit changed 3 actions", "WARN"]


def test_an_evaluation_shows_every_episode_in_the_simulations_time(viewer):
    answers = [SimpleNamespace(actions=chunk(first)) for first in (0.0, 1.0, 2.0)]
    player = SimpleNamespace(new_session=Session, chunks=lambda *_: [answers.pop(0)])
    with RerunLog("rerun+http://127.0.0.1:9876/proxy", hz=10.0, joints=JOINTS) as log:
        watched = WatchedPlayer(player, log, 10.0)
        first, again = watched.new_session(7), watched.new_session(7)
        for left, session in ((0, first), (1, first), (0, again)):
            watched.chunks([Request(SEEN, np.zeros((left, 2)), 0)], [session])
    assert [when for when, _ in viewer.of("episode 7/prompt")] == pytest.approx([0.0, 0.3])
    assert [when for when, _ in viewer.of("episode 7, run 2/prompt")] == [0.0]


def test_what_can_not_be_shown_is_said_at_once(viewer, tmp_path, monkeypatch):
    there = tmp_path / "there.rrd"
    there.write_bytes(b"mine")
    with pytest.raises(InputError, match="written over"):
        RerunLog(str(there), hz=10.0, joints=JOINTS)
    with pytest.raises(InputError, match="rate"):
        RerunLog(str(tmp_path / "a.rrd"), hz=None, joints=JOINTS)
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(InputError, match=r"pioxide\[rerun\]"):
        RerunLog(str(tmp_path / "a.rrd"), hz=10.0, joints=JOINTS)


def test_a_real_file_is_read_back_with_every_entity(tmp_path):
    rerun = pytest.importorskip("rerun", reason="rerun-sdk is not here: no real .rrd was written")
    file = tmp_path / "a.rrd"
    with RerunLog(str(file), hz=10.0, joints=JOINTS) as log:
        source = log.watching(lambda _: chunk(0.0), "10.0.0.1:8000")
        for left in (0, 1):
            source(Request(SEEN, np.zeros((left, 2)), 0, {"velocity": 3 * left}))
    tool = Path(rerun.__file__).parents[1] / "rerun_cli" / "rerun"
    command = [tool, "rrd", "print", "-v", file]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={"HOME": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    pictured = ("cameras/observation/image", "state/observation/state", "prompt", "limits/velocity", "limits")
    for path in (*pictured, "chunks/lift/0", "chunks/turn/1", "played/lift"):
        assert f" - /10.0.0.1\\:8000/{path} - " in done.stdout, done.stdout
