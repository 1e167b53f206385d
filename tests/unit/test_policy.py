"""A policy gives what the plain model gives, in the robot's units, and never what is no action."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import pioxide.policy.policy
from pioxide.codec import (
    BeastCodec,
    BinningCodec,
    FastCodec,
    Pi0FastPrompts,
    Pi0Prompts,
    Pi05Prompts,
    TextTokenizer,
)
from pioxide.contract import UNKNOWN, Contract, Frames
from pioxide.control import Request
from pioxide.errors import ContractError, InputError, PolicyError
from pioxide.models import Observation, Pi0Config, Pi0FastConfig
from pioxide.policy import FlowSampler, Policy, PolicyOptions, RTCConfig
from pioxide.robots import aloha, libero
from pioxide.sampling import sample_actions
from pioxide.transforms import Stats
from pioxide.transforms.images import resize_with_pad
from support.models import policy_options, random_model
from support.policies import make_policy
from support.text_model import write_text_model

SIZE = 28
# Another order of additions, a thousandth of what float32 resolves at these sizes times ten steps.
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return TextTokenizer.load(write_text_model(tmp_path_factory.mktemp("text") / "text.model"))


@pytest.fixture(scope="module")
def codec():
    rng = np.random.default_rng(0)
    return FastCodec.fit(rng.normal(size=(60, 6, 7)).cumsum(1) * 0.2, vocab_size=400)


@pytest.fixture(scope="module")
def models(tokenizer):
    """One model of each kind, filled once."""

    def made(config):
        language = replace(config.language, vocab=tokenizer.vocab_size)
        return random_model(replace(config, language=language))

    text = {"text_len": 96, "action_dim": 16}
    return {
        "pi0": made(replace(Pi0Config.tiny(), **text)),
        "pi05": made(replace(Pi0Config.tiny(pi05=True), **text)),
        "pi0_fast": made(
            replace(Pi0FastConfig.tiny(), text_len=96, cameras=Pi0Config.tiny().cameras, action_horizon=6)
        ),
    }


def stats(state_dim, action_dim):
    def one(dim, seed):
        rng = np.random.default_rng(seed)
        low = rng.normal(size=dim)
        return Stats(rng.normal(size=dim), rng.uniform(0.5, 2, dim), low, low + rng.uniform(1, 3, dim))

    return {"state": one(state_dim, 1), "actions": one(action_dim, 2)}


LIBERO_STATS = stats(8, 7)


def libero_observation(seed=0, prompt="pick up the bowl", size=(40, 50)):
    rng = np.random.default_rng(seed)
    return {
        "observation/image": rng.integers(0, 256, (*size, 3), dtype=np.uint8),
        "observation/wrist_image": rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8),
        "observation/state": rng.normal(size=8),
        "prompt": prompt,
    }


@pytest.fixture(scope="module")
def policies(models, tokenizer, codec):
    def make(kind, **options):
        return make_policy(
            models[kind],
            libero(),
            LIBERO_STATS,
            tokenizer,
            codec=codec if kind == "pi0_fast" else None,
            options=policy_options(kind, **options),
            max_delay=6 if options.get("realtime") == "trained" else 0,
        )

    return {kind: make(kind) for kind in ("pi0", "pi05")} | {"make": make}


def plain_observation(model, kind, tokenizer, observation):
    """By hand, as openpi does: all cameras, absent ones black and masked, text padded whole."""
    state, s = observation["observation/state"], LIBERO_STATS["state"]
    if kind == "pi0":
        state = (state - s.mean) / (s.std + 1e-6)
        prompt = Pi0Prompts(tokenizer, 96).encode(observation["prompt"])
    else:
        state = (state - s.q01) / (s.q99 - s.q01 + 1e-6) * 2 - 1
        prompt = Pi05Prompts(tokenizer, 96).encode(observation["prompt"], state)
    images = {
        "base_0_rgb": resize_with_pad(observation["observation/image"], SIZE),
        "left_wrist_0_rgb": observation["observation/wrist_image"],
        "right_wrist_0_rgb": np.zeros((SIZE, SIZE, 3), np.uint8),
    }
    padded = np.zeros((1, 16), np.float32)
    padded[0, :8] = state
    masks = {name: np.array([name != "right_wrist_0_rgb"]) for name in images}
    return jax.tree.map(
        jnp.asarray,
        Observation(
            {name: image[None] for name, image in images.items()},
            masks,
            prompt.tokens[None],
            prompt.mask[None],
            padded,
        ),
    )


@pytest.mark.parametrize("kind", ["pi0", "pi05"])
def test_the_answer_is_the_plain_models_in_the_robots_units(models, policies, tokenizer, kind):
    """Against padded text, all cameras, layers by scan, and modulations computed in the call."""
    noise = np.random.default_rng(3).standard_normal((6, 16), np.float32)
    observation = libero_observation()
    plain = plain_observation(models[kind], kind, tokenizer, observation)
    graph, weights = nnx.split(models[kind])
    sample = jax.jit(lambda w, o, n: sample_actions(nnx.merge(graph, w), o, n, scan_layers=True))
    expected = np.asarray(sample(weights, plain, jnp.asarray(noise)[None]))[0]

    answer = policies[kind](observation, noise=noise)
    np.testing.assert_allclose(answer.model_actions, expected, **CLOSE)
    s = LIBERO_STATS["actions"]
    x = expected[:, :7].astype(np.float64)
    in_units = x * (s.std + 1e-6) + s.mean if kind == "pi0" else (x + 1) / 2 * (s.q99 - s.q01 + 1e-6) + s.q01
    np.testing.assert_allclose(answer.actions, in_units, **CLOSE)
    assert answer.actions.shape == (6, 7)
    assert np.abs(expected).max() > 0.1, "a model that answers nothing proves nothing"


def test_prompt_and_image_matter(policies):
    noise = np.zeros((6, 16), np.float32)
    base = policies["pi05"](libero_observation(), noise=noise).actions
    for other in (libero_observation(prompt="put it down"), libero_observation(seed=1)):
        assert np.abs(policies["pi05"](other, noise=noise).actions - base).max() > 1e-3


def test_nested_observations_are_flat_ones(policies):
    noise = np.zeros((6, 16), np.float32)
    flat = libero_observation()
    nested = {
        "observation": {key.removeprefix("observation/"): flat[key] for key in flat if "/" in key},
        "prompt": np.str_(flat["prompt"]),
    }
    np.testing.assert_array_equal(
        policies["pi0"](flat, noise=noise).actions, policies["pi0"](nested, noise=noise).actions
    )


def test_delta_actions_and_absent_cameras_of_aloha(models, tokenizer):
    """Relative joints become absolute in the model's frame, then signs and grippers go back."""
    robot, numbers = aloha(delta=True), stats(14, 14)
    policy = make_policy(
        models["pi0"], robot, numbers, tokenizer, options=PolicyOptions(default_prompt="fold")
    )
    rng = np.random.default_rng(5)
    state = rng.uniform(0, 1, 14)
    observation = {
        "state": state,
        "images": {"cam_high": rng.integers(0, 256, (3, SIZE, SIZE), dtype=np.uint8)},
    }
    answer = policy(observation, noise=np.ones((6, 16), np.float32))
    s = numbers["actions"]
    x = answer.model_actions[:, :14].astype(np.float64) * (s.std + 1e-6) + s.mean
    signs = np.array([1, -1, -1, 1, 1, 1, 1] * 2, np.float64)
    joints = [i for i in range(14) if i not in (6, 13)]
    x[:, joints] += (state * signs)[joints]
    x *= signs
    x[:, [6, 13]] = (x[:, [6, 13]] + 0.5476 + 0.6213) / (1.4910 + 0.6213)
    np.testing.assert_allclose(answer.actions, x, rtol=1e-9)
    assert [shape.cameras for shape in policy.engine.shapes] == [("base_0_rgb",)]


