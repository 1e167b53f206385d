"""What a person says (a dataset, a model, a fitted directory, a contract) -> complete inputs and settings.

The contract of the rows is what all of them say together; where two speak and differ, both sides are shown.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from pioxide.codec import holds_codec, load_codec
from pioxide.contract import (
    UNKNOWN,
    Contract,
    PromptStyle,
    action_vocabulary,
    check_codec,
    known,
    load_contract,
    merge,
)
from pioxide.contract.numbers import covering
from pioxide.data import FrameColumns, JointChoice, LeRobotDataset
from pioxide.data.keeping import keep_frames
from pioxide.data.robot import dataset_robot, named_mask, other_names, recorded_robot
from pioxide.errors import ContractError, FormatError, InputError
from pioxide.family import Family, Normalization
from pioxide.robots import RobotSpec
from pioxide.shards.chosen import Chosen
from pioxide.shards.fit import FitResult
from pioxide.shards.joint import JointResult, is_joint
from pioxide.shards.settings import JobSettings, OnOverflow
from pioxide.shards.shard import JobInputs
from pioxide.transforms import NormRule, load_norm_stats, make_mask

DEFAULT_HORIZON = 50


@dataclass(frozen=True)
class JobRequest(Chosen):
    """What a person says; None leaves it to the fitted directory, then to the contract, then to the model.

    Attributes:
        dataset: A LeRobot dataset, v2.0, v2.1 or v3.0.
        model: Which model the rows are for: pi0, pi05 or pi0_fast.
        text_model: PaliGemma's SentencePiece model.
        fit: A directory made by `fit`: its contract, statistics, FAST tokenizer and columns. Of several
            datasets that were fitted together, those of this dataset or its robot.
        contract: A checkpoint, ours or another project's, or a `contract.json`, that the rows must suit.
        asset_id: Whose statistics, where that checkpoint has several robots'.
        robot: The robot that was recorded; the fitted directory's, or the dataset's numbers as they are.
        stats: A `norm_stats.json` in place of the fitted one, for example openpi's.
        fast: A FAST tokenizer, or another action codec, in place of the fitted one, for example the published
            one.
        horizon: Actions in a chunk; the fitted directory's, or 50.
        state_keys: Columns that make up the state; the fitted directory's, or observation.state.
        action_keys: Columns that make up an action; the fitted directory's, or action.
        joints: Which dimensions of both, in this order: names, globs such as left_*, numbers, slices such as
            0:7, !NAME to leave one out; the fitted directory's, or all.
        drop: Dimensions to leave out of both, likewise.
        state_joints: Dimensions of the state, in place of joints.
        action_joints: Dimensions of an action, in place of joints.
        delta_mask: Which actions are relative to the state, as run lengths (6,-1,6,-1), empty for none; the
            fitted directory's.
        relative: The same by name: joints whose actions are relative, as in joints.
        normalization: Of state and actions; zscore for π0, else quantile.
        max_len: Tokens before a prompt is cut; 48, 200 or 250 by model.
        state_in_text: Whether π0.5's prompt holds the state; on, as in most released checkpoints.
        on_overflow: A coefficient without a FAST token: stop, or take the nearest and count it.
        limit: Stop after this many frames.
        shard_frames: Rows in a shard, which closes before the episode that would exceed them; about 64 shards
            by default.
    """

    dataset: Path
    model: Family
    text_model: Path
    fit: Path | None = None
    contract: str | None = None
    asset_id: str | None = None
    robot: RobotSpec | None = None
    stats: Path | None = None
    fast: Path | None = None
    horizon: int | None = None
    state_keys: tuple[str, ...] | None = None
    action_keys: tuple[str, ...] | None = None
    joints: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    state_joints: tuple[str, ...] = ()
    action_joints: tuple[str, ...] = ()
    delta_mask: tuple[int, ...] | None = None
    relative: tuple[str, ...] = ()
    normalization: Normalization | None = None
    max_len: int | None = None
    state_in_text: bool | None = None
    on_overflow: OnOverflow = "error"
    limit: int | None = None
    shard_frames: int | None = None

    def __post_init__(self) -> None:
        """Takes texts for the paths that they spell."""
        super().__post_init__()
        for name in ("dataset", "text_model", "fit", "stats", "fast"):
            value = getattr(self, name)
            object.__setattr__(self, name, value if value is None else Path(value))


def resolve(request: JobRequest) -> tuple[JobInputs, JobSettings]:
    """Works out what the rows' numbers mean.

    Raises:
        ContractError: Two of the fitted directory, the contract, the options and the dataset disagree, or
            nothing says what only a person can know; names both sides and the ways out.
        InputError: No statistics, or no FAST tokenizer for π0-FAST.
        FormatError: The fitted directory or the contract is none.
    """
    try:
        family = Family(request.model)
    except ValueError:
        raise InputError(f"model {request.model!r}: expected one of {', '.join(Family)}") from None
    dataset = LeRobotDataset.open(request.dataset)
    fitted = None if request.fit is None else _fitted(request.fit, request, dataset)
    if fitted is not None:
        request = replace(request, fit=fitted.directory)
    named = None if request.robot is None else request.robot.name
    base = None if request.contract is None else _loaded(request.contract, request.asset_id, named)
    fast = _fast_directory(request, base) if family is Family.PI0_FAST else None
    columns = _columns(request, fitted, dataset)
    contract = _said(request, family, dataset, columns)
    if fitted is not None:
        if request.stats is None:
            _refuse_other_names(fitted, dataset, columns)
        contract = _joined(_fitted_view(fitted, request, family), contract, str(request.fit), "the request")
        _note_other_frames(fitted, request, dataset)
    if base is not None:
        others = "the request" if fitted is None else f"the request with {request.fit}"
        contract = _joined(base.contract, contract, str(request.contract), others)
    if contract.norm_stats is UNKNOWN:
        raise InputError(
            "normalising needs statistics: make them with `pioxide fit DATASET -o DIR` and pass --fit DIR, "
            "or pass openpi's norm_stats.json with --stats"
        )
    if contract.robot is UNKNOWN and base is None:
        contract = replace(contract, robot=dataset_robot(dataset, columns))
    contract = _completed(contract, family, own=base is None)
    if fast is not None:
        codec = load_codec(fast)
        check_codec(contract, codec)
        contract = replace(contract, fast=action_vocabulary(codec))
    settings = JobSettings(
        contract=replace(_trimmed(contract), source="pioxide tokenize"),
        columns=columns,
        on_overflow=request.on_overflow,
        episodes=request.episodes,
        where=request.where,
        frames=request.frames,
        task=request.task,
        task_for=request.task_for,
        task_key=request.task_key,
        limit=request.limit,
        shard_frames=request.shard_frames,
    )
    return JobInputs(request.dataset, request.text_model, fast), settings


def _fitted(directory: Path, request: JobRequest, dataset: LeRobotDataset) -> FitResult:
    """The fitted directory; of several fits that of this dataset, or of its robot."""
    if not is_joint(directory):
        return FitResult.load(directory)
    return JointResult.load(directory).of(dataset, lambda member: _columns(request, member, dataset))


def _said(request: JobRequest, family: Family, dataset: LeRobotDataset, columns: FrameColumns) -> Contract:
    """What the request says."""
    robot = None if request.robot is None else recorded_robot(request.robot, dataset, columns)
    mask = UNKNOWN if request.delta_mask is None else make_mask(*request.delta_mask)
    if request.relative:
        if request.delta_mask is not None:
            raise InputError("relative and delta_mask say the same thing in two ways; leave one out")
        mask = named_mask(request.relative, columns.action_names(dataset))
    rule = UNKNOWN if request.normalization is None else NormRule.openpi(request.normalization)
    return Contract(
        family=family,
        robot=robot or UNKNOWN,
        delta_mask=mask,
        state_norm=rule,
        action_norm=rule,
        norm_stats=UNKNOWN if request.stats is None else load_norm_stats(request.stats),
        state_in_text=UNKNOWN if request.state_in_text is None else request.state_in_text,
        text_len=request.max_len or UNKNOWN,
        action_horizon=request.horizon or UNKNOWN,
        source="the request",
    )


def _fitted_view(fitted: FitResult, request: JobRequest, family: Family) -> Contract:
    """What a fitted directory says to these rows: all, but for what the options put in its place."""
    contract = fitted.contract
    if family is not Family.PI0_FAST or request.fast is not None:
        # How chunks were normalised for the FAST tokenizer binds those that read its tokens.
        contract = replace(contract, fast=UNKNOWN, state_norm=UNKNOWN, action_norm=UNKNOWN)
    if request.stats is not None:
        # Other statistics are of other chunks: what they cover is for the options to say.
        said = request.delta_mask is not None or request.relative
        left_open = {"delta_mask": UNKNOWN} if said else {}
        left_open |= {} if request.horizon is None else {"action_horizon": UNKNOWN}
        contract = replace(contract, norm_stats=UNKNOWN, **left_open)
    return contract


def _joined(source: Contract, said: Contract, name: str, other: str) -> Contract:
    try:
        return merge(source, said, names=(name, other))
    except ContractError as error:
        raised = ContractError(
            f"{error}\nLeave that option out, or make {name} again with it (statistics and vocabularies of "
            "other numbers: `pioxide fit`, or --stats and --fast)"
        )
        raised.fields = error.fields
        raise raised from None


def _completed(contract: Contract, family: Family, *, own: bool) -> Contract:
    """Fills in the family's facts; of a contract that is not our own only what rows are free to choose."""
    rule = NormRule.openpi(family.normalization)
    facts: dict[str, object] = {"prompt_style": PromptStyle.OPENPI, "text_len": family.text_len}
    facts |= {"state_in_text": not family.state_is_vector, "state_text_dim": None, "fast": UNKNOWN}
    if own:
        facts |= {"state_norm": rule, "action_norm": rule, "action_horizon": DEFAULT_HORIZON}
    if family is not Family.PI0_FAST:
        facts["fast"] = None
    missing = {name: value for name, value in facts.items() if getattr(contract, name) is UNKNOWN}
    if not own:
        # Whose prompts an existing checkpoint was trained on is not ours to guess.
        missing = {name: value for name, value in missing.items() if name == "fast"}
    contract = replace(contract, **missing)
    needed = ["robot", "delta_mask", "state_norm", "action_norm", "action_horizon"]
    contract.require(*needed, "prompt_style", "text_len", "state_in_text", doing="making tokens")
    if family is Family.PI0_FAST and not contract.state_in_text:
        raise InputError("pi0_fast reads the state in its prompt only; leave --state-in-text out")
    if family is Family.PI0 and contract.state_in_text:
        raise InputError("pi0 reads the state as numbers, not in its prompt; leave --state-in-text out")
    return contract


