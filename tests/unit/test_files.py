import errno
import gc
import hashlib
import multiprocessing
import os
import re
import traceback
from pathlib import Path

import pytest

import pioxide
from pioxide.errors import FormatError, OutputError
from pioxide.files import (
    atomic_file,
    locked,
    make_directory,
    new_directory,
    parse_json,
    read_bytes,
    read_json,
    read_text,
    remove_temporary,
    write_json,
)

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def test_file_appears_with_its_digest(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "a.bin") as file:
        file.write(b"abc")
        file.write(memoryview(b"def"))
        assert not (tmp_path / "a.bin").exists()
    assert (tmp_path / "a.bin").read_bytes() == b"abcdef"
    assert (file.size, file.sha256) == (6, hashlib.sha256(b"abcdef").hexdigest())
    assert os.listdir(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_nothing_is_left_when_the_body_raises(tmp_path: Path, error: type[BaseException]) -> None:
    (tmp_path / "a.bin").write_bytes(b"old")

    def write() -> None:
        with atomic_file(tmp_path / "a.bin") as file:
            file.write(b"new")
            raise error

    with pytest.raises(error):
        write()
    assert (tmp_path / "a.bin").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_full_disk_is_said_in_a_sentence(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match=r"no space left for .*a\.bin; free some"),
        atomic_file(tmp_path / "a.bin"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert os.listdir(tmp_path) == []


def test_directory_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "d").write_text("")
    with pytest.raises(OutputError, match="Not a directory"):
        write_json(tmp_path / "d" / "a.json", {})


def test_json_is_the_same_every_time(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": [1, 2.5], "ä": None})
    first = (tmp_path / "a.json").read_bytes()
    write_json(tmp_path / "a.json", {"b": [1, 2.5], "ä": None})
    assert (tmp_path / "a.json").read_bytes() == first
    assert "ä" in first.decode()


def test_temporary_files_of_a_killed_run_go(tmp_path: Path) -> None:
    (tmp_path / ".a.bin.tmp").write_text("half")
    (tmp_path / "kept.tmp").write_text("not ours")
    remove_temporary(tmp_path)
    assert os.listdir(tmp_path) == ["kept.tmp"]


def _hold(directory: Path, ready, release) -> None:
    with locked(directory):
        ready.set()
        release.wait(30)


def test_second_run_is_refused_and_a_dead_one_is_not_waited_for(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, release = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(tmp_path, ready, release))
    holder.start()
    try:
        assert ready.wait(30)
        with pytest.raises(OutputError, match="another run is writing"), locked(tmp_path):
            pass
    finally:
        holder.kill()
        holder.join()
    with locked(tmp_path):
        pass


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"{", r"is not JSON \(Expecting"),
        (b"[1, 2] 3", r"is not JSON \(Extra data"),
        (b'{"a": "\xe4"}', r"is not UTF-8 text \(byte 0xe4 at 7\)"),
        ("[1]".encode("utf-16"), r"is not UTF-8 text \(byte 0xff at 0\)"),
        (b"[" * 100_000, "is JSON nested too deeply"),
        (b'{"a":' * 100_000, "is JSON nested too deeply"),
        (b"9" * 10_000, r"is not JSON \(Exceeds the limit"),
        (b'{"a": {"b": 1, "c": 2, "b": 3}}', r"is not JSON \(the key 'b' is there twice"),
        (LFS, "is a Git LFS pointer, not the file itself; `git lfs pull`"),
        (b"\n<!DOCTYPE html>\n<html>", "is a web page"),
        (b"<html lang=en>", "is a web page"),
    ],
)
def test_what_is_no_json_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(FormatError, match=rf"^{re.escape(str(tmp_path))}/a\.json: {reason}") as caught:
        read_json(tmp_path / "a.json")
    assert str(caught.value) == f"{tmp_path}/a.json: {caught.value.reason}"
    assert "\n" not in str(caught.value)


def test_json_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(tmp_path / "a.json") == {"a": 1}
    assert read_text(tmp_path / "a.json") == '{"a": 1}'


def test_json_that_is_text_already_is_read_too() -> None:
    assert parse_json('{"a": [1, null]}', "here") == {"a": [1, None]}
    with pytest.raises(FormatError, match=r"^here: is not JSON"):
        parse_json("nothing", "here")


def test_only_a_regular_file_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, reason in [
        ("pipe", "can't be read .not a regular file."),  # and not waited for
        (".", "can't be read .Is a directory."),
        ("absent", "no such file"),
        ("a\0b", "is no name of a file"),
    ]:
        with pytest.raises(FormatError, match=reason):
            read_bytes(tmp_path / name)


