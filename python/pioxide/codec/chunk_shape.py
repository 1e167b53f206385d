"""The shape of a chunk that is decoded: what a call says, else what the codec's files carry."""

from __future__ import annotations

from typing import Protocol

from pioxide.errors import InputError


class _Shaped(Protocol):
    @property
    def horizon(self) -> int | None: ...

    @property
    def dim(self) -> int | None: ...


def chunk_shape(codec: _Shaped, horizon: int | None, dim: int | None) -> tuple[int, int]:
    """Returns the actions and the numbers an action of a chunk.

    Raises:
        InputError: Neither the call nor the codec's files say one of them.
    """
    horizon = codec.horizon if horizon is None else horizon
    dim = codec.dim if dim is None else dim
    if horizon is None or dim is None:
        what = " and ".join(n for n, value in (("horizon", horizon), ("dim", dim)) if value is None)
        raise InputError(f"{what}: the codec's files carry none; say how large the chunk is")
    return horizon, dim