def _trimmed(contract: Contract) -> Contract:
    """The contract with statistics of as many numbers as the robot has."""
    robot = known(contract.robot, "robot")
    widths = {"state": robot.state_dim, "actions": robot.action_dim}
    table = known(contract.norm_stats, "norm_stats")
    # Which of them normalising needs, and that they are there, the pipeline sees to.
    stats = {key: covering(contract, key, dim) for key, dim in widths.items() if key in table}
    return replace(contract, norm_stats=stats)


def _columns(request: JobRequest, fitted: FitResult | None, dataset: LeRobotDataset) -> FrameColumns:
    base = FrameColumns() if fitted is None else fitted.columns
    given = FrameColumns(request.state_keys or base.state_keys, request.action_keys or base.action_keys)
    if fitted is not None and request.stats is None and given.all != base.all:
        raise InputError(
            f"{request.fit} was fitted for other columns ({', '.join(base.all)}; the request says "
            f"{', '.join(given.all)}); fit again, or leave that option out"
        )
    choice = JointChoice(request.joints, request.drop, request.state_joints, request.action_joints)
    if choice == JointChoice() and fitted is not None:
        choice = fitted.choice
    return choice.of(dataset, given)


def _refuse_other_names(fitted: FitResult, dataset: LeRobotDataset, columns: FrameColumns) -> None:
    """Refuses a dataset whose dimensions bear other names than those that were fitted."""
    both = {"state_names": columns.state_names(dataset), "action_names": columns.action_names(dataset)}
    for name, now in both.items():
        before = fitted.dataset[name]
        pairs = other_names(before, now) if len(before) == len(now) else [("...", "...")]
        if pairs:
            shown = ", ".join(f"{one} / {two}" for one, two in pairs[:8])
            error = ContractError(
                f"{fitted.directory} was fitted on {len(before)} numbers ({', '.join(before)}), and "
                f"{dataset.path} has {len(now)} ({', '.join(now)}): another robot, or another order "
                f"({shown}). Choose the same joints (--joints, --drop), fit on this dataset, or pass "
                "statistics of it with --stats"
            )
            error.fields = ("robot",)
            raise error


