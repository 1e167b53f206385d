"""Fetching: resumed, checked against what the store promises, and clear when it can't be done."""

import base64
import hashlib
import http.server
import importlib
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import numpy as np
import pytest

from pioxide.codec import FastCodec
from pioxide.errors import FetchError, InputError
from pioxide.fetch import ASSETS, cache_directory, download, fetch_asset, text_model
from support.text_model import write_text_model

fsspec = pytest.importorskip("fsspec", reason="fetching needs fsspec (pioxide[fetch])")

CONTENT = bytes(range(256)) * 40 + b"the end"
module = importlib.import_module("pioxide.fetch.download")


def no_sleep(_: float) -> None:
    pass


class Store(fsspec.AbstractFileSystem):
    """A remote store in memory, with promises about its files, and a line that can break."""

    protocol = "store"
    cachable = False
    content = CONTENT
    promises: ClassVar[dict[str, Any]] = {}
    fail_at: int | None = None  # the line breaks before this byte
    failures = 0
    asked: ClassVar[list[Any]] = []

    def info(self, path, **_):
        return {"name": path, "size": len(self.content), "type": "file", "etag": "1", **self.promises}

    def cat_file(self, path, start=None, end=None, **_):
        Store.asked.append((start, end))
        if Store.fail_at is not None and start >= Store.fail_at:
            Store.failures += 1
            raise ConnectionError("the line broke")
        return self.content[start:end]


@pytest.fixture(autouse=True)
def store(monkeypatch: pytest.MonkeyPatch):
    fsspec.register_implementation("store", Store, clobber=True)
    monkeypatch.setattr(module, "BLOCK_BYTES", 1000)
    Store.content, Store.promises, Store.fail_at, Store.failures, Store.asked = CONTENT, {}, None, 0, []
    return Store


def test_local_file_is_copied_and_recorded(tmp_path: Path) -> None:
    (tmp_path / "there.model").write_bytes(CONTENT)
    target = tmp_path / "here" / "a.model"
    got = download(str(tmp_path / "there.model"), target)
    assert target.read_bytes() == CONTENT
    assert (got.size, got.found) == (len(CONTENT), False)
    line = f"{hashlib.sha256(CONTENT).hexdigest()}  a.model\n"
    assert (tmp_path / "here" / "a.model.sha256").read_text() == line
    assert sorted(p.name for p in target.parent.iterdir()) == ["a.model", "a.model.sha256"]


def test_what_is_here_is_not_fetched_again_unless_it_was_damaged(tmp_path: Path, store) -> None:
    target = tmp_path / "a"
    download("store://a", target)
    store.asked.clear()
    assert download("store://a", target).found
    assert store.asked == []
    target.write_bytes(b"damaged")
    assert not download("store://a", target).found
    assert target.read_bytes() == CONTENT


def test_broken_line_is_tried_again_then_resumed(tmp_path: Path, store) -> None:
    target, waits = tmp_path / "a", []
    store.fail_at = 5000
    with pytest.raises(FetchError, match=r"the line broke\); 5,000 bytes are kept"):
        download("store://a", target, sleep=waits.append)
    assert (store.failures, waits) == (4, [0.5, 1.0, 2.0])
    assert not target.exists()

    store.fail_at, store.asked = None, []
    download("store://a", target)
    assert store.asked[0] == (5000, 6000)
    assert target.read_bytes() == CONTENT


def test_resume_starts_over_when_the_file_there_has_changed(tmp_path: Path, store) -> None:
    store.fail_at = 5000
    with pytest.raises(FetchError):
        download("store://a", tmp_path / "a", sleep=no_sleep)
    store.fail_at, store.asked = None, []
    store.content, store.promises = CONTENT[::-1], {"etag": "2"}
    download("store://a", tmp_path / "a")
    assert store.asked[0] == (0, 1000)
    assert (tmp_path / "a").read_bytes() == CONTENT[::-1]


def git_blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


PROMISES = {
    "google": (lambda c: {"md5Hash": base64.b64encode(hashlib.md5(c).digest()).decode()}, "md5"),
    "hugging face": (lambda c: {"blob_id": "x", "lfs": {"sha256": hashlib.sha256(c).hexdigest()}}, "sha256"),
    "git": (lambda c: {"blob_id": git_blob(c), "lfs": None}, "git"),
    "size": (lambda c: {"size": len(c)}, "size"),
}


