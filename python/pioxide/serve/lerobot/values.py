"""LeRobot's messages as bytes: an envelope of typed MessagePack, within fixed limits.

Everything that a sender controls is measured before anything is allocated for it: lengths and depth by
`wire.measure`, then the envelope, then each tensor and image against its own bytes.
"""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgpack
import numpy as np
from numpy.typing import NDArray

from pioxide.errors import WireError
from pioxide.serve.wire import WireLimits, is_natural, measure, read_jpeg

VERSION = 1
LIMITS = WireLimits(items=32_768, text_bytes=16_384)
_MARKER = "__lerobot_type__"
_WHOLE = ("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")
_DTYPES = (*_WHOLE, "float16", "float32", "float64")
_MAX_RANK, _MAX_SIZE, _MAX_GENERATION = 8, 16_384, 1 << 63
_SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_ENVELOPE = ("version", "message_type", "instance_id", "session_id", "generation", "request_id", "body")


class MessageType(enum.StrEnum):
    """What a message is."""

    DESCRIBE = "describe"
    DESCRIPTOR = "descriptor"
    OPEN = "open"
    ACCEPTED = "accepted"
    CONTROL = "control"
    ACK = "ack"
    OBSERVATION = "observation"
    ACTION = "action"
    LANGUAGE_REQUEST = "language_request"
    LANGUAGE_RESULT = "language_result"
    ERROR = "error"


# Those that belong to a session, and must say so.
_OF_A_SESSION = {
    MessageType.CONTROL,
    MessageType.ACK,
    MessageType.OBSERVATION,
    MessageType.ACTION,
    MessageType.LANGUAGE_REQUEST,
    MessageType.LANGUAGE_RESULT,
}


class ErrorCode(enum.StrEnum):
    """Why a message is refused."""

    UNSUPPORTED = "unsupported"
    MALFORMED = "malformed"
    BUSY = "busy"
    STALE = "stale"
    INCOMPATIBLE = "incompatible"
    EXECUTION = "execution"
    TIMEOUT = "timeout"
    PROTOCOL = "protocol"


class Refused(WireError):
    """A message that is refused, with the protocol's code of why.

    Attributes:
        code: What the sender is told.
    """

    def __init__(self, code: ErrorCode, message: str) -> None:
        """Takes the code and a sentence."""
        super().__init__(message)
        self.code = code


class Envelope(NamedTuple):
    """One message.

    Attributes:
        kind: What it is.
        instance: The server's run that it is for; "" before one was chosen.
        session: The robot's session; "" before there is one.
        generation: The session's episode.
        request: The sender's name of it, told back.
        body: What it says.
    """

    kind: MessageType
    instance: str = ""
    session: str = ""
    generation: int = 0
    request: str = ""
    body: Mapping[str, Any] = {}

    def reply(self, kind: MessageType, body: Mapping[str, Any]) -> Envelope:
        """Returns an answer to it."""
        return self._replace(kind=kind, body=body)

    def error(self, code: ErrorCode, message: str) -> Envelope:
        """Returns a refusal of it."""
        return self.reply(MessageType.ERROR, {"code": str(code), "message": message[:2048]})


class Image(NamedTuple):
    """A picture to send: [h, w, 3] uint8, as it is or as JPEG of a quality."""

    pixels: NDArray[np.uint8]
    quality: int | None = None


def is_segment(name: str) -> bool:
    """Returns whether a name may stand between two slashes of a key."""
    return _SEGMENT.fullmatch(name) is not None


def decode(message: bytes, limits: WireLimits = LIMITS) -> Envelope:
    """Reads a message. Tensors and raw images are read-only views into it.

    Raises:
        Refused: It is no whole MessagePack, passes a limit, holds a key twice, a number that is not finite,
            an extension type, or a tensor or image that is not what it says; or its envelope is not of the
            protocol.
    """
    try:
        measure(message, limits)
        found = msgpack.unpackb(
            message, object_pairs_hook=_unique, strict_map_key=False, max_str_len=limits.text_bytes
        )
    except Refused:
        raise
    except UnicodeDecodeError as error:
        raise Refused(ErrorCode.MALFORMED, "a text is no UTF-8") from error
    except (WireError, ValueError, TypeError) as error:
        raise Refused(ErrorCode.MALFORMED, str(error)) from error
    # The envelope first: only then are pixels made of a JPEG.
    envelope = _envelope(found)
    return envelope._replace(body=_Reader(limits.decoded_bytes).value(envelope.body))


def encode(envelope: Envelope) -> bytes:
    """Writes a message.

    Raises:
        WireError: It holds something that has no place in one.
    """
    values = (VERSION, str(envelope.kind), *envelope[1:])
    packed = msgpack.packb(_written(dict(zip(_ENVELOPE, values, strict=True))))
    assert packed is not None
    return packed


