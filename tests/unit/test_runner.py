"""The loop never waits: no gap and no repeat under a simulated clock, nor with a real thread."""

import itertools
import os
import runpy
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from pioxide.control import (
    ActionQueue,
    DelayEstimate,
    Limits,
    OnEmpty,
    Request,
    Runner,
    RunState,
    SafetyFilter,
    ThreadWorker,
    run_loop,
)
from pioxide.control.runner import Answer
from pioxide.errors import InputError, PioxideError


class SimulatedClock:
    def __init__(self):
        self.time = 0.0

    def now(self):
        return self.time

    def sleep_until(self, when):
        self.time = max(self.time, when)


class SimulatedWorker:
    """Answers `latency()` seconds later on the simulated clock."""

    def __init__(self, policy, clock, latency):
        self.policy, self.clock, self.latency = policy, clock, latency
        self.pending = None

    def start(self, request, since):
        assert self.pending is None
        try:
            answer = Answer(self.policy(request), None, since)
        except Exception as error:
            answer = Answer(None, error, since)
        self.pending = (self.clock.now() + self.latency(), answer)

    @property
    def busy(self):
        return self.pending is not None

    def reset(self):
        pass

    def observe(self, observation, at):
        pass

    def collect(self):
        if self.pending is None or self.clock.now() < self.pending[0]:
            return None
        answer, self.pending = self.pending[1], None
        return answer

    def close(self):
        pass


def track(horizon=50):
    """A policy whose action at time step n is n: a gap or a repeat shows at once."""

    def policy(request: Request) -> np.ndarray:
        steps = request.observation["step"] + np.arange(horizon, dtype=float)
        return steps[:, None]

    return policy


def simulate(
    latency, *, seconds=60.0, on_empty=OnEmpty.HOLD, policy=None, replan_below=30, first_guess=0, **queue
):
    clock = SimulatedClock()
    runner = Runner(
        SimulatedWorker(policy or track(), clock, latency),
        ActionQueue(on_empty, **queue),
        replan_below,
        delay=DelayEstimate(first_guess),
    )
    played = []
    # A robot whose measured step is the last one it was sent.
    report = run_loop(
        runner,
        lambda: {"step": played[-1] + 1 if played else 0.0},
        lambda action: played.append(float(action[0])),
        hz=50,
        seconds=seconds,
        clock=clock,
    )
    return runner, np.array(played), report


def test_a_minute_at_50_hz_against_80_ms_with_jitter_misses_nothing():
    rng = np.random.default_rng(0)
    runner, played, report = simulate(lambda: 0.08 + rng.uniform(-0.03, 0.04))
    assert report == (3000, 0, 0.0)
    assert (np.diff(played) == 1).all()
    assert runner.queue.dry_ticks <= 6  # up to 0.12 s for the first chunk, and nothing lost after
    assert len(played) == 3000 - runner.queue.dry_ticks
    assert runner.inferences > 100
    assert 4 <= runner.delay.value <= 7
    assert runner.queue.late == 0


def test_the_same_seed_plays_the_same_actions():
    def once():
        rng = np.random.default_rng(3)
        return simulate(lambda: rng.uniform(0.02, 0.9), seconds=10)[1]

    np.testing.assert_array_equal(once(), once())


def test_a_chunk_slower_than_the_horizon_is_held_for_not_invented():
    runner, played, _ = simulate(lambda: 1.5, seconds=20)
    assert set(np.diff(played)) <= {0.0, 1.0}
    assert runner.queue.dry_ticks > 100


def test_a_dry_queue_can_stop_the_loop():
    _, played, report = simulate(lambda: 1.5, seconds=20, on_empty=OnEmpty.STOP)
    assert len(played) == 50
    assert report.ticks < 200


def test_a_dry_queue_can_slow_down_first():
    _, played, _ = simulate(lambda: 0.8, seconds=10, on_empty=OnEmpty.SLOW, slow_below=30, replan_below=20)
    # A chunk that takes over half way between two rows begins with a whole one.
    assert set(np.round(np.diff(played), 6)) <= {0.0, 0.5, 1.0, 1.5}
    assert (np.diff(played) == 0.5).sum() > 50


