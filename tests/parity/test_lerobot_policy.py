"""The policies that LeRobot recorded, run from their directories: the robot's frames in, its actions out."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pioxide.errors import CheckpointError, InputError
from pioxide.policy import Policy
from pioxide.robots import RobotSpec
from pioxide.weights import load
from support.lerobot_policies import TEXT_MODEL, Arrays, case, cases, write_checkpoint, write_fast_tokenizer

# Of the network's own numbers, which are about 1.
CLOSE = 2e-4
SIDE = "observation.images.side"
WHOLE = [name for name in cases("model") if name != "pi05_model_empty_cameras"]


@pytest.mark.parametrize("name", WHOLE)
def test_a_policy_moves_the_robot_as_lerobot_does(name: str, tmp_path: Path) -> None:
    what, recorded = case(name)
    if "base" in what:
        write_checkpoint(what["base"], tmp_path / "base")
    policy = _policy(write_checkpoint(name, tmp_path / "checkpoint"), what, tmp_path)
    for row, task in enumerate(what["tasks"]):
        frame = _frame(recorded, row, task)
        answer = policy(frame, noise=recorded["noise"][row] if "noise" in recorded else None)
        theirs = _whole_actions(policy, recorded, row)
        assert answer.actions.shape == theirs.shape
        numbers, state = policy.pipeline.numbers, recorded["observation.state"][row]
        np.testing.assert_allclose(
            numbers.apply_actions(answer.actions, state),
            numbers.apply_actions(theirs, state),
            rtol=0,
            atol=CLOSE,
        )


def test_a_camera_that_is_not_sent_is_refused_until_the_robot_is_said_to_have_none(tmp_path: Path) -> None:
    what, recorded = case("pi05_model_empty_cameras")
    checkpoint = write_checkpoint("pi05_model_empty_cameras", tmp_path / "checkpoint")
    frame = _frame(recorded, 0, what["tasks"][0])
    with pytest.raises(InputError, match=SIDE):
        _policy(checkpoint, what, tmp_path)(frame)
    with load(checkpoint) as opened:
        declared = opened.contract.robot
    assert isinstance(declared, RobotSpec)
    robot = replace(declared, cameras=tuple(one for one in declared.cameras if one.key != SIDE))
    policy = _policy(checkpoint, what, tmp_path, robot=robot, cameras={SIDE: None})
    answer = policy(frame, noise=recorded["noise"][0])
    np.testing.assert_allclose(answer.model_actions[:, :6], recorded["chunk"][0], rtol=0, atol=CLOSE)


@pytest.mark.parametrize(
    ("field", "value"),
    [("min_period", 0.01), ("max_period", 2.0), ("image_resolution", [42, 42]), ("chunk_size", 0)],
)
def test_what_no_model_here_does_is_refused(field: str, value: object, tmp_path: Path) -> None:
    checkpoint = write_checkpoint("pi05_model_widths", tmp_path)
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps(config | {field: value}))
    with load(checkpoint) as opened, pytest.raises(CheckpointError, match=field):
        _ = opened.contract


def _policy(checkpoint: Path, what: dict[str, Any], directory: Path, **said: Any) -> Policy:
    codec = str(write_fast_tokenizer(directory / "fast")) if what["family"] == "pi0_fast" else None
    return Policy.load(checkpoint, tokenizer=str(TEXT_MODEL), codec=codec, **said)


def _frame(recorded: Arrays, row: int, task: str) -> dict[str, Any]:
    sent = {key: value[row] for key, value in recorded.items() if key.startswith("observation.")}
    return sent | {"task": task}


def _whole_actions(policy: Policy, recorded: Arrays, row: int) -> Any:
    """LeRobot's actions; of π0-FAST those of the whole chunk, which it cuts before it decodes."""
    if "whole_chunk" not in recorded:
        return recorded["post.actions"][row]
    return policy.pipeline.invert(recorded["whole_chunk"][row], recorded["observation.state"][row])