def _envelope(found: Any) -> Envelope:
    if not isinstance(found, dict) or any(name not in found for name in _ENVELOPE):
        raise Refused(ErrorCode.MALFORMED, f"a message is a map of {', '.join(_ENVELOPE)}")
    version, kind, *names, body = (found[name] for name in _ENVELOPE)
    if version != VERSION or isinstance(version, bool):
        raise Refused(ErrorCode.PROTOCOL, f"version {version!r}: this server speaks {VERSION}")
    try:
        kind = MessageType(kind)
    except (ValueError, TypeError) as error:
        raise Refused(ErrorCode.MALFORMED, f"message_type {str(kind)[:40]!r} is not known") from error
    instance, session, generation, request = names
    if not is_natural(generation, _MAX_GENERATION):
        raise Refused(ErrorCode.MALFORMED, "generation: expected a whole number from 0")
    for name, value in (("instance_id", instance), ("session_id", session), ("request_id", request)):
        if not isinstance(value, str) or (value and not is_segment(value)):
            raise Refused(ErrorCode.MALFORMED, f"{name}: expected letters, digits, _, . and -, at most 128")
        if not value and kind in _OF_A_SESSION:
            raise Refused(ErrorCode.MALFORMED, f"{name}: a message of a session says it")
    if not isinstance(body, dict):
        raise Refused(ErrorCode.MALFORMED, "body: expected a map")
    return Envelope(kind, instance, session, generation, request, body)


def _unique(pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if not isinstance(key, str):
            raise Refused(ErrorCode.MALFORMED, f"a key is {str(key)[:40]!r}: expected a text")
        if key in found:
            raise Refused(ErrorCode.MALFORMED, f"the key {key[:40]!r} stands twice")
        found[key] = value
    return found


class _Reader:
    """Makes arrays of typed records, within what all of them together may take."""

    def __init__(self, left: int) -> None:
        self._left = left

    def value(self, value: Any) -> Any:
        """Returns a value with arrays in the place of its records."""
        if isinstance(value, dict):
            if _MARKER in value:
                return self._record(value)
            return {key: self.value(one) for key, one in value.items()}
        if isinstance(value, list):
            return [self.value(one) for one in value]
        if isinstance(value, float) and not math.isfinite(value):
            raise Refused(ErrorCode.MALFORMED, "a number is not finite")
        return value

    def _record(self, record: dict[str, Any]) -> NDArray[Any]:
        shape, data, dtype = record.get("shape"), record.get("data"), record.get("dtype")
        if not isinstance(data, bytes) or not isinstance(shape, list) or len(shape) > _MAX_RANK:
            raise Refused(ErrorCode.MALFORMED, f"a tensor has at most {_MAX_RANK} dimensions, and bytes")
        if not all(is_natural(size, _MAX_SIZE + 1) and size > 0 for size in shape):
            raise Refused(ErrorCode.MALFORMED, f"a tensor's shape is {str(shape)[:80]}")
        kind = record[_MARKER]
        if kind == "tensor":
            return self._tensor(shape, data, dtype, record.get("endianness"))
        if kind != "rgb":
            raise Refused(ErrorCode.MALFORMED, f"a record of type {str(kind)[:40]!r} is not known")
        if len(shape) != 3 or shape[2] != 3 or dtype != "uint8" or record.get("channel_order") != "RGB":
            raise Refused(ErrorCode.MALFORMED, "an image is [h, w, 3] of uint8 in the order RGB")
        self._take(math.prod(shape))
        if record.get("encoding") == "jpeg":
            try:
                return read_jpeg(data, shape)
            except WireError as error:
                raise Refused(ErrorCode.MALFORMED, str(error)) from error
        if record.get("encoding") != "raw" or len(data) != math.prod(shape):
            raise Refused(ErrorCode.MALFORMED, f"an image of {shape} has {len(data)} bytes, raw or jpeg")
        return np.frombuffer(data, np.uint8).reshape(shape)

    def _tensor(self, shape: list[int], data: bytes, dtype: Any, endianness: Any) -> NDArray[Any]:
        if dtype not in _DTYPES or endianness not in ("little", "big"):
            raise Refused(ErrorCode.MALFORMED, f"a tensor of {str(dtype)[:40]!r}, {str(endianness)[:40]!r}")
        kind = np.dtype(dtype).newbyteorder("<" if endianness == "little" else ">")
        if math.prod(shape) * kind.itemsize != len(data):
            raise Refused(ErrorCode.MALFORMED, f"a tensor of {shape} and {dtype} has {len(data)} bytes")
        self._take(len(data))
        array = np.frombuffer(data, kind).reshape(shape)
        if kind.kind == "f" and not np.isfinite(array).all():
            raise Refused(ErrorCode.MALFORMED, "a tensor holds a number that is not finite")
        return array.astype(kind.newbyteorder("="), copy=False)

    def _take(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise Refused(ErrorCode.MALFORMED, "tensors and images of more bytes than a message may have")


def _written(value: Any) -> Any:
    """Returns a value with records in the place of its arrays."""
    if isinstance(value, Image):
        from pioxide.serve.wire import jpeg

        raw = value.quality is None
        data = value.pixels.tobytes() if value.quality is None else jpeg(value.pixels, value.quality)["data"]
        return {
            _MARKER: "rgb",
            "encoding": "raw" if raw else "jpeg",
            "shape": list(value.pixels.shape),
            "dtype": "uint8",
            "channel_order": "RGB",
            "data": data,
        }
    if isinstance(value, np.ndarray):
        if value.dtype.name not in _DTYPES or (value.dtype.kind == "f" and not np.isfinite(value).all()):
            raise WireError(f"a message can't hold an array of {value.dtype}, or a number that is not finite")
        return {
            _MARKER: "tensor",
            "dtype": value.dtype.name,
            "shape": list(value.shape),
            "endianness": "little",
            "data": value.astype(value.dtype.newbyteorder("<"), copy=False).tobytes(),
        }
    if isinstance(value, dict):
        return {key: _written(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_written(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise WireError("a message can't hold a number that is not finite")
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return value
    raise WireError(f"a message can't hold {type(value).__name__}")
