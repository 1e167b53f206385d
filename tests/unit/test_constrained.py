"""Constrained decoding: a whole chunk comes out, whatever the scores; the model's own where it is one."""

import functools
import json
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from pioxide.codec import BeastCodec, BinningCodec, FastCodec
from pioxide.errors import InputError
from pioxide.models import Observation, Pi0Fast, Pi0FastConfig
from pioxide.sampling import Grammar, sample_action_tokens, sample_tokens
from pioxide.sampling.constrained import NEVER
from pioxide.sampling.tokens import BROKEN
from support.models import observe, random_model

TEXT_VOCAB = 4096
FIRST_FAST_ID = TEXT_VOCAB - 129
END = 7
HORIZON, DIM = 8, 3


def text_ids(ids):
    return FIRST_FAST_ID - np.asarray(ids)


@functools.cache
def fitted(regex_split):
    rng = np.random.default_rng(0)
    chunks = np.cumsum(rng.normal(0, 0.2, (200, HORIZON, DIM)), axis=1)
    return FastCodec.fit(chunks, vocab_size=400, regex_split=regex_split)


@pytest.fixture(scope="module", params=["full", "no split", "g1_h16_v1024", "g1_h50_v2048"])
def codec(request):
    """Vocabularies with every byte, and published ones, of which the first lacks half of them."""
    if request.param.startswith("g1"):
        golden = request.path.parents[1] / "golden" / "fast" / f"{request.param}.json"
        record = json.loads(golden.read_text())
        return FastCodec(*(json.dumps(record[k]).encode() for k in ("tokenizer", "processor_config")))
    return fitted(request.param == "full")


@functools.cache
def grammar_of(codec):
    return Grammar.of(codec, first_fast_id=FIRST_FAST_ID, end=END)


# A script does not look.
NOTHING = Observation({}, {}, *jnp.zeros((2, 1, 1), jnp.int32), jnp.zeros((1, 1)))


class Position(NamedTuple):
    step: jax.Array


class Script(Pi0Fast):
    """A model whose scores for each step are given, [B, N, V] over the ids of a head."""

    language = property(lambda self: self)

    def __init__(self, scores):
        self.scores = jnp.asarray(scores)

    def head(self, ids):
        return ids

    def prefill(self, observation, max_new_tokens, *, head, scan_layers):
        return self.scores[:, 0], Position(jnp.int32(1))

    def decode(self, tokens, state, *, head):
        return self.scores[:, state.step][:, None], Position(state.step + 1)


@functools.partial(jax.jit, static_argnames=("grammar", "horizon", "dim", "max_tokens", "temperature"))
def scripted(scores, grammar, horizon=HORIZON, dim=DIM, max_tokens=60, temperature=0.0, key=None):
    how = {"horizon": horizon, "dim": dim, "max_tokens": max_tokens, "temperature": temperature, "key": key}
    return sample_action_tokens(Script(scores), NOTHING, grammar, **how)


def written(tokens):
    """The FAST ids before the end, which must be there, with nothing behind it."""
    tokens = np.asarray(tokens)
    (end,) = np.flatnonzero(tokens == END)
    assert not tokens[end + 1 :].any()
    return FIRST_FAST_ID - tokens[:end]


def assert_whole(codec, tokens, horizon=HORIZON, dim=DIM):
    for row in np.asarray(tokens):
        decoded = codec.decode(written(row), horizon=horizon, dim=dim, partial="error")
        assert decoded.missing == 0
        assert np.isfinite(decoded.actions).all()


def spell(codec, ids):
    return b"".join(codec.token_bytes(int(i)) for i in ids)


@functools.cache
def beginnings():
    """Every way in which a character's bytes may begin, by Python's encoder."""
    codes = (*range(0x80, 0xD800), *range(0xE000, 0x110000))
    spelled = {chr(code).encode()[:-1] for code in codes}
    return {whole[:n] for whole in spelled for n in range(1, len(whole) + 1)}


def read(text):
    """Characters completed and bytes left over; None where some character is broken."""
    count, part = 0, b""
    for byte in text:
        part += bytes([byte])
        if part in beginnings():
            continue
        try:
            part.decode()
        except UnicodeDecodeError:
            return None
        count, part = count + 1, b""
    return count, part


def test_tables_say_what_python_says_of_utf8(codec):
    """From each place, reached by some bytes."""
    grammar = grammar_of(codec)
    reached = [b"", b"\xc2", b"\xe1", b"\xf1", b"\xe0", b"\xed", b"\xf0", b"\xf4"]
    for place, before in enumerate(reached):
        for column, text_id in enumerate(grammar.ids):
            found = read(before + codec.token_bytes(FIRST_FAST_ID - int(text_id)))
            completes, after = int(grammar.completes[place, column]), int(grammar.places[place, column])
            if found is None:
                assert completes == NEVER
                continue
            assert completes == found[0]
            assert (after == 0) == (found[1] == b"")
            # Where this says the text stands, the same may follow as Python lets follow.
            follow = {b for b in range(256) if read(found[1] + bytes([b])) is not None}
            assert follow == {b for b in range(256) if read(reached[after] + bytes([b])) is not None}


