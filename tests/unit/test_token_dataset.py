"""Token rows by number, as loaders ask for them: any order, any process, any host."""

import multiprocessing
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from pioxide.errors import FormatError, InputError
from pioxide.shards import TokenDataset, shard, tokenize_dataset
from support.jobs import make_world

ROWS = 148


@pytest.fixture(scope="module", params=["pi0", "pi0_fast"])
def made(request, tmp_path_factory) -> Path:
    """Four shards of row groups of eight rows."""
    root = tmp_path_factory.mktemp("tokens")
    world = make_world(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shard, "ROW_GROUP_ROWS", 8)
        patch.setattr(shard, "PENDING_ROWS", 20)
        tokenize_dataset(world.inputs(request.param), root / "out", world.settings(request.param))
    return root / "out"


@pytest.fixture
def dataset(made: Path) -> TokenDataset:
    return TokenDataset.open(made)


@pytest.fixture
def everything(dataset: TokenDataset) -> dict[str, np.ndarray]:
    return next(dataset.batches(1000))


def equal(batch, other) -> None:
    assert batch.keys() == other.keys()
    for name in batch:
        np.testing.assert_array_equal(batch[name], other[name])
        assert batch[name].dtype == other[name].dtype


def rows(batch, chosen):
    return {name: values[chosen] for name, values in batch.items()}


def test_row_groups_are_as_small_as_they_should_be(dataset: TokenDataset) -> None:
    sizes = np.diff(dataset._groups.starts)
    assert sizes.max() == 8
    assert len(sizes) <= ROWS / 8 + 4  # only the last of a shard is smaller


@pytest.mark.parametrize(
    "index",
    [
        slice(3, 90),
        slice(None, None, -7),
        slice(140, 10_000),
        slice(5, 5),
        [147, 0, 0, -1],
        np.array([60, 61, 3], np.int32),
        np.array([], np.int64),
        [],
        np.arange(ROWS)[::-1],
    ],
)
def test_slices_and_arrays_are_batches(dataset, everything, index) -> None:
    chosen = np.asarray(index, np.int64) if isinstance(index, list) else index
    equal(dataset[index], rows(everything, chosen))


def test_rows_by_number(dataset, everything) -> None:
    for number in (0, 147, -1, -148, np.int64(60)):
        equal(dataset[number], rows(everything, int(number)))
    for row, number in zip(dataset.__getitems__([5, -2]), [5, -2], strict=True):
        equal(row, rows(everything, number))
    for wrong in (148, -149, [3, 148]):
        with pytest.raises(IndexError, match=r"of 148"):
            dataset[wrong]
    for wrong in (1.0, "3", None, [0.5], np.zeros((2, 2), int), np.ones(148, bool)):
        with pytest.raises(TypeError):
            dataset[wrong]


def test_what_is_returned_is_the_callers(dataset, everything) -> None:
    """Rows are copies: a loader that changes one changes no later one."""
    dataset[7]["tokens"][:] = -1
    batch = dataset[5:9]
    for values in batch.values():
        values[...] = 0
    equal(dataset[7], rows(everything, 7))


