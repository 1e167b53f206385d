"""The page: one self-contained HTML file with every picture inlined, no script, nothing fetched."""

import re
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path

import numpy as np

from pioxide import __version__
from pioxide.files import atomic_file
from pioxide.report.density import action_density
from pioxide.report.digits import short
from pioxide.report.episodes import tokens_by_episode
from pioxide.report.error_map import error_map
from pioxide.report.facts import MODELS, JointRanges, Report
from pioxide.report.findings import Level, findings
from pioxide.report.histogram import prompt_lengths, token_use, tokens_per_chunk
from pioxide.report.ranges import ranges
from pioxide.report.reconstruction import error_by_joint
from pioxide.report.style import Picture
from pioxide.report.worst import worst_chunk


def write_page(report: Report, path: Path) -> None:
    """Writes the page, complete or not at all.

    Raises:
        OutputError: the file can't be written.
    """
    html = page(report).encode(errors="backslashreplace")  # a path need not be UTF-8
    with atomic_file(path) as file:
        file.write(html)


def page(report: Report) -> str:
    """The whole document."""
    source = report.source
    css = files("pioxide.report").joinpath("page.css").read_text(encoding="utf-8")
    sections = [_tokens(report), _reconstruction(report), _worst(report)]
    sections += [_ranges(report), _left_out(report), _made(report)]
    sections = [section for section in sections if section]
    lead = f"{_count(source.episodes, 'episode')}, {_count(source.frames, 'frame')} at {source.fps:g} Hz. "
    lead += f"A chunk is {source.horizon} steps of {_count(source.dim, 'joint')}."
    eyebrow = MODELS.get(source.model, source.model) + ("" if source.model == "fit" else " training tokens")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(source.name)} · {MODELS.get(source.model, source.model)} · pioxide</title>
