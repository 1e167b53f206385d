"""Parts of a job on several machines, merged: the bytes of one run, whatever was interrupted on the way."""

import errno
import json
import multiprocessing
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from pioxide import files
from pioxide.data import LeRobotDataset
from pioxide.errors import FormatError, InputError, OutputError, SettingsError
from pioxide.shards import Part, TokenDataset, merge, plan_job, run_job, run_part, tokenize_dataset
from support.interruptions import PowerCut, Script, full_disk
from support.jobs import World, content

pytest.importorskip("tyro")


@pytest.fixture(scope="module")
def whole(world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What an uninterrupted run leaves: four shards."""
    out = tmp_path_factory.mktemp("whole") / "out"
    tokenize_dataset(world.inputs(), out, world.settings())
    return content(out)


def make(world: World, out: Path, part: str, **changes) -> None:
    job = plan_job(world.inputs(dataset=changes.pop("dataset", None)), world.settings(**changes))
    run_part(job, out, Part.parse(part))


@pytest.mark.parametrize(
    "order", [["1/1"], ["2/2", "1/2"], ["3/3", "1/3", "2/3"], [f"{i}/7" for i in range(7, 0, -1)]]
)
def test_parts_in_one_directory_come_to_a_single_run(world, whole, tmp_path, order) -> None:
    out = tmp_path / "out"
    for part in order:
        make(world, out, part)
        with pytest.raises(FormatError, match="is not complete"):
            TokenDataset.open(out)
    merged = merge([out])
    assert (merged.found, merged.linked, merged.copied) == (4, 0, 0)
    assert content(out) == whole
    assert len(TokenDataset.open(out, verify=True)) == 148
    make(world, out, order[0])  # finds everything there
    merge([out])
    assert content(out) == whole


@pytest.mark.parametrize("parts", [2, 3, 7])
def test_parts_in_directories_of_their_own_are_linked(world, whole, tmp_path, parts) -> None:
    places = [tmp_path / f"p{i}" for i in range(parts)]
    for i, place in enumerate(places):
        make(world, place, f"{i + 1}/{parts}")
    before = [content(place) for place in places]
    merged = merge(places[::-1], tmp_path / "out")
    assert (merged.found, merged.linked, merged.copied) == (0, 4, 0)
    assert content(tmp_path / "out") == whole
    assert [content(place) for place in places] == before
    shard = "shards/shard-00000.parquet"
    assert (tmp_path / "out" / shard).samefile(places[0] / shard)
    assert merge(places, tmp_path / "out").found == 4
    for place in places:
        shutil.rmtree(place)
    assert content(tmp_path / "out") == whole
    # One of the parts may be the place itself.
    make(world, tmp_path / "a", "1/2")
    make(world, tmp_path / "b", "2/2")
    merge([tmp_path / "a", tmp_path / "b"], tmp_path / "b")
    assert content(tmp_path / "b") == whole


def test_another_file_system_is_copied_to_and_checked(world, whole, tmp_path, monkeypatch) -> None:
    make(world, tmp_path / "a", "1/2")
    make(world, tmp_path / "b", "2/2")

    def far(*_):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(files.os, "link", far)
    merged = merge([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    assert (merged.linked, merged.copied) == (0, 4)
    assert content(tmp_path / "out") == whole
    # A part that begins where there are no hard links.
    make(world, tmp_path / "c", "1/2")
    assert content(tmp_path / "c")["manifest.json"] == content(tmp_path / "a")["manifest.json"]


def test_tokenize_without_part_finishes_what_parts_began(world, whole, tmp_path) -> None:
    make(world, tmp_path / "out", "2/3")
    tokenize_dataset(world.inputs(), tmp_path / "out", world.settings())
    assert content(tmp_path / "out") == whole


def test_missing_parts_are_named_and_nothing_is_written(world, tmp_path) -> None:
    make(world, tmp_path / "a", "1/4")
    make(world, tmp_path / "a", "3/4")
    before = content(tmp_path / "a")
    with pytest.raises(FormatError, match=r"2 of 4 shards are missing .* --part .*: 2/4, 4/4$"):
        merge([tmp_path / "a"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(FormatError, match="2 of 4 shards are missing"):
        merge([tmp_path / "a"])
    assert content(tmp_path / "a") == before
    make(world, tmp_path / "b", "2/3")
    with pytest.raises(FormatError, match=r"1 of 4 .*: shard-00003\.parquet; make the parts"):
        merge([tmp_path / "a", tmp_path / "b"], tmp_path / "out")


def test_parts_of_something_else_are_refused_with_the_difference(world, tmp_path) -> None:
    make(world, tmp_path / "a", "1/2")
    others = {
        "limit: nothing there, 100 now": {"limit": 100},
        "text_len: 250 there, 90 now": {"max_len": 90},
        "fingerprint: ": {"dataset": world.v21},
    }
    for number, (said, changes) in enumerate(others.items()):
        other = tmp_path / f"other{number}"
        make(world, other, "2/2", **changes)
        with pytest.raises(SettingsError, match=f"no parts of one job(.|\n)*{said}"):
            merge([tmp_path / "a", other], tmp_path / "out")
        with pytest.raises(SettingsError, match=said):
            make(world, tmp_path / "a", "2/2", **changes)
        assert not (tmp_path / "out").exists()
    older = tmp_path / "older"
    make(world, older, "2/2")
    manifest = json.loads((older / "manifest.json").read_text())
    manifest["versions"]["pioxide"] = "0.0.9"
    (older / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(SettingsError, match=r"versions.pioxide: .* there, 0\.0\.9 now"):
        merge([tmp_path / "a", older], tmp_path / "out")


def test_what_is_no_part_is_refused(world, tmp_path) -> None:
    make(world, tmp_path / "a", "1/2")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("...")
    with pytest.raises(FormatError, match="thesis has no manifest"):
        merge([tmp_path / "a", tmp_path / "thesis"], tmp_path / "out")
    make(world, tmp_path / "a", "2/2")
    with pytest.raises(SettingsError, match="is not empty and has no manifest"):
        merge([tmp_path / "a"], tmp_path / "thesis")
    assert content(tmp_path / "thesis") == {"chapter1.tex": b"..."}
    with pytest.raises(InputError, match="nothing to merge"):
        merge([])
    with pytest.raises(InputError, match="say with -o"):
        merge([tmp_path / "a", tmp_path / "thesis"])
    for text in ("0/4", "5/4", "3", "a/b", "1/0", "-1/2", "١/٢"):
        with pytest.raises(InputError, match="part"):
            Part.parse(text)


def test_damaged_shard_is_named_or_taken_from_another_directory(world, whole, tmp_path) -> None:
    make(world, tmp_path / "a", "1/2")
    make(world, tmp_path / "b", "2/2")
    shard = tmp_path / "a" / "shards/shard-00002.parquet"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    with pytest.raises(FormatError, match=r"a/shards/shard-00002\.parquet: damaged"):
        merge([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    with pytest.raises(FormatError, match="is not complete"):
        TokenDataset.open(tmp_path / "out")
    make(world, tmp_path / "c", "3/4")
    merge([tmp_path / "a", tmp_path / "b", tmp_path / "c"], tmp_path / "out")
    assert content(tmp_path / "out") == whole
    make(world, tmp_path / "a", "1/2")  # repairs it
    merge([tmp_path / "a", tmp_path / "b"], tmp_path / "a")
    assert content(tmp_path / "a") == whole
    # In a complete directory a part repairs nothing behind the manifest's back.
    (tmp_path / "a" / "shards/shard-00001.parquet").unlink()
    with pytest.raises(OutputError, match=r"is complete, and shard-00001\.parquet .* without --part"):
        make(world, tmp_path / "a", "2/2")
    merge([tmp_path / "a", tmp_path / "b"], tmp_path / "a")
    assert content(tmp_path / "a") == whole


def test_one_shard_with_two_contents_is_refused(world, tmp_path) -> None:
    make(world, tmp_path / "a", "1/1")
    make(world, tmp_path / "b", "1/1")
    record = tmp_path / "b/.progress/shard-00001.parquet.json"
    value = json.loads((tmp_path / "a/.progress/shard-00001.parquet.json").read_text())
    record.write_text(json.dumps(value | {"sha256": "0" * 64}))
    with pytest.raises(FormatError, match="the same shard of the same job with different bytes"):
        merge([tmp_path / "a", tmp_path / "b"], tmp_path / "out")


def test_fast_tokenizer_or_contract_that_was_changed_is_not_merged(world, whole, tmp_path) -> None:
    make(world, tmp_path / "a", "1/2")
    make(world, tmp_path / "b", "2/2")
    (tmp_path / "a/fast/tokenizer.json").unlink()
    merge([tmp_path / "a", tmp_path / "b"], tmp_path / "out")  # from the other part
    assert content(tmp_path / "out") == whole
    (tmp_path / "b/fast/tokenizer.json").write_text("{}")
    with pytest.raises(FormatError, match=r"a/fast/tokenizer\.json can't be read"):
        merge([tmp_path / "a", tmp_path / "b"], tmp_path / "again")


def test_bad_episodes_of_parts_are_left_out_as_in_one_run(world, tmp_path, capsys) -> None:
    from pioxide.cli.main import main

    broken = tmp_path / "broken"
    shutil.copytree(world.v21, broken)
    file = LeRobotDataset.open(broken).episodes[4].file
    (broken / file).write_bytes(b"nothing")
    out = tmp_path / "out"
    arguments = [*world.command(out, broken), "--skip-bad"]
    ends = [main([*arguments, "--part", f"{i}/3"]) for i in (1, 2, 3)]
    assert sorted(ends) == [0, 0, 3]
    capsys.readouterr()
    assert main(["merge", str(out)]) == 3
    printed = capsys.readouterr().out
    assert "left out 1 episode:" in printed
    assert f"{out}: complete" in printed
    assert main([*world.command(tmp_path / "one", broken), "--skip-bad"]) == 3
    assert content(out) == content(tmp_path / "one")
    # A machine that could read what another could not.
    mended = tmp_path / "mended"
    job = plan_job(world.inputs(dataset=broken), world.settings())
    run_job(job, tmp_path / "bad", skip_bad=True)
    shutil.copytree(tmp_path / "bad", mended)
    assert merge([tmp_path / "bad", mended], tmp_path / "same").linked == 4


def test_manifest_does_not_depend_on_the_order_where_paths_differ(world, tmp_path) -> None:
    shutil.copytree(world.v3, tmp_path / "elsewhere" / "v3")
    make(world, tmp_path / "a", "1/2")
    make(world, tmp_path / "b", "2/2", dataset=tmp_path / "elsewhere" / "v3")
    for name, order in {"one": "ab", "two": "ba"}.items():
        merge([tmp_path / one for one in order], tmp_path / name)
    assert content(tmp_path / "one") == content(tmp_path / "two")


@pytest.mark.parametrize("failure", [PowerCut, full_disk])
def test_merge_that_ends_at_any_call_to_the_disk_goes_on(
    world, whole, tmp_path, failure: Callable[[], BaseException]
) -> None:
    places = [tmp_path / "a", tmp_path / "b"]
    for i, place in enumerate(places):
        make(world, place, f"{i + 1}/2")
    before = [content(place) for place in places]
    with pytest.MonkeyPatch.context() as patch:
        script = Script(patch, 0, PowerCut)
        merge(places, tmp_path / "counted", workers=1)
    assert script.calls > 30
    for fail_at in range(1, script.calls + 1):
        out = tmp_path / f"{fail_at}"
        with pytest.MonkeyPatch.context() as patch:
            Script(patch, fail_at, failure)
            # A directory that can't be made to last is no reason to stop.
            with suppress(PowerCut, OutputError):
                merge(places, out, workers=1)
        left = content(out) if out.exists() else {}
        assert all(whole[name] == data for name, data in left.items() if name.startswith("shards/shard"))
        if whole.keys() - left.keys():
            with pytest.raises(FormatError):
                TokenDataset.open(out)
        assert [content(place) for place in places] == before
        merge(places, out)
        assert content(out) == whole, fail_at


@pytest.mark.parametrize("failure", [PowerCut, full_disk])
def test_part_that_ends_at_any_call_to_the_disk_goes_on(
    world, tmp_path, failure: Callable[[], BaseException]
) -> None:
    small = {"episodes": "0:3", "shard_frames": 45}  # two shards
    tokenize_dataset(world.inputs(), tmp_path / "whole", world.settings(**small))
    whole = content(tmp_path / "whole")
    job = plan_job(world.inputs(), world.settings(**small))
    with pytest.MonkeyPatch.context() as patch:
        script = Script(patch, 0, PowerCut)
        run_part(job, tmp_path / "counted", Part(1, 2), workers=1)
    for fail_at in range(1, script.calls + 1):
        out = tmp_path / f"{fail_at}"
        with pytest.MonkeyPatch.context() as patch:
            Script(patch, fail_at, failure)
            # A directory that can't be made to last is no reason to stop.
            with suppress(PowerCut, OutputError):
                run_part(job, out, Part(1, 2), workers=1)
        run_part(job, out, Part(2, 2))
        run_part(job, out, Part(1, 2))
        merge([out])
        assert content(out) == whole, fail_at


# In a process of its own: some shard stops half-way, says so, and waits for the signal.
CHILD = """
import sys, time
from pathlib import Path
from pioxide.cli.main import main
from pioxide.shards import merge as function, shard
merging = sys.modules["pioxide.shards.merge"]

def wait(seconds, on_frames=lambda frames: None):
    print("here", flush=True)
    for _ in range(seconds * 10):
        time.sleep(0.1)
        on_frames(0)

real = shard.ShardMaker.write
def write(self, task, file, **options):
    if task.number == 2:
        file.write(b"half")
        wait(60, options["on_frames"])
    return real(self, task, file, **options)

shard.ShardMaker.write = write
bring = merging._bring
def waiting(places, target):
    if places[0][1].file == "shard-00002.parquet":
        wait(3)
    return bring(places, target)

merging._bring = waiting
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def held() -> Iterator[Callable[[list[str]], subprocess.Popen]]:
    """Starts a command that waits in the middle."""
    children: list[subprocess.Popen] = []

    def start(arguments: list[str]) -> subprocess.Popen:
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        children.append(child)
        assert child.stdout is not None
        assert child.stdout.readline() == "here\n"
        return child

    yield start
    for child in children:
        child.kill()
        child.communicate()


def test_killed_part_goes_on_and_meanwhile_others_work(world, whole, tmp_path, held) -> None:
    out = tmp_path / "out"
    child = held([*world.command(out), "--part", "1/2"])  # shards 0 and 2
    with pytest.raises(OutputError, match=rf"another run is making part 1/2 in .* \(process {child.pid} on "):
        make(world, out, "1/2")
    with pytest.raises(OutputError, match="another run is writing"):
        tokenize_dataset(world.inputs(), out, world.settings())
    with pytest.raises(OutputError, match="another run is writing"):
        merge([out], tmp_path / "early")
    make(world, out, "2/2")  # leaves the half-written shard of the other alone
    assert len(list(out.glob("shards/.shard-00002.parquet.*.tmp"))) == 1
    child.kill()
    child.wait(60)
    with pytest.raises(FormatError, match=r"1 of 4 shards are missing .*: 1/2$"):
        merge([out])
    make(world, out, "1/2")
    assert not list(out.glob("shards/.*"))
    merge([out])
    assert content(out) == whole


def test_interrupted_part_says_what_is_kept(world, tmp_path, held) -> None:
    child = held([*world.command(tmp_path / "out"), "--part", "1/2"])
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "interrupted; 1 of 2 shards are finished and kept" in errors


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killed_merge_loses_nothing_and_goes_on(world, whole, tmp_path, held, number) -> None:
    places = [tmp_path / "a", tmp_path / "b"]
    for i, place in enumerate(places):
        make(world, place, f"{i + 1}/2")
    before = [content(place) for place in places]
    out = tmp_path / "out"
    child = held(["merge", *map(str, places), "-o", str(out), "--workers", "1"])
    with pytest.raises(OutputError, match="another run is writing"):
        merge(places, out)
    child.send_signal(number)
    child.communicate(timeout=60)
    assert child.returncode == (-9 if number == signal.SIGKILL else 143)
    with pytest.raises(FormatError, match="is not complete"):
        TokenDataset.open(out)
    assert [content(place) for place in places] == before
    merged = merge(places, out)
    # Who is asked to end ends the shard that it is at.
    assert merged.found == (2 if number == signal.SIGKILL else 3)
    assert content(out) == whole


def _part(world: World, out: Path, part: str, limit: int | None, start, results) -> None:
    start.wait(60)
    try:
        make(world, out, part, limit=limit)
        results.put("done")
    except (OutputError, SettingsError) as error:
        results.put(str(error))


def at_once(world: World, out: Path, jobs: list[tuple[str, int | None]]) -> list[str]:
    context = multiprocessing.get_context("spawn")
    start, results = context.Event(), context.Queue()
    runs = [context.Process(target=_part, args=(world, out, *job, start, results)) for job in jobs]
    for run in runs:
        run.start()
    start.set()
    ends = [results.get(timeout=60) for _ in runs]
    for run in runs:
        run.join(60)
    return ends


def test_parts_at_once_in_one_directory(world, whole, tmp_path) -> None:
    out = tmp_path / "out"
    assert at_once(world, out, [("1/3", None), ("2/3", None), ("3/3", None)]) == ["done"] * 3
    merge([out])
    assert content(out) == whole


def test_of_two_jobs_that_begin_at_once_one_is_sent_away(world, tmp_path) -> None:
    ends = at_once(world, tmp_path / "out", [("1/2", None), ("1/2", 100), ("2/2", 90)])
    assert ends.count("done") == 1
    assert all("limit: " in end or "is making part" in end for end in ends if end != "done")


def test_first_of_two_manifests_stays(tmp_path, monkeypatch) -> None:
    file = tmp_path / "file"
    assert files.write_new_text(file, "one")
    assert not files.write_new_text(file, "two")
    assert content(tmp_path) == {"file": b"one"}


def test_commands_of_a_job_in_parts(world, whole, tmp_path, capsys) -> None:
    from pioxide.cli.main import main

    out = tmp_path / "out"
    assert main([*world.command(out), "--part", "2/2", "--dry-run"]) == 0
    assert "part 2/2  " in capsys.readouterr().out
    assert main([*world.command(out), "--part", "2/2"]) == 0
    printed = capsys.readouterr().out
    assert f"{out}: part 2/2 complete (" in printed
    assert "shards here          2 of 4" in printed
    assert f"pioxide merge {out}" in printed
    assert main(["merge", str(out)]) == 2
    assert "run `pioxide tokenize` with --part for what is not finished: 1/2" in capsys.readouterr().err
    assert main([*world.command(out), "--part", "1/2"]) == 0
    assert main([*world.command(out), "--part", "9/9"]) == 0
    assert "there are only 4 shards" in capsys.readouterr().out
    assert main(["merge", str(out)]) == 0
    assert "4, " in capsys.readouterr().out
    assert content(out) == whole
    assert main([*world.command(out), "--part", "3/2"]) == 2
    assert "numbered from 1/2" in capsys.readouterr().err
