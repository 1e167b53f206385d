"""Prompts equal the recorded ones and, on random input, the reference stack's.

Source of truth: reference/prompts.jsonl (480 recorded cases), and sentencepiece + NumPy run beside it.
"""

import json

import numpy as np
import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from pioxide.codec import FastCodec, Pi0FastPrompts, Pi0Prompts, Pi05Prompts, TextTokenizer
from pioxide.demo import text_model_path
from pioxide.errors import IncompleteChunkError, InputError
from support.reference_stack import HuggingFaceBpe, ReferenceFast, ReferencePrompts


@pytest.fixture(scope="module", params=["demo", "paligemma"])
def model(request, shared):
    """The small model that ships with the package, and PaliGemma's where it is at hand."""
    return text_model_path() if request.param == "demo" else shared("reference/paligemma_tokenizer.model")


@pytest.fixture(scope="module")
def both(model):
    return TextTokenizer.load(model), sentencepiece.SentencePieceProcessor(model_file=str(model))


@pytest.fixture(scope="module")
def recorded(shared):
    return [json.loads(line) for line in shared("reference/prompts.jsonl").read_text().splitlines()]


def test_recorded_prompts_give_the_recorded_ids_and_masks(shared, recorded):
    tokenizer = TextTokenizer.load(shared("reference/paligemma_tokenizer.model"))
    directory = shared("reference/fast/g1_h16_v1024")
    codec, chunks = FastCodec.load(directory), np.load(directory / "golden.npz")["chunks"]
    for case in recorded:
        state = np.array(case["state"], case["state_dtype"])
        prompt, max_len = case["prompt"], case["max_len"]
        if case["kind"] == "pi0":
            made = Pi0Prompts(tokenizer, max_len).encode(prompt)
        elif case["kind"] == "pi05":
            made = Pi05Prompts(tokenizer, max_len).encode(prompt, state)
        else:
            actions = None if case["chunk"] is None else chunks[case["chunk"]]
            made = Pi0FastPrompts(tokenizer, codec, max_len).encode(prompt, state, actions)
            assert "".join(str(int(x)) for x in made.ar_mask) == case["ar_mask"]
            assert "".join(str(int(x)) for x in made.loss_mask) == case["loss_mask"]
        assert made.tokens.dtype == np.int32
        assert made.mask.dtype == np.bool_
        assert made.tokens[: case["length"]].tolist() == case["tokens"]
        assert not made.tokens[case["length"] :].any()
        assert made.mask.sum() == case["length"] == min(made.length, max_len)
        assert made.truncated == (made.length > max_len)
    assert len(recorded) == 480


texts = st.one_of(
    st.sampled_from(
        ["pick up the red cube", "  Fold the_towel \n", "", "_", "ΑΣ", "\x1c\x1fİi", "a  b   c", ","]
    ),
    st.text(max_size=60),
    st.text(alphabet="abcdefgh ,.'_\n0123456789▁", max_size=60),
)


def states(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dim = draw(st.sampled_from([1, 7, 8, 14, 32]))
    kind = draw(st.sampled_from(["normal", "edges", "far"]))
    values = {
        "normal": rng.normal(0, 0.6, dim),
        "edges": rng.integers(-140, 140, dim) / 128,
        "far": rng.normal(0, 100, dim),
    }[kind]
    return values.astype(draw(st.sampled_from([np.float32, np.float64])))


@settings(max_examples=1500, deadline=None)
@given(data=st.data())
def test_random_prompts_equal_the_reference(both, data):
    tokenizer, processor = both
    reference = ReferencePrompts(processor)
    text, state = data.draw(texts), states(data.draw)
    max_len = data.draw(st.sampled_from([5, 48, 300]))
    for ours, theirs in (
        (Pi0Prompts(tokenizer, max_len).encode(text), reference.pi0(text, max_len)),
        (Pi05Prompts(tokenizer, max_len).encode(text, state), reference.pi05(text, state, max_len)),
        (
            Pi0FastPrompts(tokenizer, None, max_len).encode(text, state),
            reference.pi0_fast(text, state, None, max_len),
        ),
    ):
        assert ours.tokens.tolist() == theirs.tokens.tolist()
        assert ours.mask.tolist() == theirs.mask.tolist()
        assert ours.length == theirs.length


@settings(max_examples=1500, deadline=None)
@given(text=st.one_of(texts, st.text(max_size=300)))
def test_random_text_gives_the_ids_and_the_text_of_sentencepiece(both, text):
    tokenizer, processor = both
    ids = tokenizer.encode(text).tolist()
    assert ids == processor.encode(text)
    assert tokenizer.encode(text, bos=True, eos=True).tolist() == [tokenizer.bos_id, *ids, tokenizer.eos_id]
    assert tokenizer.decode(ids) == processor.decode(ids)
    assert tokenizer.decode(ids) == text.replace("▁", " ").replace("▁", " ")


@settings(max_examples=500, deadline=None)
@given(data=st.data())
def test_random_ids_decode_as_sentencepiece_decodes_them(both, data):
    tokenizer, processor = both
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=40))
    assert tokenizer.decode(ids) == processor.decode(ids)


