"""Bytes to values and back: MessagePack with NumPy arrays, as openpi's clients speak it, within fixed limits.

Everything that a sender controls is measured before anything is allocated for it, and nothing is unpickled.
Three ways to write an array are in use; a sender is answered in its own.
"""

from __future__ import annotations

import enum
import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeGuard

import msgpack
import numpy as np
from numpy.typing import NDArray

from pioxide.errors import InputError, WireError

_ARRAY_DTYPE = re.compile(r"[<>|=]?(?:\?|b1|[iu][1248]|f[248]|U\d{1,5})")
_MAX_DIMS = 8


class Dialect(enum.Enum):
    """How a sender writes arrays.

    Attributes:
        OPENPI: Maps of `b"__ndarray__"`, `b"data"`, `b"dtype"`, `b"shape"`: openpi-client.
        NUMPY: msgpack-numpy's `b"nd"`, `b"type"`, `b"kind"`, `b"shape"`, `b"data"`.
        NUMPY_TEXT: The same under texts, as msgpack-numpy's JavaScript and C++ relatives write.
    """

    OPENPI = "openpi"
    NUMPY = "numpy"
    NUMPY_TEXT = "numpy_text"


@dataclass(frozen=True)
class WireLimits:
    """What one message may hold.

    Attributes:
        message_bytes: Bytes of a message.
        items: Values in it, keys and members of maps and lists among them.
        depth: Maps and lists inside one another.
        text_bytes: Bytes of one text.
        decoded_bytes: Bytes of all its images once their JPEG is decoded.
    """

    message_bytes: int = 32 << 20
    items: int = 10_000
    depth: int = 16
    text_bytes: int = 1 << 16
    decoded_bytes: int = 64 << 20

    def __post_init__(self) -> None:
        """Refuses a limit that nothing could pass.

        Raises:
            InputError: One is below 1.
        """
        for name, value in vars(self).items():
            if value < 1:
                raise InputError(f"{name}: expected 1 or more, got {value}")


class Decoded(NamedTuple):
    """A message's value, and the dialect of its arrays; None where it had none."""

    value: Any
    dialect: Dialect | None


def decode(message: bytes, limits: WireLimits | None = None) -> Decoded:
    """Reads a message. Arrays are read-only views into it.

    Raises:
        WireError: It is no whole MessagePack, passes a limit, holds a key twice, a number that is not finite,
            an extension type, or an array that is not what it says.
    """
    limits = limits or WireLimits()
    measure(message, limits)
    reader = _Reader(limits)
    try:
        value = msgpack.unpackb(
            message,
            object_pairs_hook=reader.value,
            strict_map_key=False,
            max_str_len=limits.text_bytes,
        )
    except WireError:
        raise
    except UnicodeDecodeError as error:
        raise WireError("a text is no UTF-8") from error
    except (ValueError, TypeError) as error:
        raise WireError(f"not a MessagePack message: {error}") from error
    _refuse_not_finite(value)
    return Decoded(value, reader.dialect)


def encode(value: Any, dialect: Dialect = Dialect.OPENPI) -> bytes:
    """Writes a value with its arrays in a dialect.

    Raises:
        InputError: It holds something that has no place in a message, as an array of objects.
    """
    written = {Dialect.OPENPI: _openpi, Dialect.NUMPY: _numpy, Dialect.NUMPY_TEXT: _numpy_text}[dialect]
    try:
        packed = msgpack.packb(value, default=written)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"a message can't hold this: {error}") from error
    assert packed is not None
    return packed


def jpeg(image: NDArray[np.uint8], quality: int = 95) -> dict[str, Any]:
    """Returns an image [h, w, 3] as a value that is sent as JPEG; needs Pillow."""
    import io

    from PIL import Image

    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise InputError(f"expected an image [h, w, 3] of uint8, got {image.shape} of {image.dtype}")
    out = io.BytesIO()
    Image.fromarray(image).save(out, "JPEG", quality=quality, subsampling=0)
    return {"__jpeg__": True, "data": out.getvalue(), "shape": list(image.shape)}


