"""Says of a coefficient without a FAST token where in the dataset it comes from, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from pioxide.errors import OverflowingChunkError


def placed(
    error: OverflowingChunkError,
    frame_of: Callable[[int], tuple[int, int]],
    joints: Sequence[str],
    way_out: str,
) -> OverflowingChunkError:
    """Returns the codec's error with episode, frame and joint in the place of chunk and dimension.

    Args:
        error: What encoding or fitting a batch of chunks raised.
        frame_of: Episode and frame of a chunk of that batch.
        joints: Names of the action dimensions.
        way_out: What a person can do besides.
    """
    found = re.match(r"chunk (\d+): (.*), dimension (\d+)(.*)", str(error), re.DOTALL)
    if found is None:
        return error
    episode, frame = frame_of(int(found[1]))
    joint = joints[int(found[3])] if int(found[3]) < len(joints) else found[3]
    fault = f"{found[2]}{found[4]}"
    then = " " if fault.endswith("?") else "; "
    return OverflowingChunkError(
        f"episode {episode}, the chunk from frame {frame}, joint {joint}: {fault}{then}"
        f"`pioxide check` shows values far outside the others: {way_out}"
    )
