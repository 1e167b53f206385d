"""The page of `pioxide check`: whole, self-contained, with a picture of what can be seen."""

from pathlib import Path

import pytest

from pioxide.cli import main as cli
from pioxide.data import CheckSettings, check_datasets
from pioxide.report import check_page
from support.html import Checker
from support.planted import FAULTS, arrays, write

DRAWN = (
    "a hole in time",
    "time that goes back",
    "an outlier",
    "a jump",
    "a stretch that is frozen",
    "a motor that was off",
    "a state of another recording",
    "a gripper turned round in the actions",
    "a joint that seldom moves",
    "a joint that is noise",
    "a joint at its limit",
    "another zero from an episode on",
)


@pytest.mark.parametrize("name", DRAWN)
def test_what_can_be_seen_is_drawn(name: str, tmp_path: Path) -> None:
    fault = FAULTS[name]
    done = check_datasets([fault.make(tmp_path / "d <i>&")], CheckSettings(), workers=1)
    html = check_page(done, CheckSettings())
    checker = Checker()
    checker.feed(html)
    checker.assert_whole()
    assert "<figure>" in html
    assert fault.code.value in html
    assert "<i>&" not in html


def test_many_datasets_share_a_page_and_those_in_order_are_in_its_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    FAULTS["an outlier"].make(tmp_path / "sets/a")
    FAULTS["a joint at its limit"].make(tmp_path / "sets/b")
    write(tmp_path / "sets/well", arrays())
    page = tmp_path / "check.html"
    assert cli.main(["check", str(tmp_path / "sets"), "--workers", "1", "--page", str(page)]) == 0
    assert f"page: {page}" in capsys.readouterr().out
    html = page.read_text()
    checker = Checker()
    checker.feed(html)
    assert len(checker.ids) == len(set(checker.ids))
    assert html.count("sets/well</td>") == 1
    assert '<a href="#well">' not in html
    assert '<a href="#a">' in html


def test_a_dataset_that_cannot_be_read_any_more_costs_its_pictures_alone(tmp_path: Path) -> None:
    root = FAULTS["an outlier"].make(tmp_path / "d")
    done = check_datasets([root], CheckSettings(), workers=1)
    root.rename(tmp_path / "e")
    html = check_page(done, CheckSettings())
    assert "outlier" in html
    assert "<figure>" not in html
