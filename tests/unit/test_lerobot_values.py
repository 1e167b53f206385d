"""LeRobot's messages: what its client wrote is read and written alike, and hostile ones are refused."""

import contextlib
import json
import math
from pathlib import Path

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pioxide.serve.lerobot.values import Envelope, ErrorCode, Image, MessageType, Refused, decode, encode
from pioxide.serve.wire import WireLimits

FRAMES = {
    name: bytes.fromhex(frame)
    for name, frame in json.loads(
        (Path(__file__).parents[1] / "golden" / "lerobot_zenoh.json").read_text()
    ).items()
}
CAMERA = "observation.images.image"


def packed(**changes):
    """A message of the protocol with something in it that is not."""
    said = {
        "version": 1,
        "message_type": "describe",
        "instance_id": "",
        "session_id": "",
        "generation": 0,
        "request_id": "r",
        "body": {},
    }
    return msgpack.packb({**said, **changes})


def record(**changes):
    tensor = {"__lerobot_type__": "tensor", "dtype": "float32", "endianness": "little", "shape": [1]}
    return packed(body={"x": {**tensor, "data": np.ones(1, "<f4").tobytes(), **changes}})


def picture(**changes):
    rgb = {"__lerobot_type__": "rgb", "encoding": "raw", "shape": [1, 1, 3], "dtype": "uint8"}
    return packed(body={"x": {**rgb, "channel_order": "RGB", "data": bytes(3), **changes}})


@pytest.mark.parametrize("name", sorted(FRAMES))
def test_what_lerobots_client_wrote_is_read_and_written_alike(name):
    found = decode(FRAMES[name])
    assert str(found.kind) == name.partition("_")[0]
    body = dict(found.body)
    if "features" in body and isinstance(body["features"], dict):
        pixels = body["features"][CAMERA]
        assert pixels.shape == (16, 16, 3)
        assert np.abs(pixels.astype(int) - 128).max() <= 2
        assert body["features"]["observation.state"].dtype == np.float32
        body["features"] = {**body["features"], CAMERA: Image(pixels)}
    if "jpeg" not in name:
        assert encode(found._replace(body=body)) == FRAMES[name]


def test_lerobots_client_sends_cursors_and_continuations_where_it_should():
    assert decode(FRAMES["observation_aligned"]).body["observation_cursor"] == 3
    left = decode(FRAMES["observation_rtc"]).body
    assert left["canonical_continuation"].shape == left["model_continuation"].shape == (3, 3)
    assert left["delay"] == 1


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"", "malformed"),
        (b"\x81", "malformed"),
        (packed() + b"\x00", "malformed"),
        (msgpack.packb([1]), "malformed"),
        (msgpack.packb({"version": 1}), "malformed"),
        (packed(version=2), "protocol"),
        (packed(version=True), "protocol"),
        (packed(message_type="dance"), "malformed"),
        (packed(message_type=["open"]), "malformed"),
        (packed(generation=-1), "malformed"),
        (packed(generation=True), "malformed"),
        (packed(request_id="a/b"), "malformed"),
        (packed(request_id="a" * 129), "malformed"),
        (packed(message_type="control"), "malformed"),
        (packed(body=[1]), "malformed"),
        (packed(body={1: 2}), "malformed"),
        (packed(body={"x": math.inf}), "malformed"),
        (packed(body={"x": msgpack.ExtType(1, b"pickle")}), "malformed"),
        (packed(body={"x": "a" * 20_000}), "malformed"),
        (packed(body={"x": json.loads("[" * 20 + "]" * 20)}), "malformed"),
        (packed(body={"x": [0] * 40_000}), "malformed"),
        (packed().replace(b"\xa4body\x80", b"\xa4body\x82\xa1x\x01\xa1x\x02"), "malformed"),
        (record(dtype="object"), "malformed"),
        (record(dtype=["float32"]), "malformed"),
        (record(shape=[2]), "malformed"),
        (record(shape=[True]), "malformed"),
        (record(shape=[-1]), "malformed"),
        (record(shape=[1] * 9), "malformed"),
        (record(shape=[1 << 40, 1 << 40]), "malformed"),
        (record(endianness="native"), "malformed"),
        (record(data="text"), "malformed"),
        (record(data=np.array([np.nan], "<f4").tobytes()), "malformed"),
        (record(__lerobot_type__="pickle"), "malformed"),
        (picture(data=bytes(4)), "malformed"),
        (picture(encoding="png"), "malformed"),
        (picture(encoding="jpeg", data=b"no jpeg"), "malformed"),
        (picture(channel_order="BGR"), "malformed"),
        (picture(shape=[16_384, 16_384, 3], encoding="jpeg"), "malformed"),
    ],
)
def test_a_hostile_message_is_refused_with_its_code(message, code):
    with pytest.raises(Refused) as caught:
        decode(message)
    assert caught.value.code is ErrorCode(code)


def test_a_jpeg_that_lies_about_its_size_is_refused_before_its_pixels_are_made():
    image = Image(np.zeros((32, 32, 3), np.uint8), 90)
    wire = msgpack.unpackb(encode(Envelope(MessageType.DESCRIBE, body={"x": image})))
    wire["body"]["x"]["shape"] = [1, 1, 3]
    with pytest.raises(Refused, match="is \\[32, 32, 3\\]"):
        decode(msgpack.packb(wire))


def test_a_big_endian_tensor_is_read():
    data = np.arange(3, dtype=">i4")
    found = decode(record(dtype="int32", endianness="big", shape=[3], data=data.tobytes())).body["x"]
    assert found.dtype == np.dtype("int32")
    assert found.tolist() == [0, 1, 2]


def test_what_is_beyond_a_limit_is_measured_before_it_is_made():
    with pytest.raises(Refused, match="at most 10 are read"):
        decode(packed(), WireLimits(message_bytes=10))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(FRAMES)), st.lists(st.tuples(st.integers(0, 2000), st.binary(max_size=3))))
def test_a_message_that_was_damaged_is_read_or_refused(name, damages):
    message = FRAMES[name]
    for at, put in damages:
        message = message[:at] + put + message[at + len(put) :]
    with contextlib.suppress(Refused):
        decode(message)
