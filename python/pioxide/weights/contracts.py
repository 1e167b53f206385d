"""Every checkpoint's contracts: our own file where there is one, else what its format and its files say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from pioxide.codec import load_codec
from pioxide.contract import (
    FILE_NAME,
    UNKNOWN,
    AbsentCamera,
    CameraSlot,
    Contract,
    PromptStyle,
    Resize,
    action_vocabulary,
    load_contracts,
    openpi_contract,
)
from pioxide.contract.contract import FIELDS
from pioxide.errors import CheckpointError, InputError
from pioxide.family import Family
from pioxide.weights.architecture import Architecture
from pioxide.weights.companions import ASSETS, OWN, Companions, choose_stats
from pioxide.weights.formats import Format
from pioxide.weights.lerobot import lerobot_contract
from pioxide.weights.lerobot_config import is_lerobot
from pioxide.weights.locate import POLICY
from pioxide.weights.released import Released, released


class Said(NamedTuple):
    """A contract a robot, and what a person should know of how they were read.

    Attributes:
        contracts: What the files say, one for each robot that they name; what they don't say is UNKNOWN.
        notes: Whole sentences.
    """

    contracts: tuple[Contract, ...]
    notes: tuple[str, ...]


def read_contract(
    root: Path,
    kind: Format,
    architecture: Architecture,
    companions: Companions,
    asset_id: str | None = None,
) -> Said:
    """Reads the contracts of a checkpoint.

    Args:
        root: The checkpoint's directory (or file).
        kind: Whose layout its tensors have.
        architecture: The model they belong to.
        companions: What came with them.
        asset_id: Whose statistics, where there are several; its last part is enough.

    Raises:
        CheckpointError: Files disagree, or say something that can't be obeyed.
        FormatError: `contract.json` is damaged.
        InputError: There are no statistics of that name.
    """
    notes: list[str] = []
    chosen = None if asset_id is None else choose_stats(companions.norm_stats, asset_id, str(root))
    file = _own_file(root)
    own = load_contracts(file) if file is not None else None
    if own is not None and file is not None:
        for one in own:
            _check_own(one, architecture, file)
        contract, *others = (replace(one, source=str(root)) for one in own)
        if others:
            if chosen is not None:
                raise InputError(
                    f"{root} has its robots' statistics in their contracts: name a robot instead"
                )
            return Said((contract, *others), ())
        if contract.norm_stats is UNKNOWN:
            contract = replace(contract, norm_stats=_stats(companions, None))
    elif kind.startswith("paligemma"):
        contract = Contract(source=str(root))
    elif is_lerobot(companions.config):
        contract = lerobot_contract(root, architecture, companions, notes)
    elif kind == "lerobot":
        notes.append(f"{root} has no config.json of LeRobot's, so its tensors' names are all that is known")
        contract = _bare_lerobot(root, architecture, companions)
    else:
        contract = _openpi(root, architecture, companions, notes)
    averaged = root.parent / f"{root.name}_ema"
    if root.name == POLICY and averaged.is_dir():
        notes.append(f"averaged weights lie beside it: name {averaged} for those")
    said = contract if chosen is None else replace(contract, norm_stats=chosen)
    return Said((said,), tuple(notes))


def _own_file(root: Path) -> Path | None:
    """Returns our own file: beside the tensors, or among the assets of a checkpoint of a run."""
    places = (root / FILE_NAME, root / ASSETS / FILE_NAME) if root.is_dir() else ()
    return next((file for file in places if file.is_file()), None)


def _openpi(root: Path, architecture: Architecture, companions: Companions, notes: list[str]) -> Contract:
    """Returns what openpi always does, and what is known of a released checkpoint by its name."""
    family = architecture.kind
    row = released(root, family, companions.norm_stats)
    always = replace(
        openpi_contract(family),
        # openpi's π0-FAST takes whatever three names its robot's transform gives.
        cameras=tuple(CameraSlot(slot) for slot in family.cameras) if family.is_flow else UNKNOWN,
        norm_stats=_stats(companions, row),
        action_horizon=companions.action_horizon or UNKNOWN,
        model_dim=architecture.action_dim or UNKNOWN,
        image_size=architecture.vision.image_size,
        fast=None if family.is_flow else _fast(companions.fast_tokenizer),
        source=str(root),
    )
    if row is None:
        return always
    said = row.contract()
    if always.action_horizon not in (UNKNOWN, said.action_horizon):
        raise CheckpointError(
            f"{root}: config.json says {always.action_horizon} actions in a chunk, and openpi's "
            f"{root.name} has {said.action_horizon}: rename the directory if it is another one"
        )
    notes.append(f"known by its name, {root.name}, as one of openpi's released checkpoints")
    stated = {name: value for name in FIELDS if (value := getattr(said, name)) is not UNKNOWN}
    return replace(always, **stated)


def _stats(companions: Companions, row: Released | None) -> Any:
    table = companions.norm_stats
    if row is not None and row.asset_id in table:
        return table[row.asset_id]
    return next(iter(table.values())) if len(table) == 1 else table.get(OWN, UNKNOWN)


def _bare_lerobot(root: Path, architecture: Architecture, companions: Companions) -> Contract:
    family = architecture.kind
    return Contract(
        family=family,
        absent_camera=AbsentCamera.MASKED,
        norm_stats=_stats(companions, None),
        state_in_text=family is not Family.PI0,
        prompt_style=PromptStyle.LEROBOT,
        model_dim=architecture.action_dim or UNKNOWN,
        image_size=architecture.vision.image_size,
        resize=Resize.INTERPOLATE,
        fast=None if family.is_flow else _fast(companions.fast_tokenizer),
        source=str(root),
    )


def _fast(directory: Path | None) -> Any:
    return UNKNOWN if directory is None else action_vocabulary(load_codec(directory))


def _check_own(own: Contract, architecture: Architecture, file: Path) -> None:
    """Refuses a `contract.json` that was written for other tensors."""
    for name, said, found in (
        ("family", own.family, architecture.kind),
        ("model_dim", own.model_dim, architecture.action_dim),
        ("image_size", own.image_size, architecture.vision.image_size),
    ):
        if said is not UNKNOWN and found is not None and said != found:
            raise CheckpointError(f"{file}: {name} is {said}, and the tensors beside it have {found}")
