import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

from pioxide.data.loader.handover import Shared
from support.loading import make_pictured

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory without a name is Linux's")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_pictured(tmp_path_factory.mktemp("world"))


@pytest.mark.parametrize("family", ["pi0", "pi0_fast"])
def test_workers_read_the_parents_arrays_and_make_the_same(world, family):
    with world.loader(family=family) as loader:
        shared = Shared(loader._assembler)
        content = pickle.dumps(shared)
        copies = [pickle.loads(content), pickle.loads(pickle.dumps(shared))]
        rows = np.array([3, 60, 11])
        expected = shared(rows)
        for copy in copies:
            states = copy.assembler.opened[0].rows.states
            assert np.array_equal(states, shared.assembler.opened[0].rows.states)
            assert not states.flags.writeable
            assert not states.flags.owndata
            found = copy(rows)
            assert list(found) == list(expected)
            assert all(np.array_equal(found[name], expected[name]) for name in expected)
        shared.close()
        assert copies[0](rows)["tokens"].tolist() == expected["tokens"].tolist()


def test_arrays_are_not_part_of_what_is_pickled(world):
    with world.loader() as loader:
        shared = Shared(loader._assembler)
        arrays = shared.assembler.opened[0].rows
        raw = arrays.states.tobytes()
        assert raw not in pickle.dumps(shared)
        assert raw in pickle.dumps(arrays.states)
        shared.close()


def test_closing_leaves_nothing_open(world):
    def held():
        links = (Path(f"/proc/self/fd/{n.name}") for n in Path("/proc/self/fd").iterdir())
        return sum("pioxide-loader" in str(link.readlink()) for link in links if link.is_symlink())

    before = held()
    with world.loader() as loader:
        pickle.dumps(loader._shared)
        pickle.dumps(loader._shared)
        assert held() == before + 1
    assert held() == before
