"""What LeRobot computed of its own tiny policies, against pioxide: numbers, ids, images, chunks, actions."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pioxide.codec import FastCodec, Pi0FastPrompts, TextTokenizer
from pioxide.contract import Pipeline
from pioxide.errors import CheckpointError, OverflowingChunkError
from pioxide.family import Family
from pioxide.models import Observation, Pi0, Pi0Fast
from pioxide.models.pi0_fast import DecodingConvention
from pioxide.sampling import sample_actions, sample_tokens
from pioxide.transforms.images import interpolate_with_pad
from pioxide.weights import Architecture, Expert, Vision, load_model
from pioxide.weights.companions import find_companions
from pioxide.weights.contracts import read_contract
from support.lerobot_policies import (
    TEXT_MODEL,
    Arrays,
    case,
    cases,
    read,
    write_checkpoint,
    write_fast_tokenizer,
)

BOS, BAR = 2, 360
# Every 31st row and 29th column of large images are recorded.
PART = np.s_[::31, ::29]


IMAGES_NORMALISED = "pi0_image_statistics"
RAW = "pi0_fast_identity"  # degrees, for which the vocabulary has no tokens
READ = [name for name in cases("processors") if name != IMAGES_NORMALISED]


@pytest.mark.parametrize("name", READ)
def test_numbers_go_in_and_out_as_lerobots_processors_take_them(name: str, tmp_path: Path) -> None:
    _, recorded = case(name)
    numbers = _pipeline(name, tmp_path).numbers
    states, actions = recorded["observation.state"], recorded["action"]
    _close(numbers.state.apply(numbers.robot.apply_state(states)), recorded["pre.state"])
    _close(numbers.apply_actions(actions, states), recorded["pre.action"])
    _close(numbers.invert_actions(recorded["chunk"], states), recorded["post.actions"])


@pytest.mark.parametrize("name", READ)
def test_prompts_have_lerobots_ids(name: str, tmp_path: Path) -> None:
    what, recorded = case(name)
    pipeline = _pipeline(name, tmp_path)
    normalised = pipeline.numbers.state.apply(recorded["observation.state"])
    ids, truncated = pipeline.tokenize(what["tasks"], normalised)
    for task, own, cut, theirs, mask in zip(
        what["tasks"], ids, truncated, recorded["pre.tokens"], recorded["pre.mask"], strict=True
    ):
        np.testing.assert_array_equal(own, theirs[mask], task)
        assert cut == (len(task) > 1000)


@pytest.mark.parametrize("name", [name for name in READ if name.startswith("pi0_fast") and name != RAW])
def test_answers_have_lerobots_ids(name: str, tmp_path: Path) -> None:
    what, recorded = case(name)
    pipeline = _pipeline(name, tmp_path)
    states = recorded["observation.state"]
    chunks = pipeline.numbers.apply_actions(recorded["action"], states)
    normalised = pipeline.numbers.state.apply(states)
    assert isinstance(pipeline.prompts, Pi0FastPrompts)
    compared = 0
    for row, task in enumerate(what["tasks"]):
        try:
            both = pipeline.prompts.encode(task, normalised[row], chunks[row])
        except OverflowingChunkError:  # LeRobot leaves such coefficients out, without a word
            continue
        if both.truncated:  # LeRobot cuts the prompt and the answer each for itself
            continue
        compared += 1
        prompt = int(recorded["pre.mask"][row].sum())
        answer = recorded["pre.action_tokens"][row][recorded["pre.action_mask"][row]]
        np.testing.assert_array_equal(both.tokens[prompt : both.length], answer)
    assert compared


def test_normalised_images_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="images are normalised"):
        _pipeline(IMAGES_NORMALISED, tmp_path)


@pytest.mark.parametrize("name", cases("model"))
def test_images_are_fitted_as_lerobot_fits_them(name: str) -> None:
    what, recorded = case(name)
    renamed = _renamed(name)
    for at, slot in enumerate(what["slots"]):
        if not recorded["pre.image_masks"][:, at].any():
            assert (recorded["pre.images"][:, at] == -1).all()
            continue
        for raw, seen in zip(recorded[renamed.get(slot, slot)], recorded["pre.images"][:, at], strict=True):
            whole = "pre.images" not in what
            fitted = interpolate_with_pad(raw, seen.shape[-1] if whole else 224)
            np.testing.assert_allclose(
                fitted if whole else fitted[PART], seen.transpose(1, 2, 0), rtol=0, atol=2e-6
            )


@pytest.mark.parametrize("name", [name for name in cases("model") if "base" not in case(name)[0]])
def test_networks_answer_as_lerobots_do(name: str, tmp_path: Path) -> None:
    what, recorded = case(name)
    checkpoint = write_checkpoint(name, tmp_path)
    config = read(checkpoint / "config.json")
    model = load_model(
        checkpoint,
        action_horizon=config["chunk_size"],
        cameras=tuple(what["slots"]),
        dtype=jnp.float32,
        **(
            {"action_dim": 6, "decoding": DecodingConvention.TRAINING} if what["family"] == "pi0_fast" else {}
        ),
    )
    seen = _observation(name, what, recorded)
    graph, weights = nnx.split(model)
    if isinstance(model, Pi0Fast):

        def write(weights: Any, seen: Observation) -> Any:
            return sample_tokens(
                nnx.merge(graph, weights), seen, max_tokens=64, stop=(BAR,), scan_layers=True
            )

        tokens = jax.jit(write)(weights, _with_bos(seen))
        np.testing.assert_array_equal(tokens, recorded["answer"][:, :64])
        return
    assert isinstance(model, Pi0)
    state = np.zeros((len(seen.tokens), model.config.action_dim), np.float32)
    state[:, : recorded["pre.state"].shape[1]] = recorded["pre.state"]

    def answer(weights: Any, seen: Observation, noise: Any) -> Any:
        steps = config["num_inference_steps"]
        return sample_actions(nnx.merge(graph, weights), seen, noise, num_steps=steps, scan_layers=True)

    actions = jax.jit(answer)(weights, seen._replace(state=jnp.asarray(state)), recorded["noise"])
    chunk = recorded["chunk"]
    np.testing.assert_allclose(actions[..., : chunk.shape[-1]], chunk, rtol=0, atol=2e-4)


def _pipeline(name: str, directory: Path) -> Pipeline:
    """The pipeline of a recorded checkpoint; what only its tensors tell is that of all of them."""
    write_checkpoint(name, directory / "checkpoint")
    family = Family(case(name)[0]["family"])
    experts = (Expert(64, 96, head_dim=16), Expert(32, 48, head_dim=16))
    vision = Vision(width=32, depth=2, mlp=48, heads=16, head_dim=2, patch=14, tokens=4)
    architecture = (
        Architecture(family, experts, vision, 2, 4116, 32)
        if family.is_flow
        else Architecture(family, experts[:1], vision, 2, 4116)
    )
    companions = find_companions(directory / "checkpoint", {})
    contract = read_contract(directory / "checkpoint", "lerobot", architecture, companions).contract
    codec = None if family.is_flow else FastCodec.load(write_fast_tokenizer(directory / "fast"))
    return Pipeline(contract, TextTokenizer.load(TEXT_MODEL), codec)


def _close(own: Any, theirs: Any) -> None:
    """Equal but for float32's roundings of the largest number."""
    np.testing.assert_allclose(own, theirs, rtol=1e-6, atol=1e-6 * max(1.0, np.abs(theirs).max(initial=0)))


