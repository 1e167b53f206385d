"""Speculative decoding: the answer of greedy decoding, whatever the draft, in as few passes as it allows."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pioxide.codec import FastCodec
from pioxide.errors import InputError
from pioxide.models import Observation, Pi0FastConfig
from pioxide.models.decoding import DecodingConvention
from pioxide.sampling import (
    Draft,
    Grammar,
    sample_action_tokens,
    sample_tokens,
    speculate_action_tokens,
    speculate_tokens,
)
from support.models import random_model

TEXT_VOCAB = 4096
END = 7
HORIZON, DIM = 8, 3
MAX = 40
BLOCK = 4

sample = nnx.jit(sample_tokens, static_argnames=("max_tokens", "stop", "scan_layers"))
speculate = nnx.jit(speculate_tokens, static_argnames=("block", "max_tokens", "stop", "scan_layers"))
sample_chunk = nnx.jit(
    sample_action_tokens, static_argnames=("grammar", "horizon", "dim", "max_tokens", "scan_layers")
)
speculate_chunk = nnx.jit(
    speculate_action_tokens,
    static_argnames=("grammar", "horizon", "dim", "block", "max_tokens", "scan_layers"),
)


@functools.cache
def grammar():
    rng = np.random.default_rng(0)
    chunks = np.cumsum(rng.normal(0, 0.2, (200, HORIZON, DIM)), axis=1)
    return Grammar.of(FastCodec.fit(chunks, vocab_size=400), first_fast_id=TEXT_VOCAB - 129, end=END)


@functools.cache
def model(seed, decoding=DecodingConvention.OPENPI):
    config = Pi0FastConfig.tiny()
    language = replace(config.language, vocab=TEXT_VOCAB)
    return random_model(replace(config, language=language, decoding=decoding), seed)


def observe(config, batch, seed=0):
    """Prompts of several lengths."""
    rng = np.random.default_rng(seed)
    size = config.vision.image_size
    images = rng.integers(0, 256, (batch, size, size, 3), dtype=np.uint8)
    lengths = rng.integers(8, config.text_len + 1, batch)
    valid = np.arange(config.text_len)[None] < lengths[:, None]
    tokens = np.where(valid, rng.integers(3, 500, valid.shape), 0)
    return Observation(
        {config.cameras[0]: jnp.asarray(images)}, {}, jnp.asarray(tokens, jnp.int32), jnp.asarray(valid)
    )


def drafts(answer, ids, rng):
    """What a draft may be, by name, of answers [B, N]."""
    batch, longest = answer.shape
    lengths = np.count_nonzero(answer, axis=1)
    wrong = rng.choice(ids, answer.shape)
    changed = np.where(rng.random(answer.shape) < 0.2, wrong, answer)
    mixed = np.where(np.arange(batch)[:, None] % 2, answer, wrong)
    return {
        "perfect": (answer, lengths),
        "empty": (answer, np.zeros(batch)),
        "garbage": (rng.integers(-9, 2 * TEXT_VOCAB, answer.shape), np.full(batch, longest)),
        "partly right": (changed, lengths),
        "rows differ": (mixed, lengths),
        "too short": (answer, lengths // 2),
        "too long": (np.where(np.arange(longest) < lengths[:, None], answer, wrong), np.full(batch, longest)),
        "one inserted": (np.concatenate([answer[:, :2], wrong[:, :1], answer[:, 2:]], axis=1), lengths + 1),
        "one left out": (np.delete(answer, 3, axis=1), lengths - 1),
        "one token": (answer[:, :1], np.ones(batch)),
    }


def draft_of(tokens, lengths):
    """In one shape whatever it is, as every other shape is another program."""
    room = np.full((len(tokens), MAX + 1), -1, np.int64)
    room[:, : tokens.shape[1]] = tokens
    return Draft(jnp.asarray(room, jnp.int32), jnp.asarray(lengths, jnp.int32))


@pytest.mark.parametrize(
    ("seed", "decoding"), [(0, DecodingConvention.OPENPI), (1, DecodingConvention.TRAINING)]
)
def test_an_answer_is_that_of_greedy_decoding(seed, decoding):
    m, observation = model(seed, decoding), observe(model(seed).config, 3, seed)
    # A stop that the model comes to by itself, so that rows end at different steps.
    free = np.asarray(sample(m, observation, max_tokens=MAX, stop=()))
    stop = (int(free[0, 11]), int(free[1, 23]))
    answer = np.asarray(sample(m, observation, max_tokens=MAX, stop=stop))
    assert len(set(np.count_nonzero(answer, axis=1))) > 1
    for name, draft in drafts(answer, np.unique(free), np.random.default_rng(seed)).items():
        got = speculate(m, observation, draft_of(*draft), block=BLOCK, max_tokens=MAX, stop=stop)
        np.testing.assert_array_equal(got.tokens, answer, name)


@pytest.mark.parametrize(("seed", "scan_layers"), [(0, False), (1, False), (2, True)])
def test_a_chunk_is_that_of_constrained_decoding(seed, scan_layers):
    m, observation = model(seed), observe(model(seed).config, 3, seed)
    size = {"horizon": HORIZON, "dim": DIM, "max_tokens": MAX, "scan_layers": scan_layers}
    answer = np.asarray(sample_chunk(m, observation, grammar(), **size))
    for name, draft in drafts(answer, grammar().ids, np.random.default_rng(seed)).items():
        got = speculate_chunk(m, observation, grammar(), draft_of(*draft), block=BLOCK, **size)
        np.testing.assert_array_equal(got.tokens, answer, name)


@pytest.mark.parametrize("block", [1, 3, 8, MAX])
def test_passes_are_as_few_as_the_draft_allows(block):
    """The prompt's pass gives the first token, every other one as many as a block holds."""
    m, observation = model(0), observe(model(0).config, 1)
    size = {"horizon": HORIZON, "dim": DIM, "max_tokens": MAX}
    answer = np.asarray(sample_chunk(m, observation, grammar(), **size))
    length = np.count_nonzero(answer) - 1  # the end needs no pass
    got = speculate_chunk(m, observation, grammar(), draft_of(answer, [length]), block=block, **size)
    assert int(got.passes) == -(-(length - 1) // block)
    assert int(got.accepted[0]) == length - 1 - int(got.passes)
    free = np.asarray(sample(m, observation, max_tokens=MAX, stop=()))
    got = speculate(m, observation, draft_of(free, [MAX]), block=block, max_tokens=MAX, stop=())
    assert int(got.passes) == -(-(MAX - 1) // block)
    assert int(got.accepted[0]) == MAX - 1 - int(got.passes)
    np.testing.assert_array_equal(got.tokens, free)
    got = speculate_chunk(m, observation, grammar(), draft_of(answer, [0]), block=block, **size)
    assert (int(got.passes), int(got.accepted[0])) == (length - 1, 0)


def test_drafting_goes_on_behind_a_wrong_token():
    """A wrong token costs a pass: the block is read to where it is, and the next begins behind it."""
    m, observation = model(0), observe(model(0).config, 1)
    answer = np.asarray(sample(m, observation, max_tokens=MAX, stop=()))
    for at in (1, 2, 9, 20, MAX - 1):
        wrong = answer.copy()
        wrong[0, at] += 1
        got = speculate(m, observation, draft_of(wrong, [MAX]), block=8, max_tokens=MAX, stop=())
        # Tokens after the prompt's first: up to the wrong one, which its pass corrects, and from there on.
        assert int(got.passes) == -(-at // 8) + -(-(MAX - 1 - at) // 8)
        np.testing.assert_array_equal(got.tokens, answer)


def test_a_chunk_is_aligned_by_its_coefficients_and_not_by_tokens():
    """A draft that spells the answer's beginning in other tokens serves from where both have a boundary."""
    m, observation = model(1), observe(model(1).config, 1)
    size = {"horizon": HORIZON, "dim": DIM, "max_tokens": MAX}
    answer = np.asarray(sample_chunk(m, observation, grammar(), **size))[0]
    length = np.count_nonzero(answer) - 1
    begins = dict(zip(grammar().ids.tolist(), grammar().begins.tolist(), strict=True))
    single = next(i for i, n in begins.items() if n == 1)
    at = next(i for i in range(length - 8) if begins[int(answer[i])] > 1)
    # One token of several characters becomes that many tokens of one.
    apart = [single] * begins[int(answer[at])]
    draft = [*answer[:at], *apart, *answer[at + 1 : length]]
    tokens = np.zeros((1, MAX), np.int32)
    tokens[0, : len(draft)] = draft
    got = speculate_chunk(m, observation, grammar(), draft_of(tokens, [len(draft)]), block=MAX, **size)
    np.testing.assert_array_equal(got.tokens[0], answer)
    # The prompt's pass, one that corrects the token, one for all behind it.
    assert int(got.passes) == (2 if at else 1)


def test_a_draft_may_have_no_room_at_all():
    m, observation = model(0), observe(model(0).config, 2)
    nothing = Draft(jnp.zeros((2, 0), jnp.int32), jnp.zeros(2, jnp.int32))
    got = speculate(m, observation, nothing, block=BLOCK, max_tokens=6, stop=())
    np.testing.assert_array_equal(got.tokens, sample(m, observation, max_tokens=6, stop=()))


def test_begins_counts_characters_by_their_first_bytes():
    tokens = [b"a", b"ab\xc3", b"\xa9", b"\xa9b", b"\x82\xac", "aé€".encode(), b"\xe2\x82"]
    made = Grammar.spelled(tokens, TEXT_VOCAB - 129, END)
    assert made.begins[::-1].tolist() == [1, 3, 0, 1, 0, 3, 1]


def test_what_a_draft_cannot_serve_is_refused():
    m, observation = model(0), observe(model(0).config, 1)
    draft = draft_of(np.zeros((1, 4)), [0])
    size = {"horizon": HORIZON, "dim": DIM}
    for temperature in (0.5, -1.0):
        with pytest.raises(ValueError, match=f"temperature {temperature}"):
            speculate_tokens(m, observation, draft, block=4, temperature=temperature)
        with pytest.raises(ValueError, match=f"temperature {temperature}"):
            speculate_action_tokens(
                m, observation, grammar(), draft, block=4, temperature=temperature, **size
            )
    with pytest.raises(ValueError, match="max_tokens: expected at least 1"):
        speculate_tokens(m, observation, draft, block=4, max_tokens=0)
    with pytest.raises(ValueError, match="block of 0 tokens"):
        speculate_tokens(m, observation, draft, block=0)
    with pytest.raises(InputError, match="there are 3"):
        speculate_action_tokens(m, observation, grammar(), draft, block=4, max_tokens=3, **size)


def test_nothing_changes_where_64_bits_are_the_default():
    """Counts stay 32 bits wide: a loop's state may not change its type."""
    m = model(0)
    observation, none = observe(m.config, 2), Draft(jnp.zeros((2, MAX), jnp.int32), jnp.zeros(2, jnp.int32))
    how = {"horizon": HORIZON, "dim": DIM, "max_tokens": MAX}
    expected = sample_chunk(m, observation, grammar(), **how)
    with jax.enable_x64(True):
        np.testing.assert_array_equal(sample_chunk(m, observation, grammar(), **how), expected)
        speculated = speculate_chunk(m, observation, grammar(), none, block=BLOCK, **how)
        np.testing.assert_array_equal(speculated.tokens, expected)
        free = sample(m, observation, max_tokens=MAX, stop=(END,))
        speculated = speculate(m, observation, none, block=BLOCK, max_tokens=MAX, stop=(END,))
        np.testing.assert_array_equal(speculated.tokens, free)
