"""PaliGemma and π0 give the numbers of Hugging Face transformers on the same checkpoint, in float32.

Source of truth: transformers in PyTorch, tiny models (`support.huggingface`). Every comparison runs twice:
with outputs recorded in tests/golden/huggingface, and, where PyTorch is installed, with what transformers
computes and writes here and now.
"""

import functools
import importlib.util
import json
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pioxide.models import ExpertConfig, GemmaConfig, Observation, Pi0FastConfig, SiglipConfig
from pioxide.models.decoding import DecodingConvention
from pioxide.models.masks import block_mask, positions
from pioxide.models.observation import to_float
from pioxide.models.prefix import embed_prefix
from pioxide.sampling import sample_actions
from pioxide.weights import build, load, load_into
from support import huggingface as hf
from support.models import random_model

# Most of it is for π0's time: sines of angles up to 500 pi, which float32 has to 1e-4.
RELATIVE = 5e-5
NAMES = ("base", "wrist")
SEE = hf.scene()
PALIGEMMAS = pytest.mark.parametrize("name", ["paligemma", "paligemma_kv2"])


class Reference(NamedTuple):
    """What transformers gave, and our model with the same weights."""

    outputs: dict[str, np.ndarray]
    model: nnx.Module


@pytest.fixture(scope="module", params=["recorded", "live"])
def reference(request, golden, tmp_path_factory):
    """A function from a model's name to its `Reference`."""
    live = request.param == "live"
    if live and importlib.util.find_spec("torch") is None:
        pytest.skip(
            "PyTorch is not installed, so transformers computes nothing: recorded outputs alone are tested"
        )

    @functools.cache
    def get(name):
        directory = tmp_path_factory.mktemp(name)
        spec = json.loads((golden / f"huggingface/{name}.json").read_text())
        hf.write_checkpoint(spec["tensors"], directory)
        if not live:
            return Reference(dict(np.load(golden / f"huggingface/{name}.npz")), opened(name, directory))
        theirs = hf.open_model(name, directory)
        theirs.save_pretrained(directory / "again")
        return Reference(hf.outputs(name, theirs), opened(name, directory / "again"))

    return get


def opened(name, directory):
    vision = SiglipConfig(
        hf.VISION_WIDTH, hf.VISION_DEPTH, hf.VISION_MLP, hf.VISION_HEADS, patch=hf.PATCH, image_size=hf.SIZE
    )
    language = GemmaConfig(
        (ExpertConfig(hf.WIDTH, hf.MLP),),
        depth=hf.DEPTH,
        heads=hf.HEADS,
        kv_heads=hf.KV_HEADS[name],
        head_dim=hf.HEAD_DIM,
        vocab=hf.VOCAB,
    )
    with load(directory, heads=(hf.VISION_HEADS, hf.KV_HEADS[name])) as checkpoint:
        assert not checkpoint.problems()
        if name == "pi0":
            model = build(
                checkpoint, cameras=NAMES, action_horizon=hf.HORIZON, text_len=hf.TEXT, dtype=jnp.float32
            )
            assert model.config.vision == vision
            assert model.config.language == language
            return model
        assert checkpoint.title == "PaliGemma"
        config = Pi0FastConfig(
            language, vision, NAMES, decoding=DecodingConvention.TRAINING, dtype=jnp.float32
        )
        model = random_model(config)
        assert load_into(model, checkpoint) == ()
        return model


def observe(**fields):
    observation = Observation(
        images={name: SEE.images[:, i] for i, name in enumerate(NAMES)},
        image_masks={name: SEE.cameras[:, i] for i, name in enumerate(NAMES)},
        tokens=SEE.tokens,
        token_mask=SEE.valid,
        state=SEE.state,
    )
    return jax.tree.map(jnp.asarray, observation._replace(**fields))


def causal(tokens):
    slots = jnp.broadcast_to(jnp.arange(tokens), (hf.ROWS, tokens))
    return slots, slots[:, None] <= slots[..., None]


