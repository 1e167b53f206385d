"""A job may end at any moment, by any cause; run again it ends with the bytes of an uninterrupted run."""

import multiprocessing
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pioxide.errors import FormatError, OutputError, SettingsError
from pioxide.shards import Interrupted, TokenDataset, tokenize_dataset
from pioxide.shards.manifest import FILE_NAME
from support.interruptions import PowerCut, Script, full_disk
from support.jobs import World, content


@pytest.fixture(scope="module")
def whole(world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What an uninterrupted run leaves."""
    out = tmp_path_factory.mktemp("whole") / "out"
    tokenize_dataset(world.inputs(), out, world.settings())
    return content(out)


def disk_calls(world: World, out: Path, **changes) -> int:
    """How many calls to the disk a whole run makes."""
    with pytest.MonkeyPatch.context() as patch:
        script = Script(patch, 0, PowerCut)
        tokenize_dataset(world.inputs(), out, world.settings(**changes), workers=1)
    return script.calls


@pytest.mark.parametrize("failure", [PowerCut, full_disk])
def test_end_at_every_call_to_the_disk(
    world: World, tmp_path: Path, failure: Callable[[], BaseException]
) -> None:
    small = {"episodes": "0:3", "shard_frames": 45}  # two shards
    calls = disk_calls(world, tmp_path / "counted", **small)
    whole = content(tmp_path / "counted")
    assert len([name for name in whole if name.startswith("shards/")]) == 2
    for fail_at in range(1, calls + 1):
        out, ended = tmp_path / f"{fail_at}", None
        with pytest.MonkeyPatch.context() as patch:
            Script(patch, fail_at, failure)
            try:
                tokenize_dataset(world.inputs(), out, world.settings(**small), workers=1)
            except (PowerCut, OutputError) as error:
                ended = error
        left = content(out)
        # No shard is ever half there, and a directory that is not whole does not pass for whole.
        assert all(whole[name] == data for name, data in left.items() if name.startswith("shards/shard"))
        if whole.keys() - left.keys():
            with pytest.raises(FormatError):
                TokenDataset.open(out)
        if failure is full_disk and ended is not None:
            assert "no space left" in str(ended)
            assert not [name for name in left if name.endswith(".tmp")]
        tokenize_dataset(world.inputs(), out, world.settings(**small))
        assert content(out) == whole, fail_at


def test_finished_shards_are_not_made_again(world: World, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.MonkeyPatch.context() as patch:
        Script(patch, disk_calls(world, tmp_path / "counted") * 2 // 3, PowerCut)
        with pytest.raises(PowerCut):
            tokenize_dataset(world.inputs(), out, world.settings(), workers=1)
    kept = {p.name: p.stat().st_mtime_ns for p in (out / "shards").glob("shard-*")}
    records = {p.name.removesuffix(".json") for p in (out / ".progress").glob("shard-*")}
    assert records
    tokenize_dataset(world.inputs(), out, world.settings())
    after = {p.name: p.stat().st_mtime_ns for p in (out / "shards").glob("shard-*")}
    assert {n for n in records if after[n] == kept[n]} == records
    assert not (out / ".progress").exists()


@pytest.mark.parametrize("spoil", ["truncate", "flip", "remove", "replace by a directory's file"])
def test_damaged_shard_of_a_complete_job_is_made_again(
    world: World, whole: dict[str, bytes], tmp_path: Path, spoil: str
) -> None:
    out = tmp_path / "out"
    tokenize_dataset(world.inputs(), out, world.settings())
    shard = out / "shards/shard-00001.parquet"
    data = bytearray(shard.read_bytes())
    if spoil == "remove":
        shard.unlink()
    elif spoil == "truncate":
        shard.write_bytes(data[: len(data) // 2])
    elif spoil == "flip":
        data[len(data) // 2] ^= 1
        shard.write_bytes(data)
    else:
        shard.write_bytes((out / "shards/shard-00000.parquet").read_bytes())
    tokenize_dataset(world.inputs(), out, world.settings())
    assert content(out) == whole


@pytest.mark.parametrize("fail_at", [1, 5, 10, 15, 20, 25, 30])
def test_repair_that_is_cut_off_does_not_pass_for_complete(
    world: World, whole: dict[str, bytes], tmp_path: Path, fail_at: int
) -> None:
    out = tmp_path / "out"
    tokenize_dataset(world.inputs(), out, world.settings())
    (out / "shards/shard-00000.parquet").unlink()
    (out / "shards/shard-00002.parquet").unlink()
    with pytest.MonkeyPatch.context() as patch:
        Script(patch, fail_at, PowerCut)
        with pytest.raises(PowerCut):
            tokenize_dataset(world.inputs(), out, world.settings(), workers=1)
    with pytest.raises(FormatError, match=r"is not complete|is missing"):
        TokenDataset.open(out)
    tokenize_dataset(world.inputs(), out, world.settings())
    assert content(out) == whole


def test_running_again_changes_nothing(world: World, whole: dict[str, bytes], tmp_path: Path) -> None:
    out = tmp_path / "out"
    tokenize_dataset(world.inputs(), out, world.settings())
    times = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()}
    tokenize_dataset(world.inputs(), out, world.settings())
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()} == times
    assert content(out) == whole


# In a process of its own: the third shard stops half-way, says so, and waits for the signal.
CHILD = """
import sys, time
from pathlib import Path
from pioxide.cli.main import main
from pioxide.shards import shard

real = shard.ShardMaker.write

def write(self, task, file, **options):
    if task.number == 2 and HOLD:
        file.write(b"half")
        print("here", flush=True)
        for _ in range(600):
            time.sleep(0.1)
            options["on_frames"](0)
    return real(self, task, file, **options)

shard.ShardMaker.write = write
HOLD = sys.argv.pop(1) == "hold"
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def held(world: World, tmp_path: Path) -> Iterator[tuple[subprocess.Popen, Path]]:
    """A run of the command that has made two shards and half of the third."""
    pytest.importorskip("tyro")
    out = tmp_path / "out"
    arguments = [sys.executable, "-c", CHILD, "hold", *world.command(out)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "here\n"
        yield child, out
        child.kill()


def test_ctrl_c_keeps_finished_shards_and_says_how_to_go_on(
    world: World, whole: dict[str, bytes], held: tuple[subprocess.Popen, Path]
) -> None:
    child, out = held
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=60)
    assert child.returncode == 130
    assert f"interrupted; 2 of 4 shards are finished and kept in {out}" in errors
    assert "Run the same command again to go on" in errors
    assert "Traceback" not in errors
    shards = {name for name in content(out) if name.startswith("shards/")}
    assert shards == {"shards/shard-00000.parquet", "shards/shard-00001.parquet"}
    run_again(world, out)
    assert content(out) == whole


def test_kill_leaves_nothing_that_misleads(
    world: World, whole: dict[str, bytes], held: tuple[subprocess.Popen, Path]
) -> None:
    child, out = held
    with pytest.raises(OutputError, match="another run is writing"):
        tokenize_dataset(world.inputs(), out, world.settings())
    child.kill()
    child.wait(60)
    assert len(list(out.glob("shards/.shard-00002.parquet.*.tmp"))) == 1
    run_again(world, out)
    assert content(out) == whole


def run_again(world: World, out: Path) -> None:
    arguments = [sys.executable, "-c", CHILD, "go", *world.command(out)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "complete" in done.stdout


def test_interrupt_between_shards_is_told_apart_from_failure(world: World, tmp_path: Path) -> None:
    class Impatient:
        def begin(self, total: int, done: int) -> None:
            raise KeyboardInterrupt

        def advance(self, frames: int) -> None: ...

    with pytest.raises(KeyboardInterrupt):
        tokenize_dataset(world.inputs(), tmp_path / "out", world.settings(), progress=Impatient())
    assert issubclass(Interrupted, KeyboardInterrupt)


def test_other_settings_are_refused_with_the_difference(
    world: World, whole: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    tokenize_dataset(world.inputs(), out, world.settings())
    for name, value in {"episodes": "0:3", "shard_frames": 60}.items():
        with pytest.raises(SettingsError, match=rf"{name}: .* there, {value} now"):
            tokenize_dataset(world.inputs(), out, world.settings(**{name: value}))
    with pytest.raises(SettingsError, match="text_len: 250 there, 90 now"):
        tokenize_dataset(world.inputs(), out, world.settings(max_len=90))
    with pytest.raises(
        SettingsError, match=r"action_norm: quantiles \(openpi\) there, mean_std \(openpi\) now"
    ):
        tokenize_dataset(world.inputs(), out, world.settings(normalization="zscore", fast=world.fitted))
    with pytest.raises(SettingsError, match="family: pi0_fast there, pi05 now"):
        tokenize_dataset(world.inputs("pi05"), out, world.settings("pi05"))
    other = tmp_path / "other.model"
    other.write_bytes(world.text_model.read_bytes() + b"")
    tokenize_dataset(  # the same bytes by another name are the same
        type(world.inputs())(world.v3, other, world.fitted), out, world.settings()
    )
    with pytest.raises(SettingsError, match="fingerprint: "):
        tokenize_dataset(world.inputs(dataset=world.v21), out, world.settings())
    assert content(out) == whole


def test_foreign_directories_are_left_alone(world: World, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("...")
    with pytest.raises(SettingsError, match="is not empty and has no manifest"):
        tokenize_dataset(world.inputs(), tmp_path / "thesis", world.settings())
    assert content(tmp_path / "thesis") == {"chapter1.tex": b"..."}
    (tmp_path / "thesis" / FILE_NAME).write_text('{"versions": 3}')
    with pytest.raises(FormatError, match="is not a manifest of pioxide"):
        tokenize_dataset(world.inputs(), tmp_path / "thesis", world.settings())
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="File exists"):
        tokenize_dataset(world.inputs(), tmp_path / "file", world.settings())


def _tokenize(world: World, out: Path, start, results) -> None:
    start.wait(60)
    try:
        tokenize_dataset(world.inputs(), out, world.settings())
        results.put("done")
    except OutputError as error:
        results.put(str(error))


def test_two_runs_at_once_end_well(world: World, whole: dict[str, bytes], tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    start, results = context.Event(), context.Queue()
    out = tmp_path / "out"
    runs = [context.Process(target=_tokenize, args=(world, out, start, results)) for _ in range(2)]
    for run in runs:
        run.start()
    start.set()
    ends = {results.get(timeout=60) for _ in runs}
    for run in runs:
        run.join(60)
    # Either they overlapped and one was sent away, or the second found everything there.
    assert "done" in ends
    assert all(end == "done" or "another run is writing" in end for end in ends)
    assert content(out) == whole
