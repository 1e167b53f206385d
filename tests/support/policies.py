"""Policies of small models under openpi's contract, with what a test does not care about filled in."""

from collections.abc import Mapping
from dataclasses import replace

from pioxide.codec import FastCodec, TextTokenizer
from pioxide.contract import UNKNOWN, Contract
from pioxide.models import Pi0, Pi0Fast
from pioxide.policy import Policy, PolicyOptions, agree, model_contract
from pioxide.robots import RobotSpec
from pioxide.transforms import NormRule, Stats

NORMS = ("state_norm", "action_norm")


def contract_of(
    model: Pi0 | Pi0Fast, robot: RobotSpec, norm_stats: Mapping[str, Stats] | None, **changes
) -> Contract:
    """openpi's contract of a model and a robot.

    Actions are absolute unless the robot says otherwise, π0.5 has the state in its text, and without
    statistics nothing is normalised.
    """
    base = model_contract(model.config)
    rule = {} if norm_stats is not None else dict.fromkeys(NORMS, NormRule.openpi("identity"))
    base = replace(
        base,
        norm_stats=UNKNOWN if norm_stats is None else norm_stats,
        delta_mask=() if robot.delta_mask is None else UNKNOWN,
        state_in_text=True if base.state_in_text is UNKNOWN else base.state_in_text,
        **rule,
    )
    return agree(replace(base, **changes), robot)


def make_policy(
    model: Pi0 | Pi0Fast,
    robot: RobotSpec,
    norm_stats: Mapping[str, Stats] | None,
    tokenizer: TextTokenizer,
    *,
    codec: FastCodec | None = None,
    options: PolicyOptions | None = None,
    consume: bool = False,
    **changes,
) -> Policy:
    """A policy under `contract_of`; `changes` are fields of the contract."""
    contract = contract_of(model, robot, norm_stats, **changes)
    return Policy(model, contract, tokenizer, codec=codec, options=options, consume=consume)
