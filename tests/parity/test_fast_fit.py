"""Fitting here finds the merges that `tokenizers` finds, given the same alphabet and the same text.

Source of truth: `BpeTrainer` of the `tokenizers` package, run beside it with all 256 bytes as its alphabet.
"""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.fft import dct
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from pioxide.codec import FastCodec


def merges_of(tokenizer_json: str) -> tuple[list[tuple[str, str]], dict[str, int]]:
    model = json.loads(tokenizer_json)["model"]
    merges = [
        tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in model["merges"]
    ]
    return merges, model["vocab"]


def expected(chunks, codec: FastCodec, vocab_size: int, regex_split: bool):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=regex_split)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        show_progress=False,
        special_tokens=[],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=1_000_000,
    )
    texts = []
    for chunk in chunks:
        values = np.around(dct(chunk, axis=0, norm="ortho") * codec.scale).astype(int) - codec.min_token
        texts.append("".join(map(chr, values.flatten())))
    tokenizer.train_from_iterator(texts, trainer=trainer)
    return merges_of(tokenizer.to_str())


@pytest.mark.parametrize("regex_split", [False, True])
@pytest.mark.parametrize(("horizon", "dim", "vocab_size"), [(50, 7, 1024), (16, 14, 600), (10, 3, 4000)])
def test_merges_and_ids_are_those_of_tokenizers(horizon, dim, vocab_size, regex_split):
    rng = np.random.default_rng(horizon)
    chunks = np.cumsum(rng.normal(0, 0.12, (150, horizon, dim)), axis=1) * (rng.random(dim) < 0.7)
    codec = FastCodec.fit(chunks, vocab_size=vocab_size, regex_split=regex_split)
    found = merges_of(codec._core.files(None, None)["tokenizer.json"])
    assert found == expected(chunks, codec, vocab_size, regex_split)


@settings(max_examples=150, deadline=None)
@given(
    levels=st.lists(st.integers(0, 2), min_size=1, max_size=120),
    repeats=st.integers(1, 3),
    regex_split=st.booleans(),
)
def test_ties_are_broken_as_there(levels, repeats, regex_split):
    # Horizon 1 and few values: the text is the values, and most counts are equal.
    chunk = np.array([levels]) * 0.1
    chunks = [chunk] * repeats + [chunk[:, ::-1]]
    codec = FastCodec.fit(chunks, vocab_size=300, regex_split=regex_split)
    found = merges_of(codec._core.files(None, None)["tokenizer.json"])
    assert found == expected(chunks, codec, 300, regex_split)
