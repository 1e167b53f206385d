"""Writes the pages of the documentation's site, of what the repository holds: nothing is written twice.

The README is the first page; the change log and what CONTRIBUTING.md names are pages too;
`reference/commands.md` holds every command's help, and `reference/api/` each public package's docstrings.
Links lead where they lead in the repository: a file that is no page gets one that shows it. `make docs` calls
this and builds the site of the result.

    python tools/make_site.py target/docs
"""

import contextlib
import io
import json
import os
import posixpath
import re
import shutil
import subprocess
import sys
import textwrap
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"]
PACKAGES = [
    "codec", "contract", "control", "data", "data.loader", "engine", "evaluate", "models", "policy",
    "report", "robots", "sampling", "serve", "shards", "train", "transforms", "weights", "errors",
]  # fmt: skip
LANGUAGES = {
    ".hpp": "cpp",
    ".h": "c",
    ".cpp": "cpp",
    ".py": "python",
    ".rs": "rust",
    ".yml": "yaml",
    ".toml": "toml",
}
LINK = re.compile(r"(\]\(|<img src=\")([^)\s\"#]+)(?=[#)\"])")
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def write(directory: Path) -> None:
    """Writes all pages into a directory, in the place of what it held."""
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(ROOT / "docs", directory)
    texts = {
        file.relative_to(ROOT).as_posix(): file.read_text() for file in sorted(ROOT.glob("docs/**/*.md"))
    }
    texts |= {name: (ROOT / name).read_text() for name in PAGES}
    texts["README.md"] = re.sub(
        r"!\[[^]]*\]\(https://img.shields.io/.*\n", "", texts["README.md"]
    )  # of another host
    made = {_page(name): _moved(name, text) for name, text in texts.items()}
    for name, text in texts.items():
        for target in _targets(name, text):
            if _page(target).startswith("source/"):
                made[_page(target)] = _shown(target)
    for notebook in sorted((ROOT / "docs/notebooks").glob("*.ipynb")):
        made[f"notebooks/{notebook.stem}.md"] = _notebook(notebook)
    made["reference/commands.md"] = _commands()
    made["reference/api/index.md"] = _packages()
    made |= {f"reference/api/{name}.md": _package(name) for name in PACKAGES}
    for name, text in made.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)


def _page(target: str) -> str:
    """Where a file of the repository is in the site."""
    if target == "README.md":
        return "index.md"
    if target in PAGES:
        return target
    return target.removeprefix("docs/") if target.startswith("docs/") else f"source/{target}.md"


def _moved(name: str, text: str) -> str:
    """A page whose links lead from where it is in the site."""
    here = posixpath.dirname(_page(name)) or "."

    def link(found: re.Match[str]) -> str:
        if re.match(r"\w+:", found[2]):
            return found[0]
        target = posixpath.normpath(posixpath.join(posixpath.dirname(name), found[2]))
        return found[1] + posixpath.relpath(_page(target), here)

    parts = re.split(f"({FENCED.pattern})", text, flags=FENCED.flags)
    return "".join(part if part.startswith("```") else LINK.sub(link, part) for part in parts)


def _targets(name: str, text: str) -> set[str]:
    links = (found[2] for found in LINK.finditer(FENCED.sub("", text)))
    here = posixpath.dirname(name)
    return {posixpath.normpath(posixpath.join(here, link)) for link in links if not re.match(r"\w+:", link)}


def _shown(target: str) -> str:
    """A file, or the files of a directory that git knows, as a page."""
    listed = subprocess.run(["git", "ls-files", target], cwd=ROOT, capture_output=True, text=True, check=True)
    parts = [f"# {target}"]
    for name in listed.stdout.split() or [target]:
        if name != target:
            parts.append(f"## {posixpath.basename(name)}")
        parts.append(f"````{LANGUAGES.get(Path(name).suffix, '')}\n{(ROOT / name).read_text()}\n````")
    return "\n\n".join(parts) + "\n"


def _notebook(notebook: Path) -> str:
    """A notebook's cells as a page, with what they printed and drew, and the file to open."""
    parts = []
    for cell in json.loads(notebook.read_text())["cells"]:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
        for output in cell.get("outputs", ()):
            data = output.get("data", {"text/plain": output.get("text", ())})
            if picture := data.get("image/png"):
                parts.append(f'<img alt="What this cell draws" src="data:image/png;base64,{picture}">')
            elif "text/html" in data:
                parts.append("".join(data["text/html"]))
            else:
                parts.append("\n".join(["```text", *"".join(data["text/plain"]).splitlines(), "```"]))
    return "\n\n".join([*parts, f"[This notebook]({notebook.name})"]) + "\n"


def _commands() -> str:
    from pioxide.cli.main import COMMANDS, STATUSES
    from pioxide.cli.output import COMMON

    parts = ["# Commands", "What `pioxide COMMAND --help` says.", COMMON]
    rows = [f"| {status} | {meaning} |" for status, meaning in STATUSES.items()]
    parts.append("\n".join(["| exit status | |", "|---|---|", *rows]))
    for name, (_, _, description) in COMMANDS.items():
        parts.append(f"## {name}\n\n{description}\n\n```text\n{_help(name)}\n```")
        if name == "train":
            options = _help(name, "mini")
            parts.append(
                f"### train mini\n\nA recipe's options, and what it sets.\n\n```text\n{options}\n```"
            )
    return "\n\n".join(parts) + "\n"


def _help(*words: str) -> str:
    """A command's help, without what is the same for all."""
    from pioxide.cli.main import main
    from pioxide.cli.output import COMMON

    os.environ["COLUMNS"] = "100"
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        main([*words, "--help"])
    kept: list[str] = []
    for paragraph in said.getvalue().split("\n\n"):
        if paragraph.strip() not in ("", COMMON):
            prose = not paragraph.startswith(("usage", " ", "\n"))
            kept.append(textwrap.fill(paragraph, 100) if prose else paragraph.strip("\n"))
    return "\n".join(line.rstrip() for line in "\n\n".join(kept).splitlines())


def _packages() -> str:
    rows = [
        "# The interface",
        "",
        "What these names hold is kept or announced in the [changes](../../CHANGELOG.md).",
        "",
    ]
    rows += ["| package | |", "|---|---|"]
    for name in PACKAGES:
        rows.append(f"| [`pioxide.{name}`]({name}.md) | {_sentences(name)[0]} |")
    return "\n".join(rows) + "\n"


def _package(name: str) -> str:
    module = import_module(f"pioxide.{name}")
    first, rest = _sentences(name)
    parts = [f"# pioxide.{name}", first, *([f"```text\n{rest}\n```"] if rest else [])]
    names = getattr(module, "__all__", None) or [n for n, v in vars(module).items() if isinstance(v, type)]
    for one in sorted(names, key=str.lower):
        parts.append(f"::: pioxide.{name}.{one}")
    return "\n\n".join(parts) + "\n"


def _sentences(name: str) -> tuple[str, str]:
    text = import_module(f"pioxide.{name}").__doc__ or ""
    first, _, rest = text.strip().partition("\n\n")
    return " ".join(first.split()), rest


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit("usage: make_site.py DIRECTORY")
    write(Path(sys.argv[1]))
