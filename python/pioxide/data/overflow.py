"""Says of a coefficient without a FAST token where in the dataset it comes from, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pioxide.errors import OverflowingChunkError

_SAID = re.compile(r"chunk (\d+): (.*), dimension (\d+)(.*)", re.DOTALL)


def chunk_of(error: OverflowingChunkError) -> int | None:
    """Returns which chunk of a batch the codec's error is about, None where it doesn't say."""
    found = _SAID.match(str(error))
    return None if found is None else int(found[1])


def placed(
    error: OverflowingChunkError,
    place: tuple[int, int],
    joints: Sequence[str],
    way_out: str,
) -> OverflowingChunkError:
    """Returns the codec's error with episode, frame and joint in the place of chunk and dimension.

    Args:
        error: What encoding or fitting a batch of chunks raised.
        place: Episode and frame of the chunk, see `chunk_of`.
        joints: Names of the action dimensions.
        way_out: What a person can do besides.
    """
    found = _SAID.match(str(error))
    if found is None:
        return error
    episode, frame = place
    joint = joints[int(found[3])] if int(found[3]) < len(joints) else found[3]
    fault = f"{found[2]}{found[4]}"
    then = " " if fault.endswith("?") else "; "
    return OverflowingChunkError(
        f"episode {episode}, the chunk from frame {frame}, joint {joint}: {fault}{then}"
        f"`pioxide check` shows values far outside the others: {way_out}"
    )