@pytest.mark.parametrize("kind", PROMISES)
def test_promised_digest_is_checked(tmp_path: Path, store, kind: str) -> None:
    promise, name = PROMISES[kind]
    store.promises = promise(CONTENT)
    names = {"md5": "MD5", "sha256": "SHA-256", "git": "Git hash", "size": "size"}
    assert names[name] in download("store://a", tmp_path / "good").checked

    other = CONTENT[:-1] + b"!" if name != "size" else CONTENT + b"!"
    store.promises = promise(other)
    with pytest.raises(FetchError, match=name if name != "size" else "asked for bytes"):
        download("store://a", tmp_path / "bad", sleep=no_sleep)
    assert not (tmp_path / "bad").exists()
    store.promises = promise(CONTENT)
    assert download("store://a", tmp_path / "bad").size == len(CONTENT)


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT, with ranges or without, and notes what was asked for."""

    ranges = True
    length = True
    overloaded_at: int | None = None
    asked: ClassVar[list[Any]] = []

    def do_HEAD(self) -> None:
        self._head(200, len(CONTENT))

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        Handler.asked.append(asked)
        if asked and self.ranges:
            first, last = asked.removeprefix("bytes=").split("-")
            part = CONTENT[int(first) : int(last) + 1]
            if self.overloaded_at is not None and int(first) >= self.overloaded_at:
                self.send_error(503)
                return
            self._head(206, len(part), f"bytes {first}-{last}/{len(CONTENT)}")
        else:
            part = CONTENT
            self._head(200, len(part))
        self.wfile.write(part)

    def _head(self, status: int, length: int, content_range: str | None = None) -> None:
        self.send_response(status)
        if self.length:
            self.send_header("Content-Length", str(length))
        if self.ranges:
            self.send_header("Accept-Ranges", "bytes")
        if content_range:
            self.send_header("Content-Range", content_range)
        self.send_header("ETag", '"1"')
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    pytest.importorskip("aiohttp", reason="https:// needs aiohttp (pioxide[fetch])")
    Handler.ranges, Handler.length, Handler.overloaded_at, Handler.asked = True, True, None, []
    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=served.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{served.server_address[1]}"
    served.shutdown()
    served.server_close()


def test_http_comes_in_ranges_and_resumes(tmp_path: Path, server: str) -> None:
    Handler.overloaded_at = 3000
    with pytest.raises(FetchError, match="3,000 bytes are kept"):
        download(f"{server}/a", tmp_path / "a", sleep=no_sleep)
    Handler.overloaded_at, Handler.asked = None, []
    download(f"{server}/a", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert next(a for a in Handler.asked if a) == "bytes=3000-3999"


@pytest.mark.parametrize("length", [True, False])
def test_http_server_that_ignores_ranges(tmp_path: Path, server: str, length: bool) -> None:
    Handler.ranges, Handler.length = False, length
    download(f"{server}/a", tmp_path / "a", sleep=no_sleep)
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_no_network_is_said_at_once(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    with pytest.raises(FetchError, match=r"can't get http://127\.0\.0\.1:1/a \(.*[Cc]onnect"):
        download("http://127.0.0.1:1/a", tmp_path / "a", sleep=no_sleep)
    assert not (tmp_path / "a").exists()


def test_missing_file_and_directory(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"can't get .*nowhere"):
        download(str(tmp_path / "nowhere"), tmp_path / "a")
    (tmp_path / "folder").mkdir()
    with pytest.raises(FetchError, match="is a directory, expected a file"):
        download(str(tmp_path / "folder"), tmp_path / "a")


def test_unknown_scheme_and_missing_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FetchError, match="carrier"):
        download("carrier://pigeon", tmp_path / "a")

    def absent(name: str):
        raise ModuleNotFoundError(f"No module named '{name}'", name=name)

    monkeypatch.setattr(module.importlib, "import_module", absent)
    with pytest.raises(FetchError, match=r'pip install "pioxide\[fetch\]"'):
        download("store://a", tmp_path / "a")


def test_assets_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIOXIDE_CACHE", str(tmp_path / "cache"))
    assert cache_directory() == tmp_path / "cache"
    with pytest.raises(InputError, match="pioxide fetch paligemma"):
        text_model()
    own = write_text_model(tmp_path / "own.model")
    fetched = fetch_asset("paligemma", source=str(own))
    assert text_model() == fetched.files[0].path == tmp_path / "cache" / "paligemma_tokenizer.model"

    FastCodec.fit(np.random.default_rng(0).normal(size=(20, 4, 2))).save(tmp_path / "own")
    fetched = fetch_asset("fast", source=f"file://{tmp_path}/own/")
    assert {f.path.name for f in fetched.files} == set(ASSETS["fast"].files)
    FastCodec.load(fetched.directory)
    with pytest.raises(InputError, match="nothing called 'gemma'"):
        fetch_asset("gemma")
    with pytest.raises(FetchError, match=r"pioxide fetch fast --source PATH"):
        fetch_asset("fast", source=str(tmp_path / "elsewhere"), cache=tmp_path / "other")


def test_login_page_is_not_kept_for_a_model(tmp_path: Path) -> None:
    (tmp_path / "page").write_text("<html>please log in</html>")
    with pytest.raises(FetchError, match="page is not PaliGemma's text model"):
        fetch_asset("paligemma", source=str(tmp_path / "page"), cache=tmp_path / "cache")
    assert not (tmp_path / "cache" / "paligemma_tokenizer.model").exists()


def test_cache_follows_the_desktop_convention(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIOXIDE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache_directory() == Path("/x/pioxide")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_directory() == Path.home() / ".cache" / "pioxide"


def test_local_sources_need_no_fsspec(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    source = tmp_path / "a b%20c"
    FastCodec.fit(np.random.default_rng(0).normal(size=(20, 4, 2))).save(source)
    for number, address in enumerate([str(source), f"file://{quote(str(source))}"]):
        fetched = fetch_asset("fast", source=address, cache=tmp_path / f"cache{number}")
        for file in fetched.files:
            assert file.path.read_bytes() == (source / file.path.name).read_bytes()
    with pytest.raises(FetchError, match="No such file"):
        download(str(tmp_path / "nothing"), tmp_path / "x")
    with pytest.raises(FetchError, match="is a directory"):
        download(str(source), tmp_path / "x")