<link rel="icon" href="data:,">
<style>
{css}</style>
</head>
<body>
<header>
<p class="eyebrow">{escape(eyebrow)}</p>
<h1>{escape(source.name)}</h1>
<p class="lead">{escape(lead)}</p>
{_numbers(report)}
{_findings(report)}
{_contents(sections)}
</header>
<main>
{"".join(sections)}
</main>
<footer>Made by pioxide {__version__}.</footer>
</body>
</html>
"""


def _numbers(report: Report) -> str:
    """The handful of figures that a reader compares between two runs."""
    cells: list[tuple[str, str, str, bool]] = []
    if report.tokens is not None and report.compression is not None:
        cells.append(
            ("Tokens a chunk", f"{report.tokens.per_chunk.mean():.1f}", f"of {report.naive_tokens:,}", False)
        )
        cells.append(
            ("Compression", f"{report.compression:.1f}×", f"{report.bit_compression:.1f}× in bits", False)
        )
        clipped = report.tokens.clipped_chunks
        cells.append(("Chunks clipped", f"{clipped:,}", f"of {len(report.tokens.per_chunk):,}", clipped > 0))
    if report.reconstruction is not None:
        errors = report.reconstruction
        cells.append(("Error, RMS", short(errors.overall_rms), "normalised", False))
        cells.append(("Error, largest", short(float(errors.worst.max())), "normalised", False))
    if report.prompts is not None:
        cut = report.prompts.truncated
        cells.append(("Prompts cut", f"{cut:,}", f"of {len(report.prompts.lengths):,}", cut > 0))
        if report.tokens is None and len(report.prompts.lengths):
            longest, cap = int(report.prompts.lengths.max()), report.prompts.max_len
            cells.append(("Longest prompt", f"{longest}", f"of {cap} tokens", longest > cap))
    if report.tokens is None and report.actions is not None:
        reach = float(report.actions.reach.max(initial=0))
        cells.append(("Furthest action", f"{reach:.1f}", "after normalisation by quantiles", False))
    if report.skipped:
        cells.append(("Episodes left out", f"{len(report.skipped)}", "", True))
    inner = ""
    for i, (label, value, note, bad) in enumerate(cells):
        # The first is what the page is about; what is wrong is to be seen beside it.
        kinds = " ".join(kind for kind, holds in (("main", i == 0), ("bad", bad)) if holds)
        start = f'<div class="{kinds}">' if kinds else "<div>"
        inner += f"{start}<dt>{escape(label)}</dt>"
        inner += f"<dd>{escape(value)} <small>{escape(note)}</small></dd></div>"
    return f'<dl class="numbers">{inner}</dl>'


def _findings(report: Report) -> str:
    """What a person should do something about; that something is in order, the figures above say."""
    found = [f for f in findings(report) if f.level is not Level.GOOD]
    items = "".join(f'<li class="{f.level.value}">{escape(f.text)}</li>' for f in found)
    return f'<ul class="findings">{items or "<li class=good>Nothing to worry about.</li>"}</ul>'


def _contents(sections: Sequence[str]) -> str:
    """Links to the sections."""
    titles = [found[1] for section in sections if (found := re.search("<h2 id=[^>]*>(.*?)</h2>", section))]
    links = "".join(f'<a href="#{_anchor(title)}">{title}</a>' for title in titles)
    return f"<nav>{links}</nav>"


def _tokens(report: Report) -> str:
    """Action tokens and prompts, whichever the model has."""
    tokens, prompts = report.tokens, report.prompts
    figures, intro = [], ""
    if tokens is not None and len(tokens.per_chunk):
        note = "Smooth chunks take few tokens, fast ones many."
        figures.append(_figure("Tokens a chunk", note, tokens_per_chunk(tokens.per_chunk)))
        intro = _bars(report, float(tokens.per_chunk.mean()))
    if prompts is not None and len(prompts.lengths):
        note = (
            "Text, state and actions. A prompt that is cut loses its last action tokens and can't be decoded."
            if report.source.model == "pi0_fast"
            else "Text and, where the model reads it there, the state. A prompt that is cut loses its end."
        )
        figures.append(_figure("Prompt lengths", note, prompt_lengths(prompts.lengths, prompts.max_len)))
    if tokens is not None and len(tokens.per_chunk):
        if len(np.unique(tokens.episode)) > 1:
            note = "An episode apart from the others was recorded differently, or something went wrong in it."
            figures.append(_figure("By episode", note, tokens_by_episode(tokens.episode, tokens.per_chunk)))
        if tokens.use.any():  # counting them takes the dataset
            note = (
                "Tokens that never occur cost only their place; a vocabulary mostly unused could be smaller."
            )
            figures.append(_figure("Use of the vocabulary", note, token_use(tokens.use)))
    return _section("Tokens" if tokens is not None else "Prompts", intro, figures) if figures else ""


def _bars(report: Report, mean: float) -> str:
    """Binning and the codec as two bars on one scale."""
    naive = report.naive_tokens
    rows = [
        (
            "binning",
            naive,
            f"{naive:,} tokens a chunk, one for each of {report.source.horizon} × {report.source.dim} values",
        ),
        (
            "FAST" if report.tokens is None else report.tokens.codec,
            mean,
            f"{mean:.1f} tokens a chunk, each standing for {naive / mean:.1f} values",
        ),
    ]
    inner = "".join(
        f"<div><dt>{label}</dt>"
        f'<dd><i style="width:{value / naive:.2%}"></i><span>{escape(note)}</span></dd></div>'
        for label, value, note in rows
    )
    return f'<dl class="bars">{inner}</dl>'


def _reconstruction(report: Report) -> str:
    errors = report.reconstruction
    if errors is None:
        return ""
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
        _figure(
            "Error by joint",
            f"{lost} A joint that stands out moves abruptly or has narrow quantiles.",
            error_by_joint(names, errors),
        ),
        _figure(
            "Error by joint and step",
            "A cosine transform is least sure at both ends of a chunk. Only the steps that the robot carries "
            "out count.",
            error_map(names, errors),
        ),
    ]
    head = ["joint", "RMS", "99%", "largest", "RMS, own units", "99%, own units", "largest, own units"]
    rows = [
        [name, *(short(float(x)) for x in (rms, p99, top, rms * unit, p99 * unit, top * unit))]
        for name, rms, p99, top, unit in zip(
            names, errors.rms, errors.p99, errors.worst, errors.unit, strict=True
        )
    ]
    intro = f"What the tokens decode to, against what went in, over {measured}."
    return _section("Reconstruction", intro, figures, _details("The same in numbers", head, rows))


def _worst(report: Report) -> str:
    errors = report.reconstruction
    if errors is None or not errors.worst_chunks:
        return ""
    figures = [
        _figure(
            f"Episode {chunk.episode}, frame {chunk.frame}",
            "",
            worst_chunk(i, report.source.joints, chunk),
            small=True,
        )
        for i, chunk in enumerate(errors.worst_chunks)
    ]
    intro = "The largest errors, one an episode where there are as many, at the joints that suffered most."
    return _section("The worst chunks", intro, figures, three=True)


def _ranges(report: Report) -> str:
    explain = "Bar: the middle 98% of the values. Thin line: the extremes. Dot: the mean."
    figures: list[str] = []
    after = ""
    if report.actions is not None:
        after += _details("Actions in numbers", *_range_rows(report.actions))
        figures.append(_figure("Actions against their quantiles", explain, ranges("actions", report.actions)))
    if report.state is not None:
        figures.append(_figure("State against its quantiles", explain, ranges("state", report.state)))
        after += _details("State in numbers", *_range_rows(report.state))
    if report.density is not None:
        note = "What the network has to produce. Between the dashed lines lie 98% of a joint's values."
        figures.append(
            _figure("Normalised actions", note, action_density(report.source.joints, report.density))
        )
    intro = (
        "Each joint over the whole dataset, in the units that it was recorded in (datasets don't say which), "
        "and what normalisation makes of it."
    )
    return _section("Statistics", intro, figures, after) if figures else ""


def _range_rows(joints: JointRanges) -> tuple[list[str], list[list[str]]]:
    head = ["joint", "min", "q01", "mean", "q99", "max", "std", "outside", "reach", ""]
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
    return head, rows


def _left_out(report: Report) -> str:
    if not report.skipped:
        return ""
    rows = "".join(
        f'<tr><td>{episode}</td><td class="text">{escape(reason)}</td></tr>'
        for episode, reason in report.skipped
    )
    head = '<tr><th>episode</th><th class="text">why</th></tr>'
    table = f'<div class="scroll"><table>{head}{rows}</table></div>'
    intro = "<p>Episodes that could not be read as they should.</p>"
    return f"<section>{_heading('Left out')}{intro}{table}</section>"


def _made(report: Report) -> str:
    source = report.source
    rows = {"dataset": source.dataset, "robot": source.robot, **source.settings}
    inner = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in rows.items() if v)
    return f'<section>{_heading("How it was made")}<dl class="made">{inner}</dl></section>'


def _section(title: str, intro: str, figures: Iterable[str], after: str = "", three: bool = False) -> str:
    grid = f'<div class="pictures{" three" if three else ""}">{"".join(figures)}</div>'
    text = intro if intro.startswith("<dl") else f"<p>{escape(intro)}</p>"
    return f"<section>{_heading(title)}{text}{grid}{after}</section>\n"


def _heading(title: str) -> str:
    return f'<h2 id="{_anchor(title)}">{escape(title)}</h2>'


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")


def _figure(title: str, caption: str, picture: Picture, small: bool = False) -> str:
    text = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<figure{' class=small' if small else ''}><h3>{escape(title)}</h3>{text}{picture.svg}</figure>\n"


def _details(summary: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return f"<details><summary>{escape(summary)}</summary>{_table(head, rows)}</details>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    titles = "".join(f"<th>{escape(x)}</th>" for x in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(x)}</td>" for x in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{titles}</tr>{body}</table></div>'


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
