"""`pioxide tokenize`: a dataset into token shards for one model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import FlagCreatePairsOff

from pioxide.cli import doubts, output, show
from pioxide.cli.check import warn
from pioxide.cli.options import METAVARS, derived, left_open, taken
from pioxide.cli.progress import FrameProgress
from pioxide.contract import known
from pioxide.errors import InputError
from pioxide.family import RELEASED_ACTION_DIM, Family
from pioxide.files import as_address
from pioxide.shards import (
    Engine,
    Job,
    JobRequest,
    Manifest,
    Part,
    Ray,
    Threads,
    estimate,
    other_names,
    plan_job,
    resolve,
    run_job,
    run_part,
    sentence,
)
from pioxide.shards.checked import Looked, saved_findings


@derived(JobRequest, without=("dataset", "text_model"))
@dataclass(frozen=True, kw_only=True)
class Tokenize:
    """Turn every frame of a robot dataset into a row of training tokens. Run again to go on after a stop."""

    dataset: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar=METAVARS["dataset"])]
    """A LeRobot dataset, v2.0, v2.1 or v3.0."""

    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar=METAVARS["output"])]
    """Directory, or address (s3://, gs://), for the shards, their contract and their manifest."""

    text_model: Annotated[Path | None, left_open(METAVARS["text_model"])] = None
    """PaliGemma's SentencePiece model; the one that `pioxide fetch` brought by default."""

    workers: Annotated[int | None, left_open("INT")] = None
    """Threads, or tasks of Ray, at a time; one a core by default."""

    engine: Literal["threads", "ray"] = "threads"
    """Who makes shards: threads of this process, or tasks of Ray, on a cluster of this machine's own."""

    ray_address: Annotated[str | None, left_open("ADDRESS")] = None
    """Of a Ray cluster, whose nodes see the same files at the same paths; with --engine ray."""

    part: Annotated[str | None, left_open("N/OF")] = None
    """Make every OF-th shard only, as 3/16, for one of several machines; `pioxide merge` then joins them."""

    skip_bad: FlagCreatePairsOff[bool] = False
    """Leave out episodes that can't be used, list them in the manifest, and end with status 3."""

    strict: FlagCreatePairsOff[bool] = False
    """End with status 4 where the dataset has warnings, and make nothing then, or where rows were cut."""

    dry_run: FlagCreatePairsOff[bool] = False
    """Say what would be made, and make nothing."""

    def __call__(self) -> int:
        """Makes what is missing, and prints what there is then."""
        from pioxide.cli import main
        from pioxide.fetch import text_model

        engine = self._engine()
        request = taken(self, JobRequest, dataset=self.dataset, text_model=self.text_model or text_model())
        job = plan_job(*resolve(request))
        settings, dataset = job.settings, job.maker.dataset
        chosen = settings.selection.of(dataset)
        part = None if self.part is None else Part.parse(self.part)
        if part is not None:
            chosen = [one.episode for task in part.tasks(job.plan) for one in task.slices]
        looked = Looked(
            job.manifest.dataset["fingerprint"],
            settings.columns,
            tuple(chosen),
            settings.tasks,
            RELEASED_ACTION_DIM,
        )
        found = None if request.fit is None else saved_findings(request.fit, looked)
        width = looked.width
        if warn(dataset, settings.columns, episodes=chosen, width=width, strict=self.strict, found=found):
            return main.FOUND
        if self.dry_run:
            self._print_estimate(job, part)
            return main.OK
        family = known(settings.contract.family, "family")
        if part is not None:
            return self._make_part(job, part, engine, f"tokenizing for {family}, part {part}")
        with FrameProgress(f"tokenizing for {family}") as progress:
            manifest = run_job(
                job,
                self.output,
                skip_bad=self.skip_bad,
                engine=engine,
                progress=progress,
            )
        output.current.result = {
            "output": self._place,
            "totals": manifest.totals,
            "skipped": [s.episode for s in manifest.skipped],
        }
        self._print_manifest(job, manifest, progress)
        if manifest.skipped:
            doubts.left_out([(s.episode, s.reason) for s in manifest.skipped])
            return main.LEFT_OUT
        return main.FOUND if self.strict and manifest.totals["truncated"] else main.OK

    @property
    def _place(self) -> str:
        return as_address(self.output) or str(self.output)

    def _engine(self) -> Engine:
        if self.engine == "ray":
            return Ray(self.ray_address, self.workers)
        if self.ray_address is not None:
            raise InputError("--ray-address is for --engine ray")
        return Threads(self.workers)

    def _make_part(self, job: Job, part: Part, engine: Engine, what: str) -> int:
        from pioxide.cli import main

        with FrameProgress(what) as progress:
            made = run_part(job, self.output, part, skip_bad=self.skip_bad, engine=engine, progress=progress)
        names = [shard.file for shard in made.shards]
        output.current.result = {"output": self._place, "part": str(part), "shards": names}
        speed = _speed(progress)
        print(f"{self._place}: part {part} complete ({speed})")
        rows, size = (sum(getattr(shard, name) for shard in made.shards) for name in ("rows", "bytes"))
        truncated = sum(shard.truncated for shard in made.shards)
        show.facts(
            [
                ("rows", f"{rows:,}"),
                ("shards of this part", f"{len(made.shards):,}, {show.size(size)}"),
                ("rows cut", show.share(truncated, rows)),
                ("shards here", f"{made.present:,} of {made.planned:,}"),
            ]
        )
        longest = max((shard.longest for shard in made.shards), default=0)
        self._warn_of_cut_rows(job, truncated, rows, longest)
        if not made.shards:
            print(f"NOTE: there are only {made.planned:,} shards; --shard-frames makes smaller ones")
        how = "the same command without --part" if as_address(self.output) else f"pioxide merge {self._place}"
        print(f"\nnext, when all parts are made: {how}")
        if skipped := [(s.episode, s.reason) for shard in made.shards for s in shard.skipped]:
            doubts.left_out(skipped)
            return main.LEFT_OUT
        return main.FOUND if self.strict and truncated else main.OK

    def _warn_of_cut_rows(self, job: Job, cut: int, rows: int, longest: int) -> None:
        contract = job.settings.contract
        family, max_len = known(contract.family, "family"), known(contract.text_len, "text_len")
        doubts.cut_rows(self._place, family, max_len, cut, rows, longest)

    def _print_manifest(self, job: Job, manifest: Manifest, progress: FrameProgress) -> None:
        contract, totals = job.settings.contract, manifest.totals
        max_len, is_fast = contract.text_len, contract.family is Family.PI0_FAST
        rows = totals["rows"]
        print(f"{self._place}: complete ({_speed(progress)})")
        _print_contract(job)
        lines = [
            ("rows", f"{rows:,} from {show.counted(totals['episodes'], 'episode')}"),
            ("shards", f"{len(manifest.shards):,}, {show.size(totals['bytes'])}"),
            *_frames(job),
        ]
        if rows:
            lines.append(
                (
                    "tokens a row",
                    f"mean {totals['tokens'] / rows:.1f}, longest {totals['longest']} of {max_len}",
                )
            )
        if is_fast and rows:
            lines.append(("action tokens a row", f"mean {totals['action_tokens'] / rows:.1f}"))
            lines.append(("rows clipped", show.share(totals["clipped_rows"], rows)))
        lines.append(("rows cut", show.share(totals["truncated"], rows)))
        show.facts(lines)
        self._warn_of_cut_rows(job, totals["truncated"], rows, totals["longest"])
        if not as_address(self.output):
            print(f"\nnext: pioxide inspect {self._place}")

    def _print_estimate(self, job: Job, part: Part | None) -> None:
        made = estimate(job, self.output)
        print(f"{self._place}: nothing written (dry run)")
        _print_contract(job)
        contract = job.settings.contract
        lines = [
            ("rows", f"{made.rows:,} from {show.counted(made.episodes, 'episode')}"),
            (
                "shards",
                f"{made.shards:,}" + (f", {made.finished:,} of them finished" if made.finished else ""),
            ),
            *_frames(job),
            ("size", f"about {show.size(made.bytes)}"),
            ("tokens a row", f"about {made.tokens:.1f}, {made.tokens * made.rows / 1e6:,.1f} million in all"),
            (
                "longest",
                f"{made.longest} of {contract.text_len} in a sample of {made.sampled:,} rows",
            ),
            ("rows cut", f"about {made.truncated:.1%}"),
        ]
        if part is not None:
            tasks = part.tasks(job.plan)
            frames = sum(task.frames for task in tasks)
            lines.append((f"part {part}", f"{show.counted(len(tasks), 'shard')}, {frames:,} rows"))
        if contract.family is Family.PI0_FAST:
            lines.append(
                ("rows clipped", f"about {made.clipped:.1%} (--on-overflow {job.settings.on_overflow})")
            )
        show.facts(lines)


def _frames(job: Job) -> list[tuple[str, str]]:
    """What --frames leaves out."""
    kept = job.maker.dataset.kept
    if kept is None:
        return []
    return [("frames left out", f"{show.share(kept.total - kept.kept, kept.total)} ({kept.said})")]


def _speed(progress: FrameProgress) -> str:
    if not progress.made:
        return "all of it was there already"
    return f"{progress.seconds:.1f} s, {progress.made / progress.seconds:,.0f} frames a second"


def _print_contract(job: Job) -> None:
    robot, columns = job.maker.pipeline.numbers.robot, job.settings.columns
    names = columns.action_names(job.maker.dataset)
    show.contract(sentence(job.settings.contract), other_names(robot.joint_names, names))
