"""Pictures of tokens: what a person looks at instead of numbers. One file a picture; `html` has the page.

Needs matplotlib (`pip install "pioxide[data,report]"`).
"""

from pioxide.report.collect import inspect_directory
from pioxide.report.facts import Report
from pioxide.report.findings import Finding, Level, findings
from pioxide.report.html import page, write_page
from pioxide.report.tables import print_report

__all__ = [
    "Finding",
    "Level",
    "Report",
    "findings",
    "inspect_directory",
    "page",
    "print_report",
    "write_page",
]
