"""A job on a Ray cluster of three nodes: the bytes of one process, whoever is killed on the way."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from pioxide.data import LeRobotDataset
from pioxide.errors import DatasetError, InputError, SettingsError
from pioxide.shards import FitSettings, Ray, crew_on_ray, fit, on_ray, tokenize_dataset
from support import held_worker
from support.held_worker import held, hold, let_go
from support.jobs import HORIZON, World, content
from support.object_store import BUCKET, ObjectStore, object_store

pytest.importorskip("tyro")
ray = pytest.importorskip("ray", reason='SKIPPED: a job on Ray; pip install "pioxide[ray]"')
TESTS = Path(__file__).parent.parent

pytestmark = pytest.mark.filterwarnings(
    "ignore::FutureWarning",
    "ignore::ResourceWarning",
    # Ray forks to begin a node, which becomes another program at once; a test before may have imported JAX.
    r"ignore:os\.fork\(\) was called:RuntimeWarning",
)


class Cluster:
    """Three nodes with a core each, every one a process group of its own on this machine."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster as Nodes

        self.nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        self.others = [self.nodes.add_node(num_cpus=1) for _ in range(2)]

    @property
    def address(self) -> str:
        return self.nodes.address

    def kill(self, node: str) -> None:
        """With SIGKILL; a new one takes its place."""
        (killed,) = [one for one in self.others if one.node_id == node]
        self.nodes.remove_node(killed, allow_graceful=False)
        self.others.remove(killed)
        self.others.append(self.nodes.add_node(num_cpus=1))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with pytest.MonkeyPatch.context() as patch, ExitStack() as started:
        if all(importlib.util.find_spec(name) for name in ("moto", "s3fs")):
            started.enter_context(object_store())  # whose nodes know where it is
        patch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_preallocate_plasma_memory", "0")
        made = Cluster()
        # Once for all tests of this process: each that connects has workers started for it on every node.
        ray.init(made.address, log_to_driver=False)
        try:
            yield made
        finally:
            ray.shutdown()
            made.nodes.shutdown()


