"""A tokenizing job that is checked and planned, and who hears how far it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import pyarrow

import pioxide
from pioxide.contract import FILE_NAME as CONTRACT_FILE
from pioxide.contract import known
from pioxide.data import LeRobotDataset
from pioxide.data.keeping import keep_frames
from pioxide.files import sha256_of
from pioxide.shards.beside import contract_digest
from pioxide.shards.directory import FAST, FAST_FILES
from pioxide.shards.manifest import FORMAT, Manifest
from pioxide.shards.plan import Plan, make_plan
from pioxide.shards.settings import JobSettings, as_json, kept_of
from pioxide.shards.shard import JobInputs, ShardMaker


class Progress(Protocol):
    """Who wants to hear how far something is: in frames, or in bytes where that is said."""

    def begin(self, total: int, done: int) -> None:
        """`total` frames are to be made, `done` of which an earlier run made."""
        ...

    def advance(self, frames: int, /) -> None:
        """Some more frames are done; called from several threads."""
        ...


@dataclass(frozen=True)
class Job:
    """A job that has been checked and planned, and has written nothing yet.

    Attributes:
        inputs: where it reads from.
        settings: what it makes.
        maker: makes a shard.
        plan: which shards.
        manifest: as it will begin.
    """

    inputs: JobInputs
    settings: JobSettings
    maker: ShardMaker
    plan: Plan
    manifest: Manifest


def plan_job(inputs: JobInputs, settings: JobSettings) -> Job:
    """Opens and checks everything that a job reads, and plans its shards.

    Raises:
        PioxideError: the dataset, statistics, tokenizers or settings are wrong or don't fit together.
    """
    dataset = keep_frames(LeRobotDataset.open(inputs.dataset).with_tasks(settings.tasks), settings.frames)
    maker = ShardMaker.load(inputs, settings, dataset)
    chosen = settings.selection.of(dataset)
    lengths = ((index, dataset.rows(index)) for index in chosen)
    plan = make_plan(lengths, shard_frames=settings.shard_frames, limit=settings.limit)
    return Job(inputs, settings, maker, plan, _new_manifest(inputs, settings, dataset, plan))


def _new_manifest(inputs: JobInputs, settings: JobSettings, dataset: LeRobotDataset, plan: Plan) -> Manifest:
    contract, columns = settings.contract, settings.columns
    digests = {"text_model": sha256_of(inputs.text_model)}
    if inputs.fast is not None:
        deciding = [name for name in FAST_FILES[:3] if (inputs.fast / name).is_file()]
        digests |= {f"{FAST}/{name}": sha256_of(inputs.fast / name) for name in deciding}
    return Manifest(
        settings=as_json(settings),
        contract={
            "model": str(known(contract.family, "family")),
            "file": CONTRACT_FILE,
            "sha256": contract_digest(contract),
        },
        inputs=digests,
        dataset={
            "name": dataset.path.resolve().name,
            "path": str(dataset.path.resolve()),
            "fingerprint": dataset.fingerprint(),
            "version": dataset.version,
            "robot_type": dataset.robot_type,
            "fps": dataset.fps,
            "state_names": columns.state_names(dataset),
            "action_names": columns.action_names(dataset),
            "tasks": {str(index): task for index, task in sorted(dataset.tasks.items())},
            **kept_of(dataset),
        },
        versions={"format": FORMAT, "pioxide": pioxide.__version__, "pyarrow": pyarrow.__version__},
        plan={"shards": len(plan.tasks), "episodes": plan.episodes, "frames": plan.frames},
    )
