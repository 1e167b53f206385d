"""What `doctor` finds, as typed values: a code for scripts, a sentence for people, and the way out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, StrEnum


class Severity(Enum):
    """How much a diagnosis matters."""

    NOTE = "note"
    WARNING = "warning"
    PROBLEM = "problem"

    @property
    def rank(self) -> int:
        """Returns 0 for a note, 1 for a warning, 2 for a problem."""
        return list(Severity).index(self)


class Code(StrEnum):
    """What kind of finding it is. Scripts may rely on these names."""

    # What nobody says, or what could not be looked at
    SOURCE = "source"
    UNKNOWN = "unknown-field"
    UNREADABLE = "unreadable"
    NOT_COMPARED = "not-compared"

    # Two parts that say different things
    FAMILY = "family"
    WIDTH = "width"
    NAMES = "joint-names"
    SIGNS = "signs"
    GRIPPERS = "grippers"
    UNITS = "joint-units"
    RATE = "rate"
    CAMERAS = "cameras"
    CAMERA_ORDER = "camera-order"
    RELATIVE = "relative-actions"
    NORMALISATION = "normalisation"
    STATISTICS = "statistics"
    STATE_IN_PROMPT = "state-in-prompt"
    PROMPT = "prompt"
    PROMPT_TOO_LONG = "prompt-too-long"
    INSTRUCTION = "instruction"
    HORIZON = "horizon"
    MODEL_WIDTH = "model-width"
    IMAGES = "images"
    FAST_VOCABULARY = "fast-vocabulary"
    SAMPLING = "sampling"
    OTHER_DATASET = "other-dataset"

    # What recorded numbers and statistics say about each other
    STATISTICS_WIDTH = "statistics-width"
    PADDED = "statistics-padded"
    OTHER_ROBOT = "other-robot"
    OUTSIDE = "outside"
    SWAPPED = "swapped"
    DEGREES = "degrees-radians"
    SCALE = "scale"
    GRIPPER_REVERSED = "gripper-reversed"
    SIGN_FLIPPED = "sign-flipped"
    OFFSET = "offset"
    RELATIVE_STATISTICS = "relative-statistics"
    CONSTANT = "constant"
    RARELY_MOVES = "rarely-moves"
    ROUND_TRIP = "round-trip"

    # What users of one robot or checkpoint must know
    LIBERO_IMAGES = "libero-images"
    NO_STATE = "no-state"


@dataclass(frozen=True)
class Diagnosis:
    """One finding.

    Attributes:
        code: What kind it is.
        severity: How much it matters.
        where: The field, part or joints it is about.
        message: What was found, with both sides where there are two.
        way_out: What to do; empty where nothing needs doing.
    """

    code: Code
    severity: Severity
    where: str
    message: str
    way_out: str = ""


def note(code: Code, where: str, message: str, way_out: str = "") -> Diagnosis:
    """Returns a diagnosis that a person should know, and that is no fault."""
    return Diagnosis(code, Severity.NOTE, where, message, way_out)


def warning(code: Code, where: str, message: str, way_out: str) -> Diagnosis:
    """Returns a diagnosis that may be a fault."""
    return Diagnosis(code, Severity.WARNING, where, message, way_out)


def problem(code: Code, where: str, message: str, way_out: str) -> Diagnosis:
    """Returns a diagnosis that is a fault: actions would be wrong, or nothing would run."""
    return Diagnosis(code, Severity.PROBLEM, where, message, way_out)


def worst(found: Iterable[Diagnosis]) -> Severity | None:
    """Returns the highest severity among some diagnoses, None where there are none."""
    return max((one.severity for one in found), key=lambda severity: severity.rank, default=None)


def listed(names: Iterable[str], limit: int = 6) -> str:
    """Returns names in one text, the rest counted: "waist, elbow and 3 more"."""
    every = list(names)
    more = len(every) - limit
    return ", ".join(every[:limit]) + (f" and {more} more" if more > 0 else "")