@pytest.fixture(scope="module")
def whole(world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What one process leaves: four shards."""
    out = tmp_path_factory.mktemp("whole") / "out"
    tokenize_dataset(world.inputs(), out, world.settings())
    return content(out)


@pytest.fixture
def holding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_ray, "_make", held_worker.make)


def command(world: World, out: Path, address: str) -> list[str]:
    python = [sys.executable, "-c", "from support.held_worker import command; command()"]
    return [*python, *world.command(out), "--workers", "3", "--engine", "ray", "--ray-address", address]


def shards(directory: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (directory / "shards").glob("shard-*")}


def test_a_worker_and_a_node_are_killed_in_the_middle(
    world: World, cluster: Cluster, whole: dict[str, bytes], tmp_path: Path, holding: None
) -> None:
    out = tmp_path / "out"
    hold(out, 0, 1, 2)
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(tokenize_dataset, world.inputs(), out, world.settings(), engine=Ray())
        where = {number: held(out, number) for number in (0, 1, 2)}
        assert len({node for _, node in where.values()}) == 3
        others = {one.node_id for one in cluster.others}
        lost, killed = [number for number, (_, node) in where.items() if node in others]
        os.kill(where[killed][0], signal.SIGKILL)
        cluster.kill(where[lost][1])
        assert len(list(out.glob("shards/.shard-*.tmp"))) >= 3  # nobody was there to remove them
        let_go(out)
        manifest = job.result(300)
    assert manifest.complete
    for left in out.glob("shards/.shard-*.tmp"):  # of the dead; the next run removes them
        left.unlink()
    assert content(out) == whole


def test_ctrl_c_and_kill_keep_finished_shards(
    world: World, cluster: Cluster, whole: dict[str, bytes], tmp_path: Path, holding: None
) -> None:
    out = tmp_path / "out"
    hold(out, 2, 3)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])}
    for number in (signal.SIGINT, signal.SIGKILL):
        with subprocess.Popen(
            command(world, out, cluster.address), env=environment, stderr=subprocess.PIPE, text=True
        ) as child:
            for shard in (2, 3):
                held(out, shard)
            while len(shards(out)) < 2:
                time.sleep(0.05)
            child.send_signal(number)
            _, said = child.communicate(timeout=180)
        if number == signal.SIGINT:
            assert child.returncode == 130, said
            assert f"interrupted; 2 of 4 shards are finished and kept in {out}" in said
            assert "Traceback" not in said
            assert not list(out.rglob("*.tmp"))
            kept = shards(out)
        for file in tmp_path.glob("held-*"):
            file.unlink()
    let_go(out)
    tokenize_dataset(world.inputs(), out, world.settings(), engine=Ray())
    assert content(out) == whole
    assert kept.items() <= shards(out).items()


def test_faults_are_those_of_one_process(
    world: World, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from support.datasets import episodes, write_v21
    from support.jobs import LENGTHS

    dataset = write_v21(tmp_path / "bad", episodes(LENGTHS))
    (dataset / "data/chunk-000/episode_000002.parquet").write_bytes(b"PAR1")
    inputs, settings = world.inputs(dataset=dataset), world.settings(dataset=dataset)
    with pytest.raises(DatasetError) as here:
        tokenize_dataset(inputs, tmp_path / "here", settings, workers=1)
    with pytest.raises(DatasetError) as there:
        tokenize_dataset(inputs, tmp_path / "there", settings, engine=Ray(workers=1))
    assert str(there.value).replace("there", "here") == str(here.value)
    one = tokenize_dataset(inputs, tmp_path / "one", settings, skip_bad=True)
    two = tokenize_dataset(inputs, tmp_path / "two", settings, skip_bad=True, engine=Ray())
    assert [left.episode for left in two.skipped] == [2]
    assert two == one
    assert content(tmp_path / "two") == content(tmp_path / "one")

    # A node that would make something else is sent away.
    real = on_ray._Order.of

    def other(*arguments):
        order = real(*arguments)
        order.manifest.versions["pyarrow"] = "1.0"
        return order

    monkeypatch.setattr(on_ray._Order, "of", other)
    with pytest.raises(SettingsError, match=r"a node of the cluster.*\n  versions.pyarrow: 1.0 there"):
        tokenize_dataset(world.inputs(), tmp_path / "other", world.settings(), engine=Ray())
    assert ray.is_initialized()  # by the caller, who keeps it


def test_a_fit_on_a_cluster_is_that_of_one_process(
    world: World, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the byte, with a worker killed in the middle of a portion; and the command, with two datasets."""
    from pioxide.cli.main import main

    monkeypatch.setattr(crew_on_ray, "_do", held_worker.read)
    monkeypatch.setattr(crew_on_ray, "LEAST", 1)  # portions of a few episodes
    dataset = shutil.copytree(world.v3, tmp_path / "v3")
    settings = FitSettings(horizon=HORIZON, vocab_size=400)
    fit(dataset, tmp_path / "one", settings)
    out = tmp_path / "fitted"
    hold(out, 1)
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(fit, dataset, out, settings, engine=Ray())
        process, _ = held(out, 1)
        assert not out.exists()
        (tmp_path / "held-1").unlink()
        os.kill(process, signal.SIGKILL)
        assert held(out, 1)[0] != process  # another has taken it up
        let_go(out)
        job.result(300)
    assert content(out) == content(tmp_path / "one")

    command = ["fit", str(dataset), str(world.v21), "--horizon", str(HORIZON), "--vocab-size", "400", "-o"]
    assert main([*command, str(tmp_path / "here")]) == 0
    assert main([*command, str(tmp_path / "there"), "--engine", "ray"]) == 0
    assert content(tmp_path / "there") == content(tmp_path / "here")

    # A node that sees another dataset is sent away.
    monkeypatch.setattr(LeRobotDataset, "fingerprint", lambda _: "another")
    with pytest.raises(SettingsError, match=r"a node of the cluster.*\n  dataset: another there, "):
        fit(dataset, tmp_path / "other", settings, engine=Ray())
    assert not (tmp_path / "other").exists()


def test_nodes_write_to_an_object_store(world: World, cluster: Cluster, whole: dict[str, bytes]) -> None:
    s3fs = pytest.importorskip(
        "s3fs", reason='SKIPPED: Ray and an object store; pip install "moto[server]" s3fs'
    )
    pytest.importorskip("moto", reason='SKIPPED: Ray and an object store; pip install "moto[server]" s3fs')
    out = f"s3://{BUCKET}/out"
    tokenize_dataset(world.inputs(), out, world.settings(), engine=Ray())
    assert ObjectStore(s3fs.S3FileSystem(use_listings_cache=False)).content(out) == whole


def test_what_cannot_be_is_said(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pioxide.cli.main import main

    with pytest.raises(InputError, match="0 workers can't do anything"):
        tokenize_dataset(world.inputs(), tmp_path / "a", world.settings(), engine=Ray(workers=0))
    assert main([*world.command(tmp_path / "b"), "--ray-address", "auto"]) == 2
    fitting = ["fit", str(world.v3), "-o", str(tmp_path / "d")]
    assert main([*fitting, "--ray-address", "auto"]) == 2
    assert main([*fitting, "--engine", "ray", "--explore"]) == 2
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main([*fitting, "--engine", "ray"]) == 2
    with pytest.raises(InputError, match=r'pip install "pioxide\[ray\]"'):
        tokenize_dataset(world.inputs(), tmp_path / "c", world.settings(), engine=Ray())