def test_the_constant_beginning_in_the_prefill_scores_as_if_it_had_been_generated(models, tokenizer, codec):
    """Beside a π0-FAST that is handed "Action: " token by token, as if it had chosen it."""
    model, observation = models["pi0_fast"], libero_observation()
    length = Pi0FastPrompts(tokenizer, codec, 96).encode(observation["prompt"], np.zeros(8)).length
    begin = np.asarray(tokenizer.encode("Action: "), np.int32)
    prompt = np.random.default_rng(0).integers(3, 500, length).astype(np.int32)
    images = dict.fromkeys(model.config.cameras, observation["observation/wrist_image"][None])
    graph, weights = nnx.split(model)

    def seen(ids, slots, causal):
        tokens = np.zeros((1, slots), np.int32)
        tokens[0, : len(ids)] = ids
        valid = np.arange(slots)[None] < len(ids)
        starts = (np.arange(slots)[None] >= len(ids) - causal) & valid
        return Observation(images, {}, tokens, valid, ar_mask=starts.astype(np.int32))

    @jax.jit
    def generated(weights, o):
        model = nnx.merge(graph, weights)
        _, decoding = model.prefill(o, 8, scan_layers=True)
        for token in begin:
            scores, decoding = model.decode(jnp.full((1, 1), token, jnp.int32), decoding)
        after, _ = model.decode(jnp.full((1, 1), 7, jnp.int32), decoding)
        return scores[:, 0], after[:, 0]

    @jax.jit
    def prefilled(weights, o):
        model = nnx.merge(graph, weights)
        scores, decoding = model.prefill(o, 8, scan_layers=True)
        after, _ = model.decode(jnp.full((1, 1), 7, jnp.int32), decoding)
        return scores, after[:, 0]

    theirs = generated(weights, seen(prompt, 96, 0))
    ours = prefilled(weights, seen(np.concatenate([prompt, begin]), 64, len(begin)))
    for mine, other in zip(ours, theirs, strict=True):
        scale = np.abs(other).max()
        assert np.abs(mine - other).max() < 1e-5 * scale