def test_the_request_carries_what_is_left_and_the_delay_to_expect():
    asked = []

    def policy(request):
        asked.append(request)
        return track()(request)

    simulate(lambda: 0.1, seconds=3, policy=policy)
    assert len(asked[0].prev_chunk_left_over) == 0
    assert asked[0].inference_delay == 0
    for request in asked[3:]:
        assert request.inference_delay == 5
        step = request.observation["step"]
        np.testing.assert_allclose(
            request.prev_chunk_left_over[:, 0], step + np.arange(len(request.prev_chunk_left_over))
        )


def test_a_first_chunk_is_no_measurement_of_the_delay():
    """Nothing is played while it is waited for, so it comes 0 actions late, however long it took."""
    asked = []

    def policy(request):
        asked.append(request.inference_delay)
        return track()(request)

    simulate(lambda: 0.1, seconds=3, policy=policy, first_guess=7)
    assert asked[:3] == [0, 7, 5]


def test_late_and_outdated_chunks_are_dropped_and_counted():
    queue = ActionQueue(OnEmpty.HOLD)
    first = queue.snapshot()
    assert queue.put(np.zeros((5, 2)), first.consumed) == 0
    for _ in range(4):
        queue.take()
    middle = queue.snapshot()
    queue.take()
    assert queue.put(np.ones((3, 2)), middle.consumed) == 1
    assert queue.put(np.ones((9, 2)), first.consumed) is None
    assert queue.outdated == 1
    queue.take(), queue.take()
    assert queue.take().dry
    assert queue.put(np.ones((2, 2)), middle.consumed) is None
    assert queue.late == 1


def test_a_reset_forgets_the_chunk_under_way():
    queue = ActionQueue(OnEmpty.HOLD)
    before = queue.snapshot()
    queue.clear()
    assert queue.put(np.zeros((5, 2)), before.consumed) is None
    assert queue.take().action is None
    assert queue.put(np.zeros((5, 2)), queue.snapshot().consumed) == 0


def test_a_chunk_that_is_not_finite_is_never_played():
    queue = ActionQueue(OnEmpty.HOLD)
    bad = np.zeros((5, 2))
    bad[3, 1] = np.nan
    with pytest.raises(InputError, match="step 3, dimension 1"):
        queue.put(bad, 0)
    with pytest.raises(InputError, match="since"):
        queue.put(np.zeros((5, 2)), np.nan)
    assert queue.take().action is None


def test_one_slow_first_inference_does_not_raise_the_delay_for_good():
    delay = DelayEstimate()
    for measured in (200, 4, 4, 5, 4):
        delay.add(measured)
    assert delay.value == 5


def test_failures_are_counted_and_raised_when_they_go_on():
    def broken(request):
        raise RuntimeError("no GPU")

    clock = SimulatedClock()
    runner = Runner(SimulatedWorker(broken, clock, lambda: 0.0), ActionQueue(OnEmpty.HOLD), 10, max_errors=3)
    for _ in range(3):
        assert runner.step({}).action is None
    with pytest.raises(RuntimeError, match="no GPU"):
        runner.step({})
    assert runner.errors == 3


def test_a_simulation_that_waits_gets_the_answer_to_what_it_has_just_seen():
    """Ask, answer, step: no action passes between an observation and the first action for it."""

    class Waiting:
        def __init__(self):
            self.request, self.done = None, None

        busy = property(lambda self: self.request is not None)

        def start(self, request, since):
            self.request, self.since = request, since

        def observe(self, observation, at):
            pass

        def collect(self):
            done, self.done = self.done, None
            return done

    worker, played = Waiting(), []
    runner = Runner(worker, ActionQueue(OnEmpty.HOLD), replan_below=1)
    for tick in range(6):
        seen = {"tick": tick}
        if runner.ask(seen):
            assert worker.request.observation == seen
            first = worker.request.observation["tick"]
            worker.done = Answer(np.array([[first], [first + 0.1], [first + 0.2]]), None, worker.since)
            worker.request = None
        assert not runner.ask(seen)
        played.append(runner.step(seen).action[0])
    assert played == [0.0, 0.1, 2.0, 2.1, 4.0, 4.1]


def test_a_real_thread_plays_every_action_in_order_and_the_loop_never_waits():
    go = threading.Semaphore(0)

    def policy(request):
        assert go.acquire(timeout=60)
        return track(8)(request)

    safety = SafetyFilter(Limits(velocity=60.0), dim=1, hz=50)
    safety.reset([0.0])
    with Runner(ThreadWorker(policy), ActionQueue(OnEmpty.HOLD), 4, safety) as runner:
        played = []
        while len(played) < 40:
            action, dry = runner.step({"step": played[-1] + 1 if played else 0.0})
            if dry and runner.worker.busy:
                go.release()  # only now may the policy answer: until here the loop went on without it
                while runner.worker.busy and runner.worker._answer is None:
                    threading.Event().wait(0.001)
            if action is not None and not dry:
                played.append(float(action[0]))
        assert played == list(range(40))
        go.release()


