"""What a notebook shows of pioxide's objects."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape


def facts_table(facts: Mapping[str, str]) -> str:
    """Returns an HTML table with a line a fact: its name, and what it is."""
    cells = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in facts.items()
    )
    return f"<table>{cells}</table>"
