"""What openpi's released checkpoints do not say themselves, by the name of their directory."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Released(NamedTuple):
    """Actions in a chunk, ids in a prompt, and π0-FAST's action dimension."""

    action_horizon: int
    text_len: int
    action_dim: int | None = None


RELEASED = {
    "pi0_base": Released(50, 48),
    "pi0_droid": Released(10, 48),
    "pi0_aloha_towel": Released(50, 48),
    "pi0_aloha_tupperware": Released(50, 48),
    "pi0_aloha_pen_uncap": Released(50, 48),
    "pi0_aloha_sim": Released(50, 48),
    "pi0_libero": Released(50, 48),
    "pi05_base": Released(50, 200),
    "pi05_droid": Released(15, 200),
    "pi05_libero": Released(10, 200),
    "pi0_fast_droid": Released(10, 250, 8),
    "pi0_fast_libero": Released(10, 180, 7),
    "pi0_droid_jointpos_polaris": Released(10, 100),
    "pi05_droid_jointpos_polaris": Released(15, 200),
    "pi0_fast_droid_jointpos_polaris": Released(10, 180, 8),
}


def released(path: Path) -> Released | None:
    """What is known of a checkpoint by its directory's name, or that of the directory it lies in."""
    return RELEASED.get(path.name) or RELEASED.get(path.parent.name)
