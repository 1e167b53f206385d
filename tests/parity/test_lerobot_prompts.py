"""Prompts in LeRobot's style equal those of LeRobot's own processor steps.

Source of truth: tests/golden/lerobot_prompts, recorded with lerobot 0.6.1 in the demo's and in PaliGemma's
vocabulary; for texts that LeRobot and openpi write alike, the openpi style beside it.
"""

import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pioxide.codec import FastCodec, Pi0FastPrompts, Pi0Prompts, Pi05Prompts, TextTokenizer
from pioxide.demo import text_model_path
from pioxide.errors import InputError


@pytest.fixture(scope="module", params=["demo", "paligemma"])
def recorded(request, golden, shared):
    """A vocabulary, and what was recorded in it."""
    cases = json.loads((golden / "lerobot_prompts/prompts.json").read_text())[request.param]
    demo = request.param == "demo"
    model = text_model_path() if demo else shared("reference/paligemma_tokenizer.model")
    return TextTokenizer.load(model), cases


@pytest.fixture(scope="module")
def codec():
    """A codec of 600 ids: those that were recorded."""
    chunks = np.cumsum(np.random.default_rng(2).normal(0, 0.1, (300, 16, 7)), axis=1)
    return FastCodec.fit(chunks, vocab_size=600)


@pytest.fixture(scope="module")
def tokenizer():
    return TextTokenizer.load(text_model_path())


def ids(prompt):
    return prompt.tokens[: min(prompt.length, len(prompt.tokens))].tolist()


def test_recorded_prompts_come_out_id_for_id(recorded, codec):
    tokenizer, cases = recorded
    for case in cases:
        text, max_len, state = case["text"], case["max_len"], np.array(case["state"], case["dtype"])
        made = {
            "pi0": Pi0Prompts(tokenizer, max_len, style="lerobot").encode(text),
            "pi05": Pi05Prompts(tokenizer, max_len, style="lerobot").encode(text, state),
            "pi05_wide": Pi05Prompts(tokenizer, max_len, style="lerobot", state_width=32).encode(text, state),
            "pi0_fast": Pi0FastPrompts(tokenizer, codec, max_len, style="lerobot").encode(text, state),
            "pi0_fast_wide": Pi0FastPrompts(
                tokenizer, codec, max_len, style="lerobot", state_width=32
            ).encode(text, state),
        }
        for name, prompt in made.items():
            assert ids(prompt) == case[name], (name, text)
            assert prompt.mask.sum() == len(case[name])
    assert len(cases) == 21


def test_the_answer_is_lerobots_and_its_second_beginning_carries_no_loss(recorded, codec):
    tokenizer, cases = recorded
    prompts = Pi0FastPrompts(tokenizer, codec, 600, style="lerobot")
    for case in cases:
        state = np.array(case["state"], case["dtype"])
        prefix = ids(prompts.encode(case["text"], state))
        row = prompts._core.encode(case["text"], state, np.array(case["actions"], np.int32))
        tokens, mask, ar_mask, loss_mask, length, truncated = row
        assert tokens[:length].tolist() == prefix + case["answer"]
        assert not truncated
        assert mask.sum() == length
        causal = np.arange(600) >= len(prefix)
        np.testing.assert_array_equal(ar_mask.astype(bool), causal & mask)
        assert case["answer"][0] == tokenizer.bos_id
        np.testing.assert_array_equal(loss_mask, causal & mask & (np.arange(600) != len(prefix)))
        assert prompts.ids_to_fast(tokens[:length]).tolist() == case["actions"]
        parts = prompts.answer_start, prompts.fast_to_ids(case["actions"]), prompts.answer_end
        assert np.concatenate(parts).tolist() == case["answer"]


@settings(max_examples=300, deadline=None)
@given(text=st.text(max_size=60).filter(lambda text: "<" not in text))
def test_pi05_is_the_same_in_both_styles(tokenizer, text):
    state = np.linspace(-1.2, 1.2, 7)
    openpi, lerobot = Pi05Prompts(tokenizer), Pi05Prompts(tokenizer, style="lerobot")
    assert ids(openpi.encode(text, state)) == ids(lerobot.encode(text, state))


