"""What FastCodec does with odd input, many threads and broken files."""

import json
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from pioxide.codec import FastCodec
from pioxide.errors import FormatError, IncompleteChunkError, InputError, OverflowingChunkError


@pytest.fixture(scope="module")
def chunks():
    return np.cumsum(np.random.default_rng(0).normal(0, 0.1, (64, 16, 7)), axis=1)


@pytest.fixture(scope="module")
def codec(chunks):
    return FastCodec.fit(chunks, vocab_size=512)


def test_batch_equals_one_by_one(codec, chunks):
    batch = codec.encode_batch(chunks)
    assert len(batch) == len(chunks)
    for chunk, ids in zip(chunks, batch, strict=True):
        assert ids.tolist() == codec.encode(chunk).ids.tolist()
    actions, missing = codec.decode_batch(batch, horizon=16, dim=7)
    assert not missing.any()
    for i, ids in enumerate(batch):
        np.testing.assert_array_equal(actions[i], codec.decode(ids, horizon=16, dim=7).actions)
    again, _ = codec.decode_batch(list(batch), horizon=16, dim=7)
    np.testing.assert_array_equal(actions, again)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_strides_do_not_matter(codec, chunks, dtype):
    chunks = chunks.astype(dtype)
    expected = codec.encode_batch(chunks)
    wide = np.zeros((64, 32, 14), dtype)
    wide[:, ::2, ::2] = chunks
    for view in (wide[:, ::2, ::2], np.asfortranarray(chunks), chunks[::-1, ::-1, ::-1][::-1, ::-1, ::-1]):
        assert codec.encode_batch(view).ids.tolist() == expected.ids.tolist()
        assert codec.encode(view[3]).ids.tolist() == expected[3].tolist()
    # Whole frames of another memory order: windows over an episode share memory.
    episode = chunks.reshape(-1, 7)
    windows = np.lib.stride_tricks.sliding_window_view(episode, 16, axis=0).transpose(0, 2, 1)
    batch = codec.encode_batch(windows[:40])
    for i in range(40):
        assert batch[i].tolist() == codec.encode(np.ascontiguousarray(episode[i : i + 16])).ids.tolist()


def test_one_codec_serves_many_threads_and_shapes(codec, chunks):
    expected = [codec.encode(chunk).ids.tolist() for chunk in chunks]
    short = codec.encode(chunks[0, :5, :2]).ids.tolist()

    def work(_):
        for chunk, ids in zip(chunks, expected, strict=True):
            assert codec.encode(chunk).ids.tolist() == ids
            assert codec.encode(chunks[0, :5, :2]).ids.tolist() == short
            assert codec.decode(ids, horizon=16, dim=7).missing == 0
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(16)))


def test_overflow_names_chunk_frequency_dimension_and_value(codec, chunks):
    broken = chunks.copy()
    broken[5, :, 3] = 1e5
    with pytest.raises(
        OverflowingChunkError, match=r"chunk 5\b.*4000000\b.*frequency 0\b.*dimension 3\b"
    ) as caught:
        codec.encode_batch(broken)
    assert isinstance(pickle.loads(pickle.dumps(caught.value)), OverflowingChunkError)
    with pytest.raises(OverflowingChunkError, match=r"frequency 0\b.*dimension 3\b"):
        codec.encode(broken[5])
    clipped = codec.encode_batch(broken, on_overflow="clip")
    assert clipped.clipped.tolist() == [int(i == 5) for i in range(64)]
    actions = codec.decode(clipped[5], horizon=16, dim=7).actions
    assert actions[0, 3] == pytest.approx(codec.representable[-1][1] / codec.scale / 4)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("on_overflow", ["error", "clip"])
def test_not_a_number_is_an_error_and_never_a_token(codec, chunks, value, on_overflow):
    broken = chunks[:4].copy()
    broken[2, 9, 6] = value
    with pytest.raises(InputError, match=r"chunk 2\b.*(dimension|joint) 6\b"):
        codec.encode_batch(broken, on_overflow=on_overflow)


def test_missing_coefficients_are_an_error_or_a_count(codec, chunks):
    ids = codec.encode(chunks[0]).ids
    with pytest.raises(IncompleteChunkError, match="112"):
        codec.decode(ids[:-3], horizon=16, dim=7)
    actions, missing = codec.decode(ids[:-3], horizon=16, dim=7, partial="pad")
    assert 0 < missing < 112
    assert actions.shape == (16, 7)
    empty = codec.decode([], horizon=16, dim=7, partial="pad")
    assert empty.missing == 112
    assert not empty.actions.any()
    for partial in ("error", "pad"):
        with pytest.raises(IncompleteChunkError):
            codec.decode(np.concatenate([ids, ids]), horizon=16, dim=7, partial=partial)


