"""A checkpoint and what its user says, opened: the model, one contract, both tokenizers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax

from pioxide.codec import ActionCodec, TextTokenizer, load_codec
from pioxide.contract import UNKNOWN, Contract, PromptStyle, known, merge
from pioxide.errors import InputError
from pioxide.family import Family
from pioxide.models import Pi0, Pi0Fast
from pioxide.models.decoding import DecodingConvention
from pioxide.models.memory import MemoryConfig
from pioxide.policy.agree import agree
from pioxide.robots import ROBOTS, RobotSpec
from pioxide.transforms import NormMode, Stats


class PolicyParts(NamedTuple):
    """What `Policy` is made of."""

    model: Pi0 | Pi0Fast
    contract: Contract
    tokenizer: TextTokenizer
    codec: ActionCodec | None


def load_policy_parts(
    checkpoint: str | Path,
    *,
    robot: RobotSpec | str | None,
    said: Contract | None,
    cameras: Mapping[str, str | None] | None,
    tokenizer: TextTokenizer | str | PathLike[str] | None,
    codec: ActionCodec | str | PathLike[str] | None,
    base: str | Path | None,
    asset_id: str | None,
    norm_stats: Mapping[str, Stats] | None,
    action_horizon: int | None,
    dtype: Literal["float32", "bfloat16"] | None,
) -> PolicyParts:
    """Opens a checkpoint; for arguments and errors see `Policy.load`."""
    from pioxide.weights import build, load

    dtype = dtype or ("float32" if jax.default_backend() == "cpu" else "bfloat16")
    with load(checkpoint, base=base) as found:
        opened = found.of(robot)
        beside, says = opened.companions, opened.contract
        robot = _named(robot, says, several=len(found.contracts) > 1)
        if norm_stats is not None:
            says = replace(says, norm_stats=norm_stats)
        elif asset_id is not None or (says.norm_stats is UNKNOWN and _normalises(says)):
            says = replace(says, norm_stats=opened.norm_stats(asset_id))
        _refuse_unused(says if said is None else merge(says, said), norm_stats, asset_id)
        if action_horizon is not None:
            said = replace(said or Contract(), action_horizon=action_horizon)
        contract = agree(says, robot, said, cameras)
        text = _tokenizer(tokenizer or beside.text_model)
        fast = None
        if contract.family is Family.PI0_FAST:
            fast = _codec(codec or beside.fast_tokenizer, opened.path)
        fields: dict[str, Any] = {}
        no_gap = contract.answer_gap == 0 or contract.prompt_style is PromptStyle.LEROBOT
        if contract.family is Family.PI0_FAST and no_gap:
            fields["decoding"] = DecodingConvention.TRAINING
        if contract.memory:
            fields["memory"] = MemoryConfig(contract.memory.frames, contract.memory.every)
        model = build(
            opened.merged(),
            param_dtype=dtype,
            dtype=dtype,
            action_horizon=known(contract.action_horizon, "action_horizon"),
            text_len=known(contract.text_len, "text_len"),
            cameras=tuple(camera.slot for camera in known(contract.cameras, "cameras")),
            action_dim=known(contract.model_dim, "model_dim"),
            **fields,
        )
    return PolicyParts(model, contract, text, fast)


def _named(robot: RobotSpec | str | None, says: Contract, *, several: bool) -> RobotSpec | str | None:
    """Returns None for a name that is the checkpoint's own robot's: its contract says all of that robot."""
    if isinstance(robot, str) and (several or (robot not in ROBOTS and _is_of(says, robot))):
        return None
    return robot


def _is_of(contract: Contract, name: str) -> bool:
    return contract.robot is not UNKNOWN and contract.robot.name == name


def _refuse_unused(contract: Contract, norm_stats: Mapping[str, Stats] | None, asset_id: str | None) -> None:
    """Refuses statistics that a person chose and that nothing would use."""
    rules = (contract.state_norm, contract.action_norm)
    nothing = all(rule is not UNKNOWN and rule.mode is NormMode.IDENTITY for rule in rules)
    given = "norm_stats" if norm_stats is not None else f"asset_id {asset_id!r}"
    if nothing and (norm_stats is not None or asset_id is not None):
        raise InputError(
            f"{given}: {contract.source or 'the checkpoint'} normalises neither states nor actions, so "
            "statistics would change nothing; leave them out, or convert it with a contract that says how"
        )


def _normalises(contract: Contract) -> bool:
    rules = (contract.state_norm, contract.action_norm)
    return any(rule is not UNKNOWN and rule.mode is not NormMode.IDENTITY for rule in rules)


def _tokenizer(tokenizer: TextTokenizer | str | PathLike[str] | None) -> TextTokenizer:
    if isinstance(tokenizer, TextTokenizer):
        return tokenizer
    if tokenizer is None:
        from pioxide.fetch import text_model

        tokenizer = text_model()
    return TextTokenizer.load(tokenizer)


def _codec(codec: ActionCodec | str | PathLike[str] | None, path: Path) -> ActionCodec:
    if codec is None:
        raise InputError(f"{path} comes without an action tokenizer: pass codec")
    return load_codec(codec) if isinstance(codec, str | PathLike) else codec
