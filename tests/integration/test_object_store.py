"""Tokens at an address, by a real S3 server: the bytes of a directory here, whoever is killed on the way."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pioxide.cli.main import main
from pioxide.data import LeRobotDataset
from pioxide.errors import DatasetError, FormatError, InputError, OutputError, SettingsError
from pioxide.fetch.store import Store
from pioxide.shards import (
    FitSettings,
    Part,
    TokenDataset,
    estimate,
    fit,
    merge,
    plan_job,
    run_job,
    run_part,
    tokenize_dataset,
)
from pioxide.shards.lease import LEASES, WHOLE, leased
from support.jobs import HORIZON, World, content
from support.object_store import BUCKET, ObjectStore, object_store

pytest.importorskip("tyro")
for needed in ("moto", "flask_cors", "s3fs"):
    pytest.importorskip(needed, reason='SKIPPED: pip install "moto[s3]" flask-cors s3fs')

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def store() -> Iterator[ObjectStore]:
    with object_store() as made:
        yield made


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test's own."""
    monkeypatch.setenv("PIOXIDE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def out(request: pytest.FixtureRequest) -> str:
    return f"s3://{BUCKET}/{request.node.name}"  # with brackets, which are no pattern


@pytest.fixture(scope="module")
def whole(world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a run to a directory leaves: four shards."""
    path = tmp_path_factory.mktemp("whole") / "out"
    tokenize_dataset(world.inputs(), path, world.settings())
    return content(path)


def test_an_address_holds_what_a_directory_would(world, whole, store: ObjectStore, out: str) -> None:
    job = plan_job(world.inputs(), world.settings())
    assert estimate(job, out).finished == 0
    assert store.content(out) == {}
    assert run_job(job, out).complete
    assert store.content(out) == whole
    assert estimate(job, out).finished == 4
    # Again: nothing is written.
    times = store.times(out)
    time.sleep(1.01)  # a store says whole seconds
    run_job(job, out)
    assert store.times(out) == times
    # A shard that has gone is made again, and nothing else.
    store.files.rm_file(f"{out}/shards/shard-00001.parquet")
    run_job(job, out)
    assert store.content(out) == whole
    kept = {name for name, written in store.times(out).items() if written == times[name]}
    assert kept == set(whole) - {"shards/shard-00001.parquet", "manifest.json"}


# In a process of its own: the third shard stops half-way, says so, and waits for the signal.
CHILD = """
import sys, time
from pioxide.cli.main import main
from pioxide.shards import shard

real = shard.ShardMaker.write

def write(self, task, file, **options):
    if task.number == 2:
        print("here", flush=True)
        while True:
            options["on_frames"](0)
            time.sleep(0.05)
    return real(self, task, file, **options)

shard.ShardMaker.write = write
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_ended_goes_on(world, whole, store: ObjectStore, out: str, number: int) -> None:
    arguments = [sys.executable, "-c", CHILD, *world.command(out)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "here\n"
        with pytest.raises(OutputError, match=rf"another run is writing to .* \(process {child.pid} on"):
            tokenize_dataset(world.inputs(), out, world.settings())
        with pytest.raises(OutputError, match="another run"):
            run_part(plan_job(world.inputs(), world.settings()), out, Part(1, 2))
        child.send_signal(number)
        _, said = child.communicate(timeout=180)
    left = store.content(out)
    leases = [name for name in left if name.startswith(LEASES)]
    if number == signal.SIGINT:
        assert f"interrupted; 2 of 4 shards are finished and kept in {out}. Run the same command" in said
        assert not leases
    else:
        assert len(leases) == 1  # nobody was there to take it away
    assert all(whole[name] == data for name, data in left.items() if name.startswith("shards/"))
    assert json.loads(left["manifest.json"])["complete"] is False
    times = {name: written for name, written in store.times(out).items() if name.startswith("shards/")}
    assert len(times) == 2
    tokenize_dataset(world.inputs(), out, world.settings())
    assert store.content(out) == whole
    assert times.items() <= store.times(out).items()


def test_parts_meet_at_an_address(world, whole, store: ObjectStore, out: str, tmp_path: Path) -> None:
    job = plan_job(world.inputs(), world.settings())
    with leased(Store(out), "part-2-of-3"):  # beside another
        made = run_part(job, out, Part(1, 3))
        with pytest.raises(OutputError, match="another run"):
            run_part(job, out, Part(2, 3))
        with pytest.raises(OutputError, match="another run"):
            run_job(job, out)
    assert (made.present, made.planned) == (2, 4)
    run_part(job, out, Part(2, 3))
    with pytest.raises(InputError, match="At the address itself `pioxide tokenize` without --part"):
        merge([out])
    with pytest.raises(InputError, match="at one address `pioxide tokenize` without"):
        merge([out], f"{out}-merged")
    with pytest.raises(FormatError, match=r"2 of 4 shards are missing|1 of 4 shards are missing"):
        merge([out], tmp_path / "merged")
    run_part(job, f"{out}-more", Part(3, 3))
    merged = merge([out, f"{out}-more"], tmp_path / "merged")
    assert content(tmp_path / "merged") == whole
    assert (merged.linked, merged.copied) == (4, 0)  # from the cache
    run_job(job, out)
    assert store.content(out) == whole
    assert run_part(job, out, Part(2, 3)).present == 4


def test_tokens_at_an_address_are_read_looked_at_and_exported(
    world, whole, store: ObjectStore, out: str, tmp_path: Path, capsys
) -> None:
    tokenize_dataset(world.inputs(), out, world.settings())
    tokens = TokenDataset.open(out, verify=True)
    assert content(tokens.path).keys() - {".brought.json", ".lock"} == set(whole)
    here = tmp_path / "here"
    tokenize_dataset(world.inputs(), here, world.settings())
    expected = TokenDataset.open(here)[:7]
    assert all(np.array_equal(expected[name], array) for name, array in tokens[:7].items())

    assert main(["inspect", out]) == 2
    assert "say with -o" in capsys.readouterr().err
    assert main(["inspect", out, "-o", str(tmp_path / "page.html")]) == 0
    assert (tmp_path / "page.html").is_file()
    records = tmp_path / "records"
    pytest.importorskip("array_record", reason='SKIPPED: pip install "pioxide[train]"')
    assert main(["export", out, "--to", "array_record", "-o", str(records)]) == 0
    assert list(records.iterdir())
    store.files.rm_file(f"{out}/shards/shard-00001.parquet")  # which is gone there, and so here
    with pytest.raises(FormatError, match="shard-00001"):
        TokenDataset.open(out)
    with pytest.raises(FormatError, match=r"has no manifest\.json"):
        TokenDataset.open(f"{out}/shards")
    with pytest.raises(FormatError, match=r"s3://nowhere/t: can't be read \(FileNotFoundError"):
        TokenDataset.open("s3://nowhere/t")


def test_what_cannot_be_written_is_said(world, whole, store: ObjectStore, out: str, tmp_path: Path) -> None:
    job = plan_job(world.inputs(), world.settings())
    run_job(job, out)
    with pytest.raises(SettingsError, match="text_len: 250 there, 90 now"):
        tokenize_dataset(world.inputs(), out, world.settings(max_len=90))
    assert store.content(out) == whole
    store.files.pipe_file(f"{out}-thesis/chapter1.tex", b"...")
    with pytest.raises(SettingsError, match="is not empty and has no manifest"):
        run_job(job, f"{out}-thesis")
    assert store.content(f"{out}-thesis") == {"chapter1.tex": b"..."}
    with pytest.raises(OutputError, match=r"can't read s3://nowhere/at/all: FileNotFoundError: "):
        run_job(job, "s3://nowhere/at/all")
    with pytest.raises(InputError, match="nothing is written to such an address, only to s3://"):
        run_job(job, "hf://datasets/me/tokens")
    with pytest.raises(OutputError, match="is an address"):
        fit(world.v3, f"{out}-fitted")


def test_two_that_begin_at_once_are_one_job(world, store: ObjectStore, out: str, monkeypatch) -> None:
    """Both parts saw no manifest; the second is compared with the first's."""
    job = plan_job(world.inputs(), world.settings())
    other = plan_job(world.inputs(), world.settings(max_len=90))
    real = Store.create

    def create(self: Store, name: str, body: bytes) -> bool:
        if name == "manifest.json":
            monkeypatch.setattr(Store, "create", real)
            run_part(job, out, Part(2, 2))
        return real(self, name, body)

    monkeypatch.setattr(Store, "create", create)
    with pytest.raises(SettingsError, match="contract"):
        run_part(other, out, Part(1, 2))
    monkeypatch.setattr(Store, "create", create)
    run_part(job, f"{out}-same", Part(1, 2))
    assert run_job(job, f"{out}-same").complete


def test_a_lease_of_another_machine_is_watched(store: ObjectStore, out: str) -> None:
    place = Store(out)
    lease = {"owner": "process 7 on far", "machine": "far", "process": 7, "began": "1", "beat": 3}

    def write(beat: int) -> None:
        place.write(f"{LEASES}/{WHOLE}-00004", json.dumps(lease | {"beat": beat}).encode())

    write(3)
    with (
        pytest.raises(OutputError, match=r"another run is writing to .* \(process 7 on far\)"),
        leased(place, WHOLE, wait=lambda _: write(4)),
    ):
        pass
    waited = []
    with leased(place, WHOLE, wait=waited.append):
        assert list(place.sizes()) == [f"{LEASES}/{WHOLE}-00005"]
    assert waited == [45.0]
    assert place.sizes() == {}


def test_a_store_without_conditions_is_refused(store: ObjectStore, out: str, monkeypatch) -> None:
    def create(self: Store, name: str, body: bytes) -> bool:
        self.write(name, body)
        return True

    monkeypatch.setattr(Store, "create", create)
    with pytest.raises(OutputError, match="nothing would keep two runs apart"), leased(Store(out), WHOLE):
        pass
    assert Store(out).sizes() == {}


def test_a_dataset_at_an_address_is_that_dataset(
    world, whole, store: ObjectStore, out: str, tmp_path: Path, capsys
) -> None:
    """Checked, fitted and tokenized, with no bytes brought twice; and what changes there is brought again."""
    store.files.put(f"{world.v3}/", f"{out}/v3/", recursive=True)
    store.files.pipe_file(f"{out}/v3/videos/large.mp4", b"...")
    dataset = Path(f"{out}/v3")
    assert main(["check", str(dataset)]) == 0
    fit(dataset, tmp_path / "fitted", FitSettings(horizon=HORIZON, vocab_size=400))
    assert content(tmp_path / "fitted").keys() == content(world.fitted).keys()
    changed = [
        name
        for name, data in content(tmp_path / "fitted").items()
        if data != (world.fitted / name).read_bytes()
    ]
    assert changed in ([], ["fit.json"])  # which says where the dataset was
    there = tmp_path / "tokens"
    tokenize_dataset(world.inputs(dataset=dataset), there, world.settings(dataset=dataset))
    made = content(there)
    said = [json.loads(of["manifest.json"]) for of in (made, whole)]
    for one in said:
        del one["dataset"]["path"]
    assert said[0] == said[1]
    alike = set(whole) - {"manifest.json", "README.md"}
    assert {name: made[name] for name in alike} == {name: whole[name] for name in alike}

    (copy,) = (tmp_path / "cache/datasets").glob("*/v3")
    assert not (copy / "videos").exists()
    times = {file: file.stat().st_mtime_ns for file in copy.rglob("*.parquet")}
    LeRobotDataset.open(dataset)
    assert times == {file: file.stat().st_mtime_ns for file in copy.rglob("*.parquet")}
    info = json.loads((world.v3 / "meta/info.json").read_text())
    store.files.pipe_file(f"{out}/v3/meta/info.json", json.dumps(info | {"robot_type": "other"}).encode())
    assert LeRobotDataset.open(dataset).robot_type == "other"
    with pytest.raises(DatasetError, match="holds neither meta/ nor data/"):
        LeRobotDataset.open(Path(out))  # but v3/ does
    with pytest.raises(DatasetError, match=r"s3://nowhere/d: can't be read \(FileNotFoundError"):
        LeRobotDataset.open(Path("s3://nowhere/d"))
    assert main(["train", "mini", str(world.v3), "-o", f"{out}/run"]) == 2
    assert "is an address" in capsys.readouterr().err
    # Training takes the pictures, too; who needs numbers only leaves them where they are.
    assert (LeRobotDataset.open(dataset, pictures=True).path / "videos/large.mp4").read_bytes() == b"..."
    LeRobotDataset.open(dataset)
    assert (copy / "videos/large.mp4").is_file()
    store.files.rm_file(f"{out}/v3/videos/large.mp4")
    LeRobotDataset.open(dataset, pictures=True)
    assert not (copy / "videos/large.mp4").exists()
