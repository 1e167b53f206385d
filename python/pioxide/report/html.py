"""The page about tokens or a fitted tokenizer: figures, sentences and pictures of what `inspect` found."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pioxide.report.density import action_density
from pioxide.report.digits import short
from pioxide.report.document import (
    Bar,
    Column,
    Figure,
    Page,
    Remark,
    Section,
    Table,
    Tile,
    count,
    render,
    write,
)
from pioxide.report.episodes import tokens_by_episode
from pioxide.report.error_map import error_map
from pioxide.report.facts import JointRanges, Report
from pioxide.report.findings import Level, findings
from pioxide.report.histogram import prompt_lengths, token_use, tokens_per_chunk
from pioxide.report.ranges import ranges
from pioxide.report.reconstruction import error_by_joint
from pioxide.report.worst import worst_chunk


def write_page(report: Report, path: str | os.PathLike[str]) -> None:
    """Writes the page, complete or not at all.

    Raises:
        OutputError: the file can't be written.
    """
    write(page(report), Path(path))


def page(report: Report) -> str:
    """Returns the whole document."""
    source = report.source
    lead = f"{count(source.episodes, 'episode')}, {count(source.frames, 'frame')} at {source.fps:g} Hz. "
    lead += f"A chunk is {source.horizon} steps of {count(source.dim, 'joint')}."
    sections = (_tokens, _reconstruction, _worst, _ranges, _left_out, _made)
    return render(
        Page(
            eyebrow=report.subject + ("" if source.model == "fit" else " training tokens"),
            title=source.name,
            lead=lead,
            tiles=_numbers(report),
            remarks=_findings(report),
            sections=[made for section in sections if (made := section(report)) is not None],
        )
    )


def _numbers(report: Report) -> list[Tile]:
    """The handful of figures that a reader compares between two runs; the first is what the page is about."""
    tiles: list[Tile] = []
    if report.tokens is not None and report.compression is not None:
        mean = f"{report.tokens.per_chunk.mean():.1f}"
        tiles.append(Tile("Tokens a chunk", mean, f"of {report.naive_tokens:,}", main=True))
        tiles.append(
            Tile("Compression", f"{report.compression:.1f}×", f"{report.bit_compression:.1f}× in bits")
        )
        clipped, total = report.tokens.clipped_chunks, report.tokens.chunks
        tiles.append(Tile("Chunks clipped", f"{clipped:,}", f"of {total:,}", bad=clipped > 0))
    if report.reconstruction is not None:
        errors = report.reconstruction
        tiles.append(Tile("Error, RMS", short(errors.overall_rms), "normalised"))
        tiles.append(Tile("Error, largest", short(float(errors.worst.max())), "normalised"))
    if report.prompts is not None:
        cut, total = report.prompts.truncated, len(report.prompts.lengths)
        tiles.append(Tile("Prompts cut", f"{cut:,}", f"of {total:,}", main=not tiles, bad=cut > 0))
        if report.tokens is None and total:
            longest, cap = int(report.prompts.lengths.max()), report.prompts.max_len
            tiles.append(Tile("Longest prompt", f"{longest}", f"of {cap} tokens", bad=longest > cap))
    if report.tokens is None and report.actions is not None:
        reach = f"{float(report.actions.reach.max(initial=0)):.1f}"
        tiles.append(Tile("Furthest action", reach, "after normalisation by quantiles", main=not tiles))
    if report.skipped:
        tiles.append(Tile("Episodes left out", f"{len(report.skipped)}", main=not tiles, bad=True))
    return tiles


def _findings(report: Report) -> list[Remark]:
    """What a person should do something about; that something is in order, the figures above say."""
    found = [Remark(f.level.value, f.text) for f in findings(report) if f.level is not Level.GOOD]
    return found or [Remark("fine", "Nothing to worry about.")]


def _tokens(report: Report) -> Section | None:
    """Action tokens and prompts, whichever the model has."""
    tokens, prompts = report.tokens, report.prompts
    figures: list[Figure] = []
    bars: list[Bar] = []
    if tokens is not None and len(tokens.per_chunk):
        note = "Smooth chunks take few tokens, fast ones many."
        figures.append(Figure("Tokens a chunk", note, tokens_per_chunk(tokens.per_chunk)))
        bars = _bars(report, float(tokens.per_chunk.mean()))
    if prompts is not None and len(prompts.lengths):
        note = (
            "Text, state and actions. A prompt that is cut loses its last action tokens and can't be decoded."
            if report.source.model == "pi0_fast"
            else "Text and, where the model reads it there, the state. A prompt that is cut loses its end."
        )
        figures.append(Figure("Prompt lengths", note, prompt_lengths(prompts.lengths, prompts.max_len)))
    if tokens is not None and len(tokens.per_chunk):
        if len(np.unique(tokens.episode)) > 1:
            note = "An episode apart from the others was recorded differently, or something went wrong in it."
            figures.append(Figure("By episode", note, tokens_by_episode(tokens.episode, tokens.per_chunk)))
        if tokens.use.any():  # counting them takes the dataset
            note = (
                "Tokens that never occur cost only their place; a vocabulary mostly unused could be smaller."
            )
            figures.append(Figure("Use of the vocabulary", note, token_use(tokens.use)))
    if not figures:
        return None
    return Section("Tokens" if tokens is not None else "Prompts", bars=bars, figures=figures)


def _bars(report: Report, mean: float) -> list[Bar]:
    """Binning and the codec as two bars on one scale."""
    naive, source = report.naive_tokens, report.source
    each = f"{naive:,} tokens a chunk, one for each of {source.horizon} × {source.dim} values"
    short = f"{mean:.1f} tokens a chunk, each standing for {naive / mean:.1f} values"
    codec = "FAST" if report.tokens is None else report.tokens.codec
    return [Bar("binning", 1.0, each), Bar(codec, mean / naive, short)]


def _reconstruction(report: Report) -> Section | None:
    errors = report.reconstruction
    if errors is None:
        return None
    names = report.source.joints
    measured = (
        f"{errors.measured:,} of {errors.total:,} chunks" if errors.measured < errors.total else "every chunk"
    )
    codec = "FAST" if report.tokens is None else report.tokens.codec
    lost = {
        "FAST": "Rounding of the coefficients is all that FAST loses, so joints should look alike.",
        "BEAST": "A spline can't follow what is faster than its control points, and those are rounded.",
    }.get(codec, "Every number is rounded to its bin, and beyond the last one it is clipped.")
    figures = [
        Figure(
            "Error by joint",
            f"{lost} A joint that stands out moves abruptly or has narrow quantiles.",
            error_by_joint(names, errors),
        ),
        Figure(
            "Error by joint and step",
            "A cosine transform is least sure at both ends of a chunk. Only the steps that the robot carries "
            "out count.",
            error_map(names, errors),
        ),
    ]
    titles = ["joint", "RMS", "99%", "largest", "RMS, own units", "99%, own units", "largest, own units"]
    rows = [
        [name, *(short(float(x)) for x in (rms, p99, top, rms * unit, p99 * unit, top * unit))]
        for name, rms, p99, top, unit in zip(
            names, errors.rms, errors.p99, errors.worst, errors.unit, strict=True
        )
    ]
    intro = f"What the tokens decode to, against what went in, over {measured}."
    details = [Table([Column(title) for title in titles], rows, "The same in numbers")]
    return Section("Reconstruction", intro, figures=figures, details=details)


def _worst(report: Report) -> Section | None:
    errors = report.reconstruction
    if errors is None or not errors.worst_chunks:
        return None
    figures = [
        Figure(
            f"Episode {chunk.episode}, frame {chunk.frame}",
            "",
            worst_chunk(i, report.source.joints, chunk),
        )
        for i, chunk in enumerate(errors.worst_chunks)
    ]
    intro = "The largest errors, one an episode where there are as many, at the joints that suffered most."
    return Section("The worst chunks", intro, figures=figures, three=True)


def _ranges(report: Report) -> Section | None:
    explain = "Bar: the middle 98% of the values. Thin line: the extremes. Dot: the mean."
    figures: list[Figure] = []
    details: list[Table] = []
    if report.actions is not None:
        details.append(_range_rows(report.actions, "Actions in numbers"))
        figures.append(Figure("Actions against their quantiles", explain, ranges("actions", report.actions)))
    if report.state is not None:
        figures.append(Figure("State against its quantiles", explain, ranges("state", report.state)))
        details.append(_range_rows(report.state, "State in numbers"))
    if report.density is not None:
        note = "What the network has to produce. Between the dashed lines lie 98% of a joint's values."
        figures.append(
            Figure("Normalised actions", note, action_density(report.source.joints, report.density))
        )
    intro = (
        "Each joint over the whole dataset, in the units that it was recorded in (datasets don't say which), "
        "and what normalisation makes of it."
    )
    return Section("Statistics", intro, figures=figures, details=details) if figures else None


def _range_rows(joints: JointRanges, title: str) -> Table:
    titles: Sequence[str] = ["joint", "min", "q01", "mean", "q99", "max", "std", "outside", "reach", ""]
    rows = []
    for i, name in enumerate(joints.names):
        flag = "never moves" if joints.constant[i] else "q01 = q99" if joints.degenerate[i] else ""
        values = (joints.low, joints.q01, joints.mean, joints.q99, joints.high, joints.std)
        still = joints.constant[i] or joints.degenerate[i]
        rows.append(
            [
                name,
                *(short(float(x[i])) for x in values),
                f"{joints.outside[i]:.1%}",
                "" if still else f"{joints.reach[i]:.1f}",
                flag,
            ]
        )
    return Table([Column(head) for head in titles], rows, title)


def _left_out(report: Report) -> Section | None:
    if not report.skipped:
        return None
    rows = [[str(episode), reason] for episode, reason in report.skipped]
    table = Table([Column("episode"), Column("why", words=True)], rows)
    return Section("Left out", "Episodes that could not be read as they should.", table=table)


def _made(report: Report) -> Section:
    source = report.source
    rows = {"dataset": source.dataset, "robot": source.robot, **source.settings}
    return Section("How it was made", made=[(key, value) for key, value in rows.items() if value])
