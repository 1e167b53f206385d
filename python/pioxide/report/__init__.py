"""What a person looks at: pictures of tokens, and `doctor`, which says whether parts mean the same numbers.

inspect_directory, Report, Finding, Level, findings: what tokens or a fitted tokenizer are worth
print_report: the same in the terminal
print_exploration, write_exploration_page: codecs compared by `pioxide fit --explore`
page, write_page: the same as one page; these need matplotlib (`pip install "pioxide[data,report]"`)
check_page, write_check_page: the page of what `pioxide check` found, with the same needs
pioxide.report.doctor: checkpoint, robot, dataset and tokens compared
"""

from typing import TYPE_CHECKING, Any

from pioxide.report.collect import inspect_directory
from pioxide.report.exploration_table import print_exploration
from pioxide.report.facts import Report
from pioxide.report.findings import Finding, Level, findings
from pioxide.report.tables import print_report

if TYPE_CHECKING:
    from pioxide.report.checked import check_page, write_check_page
    from pioxide.report.exploration import write_exploration_page
    from pioxide.report.html import page, write_page

__all__ = [
    "Finding",
    "Level",
    "Report",
    "check_page",
    "findings",
    "inspect_directory",
    "page",
    "print_exploration",
    "print_report",
    "write_check_page",
    "write_exploration_page",
    "write_page",
]


def __getattr__(name: str) -> Any:
    """Brings matplotlib in only where a page is drawn: a robot's computer runs `doctor` without it."""
    if name in ("page", "write_page"):
        from pioxide.report import html

        return getattr(html, name)
    if name in ("check_page", "write_check_page"):
        from pioxide.report import checked

        return getattr(checked, name)
    if name == "write_exploration_page":
        from pioxide.report import exploration

        return exploration.write_exploration_page
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
