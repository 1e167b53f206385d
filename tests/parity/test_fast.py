"""FastCodec equals the reference on everything that the reference round-trips.

Source of truth: the recorded outputs in reference/fast/*/golden.npz, and scipy + tokenizers run beside it.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from pioxide.codec import FastCodec
from pioxide.errors import OverflowingChunkError
from support.reference_stack import HuggingFaceBpe, ReferenceFast

VOCABULARIES = [
    ("g1_h16_v1024", ""),
    ("g1_h50_v2048", ""),
    *[("fast_plus", f"h{h}_d{d}_") for h, d in [(50, 26), (50, 14), (16, 7), (10, 7), (10, 32), (1, 1)]],
]


def recorded(directory: Path, prefix: str):
    golden = np.load(directory / "golden.npz")
    ids = np.split(golden[prefix + "ids"], np.cumsum(golden[prefix + "lengths"])[:-1])
    return golden[prefix + "chunks"], ids, golden[prefix + "decoded"]


@pytest.mark.parametrize(("name", "prefix"), VOCABULARIES)
def test_recorded_chunks_give_the_recorded_ids_and_actions(shared, name, prefix):
    directory = shared(f"reference/fast/{name}")
    codec, reference = FastCodec.load(directory), ReferenceFast.load(directory, HuggingFaceBpe)
    refused = 0
    for chunk, ids, decoded in zip(*recorded(directory, prefix), strict=True):
        wanted = np.around(reference.coefficients(chunk) * reference.scale)
        try:
            encoded = codec.encode(chunk)
        except OverflowingChunkError:
            # Refusing is right only where the reference's own answer is wrong.
            returned = np.around(reference.coefficients(decoded) * reference.scale)
            assert not np.array_equal(returned, wanted)
            refused += 1
            continue
        assert encoded.ids.tolist() == ids.tolist()
        assert encoded.clipped == 0
        back = codec.decode(ids, horizon=chunk.shape[0], dim=chunk.shape[1])
        if name != "fast_plus" or np.abs(decoded - chunk).max() < 1:  # its clean-up rewrites some characters
            np.testing.assert_array_equal(back.actions, decoded)
        assert back.missing == 0
    assert refused < len(wanted) * 4


@pytest.mark.parametrize(("name", "prefix"), VOCABULARIES)
def test_clipped_chunks_decode_to_the_nearest_representable_values(shared, name, prefix):
    directory = shared(f"reference/fast/{name}")
    codec, reference = FastCodec.load(directory), ReferenceFast.load(directory, HuggingFaceBpe)
    low, high = codec.representable[0][0], codec.representable[-1][1]
    clipped_somewhere = 0
    for chunk in recorded(directory, prefix)[0]:
        encoded = codec.encode(chunk, on_overflow="clip")
        clipped_somewhere += encoded.clipped > 0
        actions, missing = codec.decode(encoded.ids, horizon=chunk.shape[0], dim=chunk.shape[1])
        assert missing == 0
        wanted = np.around(reference.coefficients(chunk) * reference.scale)
        got = np.around(reference.coefficients(actions) * reference.scale)
        changed = wanted != got
        assert changed.sum() == encoded.clipped
        outside = (wanted < low) | (wanted > high)
        np.testing.assert_array_equal(got[outside], np.clip(wanted, low, high)[outside])
    if name == "g1_h16_v1024":
        assert clipped_somewhere > 0


@pytest.fixture(scope="module", params=["no regex", "regex"])
def fitted(request, tmp_path_factory):
    """A tokenizer fitted here, and the same files under the `tokenizers` package."""
    rng = np.random.default_rng(7)
    chunks = np.cumsum(rng.normal(0, 0.15, (200, 16, 5)), axis=1)
    codec = FastCodec.fit(chunks, vocab_size=600, regex_split=request.param == "regex")
    directory = tmp_path_factory.mktemp("fast")
    codec.save(directory)
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    return codec, ReferenceFast(HuggingFaceBpe(tokenizer), codec.scale, codec.min_token), directory


@st.composite
def chunks(draw, largest: float):
    """Chunks that bite: tiny, large, constant, binary grippers, horizon 1, dimension 1, prime factors."""
    horizon = draw(
        st.sampled_from([1, 2, 3, 4, 5, 7, 8, 10, 11, 13, 14, 16, 21, 25, 28, 32, 49, 50, 64, 100])
    )
    dim = draw(st.sampled_from([1, 2, 7, 14, 26]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["walk", "noise", "constant", "binary", "mixed", "zero"]))
    scale = draw(st.sampled_from([1e-6, 0.01, 0.3, 1.0, largest]))
    walk = np.cumsum(rng.normal(0, 0.1, (horizon, dim)), axis=0)
    binary = (rng.random((horizon, dim)) < 0.5).astype(float)
    values = {
        "walk": walk,
        "noise": rng.normal(0, 1, (horizon, dim)),
        "constant": np.broadcast_to(rng.normal(0, 1, dim), (horizon, dim)),
        "binary": np.sort(binary, axis=0) * 2 - 1,
        "mixed": np.where(np.arange(dim) % 3 == 2, binary, walk),
        "zero": np.zeros((horizon, dim)),
    }[kind]
    if kind not in ("binary", "mixed"):
        values = values * scale
    limit = largest / np.sqrt(horizon)
    return np.clip(values, -limit, limit).astype(draw(st.sampled_from([np.float32, np.float64])))


@settings(max_examples=3000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_random_chunks_give_the_ids_and_actions_of_scipy_and_tokenizers(fitted, data):
    codec, reference, _ = fitted
    chunk = data.draw(chunks(largest=min(-codec.value_range[0], codec.value_range[1]) / codec.scale / 2))
    encoded = codec.encode(chunk)
    assert encoded.ids.tolist() == reference.encode(chunk)
    decoded = codec.decode(encoded.ids, horizon=chunk.shape[0], dim=chunk.shape[1])
    np.testing.assert_array_equal(decoded.actions, reference.decode(encoded.ids.tolist(), *chunk.shape))
    # Orthonormal: no coefficient is off by more than half a step, so neither is the chunk on average.
    error = np.sqrt(np.mean((decoded.actions - chunk) ** 2))
    assert error <= 0.5 / codec.scale + 1e-6 * (1 + np.abs(chunk).max())


def test_files_written_here_give_transformers_the_same_ids(fitted):
    transformers = pytest.importorskip("transformers")
    codec, reference, directory = fitted
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(directory)
    rng = np.random.default_rng(1)
    for _ in range(50):
        chunk = np.cumsum(rng.normal(0, 0.2, (16, 5)), axis=0)
        text = reference.text(reference.quantise(reference.coefficients(chunk)))
        ids = codec.encode(chunk).ids.tolist()
        assert tokenizer(text)["input_ids"] == ids
        assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text


def test_a_tokenizer_fitted_by_the_reference_gives_the_same_ids_here(tmp_path):
    rng = np.random.default_rng(3)
    chunks = np.cumsum(rng.normal(0, 0.5, (100, 50, 3)), axis=1)
    reference = ReferenceFast.fit(chunks, vocab_size=1200)
    reference.bpe.tokenizer.save(str(tmp_path / "tokenizer.json"))
    config = {"scale": 10, "vocab_size": 1200, "min_token": reference.min_token}
    config |= {"time_horizon": 50, "action_dim": 3}
    (tmp_path / "processor_config.json").write_text(json.dumps(config))
    codec = FastCodec.load(tmp_path)
    assert (codec.horizon, codec.dim) == (50, 3)
    for chunk in chunks:
        assert codec.encode(chunk).ids.tolist() == reference.encode(chunk)
