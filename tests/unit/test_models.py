"""What the models promise beside parity: absent cameras, caches, precision, updates, devices."""

import functools
import json
import os
import subprocess
import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pioxide.models import Gemma, GemmaConfig, Observation, Pi0, Pi0Config, Pi0Fast, Pi0FastConfig
from pioxide.models.decoding import DecodingConvention
from pioxide.models.lora import LoraConfig, LoraParam, LoraRule, add_lora, merge_lora
from pioxide.models.masks import block_mask, positions
from pioxide.models.prefix import embed_prefix
from pioxide.models.stack import layer
from pioxide.sampling import sample_actions, sample_tokens
from pioxide.weights.names import OPENPI
from support.models import random_model

KINDS = ["pi0", "pi05"]
velocity_of = nnx.jit(lambda model, observation, x_t, time: model.velocity(observation, x_t, time))
decode_tokens = nnx.jit(sample_tokens, static_argnames=("max_tokens", "temperature", "stop", "scan_layers"))
decode_actions = nnx.jit(sample_actions, static_argnames=("num_steps", "scan_layers"))


@functools.cache
def _drawn(config):
    return nnx.split(random_model(config))


def flow(kind, **changes):
    return nnx.merge(*_drawn(replace(Pi0Config.tiny(pi05=kind == "pi05"), **changes)))


def fast(**changes):
    return nnx.merge(*_drawn(replace(Pi0FastConfig.tiny(), **changes)))


def observe(config, batch=2, *, absent=()):
    rng = np.random.default_rng(0)
    size = config.vision.image_size
    images = {name: rng.integers(0, 256, (batch, size, size, 3)).astype(np.uint8) for name in config.cameras}
    length = rng.integers(3, config.text_len, batch)
    valid = np.arange(config.text_len)[None] < length[:, None]
    made = Observation(
        images={name: image for name, image in images.items() if name not in absent},
        image_masks={name: np.ones(batch, bool) for name in images if name not in absent},
        tokens=rng.integers(5, 500, (batch, config.text_len)).astype(np.int32) * valid,
        token_mask=valid,
        state=rng.normal(0, 1, (batch, config.action_dim)).astype(np.float32),
    )
    return jax.tree.map(jnp.asarray, made)


def noise(config, batch=2):
    return jax.random.normal(jax.random.key(5), (batch, config.action_horizon, config.action_dim))


