"""What is doubtful about a result, said however quiet a command is."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from pioxide.cli import output
from pioxide.cli.show import counted, share
from pioxide.family import Family


def cut_rows(place: str, family: Family, max_len: int, cut: int, rows: int, longest: int) -> None:
    """Warns of rows that lost their end, where there are some.

    Args:
        place: The tokens.
        family: Of the model that they are for.
        max_len: Tokens that a row may have.
        cut: Rows that were cut.
        rows: All rows.
        longest: Tokens of the longest one before it was cut.
    """
    if not cut:
        return
    lost = "the actions in them are incomplete and don't decode"
    if family is not Family.PI0_FAST:
        lost = "the end of the prompt is missing"
    output.current.warning(
        "rows-cut",
        place,
        f"{share(cut, rows)} rows are longer than {max_len} tokens and were cut: {lost}. "
        f"--max-len {longest} holds them all (a new directory; train with that length too)",
    )


def left_out(episodes: Sequence[tuple[int, str]], limit: int = 10) -> None:
    """Says which episodes were left out, and why: beside the result, as a warning where none is shown."""
    for _, reason in episodes:
        output.current.event("warning", code="episode-left-out", place="", message=reason)
    where = sys.stderr if output.current.quiet and output.current.events is None else sys.stdout
    print(f"\nleft out {counted(len(episodes), 'episode')}:", file=where)
    for _, reason in episodes[:limit]:
        print(f"  {reason}", file=where)
    if len(episodes) > limit:
        print(f"  ... and {len(episodes) - limit:,} more", file=where)
