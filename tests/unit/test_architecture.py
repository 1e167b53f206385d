"""The pictures of the architecture show what is."""

from pathlib import Path

import pytest

from support.tools import tool

ROOT = Path(__file__).resolve().parents[2]
draw_architecture = tool("draw_architecture")


@pytest.mark.parametrize("name", draw_architecture.PICTURES)
def test_a_picture_is_what_is_drawn_today(name: str) -> None:
    drawn = draw_architecture.PICTURES[name]()
    assert (ROOT / "docs/images" / f"{name}.svg").read_text() == drawn, "python tools/draw_architecture.py"
