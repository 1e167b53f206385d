"""What openpi always does, whatever a model was trained on; the rest is left open."""

from __future__ import annotations

from pioxide.contract.contract import UNKNOWN, AbsentCamera, Contract, PromptStyle, Resize
from pioxide.family import Family
from pioxide.transforms import NormRule


def openpi_contract(family: Family | str) -> Contract:
    """Returns what holds for every model that openpi trains.

    Robot, cameras, horizon, relative or absolute actions and statistics are UNKNOWN: a fine-tune's own. So is
    whether π0.5 reads the state, which openpi lets a configuration choose.

    Args:
        family: Which model.
    """
    family = Family(family)
    rule = NormRule.openpi(family.normalization)
    reads_state = {Family.PI0: False, Family.PI0_FAST: True}
    return Contract(
        family=family,
        absent_camera=AbsentCamera.MASKED if family.is_flow else AbsentCamera.BLACK,
        state_norm=rule,
        action_norm=rule,
        state_in_text=reads_state.get(family, UNKNOWN),
        state_text_dim=None,
        prompt_style=PromptStyle.OPENPI,
        num_steps=10 if family.is_flow else None,
        play_steps=None,
        image_size=224,
        resize=Resize.ANTIALIAS,
        fast=None if family.is_flow else UNKNOWN,
        max_delay=0,
        answer_gap=0 if family.is_flow else 1,
        memory=None,
        source="openpi",
    )