def test_what_pi0_fast_writes_is_decoded_or_refused(policies, models, tokenizer, codec, monkeypatch):
    policy = policies["make"]("pi0_fast", max_tokens=8, constrained=False)
    with pytest.raises(PolicyError, match="no action chunk"):
        policy(libero_observation())
    # The same policy with an answer that is one.
    chunk = np.random.default_rng(1).normal(size=(6, 7)).cumsum(0) * 0.2
    ids = codec.encode(chunk, on_overflow="clip").ids
    bar = int(tokenizer.encode("|")[-1])
    written = np.array([[*(tokenizer.vocab_size - 1 - 128 - ids), bar, 0, 0]], np.int32)
    monkeypatch.setattr(policy, "engine", FakeEngine(policy.engine, tokens=written))
    answer = policy(libero_observation())
    s = LIBERO_STATS["actions"]
    decoded = codec.decode(ids, horizon=6, dim=7).actions
    np.testing.assert_allclose(answer.actions, (decoded + 1) / 2 * (s.q99 - s.q01 + 1e-6) + s.q01)
    # Black images stand for absent cameras: π0-FAST was trained so.
    assert policy.engine.inputs.images["right_wrist_0_rgb"].max() == 0
    assert tuple(policy.engine.inputs.images) == Pi0Config.tiny().cameras


class FakeEngine:
    """An engine that remembers its inputs, and whose answer may be given."""

    def __init__(self, real, **answer):
        self.real, self.answer = real, answer

    def run(self, inputs):
        self.inputs = inputs
        return self.real.run(inputs)._replace(**self.answer)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_never_leaves(policies, monkeypatch, bad):
    policy = policies["make"]("pi0")
    answer = np.zeros((1, 6, 16), np.float32)
    answer[0, 2, 3] = bad
    monkeypatch.setattr(policy, "engine", FakeEngine(policy.engine, actions=answer))
    with pytest.raises(PolicyError, match="step 2, dimension 3"):
        policy(libero_observation())


