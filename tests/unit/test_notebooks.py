"""The notebooks run from top to bottom, and hold what they print and draw."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest

from support.tools import tool

notebooks = tool("run_notebooks")


def said(notebook: dict[str, Any]) -> list[list[str]]:
    """Returns each cell's outputs: words as they are, without numbers, and that there is a picture."""
    found: list[list[str]] = []
    for cell in notebooks.code_cells(notebook):
        texts: list[str] = []
        for output in cell["outputs"]:
            data = output.get("data", {"text/plain": output.get("text")})
            texts += ["a picture"] if "image/png" in data else ["".join(text) for text in data.values()]
        found.append([re.sub(r"-?\d[\d.e+-]*", "#", text) for text in texts])
    return found


@pytest.mark.parametrize("path", notebooks.NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_holds_what_it_prints_and_draws(path: Path) -> None:
    """Numbers are left out: some are times, and some depend on the processor in their last digits."""
    kept = json.loads(path.read_text())
    fresh = copy.deepcopy(kept)
    names = notebooks.run(fresh, path.name)
    assert said(kept) == said(fresh), "python tools/run_notebooks.py"
    assert sum(texts.count("a picture") for texts in said(kept)) >= 1
    if "losses" in names:
        assert sum(names["losses"][-10:]) < 0.8 * sum(names["losses"][:10])
