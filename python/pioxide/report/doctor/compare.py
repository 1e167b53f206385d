"""What checkpoint, robot, dataset and tokens say of themselves, compared: no frame is read here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from pioxide.contract import (
    UNKNOWN,
    CameraSlot,
    Contract,
    Difference,
    Unknown,
    assign_cameras,
    check_codec,
    check_delta_mask,
    describe,
    differences,
    moved_names,
    robot_differences,
)
from pioxide.contract.contract import WAYS_OUT
from pioxide.contract.numbers import covering
from pioxide.errors import ContractError, InputError
from pioxide.family import Family
from pioxide.report.doctor.diagnosis import Code, Diagnosis, Severity, listed, note, problem, warning
from pioxide.report.doctor.subjects import Kind, Recording, Subject
from pioxide.robots import RobotSpec
from pioxide.transforms import NormMode, NormRule

# A field of the contract -> what kind of disagreement it is, how much it matters, and the way out.
_AGAIN = "make the tokens again with --fit or --stats of this checkpoint, or load the checkpoint they are for"
_FIELDS: dict[str, tuple[Code, Severity, str]] = {
    "family": (Code.FAMILY, Severity.PROBLEM, "tokenize for this model: --model"),
    "robot.state_dim": (Code.WIDTH, Severity.PROBLEM, "use the robot that the numbers are of"),
    "robot.action_dim": (Code.WIDTH, Severity.PROBLEM, "use the robot that the numbers are of"),
    "robot.joint_names": (Code.NAMES, Severity.PROBLEM, "bring the columns into one order, and fit again"),
    "robot.state_names": (Code.NAMES, Severity.PROBLEM, "bring the columns into one order, and fit again"),
    "robot.signs": (Code.SIGNS, Severity.PROBLEM, "name one robot for both: --robot, with its `signs`"),
    "robot.grippers": (Code.GRIPPERS, Severity.PROBLEM, "name one robot for both, with its `grippers`"),
    "robot.joint_units": (Code.UNITS, Severity.PROBLEM, "convert one of them, or correct `joint_units`"),
    "robot.hz": (Code.RATE, Severity.PROBLEM, "run and record at one rate; correct `hz` where it is wrong"),
    "cameras": (Code.CAMERAS, Severity.PROBLEM, 'say which goes where: cameras={"SLOT": "ROBOT KEY"}'),
    "absent_camera": (Code.CAMERAS, Severity.PROBLEM, _AGAIN),
    "delta_mask": (Code.RELATIVE, Severity.PROBLEM, "fit and tokenize with this --delta-mask"),
    "state_norm": (Code.NORMALISATION, Severity.PROBLEM, "tokenize with this --normalization"),
    "action_norm": (Code.NORMALISATION, Severity.PROBLEM, "tokenize with this --normalization"),
    "norm_stats": (Code.STATISTICS, Severity.PROBLEM, _AGAIN),
    "state_in_text": (
        Code.STATE_IN_PROMPT,
        Severity.PROBLEM,
        "one of them has the state in its prompt and the other not: tokenize as the checkpoint was trained",
    ),
    "state_text_dim": (Code.PROMPT, Severity.PROBLEM, _AGAIN),
    "prompt_style": (Code.PROMPT, Severity.PROBLEM, _AGAIN),
    "text_len": (Code.PROMPT, Severity.WARNING, "tokenize with this --max-len"),
    "default_prompt": (Code.PROMPT, Severity.NOTE, ""),
    "action_horizon": (Code.HORIZON, Severity.PROBLEM, "fit and tokenize with this --horizon"),
    "model_dim": (Code.MODEL_WIDTH, Severity.PROBLEM, _AGAIN),
    "num_steps": (Code.SAMPLING, Severity.NOTE, ""),
    "play_steps": (Code.SAMPLING, Severity.NOTE, ""),
    "image_size": (Code.IMAGES, Severity.PROBLEM, "prepare images as the checkpoint was trained"),
    "resize": (Code.IMAGES, Severity.PROBLEM, "prepare images as the checkpoint was trained"),
    "fast": (Code.FAST_VOCABULARY, Severity.PROBLEM, "tokenize with this checkpoint's tokenizer: --fast DIR"),
    "max_delay": (Code.SAMPLING, Severity.WARNING, _AGAIN),
    "answer_gap": (Code.SAMPLING, Severity.WARNING, _AGAIN),
    "subtask_style": (Code.PROMPT, Severity.WARNING, _AGAIN),
    "advantage_style": (Code.PROMPT, Severity.PROBLEM, _AGAIN),
    "memory": (Code.IMAGES, Severity.PROBLEM, "show the model what it was trained to see of the past"),
}


def unknown_fields(contract: Contract, kind: Kind) -> Iterator[Diagnosis]:
    """Says what nobody states: each field of a checkpoint, which needs them all, with how to state it."""
    if kind in (Kind.FITTED, Kind.TOKENS):
        if contract.unknown:
            yield note(Code.UNKNOWN, "contract", f"left to the model: {', '.join(contract.unknown)}")
        return
    for name in contract.unknown:
        if name == "answer_gap" and contract.family is not UNKNOWN and contract.family.is_flow:
            continue  # which writes no answer
        if name in ("subtask_style", "advantage_style"):
            continue  # only who asks for subtasks, or for guidance, needs it
        what, _, way_out = WAYS_OUT[name].partition(": ")
        yield warning(Code.UNKNOWN, name, f"nothing says {what}", way_out or WAYS_OUT[name])


def check_contract(subject: Subject, contract: Contract) -> Iterator[Diagnosis]:
    """Yields where a contract contradicts itself: widths, the tokenizer beside it, what is never seen."""
    robot = contract.robot
    if robot is not UNKNOWN:
        if not isinstance(mask := contract.delta_mask, Unknown):
            yield from _refused(
                Code.RELATIVE,
                "delta_mask",
                lambda: check_delta_mask(robot, mask),
                "say which actions are relative by a mask that fits this robot",
            )
        yield from _statistics(contract, "state", contract.state_norm, robot.state_dim)
        yield from _statistics(contract, "actions", contract.action_norm, robot.action_dim)
        if contract.model_dim is not UNKNOWN and contract.model_dim < robot.action_dim:
            yield problem(
                Code.MODEL_WIDTH,
                "model_dim",
                f"the model has {contract.model_dim} numbers an action, {robot.name} has {robot.action_dim}",
                "use the robot that the checkpoint was trained for",
            )
    if subject.codec is not None:
        codec = subject.codec
        yield from _refused(
            Code.FAST_VOCABULARY,
            "fast",
            lambda: check_codec(contract, codec),
            "put the tokenizer that the model was trained with beside it, or fit one for these chunks",
        )
    elif contract.fast:
        yield from _fast_chunks(contract)
    if contract.family is Family.PI05 and contract.state_in_text is False:
        yield note(
            Code.NO_STATE,
            "state_in_text",
            "this π0.5 was trained without the state in its prompt: it never sees where the joints are",
        )


def compare_tokens(subject: Subject, tokens: Subject) -> Iterator[Diagnosis]:
    """Yields every field in which tokens (or a fitted tokenizer) and the checkpoint disagree."""
    if subject.contract.fast is None and tokens.contract.family is UNKNOWN:
        # What `fit` makes serves every family, and only π0-FAST has a use for its vocabulary.
        tokens = replace(tokens, contract=replace(tokens.contract, fast=UNKNOWN))
    for found in differences(subject.contract, tokens.contract):
        yield _disagreement(found, subject.path, tokens.path)


def compare_robot(subject: Subject, robot: RobotSpec) -> Iterator[Diagnosis]:
    """Yields every field in which a robot and the checkpoint's contract disagree."""
    contract, own = subject.contract, subject.path
    if contract.robot is not UNKNOWN:
        for found in robot_differences(contract.robot, robot):
            yield _disagreement(found, own, robot.name)
    if contract.delta_mask is not UNKNOWN and robot.delta_mask is not None:
        said = replace(Contract(), delta_mask=robot.delta_mask).delta_mask
        if said != contract.delta_mask:
            way_out = "the checkpoint was trained so: use a robot that leaves it open (delta=None) or agrees"
            if robot.name == "droid" and any(contract.delta_mask):
                way_out = (
                    "this checkpoint commands joint positions (openpi's *_jointpos_polaris do); `droid` is "
                    "commanded by velocities: use --robot droid-jointpos"
                )
            yield problem(
                Code.RELATIVE,
                "delta_mask",
                f"{own} has {describe('delta_mask', contract.delta_mask)}, "
                f"{robot.name} has {describe('delta_mask', said)}",
                way_out,
            )
    if "jointpos" in contract.source and robot.name == "droid" and contract.delta_mask is UNKNOWN:
        yield problem(
            Code.RELATIVE,
            "robot",
            f"{contract.source} commands joint positions, `droid` is commanded by velocities",
            "use --robot droid-jointpos",
        )
    if contract.cameras is not UNKNOWN:
        yield from _cameras(contract.cameras, robot, own)
    if robot.name == "libero":
        yield note(
            Code.LIBERO_IMAGES,
            "cameras",
            "openpi's LIBERO data hold images turned by 180 degrees",
            "turn the simulator's images before the policy sees them: image[::-1, ::-1]",
        )


