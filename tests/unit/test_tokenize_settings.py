import dataclasses
import json
import re

import numpy as np
import pytest

from pioxide.contract import CameraSlot, Contract
from pioxide.errors import InputError, SettingsError
from pioxide.robots import aloha
from pioxide.shards import FitSettings
from pioxide.shards.resolve import parse_mask
from pioxide.shards.settings import (
    FrameColumns,
    JobSettings,
    as_json,
    changes,
    contract_changes,
    refuse_changes,
)
from pioxide.transforms import NormRule, Stats

JOB = JobSettings(Contract(), task="fold")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: JobSettings(Contract(), on_overflow="drop"), "on_overflow 'drop'"),
        (lambda: JobSettings(Contract(), limit=0), "limit is 0"),
        (lambda: JobSettings(Contract(), shard_frames=0), "shard_frames is 0"),
        (lambda: FitSettings(normalization="minmax"), "normalization 'minmax'"),
        (lambda: FitSettings(horizon=0), "horizon 0"),
        (lambda: FitSettings(state_keys=()), "state_keys is empty"),
        (lambda: FrameColumns(action_keys=("a", "a")), "names a column twice"),
    ],
)
def test_impossible_settings_are_refused(make, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        make()


def test_columns_are_read_once() -> None:
    assert FrameColumns(state_keys=("a", "b"), action_keys=("b", "c")).all == ("a", "b", "c")


@pytest.mark.parametrize(("text", "runs"), [("", ()), ("6,-1,6,-1", (6, -1, 6, -1)), (" 7 , -1", (7, -1))])
def test_mask_from_text(text: str, runs: tuple[int, ...]) -> None:
    assert parse_mask(text) == runs


@pytest.mark.parametrize("text", ["6;-1", "a", "1,,2", "1,0,2", "1.5"])
def test_mask_that_is_no_mask(text: str) -> None:
    with pytest.raises(InputError, match="delta mask"):
        parse_mask(text)


def test_every_changed_setting_is_shown() -> None:
    changed = {
        "columns": FrameColumns(state_keys=("s",)),
        "on_overflow": "clip",
        "episodes": "0:2",
        "where": "length > 3",
        "frames": "moving",
        "task": "wave",
        "task_for": "all",
        "task_key": "remark",
        "limit": 5,
        "shard_frames": 7,
    }
    # A setting added later must be compared too; the contract has a file of its own.
    assert {*changed, "contract"} == {f.name for f in dataclasses.fields(JobSettings)}
    for name, value in changed.items():
        now = dataclasses.replace(JOB, **{name: value})
        lines = changes(as_json(JOB), json.loads(json.dumps(as_json(now))))
        assert len(lines) == 1, lines
        assert name in lines[0]


def test_every_changed_field_of_a_contract_is_shown_in_words() -> None:
    one = Contract(
        family="pi05", robot=aloha(), delta_mask=(), action_norm=NormRule.openpi("quantile"), text_len=200
    )
    assert contract_changes(one, one) == []
    assert contract_changes(one, dataclasses.replace(one, source="elsewhere")) == []
    for field, value, line in (
        ("text_len", 48, "text_len: 200 there, 48 now"),
        ("delta_mask", (True,), "delta_mask: absolute actions there, actions relative by mask 1 now"),
        ("action_norm", NormRule.openpi("zscore"), "quantiles (openpi) there, mean_std (openpi) now"),
        ("robot", aloha(adapt_to_pi=False), "robot.signs: joints 1, 2, 8, 9 turned round there, no joint"),
        # Two contracts that merge may still make other bytes.
        ("cameras", (CameraSlot("a", "b"),), "cameras: unknown there, a: b now"),
        ("robot", dataclasses.replace(aloha(), name="mine"), "robot.name: aloha there, mine now"),
        (
            "norm_stats",
            {"state": Stats(np.zeros(2), np.ones(2))},
            "norm_stats: unknown there, state of 2 now",
        ),
    ):
        lines = contract_changes(one, dataclasses.replace(one, **{field: value}))
        assert any(line in found for found in lines), lines


def test_refusal_names_both_values() -> None:
    before = as_json(FitSettings(horizon=50, robot=aloha()))
    now = as_json(FitSettings(horizon=16, delta_mask=(6, -1)))
    refuse_changes(changes(before, before), "out")
    with pytest.raises(SettingsError) as error:
        refuse_changes(changes(before, now), "out")
    assert "horizon: 50 there, 16 now" in str(error.value)
    assert "delta_mask: nothing there, 6, -1 now" in str(error.value)
    assert "robot: aloha there, nothing now" in str(error.value)


def test_json_comes_back_the_same() -> None:
    settings = as_json(FitSettings(delta_mask=(6, -1), robot=aloha()))
    assert json.loads(json.dumps(settings)) == settings
