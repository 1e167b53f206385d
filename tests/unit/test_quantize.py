"""8-bit weights: near the exact policy, measured against it, and refused where they can't be."""

import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pioxide.codec import FastCodec, TextTokenizer
from pioxide.engine.quantize import Quantized
from pioxide.errors import InputError, PolicyError
from pioxide.models import Pi0Config, Pi0FastConfig
from pioxide.policy import RTCConfig, compare_policies
from pioxide.robots import libero
from support.models import policy_options, random_model
from support.policies import make_policy
from support.text_model import write_text_model

# Every layout in which a layer keeps a matrix: its shape, how many axes are summed over, its product.
LAYOUTS = [
    ((12, 20), 1, "btw,wf->btf"),
    ((3, 4, 20), 2, "btnh,nhw->btw"),
    ((12, 3, 2, 4), 1, "bpw,wcnh->bpcnh"),
    ((12, 20), 1, "...i,io->...o"),
]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return TextTokenizer.load(write_text_model(tmp_path_factory.mktemp("text") / "text.model"))


@pytest.fixture(scope="module")
def make(tokenizer):
    codec = FastCodec.fit(np.random.default_rng(0).normal(size=(60, 6, 7)).cumsum(1) * 0.2, vocab_size=400)

    def made(kind, change=None, /, **options):
        fast = kind == "pi0_fast"
        config = Pi0FastConfig.tiny() if fast else replace(Pi0Config.tiny(pi05=kind == "pi05"), action_dim=8)
        language = replace(config.language, vocab=tokenizer.vocab_size)
        config = replace(config, language=language, text_len=96, cameras=Pi0Config.tiny().cameras)
        model = random_model(config)
        if change is not None:
            change(model)
        return make_policy(
            model,
            libero(),
            None,
            tokenizer,
            codec=codec if fast else None,
            options=policy_options(kind, **options),
        )

    return made


def observations(count):
    rng = np.random.default_rng(7)
    return [
        {
            "observation/image": rng.integers(0, 256, (28, 28, 3), dtype=np.uint8),
            "observation/wrist_image": rng.integers(0, 256, (28, 28, 3), dtype=np.uint8),
            "observation/state": rng.uniform(-1, 1, 8),
            "prompt": "pick up the bowl",
        }
        for _ in range(count)
    ]


@pytest.mark.parametrize(("shape", "inputs", "equation"), LAYOUTS)
def test_each_output_is_rounded_to_its_own_range(shape, inputs, equation):
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal(shape) * np.exp(rng.uniform(-4, 4, shape[inputs:]))
    kept = Quantized(jnp.asarray(kernel, jnp.float32), inputs)
    assert kept.values[...].dtype == jnp.int8
    largest = np.abs(kernel).max(axis=tuple(range(inputs)))
    error = np.abs(np.asarray(kept.compose()) - kernel)
    assert (error <= largest / 127 * 0.51).all()
    x = jnp.asarray(rng.standard_normal((2, 5, *shape[:inputs])), jnp.float32)
    np.testing.assert_allclose(
        kept.contract(equation, x), jnp.einsum(equation, x, kept.compose()), rtol=1e-5, atol=1e-4
    )


def test_bfloat16_products_take_the_values_exactly():
    """Scaled after the product: a bfloat16 weight of more than 8 bits would be rounded again."""
    rng = np.random.default_rng(1)
    kept = Quantized(jnp.asarray(rng.standard_normal((64, 32)), jnp.float32), 1)
    one_at_a_time = jnp.eye(64, dtype=jnp.bfloat16)[None]
    got = kept.contract("btw,wf->btf", one_at_a_time)[0]
    np.testing.assert_array_equal(got, kept.compose().astype(jnp.bfloat16))