def close(ours, theirs):
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(np.asarray(ours), theirs, rtol=RELATIVE, atol=RELATIVE * np.abs(theirs).max())


@nnx.jit(static_argnames="scan_layers")
def image_tokens(vision, *, scan_layers):
    return vision(to_float(jnp.asarray(SEE.images).reshape(-1, hf.SIZE, hf.SIZE, 3)), scan_layers=scan_layers)


@pytest.mark.parametrize("scan_layers", [False, True])
def test_images_give_the_same_tokens_in_the_language_models_width(reference, scan_layers):
    theirs, model = reference("paligemma")
    close(image_tokens(model.vision, scan_layers=scan_layers), theirs["image_tokens"])


@nnx.jit
def causal_text(language):
    (hidden,), _ = language(
        (language.embed(jnp.asarray(SEE.tokens)),), jnp.asarray(SEE.positions), causal(hf.TEXT)[1]
    )
    return hidden, language.logits(hidden)


@PALIGEMMAS
def test_text_that_sees_what_is_before_it_has_the_same_hidden_states_and_scores(reference, name):
    theirs, model = reference(name)
    hidden, logits = causal_text(model.language)
    close(hidden, theirs["text_hidden"])
    close(logits, theirs["text_logits"])


@nnx.jit
def whole_sequence(model):
    observation = observe(ar_mask=SEE.answer.astype(np.int32))
    prefix = embed_prefix(model.vision, model.language, observation, NAMES)
    mask = block_mask(prefix.valid, prefix.ar_mask)
    (hidden,), _ = model.language((prefix.tokens,), positions(prefix.valid), mask)
    return model.language.logits(hidden), prefix.valid


@PALIGEMMAS
def test_an_answer_that_follows_images_and_prompt_has_the_same_scores(reference, name):
    theirs, model = reference(name)
    logits, valid = whole_sequence(model)
    assert valid.sum() == hf.PATCHES * SEE.cameras.sum() + SEE.valid.sum()
    close(logits[valid], theirs["answer_logits"][valid])


@nnx.jit
def decoded(model):
    answer = jnp.asarray(SEE.tokens[SEE.answer].reshape(hf.ROWS, hf.SUFFIX))
    first, state = model.prefill(observe(token_mask=SEE.valid & ~SEE.answer), hf.SUFFIX)
    one, state = model.decode(answer[:, :1], state)
    rest, _ = model.decode(answer[:, 1:], state)
    return jnp.concatenate([first[:, None], one, rest], axis=1)


@PALIGEMMAS
def test_decoding_with_a_cache_gives_the_scores_of_the_whole_sequence(reference, name):
    theirs, model = reference(name)
    ends = hf.CAMERAS * hf.PATCHES + SEE.valid.sum(1)
    rows = zip(theirs["answer_logits"], ends, strict=True)
    close(decoded(model), np.stack([row[end - hf.SUFFIX - 1 : end] for row, end in rows]))


@nnx.jit
def expert_alone(language):
    (_, hidden), _ = language((None, jnp.asarray(SEE.stream)), *causal(hf.HORIZON))
    return hidden


def test_pi0s_action_expert_alone_has_the_same_hidden_states(reference):
    theirs, model = reference("pi0")
    close(expert_alone(model.language), theirs["expert_hidden"])


@nnx.jit
def velocity_and_loss(model):
    noise, time = jnp.asarray(SEE.noise), jnp.asarray(SEE.time)
    loss = model.loss(observe(), jnp.asarray(SEE.actions), noise=noise, time=time)
    return model.velocity(observe(), noise, time), loss


def test_pi0_gives_the_same_velocity_and_loss(reference):
    theirs, model = reference("pi0")
    velocity, loss = velocity_and_loss(model)
    close(velocity, theirs["velocity"])
    close(loss, theirs["loss"])


@nnx.jit
def actions(model):
    return sample_actions(model, observe(), jnp.asarray(SEE.noise), num_steps=hf.STEPS)


def test_pi0_makes_the_same_actions_of_noise(reference):
    theirs, model = reference("pi0")
    close(actions(model), theirs["actions"])
