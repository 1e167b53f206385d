"""Draws the pictures of docs/architecture.md: the house, from pyproject.toml, and two ways through it.

python tools/draw_architecture.py            # writes docs/images/*.svg
"""

import tomllib
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"

# Fill and edge: what a room needs.
RUST, NUMPY, DATA, JAX, PLAIN = (
    ("#f6ddcc", "#b5561f"),
    ("#d8e9f6", "#1767a6"),
    ("#e2ecd9", "#4f7d2b"),
    ("#ece2f4", "#74489c"),
    ("#eeeeee", "#777777"),
)
ROOMS = {
    "cli": ("a file a command", PLAIN),
    "report": ("pictures and doctor", DATA),
    "evaluate": ("closed loop in simulators", JAX),
    "serve": ("network: server, clients", JAX),
    "train": ("loop, losses, recipes", JAX),
    "shards": ("the offline job", DATA),
    "policy": ("pipeline + engine, sessions", JAX),
    "control": ("runner, queue, safety", NUMPY),
    "engine": ("a model compiled, batched", JAX),
    "sampling": ("flow, RTC, grammar", JAX),
    "weights": ("a file a format", JAX),
    "data": ("datasets on disk, video", DATA),
    "models": ("one transformer", JAX),
    "fetch": ("downloads, cache", PLAIN),
    "contract": ("what numbers mean, pipeline", NUMPY),
    "robots": ("a file a robot", NUMPY),
    "transforms": ("steps with their way back", NUMPY),
    "codec": ("text and action tokens", NUMPY),
    "family": ("facts of the models", NUMPY),
    "_core": ("compiled from rust/", RUST),
    "files": ("whole or not at all", NUMPY),
    "errors": ("said once", NUMPY),
    "demo": ("episodes that ship", PLAIN),
    "notebook": ("HTML of objects", PLAIN),
}
LEGEND = [("NumPy", NUMPY), ("pyarrow", DATA), ("JAX", JAX), ("Rust", RUST), ("neither", PLAIN)]

OBSERVATION = [
    ("the robot", PLAIN, [("an observation", "images, state, instruction")]),
    (
        "contract.Pipeline",
        NUMPY,
        [
            ("robot's mapping", "order, signs, grippers"),
            ("normalise", "by the contract's statistics"),
            ("resize", "uint8, padded to a square"),
            ("prompt", "tokens, in Rust"),
        ],
    ),
    (
        "engine.Engine",
        JAX,
        [
            ("one upload", "a batch of 1, 2, 4 ..."),
            ("SigLIP", "the cameras that are there"),
            ("prefix", "keys and values, once"),
            ("flow steps or tokens", "ten, or under a grammar"),
        ],
    ),
    (
        "contract.Pipeline",
        NUMPY,
        [
            ("slice", "the robot's numbers"),
            ("unnormalise", "the way back"),
            ("absolute", "plus the state"),
            ("robot's mapping", "inverted"),
        ],
    ),
    (
        "control.Runner",
        NUMPY,
        [
            ("ActionQueue", "late actions are dropped"),
            ("SafetyFilter", "finite, within the limits"),
            ("an action", "every tick, on time"),
        ],
    ),
]
EPISODE = [
    ("data", DATA, [("LeRobot dataset", "v2.0, v2.1, v3.0"), ("check", "what is wrong with it")]),
    (
        "shards.fit",
        DATA,
        [("statistics", "exact"), ("codec", "FAST, in Rust"), ("contract.json", "what numbers mean")],
    ),
    (
        "shards or data.loader",
        DATA,
        [
            ("chunks", "windows of H actions"),
            ("Pipeline", "the policy's own"),
            ("rows, batches", "the same order again"),
        ],
    ),
    ("train", JAX, [("update", "loss, AdamW, average"), ("checkpoint", "with contract and card")]),
    (
        "policy",
        JAX,
        [
            ("evaluate", "success, with its interval"),
            ("serve", "to many robots"),
            ("control", "in the same process"),
        ],
    ),
]  # fmt: skip


