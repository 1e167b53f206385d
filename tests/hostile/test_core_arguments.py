"""Whatever is asked of the codec ends in an answer or an error that names the argument, never in an abort."""

import json
import pickle
import subprocess
import sys

import numpy as np
import pytest

from pioxide.codec import FastCodec, Pi0FastPrompts, Pi0Prompts, Pi05Prompts, TextTokenizer
from pioxide.demo import text_model_path
from pioxide.errors import FormatError, InputError, OverflowingChunkError


@pytest.fixture(scope="module")
def codec():
    chunks = np.cumsum(np.random.default_rng(0).normal(0, 0.1, (12, 16, 7)), axis=1)
    return FastCodec.fit(chunks, vocab_size=400)


@pytest.fixture(scope="module")
def tokenizer():
    return TextTokenizer.load(text_model_path())


def files(codec):
    made = codec._core.files(None, None)
    return made["tokenizer.json"].encode(), json.loads(made["processor_config.json"])


def test_results_too_large_to_hold_are_memory_errors(codec, tokenizer):
    for call in (
        lambda: codec.decode_batch(np.zeros((10**12, 0), np.int32), horizon=16, dim=7, partial="pad"),
        lambda: codec.decode_batch([[]] * 10**5, horizon=2**14, dim=2**14, partial="pad"),
        lambda: Pi0Prompts(tokenizer, 1 << 20).encode_batch((["a"], np.zeros(10**6, np.int32))),
        lambda: codec.encode_batch(np.broadcast_to(np.float64(0), (10**15, 16, 7))),
        lambda: Pi05Prompts(tokenizer).encode("a", np.broadcast_to(np.float32(0), 10**15)),
        lambda: codec.encode(np.broadcast_to(np.float64(0), (16, 10**14))),
    ):
        with pytest.raises(MemoryError):
            call()


