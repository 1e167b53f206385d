"""A LeRobot checkpoint through `Policy.load`, from what the robot sent to what LeRobot told it to do."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pioxide import weights
from pioxide.errors import ContractError
from pioxide.policy import Policy
from pioxide.robots import so101
from support.lerobot_policies import TEXT_MODEL, case, cases, write_checkpoint, write_fast_tokenizer

# LeRobot decodes a chunk that is longer than what it plays with the wrong length; its tokens are right.
SHORT = "pi0_fast_short"
WHOLE = [name for name in cases("model") if "base" not in case(name)[0]]


def load(name: str, tmp_path: Path, **how) -> Policy:
    fast = write_fast_tokenizer(tmp_path / "fast") if name.startswith("pi0_fast") else None
    return Policy.load(
        write_checkpoint(name, tmp_path), tokenizer=TEXT_MODEL, codec=fast, dtype="float32", **how
    )


def observations(name: str, policy: Policy) -> list[dict]:
    what, recorded = case(name)
    keys = ["observation.state", *(camera.key for camera in policy.robot.cameras)]
    return [
        {key: recorded[key][frame] for key in keys if key in recorded} | {"task": task}
        for frame, task in enumerate(what["tasks"])
    ]


@pytest.mark.parametrize("name", WHOLE)
def test_policies_act_as_lerobots_do(name: str, tmp_path: Path) -> None:
    _, recorded = case(name)
    policy = load(name, tmp_path, **without_absent_cameras(name, tmp_path))
    noise = list(recorded["noise"]) if policy.noise_shape else None
    answers = policy.batch(observations(name, policy), noise=noise)
    scale = max(1.0, float(np.abs(recorded["post.actions"]).max()))
    for frame, answer in enumerate(answers):
        if name == SHORT:
            np.testing.assert_allclose(
                answer.model_actions, recorded["whole_chunk"][frame], rtol=0, atol=1e-5
            )
            continue
        expected = recorded["post.actions"][frame]
        np.testing.assert_allclose(answer.actions[: len(expected)], expected, rtol=0, atol=2e-4 * scale)


def without_absent_cameras(name: str, tmp_path: Path) -> dict:
    """LeRobot masks a camera that the robot does not send; here its robot has to say so."""
    _, recorded = case(name)
    with weights.load(write_checkpoint(name, tmp_path / "first")) as opened:
        contract = opened.contract
    sent = tuple(camera for camera in contract.robot.cameras if camera.key in recorded)
    absent = {camera.slot: None for camera in contract.cameras if camera.key and camera.key not in recorded}
    return {"robot": replace(contract.robot, cameras=sent), "cameras": absent} if absent else {}


def test_a_robot_that_is_not_the_checkpoints_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContractError) as error:
        load("pi0_model", tmp_path, robot=so101(delta=True))
    assert "disagree" in str(error.value) or "was trained with cameras" in str(error.value)
