"""Small servers of ours that answer as Google Cloud Storage and the Hugging Face Hub document that they do.

They know what gcsfs and huggingface_hub ask for to read, list, write and make objects once, and nothing of
accounts, limits or faults of the real ones.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import pytest


@dataclass
class Fake:
    """What a server holds.

    Attributes:
        objects: Name, from the bucket or the repository on, to content.
        served: Names whose content was asked for, in order.
        address: Of the server.
    """

    objects: dict[str, bytes] = field(default_factory=dict)
    served: list[str] = field(default_factory=list)
    address: str = ""

    def below(self, prefix: str) -> dict[str, bytes]:
        return {
            name.removeprefix(prefix): data for name, data in self.objects.items() if name.startswith(prefix)
        }


@contextmanager
def google() -> Iterator[Fake]:
    """Google Cloud Storage with any bucket; gcsfs in this process asks it."""
    import gcsfs

    with _serving(_Google) as fake, pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", fake.address)
        patch.setenv("NO_PROXY", "127.0.0.1")
        with suppress(ImportError):  # newer ones ask by gRPC what kind of bucket it is: a plain one
            from gcsfs.extended_gcsfs import BucketType, ExtendedGcsFileSystem

            async def plain(_self: object, _bucket: str) -> object:
                return BucketType.NON_HIERARCHICAL

            patch.setattr(ExtendedGcsFileSystem, "_get_bucket_type", plain)
        gcsfs.GCSFileSystem.clear_instance_cache()
        yield fake
        gcsfs.GCSFileSystem.clear_instance_cache()


@contextmanager
def hub() -> Iterator[Fake]:
    """The Hugging Face Hub with any data sets, of which `main` is all there is."""
    from huggingface_hub import HfFileSystem, constants

    with _serving(_Hub) as fake, pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "ENDPOINT", fake.address)  # HF_ENDPOINT, read when it was imported
        patch.setenv("NO_PROXY", "127.0.0.1")
        template = fake.address + "/{repo_id}/resolve/{revision}/{filename}"
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        HfFileSystem.clear_instance_cache()
        yield fake
        HfFileSystem.clear_instance_cache()


@contextmanager
def _serving(kind: type[_Handler]) -> Iterator[Fake]:
    fake = Fake()
    handler = type(kind.__name__, (kind,), {"fake": fake})
    with _Server(("127.0.0.1", 0), handler) as server:
        fake.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield fake
        finally:
            server.shutdown()
            thread.join(10)


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Says nothing of clients that leave."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fake: Fake

    def log_message(self, format: str, *args: object) -> None:
        pass

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def say(self, value: object, status: int = 200) -> None:
        self.send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    @property
    def asked(self) -> tuple[str, dict[str, str]]:
        url = urlsplit(self.path)
        return unquote(url.path), {name: values[0] for name, values in parse_qs(url.query).items()}


class _Google(_Handler):
    lock = threading.Lock()

    def do_GET(self) -> None:
        path, options = self.asked
        found = re.fullmatch(r"(?:/download)?/storage/v1/b/([^/]+)(?:/o(?:/(.+))?)?", path)
        assert found, path
        bucket, name = found.groups()
        if name is None and not path.endswith("/o"):
            self.say({"kind": "storage#bucket", "name": bucket})
        elif name is None:
            self.say(self._listed(bucket, options.get("prefix", ""), options.get("delimiter")))
        elif f"{bucket}/{name}" not in self.fake.objects:
            self.say({"error": {"code": 404, "message": "No such object"}}, 404)
        elif options.get("alt") == "media":
            self.fake.served.append(f"{bucket}/{name}")
            self.send(200, self.fake.objects[f"{bucket}/{name}"])
        else:
            self.say(self._object(bucket, name))

    def do_POST(self) -> None:
        path, options = self.asked
        found = re.fullmatch(r"/upload/storage/v1/b/([^/]+)/o", path)
        assert found, path
        assert options["uploadType"] == "multipart"
        _, head, rest = self.body().split(b"--==0==", 2)
        name = json.loads(head.split(b"\n\n", 1)[1])["name"]
        content = rest.split(b"\n\n", 1)[1].removesuffix(b"\n--==0==--")
        with self.lock:
            if options.get("ifGenerationMatch") == "0" and f"{found[1]}/{name}" in self.fake.objects:
                self.say({"error": {"code": 412, "message": "conditionNotMet"}}, 412)
                return
            self.fake.objects[f"{found[1]}/{name}"] = content
        self.say(self._object(found[1], name))

    def do_DELETE(self) -> None:
        found = re.fullmatch(r"/storage/v1/b/([^/]+)/o/(.+)", self.asked[0])
        assert found, self.path
        gone = self.fake.objects.pop("/".join(found.groups()), None)
        self.send(404 if gone is None else 204, b"")

    def _object(self, bucket: str, name: str) -> dict[str, str]:
        content = self.fake.objects[f"{bucket}/{name}"]
        digest = base64.b64encode(hashlib.md5(content).digest()).decode()
        about = {
            "bucket": bucket,
            "name": name,
            "size": str(len(content)),
            "md5Hash": digest,
            "generation": "1",
        }
        return {"kind": "storage#object", "timeCreated": TIME, "updated": TIME, "etag": digest, **about}

    def _listed(self, bucket: str, prefix: str, delimiter: str | None) -> dict[str, object]:
        items, folders = [], set()
        for name in sorted(self.fake.below(f"{bucket}/")):
            if not name.startswith(prefix):
                continue
            folder, there, _ = name.removeprefix(prefix).partition("/")
            if delimiter == "/" and there:
                folders.add(f"{prefix}{folder}/")
            else:
                items.append(self._object(bucket, name))
        return {"kind": "storage#objects", "items": items, "prefixes": sorted(folders)}


TIME = "2026-01-01T00:00:00.000Z"


class _Hub(_Handler):
    def do_GET(self) -> None:
        path, options = self.asked
        if found := re.fullmatch(r"/datasets/([^/]+/[^/]+)/resolve/main/(.+)", path):
            content = self.fake.objects.get("/".join(found.groups()))
            if content is None:
                self._absent("EntryNotFound")
                return
            if self.command == "GET":
                self.fake.served.append("/".join(found.groups()))
            self.send(200, content, {"ETag": f'"{_oid(content)}"', "X-Repo-Commit": COMMIT})
            return
        found = re.fullmatch(r"/api/datasets/([^/]+/[^/]+)(?:/(revision|tree)/main(?:/(.+))?)?", path)
        if not found:  # what is asked besides: who is there, with what
            self._absent("EntryNotFound")
            return
        files = self.fake.below(f"{found[1]}/")
        if not files:
            self._absent("RepoNotFound")
        elif found[2] == "tree":
            self.say(self._tree(files, found[3] or "", options.get("recursive", "").lower() == "true"))
        else:
            self.say({"id": found[1], "sha": COMMIT, "private": False, "tags": [], "siblings": []})

    do_HEAD = do_GET

    def do_POST(self) -> None:
        found = re.fullmatch(r"/api/datasets/([^/]+/[^/]+)/paths-info/main", self.asked[0])
        assert found, self.path
        body = self.body()
        asked = json.loads(body)["paths"] if body.startswith(b"{") else parse_qs(body.decode())["paths"]
        every = self._tree(self.fake.below(f"{found[1]}/"), "", True)
        self.say([entry for entry in every if entry["path"] in asked])

    def _tree(self, files: dict[str, bytes], folder: str, recursive: bool) -> list[dict[str, object]]:
        entries: dict[str, dict[str, object]] = {}
        for name, content in sorted(files.items()):
            parts = name.split("/")
            for depth in range(1, len(parts)):
                path = "/".join(parts[:depth])
                entries[path] = {"type": "directory", "path": path, "oid": _oid(path.encode()), "size": 0}
            entries[name] = {"type": "file", "path": name, "oid": _oid(content), "size": len(content)}
        inside = f"{folder}/" if folder else ""
        return [
            entry
            for path, entry in entries.items()
            if path.startswith(inside)
            and path != folder
            and (recursive or "/" not in path.removeprefix(inside))
        ]

    def _absent(self, code: str) -> None:
        self.send(404, b'{"error": "not found"}', {"X-Error-Code": code})


COMMIT = "0" * 40


def _oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
