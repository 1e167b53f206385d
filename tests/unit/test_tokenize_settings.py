import dataclasses
import json
import re

import pytest

from pioxide.errors import InputError, SettingsError
from pioxide.shards.resolve import parse_mask
from pioxide.shards.settings import (
    ActionSpace,
    JobSettings,
    as_json,
    differences,
    refuse_if_different,
)


def test_models_bring_their_own_values() -> None:
    got = {m: (JobSettings(m).max_len, JobSettings(m).normalization) for m in ("pi0", "pi05", "pi0_fast")}
    assert got == {"pi0": (48, "zscore"), "pi05": (200, "quantile"), "pi0_fast": (250, "quantile")}
    assert JobSettings("pi0", normalization="quantile", max_len=64).max_len == 64


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: JobSettings("pi1"), "model 'pi1': expected one of pi0, pi05, pi0_fast"),
        (lambda: JobSettings("pi0", on_overflow="drop"), "on_overflow 'drop'"),
        (lambda: JobSettings("pi0", normalization="minmax"), "normalization 'minmax'"),
        (lambda: JobSettings("pi0", limit=0), "limit is 0"),
        (lambda: JobSettings("pi0", shard_frames=0), "shard_frames is 0"),
        (lambda: JobSettings("pi0", max_len=-1), "max_len is -1"),
        (lambda: ActionSpace(horizon=0), "horizon 0"),
        (lambda: ActionSpace(state_keys=()), "state_keys is empty"),
        (lambda: ActionSpace(action_keys=("a", "a")), "names a column twice"),
    ],
)
def test_impossible_settings_are_refused(make, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        make()


def test_mask_of_nothing_is_no_mask() -> None:
    assert ActionSpace(delta_mask=(-3,)).mask == ()
    assert ActionSpace(delta_mask=(2, -1, 1)).mask == (True, True, False, True)


def test_columns_are_read_once() -> None:
    space = ActionSpace(state_keys=("a", "b"), action_keys=("b", "c"))
    assert space.columns == ("a", "b", "c")


@pytest.mark.parametrize(("text", "runs"), [("", ()), ("6,-1,6,-1", (6, -1, 6, -1)), (" 7 , -1", (7, -1))])
def test_mask_from_text(text: str, runs: tuple[int, ...]) -> None:
    assert parse_mask(text) == runs


@pytest.mark.parametrize("text", ["6;-1", "a", "1,,2", "1,0,2", "1.5"])
def test_mask_that_is_no_mask(text: str) -> None:
    with pytest.raises(InputError, match="delta mask"):
        parse_mask(text)


def test_every_changed_setting_is_shown() -> None:
    base = JobSettings("pi0_fast")
    changes = {
        "model": "pi0",
        "space": ActionSpace(horizon=16),
        "normalization": "zscore",
        "max_len": 99,
        "on_overflow": "clip",
        "episodes": "0:2",
        "limit": 5,
        "shard_frames": 7,
    }
    # A setting added later must be compared too.
    assert set(changes) == {f.name for f in dataclasses.fields(JobSettings)}
    for name, value in changes.items():
        changed = dataclasses.replace(base, **{name: value})
        lines = differences(as_json(base), json.loads(json.dumps(as_json(changed))))
        assert len(lines) == 1, lines
        assert name in lines[0]


def test_refusal_names_both_values() -> None:
    before = as_json(JobSettings("pi0", space=ActionSpace(horizon=50)))
    now = as_json(JobSettings("pi0", space=ActionSpace(horizon=16), limit=3))
    refuse_if_different(before, before, "out")
    with pytest.raises(SettingsError) as error:
        refuse_if_different(before, now, "out")
    assert "space.horizon: 50 there, 16 now" in str(error.value)
    assert "limit: nothing there, 3 now" in str(error.value)


def test_json_comes_back_the_same() -> None:
    settings = as_json(JobSettings("pi0", space=ActionSpace(delta_mask=(6, -1))))
    assert json.loads(json.dumps(settings)) == settings
