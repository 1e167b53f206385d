"""Recorded frames -> fit -> tokens -> the policy's way back gives the recorded actions, for every robot."""

import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from pioxide.codec import FastCodec, TextTokenizer
from pioxide.contract import Contract, Pipeline, from_json, to_json
from pioxide.data import EpisodeData, write_lerobot_v3
from pioxide.family import Family
from pioxide.robots import ROBOTS, RobotSpec
from pioxide.shards import (
    FitSettings,
    JobInputs,
    JobRequest,
    JobSettings,
    TokenDataset,
    fit,
    resolve,
    tokenize_dataset,
)
from pioxide.shards.evaluate import robot_units
from pioxide.transforms import NormMode, NormRule
from support.text_model import write_text_model

HORIZON, SCALE = 6, 10.0
LENGTHS = (15, 9)
RELATIVE = ["absolute", "relative"]
# A float32 column, normalised and back, in numbers of the order of 1.
ROUNDING = 1e-5


@dataclass(frozen=True)
class Recorded:
    """A robot's dataset, and what was written into it."""

    robot: RobotSpec
    path: Path
    text_model: Path
    episodes: list[EpisodeData]

    def chunk(self, row) -> np.ndarray:
        actions = self.episodes[int(row["episode"])].columns["action"]
        return actions[np.minimum(int(row["frame"]) + np.arange(HORIZON), len(actions) - 1)]

    def state(self, row) -> np.ndarray:
        return self.episodes[int(row["episode"])].columns["observation.state"][int(row["frame"])]

    def mask(self, how: str) -> tuple[int, ...]:
        both = min(self.robot.state_dim, self.robot.action_dim)
        return (both - 1, -1) if how == "relative" else ()


@pytest.fixture(scope="module", params=ROBOTS)
def recorded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    # What a preset says of relative actions (DROID's velocities are absolute) does not matter here.
    root, robot = tmp_path_factory.mktemp(request.param), replace(ROBOTS[request.param](), delta_mask=None)
    rng = np.random.default_rng(zlib.crc32(request.param.encode()))

    def smooth(length: int, dim: int) -> np.ndarray:
        t = np.linspace(0, 3, length)[:, None]
        return (0.5 + 0.4 * np.sin(t + rng.uniform(0, 6, dim))).astype(np.float32)

    data = [
        EpisodeData(
            {"observation.state": smooth(n, robot.state_dim), "action": smooth(n, robot.action_dim)},
            "fold the towel",
        )
        for n in LENGTHS
    ]
    names = {"action": list(robot.joint_names), "observation.state": list(robot.state_names)}
    names = {key: given for key, given in names.items() if given}
    path = write_lerobot_v3(root / "data", data, fps=round(robot.hz or 1), robot_type="arm", names=names)
    return Recorded(robot, path, write_text_model(root / "text.model"), data)


def fitted(recorded: Recorded, output: Path, how: str, normalization: str) -> JobRequest:
    settings = FitSettings(
        robot=recorded.robot,
        horizon=HORIZON,
        delta_mask=recorded.mask(how),
        normalization=normalization,
        vocab_size=300,
        scale=SCALE,
        held_out=0.0,
    )
    fit(recorded.path, output, settings)
    # Twenty-six joints in a small vocabulary don't fit into the 250 tokens of the released weights.
    return JobRequest(recorded.path, Family.PI0_FAST, recorded.text_model, fit=output, max_len=400)


