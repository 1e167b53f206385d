"""Killed at any moment, a run goes on to the same numbers; two processes compute what one does.

With PIOXIDE_KILLS=10 a run is killed so often; PIOXIDE_KILLS_SEED draws other moments.
"""

import os
import random
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.train_run import EVERY, run

pytestmark = pytest.mark.slow

TESTS = Path(__file__).resolve().parents[1]
KILLS = int(os.environ.get("PIOXIDE_KILLS", "2"))
STEPS = 4 + 10 * KILLS
SEED = int(os.environ.get("PIOXIDE_KILLS_SEED", "7"))


@pytest.fixture
def begin(tmp_path_factory):
    """Starts `support.train_run` in a process that ends with the test; compiled programs are shared."""
    kept = os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(tmp_path_factory.mktemp("compiled"))
    settings = {"JAX_COMPILATION_CACHE_DIR": kept, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    running = []

    def start(*arguments, devices=1):
        process = subprocess.Popen(
            [sys.executable, "-m", "support.train_run", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=TESTS,
            env=os.environ | settings | {"JAX_NUM_CPU_DEVICES": str(devices)},
        )
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def losses(text):
    return {int(step): loss for step, loss in re.findall(r"LOSS (\d+) (\S+)", text)}


def finished(process):
    return losses(output(process))


def output(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err[-3000:]
    return out


def judged(text):
    return {name: float(number) for name, number in re.findall(r"JUDGED 4 (\S+) (\S+)", text)}


def test_killed_at_any_moment_a_run_ends_with_the_same_numbers(tmp_path, begin):
    whole = {}
    run(tmp_path / "whole", STEPS, whole.__setitem__, every=STEPS)
    assert sorted(whole) == list(range(1, STEPS + 1))
    draw, killed, last = random.Random(SEED), [], 0
    while len(killed) < KILLS:
        process = begin(tmp_path / "cut", STEPS)
        # At the fifth update that of the fourth is in writing, and that of the second is written.
        begun, end = None, draw.randint(5, 8)
        for line in process.stdout:
            for step, loss in losses(line).items():
                assert loss == whole[step], f"update {step}, after {len(killed)} kills"
                if begun is None:
                    begun = step
                    # Lost: what came after the last checkpoint, and one more that was in writing.
                    assert begun > last - 2 * EVERY
                last = step
            if begun is not None and last - begun + 1 >= end:
                break
        assert begun is not None, process.stderr.read()[-3000:]
        # Often in the middle of a save, which goes on beside the updates.
        time.sleep(draw.uniform(0, 0.3))
        process.kill()
        more = losses(process.communicate()[0])
        assert more.items() <= whole.items()
        last = max(last, *more) if more else last
        assert last < STEPS, "it was done before it was killed: give it more steps"
        killed.append((begun, last))
    rest = finished(begin(tmp_path / "cut", STEPS))
    assert rest.items() <= whole.items()
    assert 1 < min(rest) <= last + 1, "it went on, and neither began again nor left an update out"
    assert all(begun > 1 for begun, _ in killed[1:])
    left = sorted(path.name for path in (tmp_path / "cut/checkpoints").iterdir() if path.is_dir())
    assert left == sorted(map(str, (STEPS - EVERY, STEPS))), "the killed ones' halves are cleared away"
    print(f"{KILLS} kills; from and to: {killed}")


def test_two_processes_have_the_losses_of_one_to_the_bit_and_judge_alike(tmp_path, begin):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pair = [begin(tmp_path / "two", 4, rank, 2, port, "judge") for rank in (0, 1)]
    one = begin(tmp_path / "one", 4, "judge", devices=2)
    both = [output(process) for process in pair]
    expected = output(one)
    assert sorted(losses(expected)) == [1, 2, 3, 4]
    assert losses(both[0]) == losses(both[1]) == losses(expected)
    numbers = judged(expected)
    assert {"loss", "error/step_1", "error/step_4", "error/dimension_01"} <= {*numbers}
    # A mean is of the same numbers, added in another order.
    assert judged(both[0]) == judged(both[1]) == pytest.approx(numbers, rel=1e-6)