@pytest.mark.parametrize(
    "how", [{}, {"temperature": 1.0}, {"speculative": 4}, {"constrained": False, "partial": "pad"}], ids=str
)
def test_nan_in_the_weights_of_pi0_fast_never_leaves_as_a_whole_chunk(models, tokenizer, codec, how):
    graph, weights = nnx.split(models["pi0_fast"])
    model = nnx.merge(graph, jax.tree.map(jnp.copy, weights))
    down = model.language.blocks.experts[0].down
    down[...] = down[...].at[0, 3, 2].set(jnp.nan)
    options = policy_options("pi0_fast", max_tokens=48, **how)
    policy = make_policy(model, libero(), LIBERO_STATS, tokenizer, codec=codec, options=options)
    with pytest.raises(PolicyError, match="NaN in the weights"):
        policy(libero_observation())


def test_a_seed_decides_the_noise(policies):
    first, second = (policies["make"]("pi0", seed=7, num_steps=1) for _ in range(2))
    answers = [first(libero_observation()).actions for _ in range(2)]
    assert not np.array_equal(*answers)
    for answer in answers:
        np.testing.assert_array_equal(second(libero_observation()).actions, answer)


def test_a_runner_can_ask_it(policies):
    # What is left is not used by a policy whose chunks stand on their own.
    chunk = policies["pi0"].chunk(Request(libero_observation(), np.ones((3, 7)), 2))
    assert chunk.shape == (6, 7)


def test_several_runners_can_ask_it_at_once(policies):
    policy = policies["pi0"]
    requests = [Request(libero_observation(seed), np.ones((3, 7)), 2) for seed in (1, 2)]
    answers = policy.chunks(requests, [policy.new_session(seed) for seed in (5, 6)])
    for seed, request, answer in zip((5, 6), requests, answers, strict=True):
        alone = policy.chunk(request, policy.new_session(seed))
        np.testing.assert_allclose(answer.actions, alone, atol=1e-4)
    assert not np.allclose(answers[0].actions, answers[1].actions)


NOISE = np.random.default_rng(3).standard_normal((6, 16), np.float32)


@pytest.mark.parametrize("kind", ["pi0", "pi05"])
@pytest.mark.parametrize("realtime", [RTCConfig(), "trained"], ids=["guided", "trained"])
def test_a_first_chunk_is_the_same_whatever_continues_chunks(policies, kind, realtime):
    policy = policies["make"](kind, realtime=realtime)
    expected = policies[kind](libero_observation(), noise=NOISE).actions
    for nothing in (None, np.zeros((0, 0)), np.zeros((0, 7))):
        answer = policy(libero_observation(), noise=NOISE, prev_chunk_left_over=nothing, inference_delay=3)
        np.testing.assert_allclose(answer.actions, expected, **CLOSE)
    assert len(policy.engine.shapes) == 1


def test_a_trained_policy_keeps_the_actions_that_will_have_been_played(models, tokenizer):
    """In the robot's units, though the robot has moved and its actions are relative to where it is."""
    options = policy_options("pi0", default_prompt="fold", realtime="trained")
    policy = make_policy(
        models["pi0"], aloha(delta=True), stats(14, 14), tokenizer, options=options, max_delay=6
    )
    rng = np.random.default_rng(5)

    def observation():
        image = rng.integers(0, 256, (3, SIZE, SIZE), dtype=np.uint8)
        return {"state": rng.uniform(0, 1, 14), "images": {"cam_high": image}}

    before = policy(observation(), noise=NOISE).actions
    after = policy(observation(), noise=NOISE, prev_chunk_left_over=before[2:], inference_delay=3).actions
    np.testing.assert_allclose(after[:3], before[2:5], rtol=1e-5, atol=1e-5)
    assert np.abs(after[3] - before[5]).max() > 0.01, "nothing past the delay is kept exactly"