class _Reader:
    """Makes values of maps as `msgpack` reads them, innermost first."""

    def __init__(self, limits: WireLimits) -> None:
        self.dialect: Dialect | None = None
        self._left = limits.decoded_bytes

    def value(self, pairs: list[tuple[Any, Any]]) -> Any:
        """Returns what a map stands for: an array, a NumPy number, an image, or itself."""
        found: dict[Any, Any] = {}
        for key, value in pairs:
            if not isinstance(key, str | bytes):
                raise WireError(f"a key is {key!r}: expected a text")
            if key in found:
                raise WireError(f"the key {key!r} stands twice")
            found[key] = value
        if b"__ndarray__" in found:
            return self._array(found, Dialect.OPENPI, b"dtype", b"shape", b"data")
        if b"__npgeneric__" in found:
            return self._number(found, Dialect.OPENPI, b"dtype", b"data")
        if b"nd" in found:
            return self._numpy(found, Dialect.NUMPY, lambda name: name.encode())
        if "nd" in found and "type" in found and "data" in found:
            return self._numpy(found, Dialect.NUMPY_TEXT, lambda name: name)
        if "__jpeg__" in found:
            return self._image(found)
        if odd := [key for key in found if not isinstance(key, str)]:
            raise WireError(f"a key is {odd[0]!r}: expected a text")
        return found

    def _numpy(self, found: dict[Any, Any], dialect: Dialect, key: Any) -> Any:
        """Returns an array or a number that msgpack-numpy wrote."""
        if found.get(key("nd")) is False:
            kind = found.get(key("type"))
            if isinstance(kind, str) and isinstance(found.get(key("data")), bytes):
                one = {**found, key("shape"): []}
                return self._array(one, dialect, key("type"), key("shape"), key("data"))[()]
            raise WireError("a number is not what its type says")
        if found.get(key("kind")) not in (b"", "", None):
            raise WireError(f"an array of kind {found[key('kind')]!r}: expected plain numbers")
        return self._array(found, dialect, key("type"), key("shape"), key("data"))

    def _array(self, found: dict[Any, Any], dialect: Dialect, *names: Any) -> NDArray[Any]:
        kind, shape, data = (found.get(name) for name in names)
        self.dialect = self.dialect or dialect
        kind = kind.decode("ascii", "replace") if isinstance(kind, bytes) else kind
        if not isinstance(kind, str) or not _ARRAY_DTYPE.fullmatch(kind):
            raise WireError(f"an array's dtype is {kind!r}: expected numbers, truth values or text")
        sizes = shape if isinstance(shape, list) else [-1]
        if len(sizes) > _MAX_DIMS or not all(map(_is_size, sizes)) or not isinstance(data, bytes):
            raise WireError(
                f"an array's shape is {shape!r}: expected at most {_MAX_DIMS} sizes, and its bytes"
            )
        dtype = np.dtype(kind)
        if math.prod(sizes) * dtype.itemsize != len(data) or dtype.itemsize == 0:
            raise WireError(f"an array of shape {shape} and dtype {kind} has {len(data)} bytes")
        array = np.frombuffer(data, dtype).reshape(sizes)
        if dtype.kind == "f" and not np.isfinite(array).all():
            raise WireError(f"an array of shape {shape} holds a number that is not finite")
        return array

    def _number(self, found: dict[Any, Any], dialect: Dialect, kind: Any, data: Any) -> Any:
        self.dialect = self.dialect or dialect
        named, value = found.get(kind), found.get(data)
        named = named.decode("ascii", "replace") if isinstance(named, bytes) else named
        if not isinstance(named, str) or not _ARRAY_DTYPE.fullmatch(named):
            raise WireError(f"a number's dtype is {named!r}: expected a number, a truth value or text")
        if not isinstance(value, int | float | bool | str):
            raise WireError(f"a number is {type(value).__name__}")
        try:
            with np.errstate(over="ignore"):  # what overflows is refused below
                made = np.dtype(named).type(value)
        except (ValueError, OverflowError) as error:
            raise WireError(f"a number does not fit its dtype {named}") from error
        if isinstance(value, int | float) and not np.isfinite(made):
            raise WireError("a number is not finite")
        return made

    def _image(self, found: dict[Any, Any]) -> NDArray[np.uint8]:
        """Returns the pixels of a JPEG whose size is within what is left."""
        data, shape = found.get("data"), found.get("shape")
        good = isinstance(shape, list) and len(shape) == 3 and all(_is_size(n) for n in shape)
        if not good or not isinstance(data, bytes):
            raise WireError("an image is not what its shape says: expected JPEG bytes and [h, w, 3]")
        assert isinstance(shape, list)
        size = math.prod(shape)
        if size > self._left:
            raise WireError(f"an image of {shape}: the message's images may have {self._left} bytes more")
        self._left -= size
        return read_jpeg(data, shape)


