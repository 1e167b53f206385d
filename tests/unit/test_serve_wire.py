"""Messages: what is read, in which dialect it is answered, and what is refused before it costs anything."""

import contextlib
import subprocess
import sys

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pioxide.errors import InputError, WireError
from pioxide.serve.messages import read_ask
from pioxide.serve.wire import Dialect, WireLimits, decode, encode, jpeg

VALUES = {
    "image": np.arange(12, dtype=np.uint8).reshape(2, 2, 3),
    "deep": {"state": np.array([1.5, -2.0], np.float32), "flags": np.array([True, False])},
    "scalar": np.float32(0.25),
    "whole": np.int64(-7),
    "empty": np.zeros((0, 3)),
    "plain": [1, 2.5, None, True, "text"],
}


@pytest.mark.parametrize("dialect", Dialect)
def test_every_dialect_reads_back_what_it_wrote_and_is_recognised(dialect):
    value, found = decode(encode(VALUES, dialect))
    assert found is dialect
    assert value["image"].dtype == np.uint8
    assert np.array_equal(value["image"], VALUES["image"])
    assert np.array_equal(value["deep"]["state"], VALUES["deep"]["state"])
    assert value["deep"]["flags"].tolist() == [True, False]
    assert value["scalar"] == 0.25
    assert value["whole"] == -7
    assert value["empty"].shape == (0, 3)
    assert value["plain"] == VALUES["plain"]


def test_the_bytes_of_an_array_are_openpis():
    packed = encode({"a": np.array([0, 1, 2], np.uint8)})
    recorded = (
        "81a16184c40b5f5f6e6461727261795f5fc3c40464617461c403000102c4056474797065a37c7531c40573686170659103"
    )
    assert packed.hex() == recorded


def test_fortran_arrays_and_strides_arrive_in_order():
    array = np.arange(24.0).reshape(4, 6)
    assert np.array_equal(decode(encode(np.asfortranarray(array))).value, array)
    assert np.array_equal(decode(encode(array[::2, ::-1])).value, array[::2, ::-1])


def array(dtype="<f4", shape=(1,), data=b"\0\0\0\0", **more):
    return msgpack.packb(
        {b"__ndarray__": True, b"data": data, b"dtype": dtype, b"shape": list(shape), **more},
        use_bin_type=True,
    )


REFUSED = {
    "another number of bytes": array(shape=(2,)),
    "a negative size": array(shape=(-1,)),
    "a size past all memory": array(shape=(1 << 40, 1 << 40)),
    "a size that is a truth value": array(shape=(True,)),
    "nine dimensions": array(shape=(1,) * 9),
    "objects": array(dtype="|O"),
    "a record": array(dtype="<f4,<f4"),
    "complex numbers": array(dtype="<c8", data=b"\0" * 8),
    "a text of no characters": array(dtype="<U0", shape=(0,), data=b""),
    "no number": array(data=np.array([np.nan], np.float32).tobytes()),
    "infinity": array(data=np.array([np.inf], np.float32).tobytes()),
    "a plain number that is none": msgpack.packb({"a": float("nan")}),
    "a key twice": b"\x82\xa1a\x01\xa1a\x02",
    "a key that is a number": b"\x81\x01\x02",
    "bytes for a key": b"\x81\xc4\x01a\x02",
    "an extension": b"\x81\xa1a\xd4\x01\x00",
    "a message cut short": encode(VALUES)[:-1],
    "a message that goes on": encode(VALUES) + b"\0",
    "a text that is no UTF-8": b"\x81\xa1a\xa1\xff",
    "nothing": b"",
    "a byte that means nothing": b"\xc1",
    "a kind of numpy's own": msgpack.packb(
        {b"nd": True, b"type": [["a", "<f4"]], b"kind": b"V", b"shape": [1]}
    ),
    "pickled objects": msgpack.packb(
        {b"nd": True, b"type": "|O", b"kind": b"O", b"shape": [1], b"data": b"x"}
    ),
    "an image that is no JPEG": msgpack.packb({"__jpeg__": True, "data": b"no", "shape": [1, 1, 3]}),
}


@pytest.mark.parametrize("message", REFUSED.values(), ids=REFUSED)
def test_a_message_that_is_not_what_it_says_is_refused(message):
    with pytest.raises(WireError):
        decode(message)


def test_a_message_that_would_grow_is_refused_before_anything_is_made_of_it():
    bomb = b"\xdd\x00\x1e\x84\x80" + b"\x80" * 2_000_000  # two million empty maps
    with pytest.raises(WireError, match="more than 10000 values"):
        decode(bomb)
    with pytest.raises(WireError, match="more than 10000 values"):
        decode(b"\xdf\xff\xff\xff\xff")
    with pytest.raises(WireError, match="deeper than 16"):
        decode(b"\x91" * 17 + b"\xc0")
    assert decode(b"\x91" * 16 + b"\xc0").value is not None
    with pytest.raises(WireError, match="at most 10 are read"):
        decode(b"\xc0" * 11, WireLimits(message_bytes=10))


def test_a_jpeg_is_opened_only_at_the_size_that_it_and_its_sender_say():
    pytest.importorskip("PIL")
    rng = np.random.default_rng(0)
    image = np.kron(rng.integers(0, 255, (6, 8, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
    told = jpeg(image, 95)
    back = decode(msgpack.packb({"image": told})).value["image"]
    assert back.shape == image.shape
    assert np.abs(back.astype(int) - image).mean() < 4
    with pytest.raises(WireError, match="says"):
        decode(msgpack.packb({**told, "shape": [1, 1, 3]}))
    with pytest.raises(WireError, match="bytes more"):
        decode(msgpack.packb([told, told]), WireLimits(decoded_bytes=image.nbytes + 1))


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(message):
    with contextlib.suppress(WireError):
        decode(message)


@given(st.data())
def test_a_message_with_a_byte_changed_is_read_or_refused(data):
    message = bytearray(encode(VALUES))
    for _ in range(data.draw(st.integers(1, 4))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(WireError):
        read_ask(bytes(message), WireLimits())


def test_what_has_no_place_in_a_message_is_not_sent():
    for value in (object(), np.array([object()]), np.zeros(2, complex), {"when": np.datetime64("now")}):
        with pytest.raises(InputError, match="has no place"):
            encode({"a": value})


ADDED = {
    "text": "not a map",
    "another key": {"colour": 1},
    "a request below 0": {"request": -1},
    "a request that is a truth value": {"request": True},
    "a deadline of text": {"deadline_ms": "soon"},
    "a leftover that is a list": {"left_over": [1.0]},
    "a leftover of one axis": {"left_over": np.zeros(3)},
}


@pytest.mark.parametrize("added", ADDED.values(), ids=ADDED)
def test_an_addition_that_is_not_of_the_protocol_is_refused_by_name(added):
    with pytest.raises(WireError, match="pioxide"):
        read_ask(encode({"state": np.zeros(3), "pioxide": added}), WireLimits())


def test_a_robots_side_imports_no_jax():
    heavy = ("jax", "flax", "pyarrow", "prometheus_client")
    code = f"import sys, pioxide.serve; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