def test_a_delay_beyond_what_was_trained_is_refused(models, tokenizer):
    options = policy_options("pi0", realtime="trained", num_steps=1)
    policy = make_policy(models["pi0"], libero(), LIBERO_STATS, tokenizer, options=options, max_delay=2)
    left = policy(libero_observation()).actions
    for n, delay in ((6, 2), (2, 5), (6, 0)):  # no more will be played than is left
        assert policy(libero_observation(), prev_chunk_left_over=left[:n], inference_delay=delay)
    with pytest.raises(InputError, match=r"3 actions .* delays of up to 2 \(max_delay\)"):
        policy(libero_observation(), prev_chunk_left_over=left, inference_delay=3)


def test_a_guided_policy_comes_nearer_to_what_is_left(policies):
    guided, free = policies["make"]("pi05", realtime=RTCConfig()), policies["pi05"]
    left = free(libero_observation(seed=1), noise=NOISE).actions[1:]
    other = np.random.default_rng(4).standard_normal((6, 16), np.float32)
    held = guided(libero_observation(), noise=other, prev_chunk_left_over=left, inference_delay=2).actions
    away = np.abs(free(libero_observation(), noise=other).actions[:5] - left).mean(1)
    assert (np.abs(held[:5] - left).mean(1)[:2] < 0.3 * away[:2]).all()


def test_a_leftover_that_can_not_be_used_is_refused(policies, models, tokenizer, codec):
    with pytest.raises(InputError, match="realtime"):
        policies["pi0"](libero_observation(), prev_chunk_left_over=np.zeros((3, 7)))
    policy = policies["make"]("pi0", realtime=RTCConfig())
    with pytest.raises(InputError, match=r"expected \[\.\.\., 7\]"):
        policy(libero_observation(), prev_chunk_left_over=np.zeros((3, 6)))
    with pytest.raises(InputError, match="delay"):
        policy(libero_observation(), prev_chunk_left_over=np.zeros((3, 7)), inference_delay=-1)
    with pytest.raises(
        InputError, match=r"prev_chunk_left_over: expected actions \[n, 7\], got shape \(7,\)"
    ):
        policy(libero_observation(), prev_chunk_left_over=np.zeros(7))
    for delay in (1.5, float("nan"), "2", None):
        with pytest.raises(InputError, match="inference_delay: expected a whole number"):
            policy(libero_observation(), prev_chunk_left_over=np.zeros((3, 7)), inference_delay=delay)
    bad = np.zeros((3, 7))
    bad[1, 2] = np.nan
    with pytest.raises(InputError, match="nan at step 1, dimension 2"):
        policy(libero_observation(), prev_chunk_left_over=bad)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_pi0_fast_of_random_weights_answers_whole_chunks(policies, temperature):
    policy = policies["make"]("pi0_fast", max_tokens=48, temperature=temperature)
    answers = [policy(libero_observation(seed)).actions for seed in range(3)]
    for actions in answers:
        assert actions.shape == (6, 7)
        assert np.isfinite(actions).all()
    assert len(policy.engine.shapes) == 1


@pytest.mark.parametrize("kind", ["binning", "beast"])
def test_pi0_fast_answers_whole_chunks_in_another_codec(models, tokenizer, kind):
    chunks = np.random.default_rng(0).normal(size=(60, 6, 7)).cumsum(1) * 0.2
    other = BinningCodec(64) if kind == "binning" else BeastCodec.fit(chunks, control_points=4)
    answers = []
    for speculative in (0, 4):
        options = policy_options("pi0_fast", max_tokens=48, speculative=speculative)
        policy = make_policy(
            models["pi0_fast"], libero(), LIBERO_STATS, tokenizer, codec=other, options=options
        )
        answers.append([policy(libero_observation(seed)).model_actions for seed in (0, 1)])
    np.testing.assert_array_equal(*answers)
    for actions in answers[0]:
        assert actions.shape == (6, 7)
        again = other.decode(other.encode(actions, on_overflow="clip").ids, horizon=6, dim=7).actions
        np.testing.assert_allclose(actions, again, atol=1e-6)


