"""Over several devices parameters travel, a layer at a time; what is computed of a batch stays."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benches"))

from hlo import Counter, parse

TESTS = Path(__file__).resolve().parents[1]
# 7 rows a device: no axis of a parameter is a multiple of 7. PIOXIDE_FSDP=all compiles all of it.
ROWS = 56
EIGHT = os.environ | {"JAX_NUM_CPU_DEVICES": "8", "JAX_PLATFORMS": "cpu"}
FAMILIES = ["pi0", "pi05", "pi0_fast"] if os.environ.get("PIOXIDE_FSDP") == "all" else ["pi0"]


def compiled(family, rows, directory):
    """The program of an update for eight devices; bytes of all parameters and of those that are split."""
    file = directory / f"{family}_{rows}.hlo"
    command = [sys.executable, "-m", "support.compile_step", family, str(rows), str(file)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=TESTS, env=EIGHT)
    assert run.returncode == 0, run.stderr[-2000:]
    return parse(file.read_text()), *map(int, run.stdout.split())


@pytest.fixture(scope="module", params=FAMILIES)
def programs(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp("programs")
    few = compiled(request.param, ROWS, directory)
    more = compiled(request.param, 2 * ROWS, directory)
    return few, more


def travels(module):
    found = Counter(module).collectives
    assert found
    return found


def test_no_collective_carries_what_is_computed_of_the_batch(programs):
    (module, parameters, split), _ = programs
    assert split > parameters / 2
    found = travels(module)
    carried = [one for one in found if any(d % 7 == 0 for s in one.shapes for d in s.dimensions if d)]
    assert not carried, carried[:10]
    # Every collective is a gather of parameters or a sum of gradients: no rows are sent round otherwise.
    assert {one.kind for one in found} <= {"all-gather", "all-reduce", "reduce-scatter"}


def test_what_travels_is_bounded_by_the_parameters_and_not_by_the_batch(programs):
    (few, parameters, _), (more, _, _) = programs
    moved, of_more = (sum(one.bytes * one.times for one in travels(module)) for module in (few, more))
    assert moved == of_more
    # Gathered on the way there and on the way back, and their gradients summed; and some numbers for the log.
    assert moved < 3 * parameters + 20_000


def test_each_device_computes_its_own_rows_alone(programs):
    for (module, _, _), rows in zip(programs, (ROWS, 2 * ROWS), strict=True):
        whole = [
            i.name
            for computation in module.computations.values()
            for i in computation.values()
            for shape in i.shapes
            if rows in shape.dimensions
        ]
        assert whole == []