@pytest.mark.parametrize("kind", KINDS)
def test_absent_camera_changes_nothing(kind):
    model = flow(kind)
    config = model.config
    present = observe(config)
    last = config.cameras[-1]
    masked = present._replace(image_masks=present.image_masks | {last: jnp.zeros(2, bool)})
    absent = observe(config, absent=(last,))
    time = jnp.array([0.3, 0.8])
    x_t = noise(config)
    expected = velocity_of(model, masked, x_t, time)
    np.testing.assert_allclose(velocity_of(model, absent, x_t, time), expected, atol=2e-5)
    assert np.abs(velocity_of(model, present, x_t, time) - expected).max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_nothing(kind):
    model = flow(kind)
    short = observe(model.config)
    longer = short._replace(
        tokens=jnp.pad(short.tokens, ((0, 0), (0, 9)), constant_values=7),
        token_mask=jnp.pad(short.token_mask, ((0, 0), (0, 9))),
    )
    x_t, time = noise(model.config), jnp.array([0.3, 0.8])
    np.testing.assert_allclose(
        velocity_of(model, longer, x_t, time), velocity_of(model, short, x_t, time), atol=2e-5
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scan_layers", [True, False])
def test_cached_velocity_equals_the_whole_pass(kind, scan_layers):
    model = flow(kind)
    observation = observe(model.config)
    prefix = nnx.jit(Pi0.prefill, static_argnames=("scan_layers",))(
        model, observation, scan_layers=scan_layers
    )
    for value in (0.9, 0.2):
        time, x_t = jnp.full(2, value), noise(model.config) * value
        velocity, prefix = nnx.jit(Pi0.cached_velocity)(
            model, prefix, observation, x_t, model.condition(time)
        )
        np.testing.assert_allclose(velocity, velocity_of(model, observation, x_t, time), atol=2e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_sampling_equals_euler_written_out(kind):
    model = flow(kind)
    observation, x = observe(model.config), noise(model.config)
    sampled = decode_actions(model, observation, x, num_steps=3)
    for step in range(3):
        x = x - velocity_of(model, observation, x, jnp.full(2, 1 - step / 3)) / 3
    np.testing.assert_allclose(sampled, x, atol=5e-5)
    np.testing.assert_allclose(
        decode_actions(model, observation, noise(model.config), num_steps=3, scan_layers=True), x, atol=5e-5
    )


def test_time_may_differ_from_action_to_action():
    for kind in KINDS:
        model = flow(kind)
        observation, x_t = observe(model.config), noise(model.config)
        time = jnp.array([0.3, 0.8])
        each = jnp.repeat(time[:, None], model.config.action_horizon, axis=1)
        np.testing.assert_allclose(
            velocity_of(model, observation, x_t, each), velocity_of(model, observation, x_t, time), atol=1e-5
        )


def test_loss_needs_noise_and_time_or_a_key():
    model = flow("pi05")
    observation, actions = observe(model.config), noise(model.config)
    with pytest.raises(ValueError, match="key"):
        model.loss(observation, actions)
    drawn = nnx.jit(Pi0.loss)(model, observation, actions, key=jax.random.key(0))
    assert drawn.shape == (2, model.config.action_horizon)
    assert np.isfinite(drawn).all()


def test_wrong_images_are_named():
    model = flow("pi0")
    observation = observe(model.config)
    name = model.config.cameras[0]
    with pytest.raises(ValueError, match=name):
        model.prefill(observation._replace(images={name: jnp.zeros((2, 14, 14, 3))}))
    with pytest.raises(ValueError, match="top"):
        model.prefill(observation._replace(images={"top": jnp.zeros((2, 28, 28, 3))}))
    with pytest.raises(ValueError, match="topp"):
        model.prefill(observation._replace(image_masks={"topp": jnp.zeros(2, bool)}))
    with pytest.raises(ValueError, match="state"):
        velocity_of(model, observation._replace(state=None), noise(model.config), jnp.ones(2))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("change", [-1, 1])
def test_actions_of_another_horizon_are_named(kind, change):
    """One action less would otherwise be made up for by π0's state token."""
    model = flow(kind)
    horizon, dim = model.config.action_horizon, model.config.action_dim
    actions = jnp.zeros((2, horizon + change, dim))
    with pytest.raises(ValueError, match=rf"\({horizon + change}, {dim}\), expected \({horizon}, {dim}\)"):
        model.loss(observe(model.config), actions, key=jax.random.key(0))


@pytest.mark.parametrize("num_steps", [0, -3])
def test_sampling_takes_a_step(num_steps):
    model = flow("pi0")
    with pytest.raises(ValueError, match=f"num_steps: expected at least 1, got {num_steps}"):
        sample_actions(model, observe(model.config), noise(model.config), num_steps=num_steps)


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_stays_near_float32(kind):
    """Within 4% of the velocity's size: eight bits of mantissa through a few layers."""
    model = flow(kind)
    observation, x_t, time = observe(model.config), noise(model.config), jnp.array([0.3, 0.8])
    expected = velocity_of(model, observation, x_t, time)
    graph, _ = nnx.split(nnx.eval_shape(lambda: Pi0(replace(model.config, dtype=jnp.bfloat16), nnx.Rngs(0))))
    low = nnx.merge(graph, nnx.split(model)[1])
    got = velocity_of(low, observation, x_t, time)
    assert got.dtype == jnp.float32
    assert np.abs(got - expected).max() < 0.04 * np.abs(expected).max()
    assert np.abs(got - expected).max() > 0


@nnx.jit
def _whole_pass(model, observation, generated, gap):
    """Scores after the last valid token of each row, in one pass without a cache."""
    prefix = embed_prefix(model.vision, model.language, observation, model.config.cameras)
    where = positions(prefix.valid)
    text = jnp.pad(generated, ((0, 0), (prefix.valid.shape[1] - generated.shape[1], 0)))
    (out,), _ = model.language((prefix.tokens,), where + gap * text, block_mask(prefix.valid, prefix.ar_mask))
    last = prefix.valid.shape[1] - 1 - jnp.argmax(prefix.valid[:, ::-1], axis=1)
    return model.language.logits(jnp.take_along_axis(out, last[:, None, None], axis=1)[:, 0])


@pytest.mark.parametrize("decoding", list(DecodingConvention))
def test_decoding_equals_whole_passes_over_what_was_written(decoding):
    model = fast(decoding=decoding)
    observation = observe(model.config)
    tokens = np.asarray(decode_tokens(model, observation, max_tokens=6, stop=()))
    gap = 1 if decoding is DecodingConvention.OPENPI else 0
    length = np.asarray(observation.token_mask.sum(1))
    for t in range(1, 6):
        # Each row's prompt and its tokens so far stand together, whatever padding the prompt had.
        ids, valid = np.zeros((2, 40), np.int32), np.zeros((2, 40), bool)
        generated = np.zeros((2, 40), np.int32)
        for row in range(2):
            n = length[row]
            ids[row, :n], ids[row, n : n + t] = observation.tokens[row, :n], tokens[row, :t]
            valid[row, : n + t], generated[row, n : n + t] = True, 1
        whole = observation._replace(tokens=ids, token_mask=valid, ar_mask=generated)
        logits = _whole_pass(model, jax.tree.map(jnp.asarray, whole), jnp.asarray(generated), gap)
        np.testing.assert_array_equal(jnp.argmax(logits, -1), tokens[:, t])


def test_rows_stop_at_their_own_end_and_the_rest_is_zero():
    model = fast()
    observation = observe(model.config)
    free = decode_tokens(model, observation, max_tokens=8, stop=())
    end = int(free[0, 2])
    stopped = np.asarray(decode_tokens(model, observation, max_tokens=8, stop=(end,)))
    first = int(np.flatnonzero(np.asarray(free[0]) == end)[0])
    np.testing.assert_array_equal(stopped[0, : first + 1], free[0, : first + 1])
    assert not stopped[0, first + 1 :].any()
    scanned = decode_tokens(model, observation, max_tokens=8, stop=(), scan_layers=True)
    np.testing.assert_array_equal(scanned, free)


def test_temperature_draws_and_needs_a_key():
    model = fast()
    observation = observe(model.config)
    with pytest.raises(ValueError, match="key"):
        decode_tokens(model, observation, max_tokens=4, temperature=1.0)
    for temperature in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"temperature {temperature} must be 0"):
            sample_tokens(model, observation, temperature=temperature, key=jax.random.key(0))
    with pytest.raises(ValueError, match="max_tokens: expected at least 1"):
        sample_tokens(model, observation, max_tokens=0)
    draws = [
        np.asarray(
            decode_tokens(model, observation, max_tokens=4, temperature=5.0, key=jax.random.key(k), stop=())
        )
        for k in (0, 0, 1)
    ]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert (draws[0] != draws[2]).any()


def updated(rule):
    """One layer of a language model with updates on every weight, all at random."""
    rng = np.random.default_rng(4)
    language = replace(GemmaConfig.dummy(), vocab=8, depth=1)
    graph, state = nnx.split(nnx.eval_shape(lambda: _with_lora(language, rule)))
    state = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(0, 0.3, leaf.shape), jnp.float32), state)
    return layer(nnx.merge(graph, state).blocks, 0).experts[0]


