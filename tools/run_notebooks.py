"""Run the notebooks of docs/notebooks from top to bottom, and keep in them what they print and draw.

python tools/run_notebooks.py            # all of them
"""

import ast
import base64
import contextlib
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import matplotlib as mpl

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "docs/notebooks").glob("*.ipynb"))


def code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the cells that are run."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def outputs(code: str, names: dict[str, Any], place: str, number: int) -> list[dict[str, Any]]:
    """Runs a cell, and returns its outputs as a notebook keeps them: text, the last line's value, pictures.

    Args:
        code: The cell's.
        names: What the cells before it defined; this one's are added.
        place: What a traceback calls it.
        number: How many cells were run before it, and this one.
    """
    from matplotlib import pyplot as plt

    tree = ast.parse(code)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(tree, place, "exec"), names)
        value = None if last is None else eval(compile(ast.Expression(last.value), place, "eval"), names)
    made: list[dict[str, Any]] = []
    if text := printed.getvalue():
        made.append({"output_type": "stream", "name": "stdout", "text": text.splitlines(keepends=True)})
    figures = [plt.figure(one) for one in plt.get_fignums()]
    if value is not None and not figures:  # a plot's last line is its handles
        shown = {"text/plain": [repr(value)]}
        if hasattr(value, "_repr_html_"):
            shown["text/html"] = [value._repr_html_()]
        made.append(
            {"output_type": "execute_result", "execution_count": number, "metadata": {}, "data": shown}
        )
    for figure in figures:
        with io.BytesIO() as png:
            figure.savefig(png, format="png", dpi=80, bbox_inches="tight", metadata={"Software": None})
            picture = base64.b64encode(png.getvalue()).decode()
        data = {"image/png": picture, "text/plain": [repr(figure)]}
        made.append({"output_type": "display_data", "metadata": {}, "data": data})
    plt.close("all")
    return made


def run(notebook: dict[str, Any], name: str) -> dict[str, Any]:
    """Runs all cells of a notebook in a directory of its own; returns the names that they defined."""
    mpl.use("agg")
    names: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as directory, contextlib.chdir(directory):
        for i, cell in enumerate(code_cells(notebook), start=1):
            cell["execution_count"] = i
            cell["outputs"] = outputs("".join(cell["source"]), names, f"{name}[{i}]", i)
    return names


if __name__ == "__main__":
    for path in NOTEBOOKS:
        made = json.loads(path.read_text())
        run(made, path.name)
        path.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n")
        print(path.name)