def test_an_address_space_too_small_is_a_memory_error_and_no_abort():
    script = """
import resource, numpy as np
from pioxide.codec import FastCodec
codec = FastCodec.fit(np.cumsum(np.random.default_rng(0).normal(0, 0.1, (12, 16, 7)), axis=1), vocab_size=300)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, used + 2**28))
for call in (
    lambda: codec.decode([], horizon=2**14, dim=2**14, partial="pad"),
    lambda: codec.decode_batch([[]], horizon=2**14, dim=2**14, partial="pad"),
    lambda: codec.encode(np.broadcast_to(np.float64(0), (2**14, 2**14))),
    lambda: codec.encode_batch(np.broadcast_to(np.float64(0), (2, 2**14, 2**14))),
    lambda: FastCodec.fit(np.broadcast_to(np.float64(0), (2, 2**14, 2**14))),
):
    try:
        call()
    except MemoryError:
        print("refused")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.split() == ["refused"] * 5, done.stderr


@pytest.mark.parametrize("wrong", [-1, 2**64, 10**5000, 1.5, "7", None], ids=list("abcdef"))
def test_numbers_that_are_none_are_refused_by_name(codec, tokenizer, wrong):
    ids = codec.encode(np.zeros((16, 7))).ids
    calls = {
        "horizon": [
            lambda: codec.decode(ids, horizon=wrong, dim=7),
            lambda: codec.decode_batch([ids], horizon=wrong, dim=7),
        ],
        "dim": [lambda: codec.decode(ids, horizon=16, dim=wrong)],
        "max_len": [lambda: Pi0Prompts(tokenizer, wrong), lambda: Pi0FastPrompts(tokenizer, codec, wrong)],
        "skipped_ids": [lambda: Pi0FastPrompts(tokenizer, codec, skipped_ids=wrong)],
        "vocab_size": [lambda: FastCodec.fit(np.zeros((2, 16, 7)), vocab_size=wrong)],
    }
    if wrong is not None:
        calls["state_width"] = [lambda: Pi05Prompts(tokenizer, state_width=wrong)]
    for name, several in calls.items():
        for call in several:
            # None asks for what the codec's files carry, and these carry nothing.
            said = "expected a whole number|the codec's files carry none"
            with pytest.raises(InputError, match=f"^(its .* pieces|{name}: ({said}))"):
                call()
    if not isinstance(wrong, str | None):
        with pytest.raises(IndexError, match="outside the vocabulary"):
            codec.token_bytes(wrong)
        with pytest.raises(IndexError, match="outside the vocabulary"):
            tokenizer.piece(wrong)


def test_texts_that_are_none_are_refused_by_name(codec, tokenizer):
    state = np.zeros(7)
    pi0, pi05, fast = Pi0Prompts(tokenizer), Pi05Prompts(tokenizer), Pi0FastPrompts(tokenizer, codec)
    for wrong, what in (("a\ud800b", "surrogate"), (b"bytes", "expected a text"), (None, "expected a text")):
        for call, name in (
            (lambda w=wrong: pi0.encode(w), "prompt"),
            (lambda w=wrong: pi05.encode(w, state), "prompt"),
            (lambda w=wrong: fast.encode(w, state), "prompt"),
            (lambda w=wrong: pi0.encode_batch(["fine", w]), r"prompts\[1\]"),
            (lambda w=wrong: pi05.encode_batch(([w], [0, 0]), np.zeros((2, 7))), r"prompts\[0\]"),
            (lambda w=wrong: tokenizer.encode(w), "text"),
            (lambda w=wrong: tokenizer.id(w), "piece"),
            (lambda w=wrong: codec.encode(np.zeros((16, 7)), on_overflow=w), "on_overflow"),
        ):
            with pytest.raises(InputError, match=f"^{name}: .*{what}"):
                call()


def test_paths_that_can_be_none_are_format_errors():
    for load in (FastCodec.load, TextTokenizer.load):
        with pytest.raises(FormatError, match="no name of a file"):
            load("a\0b")


def test_ragged_chunks_and_no_chunks_are_refused_by_name():
    with pytest.raises(InputError, match=r"^chunks\[1\]: NumPy can't make an array of it"):
        FastCodec.fit([np.zeros((16, 7)), [[1.0], [1.0, 2.0]]])
    with pytest.raises(InputError, match=r"^chunks\[1\]: expected 2 dimensions"):
        FastCodec.fit([np.zeros((16, 7)), np.zeros(7)])
    for wrong in (7, None):
        with pytest.raises(InputError, match=r"^chunks: expected arrays"):
            FastCodec.fit(wrong)


def test_the_largest_unsigned_id_is_called_by_its_name(codec):
    for ids in (np.array([2**64 - 1, 1], np.uint64), [2**64 - 1]):
        with pytest.raises(InputError, match=r"ids\[0\]: 18446744073709551615 is not a token id"):
            codec.decode(ids, horizon=16, dim=7)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("min_token", -(2**63)),
        ("min_token", 2**63 - 1),
        ("min_token", -(2**21)),
        ("scale", 1e-320),
        ("scale", 1e300),
        ("scale", -1.0),
        ("time_horizon", 0),
        ("time_horizon", 2**16 + 1),
        ("action_dim", 2**63),
        ("action_dim", 2**29),
    ],
)
def test_settings_that_no_arithmetic_survives_are_refused(codec, key, value):
    vocabulary, settings = files(codec)
    with pytest.raises(FormatError, match=key):
        FastCodec(vocabulary, json.dumps({**settings, key: value}).encode())


@pytest.mark.parametrize(
    ("horizon", "dim", "name"),
    [(0, 7, "horizon"), (65537, 7, "horizon"), (-1, 7, "horizon"), (16, 0, "dim"), (16, 2**29, "dim")],
)
def test_what_load_refuses_is_not_saved(codec, tmp_path, horizon, dim, name):
    with pytest.raises(InputError, match=f"^{name}: expected"):
        codec.save(tmp_path / "made", horizon=horizon, dim=dim)
    assert not (tmp_path / "made").exists()


def test_the_range_has_no_gap_and_an_overflow_asks_what_it_may_come_from(codec):
    low, high = codec.value_range
    assert (low, high) in codec.representable
    assert low <= 0 <= high
    with pytest.raises(OverflowingChunkError, match=f"from {low} to {high} have one.*normalised"):
        codec.encode(np.full((16, 7), 1e6))


def test_errors_survive_pickling(codec):
    for call in (lambda: codec.decode([-1], horizon=1, dim=1), lambda: codec.decode([], horizon=-1, dim=1)):
        with pytest.raises(InputError) as caught:
            call()
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
