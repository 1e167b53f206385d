"""The facts of the three models, each said once. Every other file asks here instead of comparing names."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, NamedTuple

Normalization = Literal["zscore", "quantile"]

# PaliGemma's vocabulary ends in 128 `<seg>` ids; openpi counts FAST tokens backwards from before them.
FAST_SKIPPED_IDS = 128
# Numbers in a state and an action of the released π0 and π0.5 weights.
RELEASED_ACTION_DIM = 32


class _Facts(NamedTuple):
    symbol: str
    text_len: int
    cameras: tuple[str, ...]
    normalization: Normalization


class Family(StrEnum):
    """One of π0, π0.5 and π0-FAST, by the name that openpi and LeRobot use in files.

    `Family("pi0-fast")` and `Family("pi0.5")` are understood as well.
    """

    PI0 = "pi0"
    PI05 = "pi05"
    PI0_FAST = "pi0_fast"

    @classmethod
    def _missing_(cls, value: object) -> Family | None:
        plain = str(value).lower().replace("-", "_").replace(".", "")
        return next((member for member in cls if member.value == plain), None)

    @property
    def symbol(self) -> str:
        """Returns the model's name as people write it."""
        return _FACTS[self].symbol

    @property
    def text_len(self) -> int:
        """Returns how many text tokens the released weights were trained with."""
        return _FACTS[self].text_len

    @property
    def cameras(self) -> tuple[str, ...]:
        """Returns the released weights' camera slots, in order."""
        return _FACTS[self].cameras

    @property
    def normalization(self) -> Normalization:
        """Returns how openpi normalises states and actions for this model."""
        return _FACTS[self].normalization

    @property
    def is_flow(self) -> bool:
        """Returns whether actions come from flow matching in an action expert."""
        return self is not Family.PI0_FAST

    @property
    def state_is_vector(self) -> bool:
        """Returns whether the network reads the state as a vector; the others read it in the prompt."""
        return self is Family.PI0


_FLOW_CAMERAS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
_FAST_CAMERAS = ("base_0_rgb", "base_1_rgb", "wrist_0_rgb")
_FACTS = {
    Family.PI0: _Facts("π0", 48, _FLOW_CAMERAS, "zscore"),
    Family.PI05: _Facts("π0.5", 200, _FLOW_CAMERAS, "quantile"),
    Family.PI0_FAST: _Facts("π0-FAST", 250, _FAST_CAMERAS, "quantile"),
}