def test_a_name_that_is_no_utf8_survives_json(tmp_path: Path) -> None:
    name = os.fsdecode(b"robot-\xe4\xff")
    write_json(tmp_path / "a.json", {"path": name, "title": "π"})
    assert read_json(tmp_path / "a.json") == {"path": name, "title": "π"}
    assert "π" in (tmp_path / "a.json").read_bytes().decode()


def test_nothing_but_a_file_is_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match="no regular file"), atomic_file(tmp_path / "pipe"):
        pass
    assert os.listdir(tmp_path) == ["pipe"]


@pytest.mark.parametrize("path", ["gs://bucket/T", Path("gs://bucket/T"), Path("hf://datasets/a"), "S3://b"])
def test_address_is_no_place_to_write_to(tmp_path: Path, path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    sentence = r"^can't write \w+://\w+.*: is an address.*copy it here"
    with pytest.raises(OutputError, match=sentence):
        make_directory(Path(path))
    with pytest.raises(OutputError, match=sentence), atomic_file(Path(path)):
        pass
    with pytest.raises(OutputError, match=sentence), new_directory(Path(path)):
        pass
    with pytest.raises(FormatError, match="is an address"):
        read_bytes(Path(path))
    assert os.listdir(tmp_path) == []


def test_two_writers_of_one_file_do_not_mix(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "a") as first, atomic_file(tmp_path / "a") as second:
        first.write(b"first, and longer")
        second.write(b"second")
    assert (tmp_path / "a").read_bytes() == b"first, and longer"
    assert os.listdir(tmp_path) == ["a"]


def test_longest_name_can_be_written(tmp_path: Path) -> None:
    name = "ä" * 127
    write_json(tmp_path / name, 1)
    with new_directory(tmp_path / f"d{name}") as directory:
        (directory / "x").touch()
    assert sorted(os.listdir(tmp_path)) == sorted([name, f"d{name}"])


def test_directory_appears_when_all_is_in_it(tmp_path: Path) -> None:
    (tmp_path / ".d.partial" / "sub").mkdir(parents=True)
    (tmp_path / ".d.partial" / "sub" / "old").touch()  # a killed run's
    (tmp_path / ".d.partial" / "link").symlink_to(tmp_path)
    with new_directory(tmp_path / "d") as directory:
        (directory / "x").touch()
        assert not (tmp_path / "d").exists()
    assert os.listdir(tmp_path) == ["d"]
    assert os.listdir(tmp_path / "d") == ["x"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_directory_vanishes_when_the_body_raises(tmp_path: Path, error: type[BaseException]) -> None:
    def write() -> None:
        with new_directory(tmp_path / "d") as directory:
            (directory / "x").touch()
            raise error

    with pytest.raises(error):
        write()
    assert os.listdir(tmp_path) == []


def test_directory_is_not_laid_over_another(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "x").touch()
    with pytest.raises(OutputError, match="d: Directory not empty"), new_directory(tmp_path / "d"):
        pass
    assert os.listdir(tmp_path) == ["d"]
    with (
        pytest.raises(OutputError, match="another run"),
        new_directory(tmp_path / "e"),
        new_directory(tmp_path / "e"),
    ):
        pass


def test_no_other_module_reads_json_or_gives_files_their_names() -> None:
    """Each has been written several times before, and not the same way."""
    ways = re.compile(r"json\.loads?\b|json\.dump\b|os\.(replace|rename)\b|tempfile\.|\.write_(text|bytes)\(")
    root = Path(pioxide.__file__).parent
    found = [
        f"{path.relative_to(root)}:{number}: {line.strip()}"
        for path in root.rglob("*.py")
        if path.name != "files.py" and path.parent.name != "hub"  # which transformers runs without us
        # A codec writes a directory, and Orbax asks for its files' content.
        if path.relative_to(root).as_posix() != "train/checkpoints.py"
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if ways.search(line)
    ]
    assert found == []


def test_a_writer_that_was_left_open_runs_into_no_error_when_it_is_collected(tmp_path, monkeypatch):
    """Arrow would make a text of the error with Python, which inside `ast.parse` is a SystemError."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    formatted = []
    monkeypatch.setattr(traceback, "format_exception", lambda *_, **__: formatted.append(1) or [])
    table = pa.table({"a": [1]})
    writers = []

    def interrupted() -> None:
        with atomic_file(tmp_path / "shard") as file:
            writers.append(pq.ParquetWriter(file, table.schema))
            writers[0].write_table(table)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    writers.clear()
    gc.collect()
    assert formatted == []
    assert list(tmp_path.iterdir()) == []
