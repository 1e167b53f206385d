"""What LeRobot computed of its own tiny policies, against pioxide: numbers, ids and images."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pioxide.codec import FastCodec, Pi0FastPrompts, TextTokenizer
from pioxide.contract import Pipeline
from pioxide.errors import CheckpointError, OverflowingChunkError
from pioxide.family import Family
from pioxide.transforms.images import interpolate_with_pad
from pioxide.weights import Architecture, Expert, Vision
from pioxide.weights.companions import find_companions
from pioxide.weights.contracts import read_contract
from support.lerobot_policies import (
    TEXT_MODEL,
    case,
    cases,
    read,
    write_checkpoint,
    write_fast_tokenizer,
)

BOS = 2
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
    (contract,) = read_contract(directory / "checkpoint", "lerobot", architecture, companions).contracts
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
