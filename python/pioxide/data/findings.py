"""What is worth a person's attention in a dataset, as typed values: code, place, message and way out.

Readers of metadata and `data.checks` make them; the commands print them, and `--strict` obeys them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum


class Level(Enum):
    """How much a finding matters, the worst first."""

    FAULT = "fault"
    WARNING = "warning"


class Code(StrEnum):
    """What kind of thing was found; the value is what `--json` prints."""

    UNUSABLE = "dataset-unusable"
    EPISODE = "episode-unusable"
    NOT_LISTED = "episode-not-listed"
    LISTED_TWICE = "episode-listed-twice"
    TOTALS = "totals-differ"
    ROWS = "row-range-differs"
    RATE = "rate-unknown"
    FEATURE = "feature-undeclared"
    FLATTENED = "feature-flattened"
    TASK = "task-unreadable"
    MOVED = "data-elsewhere"
    DERIVED = "column-derived"
    HOLE = "hole-in-time"
    WRONG_RATE = "wrong-rate"
    EMPTY_TASK = "empty-task"
    UNUSED_TASK = "task-unused"
    STILL = "joint-never-moves"
    SELDOM = "joint-seldom-moves"
    TINY = "joint-moves-too-little"
    NOISE = "joint-is-noise"
    OUTLIER = "outlier"
    UNITS = "units-changed"
    REVERSED = "gripper-reversed"
    DUPLICATE = "episode-duplicated"
    WIDE = "wider-than-model"
    LENGTH = "episode-length-unusual"
    JUMP = "joint-jumps"
    FROZEN = "recording-frozen"
    STILL_ONCE = "joint-still-in-episode"
    UNFOLLOWED = "action-not-followed"
    SHIFTED = "joint-shifted"
    LIMIT = "joint-at-its-limit"
    ALIKE = "episodes-alike"
    RARE_TASK = "task-rare"
    SPELLINGS = "task-spelled-twice"
    INDEX = "index-not-consecutive"
    STATS = "stats-differ"
    LACKING = "metadata-lacks"
    COLUMNS = "columns-differ"
    NOT_FINITE = "column-not-finite"
    UNLISTED = "file-not-used"
    LINK = "link-leaves-dataset"
    VIDEO = "video-unusable"
    VIDEO_LENGTH = "video-length-differs"
    VIDEO_SHAPE = "video-size-differs"
    VIDEO_RATE = "video-rate-differs"
    VIDEO_FROZEN = "video-frozen"
    VIDEO_BLANK = "video-blank"
    VIDEO_TWICE = "video-used-twice"

    @property
    def level(self) -> Level:
        """Faults lose episodes, their pictures or the whole dataset; the rest should not be unseen."""
        return Level.FAULT if self in (Code.UNUSABLE, Code.EPISODE, Code.VIDEO) else Level.WARNING


class Quantity(StrEnum):
    """Which numbers of an episode something was seen in."""

    STATE = "state"
    ACTIONS = "actions"
    TIME = "timestamp"


@dataclass(frozen=True)
class Spot:
    """Where in the numbers something is to be seen, for who draws it.

    Attributes:
        quantity: in which numbers.
        joint: its dimension, None for all of them.
        episode: an episode that shows it, None where all together do.
        frame: where in the episode, None where all of it shows it.
    """

    quantity: Quantity
    joint: int | None = None
    episode: int | None = None
    frame: int | None = None


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        code: its kind.
        place: where: a file, or episode, frame and joint, in words.
        message: what is there, in a sentence without its place.
        way_out: what a person can do.
        episodes: the episodes it is about; empty where it is about all.
        spot: where it can be seen, None where a picture would show nothing.
    """

    code: Code
    place: str
    message: str
    way_out: str = ""
    episodes: tuple[int, ...] = ()
    spot: Spot | None = None

    @property
    def level(self) -> Level:
        """Returns how much it matters."""
        return self.code.level

    def __str__(self) -> str:
        """`place: message`, and the way out behind a semicolon."""
        return f"{self.place}: {self.message}" + (f"; {self.way_out}" if self.way_out else "")


def merged(findings: Sequence[Finding]) -> list[Finding]:
    """Faults first, each finding once, in their order otherwise."""
    order = list(Level)
    return sorted(dict.fromkeys(findings), key=lambda finding: order.index(finding.level))


def numbers(values: Sequence[int], noun: str, most: int = 5) -> str:
    """Returns "episode 3", "episodes 3, 5 and 7" or "episodes 3, 5, 7, 9, 11 and 40 more"."""
    values = list(values)
    if len(values) == 1:
        return f"{noun} {values[0]}"
    if len(values) <= most:
        return f"{noun}s {', '.join(map(str, values[:-1]))} and {values[-1]}"
    return f"{noun}s {', '.join(map(str, values[:most]))} and {len(values) - most:,} more"