def _renamed(name: str) -> dict[str, str]:
    """The robot's key by the policy's feature."""
    directory = Path(__file__).parent.parent / "golden" / "lerobot" / "cases" / name / "checkpoint"
    steps = read(directory / "policy_preprocessor.json")["steps"]
    return {feature: key for key, feature in steps[0]["config"]["rename_map"].items()}


def _observation(name: str, what: dict[str, Any], recorded: Arrays) -> Observation:
    """What the network saw; large images are fitted again, as they are recorded in part."""
    images = {slot: recorded["pre.images"][:, at] for at, slot in enumerate(what["slots"])}
    images = {slot: image.transpose(0, 2, 3, 1) for slot, image in images.items()}
    if "pre.images" in what:
        renamed = _renamed(name)
        images = {
            slot: np.stack([interpolate_with_pad(raw, 224) for raw in recorded[renamed.get(slot, slot)]])
            for slot in images
        }
    masks = {slot: recorded["pre.image_masks"][:, at] for at, slot in enumerate(what["slots"])}
    return Observation(
        {slot: jnp.asarray(image) for slot, image in images.items()},
        {slot: jnp.asarray(mask) for slot, mask in masks.items()},
        jnp.asarray(recorded["pre.tokens"]),
        jnp.asarray(recorded["pre.mask"]),
    )


def _with_bos(seen: Observation) -> Observation:
    """The second BOS behind π0-FAST's prompts, where nothing lies between."""
    tokens = np.pad(np.asarray(seen.tokens), ((0, 0), (0, 1)))
    mask = np.pad(np.asarray(seen.token_mask), ((0, 0), (0, 1)))
    ends = mask.sum(axis=1)
    tokens[np.arange(len(tokens)), ends] = BOS
    mask[np.arange(len(tokens)), ends] = True
    return seen._replace(tokens=jnp.asarray(tokens), token_mask=jnp.asarray(mask))
