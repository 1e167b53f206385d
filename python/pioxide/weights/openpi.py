"""openpi's own checkpoints: an Orbax PyTree on disk, read and written tensor by tensor through TensorStore.

On disk an Orbax tree is one OCDBT key-value store of zarr arrays, named by their path joined with dots,
beside a JSON file `_METADATA` that says which arrays there are. JAX is not needed.
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pioxide.errors import CheckpointError
from pioxide.files import parse_json, read_json, write_json
from pioxide.weights.documents import is_object, read_object
from pioxide.weights.tree import BFLOAT16, BLOCK_BYTES, Array, Spec, Tree

OUTER, LEAF = "params", "value"
# What TensorStore may hold and do at a time; its cache would only keep chunks that are read once.
CONTEXT = {
    "cache_pool": {"total_bytes_limit": 0},
    "data_copy_concurrency": {"limit": 4},
    "file_io_concurrency": {"limit": 4},
}
LONGEST_HEADER = 1 << 20


class OrbaxTree(Tree):
    """An Orbax PyTree directory (`<step>/params` of an openpi checkpoint).

    The outer key "params", and the trailing "value" that trees saved during training have on every path, are
    left out of the paths.

    Args:
        directory: Holds `_METADATA` and either `manifest.ocdbt` or one folder an array.

    Raises:
        CheckpointError: It is no Orbax tree, or its metadata is damaged.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__(str(directory), {})
        self.directory = directory
        self.context = _tensorstore().Context(CONTEXT)
        self.metadata = read_object(directory / "_METADATA")
        self.ocdbt = (directory / "manifest.ocdbt").is_file()
        headers = self._headers()
        names = _paths(headers)
        self.arrays: dict[str, str] = {}
        self.chunks: dict[str, tuple[int, ...]] = {}
        self.zarr3: dict[str, bool] = {}
        for key, (header, zarr3) in headers.items():
            path = names[key]
            if path in self.arrays:
                raise CheckpointError(f"{directory}: {self.arrays[path]!r} and {key!r} are both {path!r}")
            try:
                spec, chunks = _header(header, zarr3)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise CheckpointError(
                    f"{directory}: {key}: its zarr header makes no sense: {error}"
                ) from error
            self.specs[path], self.arrays[path] = spec, key
            self.chunks[path], self.zarr3[path] = chunks, zarr3
        self._check_listed(set(headers))

    def fill(self, path: str, out: Array, start: int = 0) -> None:
        """Reads rows; TensorStore decodes a chunk and converts it straight into `out`."""
        try:
            source = self._open(path)
            if out.ndim:
                source = source[start : start + len(out)].translate_to[0]
            target = _tensorstore().array(out)
            target.write(source.astype(target.dtype)).result()
        except (ValueError, OSError, KeyError) as error:
            raise CheckpointError(f"{self.where}: {path} can't be read: {_first_line(error)}") from error

    def blocks(self, path: str) -> Iterator[tuple[int, int]]:
        """Yields whole chunks, as a chunk is decoded at once, and again for each further part of its rows."""
        spec = self.specs[path]
        if not spec.shape:
            yield 0, 1
            return
        chunk = max(1, self.chunks[path][0])
        rows = max(1, BLOCK_BYTES * spec.shape[0] // max(spec.nbytes, 1))
        rows = max(chunk, rows // chunk * chunk)
        for start in range(0, spec.shape[0], rows):
            yield start, min(start + rows, spec.shape[0])

    def _base(self, key: str) -> dict[str, Any]:
        root = _place(self.directory)
        if self.ocdbt:
            return {"driver": "ocdbt", "base": root, "path": f"{key}/"}
        return {"driver": "file", "path": f"{root['path']}{key}/"}

    def _open(self, path: str) -> Any:
        zarr3 = self.zarr3[path]
        spec: dict[str, Any] = {
            "driver": "zarr3" if zarr3 else "zarr",
            "kvstore": self._base(self.arrays[path]),
        }
        # A chunk that is not there would read as zeros: right only where all-zero chunks were left out.
        if self.metadata.get("store_array_data_equal_to_fill_value"):
            spec["fill_missing_data_reads"] = False
        return _tensorstore().open(spec, open=True, read=True, context=self.context).result()

    def _headers(self) -> dict[str, tuple[Any, bool]]:
        endings = {"/.zarray": False, "/zarr.json": True}
        found: dict[str, tuple[Any, bool]] = {}
        try:
            if not self.ocdbt:
                for folder in sorted(p for p in self.directory.iterdir() if p.is_dir()):
                    for ending, zarr3 in endings.items():
                        file = folder / ending[1:]
                        if file.is_file() and file.stat().st_size < LONGEST_HEADER:
                            found[folder.name] = (read_json(file), zarr3)
                return found
            base = {"driver": "ocdbt", "base": _place(self.directory)}
            store = _tensorstore().KvStore.open(base, context=self.context).result()
            for raw in store.list().result():
                name = raw.decode()
                for ending, zarr3 in endings.items():
                    if name.endswith(ending):
                        value = store.read(raw).result().value
                        found[name.removesuffix(ending)] = (parse_json(value, name), zarr3)
        except (ValueError, OSError) as error:
            raise CheckpointError(f"{self.where} is damaged: {_first_line(error)}") from error
        return found

    def _check_listed(self, keys: set[str]) -> None:
        listed: object = self.metadata.get("tree_metadata")
        if not is_object(listed):
            return
        for value in listed.values():
            try:
                key = ".".join(str(part["key"]) for part in value["key_metadata"])
            except (KeyError, TypeError) as error:
                raise CheckpointError(f"{self.where}/_METADATA makes no sense: {error}") from error
            described: object = value.get("value_metadata")
            kind: object = described.get("value_type") if is_object(described) else None
            if key not in keys and kind not in ("None", "Dict"):
                self.problems.missing.append(f"{key} (listed in _METADATA, its data is not there)")


def is_orbax(directory: Path) -> bool:
    """Returns whether a directory is an Orbax tree."""
    return (directory / "_METADATA").is_file() or (directory / "manifest.ocdbt").is_file()


def write_openpi(
    tree: Tree,
    directory: Path,
    dtype: np.dtype[Any] | None = None,
    chunk_bytes: int = BLOCK_BYTES,
    on_bytes: Callable[[str, int], None] = lambda path, count: None,
) -> None:
    """Writes a tree as openpi has it: `directory` becomes what openpi calls `<step>/params`.

    Stacked tensors are stored a few layers a chunk, so that neither writing nor reading one needs it whole.

    Args:
        tree: Where the values come from.
        directory: Made; must not exist.
        dtype: To store; each tensor's own by default.
        chunk_bytes: Largest chunk.
        on_bytes: Told what was written.

    Raises:
        OSError: It can't be written.
    """
    ts = _tensorstore()
    directory.mkdir(parents=True)
    context = ts.Context(CONTEXT)
    keys = {path: ".".join((OUTER, *path.split("/"))) for path in tree.specs}
    began = time.time_ns()
    for path, spec in tree.specs.items():
        stored = dtype or spec.dtype
        blocks = list(tree.blocks(path))
        chunks = _chunk(spec, stored, blocks, chunk_bytes)
        array = _written(
            ts.open(_zarr(directory, keys[path], spec, stored, chunks), create=True, context=context)
        )
        for start, stop in blocks:
            block = np.empty((stop - start, *spec.shape[1:]) if spec.shape else (), stored)
            tree.fill(path, block, start)
            target = array[start:stop] if spec.shape else array
            _written(target.write(block))
            on_bytes(path, block.size * spec.dtype.itemsize)
    write_json(directory / "_METADATA", _described(keys))
    stamps = {"init_timestamp_nsecs": began, "commit_timestamp_nsecs": time.time_ns()}
    handler = "orbax.checkpoint._src.handlers.pytree_checkpoint_handler.PyTreeCheckpointHandler"
    write_json(
        directory / "_CHECKPOINT_METADATA",
        {
            "item_handlers": handler,
            "metrics": {},
            "performance_metrics": {},
            **stamps,
            "custom_metadata": {},
        },
    )


def _zarr(directory: Path, key: str, spec: Spec, stored: np.dtype[Any], chunks: list[int]) -> dict[str, Any]:
    """Returns what TensorStore makes an array of a tree by."""
    return {
        "driver": "zarr",
        "kvstore": {"driver": "ocdbt", "base": _place(directory), "path": f"{key}/"},
        "metadata": {
            "zarr_format": 2,
            "shape": list(spec.shape),
            "chunks": chunks,
            "dtype": "bfloat16" if stored == BFLOAT16 else stored.newbyteorder("<").str,
            "compressor": {"id": "zstd", "level": 1},
            "fill_value": None,
            "order": "C",
            "filters": None,
            "dimension_separator": ".",
        },
    }


def _place(directory: Path) -> dict[str, str]:
    """Returns a directory as TensorStore takes it, and no address: "%", "#" and "?" mean nothing here."""
    path = str(directory.resolve())
    plain = os.sep == "\\" or "\\" not in path
    if not plain or path != path.encode(errors="replace").decode():
        raise CheckpointError(f"{path!r}: TensorStore opens no path with a backslash or that is not UTF-8")
    return {"driver": "file", "path": f"{path}/"}


def _written(future: Any) -> Any:
    """Returns what a future of TensorStore gives, or the operating system's error behind TensorStore's."""
    try:
        return future.result()
    except ValueError as error:
        code = re.search(r"os_error_code='(\d+)'", str(error))
        if code is None:
            raise OSError(errno.EIO, _first_line(error)) from error
        raise OSError(int(code[1]), os.strerror(int(code[1]))) from error
    except BaseException:
        future.exception()  # waits: files would go on appearing where the caller cleans up
        raise


def _described(keys: dict[str, str]) -> dict[str, Any]:
    """Returns the content of `_METADATA`."""
    tree = {}
    for path in keys:
        parts = (OUTER, *path.split("/"))
        tree[str(parts)] = {
            "key_metadata": [{"key": part, "key_type": 2} for part in parts],
            "value_metadata": {"value_type": "np.ndarray", "skip_deserialize": False},
        }
    return {
        "tree_metadata": tree,
        "use_ocdbt": True,
        "use_zarr3": False,
        "store_array_data_equal_to_fill_value": True,
        "custom_metadata": None,
    }


def _chunk(spec: Spec, stored: np.dtype[Any], blocks: list[tuple[int, int]], chunk_bytes: int) -> list[int]:
    """Returns the chunk shape: whole rows, as many as fit, dividing what is written at a time."""
    if not spec.shape:
        return []
    written = blocks[0][1] - blocks[0][0] if blocks else 1
    row = max(spec.size // max(spec.shape[0], 1) * stored.itemsize, 1)
    rows = max(1, min(chunk_bytes // row, written))
    if len(blocks) > 1 and written % rows:
        rows = written
    return [max(rows, 1), *(max(n, 1) for n in spec.shape[1:])]


def _tensorstore() -> Any:
    """Returns TensorStore's module, whose stubs leave most of its options without a type."""
    import tensorstore

    return tensorstore


def _paths(keys: Any) -> dict[str, str]:
    """Returns openpi paths by array key."""
    parts = {key: key.split(".") for key in keys}
    if parts and all(p[0] == OUTER and len(p) > 1 for p in parts.values()):
        parts = {key: p[1:] for key, p in parts.items()}
    if parts and all(p[-1] == LEAF and len(p) > 1 for p in parts.values()):
        parts = {key: p[:-1] for key, p in parts.items()}
    return {key: "/".join(p) for key, p in parts.items()}


def _header(header: Any, zarr3: bool) -> tuple[Spec, tuple[int, ...]]:
    shape = tuple(header["shape"])
    if not all(isinstance(n, int) and 0 <= n < 1 << 40 for n in shape):
        raise ValueError(f"shape {shape}")
    name = header["data_type"] if zarr3 else header["dtype"]
    chunks = header["chunk_grid"]["configuration"]["chunk_shape"] if zarr3 else header["chunks"]
    if len(chunks) != len(shape) or not all(isinstance(n, int) and n > 0 for n in chunks):
        raise ValueError(f"chunks {chunks}")
    if not isinstance(name, str):
        raise ValueError(f"dtype {name}")
    dtype = BFLOAT16 if name == "bfloat16" else np.dtype(name).newbyteorder("=")
    if dtype.kind not in "fiub" and dtype != BFLOAT16:
        raise ValueError(f"dtype {name}")
    return Spec(shape, dtype), tuple(chunks)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
