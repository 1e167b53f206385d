"""`pioxide merge`: one complete token directory of the parts that several machines made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from pioxide.cli.options import METAVARS, left_open


@dataclass(frozen=True)
class Merge:
    """Make one output of the parts of `pioxide tokenize --part`, with the bytes of a single run.

    Nothing that lies on one file system is copied, every shard is checked, and the parts stay as they are.
    Run again to go on after a stop.
    """

    parts: Annotated[
        tuple[Path, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="TOKENS [TOKENS ...]", help_behavior_hint=""),
    ]
    """Directories or addresses of parts: the one that all machines wrote to, or one a machine."""

    output: Annotated[
        Path | None,
        tyro.conf.arg(aliases=["-o"], metavar=METAVARS["output"], help_behavior_hint=""),
    ] = None
    """Where to; a single directory is completed where it is."""

    workers: Annotated[int | None, left_open("INT")] = None
    """Threads; one a core by default."""

    def __call__(self) -> int:
        """Merges, and prints what there is then."""
        from pioxide.cli import doubts, main, output, show
        from pioxide.cli.progress import BytesProgress
        from pioxide.contract import known, load_contract
        from pioxide.shards import merge

        with BytesProgress("merge") as progress:
            made = merge(self.parts, self.output, workers=self.workers, progress=progress)
        totals = made.manifest.totals
        output.current.result = {
            "output": str(made.path),
            "totals": totals,
            "skipped": [s.episode for s in made.manifest.skipped],
        }
        print(f"{made.path}: complete")
        ways = {"there already": made.found, "linked": made.linked, "copied": made.copied}
        said = ", ".join(f"{count:,} {how}" for how, count in ways.items() if count)
        show.facts(
            [
                ("rows", f"{totals['rows']:,} from {show.counted(totals['episodes'], 'episode')}"),
                ("shards", f"{len(made.manifest.shards):,}, {show.size(totals['bytes'])} ({said})"),
                ("rows cut", show.share(totals["truncated"], totals["rows"])),
            ]
        )
        contract = load_contract(made.path)
        if contract is not None:
            family, max_len = known(contract.family, "family"), known(contract.text_len, "text_len")
            doubts.cut_rows(
                str(made.path), family, max_len, totals["truncated"], totals["rows"], totals["longest"]
            )
        print(f"\nnext: pioxide inspect {made.path}")
        if made.manifest.skipped:
            doubts.left_out([(s.episode, s.reason) for s in made.manifest.skipped])
            return main.LEFT_OUT
        return main.OK