def compare_dataset(contract: Contract, recording: Recording) -> Iterator[Diagnosis]:
    """Yields where a dataset is not the contract's robot's: widths, names, rate, cameras, instructions."""
    robot, recorded, name = contract.robot, recording.robot, recording.name
    if robot is not UNKNOWN:
        way_out = "name the right columns (--state-keys, --action-keys), or the robot that recorded it"
        for what, one, two in (
            ("state", robot.state_dim, recorded.state_dim),
            ("actions", robot.action_dim, recorded.action_dim),
        ):
            if one != two:
                yield problem(
                    Code.WIDTH, what, f"{robot.name} has {one} numbers of {what}, {name} has {two}", way_out
                )
        for where, one, two in (
            ("actions", robot.joint_names, recorded.joint_names),
            ("state", robot.state_names, recorded.state_names),
        ):
            if moved := moved_names(one, two):
                shown = listed((f"{n} is {i} there and {j} in the dataset" for n, i, j in moved), 4)
                yield problem(
                    Code.NAMES,
                    where,
                    f"{robot.name} and {name} name their {where} in another order: {shown}",
                    "bring the columns into the robot's order, or declare the robot in the dataset's",
                )
        if robot.hz is not None and recorded.hz is not None and abs(robot.hz / recorded.hz - 1) > 0.01:
            yield problem(
                Code.RATE,
                "hz",
                f"{robot.name} runs at {robot.hz:g} Hz, {name} was recorded at {recorded.hz:g} Hz: "
                "chunks would be played at another speed",
                "run and record at one rate; correct the robot's `hz` where it is wrong",
            )
    if contract.cameras is not UNKNOWN:
        yield from _recorded_cameras(contract.cameras, recording)
    tasks = set(recording.dataset.tasks.values())
    if any(not task.strip() for task in tasks) and not contract.default_prompt:
        yield problem(
            Code.INSTRUCTION,
            "prompt",
            f"{name} has frames without an instruction, and the contract has no default_prompt",
            'write the instructions into the dataset\'s tasks, or say Contract(default_prompt="...")',
        )


