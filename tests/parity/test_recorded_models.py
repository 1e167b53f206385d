"""π0, π0.5 and π0-FAST give openpi's numbers on the same weights.

Source of truth: outputs of openpi in float32, recorded in tests/golden/models; SigLIP has its full size, the
language models are openpi's "dummy". Weights come by way of openpi's names.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pioxide.models import GemmaConfig, Observation, Pi0, Pi0Config, Pi0Fast, Pi0FastConfig
from pioxide.sampling import sample_actions, sample_tokens
from pioxide.weights.names import OPENPI
from support.recipe import inputs, parameter

RELATIVE = 2e-4


@pytest.fixture(scope="module")
def fill():
    """Fills a model with the recipe's weights; the large ones are drawn once for all models."""
    drawn: dict[tuple, jax.Array] = {}

    def filled(config, make, spec):
        graph, state = nnx.split(nnx.eval_shape(lambda: make(config, nnx.Rngs(0))))
        flat = dict(nnx.to_flat_state(state))
        paths = {path: OPENPI["/".join(map(str, path))] for path in flat}
        assert {path: list(flat[own].shape) for own, path in paths.items()} == spec["params"]
        for own, path in paths.items():
            shape = tuple(flat[own].shape)
            key = (path, shape, json.dumps(spec.get("gains")), spec.get("embedding_std"), spec["salt"])
            if key not in drawn:
                drawn[key] = jnp.asarray(parameter(path, shape, spec))
            flat[own] = flat[own].replace(drawn[key])
        return nnx.merge(graph, nnx.from_flat_state(flat))

    return filled


def setup(golden, name):
    spec = json.loads((golden / f"models/{name}_dummy.json").read_text())
    recorded = dict(np.load(golden / f"models/{name}_dummy.npz"))
    batch = inputs(spec)
    observation = Observation(
        images=batch["images"],
        image_masks=batch["image_masks"],
        tokens=batch["tokens"],
        token_mask=batch["token_mask"],
        state=batch["state"],
    )
    return spec, recorded, batch, jax.tree.map(jnp.asarray, observation)


def close(ours, theirs):
    scale = np.abs(theirs).max()
    np.testing.assert_allclose(np.asarray(ours), theirs, rtol=RELATIVE, atol=RELATIVE * scale)


@pytest.mark.parametrize("name", ["pi0", "pi05"])
def test_flow_models_give_openpis_tokens_velocity_loss_and_actions(golden, fill, name):
    spec, recorded, batch, observation = setup(golden, name)
    config = Pi0Config(
        language=GemmaConfig.dummy(),
        action=GemmaConfig.dummy(),
        pi05=name == "pi05",
        cameras=tuple(spec["image_keys"]),
        action_dim=spec["action_dim"],
        action_horizon=spec["action_horizon"],
        text_len=spec["max_token_len"],
        dtype=jnp.float32,
    )
    model = fill(config, Pi0, spec)
    graph, state = nnx.split(model)

    @jax.jit
    def forward(state, observation, x_t, time, actions, noise):
        model = nnx.merge(graph, state)
        images = observation.images[config.cameras[0]]
        tokens = model.vision(images.astype(jnp.float32) / 255 * 2 - 1)
        velocity = model.velocity(observation, x_t, time)
        return tokens, velocity, model.loss(observation, actions, noise=noise, time=time)

    x_t, time = jnp.asarray(recorded["x_t"]), jnp.asarray(recorded["time"])
    tokens, velocity, loss = forward(
        state, observation, x_t, time, jnp.asarray(batch["actions"]), jnp.asarray(batch["noise"])
    )
    close(tokens.mean(-1), recorded["image_tokens_mean"])
    close(tokens[:, :4], recorded["image_tokens_head"])
    close(velocity, recorded["velocity"])
    close(loss, recorded["loss"])

    noise = jnp.asarray(batch["noise"])
    for steps, scan_layers in ((10, False), (4, True)):

        @jax.jit
        def sample(state, observation, noise, steps=steps, scan_layers=scan_layers):
            return sample_actions(
                nnx.merge(graph, state), observation, noise, num_steps=steps, scan_layers=scan_layers
            )

        close(sample(state, observation, noise), recorded[f"actions_{steps}"])


def test_pi0_fast_gives_openpis_loss_and_greedy_tokens(golden, fill):
    spec, recorded, batch, observation = setup(golden, "pi0_fast")
    config = Pi0FastConfig(
        language=GemmaConfig.dummy(),
        cameras=tuple(spec["image_keys"]),
        action_dim=spec["action_dim"],
        action_horizon=spec["action_horizon"],
        text_len=spec["max_token_len"],
        dtype=jnp.float32,
    )
    graph, state = nnx.split(fill(config, Pi0Fast, spec))
    length, slots = jnp.asarray(batch["length"]), jnp.arange(spec["max_token_len"])
    suffix = (slots >= (length // 2)[:, None]) & observation.token_mask
    training = observation._replace(ar_mask=suffix.astype(jnp.int32), loss_mask=suffix)
    most = int(suffix.sum(1).max())

    @jax.jit
    def losses(state, training):
        model = nnx.merge(graph, state)
        return (
            model.loss(training),
            model.loss(training, loss_tokens=most),
            model.loss(training, loss_tokens=most - 1),
        )

    whole, gathered, short = losses(state, training)
    close(whole, recorded["loss"])
    close(gathered, recorded["loss"])
    assert np.isnan(short).any(), "a row with more loss tokens than were made room for must not pass"

    prefix = slots < (length // 2)[:, None]
    prompt = observation._replace(tokens=jnp.where(prefix, observation.tokens, 0), token_mask=prefix)

    @jax.jit
    def sample(state, prompt):
        return sample_tokens(nnx.merge(graph, state), prompt, max_tokens=spec["max_decoding_steps"])

    np.testing.assert_array_equal(sample(state, prompt), recorded["tokens"])