def test_batches_and_buffers_equal_one_by_one(both):
    tokenizer, _ = both
    rng = np.random.default_rng(0)
    unique = ["pick up the red cube", "fold the towel", "a much longer instruction that is cut " * 3]
    index = rng.integers(0, 3, 50)
    prompts = [unique[i] for i in index]
    states = rng.normal(0, 0.6, (50, 14)).astype(np.float32)
    pi0, pi05, fast = (
        Pi0Prompts(tokenizer, 20),
        Pi05Prompts(tokenizer, 90),
        Pi0FastPrompts(tokenizer, None, 90),
    )
    for batch, singles in (
        (pi0.encode_batch(prompts), [pi0.encode(p) for p in prompts]),
        (pi0.encode_batch((unique, index)), [pi0.encode(p) for p in prompts]),
        (
            pi05.encode_batch(prompts, states),
            [pi05.encode(p, s) for p, s in zip(prompts, states, strict=True)],
        ),
        (
            pi05.encode_batch((unique, index), states[:, ::1]),
            [pi05.encode(p, s) for p, s in zip(prompts, states, strict=True)],
        ),
        (
            fast.encode_batch(prompts, states),
            [fast.encode(p, s) for p, s in zip(prompts, states, strict=True)],
        ),
    ):
        assert batch.tokens.shape == (50, len(singles[0].tokens))
        for i, single in enumerate(singles):
            assert batch.tokens[i].tolist() == single.tokens.tolist()
            assert batch.mask[i].tolist() == single.mask.tolist()
            assert (batch.lengths[i], batch.truncated[i]) == (single.length, single.truncated)
    tokens, mask = np.full(90, 7, np.int32), np.ones(90, bool)
    length, truncated = pi05.encode_into(prompts[0], states[0], tokens, mask)
    single = pi05.encode(prompts[0], states[0])
    assert (length, truncated) == (single.length, single.truncated)
    assert tokens.tolist() == single.tokens.tolist()
    assert mask.tolist() == single.mask.tolist()


def test_training_batch_equals_one_by_one_and_the_reference(both):
    tokenizer, _ = both
    rng = np.random.default_rng(1)
    chunks = np.cumsum(rng.normal(0, 0.1, (40, 16, 7)), axis=1)
    states = rng.normal(0, 0.6, (40, 7))
    codec = FastCodec.fit(chunks, vocab_size=600)
    prompts = Pi0FastPrompts(tokenizer, codec, 120)
    made = prompts.encode_batch(["pick up the red cube"] * 40, states, chunks)
    tokenized = prompts.encode_batch(["pick up the red cube"] * 40, states, codec.encode_batch(chunks))
    for i in range(40):
        single = prompts.encode("pick up the red cube", states[i], chunks[i])
        for field in ("tokens", "mask", "ar_mask", "loss_mask"):
            assert getattr(made, field)[i].tolist() == getattr(single, field).tolist()
            assert getattr(tokenized, field)[i].tolist() == getattr(single, field).tolist()
        if not single.truncated:
            actions = prompts.ids_to_actions(single.tokens, horizon=16, dim=7).actions
            np.testing.assert_array_equal(
                actions, codec.decode(codec.encode(chunks[i]).ids, horizon=16, dim=7).actions
            )


def test_ids_to_actions_equals_the_text_route_where_that_gives_a_real_answer(shared):
    model, directory = shared("reference/paligemma_tokenizer.model"), shared("reference/fast/g1_h50_v2048")
    fast = ReferenceFast.load(directory, HuggingFaceBpe)
    reference = ReferencePrompts.load(model, fast)
    codec = FastCodec.load(directory)
    prompts = Pi0FastPrompts(TextTokenizer.load(model), codec, 500)
    golden = np.load(directory / "golden.npz")
    real = 0
    for chunk in golden["chunks"][:80]:
        ids = prompts.encode("pick up", np.zeros(14), chunk).tokens
        ours = prompts.ids_to_actions(ids, horizon=chunk.shape[0], dim=chunk.shape[1])
        theirs = reference.extract_actions(ids, *chunk.shape)
        if theirs.any():
            np.testing.assert_array_equal(ours.actions, theirs)
            real += 1
    assert real > 70


@pytest.fixture(scope="module")
def generated(both):
    """Prompts with a codec, and sequences of unequal length as a model gives them."""
    chunks = np.cumsum(np.random.default_rng(2).normal(0, 0.1, (30, 16, 7)), axis=1)
    prompts = Pi0FastPrompts(both[0], FastCodec.fit(chunks, vocab_size=600), 400)
    prefix = prompts.encode("pick up", np.zeros(7)).length
    made = [prompts.encode("pick up", np.zeros(7), chunk) for chunk in chunks]
    return prompts, [one.tokens[prefix : one.length] for one in made]


