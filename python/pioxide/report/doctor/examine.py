"""`examine`: everything a person named, opened, compared and replayed, in one value."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pioxide
from pioxide import demo
from pioxide.codec import TextTokenizer
from pioxide.contract import UNKNOWN, Contract, Pipeline, to_json
from pioxide.data import FrameColumns, JointChoice
from pioxide.errors import DatasetError, InputError, PioxideError
from pioxide.fetch import text_model
from pioxide.report.doctor.compare import (
    check_contract,
    check_tokens,
    compare_dataset,
    compare_robot,
    compare_tokens,
    compare_tokens_to_dataset,
    unknown_fields,
)
from pioxide.report.doctor.contract_table import JointRow, PromptExample, joint_rows, prompt_example
from pioxide.report.doctor.diagnosis import Code, Diagnosis, Severity, note, problem, worst
from pioxide.report.doctor.replay import Replay, any_length, replay
from pioxide.report.doctor.subjects import (
    Recording,
    Subject,
    effective,
    open_recording,
    open_subject,
    sample,
)
from pioxide.robots import RobotSpec

FRAMES = 4096
VERSION = 1


@dataclass(frozen=True)
class Request:
    """What a person named.

    Attributes:
        checkpoint: A checkpoint, a directory of `fit` or `tokenize`, or a `contract.json`.
        asset_id: Whose statistics, where the checkpoint has those of several robots.
        robot: Which robot is to run it.
        dataset: A LeRobot dataset; some of its frames go through the pipeline both ways.
        tokens: A directory made by `pioxide tokenize` or `fit`, for this checkpoint.
        text_model: PaliGemma's SentencePiece model, to count prompts; the one that was fetched by default.
        state_keys: The dataset's columns that make up the state; the robot's keys, or observation.state.
        action_keys: The dataset's columns that make up an action; the robot's key, or action.
        joints: Which of their dimensions, by name, glob, number or slice; those of `tokens`, or
            all.
        drop: Dimensions to leave out of state and actions.
        state_joints: Dimensions of the state, in place of `joints`.
        action_joints: Dimensions of an action, in place of `joints`.
        frames: About how many frames to replay, spread over the episodes.
    """

    checkpoint: str
    asset_id: str | None = None
    robot: RobotSpec | None = None
    dataset: Path | None = None
    tokens: Path | None = None
    text_model: Path | None = None
    state_keys: tuple[str, ...] | None = None
    action_keys: tuple[str, ...] | None = None
    joints: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    state_joints: tuple[str, ...] = ()
    action_joints: tuple[str, ...] = ()
    frames: int = FRAMES

    def __post_init__(self) -> None:
        """Refuses a sample that says nothing.

        Raises:
            InputError: Too few frames.
        """
        if self.frames < 256:  # the 1% and the 99% quantile of fewer say little
            raise InputError(f"--frames is {self.frames}, expected at least 256")


@dataclass(frozen=True)
class Examination:
    """What `doctor` knows.

    Attributes:
        request: What was named.
        subject: The checkpoint, opened.
        contract: What would run: the checkpoint's own, with the robot, and what tokens add.
        found: Diagnoses, the gravest first.
        joints: A row for each number.
        prompt: An example; None where fields that it needs are unknown.
        replayed: Of the dataset's frames; None where there is none, or it is as wide as another robot.
    """

    request: Request
    subject: Subject
    contract: Contract
    found: tuple[Diagnosis, ...]
    joints: tuple[JointRow, ...]
    prompt: PromptExample | None
    replayed: Replay | None

    @property
    def worst(self) -> Severity | None:
        """Returns the gravest severity, None where nothing was found."""
        return worst(self.found)

    def as_json(self) -> dict[str, Any]:
        """Returns plain values; `docs/doctor.md` has the schema."""
        r = self.request
        replayed = self.replayed
        return {
            "version": VERSION,
            "pioxide": pioxide.__version__,
            "subjects": {
                "checkpoint": {"path": r.checkpoint, "kind": str(self.subject.kind)},
                "robot": None if r.robot is None else r.robot.name,
                "dataset": None if r.dataset is None else str(r.dataset),
                "tokens": None if r.tokens is None else str(r.tokens),
            },
            "worst": None if self.worst is None else self.worst.value,
            "findings": [
                {
                    "code": str(one.code),
                    "severity": one.severity.value,
                    "where": one.where,
                    "message": one.message,
                    "way_out": one.way_out,
                }
                for one in self.found
            ],
            "joints": [row.as_json() for row in self.joints],
            "prompt": None
            if self.prompt is None
            else {"text": self.prompt.text, "tokens": self.prompt.tokens, "limit": self.prompt.limit},
            "replay": None
            if replayed is None
            else {"frames": replayed.frames, "episodes": replayed.episodes},
            "contract": to_json(self.contract),
        }


def examine(request: Request) -> Examination:
    """Opens, compares and replays.

    Raises:
        PioxideError: What was named is not there, or can't be read at all. Whatever is only wrong about it
            is a diagnosis.
    """
    robot = request.robot
    named = None if robot is None else robot.name
    subject = open_subject(request.checkpoint, request.asset_id, named)
    tokens = None if request.tokens is None else open_subject(str(request.tokens))
    contract = effective(subject.contract, None if tokens is None else tokens.contract, robot)
    found = [note(Code.SOURCE, "contract", sentence) for sentence in subject.notes]
    found += [*unknown_fields(contract, subject.kind), *check_contract(subject, contract)]
    if robot is not None:
        found += compare_robot(subject, robot)
    elif contract.robot is not UNKNOWN:
        found += (one for one in compare_robot(subject, contract.robot) if one.severity is Severity.NOTE)
    for one in (subject, tokens):
        if one is not None:
            found += check_tokens(one)
    if tokens is not None:
        found += compare_tokens(subject, tokens)
    recording = None
    if request.dataset is not None:
        known_robot = contract.robot if contract.robot is not UNKNOWN else None
        recording = _recording(request, known_robot, tokens if tokens is not None else subject)
        found += compare_dataset(contract, recording)
        for one in (subject, tokens):
            if one is not None:
                found += compare_tokens_to_dataset(one, recording)
    tokenizer, counted, missing = _tokenizer(request)
    found += missing
    replayed = None
    if recording is not None:
        replayed, more = _replayed(contract, recording, request.frames, tokenizer if counted else None)
        found += more
    return Examination(
        request,
        subject,
        contract,
        tuple(sorted(_once(found), key=lambda one: -one.severity.rank)),
        tuple(joint_rows(contract, {} if replayed is None else replayed.outside)),
        _prompt(contract, tokenizer, recording, counted),
        replayed,
    )


def _recording(request: Request, robot: RobotSpec | None, made: Subject) -> Recording:
    """The dataset, with the columns that were named, else those that tokens were made of."""
    choice = JointChoice(request.joints, request.drop, request.state_joints, request.action_joints)
    columns = None
    if (
        made.manifest is not None
        and choice == JointChoice()
        and not (request.state_keys or request.action_keys)
    ):
        columns = FrameColumns(**made.manifest.settings["columns"])
    return open_recording(
        str(request.dataset), robot, request.state_keys, request.action_keys, choice, columns
    )


def _replayed(
    contract: Contract, recording: Recording, frames: int, tokenizer: TextTokenizer | None
) -> tuple[Replay | None, Sequence[Diagnosis]]:
    recorded = recording.robot
    if contract.robot is UNKNOWN:
        contract = replace(contract, robot=recorded)
        told = [
            note(
                Code.NOT_COMPARED,
                "robot",
                "no robot is known: the dataset's numbers are taken without signs and gripper maps",
                "name it: --robot NAME or FILE.yaml",
            )
        ]
    else:
        told = []
    assert contract.robot is not UNKNOWN
    if (contract.robot.state_dim, contract.robot.action_dim) != (recorded.state_dim, recorded.action_dim):
        return None, told  # another width is a finding already
    horizon = contract.action_horizon if isinstance(contract.action_horizon, int) else 0
    try:
        frames_read = sample(recording, horizon or max(1, round(recording.dataset.fps)), frames)
    except DatasetError as error:
        return None, [
            *told,
            problem(Code.UNREADABLE, "dataset", str(error), "mend the dataset, then run doctor again"),
        ]
    pipeline = None if tokenizer is None else _pipeline(contract, tokenizer)
    replayed = replay(contract, frames_read, pipeline)
    return replayed, [*told, *replayed.found]


def _tokenizer(request: Request) -> tuple[TextTokenizer, bool, Sequence[Diagnosis]]:
    """A text model, and whether it is the real one. Without it texts can be shown, not counted."""
    try:
        return TextTokenizer.load(request.text_model or text_model()), True, ()
    except PioxideError as error:
        if request.text_model is not None:
            raise
        return (
            TextTokenizer.load(demo.text_model_path()),
            False,
            [note(Code.NOT_COMPARED, "prompt", f"prompts are not counted: {error}")],
        )


def _pipeline(contract: Contract, tokenizer: TextTokenizer) -> Pipeline | None:
    """The contract's pipeline with room for any prompt; None where fields that it needs are unknown."""
    try:
        return Pipeline(any_length(contract), tokenizer)
    except PioxideError:
        return None


def _prompt(
    contract: Contract, tokenizer: TextTokenizer, recording: Recording | None, counted: bool
) -> PromptExample | None:
    pipeline = _pipeline(contract, tokenizer)
    if pipeline is None:
        return None
    tasks = [] if recording is None else [task for task in recording.dataset.tasks.values() if task.strip()]
    return prompt_example(contract, pipeline, tasks[0] if tasks else None, counted=counted)


def _once(found: Iterable[Diagnosis]) -> list[Diagnosis]:
    return list(dict.fromkeys(found))
