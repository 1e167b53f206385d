"""What a policy is told and what it answers: options, timing, prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pioxide.codec import Advantage
from pioxide.engine import CompileWhen, Quantization, Sampler, SpeculativeStats
from pioxide.errors import InputError
from pioxide.policy.session import Subtask


@dataclass(frozen=True)
class SubtaskOptions:
    """How a policy writes subtasks.

    Attributes:
        every: Chunks that are answered by one subtask before the next is written.
        max_tokens: The most tokens of one, its end included.
    """

    every: int = 1
    max_tokens: int = 32

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            InputError: One is no whole number above 0.
        """
        for name in ("every", "max_tokens"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"subtask.{name}: expected a whole number of at least 1, got {value!r}")


@dataclass(frozen=True)
class PolicyOptions:
    """What a person may choose; what a model's numbers mean is its contract's to say.

    Attributes:
        sampler: How the model answers: a `FlowSampler` for π0 and π0.5, a `TokenSampler` for π0-FAST; None
            takes the model's own, with the contract's number of steps.
        default_prompt: The instruction where an observation has none, in place of the contract's.
        quantize: "int8" keeps the matrices of all layers in 8 bits with a scale an output: half of bfloat16's
            memory, and other actions. `compare_policies` says by how much. None changes nothing.
        compile_when: When a call whose program is missing compiles it, which takes seconds: see `Engine`.
        state_limit: Refuse an observation with a number of the state further outside its statistics than
            this, in half spans (`Prediction.state_range` tells the distance); None only tells.
        subtask: How often π0.5 says what it does next before it acts by that. None asks before each chunk
            where the contract says that the weights learnt to, and elsewhere not at all.
        advantage: What is asked of weights that know an advantage (the contract's `advantage_style`): good
            actions, bad ones, or None for what they do untold, where training had such prompts.
            `FlowSampler.guidance` goes beyond what they do when told.
        seed: Where noise begins; two policies with one seed give the same answers to the same calls.
    """

    sampler: Sampler | None = None
    default_prompt: str | None = None
    quantize: Quantization | None = None
    compile_when: CompileWhen = "until_warm_up"
    state_limit: float | None = None
    subtask: SubtaskOptions | None = None
    advantage: Advantage | None = Advantage.POSITIVE
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuses a limit inside the statistics, and an advantage that is none.

        Raises:
            InputError: The limit is below 1, or the advantage another word.
        """
        if self.advantage is not None:
            if self.advantage not in tuple(Advantage):
                raise InputError(
                    f"advantage: expected one of {', '.join(Advantage)}, or None, got {self.advantage!r}"
                )
            object.__setattr__(self, "advantage", Advantage(self.advantage))
        if self.state_limit is not None and not self.state_limit >= 1:
            raise InputError(f"state_limit: expected 1 half span or more, got {self.state_limit!r}")


class Timing(NamedTuple):
    """Seconds of one call by stage. A stage on the device ends when its result is there.

    Attributes:
        robot: Observations checked and brought to the model's frame, states normalised.
        images: Images resized.
        text: Prompts tokenized, and everything padded to a program's shape.
        upload: Everything to the device.
        model: The network.
        download: The answers back.
        actions: Unnormalised, absolute, in the robot's units.
        subtask: Subtasks written, where any were due.
    """

    robot: float
    images: float
    text: float
    upload: float
    model: float
    download: float
    actions: float
    subtask: float = 0.0

    @property
    def total(self) -> float:
        """Returns their sum."""
        return sum(self)

    def milliseconds(self) -> dict[str, float]:
        """Returns them by name, with `infer_ms` for the sum, as openpi's clients know it."""
        named = {f"{name}_ms": value * 1e3 for name, value in self._asdict().items()}
        return {"infer_ms": self.total * 1e3, **named}


class Prediction(NamedTuple):
    """An answer.

    Attributes:
        actions: [H, D] float64 in the robot's own units; row 0 belongs to the observation.
        model_actions: [H, W] as the network gave them, normalised; relative ones are relative to this state.
        timing: By stage; of the whole batch where there was one.
        truncated: Whether the prompt was too long, so that its end was cut.
        missing: π0-FAST with `TokenSampler(partial="pad")`: coefficients that the answer lacked.
        speculated: π0-FAST with `TokenSampler.speculative`: what the draft was worth.
        out_of_range: Numbers of the state that lie outside its statistics, by dimension.
        state_range: How far the furthest of the state's numbers is from the middle of its statistics, in half
            spans: 1 is just inside.
        subtask: The subtask by which it acts; None where the instruction itself is in the prompt.
        memory_frames: Frames that a model with memory saw, this observation's among them: fewer than the
            contract's while an episode is younger than its memory. None without memory.
    """

    actions: NDArray[np.float64]
    model_actions: NDArray[np.floating]
    timing: Timing
    truncated: bool
    missing: int = 0
    speculated: SpeculativeStats | None = None
    out_of_range: tuple[int, ...] = ()
    state_range: float = 0.0
    subtask: Subtask | None = None
    memory_frames: int | None = None
