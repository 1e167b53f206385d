"""Frames that nobody meant: real requests in every dialect, broken somehow, each known by its number."""

import random
from collections.abc import Callable
from typing import Any

import msgpack
import numpy as np

from pioxide.serve.messages import KEY
from pioxide.serve.wire import Dialect, encode, jpeg
from support.servers import DIM, seen

_ADDED = {"request": 7, "generation": 0, "inference_delay": 1, "age_ms": 1.5, "deadline_ms": 60_000.0}
_LEFT = {"left_over": np.ones((2, DIM)), "seed": 3, "limits": {"velocity": 2}}
_OBSERVATIONS: list[dict[str, Any]] = [
    seen(0.5),
    {**seen(0.5), "image": jpeg(np.full((8, 8, 3), 90, np.uint8))},
    {**seen(0.5), "state": np.full(DIM, 0.5, np.float32), KEY: _ADDED},
    {**seen(0.5), KEY: {**_ADDED, **_LEFT}},
]
GOOD = [encode(one, dialect) for dialect in Dialect for one in _OBSERVATIONS]
# Heads of MessagePack, lengths at their ends, and what stands in names and dtypes.
_BYTES = bytes(
    [
        0,
        1,
        0x7F,
        0x80,
        0x8F,
        0x90,
        0xA0,
        0xBF,
        0xC0,
        0xC1,
        0xC4,
        0xC6,
        0xC7,
        0xCB,
        0xD4,
        0xDB,
        0xDD,
        0xDF,
        0xFF,
    ]
)
_PIECES = [
    b"<f4",
    b"<f8",
    b"|O",
    b"<U9",
    b"nd",
    b"__ndarray__",
    b"__jpeg__",
    b"\xcb\x7f\xf8" + bytes(6),
    b"\xc6\xff\xff\xff\xff",
]


def frame(number: int) -> tuple[bytes | str, bool]:
    """Returns a frame, and whether it is one that must be answered with actions."""
    rng = random.Random(number)
    kind = rng.random()
    if kind < 0.03:
        return rng.choice(GOOD), True
    if kind < 0.10:
        return rng.randbytes(rng.randint(0, 300)), False
    if kind < 0.11:
        return rng.choice(["", "text", "Traceback"]), False
    if kind < 0.40:
        return _odd(rng), False
    message = bytearray(rng.choice(GOOD))
    for _ in range(rng.randint(1, 4)):
        rng.choice(_MUTATIONS)(message, rng)
    return bytes(message), False


def broken(message: bytes, number: int) -> bytes:
    """Returns a message with something changed."""
    rng = random.Random(number)
    changed = bytearray(message)
    for _ in range(rng.randint(1, 4)):
        rng.choice(_MUTATIONS)(changed, rng)
    return bytes(changed)


def _flip(message: bytearray, rng: random.Random) -> None:
    if message:
        message[rng.randrange(len(message))] ^= 1 << rng.randrange(8)


def _put(message: bytearray, rng: random.Random) -> None:
    if message:
        message[rng.randrange(len(message))] = rng.choice(_BYTES)


def _cut(message: bytearray, rng: random.Random) -> None:
    at = rng.randint(0, len(message))
    del message[at : at + rng.choice([1, 2, 8, 1 << 20])]


def _repeat(message: bytearray, rng: random.Random) -> None:
    at = rng.randint(0, len(message))
    message[at:at] = message[at : at + rng.randint(1, 64)]


def _insert(message: bytearray, rng: random.Random) -> None:
    at = rng.randint(0, len(message))
    message[at:at] = rng.choice(_PIECES)


def _replace(message: bytearray, rng: random.Random) -> None:
    at, piece = rng.randint(0, len(message)), rng.choice(_PIECES)
    message[at : at + len(piece)] = piece


def _splice(message: bytearray, rng: random.Random) -> None:
    other = rng.choice(GOOD)
    message[rng.randint(0, len(message)) :] = other[rng.randint(0, len(other)) :]


_MUTATIONS: list[Callable[[bytearray, random.Random], None]] = [
    _flip,
    _flip,
    _put,
    _cut,
    _repeat,
    _insert,
    _replace,
    _splice,
]


def _odd(rng: random.Random) -> bytes:
    """A message whose MessagePack is whole, and whose values are not what they should be."""
    observation = dict(rng.choice(_OBSERVATIONS))
    for _ in range(rng.randint(1, 2)):
        added = observation.get(KEY)
        if isinstance(added, dict) and rng.random() < 0.5:
            observation[KEY] = {**added, rng.choice([*_ADDED, *_LEFT, "colour"]): _value(rng)}
        else:
            observation[rng.choice([*observation, "else", KEY])] = _value(rng)
    if rng.random() < 0.1:
        observation.pop(rng.choice([*observation]))
    try:
        return encode(observation, rng.choice([*Dialect]))
    except Exception:
        return msgpack.packb(
            {"state": {b"__ndarray__": True, b"data": b"", b"dtype": "|O", b"shape": [rng.randint(-1, 3)]}}
        )  # type: ignore[return-value]


_KINDS = ["narrow", "wide", "whole", "text", "none", "list", "map", "bytes", "flag", "scalar", *["array"] * 3]
_DTYPES = ["u1", "i8", "f2", "f4", "f8", "?", "U4", ">f4", "u8", "c8"]


def _value(rng: random.Random) -> Any:
    """Anything that a message can hold, and some that it can't."""
    kind = rng.choice(_KINDS)
    if kind == "array":
        dtype = rng.choice(_DTYPES)
        shape = [rng.choice([0, 1, 2, 3, 4, 8]) for _ in range(rng.choice([0, 1, 1, 2, 3, 3, 9]))]
        if len(shape) == 9:  # what is refused for its axes need not be large
            shape = [min(size, 2) for size in shape]
        with np.errstate(all="ignore"):
            values = np.random.default_rng(rng.randrange(1 << 30)).normal(
                0, rng.choice([1, 1e3, 1e30]), shape
            )
            return values.astype(dtype)
    return {
        "narrow": rng.choice([0.0, -1.0, 1e308, float("nan"), float("inf"), 1e-320]),
        "wide": rng.choice([1 << 53, (1 << 64) - 1, -(1 << 63), 1 << 31]),
        "whole": rng.choice([-1, 0, 1, 2, 1000]),
        "text": rng.choice(["", " ", "lift it", "\0", "\u202e", "é" * 40, "x" * 5000]),
        "none": None,
        "list": [rng.choice([0, "a", None])] * rng.choice([0, 1, 50]),
        "map": {"state": {"state": rng.choice([1, "a"])}},
        "bytes": rng.randbytes(rng.randint(0, 20)),
        "flag": rng.random() < 0.5,
        "scalar": rng.choice([np.float32(1.5), np.int64(-3), np.bool_(True), np.float64(2.0), np.uint8(9)]),
    }[kind]