@pytest.mark.parametrize("ids", [[-1], [512], [2**31], [1.5], ["a"], [[1]]])
def test_what_is_no_token_id_is_an_error(codec, ids):
    with pytest.raises(InputError):
        codec.decode(ids, horizon=16, dim=7)


@pytest.mark.parametrize(
    ("chunk", "word"),
    [
        (np.zeros(7), "dimensions"),
        (np.zeros((2, 16, 7)), "dimensions"),
        (np.zeros((0, 7)), "horizon"),
        (np.zeros((16, 0)), "dim"),
        (np.zeros((16, 7), complex), "complex"),
        (np.full((16, 7), "x"), "dtype"),
        ([[1.0], [1.0, 2.0]], "array"),
        (None, "dtype"),
    ],
)
def test_what_is_no_chunk_is_an_error_that_says_why(codec, chunk, word):
    with pytest.raises(InputError, match=word):
        codec.encode(chunk)


def test_options_are_checked(codec, chunks):
    with pytest.raises(InputError, match="truncate"):
        codec.encode(chunks[0], on_overflow="truncate")
    with pytest.raises(InputError, match="zeros"):
        codec.decode([1], horizon=16, dim=7, partial="zeros")
    for horizon, dim in ((0, 7), (16, 0), (-1, 7), (2**40, 2**40)):
        with pytest.raises((InputError, OverflowError)):
            codec.decode([1], horizon=horizon, dim=dim)


def test_fit_refuses_what_it_cannot_learn_from(chunks):
    for bad in ([], np.zeros((0, 16, 7)), np.full((4, 16, 7), np.nan), [np.zeros((0, 7))]):
        with pytest.raises(InputError):
            FastCodec.fit(bad, vocab_size=512)
    with pytest.raises(InputError, match="vocab"):
        FastCodec.fit(chunks, vocab_size=100)
    for scale in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="scale"):
            FastCodec.fit(chunks, vocab_size=512, scale=scale)


def test_fit_is_deterministic_and_takes_chunks_of_several_lengths(chunks):
    mixed = [chunks[0], chunks[1][:8], chunks[2].astype(np.float32)]
    first, second = (FastCodec.fit(mixed, vocab_size=300)._core.files(None, None) for _ in range(2))
    assert first == second


def test_it_pickles_and_saves_and_loads(codec, chunks, tmp_path):
    ids = codec.encode(chunks[0]).ids.tolist()
    assert pickle.loads(pickle.dumps(codec)).encode(chunks[0]).ids.tolist() == ids
    codec.save(tmp_path / "a", horizon=16, dim=7)
    loaded = FastCodec.load(tmp_path / "a")
    assert (loaded.horizon, loaded.dim, loaded.scale, loaded.vocab_size) == (16, 7, codec.scale, 512)
    assert loaded.encode(chunks[0]).ids.tolist() == ids
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "processing_action_tokenizer.py",
        "processor_config.json",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


def test_broken_files_are_named(codec, tmp_path):
    with pytest.raises(FormatError, match="nowhere"):
        FastCodec.load(tmp_path / "nowhere")
    codec.save(tmp_path)
    good = (tmp_path / "tokenizer.json").read_text()
    for broken in (good[: len(good) // 2], "[]", "{}", good.replace('"BPE"', '"Unigram"')):
        (tmp_path / "tokenizer.json").write_text(broken)
        with pytest.raises(FormatError, match=r"tokenizer\.json"):
            FastCodec.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text(good)
    config = json.loads((tmp_path / "processor_config.json").read_text())
    for key in ("scale", "min_token"):
        (tmp_path / "processor_config.json").write_text(json.dumps({**config, key: "ten"}))
        with pytest.raises(FormatError, match=key):
            FastCodec.load(tmp_path)


def test_tokens_are_pieces_of_utf8_and_spell_the_chunk(codec, chunks):
    assert codec.representable[0] == (codec.min_token, 0xD7FF + codec.min_token)
    ids = codec.encode(chunks[0]).ids
    text = b"".join(codec.token_bytes(i) for i in ids).decode()
    assert len(text) == 16 * 7
    actions = codec.decode(ids, horizon=16, dim=7).actions
    first = (ord(text[0]) + codec.min_token) / codec.scale
    assert actions[:, 0].sum() / 4 == pytest.approx(first)  # the mean, times the square root of the horizon
    every = [codec.token_bytes(i) for i in range(codec.vocab_size)]
    assert None not in every
    assert len(set(every)) == codec.vocab_size
    for outside in (codec.vocab_size, 2**40):
        with pytest.raises(IndexError):
            codec.token_bytes(outside)
