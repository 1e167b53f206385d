"""The notebooks run from top to bottom, hold no outputs, and show what they end their cells with."""

import ast
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "docs/notebooks").glob("*.ipynb"))


def cells(notebook: Path) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]


def shown(code: str, names: dict[str, Any], place: str) -> Any:
    """Runs a cell; returns the value of its last line, as a notebook does."""
    tree = ast.parse(code)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, place, "exec"), names)
    return None if last is None else eval(compile(ast.Expression(last.value), place, "eval"), names)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mpl.use("agg")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    values = [
        shown("".join(cell["source"]), names, f"{notebook.name}[{i}]")
        for i, cell in enumerate(cells(notebook))
    ]
    tables = [value._repr_html_() for value in values if hasattr(value, "_repr_html_")]
    assert all(table.startswith("<table>") for table in tables)
    if "losses" in names:
        assert sum(names["losses"][-10:]) < 0.8 * sum(names["losses"][:10])
    else:
        assert tables


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs(notebook: Path) -> None:
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells(notebook))
    assert len(cells(notebook)) > 3
