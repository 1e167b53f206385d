"""`pioxide tokenize`: a dataset into token shards for one model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from tyro.conf import FlagCreatePairsOff

from pioxide.cli.options import left_open, listed

if TYPE_CHECKING:
    from pioxide.shards import Job, JobRequest, Manifest


@dataclass(frozen=True)
class Tokenize:
    """Turn every frame of a robot dataset into a row of training tokens. Run again to go on after a stop."""

    dataset: tyro.conf.Positional[Path]
    """A LeRobot dataset, v2.0, v2.1 or v3.0."""

    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Directory for the shards and their manifest."""

    model: Literal["pi0", "pi05", "pi0_fast"]
    """Which model the rows are for."""

    fit: Annotated[Path | None, left_open("PATH")] = None
    """A directory made by `pioxide fit`: statistics, FAST tokenizer, columns, horizon and delta mask."""

    text_model: Annotated[Path | None, left_open("PATH")] = None
    """PaliGemma's SentencePiece model; the one that `pioxide fetch` brought by default."""

    stats: Annotated[Path | None, left_open("PATH")] = None
    """A norm_stats.json in place of the fitted one, for example openpi's."""

    fast: Annotated[Path | None, left_open("PATH")] = None
    """A FAST tokenizer in place of the fitted one, for example the published one."""

    horizon: Annotated[int | None, left_open("INT")] = None
    """Actions in a chunk; the fitted directory's, or 50."""

    state_keys: Annotated[str | None, left_open("A,B")] = None
    """Columns that make up the state; the fitted directory's, or observation.state."""

    action_keys: Annotated[str | None, left_open("A,B")] = None
    """Columns that make up an action; the fitted directory's, or action."""

    delta_mask: Annotated[str | None, left_open("N,-N")] = None
    """Which actions are relative to the state, as in 6,-1,6,-1; the fitted directory's, or none."""

    normalization: Annotated[Literal["quantile", "zscore"] | None, left_open("{quantile,zscore}")] = None
    """Of state and actions; zscore for pi0, else quantile."""

    max_len: Annotated[int | None, left_open("INT")] = None
    """Tokens before a prompt is cut; 48, 200 or 250 by model."""

    on_overflow: Literal["error", "clip"] = "error"
    """A coefficient without a FAST token: stop, or take the nearest and count it."""

    episodes: Annotated[str, left_open("A:B,C")] = ""
    """Which episodes, as in 0:10,15; all by default."""

    limit: Annotated[int | None, left_open("INT")] = None
    """Stop after this many frames."""

    shard_frames: Annotated[int | None, left_open("INT")] = None
    """Rows in a shard, which closes before the episode that would exceed them; about 64 shards by default."""

    workers: Annotated[int | None, left_open("INT")] = None
    """Threads; one a core by default."""

    skip_bad: FlagCreatePairsOff[bool] = False
    """Leave out episodes that can't be read, list them in the manifest, and end with status 3."""

    dry_run: FlagCreatePairsOff[bool] = False
    """Say what would be made, and make nothing."""

    def __call__(self) -> int:
        """Make what is missing, and print what there is then."""
        from pioxide.cli import main, show
        from pioxide.cli.progress import FrameProgress
        from pioxide.shards import prepare, resolve, tokenize_dataset

        inputs, settings = resolve(self._request())
        if self.dry_run:
            self._print_estimate(prepare(inputs, settings))
            return main.OK
        with FrameProgress(f"tokenizing for {self.model}") as progress:
            manifest = tokenize_dataset(
                inputs,
                self.output,
                settings,
                skip_bad=self.skip_bad,
                workers=self.workers,
                progress=progress,
            )
        self._print_manifest(manifest, progress)
        if manifest.skipped:
            show.left_out([(s.episode, s.reason) for s in manifest.skipped])
            return main.LEFT_OUT
        return main.OK

    def _request(self) -> JobRequest:
        from pioxide.family import Family
        from pioxide.fetch import text_model
        from pioxide.shards import JobRequest, parse_mask

        return JobRequest(
            dataset=self.dataset,
            model=Family(self.model),
            text_model=self.text_model or text_model(),
            fit=self.fit,
            stats=self.stats,
            fast=self.fast,
            state_keys=listed(self.state_keys),
            action_keys=listed(self.action_keys),
            horizon=self.horizon,
            delta_mask=None if self.delta_mask is None else parse_mask(self.delta_mask),
            normalization=self.normalization,
            max_len=self.max_len,
            on_overflow=self.on_overflow,
            episodes=self.episodes,
            limit=self.limit,
            shard_frames=self.shard_frames,
        )

    def _print_manifest(self, manifest: Manifest, progress) -> None:
        from pioxide.cli import show

        totals, max_len = manifest.totals, manifest.settings["max_len"]
        rows = totals["rows"]
        if progress.made:
            rate = progress.made / progress.seconds
            speed = f"{progress.seconds:.1f} s, {rate:,.0f} frames a second"
        else:
            speed = "all of it was there already"
        print(f"{self.output}: complete ({speed})")
        lines = [
            ("rows", f"{rows:,} from {show.counted(totals['episodes'], 'episode')}"),
            ("shards", f"{len(manifest.shards):,}, {show.size(totals['bytes'])}"),
        ]
        if rows:
            lines.append(
                (
                    "tokens a row",
                    f"mean {totals['tokens'] / rows:.1f}, longest {totals['longest']} of {max_len}",
                )
            )
        if self.model == "pi0_fast" and rows:
            lines.append(("action tokens a row", f"mean {totals['action_tokens'] / rows:.1f}"))
            lines.append(("rows clipped", show.share(totals["clipped_rows"], rows)))
        lines.append(("rows cut", show.share(totals["truncated"], rows)))
        show.facts(lines)
        if totals["truncated"]:
            what = (
                "their actions are incomplete and don't decode"
                if self.model == "pi0_fast"
                else "the end of their prompt is missing"
            )
            print(
                f"\nWARNING: {show.share(totals['truncated'], rows)} rows are longer than {max_len} tokens: "
                f"{what}.\n"
                f"--max-len {totals['longest']} holds them all (a new directory; train with that length too)."
            )
        print(f"\nnext: pioxide inspect {self.output}")

    def _print_estimate(self, job: Job) -> None:
        from pioxide.cli import show
        from pioxide.shards import estimate

        made = estimate(job, self.output)
        print(f"{self.output}: nothing written (dry run)")
        lines = [
            ("rows", f"{made.rows:,} from {show.counted(made.episodes, 'episode')}"),
            (
                "shards",
                f"{made.shards:,}" + (f", {made.finished:,} of them finished" if made.finished else ""),
            ),
            ("size", f"about {show.size(made.bytes)}"),
            ("tokens a row", f"about {made.tokens:.1f}, {made.tokens * made.rows / 1e6:,.1f} million in all"),
            ("longest", f"{made.longest} of {job.settings.max_len} in a sample of {made.sampled:,} rows"),
            ("rows cut", f"about {made.truncated:.1%}"),
        ]
        if self.model == "pi0_fast":
            lines.append(("rows clipped", f"about {made.clipped:.1%} (--on-overflow {self.on_overflow})"))
        show.facts(lines)
