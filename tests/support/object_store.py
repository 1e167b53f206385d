"""A real S3 server in a process of its own, on this machine: moto's."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

BUCKET = "robots"


@dataclass(frozen=True)
class ObjectStore:
    files: Any

    def content(self, address: str) -> dict[str, bytes]:
        """Every object below an address, with its bytes."""
        root = address.removeprefix("s3://") + "/"
        found = self.files.find(root, detail=False)
        return {name.removeprefix(root): self.files.cat_file(name) for name in found}

    def times(self, address: str) -> dict[str, Any]:
        root = address.removeprefix("s3://") + "/"
        found = self.files.find(root, detail=True)
        return {name.removeprefix(root): info["LastModified"] for name, info in found.items()}


@contextmanager
def object_store() -> Iterator[ObjectStore]:
    """Starts it, with an empty bucket, and has this process and its children use it."""
    import s3fs

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = [sys.executable, "-m", "moto.server", "-p", str(port)]
    quiet = subprocess.DEVNULL
    with (
        subprocess.Popen(arguments, stdout=quiet, stderr=quiet) as server,
        pytest.MonkeyPatch.context() as patch,
    ):
        try:
            settings = {
                "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
                "AWS_ACCESS_KEY_ID": "somebody",
                "AWS_SECRET_ACCESS_KEY": "something",
                "AWS_DEFAULT_REGION": "us-east-1",
                "NO_PROXY": "127.0.0.1",
            }
            for name, value in settings.items():
                patch.setenv(name, value)
            until = time.monotonic() + 60
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except OSError:
                    assert time.monotonic() < until
                    assert server.poll() is None
                    time.sleep(0.05)
            files = s3fs.S3FileSystem(use_listings_cache=False)
            files.mkdir(BUCKET)
            yield ObjectStore(files)
        finally:
            server.kill()
