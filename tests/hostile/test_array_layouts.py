"""However an array lies in memory, the codec reads the numbers that NumPy shows, or refuses it by name."""

import os

import numpy as np
import pytest

from pioxide.codec import FastCodec, Pi0FastPrompts, Pi05Prompts, TextTokenizer, TokenBatch, state_bins
from pioxide.demo import text_model_path
from pioxide.errors import InputError


@pytest.fixture(scope="module")
def chunks():
    return np.cumsum(np.random.default_rng(0).normal(0, 0.1, (12, 16, 7)), axis=1)


@pytest.fixture(scope="module")
def codec(chunks):
    return FastCodec.fit(chunks, vocab_size=400)


@pytest.fixture(scope="module")
def tokenizer():
    return TextTokenizer.load(text_model_path())


def field(array):
    """A field of a structured array beside a two-byte one: strides are no multiple of the item's size."""
    table = np.zeros(array.shape, [("q", array.dtype), ("temperature", "<i2")])
    table["q"] = array
    table["temperature"] = 21931
    return table["q"]


def misaligned(array):
    room = np.zeros(array.nbytes + 1, np.uint8)
    made = room[1:].view(array.dtype).reshape(array.shape)
    made[...] = array
    return made


def read_only(array):
    made = array.copy()
    made.flags.writeable = False
    return made


LAYOUTS = {
    "field": field,
    "packed field": lambda array: np.rec.fromarrays([np.zeros(array.shape, "i1"), array], names="a,q")["q"],
    "misaligned": misaligned,
    "other byte order": lambda array: array.astype(array.dtype.newbyteorder()),
    "read-only": read_only,
    "Fortran": np.asfortranarray,
    "every second": lambda array: np.repeat(array, 2, axis=-1)[..., ::2],
    "backwards": lambda array: np.flip(np.flip(array).copy()),
    "list": lambda array: array.tolist(),
}


@pytest.fixture(params=LAYOUTS, ids=str)
def laid(request):
    return LAYOUTS[request.param]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_states_are_read_as_they_are_shown(laid, dtype, tokenizer):
    states = np.random.default_rng(1).normal(0, 0.6, (4, 7)).astype(dtype)
    pi05 = Pi05Prompts(tokenizer)
    for state in states:
        assert state_bins(laid(state)).tolist() == state_bins(state.copy()).tolist()
        assert pi05.encode("fold", laid(state)).tokens.tolist() == pi05.encode("fold", state).tokens.tolist()
    batch = pi05.encode_batch(["fold"] * 4, laid(states))
    assert batch.tokens.tolist() == pi05.encode_batch(["fold"] * 4, states).tokens.tolist()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_chunks_are_read_as_they_are_shown(laid, dtype, codec, chunks):
    chunks = chunks.astype(dtype)
    given = laid(chunks)
    # Lists hold no float32, and are computed in float64.
    plain = np.array(given) if isinstance(given, list) else chunks
    assert codec.encode_batch(given).ids.tolist() == codec.encode_batch(plain).ids.tolist()
    assert codec.encode(given[3]).ids.tolist() == codec.encode(plain[3]).ids.tolist()
    fitted, expected = (FastCodec.fit(c, vocab_size=400)._core.files(None, None) for c in (given, plain))
    assert fitted == expected


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint16])
def test_ids_and_offsets_are_read_as_they_are_shown(laid, dtype, codec, chunks, tokenizer):
    batch = codec.encode_batch(chunks)
    ids, offsets = batch.ids.astype(dtype), batch.offsets
    expected, _ = codec.decode_batch(batch, horizon=16, dim=7)
    given = TokenBatch(laid(ids), laid(offsets), batch.clipped)
    np.testing.assert_array_equal(codec.decode_batch(given, horizon=16, dim=7)[0], expected)
    first = codec.decode(laid(ids[: offsets[1]]), horizon=16, dim=7).actions
    np.testing.assert_array_equal(first, expected[0])
    prompts = Pi0FastPrompts(tokenizer, codec)
    states = np.zeros((12, 7))
    rows = prompts.encode_batch(["fold"] * 12, states, given)
    assert rows.tokens.tolist() == prompts.encode_batch(["fold"] * 12, states, batch).tokens.tolist()
    index = np.arange(12) % 2
    indexed = prompts.encode_batch((["fold", "pour"], laid(index.astype(dtype))), states)
    assert indexed.tokens.tolist() == prompts.encode_batch((["fold", "pour"], index), states).tokens.tolist()


