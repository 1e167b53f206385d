"""What a job is told, as frozen values, and how two of them differ.

Whatever changes a byte of the output stands here or in the contract; paths and numbers of workers don't.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from pioxide.contract import Contract, describe, differences, to_json
from pioxide.data import FrameColumns, LeRobotDataset
from pioxide.errors import InputError, SettingsError
from pioxide.robots import RobotSpec
from pioxide.shards.chosen import Chosen

OnOverflow = Literal["error", "clip"]


@dataclass(frozen=True)
class JobSettings(Chosen):
    """How a dataset is turned into rows; see `resolve`, which works it out from what a person says.

    Attributes:
        contract: What the rows' numbers and prompts mean: model, robot, normalisation, text, horizon.
        columns: Of the dataset.
        on_overflow: What to do with a coefficient that the FAST vocabulary lacks: stop, or take the nearest
            and count.
        limit: Stop after this many frames; None for all.
        shard_frames: A shard is closed before an episode that would take it past this many rows; None makes
            about 64 shards of 2,048 to 65,536 rows.
    """

    contract: Contract
    columns: FrameColumns = field(default_factory=FrameColumns)
    on_overflow: OnOverflow = "error"
    limit: int | None = None
    shard_frames: int | None = None

    def __post_init__(self) -> None:
        """Refuses what can't be.

        Raises:
            InputError: An unknown name or a number below 1.
        """
        if self.on_overflow not in get_args(OnOverflow):
            raise InputError(
                f"on_overflow {self.on_overflow!r}: expected {' or '.join(get_args(OnOverflow))}"
            )
        for name in ("limit", "shard_frames"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}, expected at least 1")
        super().__post_init__()


def as_json(settings: Any) -> dict[str, Any]:
    """Returns frozen settings as plain JSON values; a contract is left out, it has a file of its own."""
    values = {f.name: getattr(settings, f.name) for f in dataclasses.fields(settings)}
    return {name: _plain(value) for name, value in values.items() if not isinstance(value, Contract)}


# How settings that are not said are written.
_NOTHING = (None, "", [])


def _plain(value: Any) -> Any:
    if isinstance(value, RobotSpec):
        return value.to_mapping()
    if dataclasses.is_dataclass(value):
        return as_json(value)
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value


def kept_of(dataset: LeRobotDataset) -> dict[str, Any]:
    """Returns what is noted of a dataset's frames that are used; nothing where all are."""
    return {} if dataset.kept is None else {"frames": dataset.kept.as_json()}


def decisive(settings: Mapping[str, Any], dataset: Mapping[str, Any]) -> dict[str, Any]:
    """Returns noted settings with which frames are used in place of where that is said."""
    return {**settings, "frames": dataset.get("frames", {}).get("digest", "")}


def changes(before: Mapping[str, Any], now: Mapping[str, Any], path: str = "") -> list[str]:
    """Returns what differs between two trees of settings, a line each: `horizon: 50 there, 16 now`."""
    lines: list[str] = []
    for key in dict.fromkeys((*before, *now)):
        old, new = before.get(key), now.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            lines += changes(old, new, f"{path}{key}.")
        elif old != new and not (old in _NOTHING and new in _NOTHING):
            lines.append(f"{path}{key}: {_short(old)} there, {_short(new)} now")
    return lines


def contract_changes(before: Contract, now: Contract) -> list[str]:
    """Returns what differs between two contracts, a line each; here "unknown" differs from a value."""
    lines = [
        f"{d.field}: {d.left} there, {d.right} now" + (f" ({d.detail})" if d.detail else "")
        for d in differences(before, now)
    ]
    stated = set(before.unknown) ^ set(now.unknown)
    lines += [
        f"{name}: {describe(name, getattr(before, name))} there, {describe(name, getattr(now, name))} now"
        for name in sorted(stated)
    ]
    # What two robots call a joint, or a camera, is no difference of meaning but one of bytes.
    return lines or changes(_without_source(before), _without_source(now))


def refuse_changes(lines: list[str], where: object) -> None:
    """Refuses to go on in a directory whose settings differ.

    Raises:
        SettingsError: There are lines; shows them.
    """
    if lines:
        raise SettingsError(
            f"{where} was made with other settings; use those, or another directory:\n  " + "\n  ".join(lines)
        )


def _without_source(contract: Contract) -> dict[str, Any]:
    return to_json(dataclasses.replace(contract, source=""))


def _short(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return str(value.get("name", "something"))
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    if text == "":
        return "nothing"
    # Digests are compared whole and shown short.
    if len(text) == 64 and all(c in "0123456789abcdef" for c in text):
        return text[:12] + "…"
    return text if len(text) <= 100 else text[:97] + "..."
