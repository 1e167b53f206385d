"""What a program is compiled for, and which compiled program a call may use."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import NamedTuple

# Rows are padded to the next of these; a larger batch is answered in several calls.
BATCHES = (1, 2, 4, 8, 16, 32)
# Text is padded to the next of these, and not to the longest prompt that a model takes.
TEXTS = (16, 32, 48, 64, 96, 128, 200)


class Shape(NamedTuple):
    """The static sizes of one program.

    Attributes:
        batch: Rows.
        cameras: Cameras that are encoded, in the model's order.
        text: Ids of text a row.
    """

    batch: int
    cameras: tuple[str, ...]
    text: int

    def __str__(self) -> str:
        """Returns the shape in words."""
        rows = "1 row" if self.batch == 1 else f"{self.batch} rows"
        return f"{rows}, cameras {list(self.cameras)}, {self.text} ids of text"


def text_buckets(longest: int) -> tuple[int, ...]:
    """Returns the lengths that text is padded to, up to `longest`."""
    return (*(length for length in TEXTS if length < longest), longest)


def bucket(size: int, of: tuple[int, ...]) -> int:
    """Returns the smallest of the ascending sizes that holds `size`; the largest where none does."""
    return of[min(bisect_left(of, size), len(of) - 1)]


def best_compiled(
    wanted: Shape, compiled: Iterable[Shape], image_tokens: int, *, more_cameras: bool
) -> Shape | None:
    """Returns the compiled shape that answers a call at the least cost, or None.

    A longer text and more rows are padding. More cameras are masked, where the model gives the same answer
    then. Where no program has enough rows, the one with the most is called several times.

    Args:
        wanted: The call's own shape.
        compiled: What there is.
        image_tokens: Tokens that one camera's image becomes.
        more_cameras: Whether a masked camera changes nothing.
    """

    def serves(shape: Shape) -> bool:
        same = shape.cameras == wanted.cameras
        return shape.text >= wanted.text and (
            same or (more_cameras and set(wanted.cameras) <= set(shape.cameras))
        )

    def cost(shape: Shape) -> int:
        return shape.batch * (len(shape.cameras) * image_tokens + shape.text)

    fitting = [shape for shape in compiled if serves(shape)]
    whole = [shape for shape in fitting if shape.batch >= wanted.batch]
    if whole:
        return min(whole, key=cost)
    return max(fitting, key=lambda shape: (shape.batch, -cost(shape)), default=None)