def _with_lora(config, rule):
    gemma = Gemma(nnx.Rngs(0), config, param_dtype=jnp.float32, dtype=jnp.float32)
    add_lora(gemma, [LoraConfig(4, 8.0, rule=rule)], nnx.Rngs(1))
    return gemma


@pytest.mark.parametrize("rule", list(LoraRule))
def test_updates_apart_from_the_weights_are_updates_in_them(rule):
    expert = updated(rule)
    rng = np.random.default_rng(5)
    for name, equation, shape in (
        ("query", "btw,nwh->btnh", (2, 3, 64)),
        ("key_value", "btw,ckwh->cbtkh", (2, 3, 64)),
        ("out", "btnh,nhw->btw", (2, 3, 8, 16)),
        ("gate_up", "btw,cwf->cbtf", (2, 3, 64)),
        ("down", "btf,fw->btw", (2, 3, 128)),
    ):
        x = jnp.asarray(rng.normal(0, 1, shape), jnp.float32)
        low_rank = getattr(expert, name)
        expected = jnp.einsum(equation, x, low_rank.compose())
        np.testing.assert_allclose(low_rank.contract(equation, x), expected, rtol=1e-4, atol=1e-4)
        plain = jnp.einsum(equation, x, low_rank.base[...])
        assert np.abs(expected - plain).max() > 0.1


