"""Binning and BEAST: what ids mean, what is lost, what is refused, and that files say all of it."""

import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import BSpline

from pioxide.codec import (
    CODEC_FILE,
    BeastCodec,
    BinningCodec,
    FastCodec,
    Pi0FastPrompts,
    TextTokenizer,
    holds_codec,
    load_codec,
)
from pioxide.codec.beast import basis
from pioxide.contract import Contract, action_vocabulary, check_codec, differences, from_json, to_json
from pioxide.errors import (
    ContractError,
    FormatError,
    IncompleteChunkError,
    InputError,
    OverflowingChunkError,
)
from support.text_model import write_text_model

HORIZON, DIM = 20, 3


def arm(count=40, seed=0):
    """Smooth movements within the normalised range."""
    rng = np.random.default_rng(seed)
    time = np.linspace(0, 1, HORIZON)[None, :, None]
    phase, speed = rng.uniform(0, 6, (count, 1, DIM)), rng.uniform(0.5, 3, (count, 1, DIM))
    return 0.9 * np.sin(phase + speed * time)


@pytest.fixture(scope="module")
def beast():
    return BeastCodec.fit(arm(), control_points=8)


@pytest.fixture(scope="module", params=["binning", "beast"])
def codec(request, beast):
    return BinningCodec() if request.param == "binning" else beast


# Binning


def test_bins_mean_what_openpi_decodes():
    ids = np.arange(256).reshape(1, -1)
    decoded = BinningCodec().decode(ids[0], horizon=64, dim=4).actions
    np.testing.assert_array_equal(decoded, (ids / 256 * 2 - 1).reshape(64, 4))


def test_every_bin_is_encoded_as_itself():
    for bins, limit in ((256, 1.0), (100, 2.5), (1024, 0.3)):
        codec = BinningCodec(bins, limit)
        values = codec.decode(np.arange(bins), horizon=bins, dim=1).actions
        np.testing.assert_array_equal(codec.encode(values).ids, np.arange(bins))


@settings(max_examples=200, deadline=None)
@given(st.floats(-1, 1), st.integers(2, 2000), st.floats(0.01, 100))
def test_a_number_in_range_comes_back_within_its_bound(share, bins, limit):
    codec = BinningCodec(bins, limit)
    value = share * limit
    ids, clipped = codec.encode([[value]])
    error = abs(codec.decode(ids, horizon=1, dim=1).actions[0, 0] - value)
    top = codec.decode([bins - 1], horizon=1, dim=1).actions[0, 0]
    assert clipped == 0
    assert error <= limit / bins * (1 if value <= top else 2) * (1 + 1e-9)


def test_a_number_without_a_bin_is_named_or_clipped_and_counted():
    chunks = np.zeros((3, 4, 2))
    chunks[1, 2, 1], chunks[2, 0, 0] = 1.25, -40
    codec = BinningCodec()
    with pytest.raises(OverflowingChunkError, match=r"^chunk 1: step 2, dimension 1: 1\.25 has no bin"):
        codec.encode_batch(chunks)
    with pytest.raises(OverflowingChunkError, match=r"^step 2, dimension 1: 1\.25 has no bin"):
        codec.encode(chunks[1])
    batch = codec.encode_batch(chunks, on_overflow="clip")
    assert batch.clipped.tolist() == [0, 1, 1]
    assert batch[1].max() == 255
    assert batch[2].min() == 0


# BEAST


@pytest.mark.parametrize(("horizon", "points", "degree"), [(20, 8, 3), (50, 10, 4), (7, 7, 2), (9, 4, 1)])
def test_the_basis_is_scipys(horizon, points, degree):
    knots = np.concatenate([np.zeros(degree), np.linspace(0, 1, points - degree + 1), np.ones(degree)])
    expected = BSpline.design_matrix(np.linspace(0, 1, horizon), knots, degree).toarray()
    np.testing.assert_allclose(basis(horizon, points, degree), expected, atol=1e-12)


