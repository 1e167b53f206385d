"""Whatever a device is tuned for, the answer is the plain computation's."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pioxide.engine.prepare import prepare
from pioxide.models import Pi0Config, Pi0FastConfig
from pioxide.models.attention import MASKED, attend, fused_attend
from pioxide.models.gemma import slots_of
from pioxide.models.tuning import GPU, HOPPER, PLAIN, Tuning
from pioxide.sampling import sample_actions, sample_tokens, step_times
from support.models import observe, random_model

CLOSE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture
def fused_on_a_cpu(monkeypatch):
    """Fuses attention of any size, with XLA in cuDNN's place: what surrounds cuDNN is what is tested."""
    calls = []
    plain = jax.nn.dot_product_attention

    def anywhere(*arguments, implementation, **options):
        calls.append(implementation)
        # All that the backward pass of cuDNN's takes.
        assert arguments[0].shape[1] % 2 == arguments[1].shape[1] % 2 == 0
        return plain(*arguments, **options, implementation="xla")

    monkeypatch.setattr(jax.nn, "dot_product_attention", anywhere)
    monkeypatch.setattr(Tuning, "fuses", lambda self, *size: self.fused_attention)
    return calls


def naive(query, key, value, mask):
    """Attention head by head, as its definition is written."""
    group = query.shape[2] // key.shape[2]
    heads = []
    for head in range(query.shape[2]):
        k, v = key[:, :, head // group], value[:, :, head // group]
        scores = np.where(mask, np.einsum("bth,bsh->bts", query[:, :, head], k), MASKED)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        heads.append(np.einsum("bts,bsh->bth", weights / weights.sum(-1, keepdims=True), v))
    return np.stack(heads, axis=2)


@pytest.mark.parametrize("shared", [1, 2, 6])
def test_scores_by_rows_are_attention_head_by_head(shared, fused_on_a_cpu):
    rng = np.random.default_rng(shared)
    query = rng.standard_normal((2, 5, 6, 8), np.float32)
    key, value = rng.standard_normal((2, 2, 9, shared, 8), np.float32)
    mask = rng.random((2, 5, 9)) < 0.6
    mask[..., 0] = True
    expected = naive(query, key, value, mask)
    arrays = [jnp.asarray(x) for x in (query, key, value, mask)]
    np.testing.assert_allclose(attend(*arrays), expected, **CLOSE)
    np.testing.assert_allclose(fused_attend(*arrays), expected, **CLOSE)
    np.testing.assert_allclose(
        fused_attend(*arrays[:3]), naive(query, key, value, np.ones_like(mask)), **CLOSE
    )
    assert fused_on_a_cpu == ["cudnn", "cudnn"]


def sampled(model, tuning, batch):
    """Ids of π0-FAST, which a row of zeros beside a token or a longer cache must not change; else actions."""
    c = model.config
    prepared = prepare(model, step_times(3) if isinstance(c, Pi0Config) else None, tuning=tuning)
    graph, state = nnx.split(prepared.model)
    seen = observe(c, batch)
    hidden = jnp.arange(c.text_len)[None] < c.text_len - 2 - jnp.arange(batch)[:, None]
    seen = seen._replace(token_mask=seen.token_mask & hidden)
    if isinstance(c, Pi0FastConfig):
        write = functools.partial(sample_tokens, max_tokens=9)
        return jax.jit(lambda s, o: write(nnx.merge(graph, s), o))(state, seen)
    noise = jnp.asarray(np.random.default_rng(1).standard_normal((batch, 6, 7), np.float32))
    return jax.jit(
        lambda s, o: sample_actions(
            nnx.merge(graph, s), o, noise, num_steps=3, conditions=prepared.conditions
        )
    )(state, seen)


CONFIGS = {
    "pi0": Pi0Config.tiny(),
    "pi05": Pi0Config.tiny(pi05=True),
    "pi0_fast": Pi0FastConfig.tiny(),
}


@pytest.fixture(scope="module", params=CONFIGS)
def model(request):
    return random_model(CONFIGS[request.param])


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("tuning", [GPU, HOPPER], ids=["gpu", "hopper"])
def test_a_tuned_model_answers_as_the_plain_one(model, tuning, batch, fused_on_a_cpu):
    expected = np.asarray(sampled(model, PLAIN, batch))
    assert not fused_on_a_cpu
    np.testing.assert_allclose(sampled(model, tuning, batch), expected, **CLOSE)
    assert bool(fused_on_a_cpu) == tuning.fused_attention


def test_a_single_token_is_scored_as_in_a_batch_of_rows(model):
    if not isinstance(model.config, Pi0FastConfig):
        pytest.skip("π0-FAST alone reads one token a pass")
    scores = {}
    for tuning in (PLAIN, GPU):
        own = prepare(model, tuning=tuning).model
        first, decoding = own.prefill(observe(model.config, 1), 4)
        assert slots_of(decoding.cache) % tuning.slots == 0
        second, _ = own.decode(jnp.argmax(first, axis=-1)[:, None].astype(jnp.int32), decoding)
        scores[tuning] = np.asarray(second)
    np.testing.assert_allclose(scores[GPU], scores[PLAIN], **CLOSE)


def test_a_device_gets_its_own_tuning():
    assert Tuning.of("gpu", "9.0") is HOPPER
    assert Tuning.of("gpu", "8.9") is GPU
    assert Tuning.of("cpu", None) is PLAIN
    assert Tuning.of("tpu", None) is PLAIN


def test_attention_is_fused_where_it_fills_a_gpu():
    half = jnp.bfloat16
    assert HOPPER.fuses(half, 3, 256, 16), "SigLIP's of three cameras"
    assert HOPPER.fuses(half, 1, 832, 8), "the prefix's"
    assert not HOPPER.fuses(half, 1, 50, 8), "a step's, a few tokens behind a long cache"
    assert HOPPER.fuses(half, 16, 50, 8), "a step's of sixteen robots"
    assert not HOPPER.fuses(jnp.float32, 3, 256, 16)
    assert not GPU.fuses(half, 3, 256, 16)
    assert not PLAIN.fuses(half, 3, 256, 16)


def test_bfloat16_is_tuned_within_its_rounding(fused_on_a_cpu):
    model = random_model(replace(Pi0Config.tiny(pi05=True), dtype=jnp.bfloat16))
    plain, tuned = (np.asarray(sampled(model, tuning, 1)) for tuning in (PLAIN, HOPPER))
    assert np.abs(tuned - plain).max() <= 0.03 * np.abs(plain).max()
