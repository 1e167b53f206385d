import errno
import hashlib
import multiprocessing
import os
from pathlib import Path

import pytest

from pioxide.errors import OutputError
from pioxide.files import atomic_file, locked, remove_temporary, write_json


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
