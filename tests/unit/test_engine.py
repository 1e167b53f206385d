"""Each row of a batch gets what it would get alone, and nothing compiles once an engine is warm."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache

import jax
import numpy as np
import pytest

from pioxide.codec import FastCodec
from pioxide.engine import Engine, FlowSampler, Inputs, Shape, TokenFormat, TokenSampler
from pioxide.engine.shape import best_compiled, bucket, text_buckets
from pioxide.errors import InputError, PolicyError
from pioxide.models import Pi0Config, Pi0FastConfig
from pioxide.sampling import Draft, Grammar, PrevChunkLeftOver, RTCConfig
from support.models import random_model
from support.oracle import Oracle

# A batch adds its sums in another order: some float32 roundings, through a few steps of the flow.
CLOSE = {"rtol": 2e-4, "atol": 2e-5}
TEXT, TEXT_VOCAB, BAR, CAUSAL = 32, 4096, 7, 2
CAMERAS = Pi0Config.tiny().cameras
LENGTHS = (5, 32, 17)


@cache
def model(kind):
    if kind == "pi0_fast":
        config = replace(Pi0FastConfig.tiny(), text_len=TEXT, cameras=CAMERAS)
        return random_model(replace(config, language=replace(config.language, vocab=TEXT_VOCAB)))
    return random_model(replace(Pi0Config.tiny(pi05=kind == "pi05"), text_len=TEXT))


@cache
def token_format():
    chunks = np.random.default_rng(0).normal(size=(60, 6, 7)).cumsum(1) * 0.2
    codec = FastCodec.fit(chunks, vocab_size=400)
    return TokenFormat((BAR, 1), CAUSAL, Grammar.of(codec, first_fast_id=TEXT_VOCAB - 129, end=BAR))


def engine(kind, sampler, **how):
    return Engine(model(kind), sampler, token_format() if kind == "pi0_fast" else None, **how)


def moments(made, lengths=LENGTHS, seed=0, without=()):
    """A row a length; row 0 lacks the cameras of `without`."""
    rng, c, rows = np.random.default_rng(seed), made.config, len(lengths)
    size, fast = c.vision.image_size, isinstance(c, Pi0FastConfig)
    images = {name: rng.integers(0, 256, (rows, size, size, 3), dtype=np.uint8) for name in CAMERAS}
    masks = {name: np.arange(rows) > 0 for name in without}
    chunk = (rows, c.action_horizon, c.action_dim)
    drawn = isinstance(made.sampler, TokenSampler) and made.sampler.temperature > 0
    return Inputs(
        images,
        rng.integers(3, 500, (rows, max(lengths)), dtype=np.int32),
        np.array(lengths, np.int32),
        masks,
        rng.standard_normal((rows, c.action_dim), np.float32) if c.family.state_is_vector else None,
        None if fast else rng.standard_normal(chunk, np.float32),
        rng.integers(0, 1 << 32, (rows, 2), np.uint32) if drawn else None,
    )


def row(inputs, number):
    """One row of a batch; a camera that it has not is gone."""
    has = {n for n in inputs.images if n not in inputs.image_masks or inputs.image_masks[n][number]}
    one = jax.tree.map(lambda array: array[number : number + 1], inputs._replace(image_masks=None))
    return one._replace(images={name: image for name, image in one.images.items() if name in has})


def both(made, inputs):
    """A batch's rows, and each of them alone."""
    together = made.run(inputs)
    alone = [made.run(row(inputs, number)) for number in range(len(inputs.tokens))]
    return together, alone


@pytest.mark.parametrize("kind", ["pi0", "pi05"])
def test_rows_of_mixed_prompts_and_cameras_answer_as_alone(kind):
    made = engine(kind, FlowSampler(num_steps=3))
    together, alone = both(made, moments(made, without=CAMERAS[1:]))
    assert together.shape == Shape(4, CAMERAS, 32)
    assert alone[0].shape == Shape(1, CAMERAS[:1], 16)
    np.testing.assert_allclose(together.actions, np.concatenate([a.actions for a in alone]), **CLOSE)