def _note_other_frames(fitted: FitResult, request: JobRequest, dataset: LeRobotDataset) -> None:
    """Says where the fit is of other frames than the rows: it may be meant, and may be forgotten."""
    kept, noted = keep_frames(dataset, request.frames).kept, fitted.dataset.get("frames")
    if (None if kept is None else kept.as_json()) != noted:
        of = f"{noted['kept']:,} frames ({fitted.settings['frames']})" if noted else "all frames"
        rows = f"{kept.kept:,} frames ({kept.said})" if kept else "all frames"
        warnings.warn(f"{fitted.directory} was fitted on {of}, and rows are made of {rows}", stacklevel=3)


class _Base(NamedTuple):
    """An existing contract, and where its FAST tokenizer lies."""

    contract: Contract
    fast: Path | None


def _fast_directory(request: JobRequest, base: _Base | None) -> Path:
    """Where the FAST tokenizer lies: as said, in the fitted directory, or beside the contract."""
    found = request.fast or request.fit or (base.fast if base is not None else None)
    if found is None:
        raise InputError(
            "pi0_fast needs a FAST tokenizer: pass --fit DIR (from `pioxide fit`), or --fast DIR "
            "(any FAST tokenizer; `pioxide fetch fast` brings the published one)"
        )
    return found


