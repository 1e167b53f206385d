"""A model as compiled functions of one upload: one a set of cameras and a length of text.

Everything between upload and download is inside; a call runs no other JAX operation. What is compiled is kept
under its shape, so a loop whose shapes were compiled before it began never waits for the compiler.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from numpy.typing import NDArray

from pioxide.engine.prepare import prepare
from pioxide.engine.quantize import Quantization
from pioxide.models import Observation, Pi0, Pi0Fast
from pioxide.sampling import (
    Draft,
    Grammar,
    PrevChunkLeftOver,
    RTCConfig,
    Speculation,
    sample_action_tokens,
    sample_actions,
    sample_guided_rtc,
    sample_tokens,
    sample_trained_rtc,
    speculate_action_tokens,
    speculate_tokens,
    step_times,
)

# Text is padded to the next of these and not to the longest prompt a model takes.
BUCKETS = (16, 32, 48, 64, 96, 128, 200)


# Actions, token ids, or token ids with what a draft was worth.
Answer = jax.Array | Speculation


class Inputs(NamedTuple):
    """What one call uploads, a batch of one.

    Attributes:
        images: By camera, [1, S, S, 3] uint8.
        tokens: [1, L] ids, padded with 0.
        lengths: [1] how many are real.
        state: [1, W] float32 normalised and padded; π0 alone reads it.
        noise: [1, H, W] float32, of π0 and π0.5.
        key: [2] uint32 random bits, of π0-FAST.
        leftover: What is left of the chunk before, where chunks are continued.
        draft: A guess at the answer, where π0-FAST speculates.
    """

    images: dict[str, NDArray[np.uint8]]
    tokens: NDArray[np.int32]
    lengths: NDArray[np.int32]
    state: NDArray[np.float32] | None = None
    noise: NDArray[np.float32] | None = None
    key: NDArray[np.uint32] | None = None
    leftover: PrevChunkLeftOver | None = None
    draft: Draft | None = None


class Shape(NamedTuple):
    """What a program is made for: cameras in the model's order, and slots of text."""

    cameras: tuple[str, ...]
    text: int


@dataclass(frozen=True)
class Flow:
    """How π0 and π0.5 answer: Euler steps, each chunk on its own, or continuing the one before."""

    num_steps: int = 10
    realtime: RTCConfig | Literal["trained"] | None = None

    @property
    def times(self) -> jax.Array:
        """[N] the flow times that the model is asked at; a trained continuation has clean actions too."""
        times = step_times(self.num_steps)
        return jnp.append(times, 0.0) if self.realtime == "trained" else times


@dataclass(frozen=True)
class Tokens:
    """How π0-FAST answers: token after token.

    Attributes:
        stop: Ids that end the answer.
        causal: So many ids at the prompt's end are the answer's beginning, which is always the same: they see
            what is before them only.
        max_tokens: The most tokens.
        temperature: 0 for the best token each time.
        grammar: What keeps an answer to whole chunks; None for nothing.
        speculative: Tokens that a pass reads of a draft; 0 for none. The answer is then a `Speculation`.
    """

    stop: tuple[int, ...]
    causal: int
    max_tokens: int = 256
    temperature: float = 0.0
    grammar: Grammar | None = None
    speculative: int = 0


def buckets(longest: int) -> tuple[int, ...]:
    """The lengths that text is padded to, up to `longest`."""
    return (*(length for length in BUCKETS if length < longest), longest)


def bucket(length: int, of: tuple[int, ...]) -> int:
    """The smallest of the lengths that holds `length` ids; the largest where none does."""
    return of[min(bisect_left(of, length), len(of) - 1)]


def keep_programs(directory: str | Path) -> None:
    """Lets JAX keep every compiled program in a directory, for this process and later ones.

    It holds for all of JAX in this process. A program is found again for the same model sizes, shapes,
    device and JAX version.
    """
    path = Path(directory).expanduser()
    path.mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


