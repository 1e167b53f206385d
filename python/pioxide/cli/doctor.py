"""`pioxide doctor`: whether a checkpoint, a robot, a dataset and tokens mean the same numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro
from tyro.conf import FlagCreatePairsOff

from pioxide.cli.options import METAVARS, derived, taken
from pioxide.report.doctor import Request


@derived(Request, without=["checkpoint"])
@dataclass(frozen=True, kw_only=True)
class Doctor:
    """Say what a checkpoint's numbers mean, and whether a robot, a dataset and tokens mean the same.

    Ends with 0 where nothing is wrong, 3 where there are problems, with --strict 4 where there are warnings,
    and 2 where something can't be opened at all.
    """

    checkpoint: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar=METAVARS["contract"])]
    """A checkpoint, a directory made by `pioxide fit` or `tokenize`, or a contract.json."""

    json: FlagCreatePairsOff[bool] = False
    """Print one JSON document and no tables."""

    strict: FlagCreatePairsOff[bool] = False
    """End with status 4 where there are warnings."""

    def __call__(self) -> int:
        """Examines, prints, and says by the exit status how it went."""
        from pioxide.cli import main, show
        from pioxide.cli.progress import working
        from pioxide.files import json_text
        from pioxide.report.doctor import Severity, examine, print_examination

        with working("doctor"):
            examination = examine(taken(self, Request, checkpoint=self.checkpoint))
        if self.json:
            print(json_text(examination.as_json()), end="")
        else:
            print_examination(examination, show.console())
        if examination.worst is Severity.PROBLEM:
            return main.LEFT_OUT
        return main.FOUND if self.strict and examination.worst is Severity.WARNING else main.OK
