"""Over several devices parameters travel, a layer at a time; what is computed of a batch stays."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benches"))

from hlo import Counter, parse

TESTS = Path(__file__).resolve().parents[1]
# 11 rows a device: no axis of a parameter is a multiple of 11. PIOXIDE_FSDP=all compiles all models.
DEVICES, OWN = 8, 11
ENVIRONMENT = os.environ | {"JAX_NUM_CPU_DEVICES": str(DEVICES), "JAX_PLATFORMS": "cpu"}
FAMILIES = ["pi0", "pi05", "pi0_fast"] if os.environ.get("PIOXIDE_FSDP") == "all" else ["pi0"]


@pytest.fixture(scope="module", params=FAMILIES)
def program(request, tmp_path_factory):
    """An update's program for eight devices; bytes of all parameters and of those that are split."""
    file = tmp_path_factory.mktemp("program") / "step.hlo"
    command = [sys.executable, "-m", "support.compile_step", request.param, str(DEVICES * OWN), str(file)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=TESTS, env=ENVIRONMENT)
    assert run.returncode == 0, run.stderr[-2000:]
    return parse(file.read_text()), *map(int, run.stdout.split())


def test_no_collective_carries_what_is_computed_of_the_batch(program):
    module, parameters, split = program
    assert split > parameters / 2
    found = Counter(module).collectives
    carried = [one for one in found if any(d and d % OWN == 0 for s in one.shapes for d in s.dimensions)]
    assert not carried, carried[:10]
    # Parameters are gathered and gradients summed; no rows are sent from one device to another.
    assert {one.kind for one in found} <= {"all-gather", "all-reduce", "reduce-scatter"}


def test_what_travels_is_bounded_by_the_parameters(program):
    module, parameters, split = program
    moved = sum(one.bytes * one.times for one in Counter(module).collectives)
    # Gathered on the way there and on the way back, and their gradients summed; and some numbers for the log.
    assert 2 * split < moved < 3 * parameters + 20_000


def test_each_device_computes_its_own_rows_alone(program):
    module, *_ = program
    of_all = [
        i.name
        for computation in module.computations.values()
        for i in computation.values()
        for shape in i.shapes
        if DEVICES * OWN in shape.dimensions
    ]
    assert of_all == []
