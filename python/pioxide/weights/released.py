"""openpi's released checkpoints by the name of their directory: what each was trained with, a row each.

The files hold tensors and statistics only; the rest is openpi's training configuration of that name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pioxide.contract import UNKNOWN, CameraSlot, Contract
from pioxide.family import Family
from pioxide.robots import RobotSpec, aloha, droid, libero
from pioxide.transforms import Stats, make_mask

FLOW = Family.PI0.cameras
FAST = Family.PI0_FAST.cameras


@dataclass(frozen=True)
class Released:
    """One released checkpoint.

    Attributes:
        family: Which model.
        horizon: Actions in a chunk; None where the training configurations differ.
        text_len: Ids in a prompt.
        robot: Whose numbers; None for base models.
        slots: The camera slots in order; none where the configurations name them differently.
        delta: Run lengths of the delta mask.
        asset_id: Its statistics.
        prompt: The default instruction.
        state_in_text: Whether the prompt holds the state.
    """

    family: Family
    horizon: int | None
    text_len: int
    robot: RobotSpec | None = None
    slots: tuple[str, ...] = FLOW
    delta: tuple[int, ...] = ()
    asset_id: str = ""
    prompt: str | None = None
    state_in_text: bool = True

    def contract(self) -> Contract:
        """Returns what the row says; everything else is UNKNOWN."""
        said = Contract(
            family=self.family,
            state_in_text=self.state_in_text and self.family is not Family.PI0,
            text_len=self.text_len,
            cameras=tuple(CameraSlot(slot) for slot in self.slots) or UNKNOWN,
        )
        fields = {name: getattr(said, name) for name in ("family", "state_in_text", "text_len", "cameras")}
        if self.horizon is not None:
            fields["action_horizon"] = self.horizon
        if self.robot is not None:
            fields |= {
                "robot": self.robot,
                "cameras": _filled(self.slots, self.robot),
                "delta_mask": make_mask(*self.delta),
                "default_prompt": self.prompt,
            }
            if not self.family.is_flow:
                fields["model_dim"] = self.robot.action_dim
        return Contract(**fields)


def _filled(slots: tuple[str, ...], robot: RobotSpec) -> tuple[CameraSlot, ...]:
    by_slot = {camera.slot: camera for camera in robot.cameras}
    return tuple(
        CameraSlot(slot, by_slot[slot].key, by_slot[slot].required)
        if slot in by_slot
        else CameraSlot(slot, None, False)
        for slot in slots
    )


def _aloha(prompt: str) -> Released:
    delta = (6, -1, 6, -1)
    return Released(Family.PI0, 50, 48, aloha(), delta=delta, asset_id="trossen", prompt=prompt)


def _droid(family: Family, horizon: int, text_len: int, *, joint_positions: bool = False) -> Released:
    return Released(
        family,
        horizon,
        text_len,
        droid(joint_positions=joint_positions, fast_cameras=not family.is_flow),
        slots=FLOW if family.is_flow else FAST,
        delta=(7, -1) if joint_positions else (),
        asset_id="droid",
    )


def _libero(
    family: Family, horizon: int, text_len: int, delta: tuple[int, ...], *, state_in_text: bool = True
) -> Released:
    # LIBERO's π0-FAST was trained with the camera names of π0.
    return Released(
        family,
        horizon,
        text_len,
        libero(),
        delta=delta,
        asset_id="physical-intelligence/libero",
        state_in_text=state_in_text,
    )


RELEASED = {
    "pi0_base": Released(Family.PI0, 50, 48),
    "pi05_base": Released(Family.PI05, 50, 200),
    "pi0_fast_base": Released(Family.PI0_FAST, None, 250, slots=()),
    "pi0_droid": _droid(Family.PI0, 10, 48),
    "pi05_droid": _droid(Family.PI05, 15, 200),
    "pi0_fast_droid": _droid(Family.PI0_FAST, 10, 250),
    "pi0_aloha_towel": _aloha("fold the towel"),
    "pi0_aloha_tupperware": _aloha("open the tupperware and put the food on the plate"),
    "pi0_aloha_pen_uncap": _aloha("uncap the pen"),
    "pi0_aloha_sim": Released(
        Family.PI0,
        50,
        48,
        aloha(sim=True),
        asset_id="lerobot/aloha_sim_transfer_cube_human",
        prompt="Transfer cube",
    ),
    "pi0_libero": _libero(Family.PI0, 50, 48, (6, -1)),
    "pi0_fast_libero": _libero(Family.PI0_FAST, 10, 180, (6, -1)),
    "pi05_libero": _libero(Family.PI05, 10, 200, (), state_in_text=False),
    "pi0_droid_jointpos_polaris": _droid(Family.PI0, 10, 100, joint_positions=True),
    "pi0_droid_jointpos_100k_polaris": _droid(Family.PI0, 10, 100, joint_positions=True),
    "pi05_droid_jointpos_polaris": _droid(Family.PI05, 15, 200, joint_positions=True),
    "pi0_fast_droid_jointpos_polaris": _droid(Family.PI0_FAST, 10, 180, joint_positions=True),
}


def released(
    path: Path, family: Family, norm_stats: Mapping[str, Mapping[str, Stats]] | None = None
) -> Released | None:
    """Returns the row of a checkpoint's directory; None where it is none of the released ones.

    A directory of that name with another model in it, or with statistics that are not the released ones, is
    somebody's own.
    """
    row = RELEASED.get(path.name)
    if row is None or row.family is not family:
        return None
    if row.asset_id and norm_stats and row.asset_id not in norm_stats:
        return None
    return row