def test_an_update_too_small_for_a_bfloat16_sum_still_counts():
    """Weights of +-1 can't take up 2^-10 in bfloat16, but 128 inputs see 2^-10 each."""
    down = updated(LoraRule.PLAIN).down
    signs = jnp.where(jnp.arange(128)[:, None] % 2 == 0, 1.0, -1.0)
    down.base.set_value(jnp.broadcast_to(signs, (128, 64)).astype(jnp.bfloat16))
    down.a.set_value(jnp.full((128, 4), 2.0**-6, jnp.bfloat16))
    down.b.set_value(jnp.full((4, 64), 2.0**-7, jnp.bfloat16))  # rank 4, alpha 8: in all 2^-10
    np.testing.assert_array_equal(down.compose(), down.base[...])
    seen = down.contract("btf,fw->btw", jnp.ones((1, 1, 128), jnp.bfloat16))
    np.testing.assert_array_equal(np.asarray(seen, np.float32), 0.125)


def _moved(state):
    rng = np.random.default_rng(7)
    return jax.tree.map(lambda leaf: leaf + rng.normal(0, 0.05, leaf.shape).astype(np.float32), state)


@pytest.mark.parametrize("rule", list(LoraRule))
def test_merged_updates_change_no_number(rule):
    model = flow("pi05")
    observation, x_t, time = observe(model.config), noise(model.config), jnp.array([0.3, 0.8])
    before = velocity_of(model, observation, x_t, time)
    add_lora(model.language, [LoraConfig(4, 8.0, rule=rule), LoraConfig(2, 2.0, True, rule)], nnx.Rngs(3))
    start = velocity_of(model, observation, x_t, time)
    if rule is LoraRule.PLAIN:
        np.testing.assert_allclose(start, before, atol=1e-6)
    nnx.update(model, _moved(nnx.state(model, LoraParam)))
    updated = velocity_of(model, observation, x_t, time)
    assert np.abs(updated - before).max() > 1e-3
    merge_lora(model.language)
    np.testing.assert_allclose(velocity_of(model, observation, x_t, time), updated, rtol=1e-3, atol=2e-5)
    assert not jax.tree.leaves(nnx.state(model, LoraParam))


def test_openpis_update_is_its_own_formula():
    model = flow("pi0")
    expert = model.language.blocks.experts[0]
    base = expert.out[...]
    down = expert.down[...]
    add_lora(model.language, [LoraConfig(4, 8.0, rule=LoraRule.OPENPI)], nnx.Rngs(3))
    a, b = expert.out.a[...], expert.out.b[...]
    # W[n] + s * A[n] @ sum over all heads of B; no scale in the MLP.
    expected = base + 2.0 * jnp.einsum("lnhr,lmrd->lnhd", a, b)
    np.testing.assert_allclose(expert.out.compose(), expected, rtol=1e-5, atol=1e-7)
    expected = down + jnp.einsum("lfr,lrd->lfd", expert.down.a[...], expert.down.b[...])
    np.testing.assert_allclose(expert.down.compose(), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("rank", "alpha"), [(0, 1.0), (-2, 1.0), (2, float("nan"))])
def test_updates_that_are_none_are_refused(rank, alpha):
    with pytest.raises(ValueError, match=f"rank {rank} and alpha {alpha}"):
        LoraConfig(rank, alpha)


def test_only_the_factors_are_trained():
    model = flow("pi0")
    add_lora(model.language, [LoraConfig(4, 8.0)], nnx.Rngs(3))
    observation, actions = observe(model.config), noise(model.config)
    wrt = nnx.DiffState(0, LoraParam)
    mean = nnx.jit(
        nnx.grad(lambda m: m.loss(observation, actions, key=jax.random.key(0)).mean(), argnums=wrt)
    )
    grads = mean(model)
    paths = {path[-1] for path, _ in nnx.to_flat_state(grads)}
    assert paths == {"a", "b"}