def test_a_state_is_filled_up_with_zeros_to_the_width_of_the_text(tokenizer, codec):
    state = np.linspace(-1, 1, 6, dtype=np.float32)
    full = np.pad(state, (0, 10))
    for made in (
        lambda width: Pi05Prompts(tokenizer, state_width=width),
        lambda width: Pi0FastPrompts(tokenizer, codec, state_width=width),
    ):
        assert ids(made(16).encode("fold", state)) == ids(made(None).encode("fold", full))
        batch = made(16).encode_batch(["fold"] * 2, np.stack([state, state]))
        assert batch.tokens[1].tolist() == made(None).encode("fold", full).tokens.tolist()
        with pytest.raises(InputError, match="16 joints are more than the 5 that the text holds"):
            made(5).encode("fold", full)
        with pytest.raises(InputError, match="state_width"):
            made(0)


def test_batches_and_buffers_equal_one_by_one(tokenizer, codec):
    texts = ["Pick_up\nthe cube", "stop<eos>", "Pick_up\nthe cube"]
    states = np.random.default_rng(0).normal(0, 0.6, (3, 6))
    pi0 = Pi0Prompts(tokenizer, style="lerobot")
    fast = Pi0FastPrompts(tokenizer, codec, style="lerobot", state_width=8)
    for batch, singles in (
        (pi0.encode_batch(texts), [pi0.encode(text) for text in texts]),
        (
            fast.encode_batch(texts, states),
            [fast.encode(t, s) for t, s in zip(texts, states, strict=True)],
        ),
    ):
        for n, single in enumerate(singles):
            assert batch.tokens[n].tolist() == single.tokens.tolist()
    tokens, mask = np.zeros(48, np.int32), np.zeros(48, bool)
    pi0.encode_into(texts[0], tokens, mask)
    assert tokens.tolist() == pi0.encode(texts[0]).tokens.tolist()


def test_what_makes_a_prompt_survives_pickling(tokenizer, codec):
    state = np.linspace(-1, 1, 6)
    for prompts in (
        Pi05Prompts(tokenizer, 150, style="lerobot", state_width=9),
        Pi0FastPrompts(tokenizer, codec, 150, style="lerobot", state_width=9, skipped_ids=500),
    ):
        again = pickle.loads(pickle.dumps(prompts))
        assert ids(again.encode("Fold <eos>\nit", state)) == ids(prompts.encode("Fold <eos>\nit", state))
        assert again.max_len == 150
    assert again.fast_to_ids([0, 7]).tolist() == prompts.fast_to_ids([0, 7]).tolist()
    again = pickle.loads(pickle.dumps(Pi0Prompts(tokenizer, style="lerobot")))
    assert ids(again.encode("a\n")) == ids(Pi0Prompts(tokenizer, style="lerobot").encode("a\n"))


def test_the_layout_of_an_answer_is_told(tokenizer, codec):
    prompts = Pi0FastPrompts(tokenizer, codec)
    assert prompts.answer_start.tolist() == tokenizer.encode("Action: ").tolist()
    assert prompts.answer_end.tolist() == [*tokenizer.encode("|").tolist(), tokenizer.eos_id]
    assert prompts.first_fast_id == tokenizer.vocab_size - 129
    assert prompts.fast_to_ids([0, 5, 599]).tolist() == [prompts.first_fast_id - t for t in (0, 5, 599)]
    other = Pi0FastPrompts(tokenizer, codec, skipped_ids=1152)
    assert other.first_fast_id == tokenizer.vocab_size - 1153
    assert other.fast_to_ids([3]) == [tokenizer.vocab_size - 1156]
    with pytest.raises(InputError, match=r"fast_ids\[1\]: 600 is outside"):
        prompts.fast_to_ids([0, 600])
    with pytest.raises(InputError, match="can't hold 600 FAST ids and 4000 others"):
        Pi0FastPrompts(tokenizer, codec, skipped_ids=4000)
    with pytest.raises(InputError, match=r'style: expected "openpi" or "lerobot", got "hf"'):
        Pi0Prompts(tokenizer, style="hf")  # pyright: ignore[reportArgumentType]
