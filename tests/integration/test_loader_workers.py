"""The loader's worker processes: the same batches as without, and no worker left behind."""

import contextlib
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from pioxide.data.advantages import Advantages
from pioxide.errors import DatasetError
from support.loading import LENGTHS, make_pictured

pytestmark = pytest.mark.slow

SCRIPT = """
import os, sys
sys.path.insert(0, {tests!r})
from support.loading import Pictured

KEPT = []  # to the end of the interpreter

def main():
    world = Pictured(*map(__import__("pathlib").Path, {paths!r}))
    with world.loader(workers=2) as loader:
        batches = loader.batches()
        for step, batch in enumerate(batches):
            KEPT[:] = batches, batch
            print(step, len(batch), flush=True)
            if step == {steps}:
                break
    print("closed", flush=True)

if __name__ == "__main__":
    main()
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_pictured(tmp_path_factory.mktemp("world"))


def start(world, tmp_path, steps) -> subprocess.Popen:
    script = tmp_path / "script.py"
    paths = [str(world.path), str(world.fitted), str(world.text_model)]
    tests = str(Path(__file__).resolve().parent.parent)
    script.write_text(textwrap.dedent(SCRIPT.format(tests=tests, paths=paths, steps=steps)))
    return subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def workers_of(pid: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            parent = int(stat.read_text().rsplit(")", 1)[1].split()[1])
            if parent == pid and "spawn_main" in (stat.parent / "cmdline").read_text():
                found.append(int(stat.parent.name))
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_workers_change_nothing_about_the_batches(world):
    said = [{"episode": e, "advantage": ("positive", "negative")[e // 2]} for e in range(len(LENGTHS))]
    judged = Advantages.of_file(said, world.dataset)
    source = world.source(stated={"advantage_style": "text_or_none"}, advantages=judged)
    with world.loader(source, seed=4, advantage_dropout=0.3) as plain:
        expected = [plain.at(5 + i) for i in range(6)]
    for workers in (1, 2):
        with world.loader(source, seed=4, advantage_dropout=0.3, workers=workers) as loader:
            found = [batch for batch, _ in zip(loader.batches(5), range(6), strict=False)]
        for one, two in zip(expected, found, strict=True):
            assert list(one.images) == list(two.images)
            assert all(np.array_equal(one.images[slot], two.images[slot]) for slot in one.images)
            assert np.array_equal(one.tokens, two.tokens)
            assert np.array_equal(one.actions, two.actions)
            assert np.array_equal(one.source, two.source)
            assert two.ar_mask is None


def test_a_fault_in_a_worker_is_raised_here_with_its_message(tmp_path):
    world = make_pictured(tmp_path, (9, 8))
    with world.loader(workers=1, batch_size=17) as loader:
        for file in world.path.glob("videos/*top/*/*.mp4"):
            file.write_bytes(b"nothing")
        with pytest.raises(DatasetError, match=r"dataset: videos/.*top.*can't be read as video"):
            next(loader.batches())


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_a_killed_trainer_leaves_no_worker(world, tmp_path):
    process = start(world, tmp_path, steps=-1)
    try:
        for _ in range(3):
            assert process.stdout.readline()
        workers = workers_of(process.pid)
    finally:
        process.kill()
    assert len(workers) == 2
    # Whoever waits for the trainer's output gets its end: the workers hold it, too.
    process.communicate(timeout=60)
    deadline = time.monotonic() + 60
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [pid for pid in workers if alive(pid)] == []


def test_leaving_the_loop_ends_quietly(world, tmp_path):
    process = start(world, tmp_path, steps=4)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0
    assert out.splitlines()[-1] == "closed"
    # What workers had made and nobody took is swept up by Python's own tracker, which says so.
    said = [
        line for line in err.splitlines() if "resource_tracker" not in line and "warnings.warn(" not in line
    ]
    assert said == []