class Programs:
    """A model's compiled functions, by `Shape`. Any thread may call it.

    Attributes:
        config: The model's.
        weights: All that is kept on the device.
    """

    def __init__(
        self,
        model: Pi0 | Pi0Fast,
        how: Flow | Tokens,
        *,
        quantize: Quantization | None = None,
        consume: bool = False,
    ) -> None:
        """Lays out the weights, see `prepare`. Nothing is compiled yet but small pieces that do so."""
        self.config = model.config
        times = how.times if isinstance(how, Flow) else None
        prepared = prepare(model, times, quantize=quantize, consume=consume)
        graph, state = nnx.split(prepared.model)
        # Plain leaves: a module's own tree would be walked in Python in every call.
        leaves, structure = jax.tree.flatten((state, prepared.conditions))
        self.weights = tuple(leaves)

        def answer(weights: tuple[jax.Array, ...], inputs: Inputs) -> Answer:
            state, conditions = jax.tree.unflatten(structure, weights)
            return _answer(nnx.merge(graph, state), conditions, inputs, how)

        self._function = jax.jit(answer)
        self._programs: dict[Shape, Callable[..., Answer]] = {}
        self._compiling = threading.Lock()
        self._how = how

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """What is compiled."""
        return tuple(self._programs)

    def compile(self, shape: Shape) -> float:
        """Compiles a shape unless it is compiled already; returns the seconds it took."""
        with self._compiling:
            if shape in self._programs:
                return 0.0
            begin = time.perf_counter()
            lowered = self._function.lower(self.weights, self._placeholder(shape))
            # Another dict, as other threads may be walking this one.
            self._programs = {**self._programs, shape: lowered.compile()}
            return time.perf_counter() - begin

    def ready(self, cameras: tuple[str, ...], length: int, lengths: tuple[int, ...]) -> Shape:
        """The shape to use: the bucket, or if only a longer one is compiled, that one."""
        shape, programs = Shape(cameras, bucket(length, lengths)), self._programs
        if shape in programs:
            return shape
        longer = [s for s in programs if s.cameras == cameras and s.text > shape.text]
        return min(longer, key=lambda s: s.text, default=shape)

    def __call__(self, shape: Shape, inputs: Any) -> Answer:
        """Runs the program of a shape on uploaded inputs; compiles it where that was not done before."""
        program = self._programs.get(shape)
        if program is None:
            self.compile(shape)
            program = self._programs[shape]
        return program(self.weights, inputs)

    def _placeholder(self, shape: Shape) -> Inputs:
        """The shapes and dtypes of the inputs."""
        c, size = self.config, self.config.vision.image_size
        flow = isinstance(self._how, Flow)
        continues = isinstance(self._how, Flow) and self._how.realtime is not None
        chunk, count = _like((1, c.action_horizon, c.action_dim), np.float32), _like((1,), np.int32)
        reads_state = flow and not getattr(c, "pi05", True)
        most = self._how.max_tokens if isinstance(self._how, Tokens) and self._how.speculative else None
        return Inputs(
            {name: _like((1, size, size, 3), np.uint8) for name in shape.cameras},
            _like((1, shape.text), np.int32),
            count,
            _like((1, c.action_dim), np.float32) if reads_state else None,
            chunk if flow else None,
            None if flow else _like((2,), np.uint32),
            PrevChunkLeftOver(chunk, count, count) if continues else None,
            None if most is None else Draft(_like((1, most), np.int32), count),
        )


def _answer(model: Any, conditions: Any, inputs: Any, how: Flow | Tokens) -> Answer:
    slots = jnp.arange(inputs.tokens.shape[1])[None]
    valid = slots < inputs.lengths[:, None]
    observation = Observation(inputs.images, {}, inputs.tokens, valid, inputs.state)
    if isinstance(how, Flow):
        given = {"num_steps": how.num_steps, "conditions": conditions}
        if how.realtime is None:
            return sample_actions(model, observation, inputs.noise, **given)
        if how.realtime == "trained":
            return sample_trained_rtc(model, observation, inputs.noise, inputs.leftover, **given)
        return sample_guided_rtc(
            model, observation, inputs.noise, inputs.leftover, config=how.realtime, **given
        )
    starts = (slots >= (inputs.lengths - how.causal)[:, None]) & valid
    observation = observation._replace(ar_mask=starts.astype(jnp.int32))
    given: dict[str, Any] = {"max_tokens": how.max_tokens, "temperature": how.temperature}
    size = {"horizon": model.config.action_horizon, "dim": model.config.action_dim}
    if how.speculative:
        given["block"] = how.speculative
        if how.grammar is None:
            return speculate_tokens(model, observation, inputs.draft, stop=how.stop, **given)
        return speculate_action_tokens(model, observation, how.grammar, inputs.draft, **size, **given)
    given["key"] = jax.random.wrap_key_data(inputs.key)
    if how.grammar is None:
        return sample_tokens(model, observation, stop=how.stop, **given)
    return sample_action_tokens(model, observation, how.grammar, **size, **given)


def _like(shape: tuple[int, ...], dtype: Any) -> Any:
    return jax.ShapeDtypeStruct(shape, dtype)