def _loaded(given: str, asset_id: str | None, robot: str | None) -> _Base:
    """The contract in a file or in a directory of ours, or the one that a checkpoint's files amount to.

    Where it is of several robots, that of the robot of this name.
    """
    path = Path(given)
    made_here = any((path / name).is_file() for name in ("manifest.json", "fit.json"))
    if (path.is_file() and path.suffix == ".json") or made_here:
        contract = load_contract(path, robot)
        if contract is None:
            raise FormatError(f"{path}: no contract.json there; an older pioxide made it: make it again")
        root = path if path.is_dir() else path.parent
        places = (place for place in (root, root / "fast") if holds_codec(place))
        return _Base(replace(contract, source=given), next(places, None))
    from pioxide.weights import contract_of, load  # a checkpoint needs what reads tensors

    with load(given) as opened:
        checkpoint = opened.of(robot)
        found = replace(contract_of(checkpoint, asset_id), source=given)
        return _Base(found, checkpoint.companions.fast_tokenizer)


def parse_mask(text: str) -> tuple[int, ...]:
    """Returns run lengths from text such as "6,-1,6,-1"; empty text is an empty mask.

    Raises:
        InputError: A part is not a whole number other than 0.
    """
    runs: list[int] = []
    for part in (p.strip() for p in text.split(",") if text.strip()):
        try:
            runs.append(int(part))
        except ValueError:
            raise InputError(
                f'delta mask {text!r}: {part!r} is not a number; write it as "6,-1,6,-1"'
            ) from None
        if runs[-1] == 0:
            raise InputError(f"delta mask {text!r}: a run of 0 dimensions")
    return tuple(runs)