@pytest.mark.parametrize("temperature", [0.0, 0.3, 100.0])
def test_any_scores_give_a_whole_chunk(codec, temperature):
    grammar = grammar_of(codec)
    for seed, size in enumerate([1e-3, 1.0, 30.0, 1e30]):
        rng = np.random.default_rng(seed)
        scores = (rng.normal(size=(16, 60, len(grammar.ids))) * size).astype(np.float32)
        tokens = scripted(scores, grammar, temperature=temperature, key=jax.random.key(seed))
        assert_whole(codec, tokens)


@pytest.mark.parametrize("codec", ["binning", "beast"])
def test_any_scores_give_a_whole_chunk_of_another_codec(codec):
    chunks = np.cumsum(np.random.default_rng(0).normal(0, 0.1, (50, HORIZON, DIM)), axis=1)
    codec = BinningCodec(64) if codec == "binning" else BeastCodec.fit(chunks, control_points=5, bins=64)
    grammar = grammar_of(codec)
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(8, 60, len(grammar.ids))).astype(np.float32)
    tokens = scripted(scores, grammar)
    assert_whole(codec, tokens)
    assert {len(written(row)) for row in np.asarray(tokens)} == {grammar.characters(HORIZON, DIM)}
    with pytest.raises(InputError, match="takes at least"):
        scripted(scores, grammar, max_tokens=grammar.characters(HORIZON, DIM))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_no_numbers_give_no_chunk(codec, bad, temperature):
    """What a grammar makes of a broken network would be a whole chunk that moves a robot."""
    grammar = grammar_of(codec)
    scores = np.zeros((4, 60, len(grammar.ids)), np.float32)
    scores[0], scores[1, 0, 5], scores[2, 3, 0] = bad, bad, bad
    tokens = np.asarray(scripted(scores, grammar, temperature=temperature, key=jax.random.key(0)))
    assert (tokens[:3] == BROKEN).all()
    assert_whole(codec, tokens[3:])


def test_partial_characters_wherever_they_are_wanted(codec):
    """A model that loves tokens which begin or end inside a character, and one that loves the longest."""
    grammar = grammar_of(codec)
    inside = (grammar.places[0] != 0) | (grammar.completes[0] == NEVER)
    length = np.where(grammar.completes[0] == NEVER, 0, grammar.completes[0])
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(16, 60, len(grammar.ids)))
    for liking in (9.0 * inside, 1.0 * length, -1.0 * length):
        scores = (noise + liking).astype(np.float32)
        tokens = scripted(scores, grammar)
        assert_whole(codec, tokens)
    if inside.any() and len(codec.representable) < 3:
        tokens = scripted((noise + 9.0 * inside).astype(np.float32), grammar)
        texts = [spell(codec, written(row)).decode() for row in np.asarray(tokens)]
        assert any(ord(c) > 127 for text in texts for c in text)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.05, 3.0))
def test_a_whole_chunk_of_the_models_own_is_kept(seed, size):
    codec = fitted(True)
    grammar = grammar_of(codec)
    rng = np.random.default_rng(seed)
    ids = codec.encode(np.cumsum(rng.normal(0, size, (HORIZON, DIM)), axis=0)).ids
    scores = rng.normal(size=(1, 60, len(grammar.ids))).astype(np.float32)
    columns = np.searchsorted(grammar.ids, text_ids(ids))
    scores[0, np.arange(len(ids)), columns] += 20
    np.testing.assert_array_equal(written(scripted(scores, grammar)[0]), ids)


def test_the_end_comes_in_time_however_few_tokens_there_are(codec):
    grammar = grammar_of(codec)
    fewest = int(grammar.shortest(HORIZON * DIM)[0, -1])
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(4, 60, len(grammar.ids))).astype(np.float32)
    for room in (fewest + 1, fewest + 2, fewest + 5):
        tokens = scripted(scores, grammar, max_tokens=room)
        assert_whole(codec, tokens)
    with pytest.raises(InputError, match=f"at least {fewest + 1} tokens"):
        scripted(scores, grammar, max_tokens=fewest)


def test_fewest_tokens_are_those_of_a_search(codec):
    """Dijkstra over single tokens, for short texts."""
    grammar = grammar_of(codec)
    got = grammar.shortest(4)
    best = {(0, 0): 0}
    for cost in range(1, 17):
        for place in range(8):
            for left in range(5):
                for c, p in zip(grammar.completes[place], grammar.places[place], strict=True):
                    if c <= left and best.get((int(p), left - int(c))) == cost - 1:
                        best.setdefault((place, left), cost)
    for place in range(8):
        for left in range(5):
            assert got[place, left] == best.get((place, left), NEVER)


