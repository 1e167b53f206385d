"""What a stranger reads first is true: README, citation, and the files that they name."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["README.md", "CONTRIBUTING.md", "SECURITY.md"]


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_is_named_is_there(page: str) -> None:
    links = re.findall(r"\]\(([^)]+)\)", (ROOT / page).read_text())
    files = [link for link in links if "://" not in link]
    assert [link for link in files if not (ROOT / link.split("#")[0]).exists()] == []


@pytest.mark.parametrize("page", [*PAGES, "docs/tokens.md"])
def test_every_extra_that_is_named_exists(page: str) -> None:
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = re.findall(r"pioxide\[([\w,]+)\]", (ROOT / page).read_text())
    assert {extra for names in named for extra in names.split(",")} <= set(known)


def test_the_text_model_is_fetched_before_prompts_are_written() -> None:
    text = (ROOT / "README.md").read_text()
    assert 0 < text.index("pioxide fetch paligemma") < text.index("pioxide tokenize DATASET")
    installed = re.findall(
        r"pip install \"pioxide\[([\w,]+)\]", text[: text.index("pioxide fetch paligemma")]
    )
    assert "fetch" in installed[-1].split(",")


def test_version_and_licence_are_one() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {version}\n" in citation
    assert f"\nlicense: {project['license']}\n" in citation
    assert "Licence-" not in (ROOT / "README.md").read_text()
    badge = "licence-" + project["license"].replace("-", "--")
    assert badge in (ROOT / "README.md").read_text()


def test_python_versions_of_the_badge_are_those_that_are_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = [c.rsplit(" ", 1)[1] for c in project["classifiers"] if re.search(r":: 3\.\d+$", c)]
    badge = re.search(r"badge/python-(\S+)-\w+\)", (ROOT / "README.md").read_text())
    assert badge is not None
    assert badge[1].split("%20%7C%20") == declared
