"""Every path through the models in every precision: shapes hold, and no dtype is promoted unasked.

Nothing is computed: tracing runs the checks that `conftest` puts on every annotated function of the models.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from jaxtyping import TypeCheckError

from pioxide.models import LoraConfig, LoraRule, Observation, Pi0, Pi0Config, Pi0Fast, Pi0FastConfig, add_lora
from pioxide.models.masks import block_mask
from pioxide.sampling import sample_actions, sample_tokens

BATCH = 3
DTYPES = [jnp.float32, jnp.bfloat16]
LORA = [None, *LoraRule]
either_precision = pytest.mark.parametrize("param_dtype", DTYPES, ids=lambda dtype: f"kept_{dtype.__name__}")
either_compute = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: f"computed_{dtype.__name__}")
any_update = pytest.mark.parametrize("rule", LORA, ids=lambda rule: rule.value if rule else "no_lora")


@pytest.fixture(autouse=True)
def strict():
    with jax.numpy_dtype_promotion("strict"):
        yield


def placeholder(*shape, dtype=jnp.float32):
    return jax.ShapeDtypeStruct((BATCH, *shape), dtype)


def observation_of(config, cameras=None):
    cameras, size = config.cameras if cameras is None else cameras, config.vision.image_size
    return Observation(
        images={name: placeholder(size, size, 3, dtype=jnp.uint8) for name in cameras},
        image_masks={name: placeholder(dtype=jnp.bool_) for name in cameras},
        tokens=placeholder(config.text_len, dtype=jnp.int32),
        token_mask=placeholder(config.text_len, dtype=jnp.bool_),
        state=placeholder(config.action_dim),
        ar_mask=placeholder(config.text_len, dtype=jnp.int32),
        loss_mask=placeholder(config.text_len, dtype=jnp.bool_),
    )


def abstract(kind, config, rule=None):
    def make():
        model = kind(config, nnx.Rngs(0))
        if rule is not None:
            add_lora(
                model.language,
                [LoraConfig(2, 2.0, rule=rule)] * len(model.language.blocks.experts),
                nnx.Rngs(1),
            )
        return model

    return nnx.split(nnx.eval_shape(make))


def traced(graph, function, *arguments):
    return jax.eval_shape(lambda state, *rest: function(nnx.merge(graph, state), *rest), *arguments)


@either_compute
@either_precision
@any_update
@pytest.mark.parametrize("pi05", [False, True], ids=["pi0", "pi05"])
def test_flow_models_are_traced_in_every_precision(pi05, rule, param_dtype, dtype):
    config = replace(Pi0Config.tiny(pi05=pi05), param_dtype=param_dtype, dtype=dtype)
    graph, state = abstract(Pi0, config, rule)
    chunk = placeholder(config.action_horizon, config.action_dim)
    observation = observation_of(config)._replace(ar_mask=None, loss_mask=None)
    for time in (placeholder(), placeholder(config.action_horizon)):
        velocity = traced(graph, Pi0.velocity, state, observation, chunk, time)
        assert (velocity.shape, velocity.dtype) == (chunk.shape, jnp.float32)
    for scan_layers in (False, True):
        actions = traced(
            graph,
            lambda m, o, n, u=scan_layers: sample_actions(m, o, n, num_steps=2, scan_layers=u),
            state,
            observation,
            chunk,
        )
        assert (actions.shape, actions.dtype) == (chunk.shape, jnp.float32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    loss = traced(graph, lambda m, o, a, k: m.loss(o, a, key=k), state, observation, chunk, key)
    assert (loss.shape, loss.dtype) == ((BATCH, config.action_horizon), jnp.float32)
    grads = jax.eval_shape(
        jax.grad(lambda s, o, a, k: nnx.merge(graph, s).loss(o, a, key=k).mean()),
        state,
        observation,
        chunk,
        key,
    )
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), grads) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), state
    )


@either_compute
@either_precision
@any_update
def test_pi0_fast_is_traced_in_every_precision(rule, param_dtype, dtype):
    config = replace(Pi0FastConfig.tiny(), param_dtype=param_dtype, dtype=dtype)
    graph, state = abstract(Pi0Fast, config, rule)
    observation = observation_of(config)
    for most in (None, 5):
        loss = traced(graph, lambda m, o, n=most: m.loss(o, loss_tokens=n), state, observation)
        assert (loss.shape, loss.dtype) == ((BATCH,), jnp.float32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    for scan_layers, temperature in ((False, 0.0), (True, 1.0)):
        tokens = traced(
            graph,
            lambda m, o, k, u=scan_layers, t=temperature: sample_tokens(
                m, o, max_tokens=4, temperature=t, key=k, scan_layers=u
            ),
            state,
            observation,
            key,
        )
        assert (tokens.shape, tokens.dtype) == ((BATCH, 4), jnp.int32)


@pytest.mark.parametrize("cameras", [(), ("base_0_rgb",)], ids=["no_camera", "one_camera"])
def test_cameras_may_be_fewer(cameras):
    config = Pi0Config.tiny()
    graph, state = abstract(Pi0, config)
    chunk = placeholder(config.action_horizon, config.action_dim)
    observation = observation_of(config, cameras)._replace(ar_mask=None, loss_mask=None)
    assert traced(graph, sample_actions, state, observation, chunk).shape == chunk.shape


def test_a_wrong_shape_is_caught():
    """The checks are on: a mask of another batch than its starts does not pass."""
    with pytest.raises(TypeCheckError):
        block_mask(jnp.ones((2, 4, 1), bool), jnp.zeros(4, jnp.int32))
    config = Pi0Config.tiny()
    graph, state = abstract(Pi0, config)
    observation = observation_of(config)._replace(ar_mask=None, loss_mask=None)
    chunk = placeholder(config.action_horizon, config.action_dim)
    one_time_too_few = jax.ShapeDtypeStruct((BATCH - 1,), jnp.float32)
    with pytest.raises(TypeCheckError):
        traced(graph, Pi0.velocity, state, observation, chunk, one_time_too_few)


def test_a_promotion_is_caught():
    with pytest.raises(jax.dtypes.TypePromotionError):
        jnp.zeros(2, jnp.float32) + jnp.zeros(2, jnp.bfloat16)
