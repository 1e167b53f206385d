"""Cards of checkpoints and of token directories: what they say, and that nothing else changes them."""

import json

import pytest
import yaml

from pioxide.contract import CameraSlot, Contract, model_card
from pioxide.robots import aloha
from pioxide.shards.card import token_card
from pioxide.transforms import NormRule, Stats

RULE = NormRule.openpi("quantile")
STATS = Stats(mean=[0.5] * 14, std=[0.25] * 14, q01=[0.0] * 14, q99=[1.0] * 14)
CONTRACT = Contract(
    family="pi05",
    robot=aloha(),
    cameras=(CameraSlot("base_0_rgb", "cam_high"), CameraSlot("right_wrist_0_rgb", None)),
    delta_mask=(True, True),
    state_norm=RULE,
    action_norm=RULE,
    norm_stats={"state": STATS, "actions": STATS},
    default_prompt="pick | up\n# <b>it</b>",
    action_horizon=50,
)


def header(card: str) -> dict:
    """What Hugging Face's hub reads."""
    return yaml.safe_load(card.split("---\n")[1])


def test_a_checkpoints_card_says_its_contract_in_words() -> None:
    card = model_card(CONTRACT, {"base": "gs://openpi-assets/checkpoints/pi05_base", "steps": 20000})
    for said in (
        "# A π0.5 policy for aloha",
        "cam\\_high; right\\_wrist\\_0\\_rgb: empty",
        "actions relative by mask 2",
        "| actions in a chunk | 50 |",
        "| images are resized by | unknown |",
        "## Statistics of the actions",
        "| 0.5 | 0.25 | 0 | 1 |",
        "It began from pi05\\_base",
        "| `steps` | 20000 |",
        "Gemma's terms of use",
    ):
        assert said in card
    assert header(card)["license"] == "gemma"


def test_a_checkpoint_from_random_weights_is_not_said_to_be_gemmas() -> None:
    card = model_card(CONTRACT, {"base": None, "steps": 3})
    assert "license" not in header(card)
    assert "Gemma" not in card


def test_a_card_holds_no_path_of_the_machine() -> None:
    card = model_card(CONTRACT, {"base": "/home/me/secret/pi05"})
    assert "/home" not in card
    assert "license" not in header(card), "whose weights these are is not known"


def test_texts_of_others_are_no_markup() -> None:
    card = model_card(CONTRACT)
    assert "pick \\| up" in card
    assert "<b>" not in card
    assert "\n# " in card
    assert card.count("\n# ") == 1


def test_a_contract_that_says_nothing_has_a_card() -> None:
    assert "| model | unknown |" in model_card(Contract())


@pytest.fixture
def manifest() -> dict:
    shard = {"skipped": [{"episode": 3, "reason": "torn"}]}
    return {
        "contract": {"model": "pi0_fast"},
        "dataset": {
            "name": "pick `it`\n---",
            "path": "/home/me/data",
            "version": "v3.0",
            "robot_type": "aloha",
            "fps": 50.0,
            "state_names": ["a"],
            "action_names": [],
            "tasks": {str(i): f"task {i}" for i in range(25)},
        },
        "versions": {"pioxide": "0.1.0"},
        "totals": dict.fromkeys(
            (
                "rows",
                "episodes",
                "tokens",
                "action_tokens",
                "longest",
                "truncated",
                "clipped",
                "clipped_rows",
            ),
            1234,
        ),
        "shards": [shard],
    }


def test_a_token_directorys_card_is_of_its_manifest_alone(manifest: dict) -> None:
    card = token_card(manifest)
    assert card == token_card(json.loads(json.dumps(manifest)))
    assert "/home" not in card
    assert header(card)["configs"] == [{"config_name": "default", "data_files": "shards/*.parquet"}]
    assert "# Training tokens of `pick 'it' ---`" in card
    assert "| episodes left out | 1 |" in card
    assert "and 5 more" in card
    moved = {**manifest, "dataset": {**manifest["dataset"], "path": "/elsewhere"}}
    assert token_card(moved) == card
