"""What can be fetched by name, where it comes from and where it goes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pioxide.codec import FastCodec, TextTokenizer
from pioxide.errors import FetchError, FormatError, InputError
from pioxide.fetch.download import Downloaded, OnBytes, download


@dataclass(frozen=True)
class Asset:
    """Something that pioxide uses and does not ship.

    Attributes:
        title: for people.
        source: the file, or the folder that holds `files`.
        load: opens what was fetched; raises FormatError where it is something else.
        folder: under the cache; empty for the cache itself.
        files: their names here, and under a folder there.
    """

    title: str
    source: str
    folder: str
    files: tuple[str, ...]
    load: Callable[[Path], object]


ASSETS = {
    "paligemma": Asset(
        "PaliGemma's text model",
        "gs://big_vision/paligemma_tokenizer.model",
        "",
        ("paligemma_tokenizer.model",),
        lambda directory: TextTokenizer.load(directory / "paligemma_tokenizer.model"),
    ),
    "fast": Asset(
        "FAST+, the published universal action tokenizer",
        "hf://physical-intelligence/fast",
        "fast",
        ("tokenizer.json", "processor_config.json", "tokenizer_config.json", "special_tokens_map.json"),
        FastCodec.load,
    ),
}


@dataclass(frozen=True)
class Fetched:
    """An asset that is here now: its directory and its files."""

    directory: Path
    files: tuple[Downloaded, ...]


def cache_directory() -> Path:
    """Returns `$PIOXIDE_CACHE`, else `$XDG_CACHE_HOME/pioxide`, else `~/.cache/pioxide`."""
    if own := os.environ.get("PIOXIDE_CACHE"):
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "pioxide"


def fetch_asset(
    name: str, *, source: str | None = None, cache: Path | None = None, on_bytes: OnBytes | None = None
) -> Fetched:
    """Brings an asset to the cache; what is there and unchanged is left as it is.

    Args:
        name: of `ASSETS`.
        source: where from, in place of its own: a file for an asset of one file, else a folder.
        cache: where to; `cache_directory()` by default.
        on_bytes: told of bytes brought, file after file.

    Raises:
        InputError: no such asset.
        FetchError: it can't be brought, and how to do without a network; or it is not what it should be.
        OutputError: the cache can't be written.
    """
    if name not in ASSETS:
        raise InputError(f"nothing called {name!r} can be fetched; there is {', '.join(ASSETS)}")
    asset = ASSETS[name]
    directory = (cache or cache_directory()) / asset.folder
    start = (source or asset.source).rstrip("/")
    urls = [start] if len(asset.files) == 1 else [f"{start}/{file}" for file in asset.files]
    try:
        got = [
            download(url, directory / file, on_bytes=on_bytes)
            for url, file in zip(urls, asset.files, strict=True)
        ]
    except FetchError as error:
        raise FetchError(
            f"{error}\nwithout a network: bring it here by other means, then "
            f"`pioxide fetch {name} --source PATH`"
        ) from error
    try:
        asset.load(directory)
    except FormatError as error:
        # A login page, say. It must not lie in the cache under this name.
        for file in got:
            file.path.unlink()
        raise FetchError(f"{start} is not {asset.title}: {error}") from error
    return Fetched(directory, tuple(got))


def text_model() -> Path:
    """PaliGemma's text model in the cache.

    Raises:
        InputError: it has not been fetched; says what to do.
    """
    path = cache_directory() / ASSETS["paligemma"].files[0]
    if not path.is_file():
        raise InputError(
            "no text model: `pioxide fetch paligemma` downloads PaliGemma's (4 MB) once, "
            "or pass a SentencePiece .model with --text-model, in training --data.text-model"
        )
    return path
