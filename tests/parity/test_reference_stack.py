"""The oracle itself: the reference stack gives what the published tools gave, id by id and zero by zero.

Source of truth: the recorded outputs in reference/fast/*/golden.npz and reference/prompts.jsonl.
"""

import json

import numpy as np
import pytest

from support.composed_stack import ComposedFast
from support.reference_stack import HuggingFaceBpe, ReferenceFast, ReferencePrompts, TransformersBpe

VOCABULARIES = [
    ("g1_h16_v1024", ""),
    ("g1_h50_v2048", ""),
    *[("fast_plus", f"h{h}_d{d}_") for h, d in [(50, 26), (50, 14), (16, 7), (10, 7), (10, 32), (1, 1)]],
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "prefix"), VOCABULARIES)
@pytest.mark.parametrize("bpe", [HuggingFaceBpe, TransformersBpe])
def test_ids_and_decoded_actions_equal_the_recorded_ones(shared, name, prefix, bpe):
    directory = shared(f"reference/fast/{name}")
    recorded = np.load(directory / "golden.npz")
    chunks, decoded = recorded[prefix + "chunks"], recorded[prefix + "decoded"]
    ids = np.split(recorded[prefix + "ids"], np.cumsum(recorded[prefix + "lengths"])[:-1])
    fast = ReferenceFast.load(directory, bpe)
    for chunk, expected_ids, expected in zip(chunks, ids, decoded, strict=True):
        assert fast.encode(chunk) == expected_ids.tolist()
        np.testing.assert_array_equal(fast.decode(expected_ids.tolist(), *chunk.shape), expected)


def test_prompts_equal_the_recorded_ones(shared):
    directory = shared("reference/fast/g1_h16_v1024")
    chunks = np.load(directory / "golden.npz")["chunks"]
    model = shared("reference/paligemma_tokenizer.model")
    prompts = ReferencePrompts.load(model, ReferenceFast.load(directory))
    cases = [json.loads(line) for line in shared("reference/prompts.jsonl").read_text().splitlines()]
    assert len(cases) == 480
    for case in cases:
        state = np.array(case["state"], case["state_dtype"])
        prompt, max_len = case["prompt"], case["max_len"]
        if case["kind"] == "pi0":
            made = prompts.pi0(prompt, max_len)
        elif case["kind"] == "pi05":
            made = prompts.pi05(prompt, state, max_len)
        else:
            actions = None if case["chunk"] is None else chunks[case["chunk"]]
            made = prompts.pi0_fast(prompt, state, actions, max_len)
            assert "".join(str(int(x)) for x in made.ar_mask) == case["ar_mask"]
            assert "".join(str(int(x)) for x in made.loss_mask) == case["loss_mask"]
        assert made.tokens[: case["length"]].tolist() == case["tokens"]
        assert int(made.mask.sum()) == case["length"]


def test_actions_come_back_through_text_as_the_codec_alone_gives_them(shared):
    directory = shared("reference/fast/g1_h16_v1024")
    recorded = np.load(directory / "golden.npz")
    fast = ReferenceFast.load(directory)
    prompts = ReferencePrompts.load(shared("reference/paligemma_tokenizer.model"), fast)
    state = np.linspace(-1, 1, 14)
    for chunk, expected in zip(recorded["chunks"][:40], recorded["decoded"][:40], strict=True):
        made = prompts.pi0_fast("pick up the bottle", state, chunk, 256)
        np.testing.assert_array_equal(prompts.extract_actions(made.tokens[: made.length], 16, 14), expected)
    prefix_only = prompts.pi0_fast("pick up the bottle", state)
    assert not prompts.extract_actions(prefix_only.tokens[: prefix_only.length], 16, 14).any()


def test_a_fit_seeds_characters_and_so_lacks_the_bytes_it_never_saw():
    values = np.random.default_rng(0).normal(size=(40, 16, 4)).cumsum(axis=1) * 0.05
    fast = ReferenceFast.fit(values, vocab_size=256)
    ids = fast.encode(values[0])
    assert fast.decode(ids, 16, 4).any()
    np.testing.assert_allclose(fast.decode(ids, 16, 4), values[0], atol=0.2)
    # Far outside what the fit saw, the bytes vanish and the actions come back as zeros.
    assert not fast.decode(fast.encode(values[0] * 0 + 40), 16, 4).any()


def test_the_composed_stack_gives_the_reference_ids(shared):
    directory = shared("reference/fast/g1_h50_v2048")
    chunks = np.load(directory / "golden.npz")["chunks"][:80]
    reference, composed = ReferenceFast.load(directory), ComposedFast.load(directory)
    ids, offsets = composed.encode_batch(chunks)
    for i, chunk in enumerate(chunks):
        expected = reference.encode(chunk)
        assert composed.encode(chunk) == expected
        assert ids[int(offsets[i]) : int(offsets[i + 1])].tolist() == expected
