"""The vision tower over time: LeRobot's numbers, one frame as before, and nothing from what is not there."""

import json
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pioxide.engine.prepare import prepare
from pioxide.models import Pi0, Pi0Config, Siglip, SiglipConfig
from pioxide.models.memory import MemoryConfig
from support.memory_tower import DEPTH, EVERY, FRAMES, HEADS, MLP, PATCH, SIZE, THERE, WIDTH, drawn, frames
from support.models import observe, random_model


@pytest.fixture(scope="module")
def tower():
    config = SiglipConfig(WIDTH, DEPTH, MLP, HEADS, PATCH, SIZE)
    made = nnx.eval_shape(
        lambda: Siglip(nnx.Rngs(0), config, WIDTH, param_dtype=jnp.float32, dtype=jnp.float32, remat=True)
    )
    graph, state = nnx.split(made)
    flat = dict(nnx.to_flat_state(state))
    for path, leaf in flat.items():
        flat[path] = leaf.replace(jnp.asarray(drawn("/".join(map(str, path)), leaf.shape)))
    flat["head", "kernel"] = flat["head", "kernel"].replace(jnp.eye(WIDTH))
    flat["head", "bias"] = flat["head", "bias"].replace(jnp.zeros(WIDTH))
    return nnx.merge(graph, nnx.from_flat_state(flat))


def over_time(tower, images, there, *, scan_layers=True):
    graph, state = nnx.split(tower)
    return np.asarray(encoded(graph, state, images, there, scan_layers))


@partial(jax.jit, static_argnums=(0, 4))
def encoded(graph, state, images, there, scan_layers):
    return nnx.merge(graph, state).over_time(images, there, EVERY, scan_layers=scan_layers)


@pytest.fixture(scope="module")
def tokens(tower):
    return over_time(tower, frames(), THERE)


def test_frames_become_the_tokens_that_lerobot_makes_of_them(golden, tower, tokens):
    theirs = np.asarray(json.loads((golden / "memory/tower.json").read_text())["tokens"])
    np.testing.assert_allclose(tokens, theirs, rtol=2e-5, atol=2e-5)
    unrolled = over_time(tower, frames(), THERE, scan_layers=False)
    np.testing.assert_allclose(unrolled, theirs, rtol=2e-5, atol=2e-5)


def test_one_frame_is_an_image_to_the_bit_and_no_past_an_image_within_rounding(tower, tokens):
    newest = frames()[:, -1]
    image = np.asarray(jax.jit(lambda images: tower(images))(newest))
    np.testing.assert_array_equal(over_time(tower, newest[:, None], THERE[:, -1:]), image)
    np.testing.assert_allclose(tokens[2], image[2], rtol=1e-5, atol=1e-5)
    assert np.abs(tokens[0] - image[0]).max() > 0.1


def test_what_is_not_there_is_not_seen_and_time_has_an_order(tower, tokens):
    other = frames()
    other[~THERE] = 7.0
    np.testing.assert_array_equal(over_time(tower, other, THERE), tokens)
    swapped = over_time(tower, frames()[:, [1, 0, 2, 3]], THERE)
    assert np.abs(swapped[0] - tokens[0]).max() > 1e-3


def test_gradients_reach_the_frames_that_are_there_and_no_others(tower):
    @jax.jit
    @jax.grad
    def pulled(images):
        return jnp.square(tower.over_time(images, jnp.asarray(THERE), EVERY)).sum()

    gradient = np.asarray(pulled(frames()))
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(np.abs(gradient).max(axis=(2, 3, 4)) > 0, THERE)


def test_a_prepared_model_with_memory_embeds_what_the_model_embeds():
    config = replace(Pi0Config.tiny(pi05=True), memory=MemoryConfig(frames=FRAMES, every=EVERY))
    model, observation = random_model(config), observe(config, 2)
    rng, (camera,) = np.random.default_rng(1), observation.images
    size = config.vision.image_size
    film = jnp.asarray(rng.integers(0, 256, (2, FRAMES, size, size, 3), dtype=np.uint8))
    seen = observation._replace(images={camera: film}, image_masks={camera: jnp.asarray(THERE[:2])})
    prepared = prepare(model).model
    ours = jax.jit(lambda seen: prepared.embed_prefix(seen, scan_layers=False))(seen)
    theirs = jax.jit(lambda seen: model.embed_prefix(seen))(seen)
    np.testing.assert_allclose(ours.tokens, theirs.tokens, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(ours.valid, theirs.valid)
    with pytest.raises(ValueError, match="expected \\(4, 28, 28, 3\\)"):
        model.embed_prefix(observation)


def test_memories_that_can_not_be_are_refused():
    with pytest.raises(ValueError, match="2 frames or more"):
        MemoryConfig(frames=1)
    with pytest.raises(ValueError, match="π0 has no memory"):
        nnx.eval_shape(lambda: Pi0(replace(Pi0Config.tiny(), memory=MemoryConfig()), nnx.Rngs(0)))
    with pytest.raises(ValueError, match="the vision tower has 2 layers"):
        nnx.eval_shape(lambda: Pi0(replace(Pi0Config.tiny(pi05=True), memory=MemoryConfig()), nnx.Rngs(0)))