def test_a_vocabulary_without_continuations_has_no_dead_end():
    """Lead bytes without anything to complete them are never chosen."""
    tokens = [b"a", b"b", b"\xc3", b"a\xe2", b"\xe2\x82"]
    grammar = Grammar.spelled(tokens, 15, END)
    scores = np.zeros((1, 60, 5), np.float32)
    scores[..., np.flatnonzero(grammar.completes[0] != 1)] = 9
    scores[..., np.flatnonzero(grammar.places[0] != 0)] = 99
    chosen = np.asarray(scripted(scores, grammar))[0]
    assert {tokens[15 - t] for t in chosen[: HORIZON * DIM]} <= {b"a", b"b"}
    assert chosen[HORIZON * DIM] == END
    hopeless = Grammar.spelled([b"\xc3"] * 5, 15, END)
    with pytest.raises(InputError, match="can't be written at all"):
        scripted(scores, hopeless)


@pytest.mark.parametrize(("horizon", "dim"), [(0, 7), (-1, -2), (1, -3), (1000, 40)])
def test_a_chunk_that_is_none_is_refused(horizon, dim):
    # Of 32,767 characters on the tables' word for "never" would be a number of characters.
    with pytest.raises(InputError, match=rf"chunk of \[{horizon}, {dim}\]"):
        scripted(jnp.zeros((1, 2, 1)), grammar_of(fitted(True)), horizon=horizon, dim=dim, max_tokens=50_000)


@pytest.mark.parametrize("temperature", [-1.0, float("nan"), float("inf")])
def test_a_temperature_that_is_none_is_refused(temperature):
    with pytest.raises(ValueError, match=f"temperature {temperature} must be 0"):
        scripted(
            jnp.zeros((1, 2, 1)), grammar_of(fitted(True)), temperature=temperature, key=jax.random.key(0)
        )


def test_colliding_ids_are_refused():
    with pytest.raises(InputError, match="don't fit"):
        Grammar.of(fitted(True), first_fast_id=300 - 129, end=END)
    with pytest.raises(InputError, match="is one of them"):
        Grammar.of(fitted(True), first_fast_id=FIRST_FAST_ID, end=FIRST_FAST_ID - 3)


@pytest.fixture(scope="module")
def model():
    config = Pi0FastConfig.tiny()
    return random_model(replace(config, language=replace(config.language, vocab=TEXT_VOCAB)))


write = nnx.jit(
    sample_action_tokens,
    static_argnames=("grammar", "horizon", "dim", "max_tokens", "temperature", "scan_layers"),
)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_model_of_random_weights_writes_whole_chunks(model, temperature):
    codec = fitted(True)
    how = {"horizon": HORIZON, "dim": DIM, "max_tokens": 40, "temperature": temperature}
    tokens = write(model, observe(model.config), grammar_of(codec), key=jax.random.key(1), **how)
    assert_whole(codec, tokens)


def test_each_token_is_the_best_allowed_one_of_the_whole_vocabulary(model):
    """Against scores of every token, masked here by asking the codec's own bytes."""
    codec = fitted(True)
    grammar = grammar_of(codec)
    observation = observe(model.config, 1)
    tokens = np.asarray(write(model, observation, grammar, horizon=HORIZON, dim=DIM, max_tokens=60))[0]
    logits, state = nnx.jit(lambda m, o: m.prefill(o, 60))(model, observation)
    decode = nnx.jit(lambda m, t, s: m.decode(t, s))
    logits, so_far = np.asarray(logits)[0], b""
    for token in tokens[: int(np.flatnonzero(tokens == END)[0])]:
        allowed = []
        for t in range(codec.vocab_size):
            spelled = codec.token_bytes(t)
            try:
                text = (so_far + spelled).decode()
            except (UnicodeDecodeError, TypeError) as error:
                # Cut at the end is fine where a character more fits.
                if spelled is None or error.reason != "unexpected end of data":
                    continue
                text = (so_far + spelled)[: error.start].decode() + "?"
            if len(text) <= HORIZON * DIM:
                allowed.append(text_ids(t))
        best = max(allowed, key=lambda text_id: logits[text_id])
        assert token == best
        so_far += codec.token_bytes(FIRST_FAST_ID - int(token))
        scores, state = decode(model, jnp.array([[token]], jnp.int32), state)
        logits = np.asarray(scores)[0, 0]
    # Without rules the same model writes no chunk, so there was something to constrain.
    free = np.asarray(
        nnx.jit(sample_tokens, static_argnames=("max_tokens",))(model, observation, max_tokens=40)
    )
    assert not np.isin(free[0, :3], grammar.ids).all()
