"""This machine's files with the few methods of fsspec that fetching uses: local sources need no extra."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote


def local_path(url: str) -> str:
    """Returns the path of a `file://` address, or a path as it is."""
    return unquote(url.removeprefix("file://")) if url.startswith("file://") else os.path.expanduser(url)


class LocalFiles:
    """What `pioxide.fetch.download` and `pioxide.weights` ask of a file system."""

    def info(self, path: str) -> dict[str, Any]:
        """Returns the size, kind and time of a file.

        Raises:
            OSError: there is none.
        """
        state = os.stat(path)
        kind = "directory" if os.path.isdir(path) else "file"
        return {"name": path, "size": state.st_size, "type": kind, "mtime": state.st_mtime_ns}

    def cat_file(self, path: str, start: int | None = None, end: int | None = None) -> bytes:
        """Returns a part of a file, as in fsspec."""
        with open(path, "rb") as file:
            file.seek(start or 0)
            return file.read() if end is None else file.read(end - (start or 0))

    def find(self, path: str, *, detail: bool = False) -> dict[str, dict[str, Any]]:
        """Returns every file below a directory, by its path."""
        del detail  # always
        if os.path.isfile(path):
            return {path: self.info(path)}
        return {str(file): self.info(str(file)) for file in sorted(Path(path).rglob("*")) if file.is_file()}
