"""A model and its sampler as compiled functions of one upload, one function a shape.

Everything between upload and download is inside; a call runs no other JAX operation.
"""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from numpy.typing import NDArray

from pioxide.engine.inputs import Batch, Reads
from pioxide.engine.prepare import prepare
from pioxide.engine.quantize import Quantization
from pioxide.engine.sampler import FlowSampler, Sampler, TextSampler, TokenSampler
from pioxide.engine.shape import Shape
from pioxide.models import Observation, Pi0, Pi0Fast, TextWriter, typed
from pioxide.models.pi0 import Condition
from pioxide.models.tuning import Tuning
from pioxide.sampling import (
    Draft,
    Grammar,
    Guided,
    PrevChunkLeftOver,
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

# Actions [B, H, D], token ids [B, N], or token ids with what a draft was worth.
Output = jax.Array | Speculation


@dataclass(frozen=True)
class TokenFormat:
    """How answers of π0-FAST, or texts of π0.5, are written with one vocabulary.

    Attributes:
        stop: Ids that end an answer.
        causal: The last `causal` prompt ids are the answer's constant start; they attend causally.
        grammar: The rules of `TokenSampler.constrained`, which needs them.
        writable: [V] which ids a text may hold, its end among them; None for all.
    """

    stop: tuple[int, ...]
    causal: int = 0
    grammar: Grammar | None = None
    writable: NDArray[np.bool_] | None = None


def keep_programs(directory: str | Path) -> None:
    """Makes JAX keep every compiled program in a directory, for this process and later ones.

    It holds for all of JAX in this process. A program is found again for the same model sizes, shapes,
    device and JAX version.
    """
    path = Path(directory).expanduser()
    path.mkdir(parents=True, exist_ok=True)
    typed.set_option("jax_compilation_cache_dir", str(path))
    typed.set_option("jax_persistent_cache_min_compile_time_secs", 0.0)
    typed.set_option("jax_persistent_cache_min_entry_size_bytes", 0)


class Programs:
    """A model's compiled functions, by `Shape`. Any thread may call it.

    Attributes:
        reads: What a call uploads.
        weights: All that is kept on the device.
        function: The function of `weights` and a `Batch` before it is compiled.
    """

    def __init__(
        self,
        model: Pi0 | Pi0Fast,
        sampler: Sampler,
        token_format: TokenFormat | None = None,
        *,
        quantize: Quantization | None = None,
        consume: bool = False,
        float_images: bool = False,
        tuning: Tuning | None = None,
    ) -> None:
        """Lays out the weights, see `prepare`. Compiles only the weight layout, not the model."""
        times = _times(sampler) if isinstance(sampler, FlowSampler) else None
        prepared = prepare(model, times, quantize=quantize, consume=consume, tuning=tuning)
        self._graph, state = typed.split(prepared.model)
        # Plain leaves: a module's own tree would be walked in Python in every call.
        leaves, self._rebuilt = typed.flatten((state, prepared.conditions))
        self.weights = tuple(leaves)
        self._answer_by(Reads(model.config, sampler, float_images), token_format)

    def writing(self, sampler: TextSampler, token_format: TokenFormat) -> Programs:
        """Returns programs of the same weights that write text; none is compiled yet."""
        made = copy.copy(self)
        made._answer_by(replace(self.reads, sampler=sampler), token_format)
        return made

    def _answer_by(self, reads: Reads, token_format: TokenFormat | None) -> None:
        graph, rebuilt, sampler = self._graph, self._rebuilt, reads.sampler

        def answer(weights: tuple[jax.Array, ...], batch: Batch[jax.Array]) -> Output:
            state, conditions = rebuilt(weights)
            model = nnx.merge(graph, state)
            if isinstance(sampler, FlowSampler):
                assert isinstance(model, Pi0)
                return _actions(model, conditions, batch, sampler)
            assert token_format is not None
            if isinstance(sampler, TextSampler):
                assert isinstance(model, Pi0)
                return _text(model, batch, sampler, token_format)
            assert isinstance(model, Pi0Fast)
            return _tokens(model, batch, sampler, token_format)

        self.reads = reads
        self.function = typed.jit(answer)
        self._compiled: dict[Shape, Callable[..., Output]] = {}
        self._compiling = threading.Lock()

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """Returns what is compiled."""
        return tuple(self._compiled)

    def compile(self, shape: Shape) -> float:
        """Compiles a shape unless it is compiled already; returns the seconds it took."""
        with self._compiling:
            if shape in self._compiled:
                return 0.0
            begin = time.perf_counter()
            program = self.function.lower(self.weights, self.placeholder(shape)).compile()
            # Another dict, as other threads may be walking this one.
            self._compiled = {**self._compiled, shape: program}
            return time.perf_counter() - begin

    def __call__(self, shape: Shape, batch: Batch[jax.Array]) -> Output:
        """Runs the compiled program of a shape on an uploaded `Batch`."""
        return self._compiled[shape](self.weights, batch)

    def placeholder(self, shape: Shape) -> Batch[jax.ShapeDtypeStruct]:
        """Returns a `Batch` of shapes and dtypes without values, to compile for."""
        c, reads, rows = self.reads.config, self.reads, shape.batch
        size = c.vision.image_size
        chunk = _like((rows, c.action_horizon, c.action_dim), np.float32)
        count, text = _like((rows,), np.int32), _like((rows, shape.text), np.int32)
        return Batch(
            {name: _like((rows, *reads.frames, size, size, 3), reads.pixel) for name in shape.cameras},
            _like((rows, len(shape.cameras), *reads.frames), np.bool_),
            text,
            count,
            _like((rows, c.action_dim), np.float32) if reads.state else None,
            chunk if reads.noise else None,
            _like((rows, 2), np.uint32) if reads.keys else None,
            PrevChunkLeftOver(chunk, count, count) if reads.left_over else None,
            Draft(_like((rows, reads.draft), np.int32), count) if reads.draft else None,
            text if reads.plain else None,
            count if reads.plain else None,
        )


def _times(sampler: FlowSampler) -> jax.Array:
    """Returns the flow times [N] that the model sees; trained continuation adds 0, of clean actions."""
    times = step_times(sampler.steps)
    return jnp.append(times, 0.0) if sampler.realtime == "trained" else times


def _observation(batch: Batch[jax.Array], causal: int | None) -> Observation:
    slots = typed.arange(batch.tokens.shape[1])[None]
    valid = slots < batch.lengths[:, None]
    masks = {name: batch.image_mask[:, column] for column, name in enumerate(batch.images)}
    observation = Observation(batch.images, masks, batch.tokens, valid, batch.state)
    if causal is None:
        return observation
    begun = (slots >= (batch.lengths - causal)[:, None]) & valid
    return observation._replace(ar_mask=begun.astype(jnp.int32))


def _actions(
    model: Pi0, conditions: Condition | None, batch: Batch[jax.Array], sampler: FlowSampler
) -> jax.Array:
    observation, steps = _observation(batch, None), sampler.steps
    noise, left = batch.noise, batch.prev_chunk_left_over
    assert noise is not None
    flow: Pi0 | Guided = model
    if sampler.guided:
        assert batch.plain_tokens is not None
        assert batch.plain_lengths is not None
        real = typed.arange(batch.plain_tokens.shape[1])[None] < batch.plain_lengths[:, None]
        flow = Guided(model, batch.plain_tokens, real, sampler.guidance)
    if sampler.realtime is None:
        return sample_actions(flow, observation, noise, num_steps=steps, conditions=conditions)
    assert left is not None
    if sampler.realtime == "trained":
        return sample_trained_rtc(flow, observation, noise, left, num_steps=steps, conditions=conditions)
    return sample_guided_rtc(
        flow, observation, noise, left, config=sampler.realtime, num_steps=steps, conditions=conditions
    )


def _tokens(
    model: Pi0Fast, batch: Batch[jax.Array], sampler: TokenSampler, token_format: TokenFormat
) -> Output:
    observation = _observation(batch, token_format.causal)
    most, grammar = sampler.max_tokens, token_format.grammar if sampler.constrained else None
    horizon, dim = model.config.action_horizon, model.config.action_dim
    if block := sampler.speculative:
        assert batch.draft is not None
        if grammar is None:
            return speculate_tokens(
                model, observation, batch.draft, block=block, max_tokens=most, stop=token_format.stop
            )
        return speculate_action_tokens(
            model, observation, grammar, batch.draft, horizon=horizon, dim=dim, block=block, max_tokens=most
        )
    keys = None if batch.keys is None else typed.wrap_key_data(batch.keys)
    temperature = sampler.temperature
    if grammar is None:
        return sample_tokens(
            model, observation, max_tokens=most, temperature=temperature, key=keys, stop=token_format.stop
        )
    return sample_action_tokens(
        model,
        observation,
        grammar,
        horizon=horizon,
        dim=dim,
        max_tokens=most,
        temperature=temperature,
        key=keys,
    )


def _text(model: Pi0, batch: Batch[jax.Array], sampler: TextSampler, token_format: TokenFormat) -> jax.Array:
    observation = _observation(batch, None)
    return sample_tokens(
        TextWriter(model),
        observation,
        max_tokens=sampler.max_tokens,
        stop=token_format.stop,
        writable=token_format.writable,
    )


def _like(shape: tuple[int, ...], dtype: DTypeLike) -> Any:
    """Returns what stands in an array's place, whatever kind of array is written there."""
    return jax.ShapeDtypeStruct(shape, dtype)
