"""What a person chooses about how a model answers: one frozen class a method of sampling."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral
from typing import Literal

from pioxide.errors import InputError
from pioxide.sampling import RTCConfig

Partial = Literal["error", "pad"]


@dataclass(frozen=True)
class FlowSampler:
    """How π0 and π0.5 answer: Euler steps from noise to actions.

    Attributes:
        num_steps: Evaluations of the velocity; None for the contract's in a policy, and for 10 elsewhere.
        realtime: How a chunk continues what is left of the one before: guided by an `RTCConfig` (any weights,
            a gradient in each step), or "trained" (weights that were trained with
            `pioxide.sampling.training_time_rtc_loss`). None: each chunk on its own.
        guidance: How far a chunk goes from what weights that know an advantage would do without one to what
            they do with it, and past that: v = v_without + guidance * (v_with - v_without). 1 is plain
            conditioning; any other number computes both, in one call.
    """

    num_steps: int | None = None
    realtime: RTCConfig | Literal["trained"] | None = None
    guidance: float = 1.0

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            InputError: There is no step, `realtime` is none of the three, or `guidance` no number from 0 on.
        """
        if self.num_steps is not None:
            _whole("num_steps", self.num_steps, 1)
        if not _is_realtime(self.realtime):
            raise InputError(f'realtime: expected None, an RTCConfig or "trained", got {self.realtime!r}')
        if not _is_number(self.guidance) or not 0 <= self.guidance < math.inf:
            raise InputError(f"guidance: expected a number from 0 on, 1 for none, got {self.guidance!r}")

    @property
    def guided(self) -> bool:
        """Returns whether the prompts without their advantage are read, too."""
        return self.guidance != 1

    @property
    def steps(self) -> int:
        """Returns the evaluations of the velocity, openpi's 10 where nobody stated them."""
        return 10 if self.num_steps is None else self.num_steps


@dataclass(frozen=True)
class TokenSampler:
    """How π0-FAST answers: one token after another.

    Attributes:
        max_tokens: The most tokens in an answer, its end included.
        temperature: 0 takes the best token each time; above 0 tokens are drawn.
        constrained: Whether only tokens may be written that lead to a whole chunk. Changes nothing where the
            best tokens do so by themselves.
        speculative: Tokens verified per forward pass; 0 is off, try 8. The draft is what remains of the
            previous chunk, else the previous answer. Needs temperature 0, and gives the same answer.
        partial: What becomes of an answer that is too short for a chunk, which needs `constrained=False`:
            "error" refuses it, "pad" completes it with zeros.
    """

    max_tokens: int = 256
    temperature: float = 0.0
    constrained: bool = True
    speculative: int = 0
    partial: Partial = "error"

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            InputError: A value is out of its range, or two contradict each other.
        """
        _whole("max_tokens", self.max_tokens, 1)
        _whole("speculative", self.speculative, 0)
        if _is_flag(self.temperature) or not 0 <= self.temperature < math.inf:
            raise InputError(f"temperature: expected 0 or a number above it, got {self.temperature}")
        if not _is_flag(self.constrained):
            raise InputError(f"constrained: expected True or False, got {self.constrained!r}")
        if self.partial not in ("error", "pad"):
            raise InputError(f'partial: expected "error" or "pad", got {self.partial!r}')
        if self.speculative == 1:
            raise InputError("speculative: expected 0, or 2 or more tokens a pass, got 1")
        if self.speculative and self.temperature != 0:
            raise InputError(
                "speculative: drafts are verified against the best tokens, so temperature "
                f"{self.temperature} must be 0"
            )


@dataclass(frozen=True)
class TextSampler:
    """How π0.5 writes a subtask before it acts: the best token each time, up to its end.

    Attributes:
        max_tokens: The most tokens, the end included.
    """

    max_tokens: int = 32

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            InputError: There is no token.
        """
        _whole("max_tokens", self.max_tokens, 1)


Sampler = FlowSampler | TokenSampler
AnySampler = Sampler | TextSampler


def _whole(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise InputError(f"{name}: expected a whole number of at least {least}, got {value!r}")


def _is_realtime(value: object) -> bool:
    return value in (None, "trained") or isinstance(value, RTCConfig)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)
