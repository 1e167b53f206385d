"""What a page holds, as values, and its way into one self-contained HTML file: no script, nothing fetched.

The template escapes all text; a picture is the only markup that is taken as it is.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from pioxide import __version__
from pioxide.errors import InputError
from pioxide.files import atomic_file
from pioxide.report.style import Picture

try:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup
except ImportError:  # pragma: no cover - the extra is not installed
    raise InputError('a page needs Jinja2: pip install "pioxide[report]"') from None


@dataclass(frozen=True)
class Tile:
    """One of the figures that a reader compares between two pages.

    Attributes:
        label: what it is.
        value: the figure.
        note: what it is measured in, or against.
        main: whether the page is about it.
        bad: whether it is one to do something about.
    """

    label: str
    value: str
    note: str = ""
    main: bool = False
    bad: bool = False

    @property
    def kinds(self) -> str:
        """Returns its CSS classes."""
        return " ".join(kind for kind, holds in (("main", self.main), ("bad", self.bad)) if holds)


@dataclass(frozen=True)
class Remark:
    """One sentence of what was found.

    Attributes:
        kind: fault, warning, note or fine: how it is marked.
        text: the sentence.
        way_out: what to do about it.
        code: a short name to look it up by.
    """

    kind: str
    text: str
    way_out: str = ""
    code: str = ""


@dataclass(frozen=True)
class Column:
    """The head of a table's column; `words` are set to the left and wrap."""

    text: str
    words: bool = False


@dataclass(frozen=True)
class Table:
    """A table, folded away below its title where it is one of a section's details."""

    head: Sequence[Column]
    rows: Sequence[Sequence[str]]
    title: str = ""


@dataclass(frozen=True)
class Figure:
    """A picture with its title and what to look for."""

    title: str
    caption: str
    drawn: Picture

    @property
    def picture(self) -> Markup:
        """Returns the SVG, which was made here and is not escaped."""
        return Markup(self.drawn.svg)


@dataclass(frozen=True)
class Bar:
    """One bar of several on one scale; `share` of the longest."""

    label: str
    share: float
    note: str

    @property
    def width(self) -> str:
        """Returns how wide it is drawn."""
        return f"{self.share:.2%}"


@dataclass(frozen=True)
class Section:
    """A part of the page under its own heading; what is empty is left out.

    Attributes:
        title: the heading.
        intro: a sentence or two below it.
        bars: in place of the sentence.
        remarks: what was found.
        table: shown in full.
        figures: pictures, two a row, or three where they are small.
        three: whether they are.
        wide: whether each takes the whole width.
        details: tables that are folded away.
        made: names and values.
    """

    title: str
    intro: str = ""
    bars: Sequence[Bar] = ()
    remarks: Sequence[Remark] = ()
    table: Table | None = None
    figures: Sequence[Figure] = ()
    three: bool = False
    wide: bool = False
    details: Sequence[Table] = ()
    made: Sequence[tuple[str, str]] = ()

    @property
    def anchor(self) -> str:
        """Returns what links lead to."""
        return re.sub(r"\s+", "-", self.title.strip().lower())


@dataclass(frozen=True)
class Page:
    """A whole page."""

    eyebrow: str
    title: str
    lead: str
    remarks: Sequence[Remark]
    sections: Sequence[Section]
    tiles: Sequence[Tile] = ()


def render(page: Page) -> str:
    """Returns the document."""
    loader = PackageLoader("pioxide.report")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    css = files("pioxide.report").joinpath("templates/page.css").read_text(encoding="utf-8")
    template = environment.get_template("page.html")
    return template.render(page=page, css=Markup(css), version=__version__) + "\n"


def write(html: str, path: Path) -> None:
    """Writes a page, complete or not at all.

    Raises:
        OutputError: the file can't be written.
    """
    content = html.encode(errors="backslashreplace")  # a path need not be UTF-8
    with atomic_file(path) as file:
        file.write(content)


def count(number: int, noun: str) -> str:
    """Returns "1 joint" or "1,234 joints"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