@pytest.mark.parametrize("realtime", [RTCConfig(), "trained"], ids=["guided", "trained"])
def test_rows_continue_their_own_chunk_as_alone(realtime):
    made = engine("pi05", FlowSampler(num_steps=3, realtime=realtime))
    inputs = moments(made)
    left = PrevChunkLeftOver(
        np.random.default_rng(3).standard_normal(inputs.noise.shape, np.float32),
        np.array([0, 5, 3], np.int32),
        np.array([0, 2, 3], np.int32),
    )
    together, alone = both(made, inputs._replace(prev_chunk_left_over=left))
    expected = np.concatenate([answer.actions for answer in alone])
    np.testing.assert_allclose(together.actions, expected, **CLOSE)
    free = made.run(inputs).actions
    np.testing.assert_allclose(free[0], together.actions[0], **CLOSE)
    assert np.abs(free[1] - together.actions[1]).max() > 0.1
    if realtime == "trained":
        np.testing.assert_array_equal(together.actions[2, :3], left.actions[2, :3])


@pytest.mark.parametrize(
    "sampler",
    [
        TokenSampler(max_tokens=60),
        TokenSampler(max_tokens=60, temperature=1.0),
        TokenSampler(max_tokens=12, constrained=False, temperature=1.0),
    ],
    ids=["best", "drawn", "free"],
)
def test_rows_write_the_tokens_that_they_write_alone(sampler):
    made = engine("pi0_fast", sampler)
    together, alone = both(made, moments(made))
    np.testing.assert_array_equal(together.tokens, np.concatenate([a.tokens for a in alone]))
    assert len({tuple(tokens) for tokens in together.tokens}) == len(LENGTHS)


@pytest.mark.parametrize("constrained", [True, False])
def test_drafts_of_any_length_change_no_row(constrained):
    plain = engine("pi0_fast", TokenSampler(max_tokens=48, constrained=constrained))
    made = engine("pi0_fast", TokenSampler(max_tokens=48, constrained=constrained, speculative=4))
    inputs = moments(made)
    expected = plain.run(inputs).tokens
    tokens, length = expected.copy(), np.count_nonzero(expected, axis=1).astype(np.int32)
    length[0], tokens[1, 5:] = 0, 9
    together, alone = both(made, inputs._replace(draft=Draft(tokens, length)))
    np.testing.assert_array_equal(together.tokens, expected)
    np.testing.assert_array_equal(np.concatenate([answer.tokens for answer in alone]), expected)
    assert [one.drafted for one in together.speculative] == length.tolist()
    assert alone[2].speculative[0].passes < alone[0].speculative[0].passes
    np.testing.assert_array_equal(made.run(inputs).tokens, expected)


def test_padding_rows_and_a_batch_in_parts_change_nothing():
    made = engine("pi0", FlowSampler(num_steps=2), compile_when="never")
    inputs = moments(made, lengths=(9, 12, 3, 16, 5), without=CAMERAS[2:])
    made.warm_up([Shape(2, CAMERAS, 16), Shape(1, CAMERAS, 16)])
    parts = made.run(inputs)
    assert parts.shape == Shape(2, CAMERAS, 16)
    expected = np.concatenate([made.run(row(inputs, number)).actions for number in range(5)])
    np.testing.assert_allclose(parts.actions, expected, **CLOSE)


def test_a_camera_lost_in_the_middle_uses_the_program_that_is_there_and_nothing_compiles():
    made = engine("pi0", FlowSampler(num_steps=2))
    made.warm_up([Shape(1, CAMERAS, 32), Shape(4, CAMERAS, 32)])
    exact = engine("pi0", FlowSampler(num_steps=2), compile_when="on_demand")
    compiled = []

    def listen(event, duration, **_):
        if "compile" in event or "trac" in event:
            compiled.append(event)

    rng, answers = np.random.default_rng(0), []
    calls = []
    for number in range(200):
        lengths = tuple(rng.integers(1, TEXT + 1, rng.integers(1, 6)).tolist())
        inputs = moments(made, lengths, number)
        lost = CAMERAS[: rng.integers(0, 3)] if number > 100 else ()
        calls.append(inputs._replace(images={n: i for n, i in inputs.images.items() if n not in lost}))
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        # An eager operation on a NumPy array would be an implicit upload, and is refused here.
        with jax.transfer_guard("disallow"):
            answers = [made.run(inputs) for inputs in calls]
        assert compiled == []
        jax.jit(lambda x: x + 41.5)(np.float32(1.0))
        assert compiled, "the counter counts"
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert {answer.shape for answer in answers} == set(made.shapes)
    shorn = [n for n in range(101, 200) if len(calls[n].images) == 1 and len(calls[n].tokens) == 1][:3]
    assert len(shorn) == 3
    for number in shorn:
        answer = exact.run(calls[number])
        assert answer.shape.cameras == CAMERAS[2:]
        np.testing.assert_allclose(answers[number].actions, answer.actions, **CLOSE)


