"""A checkpoint at gs://, s3:// or hf:// -> the same files in the cache, without its training state."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from pioxide.errors import CheckpointError, FetchError
from pioxide.fetch import cache_directory, download, open_filesystem
from pioxide.files import make_directory, read_json, write_json

# Written last, so that a checkpoint of which a part is still missing is not taken for whole.
COMPLETE = ".complete.json"
ENDINGS = (".safetensors", ".json", ".npz", ".model")
FOLDERS = ("params", "assets")
ORBAX = ("_METADATA", "manifest.ocdbt")


def bring(
    url: str,
    cache: Path | None = None,
    on_file: Callable[[str, int, int], None] = lambda name, done, total: None,
) -> Path:
    """Downloads a checkpoint, or what is missing of it.

    Args:
        url: Of a checkpoint's directory, of openpi's `params` in it, or of one file.
        cache: Where to; `$PIOXIDE_CACHE`, else `~/.cache/pioxide`.
        on_file: Told the name of each file before it is brought, how many are done and how many there are.

    Returns:
        The directory or file on this machine.

    Raises:
        FetchError: No network, no such address, or `pioxide[fetch]` is not installed.
        CheckpointError: There is no checkpoint.
    """
    url = url.rstrip("/")
    # openpi's users name the `params`; their statistics lie beside it.
    inner = "params" if url.endswith("/params") else ""
    root = url.removesuffix("/params") if inner else url
    target = (cache or cache_directory()) / "checkpoints" / _folder(root)
    if _complete(target):
        return target / inner if inner else target
    filesystem, start = open_filesystem(root)
    try:
        found: dict[str, Any] = filesystem.find(start, detail=True)
    except Exception as error:  # every store has its own kinds of network error
        raise FetchError(f"can't list {root} ({type(error).__name__}: {error})") from error
    if not found:
        raise FetchError(f"nothing is at {root}")
    if list(found) == [start]:
        return download(root, target).path
    sizes = {_relative(name, start): int(info.get("size") or 0) for name, info in found.items()}
    wanted = choose(sizes)
    if not wanted:
        some = ", ".join(sorted(sizes)[:5])
        raise CheckpointError(f"{root} is no checkpoint: it has no tensors to read, only {some}")
    make_directory(target)
    for i, name in enumerate(wanted):
        on_file(name, i, len(wanted))
        download(f"{root}/{name}", target / name)
    write_json(target / COMPLETE, {"from": root, "files": {name: sizes[name] for name in wanted}})
    return target / inner if inner else target


def choose(names: Iterable[str]) -> list[str]:
    """Returns those of a directory's files that belong to a checkpoint: no optimizer, nothing pickled.

    Args:
        names: Relative to the directory, with "/".
    """
    every = sorted(names)
    if any(name in ORBAX for name in every):
        return every
    wanted: list[str] = []
    for name in every:
        path = PurePosixPath(name)
        if path.parts[0] in FOLDERS or (len(path.parts) <= 3 and path.suffix in ENDINGS):
            wanted.append(name)
    tensors = any(n.endswith((".safetensors", ".npz")) or n.startswith("params/") for n in wanted)
    return wanted if tensors else []


def _complete(target: Path) -> bool:
    try:
        files = read_json(target / COMPLETE)["files"]
        return all((target / name).stat().st_size == size for name, size in files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _folder(url: str) -> Path:
    scheme, _, rest = url.partition("://")
    return Path(scheme, *_parts(rest, url))


def _relative(name: str, start: str) -> str:
    relative = name.removeprefix(start).lstrip("/")
    return "/".join(_parts(relative, name))


def _parts(path: str, whole: str) -> list[str]:
    parts = [part for part in path.split("/") if part]
    if not parts or any(part in (".", "..") or "\\" in part or ":" in part for part in parts):
        raise FetchError(f"{whole}: a name there would lie outside the cache")
    return parts
