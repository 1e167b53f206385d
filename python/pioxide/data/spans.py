"""Spans of frames, as files of subtasks and of advantages name them."""

from __future__ import annotations

from collections.abc import Mapping

from pioxide.errors import InputError


def frames_of(
    place: str, lengths: Mapping[int, int], episode: int, start: int = 0, stop: int | None = None
) -> tuple[int, int]:
    """Returns where a span begins and ends, by default a whole episode.

    Args:
        place: What messages call the span.
        lengths: Frames by episode.
        episode: The span's.
        start: Its first frame.
        stop: One behind its last.

    Raises:
        InputError: There is no such episode, or no such frames in it.
    """
    if episode not in lengths:
        raise InputError(f"{place}: the dataset has no episode {episode}")
    length = lengths[episode]
    stop = length if stop is None else stop
    if not 0 <= start < stop <= length:
        raise InputError(
            f"{place}: expected 0 <= from < to <= {length}, the frames of episode {episode}, got {start} to "
            f"{stop}"
        )
    return start, stop