@pytest.mark.parametrize("constrained", [True, False])
def test_speculating_changes_no_action(policies, constrained, monkeypatch):
    how = {"max_tokens": 48, "constrained": constrained, "partial": "pad"}
    plain, policy = policies["make"]("pi0_fast", **how), policies["make"]("pi0_fast", speculative=4, **how)
    seen = [libero_observation(seed) for seed in (0, 0, 1, 0)]
    before = 0
    if not constrained:
        # A random model writes no actions; what is compared is what it wrote.
        def written_ids(answer, *_):
            return np.resize(answer.tokens[0][:42] * 1e-6, (1, 6, 7)), np.zeros(1, np.int64)

        monkeypatch.setattr(pioxide.policy.policy, "model_chunks", written_ids)
    for number, observation in enumerate(seen):
        answer = policy(observation)
        np.testing.assert_array_equal(answer.actions, plain(observation).actions)
        worth = answer.speculated
        # The end of a chunk takes no pass.
        written = worth.tokens - constrained
        assert worth.drafted == before
        assert worth.passes + worth.accepted == written - 1
        if number in (0, 1):
            assert worth.passes == (written - 1 if number == 0 else -(-(written - 1) // 4))
        before = worth.tokens
    assert len(policy.engine.shapes) == 1


def test_what_is_left_to_play_is_a_draft(policies, codec, tokenizer, monkeypatch):
    plain, policy = (policies["make"]("pi0_fast", max_tokens=160, speculative=n) for n in (0, 4))
    first = policy(libero_observation())
    left = first.actions[2:]
    request = Request(libero_observation(seed=1), left, 2)
    np.testing.assert_array_equal(policy.chunk(request), plain.chunk(request))
    monkeypatch.setattr(policy, "engine", FakeEngine(policy.engine))
    policy(libero_observation(seed=1), prev_chunk_left_over=left, inference_delay=2)
    # The rows that are left, and the last one until the chunk is full.
    draft = policy.engine.inputs.draft
    ids = tokenizer.vocab_size - 129 - np.asarray(draft.tokens)[0, : int(draft.length[0])]
    expected = first.model_actions[np.minimum(np.arange(2, 8), 5)]
    expected = codec.encode(expected, on_overflow="clip").ids
    both = (codec.decode(one, horizon=6, dim=7).actions for one in (ids, expected))
    # To the robot's units and back a tie may be rounded the other way.
    np.testing.assert_allclose(*both, atol=1.0 / codec.scale)
    assert policy.chunk(Request(libero_observation(), np.zeros((0, 0)), 0)).shape == (6, 7)


def test_a_chunk_that_never_fits_is_refused_before_anything_is_compiled(policies):
    with pytest.raises(InputError, match="at least"):
        policies["make"]("pi0_fast", max_tokens=2)


def test_timing_has_every_stage(policies):
    timing = policies["pi0"](libero_observation()).timing
    assert timing.total == pytest.approx(sum(timing))
    assert min(timing) >= 0
    assert timing.milliseconds()["infer_ms"] == pytest.approx(timing.total * 1e3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"prompt": ""}, ["prompt", "''"]),
        ({"prompt": "  "}, ["prompt", "'  '"]),
        ({"prompt": None}, ["prompt", "nothing"]),
        ({"observation/image": None}, ["observation/image", "lacks"]),
        ({"observation/extra": 1}, ["observation/extra", "unknown"]),
        ({"observation/image": np.zeros((4, 4), np.uint8)}, ["observation/image", "(4, 4)"]),
        ({"observation/image": np.full((4, 4, 3), 7.0)}, ["observation/image", "[7, 7]"]),
        ({"observation/state": np.full(8, np.nan)}, ["observation/state[0]", "nan"]),
        ({"observation/state": np.zeros(7)}, ["observation/state", "(7,)"]),
    ],
)
def test_wrong_input_names_the_key_and_what_came(policies, change, words):
    with pytest.raises(InputError) as error:
        policies["pi05"](libero_observation() | change)
    for word in words:
        assert word in str(error.value)