def read_jpeg(data: bytes, shape: list[int]) -> NDArray[np.uint8]:
    """Returns the pixels of a JPEG whose own header says the shape [h, w, 3] that its sender does.

    Raises:
        WireError: It is no JPEG, or of another shape.
    """
    import io

    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as opened:
            if [opened.height, opened.width, 3] != shape:
                raise WireError(f"an image says {shape}, and is {[opened.height, opened.width, 3]}")
            return np.asarray(opened.convert("RGB"))
    except WireError:
        raise
    except Exception as error:  # Pillow raises many kinds for what is no JPEG
        raise WireError("an image is no JPEG") from error


def is_natural(value: Any, below: int) -> TypeGuard[int]:
    """Returns whether a value of a message is a whole number from 0, and below a bound."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < below


def _is_size(value: Any) -> bool:
    return is_natural(value, 1 << 31)


def _openpi(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        _refuse_kind(value)
        return {
            b"__ndarray__": True,
            b"data": value.tobytes(),
            b"dtype": value.dtype.str,
            b"shape": list(value.shape),
        }
    if isinstance(value, np.generic):
        _refuse_kind(value)
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
    raise TypeError(f"{type(value).__name__} has no place in a message")


def _numpy(value: Any) -> Any:
    if not isinstance(value, np.ndarray | np.generic):
        raise TypeError(f"{type(value).__name__} has no place in a message")
    _refuse_kind(value)
    if isinstance(value, np.generic):
        return {b"nd": False, b"type": value.dtype.str, b"data": value.tobytes()}
    return {
        b"nd": True,
        b"type": value.dtype.str,
        b"kind": b"",
        b"shape": list(value.shape),
        b"data": value.tobytes(),
    }


def _numpy_text(value: Any) -> Any:
    return {
        key.decode(): "" if part == b"" and key == b"kind" else part for key, part in _numpy(value).items()
    }


def _refuse_kind(value: NDArray[Any] | np.generic) -> None:
    if value.dtype.kind in "VOcmM":
        raise TypeError(f"dtype {value.dtype} has no place in a message")


def _refuse_not_finite(value: Any) -> None:
    """Refuses plain numbers that are not finite; arrays were looked at when they were made."""
    if isinstance(value, float) and not math.isfinite(value):
        raise WireError("a number is not finite")
    if isinstance(value, Mapping):
        for one in value.values():
            _refuse_not_finite(one)
    elif isinstance(value, list):
        for one in value:
            _refuse_not_finite(one)


# What a first byte announces: how many bytes its length takes, or how many bytes follow.
_LENGTHS = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4, 0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4}
_FIXED = {0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
_UNPACKED = {1: struct.Struct(">B"), 2: struct.Struct(">H"), 4: struct.Struct(">I")}


def measure(message: bytes, limits: WireLimits) -> None:
    """Walks a message's headers, before anything is made of it.

    Raises:
        WireError: It passes a limit, ends early, goes on, or holds an extension type.
    """
    if len(message) > limits.message_bytes:
        raise WireError(f"a message of {len(message)} bytes: at most {limits.message_bytes} are read")
    at, items, end = 0, 0, len(message)
    open_values = [1]  # values still to come, by level
    while open_values:
        if open_values[-1] == 0:
            open_values.pop()
            continue
        open_values[-1] -= 1
        items += 1
        if items > limits.items:
            raise WireError(f"a message of more than {limits.items} values")
        if at >= end:
            raise WireError("a message that ends early")
        first = message[at]
        at += 1
        inside = follow = 0
        if first < 0x80 or first >= 0xE0 or first in (0xC0, 0xC2, 0xC3):
            pass
        elif first < 0x90:
            inside = 2 * (first & 0x0F)
        elif first < 0xA0:
            inside = first & 0x0F
        elif first < 0xC0:
            follow = first & 0x1F
        elif (size := _FIXED.get(first)) is not None:
            follow = size
        elif (size := _LENGTHS.get(first)) is not None:
            if at + size > end:
                raise WireError("a message that ends early")
            (length,) = _UNPACKED[size].unpack_from(message, at)
            at += size
            if first >= 0xDE:
                inside = 2 * length
            elif first >= 0xDC:
                inside = length
            else:
                follow = length
        else:
            raise WireError("a message with an extension type")
        at += follow
        if at > end:
            raise WireError("a message that ends early")
        if inside > limits.items:
            raise WireError(f"a message of more than {limits.items} values")
        if inside:
            open_values.append(inside)
            if len(open_values) - 1 > limits.depth:
                raise WireError(f"a message deeper than {limits.depth} levels")
    if at != end:
        raise WireError(f"{end - at} bytes after the message's end")