@pytest.mark.parametrize("degree", [0, 1, 3])
def test_the_basis_is_a_mixture_that_begins_and_ends_in_its_end_points(degree):
    b = basis(31, 6, degree)
    assert (b >= 0).all()
    np.testing.assert_allclose(b.sum(axis=1), 1)
    np.testing.assert_allclose(b[[0, -1]], np.eye(6)[[0, -1]], atol=1e-12)


def test_a_spline_comes_back_within_half_a_bin(beast):
    rng = np.random.default_rng(3)
    points = rng.uniform(beast.low, beast.high, (50, 8, DIM))
    chunks = basis(HORIZON, 8, 3) @ points
    decoded, _ = beast.decode_batch(beast.encode_batch(chunks), horizon=HORIZON, dim=DIM)
    half = (beast.high - beast.low) / 255 / 2
    # The ridge bends a spline by a few millionths.
    assert (np.abs(decoded - chunks) <= half + 1e-4).all()


def test_a_joint_that_stands_still_is_as_exact_as_its_bins():
    chunks = arm()
    chunks[:, :, 1] = 0.4
    codec = BeastCodec.fit(chunks, control_points=6)
    decoded, _ = codec.decode_batch(codec.encode_batch(chunks), horizon=HORIZON, dim=DIM)
    assert np.abs(decoded[:, :, 1] - 0.4).max() <= 1e-6
    # The last bits of a sum must not decide between two bins.
    rng = np.random.default_rng(0)
    chunks[:, :, 1] += rng.uniform(-1e-12, 1e-12, chunks.shape[:2])
    assert len(np.unique(codec.encode_batch(chunks).ids.reshape(len(chunks), 6, DIM)[:, :, 1])) == 1