def test_noise_that_can_not_be_is_refused(policies):
    bad = np.zeros((6, 16))
    bad[2, 3] = np.nan
    for noise, says in (
        (np.zeros((6, 7)), r"noise: expected \(6, 16\)"),
        (np.zeros((6, 16), complex), "dtype complex128"),
        ("x", "dtype <U1"),
        (bad, "noise: nan at step 2, dimension 3"),
        (np.full((6, 16), 1e300), "noise: inf at step 0, dimension 0"),
    ):
        with pytest.raises(InputError, match=says):
            policies["pi0"](libero_observation(), noise=noise)


def test_an_option_that_can_not_be_is_refused_when_the_policy_is_made(policies, models, tokenizer):
    with pytest.raises(InputError, match=r"state_limit: expected 1 half span or more, got 0\.5"):
        policies["make"]("pi05", state_limit=0.5)
    options = policy_options("pi0_fast")
    with pytest.raises(InputError, match="answers with a FlowSampler"):
        make_policy(models["pi0"], libero(), LIBERO_STATS, tokenizer, options=options)


def test_parts_that_do_not_fit_are_refused(models, tokenizer):
    with pytest.raises(ContractError, match='have no "actions", only'):
        make_policy(models["pi0"], libero(), {"state": LIBERO_STATS["state"]}, tokenizer)
    for short, says in (
        (stats(8, 6), '"actions" cover 6 numbers, and the robot has 7'),
        (stats(7, 7), '"state" cover 7 numbers, and the robot has 8'),
        (stats(9, 7), '"state" cover 9 numbers, and the robot has 8'),
    ):
        with pytest.raises(ContractError, match=says):
            make_policy(models["pi0"], libero(), short, tokenizer)
    with pytest.raises(InputError, match="codec"):
        make_policy(models["pi0_fast"], libero(), LIBERO_STATS, tokenizer)
    with pytest.raises(ContractError, match=r"robot.action_dim: the contract has 14, the model 7"):
        make_policy(models["pi0_fast"], aloha(), None, tokenizer)
    for field, other in (("action_horizon", 50), ("text_len", 48), ("image_size", 224), ("model_dim", 32)):
        with pytest.raises(ContractError, match=field):
            make_policy(models["pi0"], libero(), LIBERO_STATS, tokenizer, **{field: other})


def test_weights_not_trained_to_continue_a_chunk_are_not_asked_to(models, tokenizer):
    options = PolicyOptions(sampler=FlowSampler(realtime="trained"))
    with pytest.raises(ContractError, match="were not trained to continue"):
        make_policy(models["pi0"], libero(), LIBERO_STATS, tokenizer, options=options)
    with pytest.raises(ContractError, match="max_delay"):
        make_policy(models["pi0"], libero(), LIBERO_STATS, tokenizer, options=options, max_delay=UNKNOWN)


def test_a_state_far_outside_its_statistics_is_told_and_refused_past_a_limit(models, tokenizer):
    options = PolicyOptions(state_limit=1000.0, sampler=FlowSampler(num_steps=1))
    policy = make_policy(models["pi05"], libero(), LIBERO_STATS, tokenizer, options=options)
    middle = (LIBERO_STATS["state"].q01 + LIBERO_STATS["state"].q99) / 2
    seen = libero_observation() | {"observation/state": middle}
    inside = policy(seen)
    assert (inside.out_of_range, policy.session.out_of_range) == ((), 0)
    middle[2] += 50
    outside = policy(seen)
    assert outside.out_of_range == (2,)
    assert outside.state_range > 10
    assert policy.session.out_of_range == 1
    middle[2] += 1e6
    with pytest.raises(InputError, match="half spans from the middle of its statistics, the limit is 1000"):
        policy(seen)


