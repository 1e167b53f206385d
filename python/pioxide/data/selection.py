"""Which episodes of a dataset: as a person writes it, and some held out for validation."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import NamedTuple

from pioxide.errors import InputError


def select_episodes(selection: str, available: Sequence[int]) -> list[int]:
    """Episode numbers from text such as "0:10,15": ranges without their end, and single numbers.

    Args:
        selection: comma-separated; "a:b", "a:", ":b" or "a". Empty selects all.
        available: the dataset's episode numbers.

    Returns:
        The chosen numbers in the order of `available`, each once.

    Raises:
        InputError: a part can't be read, or names no episode of the dataset.
    """
    if not selection.strip():
        return list(available)
    chosen: set[int] = set()
    for part in (p.strip() for p in selection.split(",")):
        match = re.fullmatch(r"(\d*):(\d*)|(\d+)", part)
        if match is None:
            raise InputError(f'episodes {selection!r}: {part!r} is not a number or a range such as "0:10"')
        start, stop, single = match.groups()
        if single is not None:
            found = {int(single)} & set(available)
        else:
            found = {i for i in available if int(start or 0) <= i and (not stop or i < int(stop))}
        if not found:
            has = f"{min(available)} to {max(available)}" if available else "none"
            raise InputError(
                f"episodes {selection!r}: {part!r} names no episode of this dataset, which has {has}"
            )
        chosen |= found
    return [i for i in available if i in chosen]


class Split(NamedTuple):
    """Episodes to learn from, and those to be judged by.

    Attributes:
        train: Numbers, rising.
        held_out: Numbers, rising.
    """

    train: list[int]
    held_out: list[int]


def split_episodes(episodes: Sequence[int], share: float, *, seed: int = 0) -> Split:
    """Holds a share of the episodes out. Whole episodes: neighbouring frames are nearly the same.

    An episode's side depends on its number and the seed alone, in so far as episodes that are recorded later
    move few of the others.

    Args:
        episodes: Their numbers.
        share: Of them to hold out, from 0 up to, not including, 1; above 0 it is at least one episode.
        seed: Another seed holds out others.

    Raises:
        InputError: The share is none, or nothing is left to learn from.
    """
    if not 0.0 <= share < 1.0:
        raise InputError(f"a share of {share:g} to hold out: expected from 0 up to, not including, 1")
    chosen = sorted(set(episodes))
    count = 0 if share == 0.0 else max(1, round(share * len(chosen)))
    if count >= len(chosen):
        raise InputError(f"{len(chosen)} episodes, {count} of them held out: none is left to learn from")
    ranked = sorted(chosen, key=lambda index: hashlib.sha256(f"{seed} {index}".encode()).digest())
    held_out = set(ranked[:count])
    return Split([index for index in chosen if index not in held_out], sorted(held_out))
