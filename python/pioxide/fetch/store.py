"""An object store by its address (`s3://`, `gs://`): whole objects listed, read, written, and made once."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pioxide.errors import InputError, OutputError
from pioxide.files import as_address

# Stores that make an object only where there is none when they are asked to: that keeps two runs apart where
# there is neither rename nor lock. Others (hf:// has a commit for each file) are not written to.
WRITABLE = ("s3", "s3a", "gs", "gcs")
# Requests at a time.
AT_ONCE = 16


class Store:
    """What lies below an address. An object appears whole or not at all, and needs no directory.

    Picklable. Accounts, regions and endpoints are those of the store's own settings
    (`AWS_ENDPOINT_URL`, `~/.aws`, `GOOGLE_APPLICATION_CREDENTIALS`, fsspec's configuration).

    Attributes:
        address: Without a slash at its end.
    """

    def __init__(self, address: str) -> None:
        """Connects to nothing yet.

        Raises:
            InputError: The address is of another kind, or its package is not installed.
        """
        self.address = as_address(address).rstrip("/")
        protocol = self.address.partition("://")[0].lower()
        if protocol not in WRITABLE:
            can = ", ".join(f"{one}://" for one in WRITABLE)
            raise InputError(
                f"{address}: nothing is written to such an address, only to {can} and to directories here"
            )
        try:
            fsspec: Any = importlib.import_module("fsspec")
            # What others write meanwhile is to be seen.
            self._files, self._path = fsspec.core.url_to_fs(self.address, use_listings_cache=False)
        except ImportError as error:
            raise InputError(f'{address}: {error}; pip install "pioxide[fetch]"') from error

    def sizes(self) -> dict[str, int]:
        """Returns all that is there: names relative to the address, with their bytes.

        Raises:
            OutputError: The store can't be asked, or there is no such bucket.
        """
        with self._saying("read"):
            found = self._files.find(self._path, detail=True)
        return {name.removeprefix(f"{self._path}/"): info["size"] for name, info in found.items()}

    def read(self, names: Iterable[str]) -> dict[str, bytes]:
        """Returns whole objects; those that have gone are left out.

        Raises:
            OutputError: The store can't be asked.
        """

        def one(name: str) -> bytes | None:
            with suppress(FileNotFoundError):
                return self._files.cat_file(f"{self._path}/{name}")
            return None

        # One by one: what takes lists takes "*" and "[" in names for patterns.
        names = list(names)
        with self._saying("read"), ThreadPoolExecutor(AT_ONCE) as pool:
            found = dict(zip(names, pool.map(one, names), strict=True))
        return {name: content for name, content in found.items() if content is not None}

    def write(self, name: str, content: bytes) -> None:
        """Writes an object, in the place of one that is there.

        Raises:
            OutputError: It can't be done.
        """
        with self._saying("write"):
            self._files.pipe_file(f"{self._path}/{name}", content)

    def upload(self, file: Path, name: str) -> None:
        """Writes a file's content as an object, in the place of one that is there.

        Raises:
            OutputError: It can't be done.
        """
        with self._saying("write"):
            self._files.put_file(str(file), f"{self._path}/{name}")

    def create(self, name: str, content: bytes) -> bool:
        """Writes an object where there is none: of several who try at once one wins.

        Returns:
            Whether this call wrote it.

        Raises:
            OutputError: It can't be done.
        """
        with self._saying("write"):
            try:
                self._files.pipe_file(f"{self._path}/{name}", content, mode="create")
            except FileExistsError:
                return False
        return True

    def remove(self, names: Iterable[str]) -> None:
        """Removes objects; those that have gone already are no matter.

        Raises:
            OutputError: It can't be done.
        """

        def one(name: str) -> None:
            with suppress(FileNotFoundError):
                self._files.rm_file(f"{self._path}/{name}")

        with self._saying("remove"), ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(one, names))

    @contextmanager
    def _saying(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # every store has its own kinds
            line = (str(error).strip().splitlines() or [""])[0]
            raise OutputError(f"can't {what} {self.address}: {type(error).__name__}: {line}") from error