def wait_for_answer(worker):
    while worker.busy and worker._answer is None:
        threading.Event().wait(0.001)


@pytest.mark.parametrize("end", [SystemExit(3), KeyboardInterrupt()])
def test_a_policy_that_exits_has_failed_and_the_next_inference_runs(end):
    def policy(request):
        if request.observation["exit"]:
            raise end
        return np.zeros((5, 2))

    with Runner(ThreadWorker(policy), ActionQueue(OnEmpty.HOLD), 4) as runner:
        runner.step({"exit": True})
        wait_for_answer(runner.worker)
        runner.step({"exit": False})
        assert isinstance(runner.last_error, PioxideError)
        assert runner.last_error.__cause__ is end
        wait_for_answer(runner.worker)
        assert runner.step({"exit": False}).action is not None
        wait_for_answer(runner.worker)


def test_a_closed_worker_starts_nothing_more():
    started, go = threading.Event(), threading.Event()
    asked = []

    def policy(request):
        asked.append(request)
        started.set()
        assert go.wait(60)
        return np.zeros((5, 2))

    runner = Runner(ThreadWorker(policy), ActionQueue(OnEmpty.HOLD), 4)
    runner.step({})
    assert started.wait(60)
    closing = threading.Thread(target=runner.close)
    closing.start()
    assert runner.step({}).action is None  # the loop goes on while the inference under way ends
    go.set()
    closing.join(60)
    assert not runner.worker._thread.is_alive()
    assert runner.step({}).action is not None  # what had been computed is there
    with pytest.raises(PioxideError, match="closed"):
        runner.worker.start(Request({}, np.zeros((0, 2)), 0), 0)
    assert len(asked) == 1


