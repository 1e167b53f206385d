"""Prompts that say an advantage, and guidance beyond it: two plain computations, combined."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pioxide.codec import Advantage, Pi0Prompts, TextTokenizer
from pioxide.errors import ContractError, InputError
from pioxide.models import Pi0Config
from pioxide.policy import FlowSampler, PolicyOptions, Session, TokenSampler
from pioxide.robots import libero
from pioxide.sampling import (
    Guided,
    RTCConfig,
    pad_prev_chunk_left_over,
    sample_actions,
    sample_guided_rtc,
    sample_trained_rtc,
    step_times,
)
from support.models import observe, random_model
from support.policies import make_policy
from support.text_model import write_text_model

# So long that every state makes prompts of one bucket: a policy compiles one program.
TASK = "tidy up all of it"
LINE = f"{TASK}\nAdvantage: positive"
KNOWS = {"advantage_style": "text_or_none"}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return TextTokenizer.load(write_text_model(tmp_path_factory.mktemp("text") / "text.model"))


@pytest.fixture(scope="module")
def models(tokenizer):
    def made(pi05):
        config = replace(Pi0Config.tiny(pi05=pi05), text_len=96, action_dim=16)
        return random_model(replace(config, language=replace(config.language, vocab=tokenizer.vocab_size)))

    return {False: made(False), True: made(True)}


def look(prompt=TASK, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "observation/image": rng.integers(0, 256, (40, 50, 3), np.uint8),
        "observation/wrist_image": rng.integers(0, 256, (40, 50, 3), np.uint8),
        "observation/state": rng.uniform(-1, 1, 8),
        "prompt": prompt,
    }


@pytest.mark.parametrize(("pi05", "quantize"), [(False, None), (True, "int8")])
def test_a_guided_answer_is_two_plain_ones_combined(models, tokenizer, pi05, quantize):
    """One step is linear in the velocity, so answers combine as velocities do."""

    def made(guidance=1.0, options=None, **contract):
        sampler = FlowSampler(num_steps=1, guidance=guidance)
        chosen = PolicyOptions(sampler, quantize=quantize, compile_when="never", **(options or {}))
        policy = make_policy(models[pi05], libero(), None, tokenizer, options=chosen, **contract)
        knows = contract["advantage_style"] is not None
        policy.warm_up([TASK if knows else LINE], batches=(2,) if guidance != 1 else (1,))
        return policy

    noise = np.random.default_rng(1).standard_normal((6, 16)).astype(np.float32)
    told, untold, guided = made(**KNOWS), made(advantage_style=None), made(2.5, **KNOWS)
    good, plain, more = (
        one(look(), noise=noise, session=Session()).model_actions for one in (told, untold, guided)
    )
    assert np.abs(good - plain).max() > 0.05
    np.testing.assert_allclose(more, plain + 2.5 * (good - plain), atol=2e-4)
    # What the prompt says is the instruction's last line, and 1 is plain conditioning to the bit.
    line = untold(look(LINE), noise=noise, session=Session()).model_actions
    np.testing.assert_array_equal(line, good)
    assert not told.engine.programs.reads.plain
    both = guided.batch([look(), look(seed=3)], [Session(), Session()], noise=[noise, noise])
    np.testing.assert_allclose(both[0].model_actions, more, atol=2e-4)


@nnx.jit
def velocity(model, seen, x_t, time):
    return model.velocity(seen, x_t, jnp.full(len(x_t), time))


def by_hand(model, seen, plain, noise, weight):
    """Three Euler steps of whole passes, without a cache and each prompt by itself."""
    x_t = noise
    for time in step_times(3):
        good, other = (velocity(model, one, x_t, time) for one in (seen, plain))
        x_t = x_t - (other + weight * (good - other)) / 3
    return x_t


def test_guided_steps_are_those_of_whole_passes_and_go_with_real_time_chunking(models):
    model = models[False]
    seen = observe(model.config, 3)
    lengths = jnp.array([[9], [20], [14]])
    slots = jnp.arange(seen.tokens.shape[1])
    seen = seen._replace(token_mask=slots < lengths)
    plain = seen._replace(tokens=seen.tokens[:, ::-1], token_mask=slots < lengths - 4)
    noise = jnp.asarray(np.random.default_rng(2).standard_normal((3, 6, 16)), jnp.float32)
    row = pad_prev_chunk_left_over(np.full((4, 16), 0.3), 2, horizon=6, dim=16)
    left = jax.tree.map(lambda x: jnp.repeat(jnp.asarray(x), 3, axis=0), row)

    @nnx.jit
    def sampled(model, weight):
        guided = Guided(model, plain.tokens, plain.token_mask, weight)
        options = {"num_steps": 3, "scan_layers": True}
        return (
            sample_actions(guided, seen, noise, **options),
            sample_guided_rtc(guided, seen, noise, left, config=RTCConfig(), **options),
            sample_trained_rtc(guided, seen, noise, left, **options),
        )

    @nnx.jit
    def alone(model, one):
        options = {"num_steps": 3, "scan_layers": True}
        return (
            sample_guided_rtc(model, one, noise, left, config=RTCConfig(), **options),
            sample_trained_rtc(model, one, noise, left, **options),
        )

    expected = by_hand(model, seen, plain, noise, 1.7)
    np.testing.assert_allclose(sampled(model, jnp.float32(1.7))[0], expected, atol=2e-4)
    for weight, one in ((1.0, seen), (0.0, plain)):
        for found, wanted in zip(sampled(model, jnp.float32(weight))[1:], alone(model, one), strict=True):
            np.testing.assert_allclose(found, wanted, atol=2e-4)


def test_weights_are_not_asked_for_what_they_were_not_trained_on(models, tokenizer):
    def made(options, **contract):
        return make_policy(models[False], libero(), None, tokenizer, options=options, **contract)

    guided = PolicyOptions(FlowSampler(guidance=2.0))
    for options, contract, says in (
        (guided, {}, "does not say|nothing says"),
        (guided, {"advantage_style": None}, "know no advantage"),
        (guided, {"advantage_style": "text"}, "never saw a prompt without"),
        (replace(guided, advantage=None), KNOWS, "nothing to guide towards"),
        (PolicyOptions(advantage="negative"), {"advantage_style": None}, "know no advantage"),
        (
            PolicyOptions(advantage=None),
            {"advantage_style": "text"},
            "advantage=None.*never saw a prompt without",
        ),
    ):
        with pytest.raises(ContractError, match=says):
            made(options, **contract)
    for guidance in (-0.1, float("nan"), True, "2"):
        with pytest.raises(InputError, match="guidance: expected a number from 0 on"):
            FlowSampler(guidance=guidance)
    with pytest.raises(InputError, match="expected one of positive, negative"):
        PolicyOptions(advantage="good")
    with pytest.raises(TypeError):
        TokenSampler(guidance=2.0)


def test_a_prompt_says_its_advantage_once(models, tokenizer):
    policy = make_policy(models[False], libero(), None, tokenizer, **KNOWS)
    states = np.zeros((1, 8))
    (good,), _ = policy.pipeline.tokenize(["tidy_up all of it "], states)
    (bad,), _ = policy.pipeline.tokenize(["tidy_up all of it "], states, Advantage.NEGATIVE)
    (untold,), _ = policy.pipeline.tokenize(["tidy_up all of it "], states, None)
    decoded = [tokenizer.decode(ids) for ids in (good, bad, untold)]
    assert decoded == [f"{TASK} Advantage: positive\n", f"{TASK} Advantage: negative\n", f"{TASK}\n"]
    for said in (LINE, "go, advantage: Negative "):
        with pytest.raises(InputError, match="says its advantage already"):
            policy.pipeline.apply(look(said))
    assert Pi0Prompts(tokenizer).encode(LINE).tokens[: len(good)].tolist() == [*good]
