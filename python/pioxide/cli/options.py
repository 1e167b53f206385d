"""What the options of the commands have in common: those that may be left open, and lists in one word."""

from __future__ import annotations

from typing import Any

import tyro


def left_open(metavar: str) -> Any:
    """An option whose help says in words what holds without it, so that no "(default: None)" follows."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint="")


def listed(text: str | None) -> tuple[str, ...] | None:
    """Split a,b into its parts. One word, because a list of words would swallow the arguments behind it."""
    return None if text is None else tuple(part.strip() for part in text.split(",") if part.strip())