def test_an_interpreter_that_ends_lets_the_inference_under_way_end_first():
    code = """
import threading
from pioxide.control import ActionQueue, OnEmpty, Runner, ThreadWorker
started = threading.Event()
def policy(request):
    started.set()
    threading.Event().wait(0.2)
    print("inference ended", flush=True)
runner = Runner(ThreadWorker(policy), ActionQueue(OnEmpty.HOLD), 4)
runner.step({})
started.wait()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=dict(os.environ)
    )
    assert (done.returncode, done.stdout) == (0, "inference ended\n"), done.stderr


@pytest.mark.parametrize(
    ("chunk", "says"),
    [
        (np.zeros((5, 3)), "2"),
        (np.zeros((0, 2)), "shape"),
        (np.zeros(2), "shape"),
        (np.float64(3), "shape"),
        (None, "nothing"),
        (np.full((5, 2), np.nan), "nan at step 0, dimension 0"),
        (np.full((5, 2), 1j), "complex"),
        ("go", "got s"),
        ([["a", "b"]], "dtype"),
        ([[0.0], [0.0, 1.0]], "shape"),
    ],
)
@pytest.mark.parametrize("filtered", [True, False])
def test_a_policy_that_answers_no_chunk_has_failed_and_the_last_chunk_plays_on(chunk, says, filtered):
    safety = SafetyFilter(Limits(velocity=50.0), dim=2, hz=50)
    safety.reset([0.0, 0.0])
    answers = itertools.chain([np.arange(10.0).reshape(5, 2) / 100], itertools.repeat(chunk))
    worker = SimulatedWorker(lambda request: next(answers), SimulatedClock(), lambda: 0.0)
    runner = Runner(worker, ActionQueue(OnEmpty.HOLD), 50, safety if filtered else None)
    assert runner.step({}).action is None
    played = [runner.step({}).action for _ in range(7)]
    np.testing.assert_allclose(played, (np.array([0, 1, 2, 3, 4, 4, 4])[:, None] * 2 + [[0, 1]]) / 100)
    assert (runner.inferences, runner.errors) == (1, 6)
    assert says in str(runner.last_error)


def test_a_first_chunk_of_another_width_than_the_safety_filters_is_never_played():
    safety = SafetyFilter(Limits(), dim=3, hz=50)
    safety.reset(np.zeros(3))
    clock = SimulatedClock()
    worker = SimulatedWorker(lambda request: np.zeros((5, 2)), clock, lambda: 0.0)
    runner = Runner(worker, ActionQueue(OnEmpty.HOLD), 4, safety)
    for _ in range(3):
        assert runner.step({}).action is None
    assert runner.errors == 2
    assert "expected a chunk [H, 3], got shape (5, 2)" in str(runner.last_error)


def test_a_reset_starts_the_safety_filter_at_the_measured_joints():
    safety = SafetyFilter(Limits(velocity=5.0), dim=1, hz=50)
    safety.reset([0.0])
    clock = SimulatedClock()
    worker = SimulatedWorker(lambda request: np.zeros((5, 1)), clock, lambda: 0.0)
    runner = Runner(worker, ActionQueue(OnEmpty.HOLD), 0, safety)
    runner.step({}), runner.step({})
    with pytest.raises(InputError, match="measured joints"):
        runner.reset()
    runner.reset([2.0])  # somebody moved the arm between two episodes
    assert runner.step({}).action is None
    np.testing.assert_allclose(runner.step({}).action, [1.9])


def test_a_dry_queue_that_stops_tells_the_safety_filter_that_the_robot_stands():
    safety = SafetyFilter(Limits(acceleration=10.0), dim=1, hz=50)
    safety.reset([0.0])
    clock = SimulatedClock()
    late = [0.0]
    worker = SimulatedWorker(lambda request: np.ones((3, 1)), clock, lambda: late[0])
    runner = Runner(worker, ActionQueue(OnEmpty.STOP), 0, safety)
    runner.step({})
    late[0] = 1.0
    played = [runner.step({}).action for _ in range(3)]
    assert runner.step({}).action is None
    clock.time = 5.0
    fresh = runner.step({}).action
    assert (fresh - played[-1]) * 50 == pytest.approx(10.0 / 50)


def test_a_loop_that_was_held_up_leaves_ticks_out_and_sends_no_burst():
    clock = SimulatedClock()
    safety = SafetyFilter(Limits(velocity=1.0), dim=1, hz=50)
    safety.reset([0.0])
    worker = SimulatedWorker(lambda request: np.full((50, 1), 100.0), clock, lambda: 0.0)
    sent = []

    def observe():
        if len(sent) == 10:
            clock.time += 0.49  # a camera that hangs
        return {}

    def act(action):
        sent.append((clock.time, action[0]))

    runner = Runner(worker, ActionQueue(OnEmpty.HOLD), 20, safety)
    report = run_loop(runner, observe, act, hz=50, seconds=2, clock=clock)
    times, positions = np.array(sent).T
    assert np.diff(times).min() >= 0.01 - 1e-9
    assert np.diff(times).max() == pytest.approx(0.51)
    assert (np.diff(positions) / np.diff(times)).max() <= 2.0
    # Every tick but those that the hang ran over, all on their beat.
    assert report.ticks + report.missed == 100
    assert report.missed == 24
    assert report.worst == pytest.approx(0.0)


def test_a_held_action_that_the_caller_writes_to_is_held_unchanged():
    queue = ActionQueue(OnEmpty.HOLD)
    queue.put(np.ones((1, 2)), 0)
    for _ in range(4):
        action = queue.take().action
        np.testing.assert_array_equal(action, [1, 1])
        action *= 3


def test_rows_far_apart_do_not_become_nan_between_them():
    queue = ActionQueue(OnEmpty.SLOW, slow_below=2)
    queue.put(np.array([[1e308], [-1e308]]), 0)
    played = [queue.take().action[0] for _ in range(4)]
    assert np.isfinite(played).all()
    assert played[0] == 1e308


@pytest.mark.parametrize(
    "make",
    [
        lambda: ActionQueue("stop"),
        lambda: ActionQueue(OnEmpty.SLOW),
        lambda: Runner(None, ActionQueue(OnEmpty.HOLD), -1),
    ],
)
def test_options_that_would_silently_do_nothing_are_refused(make):
    with pytest.raises(InputError, match=r"expected|needs"):
        make()


def test_the_bench_of_the_loop_prints_what_became_of_its_ticks(capsys):
    bench = Path(__file__).resolve().parents[2] / "benches" / "loop.py"
    runpy.run_path(str(bench))["main"](["--seconds", "0.5", "--latency-ms", "20", "--jitter-ms", "10"])
    printed = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines()[1:])
    assert list(printed)[:3] == ["ticks begun, missed", "late by, p50 p99 max", "a step takes, p50 p99 max"]
    assert printed["played, gaps, repeats"].split(", ")[1:] == ["0", "0"]


@pytest.mark.parametrize(
    ("hz", "seconds"), [(float("inf"), 1), (float("nan"), 1), (0, 1), (50, float("inf"))]
)
def test_a_loop_without_a_finite_rate_and_length_is_refused(hz, seconds):
    with pytest.raises(InputError, match="finite hz and seconds"):
        run_loop(None, dict, print, hz=hz, seconds=seconds, clock=SimulatedClock())


def test_a_clock_that_gives_no_time_is_refused():
    clock = SimulatedClock()
    clock.time = float("nan")
    with pytest.raises(InputError, match="clock: expected seconds, got nan"):
        run_loop(None, dict, print, hz=50, seconds=1, clock=clock)


class Fallible:
    """A policy that answers four actions, or fails while it is `down`."""

    def __init__(self):
        self.down = False

    def __call__(self, request):
        if self.down:
            raise RuntimeError("the server has gone")
        return np.ones((4, 1))


def starved(grace, **changes):
    clock, policy = SimulatedClock(), Fallible()
    worker = SimulatedWorker(policy, clock, lambda: 0.0)
    runner = Runner(worker, ActionQueue(OnEmpty.HOLD), 0, starvation_grace=grace, max_errors=50, **changes)
    runner.step({})
    assert runner.state is RunState.WAITING
    assert [runner.step({}).dry for _ in range(4)] == [False] * 4
    assert runner.state is RunState.PLAYING
    policy.down = True
    return runner, policy


def test_a_queue_that_runs_dry_is_starved_for_the_grace_and_then_a_fault_that_stays():
    runner, policy = starved(grace=3)
    held = [runner.step({}) for _ in range(3)]
    assert all(step.dry and step.action is not None for step in held)
    assert runner.state is RunState.STARVED
    assert runner.step({}).action is None
    assert runner.state is RunState.FAULT
    policy.down = False
    asked = runner.inferences
    assert all(runner.step({}).action is None for _ in range(10))
    assert (runner.state, runner.inferences) == (RunState.FAULT, asked)
    runner.reset()
    assert runner.state is RunState.WAITING
    runner.step({})
    assert runner.step({}).action is not None
    assert runner.state is RunState.PLAYING


def test_a_server_that_is_back_within_the_grace_is_played_again():
    runner, policy = starved(grace=3)
    runner.step({})
    runner.step({})
    policy.down = False
    assert [runner.step({}).dry for _ in range(3)] == [True, False, False]
    assert runner.state is RunState.PLAYING


def test_without_a_grace_a_dry_queue_holds_for_ever():
    runner, _ = starved(grace=None)
    assert all(runner.step({}).action is not None for _ in range(30))
    assert runner.state is RunState.STARVED


def test_waiting_for_a_first_chunk_is_no_starvation():
    clock, policy = SimulatedClock(), Fallible()
    policy.down = True
    worker = SimulatedWorker(policy, clock, lambda: 0.0)
    runner = Runner(worker, ActionQueue(OnEmpty.HOLD), 0, starvation_grace=0, max_errors=50)
    assert all(runner.step({}).action is None for _ in range(20))
    assert runner.state is RunState.WAITING


def test_failures_that_go_on_are_a_fault_that_a_reset_ends():
    clock, policy = SimulatedClock(), Fallible()
    policy.down = True
    worker = SimulatedWorker(policy, clock, lambda: 0.0)
    safety = SafetyFilter(Limits(low=-1, high=1, velocity=100.0), dim=1, hz=10)
    safety.reset([0.0])
    runner = Runner(worker, ActionQueue(OnEmpty.HOLD), 0, safety=safety, max_errors=2)
    runner.step({})
    runner.step({})
    with pytest.raises(RuntimeError, match="gone"):
        runner.step({})
    assert runner.state is RunState.FAULT
    policy.down = False
    assert all(runner.step({}).action is None for _ in range(5))
    runner.reset([0.5])
    runner.step({})
    assert runner.step({}).action is not None


def test_a_grace_below_zero_is_refused():
    with pytest.raises(InputError, match="starvation_grace"):
        Runner(ThreadWorker(Fallible()), ActionQueue(OnEmpty.HOLD), 0, starvation_grace=-1)
