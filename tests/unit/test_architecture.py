"""The pictures of the architecture show what is."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SPEC = importlib.util.spec_from_file_location("draw_architecture", ROOT / "tools/draw_architecture.py")
assert SPEC is not None
assert SPEC.loader is not None
draw_architecture = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(draw_architecture)


@pytest.mark.parametrize("name", draw_architecture.PICTURES)
def test_a_picture_is_what_is_drawn_today(name: str) -> None:
    drawn = draw_architecture.PICTURES[name]()
    assert (ROOT / "docs/images" / f"{name}.svg").read_text() == drawn, "python tools/draw_architecture.py"
