"""`pioxide doctor`: whether checkpoint, robot, dataset and tokens mean the same, before a robot moves.

examine, Request, Examination: opens, compares, replays frames
Diagnosis, Code, Severity: what was found
print_examination: tables for the terminal
"""

from pioxide.report.doctor.diagnosis import Code, Diagnosis, Severity
from pioxide.report.doctor.examine import Examination, Request, examine
from pioxide.report.doctor.show import print_examination

__all__ = [
    "Code",
    "Diagnosis",
    "Examination",
    "Request",
    "Severity",
    "examine",
    "print_examination",
]