def test_a_call_that_no_compiled_program_can_answer_is_refused_with_the_way_out():
    made = engine("pi0", FlowSampler(num_steps=1), compile_when="never")
    with pytest.raises(PolicyError, match="compiled: nothing"):
        made.run(moments(made))
    made.warm_up([Shape(1, CAMERAS[:2], 16)])
    for wrong in (moments(made, (17,)), moments(made, (3,))):
        with pytest.raises(PolicyError, match=r"1 row, cameras .* ids of text; compiled: 1 row.*Warm up"):
            made.run(wrong)
    assert len(made.shapes) == 1


def test_a_shorter_text_does_not_compile_where_a_longer_one_is_there():
    made = engine("pi0", FlowSampler(num_steps=1), compile_when="on_demand")
    assert made.run(moments(made, (32,))).shape.text == 32
    assert made.run(moments(made, (3,))).shape.text == 32
    assert len(made.shapes) == 1


def test_the_cheapest_program_that_serves_is_chosen():
    c = ("a", "b")
    compiled = [Shape(1, c, 64), Shape(4, c, 32), Shape(8, c[:1], 32), Shape(8, c, 32)]

    def best(shape, more=True):
        return best_compiled(shape, compiled, 100, more_cameras=more)

    assert best(Shape(1, c, 16)) == Shape(1, c, 64)
    assert best(Shape(1, c[:1], 32)) == Shape(1, c, 64)
    assert best(Shape(1, c[:1], 32), more=False) == Shape(8, c[:1], 32)
    assert best(Shape(2, c[1:], 32)) == Shape(4, c, 32)
    assert best(Shape(16, c, 32)) == Shape(8, c, 32)
    assert best(Shape(16, c, 48)) == Shape(1, c, 64)
    assert best(Shape(1, ("c",), 16)) is None
    assert best(Shape(1, c, 65)) is None


