"""The contract: one frozen value that says what a model's numbers mean, field by field, known or unknown.

It is written beside everything that pioxide makes and read from everything that it loads. A field that a
source does not state stays `UNKNOWN`; whoever needs it must say it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import Enum, StrEnum
from types import UnionType
from typing import Any, Final, Literal, TypeVar

import numpy as np

from pioxide.errors import ContractError, InputError
from pioxide.family import Family
from pioxide.robots import RobotSpec
from pioxide.transforms import NormRule, Stats

T = TypeVar("T")


class Unknown(Enum):
    """The type of `UNKNOWN`: a field that nobody stated."""

    UNKNOWN = "unknown"

    def __repr__(self) -> str:
        """Returns UNKNOWN."""
        return "UNKNOWN"

    def __bool__(self) -> Literal[False]:
        """Returns False, so that `known or default` reads well."""
        return False


UNKNOWN: Final = Unknown.UNKNOWN
# A whole number in a file may be larger.
_MOST_FLOAT = sys.float_info.max
# Whatever is counted: more is taken for a damaged file.
_MOST = 1 << 32
_NATURAL = f"a whole number from 1 to {_MOST}"


class PromptStyle(StrEnum):
    """Whose prompt text: they differ in case, newlines, underscores and the number of BOS tokens."""

    OPENPI = "openpi"
    LEROBOT = "lerobot"


class SubtaskStyle(StrEnum):
    """How a language model writes subtasks, and how actions are asked for by them; see `SubtaskPrompts`."""

    INSTEAD = "instead"


class AdvantageStyle(StrEnum):
    """In which prompts an advantage stood behind the text while weights were trained; see `with_advantage`.

    Attributes:
        TEXT: In all of them.
        TEXT_OR_NONE: Left out of some, so that a policy can be asked without it, which guidance needs.
    """

    TEXT = "text"
    TEXT_OR_NONE = "text_or_none"


class Resize(StrEnum):
    """How images are resized: openpi filters before it shrinks, LeRobot does not."""

    ANTIALIAS = "antialias"
    INTERPOLATE = "interpolate"


class AbsentCamera(StrEnum):
    """What stands for a camera that is not there: nothing, or a black image that the model attends to."""

    MASKED = "masked"
    BLACK = "black"


@dataclass(frozen=True)
class CameraSlot:
    """One image input of the model.

    Attributes:
        slot: The model's name for it.
        key: The robot's key of the camera that fills it; None for a slot that was empty in training; UNKNOWN
            where the source does not say.
        required: Whether an observation without it is an error.
    """

    slot: str
    key: str | Unknown | None = UNKNOWN
    required: bool = True


@dataclass(frozen=True)
class FastVocabulary:
    """Which FAST tokenizer the action tokens are of.

    Attributes:
        sha256: Digest of the tokenizer, see `FastCodec.fingerprint`.
        vocab_size: FAST ids.
        scale: DCT coefficients are multiplied by this before rounding.
        min_token: The smallest rounded coefficient that has a token.
        horizon: Actions in the chunks it was fitted on; None for any.
        action_dim: Numbers in an action there; None for any.
    """

    sha256: str
    vocab_size: int
    scale: float
    min_token: int
    horizon: int | None = None
    action_dim: int | None = None

    def __post_init__(self) -> None:
        """Refuses what is no vocabulary.

        Raises:
            InputError: A value of another type or outside its range; names the field.
        """
        _check_vocabulary(self, "sha256")
        scale: Any = self.scale
        if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale <= _MOST_FLOAT:
            raise InputError(f"fast.scale: expected a number above 0, got {scale!r}")
        least: Any = self.min_token
        if isinstance(least, bool) or not isinstance(least, int) or abs(least) >= 1 << 63:
            raise InputError(f"fast.min_token: expected a whole number, got {least!r}")


@dataclass(frozen=True)
class CodecVocabulary:
    """Which codec the action tokens are of, where that is not FAST.

    Attributes:
        codec: "binning" or "beast".
        sha256: Digest of all that ids depend on, see `ActionCodec.fingerprint`.
        vocab_size: Its ids.
        horizon: Actions in the chunks it was fitted on; None for any.
        action_dim: Numbers in an action there; None for any.
    """

    codec: str
    sha256: str
    vocab_size: int
    horizon: int | None = None
    action_dim: int | None = None

    def __post_init__(self) -> None:
        """Refuses what is no vocabulary.

        Raises:
            InputError: A value of another type or outside its range; names the field.
        """
        _check_vocabulary(self, "codec", "sha256")


@dataclass(frozen=True)
class Memory:
    """What the model sees of the past: of each camera the frames a stride apart that end with the newest.

    Attributes:
        frames: T, the newest among them.
        stride: Seconds from one to the next.
        every: Layers of the vision tower from one that attends over time to the next.
    """

    frames: int = 6
    stride: float = 1.0
    every: int = 4

    def __post_init__(self) -> None:
        """Refuses what is no memory.

        Raises:
            InputError: A single frame, no time between them, or no layer; names the field.
        """
        for name, least in (("frames", 2), ("every", 1)):
            value = getattr(self, name)
            if not _is_natural(value) or value < least:
                raise InputError(f"memory.{name}: expected a whole number from {least}, got {value!r}")
        stride: Any = self.stride
        if isinstance(stride, bool) or not isinstance(stride, int | float) or not 0 < stride <= _MOST_FLOAT:
            raise InputError(f"memory.stride: expected seconds above 0, got {stride!r}")
        object.__setattr__(self, "stride", float(stride))

    @property
    def span(self) -> float:
        """Returns the seconds from the first frame to the newest."""
        return (self.frames - 1) * self.stride

    @property
    def ages(self) -> tuple[float, ...]:
        """Returns how old each frame is, in seconds; the last is the newest."""
        return tuple(back * self.stride for back in range(self.frames - 1, -1, -1))


@dataclass(frozen=True)
class Contract:
    """What a dataset, a tokenizer, weights and a robot must agree on. Every field may be UNKNOWN.

    >>> known = Contract(family="pi05", action_horizon=50, delta_mask=(True, True, False))
    >>> known.family.symbol, known.delta_mask, known.robot
    ('π0.5', (True, True), UNKNOWN)
    >>> known.require("robot", doing="running a policy")
    Traceback (most recent call last):
    pioxide.errors.ContractError: nothing says what running a policy needs; say it:
      robot: whose numbers: pass robot= (--robot NAME or FILE.yaml)

    Attributes:
        family: Which model.
        robot: The robot's mapping: order, names, units, signs and grippers of state and actions, their rate.
        cameras: The image slots in the model's order, and what fills each.
        absent_camera: What stands for a camera that is not there.
        delta_mask: By action dimension, whether it is relative to the state; empty for absolute actions.
        state_norm: How the state is normalised.
        action_norm: How (relative) actions are normalised.
        norm_stats: "state" and "actions" statistics, of as many numbers as the robot has.
        state_in_text: Whether the prompt holds the state.
        state_text_dim: Numbers of the state in the prompt, padded with zeros; None for the robot's own.
        prompt_style: Whose prompt text.
        text_len: Tokens of a prompt before it is cut.
        default_prompt: The instruction where an observation has none; None for none.
        action_horizon: H, actions in a chunk.
        model_dim: W, numbers of an action inside the model; the robot's are padded with zeros.
        num_steps: Flow steps; None for π0-FAST.
        play_steps: Actions of a chunk to play before the next; None for no opinion.
        image_size: Pixels along an image's edge.
        resize: How images are resized.
        fast: What π0-FAST's action tokens are of: a FAST vocabulary, or another codec's. Of π0 and π0.5 what
            their language model learnt to write beside the flow that they act by; None for none.
        max_delay: Largest inference delay that trained real-time chunking saw, in actions; 0 for none.
        answer_gap: Positions left free between a π0-FAST prompt and its generated answer: 0 as in training, 1
            as openpi decodes. Unknown means the released weights' way.
        subtask_style: How π0.5's language model writes a subtask before actions, which stands in the
            instruction's place in their prompt; None for a model that did not learn to.
        advantage_style: Whether prompts say if the actions are good ones (RECAP, arXiv 2511.14759); None for
            weights that know no advantage.
        memory: What π0.5 sees of the past; None for a model that sees the present alone.
        source: Where all this was read, for messages; not compared.
    """

    family: Family | Unknown = UNKNOWN
    robot: RobotSpec | Unknown = UNKNOWN
    cameras: tuple[CameraSlot, ...] | Unknown = UNKNOWN
    absent_camera: AbsentCamera | Unknown = UNKNOWN
    delta_mask: tuple[bool, ...] | Unknown = UNKNOWN
    state_norm: NormRule | Unknown = UNKNOWN
    action_norm: NormRule | Unknown = UNKNOWN
    norm_stats: Mapping[str, Stats] | Unknown = UNKNOWN
    state_in_text: bool | Unknown = UNKNOWN
    state_text_dim: int | Unknown | None = UNKNOWN
    prompt_style: PromptStyle | Unknown = UNKNOWN
    text_len: int | Unknown = UNKNOWN
    default_prompt: str | Unknown | None = UNKNOWN
    action_horizon: int | Unknown = UNKNOWN
    model_dim: int | Unknown = UNKNOWN
    num_steps: int | Unknown | None = UNKNOWN
    play_steps: int | Unknown | None = UNKNOWN
    image_size: int | Unknown = UNKNOWN
    resize: Resize | Unknown = UNKNOWN
    fast: FastVocabulary | CodecVocabulary | Unknown | None = UNKNOWN
    max_delay: int | Unknown = UNKNOWN
    answer_gap: int | Unknown = UNKNOWN
    subtask_style: SubtaskStyle | Unknown | None = UNKNOWN
    advantage_style: AdvantageStyle | Unknown | None = UNKNOWN
    memory: Memory | Unknown | None = UNKNOWN
    source: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        """Refuses values that can't be, and makes texts what they stand for.

        Raises:
            InputError: A value outside its range; names the field.
        """
        for name, kind in _ENUMS.items():
            value = getattr(self, name)
            if value is not UNKNOWN and not (value is None and name in _MAY_BE_NONE):
                try:
                    object.__setattr__(self, name, kind(value))
                except (TypeError, ValueError):  # a list is no key to look a name up by
                    raise InputError(f"{name}: expected one of {', '.join(kind)}, got {value!r}") from None
        for name, (kind, expected) in _KINDS.items():
            value = getattr(self, name)
            if not (value is UNKNOWN or isinstance(value, kind)):
                raise InputError(f"{name}: expected {expected}, got {value!r}")
        for name in _NATURALS:
            value = getattr(self, name)
            may_be_none = value is None and name in ("state_text_dim", "num_steps", "play_steps")
            if not (value is UNKNOWN or may_be_none) and not _is_natural(value):
                raise InputError(f"{name}: expected {_NATURAL}, got {value!r}")
        if self.max_delay is not UNKNOWN and not _is_natural(self.max_delay, least=0):
            raise InputError(f"max_delay: expected 0 or {_NATURAL}, got {self.max_delay!r}")
        if self.answer_gap is not UNKNOWN and not _is_natural(self.answer_gap, least=0, most=1):
            raise InputError(f"answer_gap: expected 0 or 1, got {self.answer_gap!r}")
        if self.memory:
            if not isinstance(self.family, Unknown) and self.family is not Family.PI05:
                raise InputError(f"memory: {self.family.symbol} sees no past, π0.5 may")
            if self.absent_camera is AbsentCamera.BLACK:
                raise InputError("memory: absent_camera has to be masked, as what lies before an episode is")
        if not isinstance(self.delta_mask, Unknown):
            # Run lengths would be taken for truth values: (6, -1) for two relative dimensions.
            given: tuple[Any, ...] = tuple(self.delta_mask)
            if not all(isinstance(one, bool | np.bool_) for one in given):
                raise InputError(
                    f"delta_mask: expected True or False by dimension, got {self.delta_mask!r}; "
                    "make_mask(6, -1) makes it of run lengths"
                )
            # Trailing absolute dimensions and a mask without a True say nothing.
            mask = tuple(bool(one) for one in self.delta_mask)
            object.__setattr__(
                self, "delta_mask", mask[: len(mask) - mask[::-1].index(True)] if any(mask) else ()
            )
        if not isinstance(self.cameras, Unknown):
            object.__setattr__(self, "cameras", tuple(self.cameras))
            slots = [camera.slot for camera in self.cameras]
            if twice := [slot for slot in slots if slots.count(slot) > 1]:
                raise InputError(f"cameras: slot {twice[0]!r} stands twice")
            keys = [camera.key for camera in self.cameras if isinstance(camera.key, str)]
            if twice := [key for key in keys if keys.count(key) > 1]:
                raise InputError(f"cameras: the camera {twice[0]!r} fills two slots")

    @property
    def unknown(self) -> tuple[str, ...]:
        """Returns the names of the fields that nobody stated."""
        return tuple(name for name in FIELDS if getattr(self, name) is UNKNOWN)

    def require(self, *names: str, doing: str = "this") -> None:
        """Refuses a contract in which one of these fields is unknown.

        Args:
            names: The fields that are needed.
            doing: What needs them, for the message: "running this policy".

        Raises:
            ContractError: Names every unknown field among them, and how to say it.
        """
        missing = [name for name in names if getattr(self, name) is UNKNOWN]
        if not missing:
            return
        where = f"{self.source} does not say" if self.source else "nothing says"
        lines = [f"  {name}: {WAYS_OUT[name]}" for name in missing]
        error = ContractError(f"{where} what {doing} needs; say it:\n" + "\n".join(lines))
        error.fields = tuple(missing)
        raise error


def known(value: T | Unknown, name: str) -> T:
    """Returns a field's value.

    Raises:
        ContractError: It is UNKNOWN.
    """
    if isinstance(value, Unknown):
        error = ContractError(f"nothing says {name}: {WAYS_OUT.get(name, 'say it')}")
        error.fields = (name,)
        raise error
    return value


def _is_natural(value: Any, least: int = 1, most: int = _MOST) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _check_vocabulary(value: FastVocabulary | CodecVocabulary, *texts: str) -> None:
    for name in texts:
        text: Any = getattr(value, name)
        if not isinstance(text, str) or not text:
            raise InputError(f"fast.{name}: expected a text, got {text!r}")
    for name in ("vocab_size", "horizon", "action_dim"):
        size: Any = getattr(value, name)
        if not _is_natural(size) and not (size is None and name != "vocab_size"):
            raise InputError(f"fast.{name}: expected {_NATURAL}, got {size!r}")


_ENUMS: dict[str, type[StrEnum]] = {
    "family": Family,
    "absent_camera": AbsentCamera,
    "prompt_style": PromptStyle,
    "resize": Resize,
    "subtask_style": SubtaskStyle,
    "advantage_style": AdvantageStyle,
}
_MAY_BE_NONE = ("subtask_style", "advantage_style")
_KINDS: dict[str, tuple[type | UnionType, str]] = {
    **{name: (kind, f"one of {', '.join(kind)}") for name, kind in _ENUMS.items()},
    "robot": (RobotSpec, "a RobotSpec"),
    "state_norm": (NormRule, "a NormRule"),
    "action_norm": (NormRule, "a NormRule"),
    "norm_stats": (Mapping, 'statistics by "state" and "actions"'),
    "state_in_text": (bool, "True or False"),
    "default_prompt": (str | None, "a text or None"),
    "fast": (FastVocabulary | CodecVocabulary | None, "a FastVocabulary, a CodecVocabulary or None"),
    "subtask_style": (SubtaskStyle | None, '"instead" or None'),
    "advantage_style": (AdvantageStyle | None, '"text", "text_or_none" or None'),
    "memory": (Memory | None, "a Memory or None"),
}
_NATURALS = (
    "state_text_dim",
    "text_len",
    "action_horizon",
    "model_dim",
    "num_steps",
    "play_steps",
    "image_size",
)
FIELDS: tuple[str, ...] = tuple(one.name for one in fields(Contract) if one.name != "source")

# How a person states each field, for messages: as a field of `contract=Contract(...)`, or as an option.
WAYS_OUT: dict[str, str] = {
    "family": 'which model: Contract(family="pi05")',
    "robot": "whose numbers: pass robot= (--robot NAME or FILE.yaml)",
    "cameras": "which camera fills which image slot: Contract(cameras=(CameraSlot(slot, key), ...))",
    "absent_camera": 'what stands for a camera that is not there: Contract(absent_camera="masked")',
    "delta_mask": "whether actions are relative to the state: Contract(delta_mask=make_mask(6, -1)), or () "
    'for absolute ones (--delta-mask 6,-1, or "" for absolute)',
    "state_norm": 'how the state is normalised: Contract(state_norm=NormRule.openpi("quantile"))',
    "action_norm": 'how actions are normalised: Contract(action_norm=NormRule.openpi("quantile"))',
    "norm_stats": "the statistics: pass norm_stats= or asset_id= (--stats, --asset-id)",
    "state_in_text": "whether the prompt holds the state: Contract(state_in_text=True)",
    "state_text_dim": "numbers of the state in the prompt: Contract(state_text_dim=None) for the robot's own",
    "prompt_style": 'whose prompt text: Contract(prompt_style="openpi") or "lerobot"',
    "text_len": "tokens of a prompt: Contract(text_len=200)",
    "default_prompt": "the instruction where an observation has none: Contract(default_prompt=None)",
    "action_horizon": "actions in a chunk: pass action_horizon= (--action-horizon)",
    "model_dim": "numbers of an action inside the model: Contract(model_dim=32)",
    "num_steps": "flow steps: Contract(num_steps=10)",
    "play_steps": "actions of a chunk to play: Contract(play_steps=None)",
    "image_size": "pixels along an image's edge: Contract(image_size=224)",
    "resize": 'how images are resized: Contract(resize="antialias") or "interpolate"',
    "fast": "the action tokenizer: pass codec= (--fast DIR)",
    "answer_gap": "where a π0-FAST answer begins: Contract(answer_gap=0) as in training, 1 as openpi decodes",
    "max_delay": "the delay that trained real-time chunking saw: Contract(max_delay=0)",
    "subtask_style": 'whether the language model writes subtasks: Contract(subtask_style="instead"), or None',
    "advantage_style": "whether prompts say the actions' advantage, and some of training's did not: "
    'Contract(advantage_style="text_or_none"), "text", or None',
    "memory": "what the model sees of the past: Contract(memory=None), or Memory(frames=6, stride=1.0)",
}