def test_a_prompt_that_leaves_no_room_for_the_state_is_refused(policies):
    long = libero_observation() | {"prompt": "fold the towel and then " * 40}
    with pytest.raises(InputError, match=r"prompt: with its state 'fold the towel .* joints of the state"):
        policies["pi05"](long)
    assert policies["pi0"](long).truncated  # its state is a vector


def test_robots_in_a_batch_get_what_each_gets_alone(models, tokenizer):
    """Mixed prompts, one camera missing, each with its own session's noise."""
    policy = make_policy(
        models["pi05"],
        replace(libero(), cameras=tuple(replace(c, required=False) for c in libero().cameras)),
        LIBERO_STATS,
        tokenizer,
        options=PolicyOptions(sampler=FlowSampler(num_steps=2)),
    )
    seen = [
        libero_observation(seed, prompt)
        for seed, prompt in enumerate(("pick up the bowl", "go", "wait " * 9))
    ]
    del seen[1]["observation/wrist_image"]
    together = policy.batch(seen, [policy.new_session(seed) for seed in range(3)])
    for seed, (one, answer) in enumerate(zip(seen, together, strict=True)):
        alone = policy(one, session=policy.new_session(seed))
        np.testing.assert_allclose(answer.actions, alone.actions, **CLOSE)
    read = Frames.joined([policy.pipeline.read(one) for one in seen])
    again = policy.batch(read, [policy.new_session(seed) for seed in range(3)])
    assert all(np.array_equal(a.actions, b.actions) for a, b in zip(again, together, strict=True))
    shared = policy.new_session()
    with pytest.raises(InputError, match="stands twice"):
        policy.batch(seen[:2], [shared, shared])
    with pytest.raises(InputError, match="observation 1: "):
        policy.batch([seen[0], seen[1] | {"observation/state": np.zeros(3)}])


@pytest.mark.parametrize("kind", ["pi05", "pi0_fast"])
def test_a_checkpoint_with_all_that_belongs_to_it_is_loaded(tmp_path, models, tokenizer, codec, kind):
    """Weights, statistics, horizon, and for π0-FAST its action tokenizer, straight from a directory."""
    from pioxide.weights import save

    fast = tmp_path / "fast"
    codec.save(fast)
    model, path = models[kind], tmp_path / "checkpoint"
    save(
        model,
        path,
        norm_stats=LIBERO_STATS,
        asset_id="libero",
        fast_tokenizer=fast if kind == "pi0_fast" else None,
    )
    says = Contract(
        delta_mask=(),
        text_len=model.config.text_len,
        state_in_text=True if kind == "pi05" else UNKNOWN,
        image_size=SIZE,
        default_prompt=None,
    )
    policy = Policy.load(path, robot="libero", tokenizer=tokenizer, action_horizon=6, contract=says)
    assert policy.horizon == 6
    direct = make_policy(model, libero(), LIBERO_STATS, tokenizer, codec=codec)
    if kind == "pi05":
        noise = np.ones((6, 16), np.float32)
        ours, theirs = (p(libero_observation(), noise=noise).actions for p in (policy, direct))
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    else:
        assert policy._config.cameras == direct._config.cameras
        ours, theirs = (p(libero_observation()).actions for p in (policy, direct))
        np.testing.assert_array_equal(ours, theirs)


def test_an_unknown_robot_is_named(tmp_path, models, tokenizer):
    from pioxide.weights import save

    save(models["pi0"], tmp_path / "checkpoint", norm_stats=LIBERO_STATS)
    with pytest.raises(InputError, match="no robot 'r2d2'"):
        Policy.load(tmp_path / "checkpoint", robot="r2d2", tokenizer=tokenizer)