def assert_rows_come_back(
    recorded: Recorded, inputs: JobInputs, settings: JobSettings, output: Path
) -> TokenDataset:
    """Makes tokens, and brings each row back to the robot as a policy does, by the contract in the file."""
    tokenize_dataset(inputs, output, settings, workers=1)
    dataset = TokenDataset.open(output, verify=True)
    assert dataset.contract == settings.contract
    codec = None if dataset.fast_directory is None else FastCodec.load(dataset.fast_directory)
    pipeline = Pipeline(dataset.contract, TextTokenizer.load(recorded.text_model), codec)
    dim, rows = recorded.robot.action_dim, list(dataset)
    assert len(rows) == sum(LENGTHS)
    if codec is None:
        answers, far = np.stack([row["actions"] for row in rows]), np.full(dim, ROUNDING)
    else:
        ids = [row["tokens"][: row["length"]] for row in rows]
        assert pipeline.prompts is not None
        answers, _ = pipeline.prompts.ids_to_actions_batch(ids, horizon=HORIZON, dim=dim)
        # Half a step of each of H cosines, whose largest value is the root of 2 / H.
        far = robot_units(pipeline.numbers) * 0.5 / SCALE * np.sqrt(2 * HORIZON) + ROUNDING
    padded = np.concatenate([answers, np.full((*answers.shape[:2], 32 - dim), 5.0)], axis=2)
    back = pipeline.invert(padded, np.stack([recorded.state(row) for row in rows]))
    error = np.abs(back - np.stack([recorded.chunk(row) for row in rows])).max(axis=(0, 1))
    assert (error <= far).all(), (error, far)
    return dataset


@pytest.mark.parametrize("normalization", ["quantile", "zscore"])
@pytest.mark.parametrize("how", RELATIVE)
def test_action_tokens_come_back(recorded: Recorded, how: str, normalization: str, tmp_path: Path) -> None:
    request = fitted(recorded, tmp_path / "fit", how, normalization)
    inputs, settings = resolve(request)
    dataset = assert_rows_come_back(recorded, inputs, settings, tmp_path / "tokens")
    assert dataset.contract.robot == recorded.robot
    assert from_json(to_json(dataset.contract)) == dataset.contract


RULES = [NormRule.openpi(mode) for mode in ("mean_std", "quantiles", "identity")]
RULES += [NormRule.lerobot(mode) for mode in NormMode]


@pytest.mark.parametrize("how", RELATIVE)
def test_normalised_chunks_come_back_whatever_normalises_them(
    recorded: Recorded, how: str, tmp_path: Path
) -> None:
    request = fitted(recorded, tmp_path / "fit", how, "quantile")
    for number, rule in enumerate(RULES):
        model = (Family.PI0, Family.PI05)[number % 2]
        inputs, settings = resolve(replace(request, model=model, state_in_text=model is Family.PI05))
        contract = replace(settings.contract, state_norm=rule, action_norm=rule)
        settings = replace(settings, contract=contract)
        assert_rows_come_back(recorded, inputs, settings, tmp_path / f"tokens {number}")


def test_rows_hold_the_numbers_of_the_models_frame(recorded: Recorded, tmp_path: Path) -> None:
    """Both ways could lack the robot's signs and still fit together: what lies between is checked alone."""
    request = fitted(recorded, tmp_path / "fit", "relative", "zscore")
    inputs, settings = resolve(replace(request, model=Family.PI0))
    tokenize_dataset(inputs, tmp_path / "tokens", settings)
    robot, stats = recorded.robot, TokenDataset.open(tmp_path / "tokens").norm_stats
    relative = np.arange(robot.action_dim) < min(robot.state_dim, robot.action_dim) - 1
    everything = []
    for row in TokenDataset.open(tmp_path / "tokens"):
        state, chunk = robot.apply_state(recorded.state(row)), robot.apply_actions(recorded.chunk(row))
        wide = np.zeros(robot.action_dim)
        wide[: min(robot.state_dim, robot.action_dim)] = state[: min(robot.state_dim, robot.action_dim)]
        chunk = chunk - np.where(relative, wide, 0.0)
        everything.append(chunk)
        expected = (chunk - stats["actions"].mean) / (stats["actions"].std + 1e-6)
        np.testing.assert_allclose(row["actions"], expected, atol=2e-5)
        expected = (state - stats["state"].mean) / (stats["state"].std + 1e-6)
        np.testing.assert_allclose(row["state"], expected, atol=2e-5)
    values = np.concatenate(everything)
    np.testing.assert_allclose(stats["actions"].mean, values.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(stats["actions"].min, values.min(axis=0), atol=1e-6)
    np.testing.assert_allclose(stats["actions"].max, values.max(axis=0), atol=1e-6)
    assert isinstance(settings.contract, Contract)