def test_what_is_written_into_must_be_plain_memory(tokenizer):
    prompts = Pi05Prompts(tokenizer, 40)
    good, mask = np.zeros(40, np.int32), np.zeros(40, bool)
    bad = [
        field(good),
        misaligned(good),
        good[::2],
        good.astype(">i4"),
        good.astype(np.int64),
        good.reshape(1, 40),
        read_only(good),
        np.ma.masked_array(good),
        [0] * 40,
        None,
    ]
    for tokens in bad:
        with pytest.raises(InputError, match=r"^tokens: "):
            prompts.encode_into("fold", np.zeros(7), tokens, mask)
    with pytest.raises(InputError, match=r"^mask: "):
        prompts.encode_into("fold", np.zeros(7), good, mask[::2])
    with pytest.raises(InputError, match="mask: expected 40 values, got 39"):
        prompts.encode_into("fold", np.zeros(7), good, mask[:39].copy())


def test_masks_are_never_lost(codec, chunks, tokenizer):
    masked = np.ma.masked_array(chunks, chunks > 0.3)
    for call in (
        lambda: codec.encode(masked[0]),
        lambda: codec.encode_batch(masked),
        lambda: codec.encode_batch(list(masked)),
        lambda: FastCodec.fit(masked, vocab_size=400),
        lambda: FastCodec.fit([chunks[0], masked[1]], vocab_size=400),
        lambda: state_bins(masked[0, 0]),
        lambda: Pi05Prompts(tokenizer).encode_batch(["fold"] * 16, masked[0]),
        lambda: codec.decode(np.ma.masked_array([1, 2], [True, False]), horizon=16, dim=7),
        lambda: codec.decode(np.ma.masked_array(np.array([1, 2], np.int32)), horizon=16, dim=7),
        lambda: codec.decode_batch([np.ma.masked_array([1, 2], [True, False])], horizon=16, dim=7),
    ):
        with pytest.raises(InputError, match="masked array"):
            call()


def test_imaginary_parts_and_times_are_refused_by_name(codec, chunks):
    for wrong in (chunks + 1j, chunks.astype("m8[s]"), chunks.astype(str)):
        with pytest.raises(InputError, match="dtype"):
            codec.encode_batch(wrong)
        with pytest.raises(InputError, match=r"chunks\[0\]: expected float32 or float64, got dtype"):
            FastCodec.fit(wrong, vocab_size=400)


@pytest.mark.parametrize("scalar", [1.0, np.float64(1), np.zeros(()), np.zeros((), np.float32)])
def test_no_dimensions_are_an_error(codec, scalar):
    for call in (codec.encode, codec.encode_batch, state_bins):
        with pytest.raises(InputError, match="dimensions"):
            call(scalar)
    with pytest.raises(InputError, match="chunks"):
        FastCodec.fit(scalar)


def test_broadcast_chunks_are_what_they_show(codec, chunks):
    wide = np.broadcast_to(chunks[0], (5, 16, 7))
    one = codec.encode(chunks[0]).ids.tolist()
    assert [ids.tolist() for ids in codec.encode_batch(wide)] == [one] * 5
    constant = np.broadcast_to(np.float64(0.25), (16, 7))
    assert codec.encode(constant).ids.tolist() == codec.encode(constant.copy()).ids.tolist()


def test_any_strides_are_read_as_they_are_shown(codec):
    """Views of any offset, strides (none, negative, odd), byte order and type (PIOXIDE_LAYOUTS of them)."""
    random = np.random.default_rng(7)
    types = [np.dtype(name) for name in ("<f4", ">f4", "<f8", ">f8", "<f2", "<i2", ">i4", "u1")]
    # However such bytes are put together, they are numbers, and no float of theirs is larger than 2.
    memory = random.integers(0, 0x40, 512, dtype=np.uint8)
    for case in range(int(os.environ.get("PIOXIDE_LAYOUTS", "2000"))):
        dtype = types[random.integers(len(types))]
        shape = tuple(map(int, random.integers(1, 5, size=2)))
        unit = dtype.itemsize if random.random() < 0.7 else 1
        strides = tuple(int(unit * step) for step in random.integers(-3, 4, size=2))
        first = -sum(min(0, stride * (n - 1)) for stride, n in zip(strides, shape, strict=True))
        view = np.ndarray(shape, dtype, memory, first + int(random.integers(0, 16)), strides)
        single = dtype.kind == "f" and dtype.itemsize == 4
        plain = view.astype(np.float32 if single else np.float64)
        told = f"case {case}: {dtype.str} {shape} {strides}"
        assert state_bins(view[0]).tolist() == state_bins(plain[0]).tolist(), told
        got, expected = (codec.encode(x, on_overflow="clip") for x in (view, plain))
        assert (got.ids.tolist(), got.clipped) == (expected.ids.tolist(), expected.clipped), told
