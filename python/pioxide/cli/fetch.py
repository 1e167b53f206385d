"""`pioxide fetch`: brings the text model and the published FAST tokenizer to this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from pioxide.cli.options import METAVARS, left_open


@dataclass(frozen=True)
class Fetch:
    """Download PaliGemma's text model and the published FAST tokenizer to a cache, checked."""

    what: Annotated[
        tuple[Literal["paligemma", "fast"], ...],
        tyro.conf.Positional,
        left_open("[{paligemma,fast} ...]"),
    ] = ("paligemma", "fast")
    """What to bring: paligemma (the text model), fast (the published action tokenizer), or both, as by
    default."""

    source: Annotated[str | None, left_open("URL")] = None
    """Where from instead: a path or URL (gs://, hf://, s3://, https://). Name one thing to bring."""

    cache: Annotated[Path | None, left_open(METAVARS["output"])] = None
    """Where to; $PIOXIDE_CACHE, else ~/.cache/pioxide."""

    def __call__(self) -> int:
        """Bring what is missing, and print where it is."""
        from pioxide.cli import main, output
        from pioxide.cli.progress import BytesProgress
        from pioxide.errors import InputError
        from pioxide.fetch import ASSETS, fetch_asset

        if self.source is not None and len(self.what) != 1:
            raise InputError(
                "--source says where one thing comes from: name it, as in `pioxide fetch paligemma`"
            )
        files: list[str] = []
        output.current.result = {"files": files}
        for name in dict.fromkeys(self.what):
            output.current.stage(ASSETS[name].title)
            with BytesProgress(name) as progress:
                fetched = fetch_asset(name, source=self.source, cache=self.cache, on_bytes=progress)
            files += [str(file.path) for file in fetched.files]
            for file in fetched.files:
                state = "was here" if file.found else file.checked
                print(f"  {file.path}  {file.size:,} bytes, sha256 {file.sha256[:16]}…, {state}")
        return main.OK
