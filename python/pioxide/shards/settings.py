"""What a job is told, as frozen values: the action space that fit and tokenize share; how settings differ.

Whatever changes a byte of the output stands here; paths, numbers of workers and the like don't.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from pioxide.errors import InputError, SettingsError
from pioxide.family import Family, Normalization
from pioxide.transforms import make_mask

OnOverflow = Literal["error", "clip"]


@dataclass(frozen=True)
class ActionSpace:
    """Which columns are the state and the actions, and how a chunk is made of them.

    Attributes:
        state_keys: columns that make up the state; several are put side by side.
        action_keys: columns that make up an action.
        horizon: H, actions in a chunk. A chunk past its episode's end repeats the last action.
        delta_mask: run lengths as in openpi: (6, -1, 6, -1) makes joints 0-5 and 7-12 relative to the state
            at the chunk's start and leaves 6 and 13 absolute. Empty: all absolute.
    """

    state_keys: tuple[str, ...] = ("observation.state",)
    action_keys: tuple[str, ...] = ("action",)
    horizon: int = 50
    delta_mask: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what no dataset could satisfy.

        Raises:
            InputError: no keys, a key twice, or a horizon below 1.
        """
        for name in ("state_keys", "action_keys"):
            keys = getattr(self, name)
            if not keys:
                raise InputError(f"{name} is empty; name at least one column")
            if len(set(keys)) != len(keys):
                raise InputError(f"{name} names a column twice: {', '.join(keys)}")
        if self.horizon < 1:
            raise InputError(f"a chunk needs at least one action, got horizon {self.horizon}")

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ActionSpace:
        """Read what `as_json` made."""
        return cls(
            tuple(value["state_keys"]),
            tuple(value["action_keys"]),
            value["horizon"],
            tuple(value["delta_mask"]),
        )

    @property
    def mask(self) -> tuple[bool, ...]:
        """The delta mask, one bool a dimension; empty when all actions are absolute."""
        mask = make_mask(*self.delta_mask)
        return mask if any(mask) else ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column a job reads, each once."""
        return tuple(dict.fromkeys((*self.state_keys, *self.action_keys)))


@dataclass(frozen=True)
class JobSettings:
    """How a dataset is turned into rows for one model.

    Attributes:
        model: which model the rows are for.
        space: columns, horizon and delta mask.
        normalization: of state and actions; None takes the model's own (z-score for pi0, else quantile).
        max_len: tokens in a prompt before it is cut; None takes the model's own (48, 200, 250).
        on_overflow: what to do with a coefficient that the FAST vocabulary lacks: stop, or take the nearest
            and count.
        episodes: which episodes, as in "0:10,15"; empty for all.
        limit: stop after this many frames; None for all.
        shard_frames: a shard is closed before an episode that would take it past this many rows; None makes
            about 64 shards of 2,048 to 65,536 rows.
    """

    model: Family
    space: ActionSpace = field(default_factory=ActionSpace)
    normalization: Normalization | None = None
    max_len: int | None = None
    on_overflow: OnOverflow = "error"
    episodes: str = ""
    limit: int | None = None
    shard_frames: int | None = None

    def __post_init__(self) -> None:
        """Fill in the model's own values, and refuse what can't be.

        Raises:
            InputError: an unknown name or a number below 1.
        """
        try:
            object.__setattr__(self, "model", Family(self.model))
        except ValueError:
            raise InputError(f"model {self.model!r}: expected one of {', '.join(Family)}") from None
        if self.on_overflow not in get_args(OnOverflow):
            raise InputError(
                f"on_overflow {self.on_overflow!r}: expected {' or '.join(get_args(OnOverflow))}"
            )
        if self.normalization is None:
            object.__setattr__(self, "normalization", self.model.normalization)
        if self.normalization not in get_args(Normalization):
            raise InputError(f"normalization {self.normalization!r}: expected quantile or zscore")
        if self.max_len is None:
            object.__setattr__(self, "max_len", self.model.text_len)
        for name in ("max_len", "limit", "shard_frames"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}, expected at least 1")


def as_json(settings: Any) -> dict[str, Any]:
    """Frozen settings as plain JSON values: nested objects, lists for tuples."""
    plain = dataclasses.asdict(settings)
    return {key: _plain(value) for key, value in plain.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value


def differences(before: Mapping[str, Any], now: Mapping[str, Any], path: str = "") -> list[str]:
    """What differs between two trees of settings, one line each: `space.horizon: 50 there, 16 now`."""
    lines: list[str] = []
    for key in dict.fromkeys((*before, *now)):
        old, new = before.get(key), now.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            lines += differences(old, new, f"{path}{key}.")
        elif old != new:
            lines.append(f"{path}{key}: {_short(old)} there, {_short(new)} now")
    return lines


def refuse_if_different(before: Mapping[str, Any], now: Mapping[str, Any], where: object) -> None:
    """Raise SettingsError, with every difference, unless both are the same."""
    lines = differences(before, now)
    if lines:
        raise SettingsError(
            f"{where} was made with other settings; use those, or another directory:\n  " + "\n  ".join(lines)
        )


def _short(value: Any) -> str:
    if value is None:
        return "nothing"
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    if text == "":
        return "nothing"
    # Digests are compared whole and shown short.
    return text[:12] + "…" if len(text) == 64 and all(c in "0123456789abcdef" for c in text) else text
