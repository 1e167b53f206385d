"""A real S3 server in a process of its own, on this machine: moto's."""

import re
import subprocess
import sys
import threading
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

    # It takes a free port itself, and says which: one that was looked for here could be another's by then.
    arguments = [sys.executable, "-m", "moto.server", "-p", "0"]
    with (
        subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as server,
        pytest.MonkeyPatch.context() as patch,
    ):
        try:
            assert server.stderr is not None
            address = next(found[0] for line in server.stderr if (found := re.search(r"http://\S+", line)))
            # A server that nobody reads would wait for its reader.
            threading.Thread(target=server.stderr.read, daemon=True).start()
            settings = {
                "AWS_ENDPOINT_URL": address,
                "AWS_ACCESS_KEY_ID": "somebody",
                "AWS_SECRET_ACCESS_KEY": "something",
                "AWS_DEFAULT_REGION": "us-east-1",
                "NO_PROXY": "127.0.0.1",
            }
            for name, value in settings.items():
                patch.setenv(name, value)
            # Kept ones would ask the server before, which has ended.
            s3fs.S3FileSystem.clear_instance_cache()
            files = s3fs.S3FileSystem(use_listings_cache=False)
            files.mkdir(BUCKET)
            yield ObjectStore(files)
        finally:
            server.kill()