def layers() -> list[list[str]]:
    """Returns the rows of the house, as the import contract has them."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    rows = next(one["layers"] for one in contracts if one["type"] == "layers")
    return [[room.strip(" ()") for room in row.split("|")] for row in rows]


def house() -> str:
    """Returns the picture of the rooms; each imports from those below it alone."""
    width, height, gap, left = 760, 34, 6, 10
    parts, y = [], 10
    for row in layers():
        across = (width - 2 * left - gap * (len(row) - 1)) / len(row)
        for i, room in enumerate(row):
            words, paint = ROOMS[room]
            parts.append(_box(left + i * (across + gap), y, across, height, room, words, paint))
        y += height + gap
    x = left
    for words, (fill, edge) in LEGEND:
        parts.append(
            f'<rect x="{x}" y="{y + 6}" width="14" height="14" rx="3" fill="{fill}" stroke="{edge}"/>'
        )
        parts.append(_text(x + 20, y + 18, words, size=12, fill="#888", anchor="start"))
        x += 110
    return _svg(width, y + 30, parts)


def way(rows: list[tuple[str, tuple[str, str], list[tuple[str, str]]]]) -> str:
    """Returns the picture of something that passes rooms one after another."""
    width, height, left, right = 760, 46, 150, 10
    parts, y = [], 10
    for number, (room, paint, steps) in enumerate(rows):
        parts.append(_text(10, y + 28, room, size=13, fill=paint[1], anchor="start", weight="600"))
        gap = 16
        across = (
            (width - left - right - gap * 3) / 4 if len(steps) > 3 else (width - left - right - gap * 2) / 3
        )
        for i, (name, words) in enumerate(steps):
            x = left + i * (across + gap)
            parts.append(_box(x, y, across, height, name, words, paint, stacked=True))
            if i:
                parts.append(_arrow(x - gap + 2, y + height / 2, x - 2, y + height / 2))
        if number + 1 < len(rows):
            parts.append(_arrow(left + 40, y + height + 2, left + 40, y + height + 20))
        y += height + 24
    return _svg(width, y - 8, parts)


def _box(
    x: float,
    y: float,
    w: float,
    h: float,
    name: str,
    words: str,
    paint: tuple[str, str],
    *,
    stacked: bool = False,
) -> str:
    fill, edge = paint
    place = f'x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}"'
    rect = f'<rect {place} rx="5" fill="{fill}" stroke="{edge}"/>'
    middle = x + w / 2
    if stacked:
        return rect + _text(middle, y + 19, name, weight="600") + _text(middle, y + 36, words, size=10.5)
    if w > 300:
        line = (
            f'<tspan font-weight="600">{escape(name)}</tspan> <tspan font-size="11">{escape(words)}</tspan>'
        )
        return (
            rect
            + f'<text x="{middle:.1f}" y="{y + h / 2 + 4:.1f}" text-anchor="middle" fill="#222">{line}</text>'
        )
    return rect + _text(middle, y + 15, name, weight="600") + _text(middle, y + 28, words, size=10.5)


def _text(
    x: float,
    y: float,
    words: str,
    *,
    size: float = 13,
    fill: str = "#222",
    anchor: str = "middle",
    weight: str = "400",
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}" '
        f'fill="{fill}">{escape(words)}</text>'
    )


def _arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    place = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {place} stroke="#888" stroke-width="1.5" marker-end="url(#tip)"/>'


def _svg(width: float, height: float, parts: list[str]) -> str:
    tip = (
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path d="M0 0L8 4L0 8z" fill="#888"/></marker></defs>'
    )
    box = f'viewBox="0 0 {width:g} {height:g}" font-family="sans-serif" font-size="13"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {box}>'
    return "\n".join([head, tip, *parts, "</svg>", ""])


PICTURES = {"house": house, "observation": lambda: way(OBSERVATION), "episode": lambda: way(EPISODE)}

if __name__ == "__main__":
    for name, draw in PICTURES.items():
        (IMAGES / f"{name}.svg").write_text(draw())