def test_ids_to_actions_of_a_batch_equal_one_by_one(generated):
    prompts, sequences = generated
    expected = np.stack([prompts.ids_to_actions(ids, horizon=16, dim=7).actions for ids in sequences])
    longest = max(map(len, sequences))
    rows = np.stack([np.pad(ids, (0, longest - len(ids))) for ids in sequences])
    ragged = np.empty(len(sequences), object)
    ragged[:] = sequences
    for ids in (
        sequences,
        tuple(ids.tolist() for ids in sequences),
        iter(sequences),
        ragged,
        rows,
        np.asfortranarray(rows),
        rows.astype(np.int64),
    ):
        actions, missing = prompts.ids_to_actions_batch(ids, horizon=16, dim=7)
        np.testing.assert_array_equal(actions, expected)
        assert missing.tolist() == [0] * len(sequences)
    marker = 2
    assert prompts.tokenizer.decode(sequences[0][:marker]) == "Action:"
    cut = [ids[marker:-9] for ids in sequences]
    actions, missing = prompts.ids_to_actions_batch(cut, horizon=16, dim=7, partial="pad", continued=True)
    for n, ids in enumerate(cut):
        one = prompts.ids_to_actions(ids, horizon=16, dim=7, partial="pad", continued=True)
        np.testing.assert_array_equal(actions[n], one.actions)
        assert missing[n] == one.missing > 0
    actions, missing = prompts.ids_to_actions_batch([], horizon=16, dim=7)
    assert (actions.shape, missing.shape) == ((0, 16, 7), (0,))


def test_a_batch_of_ids_names_the_sequence_at_fault(generated):
    prompts, sequences = generated
    for at, value, kind, message in (
        (3, sequences[3][:-9], IncompleteChunkError, r"^sequence 3: the ids hold \d+ coefficients"),
        (5, sequences[5][4:], InputError, r"^sequence 5: none of the \d+ tokens begins the actions"),
        (7, np.insert(sequences[7], 6, 9000), InputError, r"^sequence 7: token 6 \(id 9000\)"),
        (8, np.insert(sequences[8], 2, -4), InputError, r"^tokens\[8\]\[2\]: -4 is not a token id"),
        (9, sequences[9].astype(float), InputError, r"^tokens\[9\]: expected integers, got dtype float64"),
    ):
        broken = list(sequences)
        broken[at] = value
        with pytest.raises(kind, match=message):
            prompts.ids_to_actions_batch(broken, horizon=16, dim=7)
    rows = np.zeros((4, 9), np.int32)
    rows[2, 5] = -1
    for ids, message in (
        (rows, r"^tokens\[2, 5\]: -1 is not a token id"),
        (rows.astype(np.int64), r"^tokens\[2, 5\]: -1 is not a token id"),
        (rows[0], r"^tokens: expected 2 dimensions, got shape \[9\]"),
        (rows.astype(float), r"^tokens: expected integers, got dtype float64"),
        (7, r"^tokens: expected sequences of ids"),
    ):
        with pytest.raises(InputError, match=message):
            prompts.ids_to_actions_batch(ids, horizon=16, dim=7)
    with pytest.raises(InputError, match="without a codec"):
        Pi0FastPrompts(prompts.tokenizer, None).ids_to_actions_batch([], horizon=16, dim=7)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_state_that_is_no_number_names_the_joint(both, value):
    tokenizer, _ = both
    states = np.zeros((5, 8))
    states[3, 6] = value
    with pytest.raises(InputError, match=r"joint 6\b"):
        Pi05Prompts(tokenizer).encode("pick up", states[3])
    with pytest.raises(InputError, match=r"row 3\b.*joint 6\b"):
        Pi05Prompts(tokenizer).encode_batch(["pick up"] * 5, states)


def test_shapes_that_do_not_fit_are_named(both):
    tokenizer, _ = both
    with pytest.raises(InputError, match=r"4 prompts, but 5"):
        Pi05Prompts(tokenizer).encode_batch(["a"] * 4, np.zeros((5, 8)))
    with pytest.raises(InputError, match="index"):
        Pi05Prompts(tokenizer).encode_batch((["a"], np.array([0, 1])), np.zeros((2, 8)))
    with pytest.raises(InputError, match="codec"):
        Pi0FastPrompts(tokenizer, None).encode("a", np.zeros(8), np.zeros((16, 7)))


@pytest.mark.parametrize("prompts", ["pick up", 3, [b"pick up"], [None]])
def test_prompts_that_are_no_texts_are_an_error(both, prompts):
    tokenizer, _ = both
    with pytest.raises((InputError, TypeError)):
        Pi0Prompts(tokenizer).encode_batch(prompts)