def compare_tokens_to_dataset(tokens: Subject, recording: Recording) -> Iterator[Diagnosis]:
    """Yields whether tokens are of this dataset, and what of them was cut."""
    manifest = tokens.manifest
    if manifest is None:
        return
    same = manifest.dataset.get("fingerprint") == recording.dataset.fingerprint()
    if not same:
        yield warning(
            Code.OTHER_DATASET,
            "tokens",
            f"the tokens were made from {manifest.dataset.get('name')}, which was another dataset than "
            f"{recording.name} is now",
            "make the tokens again, or name the dataset they are of",
        )


def check_tokens(tokens: Subject) -> Iterator[Diagnosis]:
    """Yields what the manifest of some tokens tells: prompts that were cut."""
    if tokens.manifest is None or not (cut := tokens.manifest.totals["truncated"]):
        return
    totals = tokens.manifest.totals
    yield problem(
        Code.PROMPT_TOO_LONG,
        "tokens",
        f"{cut:,} of {totals['rows']:,} rows were cut at {tokens.manifest.settings.get('max_len')} tokens; "
        f"the longest needs {totals['longest']}",
        f"tokenize with --max-len {totals['longest']}, and train with that length",
    )


def _disagreement(found: Difference, one: str, two: str) -> Diagnosis:
    field = found.field if found.field in _FIELDS else found.field.split(".")[0]
    code, severity, way_out = _FIELDS[field]
    detail = f" ({found.detail})" if found.detail else ""
    return Diagnosis(
        code, severity, found.field, f"{one} has {found.left}, {two} has {found.right}{detail}", way_out
    )


