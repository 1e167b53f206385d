"""`pioxide inspect`: what the output of `tokenize` or `fit` is worth, in the terminal and as a page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import FlagCreatePairsOff

from pioxide.cli.options import METAVARS, left_open


@dataclass(frozen=True)
class Inspect:
    """Look at tokens or a fitted tokenizer: tables here, pictures in one HTML page that works offline."""

    directory: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="TOKENS|FITTED")]
    """Output of `pioxide tokenize`, at an address (s3://, gs://, hf://) too, or of `pioxide fit`."""

    dataset: Annotated[Path | None, left_open(METAVARS["dataset"])] = None
    """The dataset it was made from, where it has moved since."""

    output: Annotated[
        Path | None, tyro.conf.arg(aliases=["-o"], metavar="FILE.html", help_behavior_hint="")
    ] = None
    """Where to write the page; report.html in the directory by default."""

    max_chunks: int = 20_000
    """Chunks to decode and compare; from a larger dataset every n-th frame is taken."""

    worst: int = 6
    """How many of the worst chunks to draw."""

    strict: FlagCreatePairsOff[bool] = False
    """End with status 4 where there are warnings."""

    def __call__(self) -> int:
        """Measure, print, write the page."""
        from pioxide.cli import main, show
        from pioxide.cli.progress import working
        from pioxide.errors import InputError
        from pioxide.files import as_address
        from pioxide.report import Level, findings, inspect_directory, print_report, write_page

        if self.output is None and as_address(self.directory):
            raise InputError("say with -o where the page goes: a file here")
        with working("inspect"):
            report = inspect_directory(
                self.directory, dataset=self.dataset, max_chunks=self.max_chunks, worst=self.worst
            )
        page = self.output or self.directory / "report.html"
        write_page(report, page)
        print_report(report, show.console())
        print(f"page: {page}")
        warned = any(finding.level is Level.WARNING for finding in findings(report))
        return main.FOUND if self.strict and warned else main.OK