@pytest.mark.parametrize("count", [1, 2, 3, 7, 100, 148])
def test_hosts_have_disjoint_rows_alike_in_number(dataset, everything, count: int) -> None:
    hosts = [dataset.shard(i, count) for i in range(count)]
    assert sum(map(len, hosts)) == ROWS
    assert max(map(len, hosts)) - min(map(len, hosts)) <= 1
    equal({n: np.concatenate([h[:][n] for h in hosts]) for n in everything}, everything)
    for host in hosts[:3]:
        got = list(host.batches(10))
        equal({n: np.concatenate([b[n] for b in got]) for n in everything}, host[:])
        equal(host[-1], rows(everything, host.rows[-1]))
        with pytest.raises(IndexError):
            host[len(host)]
    level = [dataset.shard(i, count, equal=True) for i in range(count)]
    assert {len(host) for host in level} == {ROWS // count}
    assert len({row for host in level for row in host.rows}) == ROWS // count * count


def test_hosts_that_can_not_be(dataset) -> None:
    for index, count in [(2, 2), (-1, 2), (0, 0), (0, 149)]:
        with pytest.raises(InputError):
            dataset.shard(index, count)
    with pytest.raises(InputError, match="cache_bytes"):
        TokenDataset.open(dataset.path, cache_bytes=-1)
    with pytest.raises(InputError, match="mixed"):
        dataset.order(0, mixed=0)


def test_order_is_a_permutation_that_decodes_each_row_group_once(dataset, monkeypatch) -> None:
    view = dataset.shard(1, 2)
    groups = view._groups
    groups.cache_bytes = 4 * max(groups.get(i).nbytes for i in range(len(groups.place)))
    groups._forget()
    reads: list[int] = []
    real = type(groups).read
    monkeypatch.setattr(type(groups), "read", lambda self, *at: (reads.append(at[0]), real(self, *at))[1])
    order = view.order(3, mixed=4)
    assert sorted(order) == list(range(len(view)))
    for first in range(0, len(order), 5):
        view.take(order[first : first + 5])
    assert len(reads) == len(set(reads))
    assert (view.order(3, mixed=4) == order).all()
    assert (view.order(4, mixed=4) != order).any()
    # Not simply row group after row group.
    assert np.abs(np.diff(order)).max() > 30
    reads.clear()
    for number in np.random.default_rng(0).permutation(len(view)):
        view[int(number)]
    assert len(reads) > 2 * len(set(reads))


@pytest.mark.parametrize("groups", [0, 1, 3])
def test_memory_is_bounded(made: Path, everything, groups: int) -> None:
    size = max(TokenDataset.open(made)._groups.get(i).nbytes for i in range(10))
    dataset = TokenDataset.open(made, cache_bytes=groups * size)
    for number in np.random.default_rng(1).permutation(ROWS):
        equal(dataset[int(number)], rows(everything, number))
        kept = dataset._groups._kept
        assert sum(one.nbytes for one in kept.values()) == dataset._groups._bytes <= groups * size
    assert bool(kept) == bool(groups)


def test_threads_may_share_it(made: Path, everything) -> None:
    dataset = TokenDataset.open(made, cache_bytes=20_000)
    order = np.random.default_rng(2).integers(0, ROWS, (200, 3))
    with ThreadPoolExecutor(8) as pool:
        for numbers, batch in zip(order, pool.map(dataset.take, order), strict=True):
            equal(batch, rows(everything, numbers))


def test_pickle_holds_no_rows(dataset, everything) -> None:
    size = len(pickle.dumps(dataset))
    dataset[:]
    assert len(pickle.dumps(dataset)) == size
    again = pickle.loads(pickle.dumps(dataset.shard(1, 2)))
    equal(again[:], dataset.shard(1, 2)[:])
    assert repr(again) == repr(dataset.shard(1, 2))
    assert "74 rows (74 to 147 of 148) of v3" in repr(again)


def _sums(dataset: TokenDataset, numbers: list[int]) -> int:
    return int(dataset.take(numbers)["tokens"].sum())


# A process with threads, as one that has used JAX, is warned of forking; the child here runs no JAX.
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning", "ignore:.*fork:RuntimeWarning")
@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_worker_processes_read_it(dataset, everything, method: str) -> None:
    dataset[0]  # something is kept, and a lock was used
    if method == "fork":
        child = os.fork()
        if child == 0:
            os._exit(int(_sums(dataset, [5, 60]) != everything["tokens"][[5, 60]].sum()))
        assert os.waitpid(child, 0)[1] == 0
        return
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.apply(_sums, (dataset, [5, 60])) == everything["tokens"][[5, 60]].sum()


def test_file_that_was_changed_since_is_named(made: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(made, tmp_path / "out")
    dataset = TokenDataset.open(tmp_path / "out")
    file = dataset.shards[1]
    data = bytearray(file.read_bytes())
    data[200] ^= 0xFF
    file.write_bytes(data)
    with pytest.raises(FormatError, match=r"shard-00001\.parquet can't be read"):
        dataset[:]
    file.unlink()
    with pytest.raises(FormatError, match=r"shard-00001\.parquet can't be read"):
        dataset[:]


@pytest.mark.parametrize("workers", [0, 1])
def test_grain_shuffles_batches_and_shares_among_workers(dataset, everything, workers: int) -> None:
    grain = pytest.importorskip("grain", reason="needs grain (pioxide[train])")
    source = grain.MapDataset.source(dataset.shard(0, 2)).shuffle(seed=1).batch(8)
    loader = source.to_iter_dataset()
    if workers:
        from absl import flags

        flags.FLAGS.mark_as_parsed()  # without which grain starts no workers
        loader = loader.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers))
    batches = list(loader)
    assert len(batches) == 10
    seen = np.concatenate([batch["tokens"] for batch in batches])
    mine = dataset.shard(0, 2)[:]["tokens"]
    assert (seen != mine).any()
    assert sorted(map(bytes, seen)) == sorted(map(bytes, mine))


def test_pytorch_loader_asks_for_batches(dataset, everything) -> None:
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=16, num_workers=1, multiprocessing_context="spawn"
    )
    got = list(loader)
    assert sum(len(batch["tokens"]) for batch in got) == ROWS
    np.testing.assert_array_equal(np.concatenate([b["tokens"].numpy() for b in got]), everything["tokens"])