def _refused(code: Code, where: str, check: Callable[[], object], way_out: str) -> Iterator[Diagnosis]:
    """What the contract's own checks refuse, as a diagnosis."""
    try:
        check()
    except (ContractError, InputError) as error:
        yield problem(code, where, str(error), way_out)


def _statistics(contract: Contract, key: str, rule: NormRule | Unknown, dim: int) -> Iterator[Diagnosis]:
    """Whether statistics are as wide as the robot, and have what the normalisation needs."""
    table = contract.norm_stats
    if isinstance(table, Unknown) or isinstance(rule, Unknown) or rule.mode is NormMode.IDENTITY:
        return
    stats = table.get(key)
    code = Code.STATISTICS if stats is None or stats.dim == dim else Code.STATISTICS_WIDTH
    refused = [
        *_refused(
            code,
            f"norm_stats.{key}",
            lambda: rule.make(covering(contract, key, dim), f"the {key}"),
            "use the statistics of this robot, normalised as its checkpoint was (`pioxide fit` makes them)",
        )
    ]
    yield from refused
    if not refused and stats is not None and stats.dim > dim:
        yield note(
            Code.PADDED,
            f"norm_stats.{key}",
            f"the statistics hold {stats.dim} numbers, and the robot {dim}; the rest is padding",
        )


def _fast_chunks(contract: Contract) -> Iterator[Diagnosis]:
    """Whether the vocabulary was fitted for the contract's own chunks."""
    fast = contract.fast
    assert fast is not UNKNOWN
    assert fast is not None
    dim = contract.robot.action_dim if contract.robot is not UNKNOWN else UNKNOWN
    for what, fitted, own in (
        ("actions a chunk", fast.horizon, contract.action_horizon),
        ("numbers an action", fast.action_dim, dim),
    ):
        if fitted is not None and own is not UNKNOWN and fitted != own:
            yield problem(
                Code.FAST_VOCABULARY,
                "fast",
                f"the action tokens were fitted for {fitted} {what}, and the contract has {own}",
                "fit a vocabulary for these chunks: `pioxide fit`",
            )


def _cameras(slots: tuple[CameraSlot, ...], robot: RobotSpec, own: str) -> Iterator[Diagnosis]:
    try:
        assign_cameras(slots, robot, where=own)
    except ContractError as error:
        what, _, way_out = str(error).partition(". Say which goes where")
        yield problem(Code.CAMERAS, "cameras", what, f"say which goes where{way_out}")
        return
    trained = {slot.key: slot.slot for slot in slots if isinstance(slot.key, str)}
    names = {slot.slot for slot in slots}
    moved = [c for c in robot.cameras if c.slot in names and trained.get(c.key, c.slot) != c.slot]
    if moved:
        both = "; ".join(f"{c.key} in {trained[c.key]}, {robot.name} declares {c.slot}" for c in moved)
        yield warning(
            Code.CAMERA_ORDER,
            "cameras",
            f"{own} was trained with {both}",
            "the checkpoint's order is what runs; if that is not what you trained, correct its contract",
        )


def _recorded_cameras(slots: tuple[CameraSlot, ...], recording: Recording) -> Iterator[Diagnosis]:
    recorded = [camera.key for camera in recording.robot.cameras]
    keys = [slot.key for slot in slots if isinstance(slot.key, str)]
    if not recorded:
        yield note(
            Code.NOT_COMPARED, "cameras", f"{recording.name} holds no images: cameras were not compared"
        )
        return
    here = {_last_word(key) for key in recorded}
    absent = [s for s in slots if isinstance(s.key, str) and s.required and _last_word(s.key) not in here]
    if absent:
        yield problem(
            Code.CAMERAS,
            "cameras",
            f"nothing in {recording.name} fills {listed(f'{s.slot} ({s.key})' for s in absent)}; "
            f"it has {listed(recorded)}",
            'say which goes where: cameras={"SLOT": "ROBOT KEY"}, or use the dataset the checkpoint is for',
        )
    elif unused := [key for key in recorded if _last_word(key) not in {_last_word(k) for k in keys}]:
        yield note(Code.CAMERAS, "cameras", f"recorded and not used: {listed(unused)}")


def _last_word(key: str) -> str:
    return re.split(r"[./]", key)[-1]
