"""Looks at a page as a browser would: balanced tags, ids, and what would be fetched."""

import re
from html.parser import HTMLParser


class Checker(HTMLParser):
    """Sees that tags are balanced, and gathers ids and everything a browser would fetch."""

    VOID = frozenset(["meta", "link", "br", "img"])

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.fetched, self.references = [], [], [], []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if tag not in self.VOID:
            self.open.append(tag)
        self._look(attributes)

    def handle_startendtag(self, tag, attrs):
        self._look(dict(attrs))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1] == tag, f"</{tag}> closes <{self.open[-1]}>"
        self.open.pop()

    def _look(self, attributes):
        if "id" in attributes:
            self.ids.append(attributes["id"])
        for name in ("src", "href", "xlink:href"):
            value = attributes.get(name)
            if value and value.startswith("#"):
                self.references.append(value[1:])
            elif value and not value.startswith("data:"):
                self.fetched.append(value)
        for value in attributes.values():
            self.references += re.findall(r"url\(#([^)]+)\)", value or "")

    def assert_whole(self):
        """One file that fetches nothing, whose tags are closed and whose references lead somewhere."""
        assert self.open == []
        assert self.fetched == []
        assert len(self.ids) == len(set(self.ids))
        assert set(self.references) <= set(self.ids)