def test_more_control_points_lose_less_of_real_movements():
    chunks = np.cumsum(np.random.default_rng(0).normal(0, 0.05, (60, HORIZON, DIM)), axis=1)
    errors = []
    for points in (4, 8, 12, 20):
        codec = BeastCodec.fit(chunks, control_points=points)
        decoded, _ = codec.decode_batch(codec.encode_batch(chunks), horizon=HORIZON, dim=DIM)
        errors.append(np.sqrt(np.square(decoded - chunks).mean()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.01


def test_tokens_are_as_many_and_as_smooth_at_any_rate(beast):
    ids = beast.encode(arm()[0]).ids
    assert len(ids) == 8 * DIM
    slow, fast = (beast.decode(ids, horizon=n, dim=DIM).actions for n in (20, 191))
    np.testing.assert_allclose(fast[::10], slow, atol=1e-12)
    assert np.abs(np.diff(fast, axis=0)).max() < np.abs(np.diff(slow, axis=0)).max() / 5


def test_ids_stand_control_point_by_control_point(beast):
    chunk = arm()[0]
    moved = chunk.copy()
    moved[:, 1] += 0.05
    changed = np.flatnonzero(beast.encode(chunk).ids != beast.encode(moved).ids)
    assert set((changed % DIM).tolist()) == {1}


def test_a_movement_outside_the_fitted_range_is_named_or_clipped(beast):
    chunk = arm()[0]
    chunk[:, 2] = 7
    with pytest.raises(OverflowingChunkError, match=r"control point 0, dimension 2: 7 has no bin"):
        beast.encode(chunk)
    ids, clipped = beast.encode(chunk, on_overflow="clip")
    assert clipped == 8
    assert np.abs(beast.decode(ids, horizon=HORIZON, dim=DIM).actions[:, 2]).max() <= beast.high.max() + 1e-9


def test_what_can_not_be_a_spline_is_refused(beast):
    with pytest.raises(InputError, match="8 control points can't be found in a chunk of 5 actions"):
        beast.encode(np.zeros((5, DIM)))
    with pytest.raises(InputError, match=r"degree 8: expected 0 to 7"):
        BeastCodec.fit(arm(), control_points=8, degree=8)
    with pytest.raises(InputError, match=r"chunk 2: NaN"):
        BeastCodec.fit(np.where(np.arange(4)[:, None, None] == 2, np.nan, arm(4)))


# Both


def test_what_is_no_chunk_is_refused(codec):
    with pytest.raises(InputError, match=r"chunk: expected actions \[H, D\].*got shape \(3,\)"):
        codec.encode(np.zeros(3))
    with pytest.raises(InputError, match=r"chunks: expected"):
        codec.encode_batch(np.zeros((0, 0, 3)))
    bad = arm(2)
    bad[1, 4, 2] = np.inf
    with pytest.raises(InputError, match="chunk 1: step 4, dimension 2 is inf"):
        codec.encode_batch(bad, on_overflow="clip")
    with pytest.raises(InputError, match="on_overflow"):
        codec.encode(arm()[0], on_overflow="wrap")


def test_what_is_no_whole_chunk_is_refused_or_padded(codec):
    ids = codec.encode(arm()[0]).ids
    with pytest.raises(
        IncompleteChunkError, match=rf"{len(ids) - 3} ids, and a chunk of 20 x 3 has {len(ids)}"
    ):
        codec.decode(ids[:-3], horizon=HORIZON, dim=DIM)
    with pytest.raises(IncompleteChunkError, match="chunk 1: "):
        codec.decode_batch([ids, [*ids, 0]], horizon=HORIZON, dim=DIM)
    actions, missing = codec.decode(ids[: -2 * DIM], horizon=HORIZON, dim=DIM, partial="pad")
    assert missing == 2 * DIM
    assert np.isfinite(actions).all()
    with pytest.raises(InputError, match="id 256 at position 1"):
        codec.decode([0, 256], horizon=HORIZON, dim=DIM)
    with pytest.raises(InputError, match="expected ids"):
        codec.decode([0.5], horizon=HORIZON, dim=DIM)


def test_a_chunk_has_the_same_ids_alone_and_among_others(codec):
    chunks = arm()
    batch = codec.encode_batch(chunks)
    strided = codec.encode_batch(np.asfortranarray(chunks)[::-1])
    for i, chunk in enumerate(chunks):
        np.testing.assert_array_equal(codec.encode(chunk).ids, batch[i])
        np.testing.assert_array_equal(strided[len(chunks) - 1 - i], batch[i])


def test_a_codec_survives_its_file(codec, tmp_path):
    codec.save(tmp_path, horizon=HORIZON, dim=DIM)
    assert holds_codec(tmp_path)
    for again in (load_codec(tmp_path), pickle.loads(pickle.dumps(codec))):
        assert again.fingerprint == codec.fingerprint
        np.testing.assert_array_equal(again.encode_batch(arm()).ids, codec.encode_batch(arm()).ids)
    assert (load_codec(tmp_path).horizon, load_codec(tmp_path).dim) == (HORIZON, DIM)


def test_codecs_that_differ_have_other_fingerprints(beast):
    several = [
        BinningCodec(),
        BinningCodec(257),
        BinningCodec(limit=1.5),
        beast,
        BeastCodec(beast.low, beast.high, control_points=8, degree=2),
        BeastCodec(beast.low, beast.high, control_points=9),
        BeastCodec(beast.low - 1e-9, beast.high, control_points=8),
        FastCodec.fit(arm(), vocab_size=300),
    ]
    assert len({one.fingerprint for one in several}) == len(several)


def test_a_file_that_says_something_else_is_refused(codec, tmp_path):
    codec.save(tmp_path)
    good = json.loads((tmp_path / CODEC_FILE).read_text())
    for change, message in (
        ({"version": 2}, "version 2, this pioxide reads 1"),
        ({"codec": "vq"}, "codec 'vq', this pioxide reads binning and beast"),
        ({"bins": 1}, "bins: expected 2"),
        ({"bins": "many"}, "bins: expected 2"),
        ({"noise": 3}, "knows no field 'noise'"),
        ({"time_horizon": -1}, "horizon: expected"),
    ):
        (tmp_path / CODEC_FILE).write_text(json.dumps(good | change))
        with pytest.raises(FormatError, match=message):
            load_codec(tmp_path)
    del good["bins"]
    (tmp_path / CODEC_FILE).write_text(json.dumps(good))
    with pytest.raises(FormatError, match="it has no 'bins'"):
        load_codec(tmp_path)


def test_a_directory_of_two_codecs_is_refused(codec, tmp_path):
    FastCodec.fit(arm(), vocab_size=300).save(tmp_path)
    assert isinstance(load_codec(tmp_path), FastCodec)
    codec.save(tmp_path)
    with pytest.raises(FormatError, match="nobody knows which of them wrote the tokens"):
        load_codec(tmp_path)


def test_the_contract_knows_one_codec_from_another(codec):
    contract = Contract(fast=action_vocabulary(codec), source="the tokens")
    document = to_json(contract)
    assert from_json(json.loads(json.dumps(document))) == contract
    assert document["fast"]["codec"] == codec.kind
    check_codec(contract, codec)
    other = FastCodec.fit(arm(), vocab_size=300)
    with pytest.raises(ContractError, match=rf"the FAST tokenizer has .* with the {codec.kind} codec of 256"):
        check_codec(contract, other)
    with pytest.raises(ContractError, match=rf"the {codec.kind} codec has 256 .* with the FAST tokenizer of"):
        check_codec(Contract(fast=action_vocabulary(other)), codec)
    (found,) = differences(contract, Contract(fast=action_vocabulary(other)))
    assert found.left.startswith(codec.kind)


def test_prompts_carry_its_ids_where_fast_ids_lie(codec, tmp_path):
    tokenizer = TextTokenizer.load(write_text_model(tmp_path / "text.model"))
    prompts = Pi0FastPrompts(tokenizer, codec, 250)
    chunks = arm(3)
    batch = prompts.encode_batch(["fold", "it", "up"], np.zeros((3, 4)), chunks)
    ids = codec.encode_batch(chunks)
    rows = [row[mask] for row, mask in zip(batch.tokens, batch.mask, strict=True)]
    for row, own in zip(rows, ids, strict=True):
        np.testing.assert_array_equal(prompts.ids_to_fast(row), own)
        assert prompts.first_fast_id - int(own[0]) in row
    expected, _ = codec.decode_batch(ids, horizon=HORIZON, dim=DIM)
    decoded, missing = prompts.ids_to_actions_batch(rows, horizon=HORIZON, dim=DIM)
    np.testing.assert_array_equal(decoded, expected)
    assert not missing.any()
    np.testing.assert_array_equal(
        prompts.ids_to_actions(rows[1], horizon=HORIZON, dim=DIM).actions, decoded[1]
    )
    with pytest.raises(IncompleteChunkError, match="sequence 1: "):
        prompts.ids_to_actions_batch([rows[0], rows[1][:-4]], horizon=HORIZON, dim=DIM)


@pytest.mark.parametrize("kind", ["fast", "binning"])
def test_a_codec_of_one_chunk_shape_decodes_without_being_told(kind, tmp_path):
    chunks = np.sin(np.linspace(0, 3, 12 * 8 * 2)).reshape(12, 8, 2)
    made = FastCodec.fit(chunks, vocab_size=300) if kind == "fast" else BinningCodec()
    ids, _ = made.encode(chunks[0])
    with pytest.raises(InputError, match="horizon and dim: the codec's files carry none"):
        made.decode(ids)
    with pytest.raises(InputError, match="dim: the codec's files carry none"):
        made.decode_batch([ids], horizon=8)
    made.save(tmp_path, horizon=8, dim=2)
    own = load_codec(tmp_path)
    np.testing.assert_array_equal(own.decode(ids).actions, made.decode(ids, horizon=8, dim=2).actions)
    np.testing.assert_array_equal(own.decode_batch([ids])[0][0], own.decode(ids).actions)