@pytest.mark.parametrize("kind", ["pi0", "pi05"])
def test_actions_stay_near_the_exact_ones_and_the_deviation_says_how_near(make, kind):
    exact, rounded = make(kind), make(kind, quantize="int8")
    seen = observations(3)
    apart = compare_policies(rounded, exact, seen)
    assert apart.observations == 3
    assert apart.largest.shape == apart.rms.shape == apart.spread.shape == (7,)
    assert (apart.rms > 0).all()
    assert (apart.rms <= apart.largest).all()
    assert (apart.rms < 0.1 * apart.spread).all(), str(apart)
    noise = np.random.default_rng(0).standard_normal(exact.noise_shape, np.float32)
    first = np.abs(rounded(seen[0], noise=noise).actions - exact(seen[0], noise=noise).actions)
    assert (first.max(axis=0) <= apart.largest).all()
    assert len(str(apart).splitlines()) == 8


def test_a_policy_does_not_deviate_from_itself(make):
    policy = make("pi05")
    assert compare_policies(policy, policy, observations(2)).largest.max() == 0


def test_a_guided_chunk_takes_its_gradient_through_8_bits(make):
    seen = observations(1)[0]
    policy = make("pi0", quantize="int8", realtime=RTCConfig())
    noise = np.random.default_rng(0).standard_normal(policy.noise_shape, np.float32)
    alone = policy(seen, noise=noise).actions
    left = alone[2:] + 0.5
    continued = policy(seen, noise=noise, prev_chunk_left_over=left, inference_delay=2).actions
    before, after = np.abs(alone[:2] - left[:2]).mean(), np.abs(continued[:2] - left[:2]).mean()
    assert after < 0.5 * before


def test_pi0_fast_still_writes_whole_chunks(make):
    answer = make("pi0_fast", quantize="int8")(observations(1)[0])
    assert answer.actions.shape == (6, 7)
    assert np.isfinite(answer.actions).all()


def test_layers_take_a_quarter_of_float32(make):
    def layer_bytes(policy):
        return {
            leaf.dtype.name: sum(w.nbytes for w in policy.engine.weights if w.dtype == leaf.dtype)
            for leaf in policy.engine.weights
        }

    exact, rounded = layer_bytes(make("pi05")), layer_bytes(make("pi05", quantize="int8"))
    moved = exact["float32"] - rounded["float32"]
    assert 3.5 < moved / rounded["int8"] <= 4


def test_what_there_is_not_is_refused(make, monkeypatch):
    with pytest.raises(InputError, match="expected None or \"int8\", got 'int3'"):
        make("pi0", quantize="int3")
    monkeypatch.setitem(sys.modules, "qwix", None)
    with pytest.raises(InputError, match=r'pip install "pioxide\[int8\]"'):
        make("pi0", quantize="int8")


def test_nothing_to_compare_is_refused(make):
    with pytest.raises(InputError, match="at least one"):
        compare_policies(make("pi0"), make("pi0"), [])
    with pytest.raises(InputError, match="at temperature 0"):
        compare_policies(make("pi0_fast", temperature=0.5), make("pi0_fast"), observations(1))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_weight_that_is_no_number_is_not_rounded_to_one(bad, dtype):
    """8 bits hold no NaN: it would be a 0 in its place, and other weights of the output lose theirs."""
    kernel = np.random.default_rng(0).standard_normal((64, 32)).astype(np.float32)
    kernel[3, 2] = bad
    contract = jax.jit(lambda w: Quantized(w, 1).contract("btw,wf->btf", jnp.ones((1, 1, 64), dtype)))
    finite = np.isfinite(np.asarray(contract(jnp.asarray(kernel, dtype)), np.float32))[0, 0]
    np.testing.assert_array_equal(finite, np.arange(32) != 2)


@pytest.mark.parametrize("kind", ["pi0", "pi05"])
def test_nan_in_a_rounded_weight_never_leaves(make, kind):
    def spoil(model):
        down = model.language.blocks.experts[0].down
        down[...] = down[...].at[0, 3, 2].set(jnp.nan)

    with pytest.raises(PolicyError, match="NaN in the weights"):
        make(kind, spoil, quantize="int8", num_steps=1)(observations(1)[0])
