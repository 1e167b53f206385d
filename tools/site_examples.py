"""For griffe, which reads docstrings for the site: makes their examples (`>>>`) blocks of code."""

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"(?:^>>> .*\n?(?:^(?!\s*$).*\n?)*)+", re.MULTILINE)


class Examples(griffe.Extension):
    """Fences what doctest runs."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called by griffe with each object."""
        if obj.docstring and ">>>" in obj.docstring.value:
            text = obj.docstring.value.rstrip() + "\n"
            obj.docstring.value = EXAMPLE.sub(lambda found: f"```pycon\n{found[0].rstrip()}\n```\n", text)
