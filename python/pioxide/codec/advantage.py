"""`with_advantage`: an instruction that says whether the actions that follow it are good ones (RECAP)."""

from __future__ import annotations

from enum import StrEnum

from pioxide.errors import InputError


class Advantage(StrEnum):
    """Whether actions are better than what usually happens (arXiv 2511.14759)."""

    POSITIVE = "positive"
    NEGATIVE = "negative"


def with_advantage(text: str, advantage: Advantage | None) -> str:
    r"""Returns an instruction, or the subtask in its place, with the advantage in a line behind it.

    The paper has it behind the text and before the actions. Public forks of openpi and of LeRobot write this
    line, too; what cleans an instruction makes a space of the newline, but for π0-FAST's in openpi's style
    and π0's in LeRobot's.

    >>> with_advantage("fold the towel", Advantage.POSITIVE)
    'fold the towel\nAdvantage: positive'
    >>> with_advantage("fold the towel", None)
    'fold the towel'

    Args:
        text: The instruction.
        advantage: None leaves the text as it is.

    Raises:
        InputError: The text ends in an advantage already.
    """
    if advantage is None:
        return text
    text = text.rstrip()
    if text.lower().endswith(tuple(f"advantage: {one}" for one in Advantage)):
        raise InputError(
            f"instruction: {text!r} says its advantage already, which these weights are told by their "
            "policy; leave it out"
        )
    return f"{text}\nAdvantage: {advantage}"
