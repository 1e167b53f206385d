"""How every picture looks, and its way from matplotlib into the page: SVG coloured by the page's CSS.

A picture is drawn with stand-in colours; in the SVG they become CSS variables, so one picture serves a light
and a dark page. Text stays text: it can be selected, searched, and is set in the page's own font.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Stand-ins: drawn literally by matplotlib, replaced by var(--name) in `to_svg`. Nothing else may use them.
INK = "#000101"
SOFT = "#000202"
RULE = "#000303"
PAPER = "#000404"
FIRST = "#000505"
SECOND = "#000606"
FAINT = "#000707"
_VARIABLES = {
    INK: "ink",
    SOFT: "soft",
    RULE: "rule",
    PAPER: "paper",
    FIRST: "first",
    SECOND: "second",
    FAINT: "faint",
}

WIDTH = 4.7  # inches; the page scales pictures, so this sets the size of text against the size of the picture

_RC = {
    "svg.fonttype": "none",
    "svg.hashsalt": "pioxide",
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.labelsize": 8.5,
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "axes.edgecolor": RULE,
    "axes.labelcolor": SOFT,
    "axes.linewidth": 0.8,
    "axes.facecolor": "none",
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.xmargin": 0.02,
    "figure.facecolor": "none",
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "lines.linewidth": 1.4,
    "lines.solid_capstyle": "round",
}


@dataclass(frozen=True)
class Picture:
    """One finished picture: SVG markup for the page, and the sentence that a screen reader says instead."""

    svg: str
    alt: str


@contextmanager
def canvas(height: float, width: float = WIDTH) -> Iterator[Figure]:
    """Gives an empty figure of `width` x `height` inches with pioxide's look in force."""
    with matplotlib.rc_context(_RC):  # pyright: ignore[reportArgumentType]
        yield Figure(figsize=(width, height), layout="constrained")


def finish(figure: Figure, name: str, alt: str) -> Picture:
    """Turns a drawn figure into a `Picture`; `name` keeps its SVG ids apart from those of other pictures."""
    return Picture(to_svg(figure, name, alt), alt)


def to_svg(figure: Figure, name: str, alt: str) -> str:
    """Returns SVG markup without prolog, fixed size, creation date or literal colours."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    head, body = svg.split(">", 1)
    view_box = re.search(r'viewBox="[^"]+"', head)
    assert view_box is not None
    label = alt.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    head = f'<svg {view_box[0]} role="img" aria-label="{label}"'
    # Ids of several inlined SVGs share one page.
    body = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', body)
    body = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", body)
    body = re.sub(r'xlink:href="#([^"]+)"', rf'href="#{name}-\1"', body)
    body = body.replace("xlink:href=", "href=")
    for stand_in, variable in _VARIABLES.items():
        body = body.replace(stand_in, f"var(--{variable})")
    body = re.sub(r"font-family:[^;\"]+;?", "", body)
    body = body.replace("font: 8.5px 'DejaVu Sans'", "font-size: 8.5px")
    return f"{head}>{body}".rstrip()


def grid(axes: Axes, axis: str = "y") -> None:
    """Draws faint grid lines across one axis."""
    axes.grid(visible=True, axis=axis)  # pyright: ignore[reportArgumentType]


def thousands(value: float, _position: object = None) -> str:
    """Returns 12,345 for a count on an axis."""
    return f"{value:,.0f}"
