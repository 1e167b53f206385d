"""The page of `pioxide check`: a table of datasets, and what was found in each, with pictures of where."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pioxide.data import Checked, CheckSettings, Finding, LeRobotDataset, Level
from pioxide.errors import PioxideError
from pioxide.report.document import Column, Figure, Page, Remark, Section, Table, Tile, count, render, write
from pioxide.report.spots import draw

# Pictures for one dataset, and for all: each is some tens of kilobytes.
MOST, MOST_IN_ALL = 12, 80


def write_check_page(done: Sequence[Checked], settings: CheckSettings, path: Path) -> None:
    """Writes the page, complete or not at all.

    Args:
        done: what `check_datasets` gave; the datasets are read again for the pictures.
        settings: how they were checked.
        path: the file.

    Raises:
        OutputError: the file can't be written.
    """
    write(check_page(done, settings), path)


def check_page(done: Sequence[Checked], settings: CheckSettings) -> str:
    """Returns the document; see `write_check_page`."""
    faults = sum(checked.count(Level.FAULT) for checked in done)
    warnings = sum(checked.count(Level.WARNING) for checked in done)
    well = sum(not checked.findings for checked in done)
    kinds = Counter(finding.code.value for checked in done for finding in checked.findings)
    tiles = [
        Tile("Datasets in order", f"{well:,}", f"of {len(done):,}", main=True),
        Tile("Faults", f"{faults:,}", "lose episodes or pictures", bad=faults > 0),
        Tile("Warnings", f"{warnings:,}", "to be seen, and decided"),
        Tile("Episodes", f"{sum(checked.episodes for checked in done):,}"),
        Tile("Frames", f"{sum(checked.frames for checked in done):,}"),
    ]
    usual = ", ".join(f"{code} ({number})" for code, number in kinds.most_common(4))
    remarks = [Remark("note", f"Most often: {usual}.")] if len(done) > 1 and usual else []
    sections: list[Section] = []
    if len(done) > 1 or not done[0].findings:
        sections.append(_table(done))
    left = MOST_IN_ALL
    names = Counter(checked.path.name for checked in done)
    for number, checked in enumerate(done):
        if checked.findings or (checked.unseen and len(done) == 1):
            alone = names[checked.path.name] == 1 and checked.path.name
            title = checked.path.name if alone else str(checked.path)
            sections.append(_dataset(title, checked, settings, f"d{number}", min(MOST, left)))
            left -= len(sections[-1].figures)
    return render(
        Page(
            eyebrow="Datasets checked",
            title=done[0].path.resolve().name if len(done) == 1 else count(len(done), "dataset"),
            lead=_lead(done),
            tiles=tiles,
            remarks=remarks if kinds else [Remark("fine", "Nothing was found.")],
            sections=sections,
        )
    )


def _lead(done: Sequence[Checked]) -> str:
    if len(done) > 1:
        return "Each episode was read once; nothing was written, and nothing fitted."
    only = done[0]
    return f"LeRobot {only.version or 'dataset, unreadable'}, robot {only.robot or 'unknown'}, {only.path}"


def _table(done: Sequence[Checked]) -> Section:
    head = [Column(title) for title in ("dataset", "version", "episodes", "frames", "faults", "warnings")]
    rows = []
    for checked in done:
        figures = (f"{checked.episodes:,}", f"{checked.frames:,}") if checked.version else ("", "")
        counts = (str(checked.count(level) or "") for level in (Level.FAULT, Level.WARNING))
        rows.append([str(checked.path), checked.version or "?", *figures, *counts])
    return Section("All datasets", table=Table(head, rows))


def _dataset(title: str, checked: Checked, settings: CheckSettings, name: str, most: int) -> Section:
    remarks = [
        Remark(
            finding.level.value, f"{finding.place}: {finding.message}", finding.way_out, finding.code.value
        )
        for finding in checked.findings
    ]
    remarks += [Remark("note", f"Not looked at: {what}") for what in checked.unseen]
    figures = _figures(checked, settings, name, most)
    shown = [finding for finding in checked.findings if finding.spot is not None]
    intro = f"{count(len(checked.findings), 'finding')}."
    if len(figures) < len(shown):
        intro += f" Pictures are of the first {len(figures)}."
    return Section(title, intro, remarks=remarks, figures=figures)


def _figures(checked: Checked, settings: CheckSettings, name: str, most: int) -> list[Figure]:
    seen: list[Finding] = [finding for finding in checked.findings if finding.spot is not None][:most]
    if not seen:
        return []
    figures: list[Figure] = []
    try:
        dataset = LeRobotDataset.open(checked.path)
        of = dataset, settings.columns(dataset)
        for number, finding in enumerate(seen):
            picture = draw(of, finding, f"{name}-{number}")
            if picture is not None:
                figures.append(Figure(f"{finding.place}", f"{finding.message}.", picture))
    except PioxideError:  # it has changed since it was checked
        return figures
    return figures