def test_buckets_end_at_the_longest_text():
    assert text_buckets(48) == (16, 32, 48)
    assert text_buckets(250) == (16, 32, 48, 64, 96, 128, 200, 250)
    assert text_buckets(12) == (12,)
    assert [bucket(n, text_buckets(200)) for n in (1, 16, 17, 65, 128, 200)] == [16, 16, 32, 96, 128, 200]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"state": None}, "state: π0 with .* needs it"),
        ({"noise": np.zeros((3, 6, 7))}, r"noise: expected float32 of shape \(3, 6, 7\), got float64"),
        ({"keys": np.zeros((3, 2), np.uint32)}, "keys: π0 with .* does not read it"),
        ({"lengths": np.array([1, 0, 2], np.int32)}, "lengths: expected 1 to 32 ids in each row"),
        ({"tokens": np.zeros((0, 4), np.int32)}, "1 row or more"),
        ({"images": {"top": None}}, "no camera 'top'"),
        ({"image_masks": {CAMERAS[0]: np.ones(2, bool)}}, r"image_masks\['base_0_rgb'\]: expected bool"),
        ({"draft": Draft(np.zeros((3, 9), np.int32), np.zeros(3, np.int32))}, "draft: .* not speculative"),
        ({"prev_chunk_left_over": PrevChunkLeftOver(*[np.zeros(3)] * 3)}, "has no realtime"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_wrong_inputs_are_named(change, message):
    made = engine("pi0", FlowSampler(num_steps=1))
    with pytest.raises(InputError, match=message):
        made.run(moments(made)._replace(**change))


def test_a_delay_past_what_is_left_is_refused():
    made = engine("pi05", FlowSampler(num_steps=3, realtime="trained"))
    inputs = moments(made)
    counts = np.array([2, 2, 7], np.int32), np.array([2, 3, 1], np.int32)
    for length, delay in (counts, counts[::-1]):
        left = PrevChunkLeftOver(np.zeros_like(inputs.noise), length, delay)
        with pytest.raises(InputError, match="inference_delay <= length <= 6"):
            made.run(inputs._replace(prev_chunk_left_over=left))
    assert made.shapes == ()


def test_threads_get_their_own_answers():
    made = engine("pi0", FlowSampler(num_steps=2))
    made.warm_up([Shape(4, CAMERAS, 32)])
    calls = [moments(made, seed=seed) for seed in range(12)]
    alone = [made.run(inputs).actions for inputs in calls]
    with ThreadPoolExecutor(4) as pool:
        for answer, expected in zip(pool.map(made.run, calls), alone, strict=True):
            np.testing.assert_array_equal(answer.actions, expected)


def test_a_text_longer_than_the_models_is_refused():
    made = engine("pi0", FlowSampler(num_steps=1))
    with pytest.raises(InputError, match="1 to 32 ids"):
        made.run(moments(made, (33,)))


def test_a_sampler_of_another_model_is_refused():
    with pytest.raises(InputError, match="answers with a FlowSampler"):
        engine("pi0", TokenSampler())
    with pytest.raises(InputError, match="answers with a TokenSampler"):
        engine("pi0_fast", FlowSampler())
    with pytest.raises(InputError, match="needs its grammar"):
        Engine(model("pi0_fast"), TokenSampler(), TokenFormat((1,)))
    with pytest.raises(InputError, match="there are 8"):
        engine("pi0_fast", TokenSampler(max_tokens=8))
    with pytest.raises(InputError, match="compile_when"):
        engine("pi0", FlowSampler(), compile_when="sometimes")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FlowSampler(num_steps=0), "num_steps: expected a whole number of at least 1"),
        (lambda: FlowSampler(num_steps=2.5), "num_steps"),
        (lambda: FlowSampler(realtime="guided"), "realtime: expected None, an RTCConfig"),
        (lambda: TokenSampler(max_tokens=0), "max_tokens"),
        (lambda: TokenSampler(temperature=-1.0), "temperature"),
        (lambda: TokenSampler(temperature=float("nan")), "temperature"),
        (lambda: TokenSampler(constrained="yes"), "constrained"),
        (lambda: TokenSampler(partial="zero"), "partial"),
        (lambda: TokenSampler(speculative=1), "2 or more"),
        (lambda: TokenSampler(speculative=4, temperature=0.5), r"temperature 0\.5 must be 0"),
    ],
)
def test_samplers_refuse_what_no_sampling_can_mean(make, message):
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize("kind", ["pi0", "pi05"])
def test_actions_are_those_of_the_models_equations(kind):
    made = engine(kind, FlowSampler(num_steps=3))
    inputs, oracle = moments(made, without=CAMERAS[1:2]), Oracle(model(kind))
    answers = made.run(inputs).actions
    for number in range(2):
        one = row(inputs, number)
        images = {name: image[0] for name, image in one.images.items()}
        state = None if one.state is None else one.state[0]
        expected = oracle.actions(images, one.tokens[0, : one.lengths[0]], state, one.noise[0], num_steps=3)
        np.testing.assert_allclose(answers[number], expected, rtol=1e-3, atol=1e-4)


def test_tokens_are_those_of_the_models_equations():
    made = engine("pi0_fast", TokenSampler(max_tokens=5, constrained=False))
    inputs, oracle = moments(made), Oracle(model("pi0_fast"))
    for number, written in enumerate(made.run(inputs).tokens[:2]):
        one = row(inputs, number)
        images = {name: image[0] for name, image in one.images.items()}
        prompt, begin = np.split(one.tokens[0, : one.lengths[0]], [one.lengths[0] - CAUSAL])
        so_far = list(begin)
        for token in written:
            best = np.argmax(oracle.scores(images, prompt, np.array(so_far, np.int32)))
            assert token == best
            so_far.append(best)
            if token in (BAR, 1):
                break