def test_depth_does_not_change_what_is_compiled():
    texts = []
    for depth in (2, 5):
        gemma = replace(Pi0Config.tiny().language, depth=depth)
        config = replace(Pi0Config.tiny(), language=gemma, action=gemma)
        graph, state = nnx.split(nnx.eval_shape(lambda config=config: Pi0(config, nnx.Rngs(0))))
        observation, x_t = observe(config), noise(config)
        lowered = jax.jit(
            lambda s, g=graph, o=observation, x=x_t: nnx.merge(g, s).velocity(o, x, jnp.ones(2))
        ).lower(state)
        texts.append(len(lowered.as_text().splitlines()))
    assert abs(texts[0] - texts[1]) < 10  # a layer more would be some two hundred lines


FULL = {
    "pi0": (Pi0, Pi0Config.pi0(), []),
    "pi05": (Pi0, Pi0Config.pi05_base(), []),
    "pi0_fast": (Pi0Fast, Pi0FastConfig.pi0_fast(), []),
    "pi0_lora": (Pi0, Pi0Config.pi0(), [LoraConfig.openpi_language(), LoraConfig.openpi_action()]),
    "pi0_fast_lora": (Pi0Fast, Pi0FastConfig.pi0_fast(), [LoraConfig.openpi_language()]),
}


def test_full_size_models_have_openpis_parameters_path_by_path(golden):
    trees = json.loads((golden / "openpi_param_trees.json").read_text())
    assert len(trees) == len(FULL)
    for name, tree in trees.items():
        key = next(k for k in sorted(FULL, key=len, reverse=True) if name.replace("-", "_").startswith(k))
        kind, config, lora = FULL[key]

        def make(kind=kind, config=config, lora=lora):
            model = kind(config, nnx.Rngs(0))
            add_lora(model.language, lora, nnx.Rngs(1))
            return model

        state = nnx.to_flat_state(nnx.split(nnx.eval_shape(make))[1])
        ours = {OPENPI["/".join(map(str, path))]: list(leaf.shape) for path, leaf in state}
        theirs = {
            path: list(spec["shape"] if isinstance(spec, dict) else spec[0]) for path, spec in tree.items()
        }
        assert ours == theirs, name


SHARDED = """
import jax, jax.numpy as jnp, json, numpy as np
from flax import nnx
from pioxide.models import Pi0, Pi0Config
from pioxide.models.sharding import batch_sharding, create_sharded, make_mesh
from test_models import observe, noise
config = Pi0Config.tiny(pi05=True)
mesh = make_mesh(fsdp=FSDP)
model = create_sharded(lambda: Pi0(config, nnx.Rngs(0)), mesh, smallest_bytes=0)
graph, state = nnx.split(model)
observation, actions = jax.device_put((observe(config, 8), noise(config, 8)), batch_sharding(mesh))
def loss(state):
    model = nnx.merge(graph, state)
    return model.loss(observation, actions, noise=actions[::-1], time=jnp.linspace(0.1, 1, 8)).mean()
value, grads = jax.jit(jax.value_and_grad(loss))(state)
split = [x for x in jax.tree.leaves(state) if not x.sharding.is_fully_replicated]
sums = [float(np.abs(np.asarray(g)).sum()) for g in jax.tree.leaves(grads)]
print(json.dumps([len(jax.devices()), len(split), float(value), sums]))
"""


def test_loss_and_gradients_are_the_same_on_eight_devices():
    def run(devices, fsdp):
        env = os.environ | {
            "JAX_NUM_CPU_DEVICES": str(devices),
            "JAX_PLATFORMS": "cpu",
            "PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *sys.path]),
        }
        code = SHARDED.replace("FSDP", str(fsdp))
        out = subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False
        )
        assert out.returncode == 0, out.stderr[-2000:]
        return json.loads(out.stdout.splitlines()[-1])

    devices, split, loss, grads = run(1, 1)
    assert (devices, split) == (1, 0)
    devices, split, other_loss, other_grads = run(8, 4)
    assert devices == 8
    assert split > 20
    assert other_loss == pytest.approx(loss, rel=1e-5)
    np.testing.assert_allclose(other_grads, grads, rtol=2e-3, atol=1e-5)
