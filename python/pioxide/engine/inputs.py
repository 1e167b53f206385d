"""A batch of moments as NumPy arrays: checked, and padded to the shape of a program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from pioxide.engine.sampler import AnySampler, FlowSampler, TextSampler, TokenSampler
from pioxide.engine.shape import Shape
from pioxide.errors import InputError
from pioxide.models import Pi0Config, Pi0FastConfig
from pioxide.models.typed import AnyArray
from pioxide.sampling import Draft, PrevChunkLeftOver

# NumPy's arrays, a device's, or shapes to compile for.
Arrays = TypeVar("Arrays")
# Of a batch: those that one call of a program answers, the last of them repeated as padding.
Rows = slice | NDArray[np.integer[Any]]


class Inputs(NamedTuple):
    """What a batch of B robots sees, each row on its own.

    Attributes:
        images: By camera, [B, S, S, 3] uint8, or float32 in [-1, 1] for an engine of float images. A camera
            that no row has is left out. With memory [B, T, S, S, 3], the newest last.
        tokens: [B, L] ids, real ones first; any L.
        lengths: [B] how many ids of each row are real.
        image_masks: By camera, [B] whether each row has it, or with memory [B, T] which frames. A camera
            without a mask is there in every row and frame.
        state: [B, W] float32 normalised and padded; read by π0 alone.
        noise: [B, H, W] float32 standard normal; read by π0 and π0.5.
        keys: [B, 2] uint32 random bits; read by π0-FAST at a temperature above 0.
        prev_chunk_left_over: What is left of each row's previous chunk, where chunks are continued; None
            where no row has any.
        draft: A guess at each row's answer, where π0-FAST speculates; None where there is none.
        plain_tokens: [B, L] ids of the prompts without their advantage; read by a sampler with guidance.
        plain_lengths: [B] how many of them are real.
    """

    images: dict[str, NDArray[Any]]
    tokens: NDArray[np.int32]
    lengths: NDArray[np.int32]
    image_masks: dict[str, NDArray[np.bool_]] | None = None
    state: NDArray[np.float32] | None = None
    noise: NDArray[np.float32] | None = None
    keys: NDArray[np.uint32] | None = None
    prev_chunk_left_over: PrevChunkLeftOver | None = None
    draft: Draft | None = None
    plain_tokens: NDArray[np.int32] | None = None
    plain_lengths: NDArray[np.int32] | None = None

    @property
    def longest(self) -> int:
        """Returns how many ids the longest text has."""
        plain = 0 if self.plain_lengths is None else int(self.plain_lengths.max())
        return max(int(self.lengths.max()), plain)


class Batch(NamedTuple, Generic[Arrays]):
    """What one call uploads: `Inputs` padded to a shape, with every array that its program reads.

    Attributes:
        images: By camera of the shape, [B, S, S, 3], or with memory [B, T, S, S, 3].
        image_mask: [B, C] which of the shape's cameras each row has, or [B, C, T] which frames.
        tokens: [B, L] ids, padded with 0.
        lengths: [B] how many are real.
        state: [B, W] float32, of π0.
        noise: [B, H, W] float32, of π0 and π0.5.
        keys: [B, 2] uint32, of π0-FAST at a temperature above 0.
        prev_chunk_left_over: Where chunks are continued.
        draft: Where π0-FAST speculates.
        plain_tokens: [B, L] the prompts without their advantage, where answers are guided.
        plain_lengths: [B] how many are real.
    """

    images: dict[str, Arrays]
    image_mask: Arrays
    tokens: Arrays
    lengths: Arrays
    state: Arrays | None = None
    noise: Arrays | None = None
    keys: Arrays | None = None
    prev_chunk_left_over: PrevChunkLeftOver | None = None
    draft: Draft | None = None
    plain_tokens: Arrays | None = None
    plain_lengths: Arrays | None = None


@dataclass(frozen=True)
class Reads:
    """Which inputs a model and its sampler read, and in what shapes."""

    config: Pi0Config | Pi0FastConfig
    sampler: AnySampler
    float_images: bool = False

    @property
    def pixel(self) -> type[np.uint8] | type[np.float32]:
        """Returns what images are made of."""
        return np.float32 if self.float_images else np.uint8

    @property
    def frames(self) -> tuple[int, ...]:
        """Returns (T,), the frames of each camera, or () for a single image."""
        memory = self.config.memory if isinstance(self.config, Pi0Config) else None
        return () if memory is None else (memory.frames,)

    @property
    def state(self) -> bool:
        """Returns whether the network reads the state."""
        return self.config.family.state_is_vector and not isinstance(self.sampler, TextSampler)

    @property
    def noise(self) -> bool:
        """Returns whether answers begin with noise."""
        return isinstance(self.sampler, FlowSampler)

    @property
    def keys(self) -> bool:
        """Returns whether tokens are drawn."""
        return isinstance(self.sampler, TokenSampler) and self.sampler.temperature > 0

    @property
    def left_over(self) -> bool:
        """Returns whether chunks continue what is left of the one before."""
        return isinstance(self.sampler, FlowSampler) and self.sampler.realtime is not None

    @property
    def plain(self) -> bool:
        """Returns whether prompts without their advantage are read beside those with it."""
        return isinstance(self.sampler, FlowSampler) and self.sampler.guided

    @property
    def draft(self) -> int:
        """Returns how many ids a draft holds; 0 where there is no draft."""
        return (
            self.sampler.max_tokens
            if isinstance(self.sampler, TokenSampler) and self.sampler.speculative
            else 0
        )

    def check(self, inputs: Inputs) -> int:
        """Returns the number of rows.

        Raises:
            InputError: An array is missing, superfluous, or of another shape or dtype than the model reads.
        """
        c, size = self.config, self.config.vision.image_size
        if np.ndim(inputs.tokens) != 2 or len(inputs.tokens) == 0:
            raise InputError(f"tokens: expected [B, L] of 1 row or more, got shape {np.shape(inputs.tokens)}")
        rows = len(inputs.tokens)
        _check_text("", inputs.tokens, inputs.lengths, rows)
        for name in ("plain_tokens", "plain_lengths"):
            if (getattr(inputs, name) is None) == self.plain:
                reads = "needs it, and there is none" if self.plain else "does not read it"
                raise InputError(f"{name}: {c.family.symbol} with {self.sampler} {reads}")
        if inputs.plain_tokens is not None and inputs.plain_lengths is not None:
            _check_text("plain_", inputs.plain_tokens, inputs.plain_lengths, rows)
        masks = inputs.image_masks or {}
        if unknown := sorted({*inputs.images, *masks} - {*c.cameras}):
            raise InputError(f"images: there is no camera {unknown[0]!r}; this model has {list(c.cameras)}")
        for name, image in inputs.images.items():
            _check(f"images[{name!r}]", image, (rows, *self.frames, size, size, 3), self.pixel)
        for name, mask in masks.items():
            _check(f"image_masks[{name!r}]", mask, (rows, *self.frames), np.bool_)
            if name not in inputs.images and mask.any():
                raise InputError(f"image_masks[{name!r}]: rows have this camera, and there is no image of it")
        chunk = (rows, c.action_horizon, c.action_dim)
        self._presence("state", inputs.state, self.state, (rows, c.action_dim), np.float32)
        self._presence("noise", inputs.noise, self.noise, chunk, np.float32)
        self._presence("keys", inputs.keys, self.keys, (rows, 2), np.uint32)
        if inputs.prev_chunk_left_over is not None:
            self._check_left_over(inputs.prev_chunk_left_over, chunk)
        if inputs.draft is not None:
            if not self.draft:
                raise InputError("draft: this engine's sampler is not speculative, so it reads none")
            _check("draft.tokens", inputs.draft.tokens, (rows, self.draft), np.int32)
            _check("draft.length", inputs.draft.length, (rows,), np.int32)
        return rows

    def _check_left_over(self, left: PrevChunkLeftOver, chunk: tuple[int, ...]) -> None:
        if not self.left_over:
            raise InputError("prev_chunk_left_over: this engine's sampler has no realtime")
        _check("prev_chunk_left_over.actions", left.actions, chunk, np.float32)
        _check("prev_chunk_left_over.length", left.length, chunk[:1], np.int32)
        _check("prev_chunk_left_over.inference_delay", left.inference_delay, chunk[:1], np.int32)
        length, delay = np.asarray(left.length), np.asarray(left.inference_delay)
        most = self.config.action_horizon
        # A delay past what is left would hold rows that are only padding.
        if (delay < 0).any() or (delay > length).any() or (length > most).any():
            raise InputError(
                f"prev_chunk_left_over: expected 0 <= inference_delay <= length <= {most}, "
                f"got delays {delay.tolist()} and lengths {length.tolist()}"
            )

    def _presence(
        self, name: str, array: NDArray[Any] | None, needed: bool, shape: tuple[int, ...], dtype: type
    ) -> None:
        model = f"{self.config.family.symbol} with {self.sampler}"
        if needed and array is None:
            raise InputError(f"{name}: {model} needs it, and there is none")
        if array is not None and not needed:
            raise InputError(f"{name}: {model} does not read it")
        if array is not None:
            _check(name, array, shape, dtype)

    def pad(self, inputs: Inputs, shape: Shape, first: int, count: int) -> Batch[NDArray[Any]]:
        """Returns rows `first` to `first + count` of checked inputs, padded to a shape.

        Padding rows repeat the last row, so that they never make a loop over tokens longer. A camera that no
        row has is black and masked.
        """
        rows: Rows = slice(first, first + count)
        if count < shape.batch:
            rows = np.minimum(np.arange(first, first + shape.batch), first + count - 1)
        tokens, lengths = _padded(inputs.tokens[rows], inputs.lengths[rows], shape.text)
        plain: tuple[NDArray[np.int32] | None, NDArray[np.int32] | None] = (None, None)
        if inputs.plain_tokens is not None and inputs.plain_lengths is not None:
            plain = _padded(inputs.plain_tokens[rows], inputs.plain_lengths[rows], shape.text)
        return Batch(
            *self._padded_images(inputs, shape, rows),
            tokens,
            lengths,
            _taken(inputs.state, rows),
            _taken(inputs.noise, rows),
            _taken(inputs.keys, rows),
            self._padded_left_over(inputs.prev_chunk_left_over, shape.batch, rows),
            self._padded_draft(inputs.draft, shape.batch, rows),
            *plain,
        )

    def _padded_images(
        self, inputs: Inputs, shape: Shape, rows: Rows
    ) -> tuple[dict[str, NDArray[Any]], NDArray[np.bool_]]:
        """Returns the images of a shape's cameras, and which of them each row has."""
        size = self.config.vision.image_size
        images: dict[str, NDArray[Any]] = {}
        given_masks = inputs.image_masks or {}
        masks = np.zeros((shape.batch, len(shape.cameras), *self.frames), bool)
        for column, name in enumerate(shape.cameras):
            if name in inputs.images:
                images[name] = inputs.images[name][rows]
                masks[:, column] = given_masks[name][rows] if name in given_masks else True
            else:
                images[name] = np.zeros((shape.batch, *self.frames, size, size, 3), self.pixel)
        return images, masks

    def _padded_left_over(
        self, given: PrevChunkLeftOver | None, batch: int, rows: Rows
    ) -> PrevChunkLeftOver | None:
        if not self.left_over:
            return None
        if given is not None:
            return PrevChunkLeftOver(*(part[rows] for part in given))
        chunk = np.zeros((batch, self.config.action_horizon, self.config.action_dim), np.float32)
        none = np.zeros(batch, np.int32)
        return PrevChunkLeftOver(chunk, none, none)

    def _padded_draft(self, given: Draft | None, batch: int, rows: Rows) -> Draft | None:
        if not self.draft:
            return None
        if given is not None:
            return Draft(*(part[rows] for part in given))
        return Draft(np.zeros((batch, self.draft), np.int32), np.zeros(batch, np.int32))


def _taken(array: NDArray[Any] | None, rows: Rows) -> NDArray[Any] | None:
    return None if array is None else array[rows]


def _check_text(name: str, tokens: NDArray[np.int32], lengths: NDArray[np.int32], rows: int) -> None:
    slots = tokens.shape[1] if np.ndim(tokens) == 2 else 0
    _check(f"{name}tokens", tokens, (rows, slots), np.int32)
    _check(f"{name}lengths", lengths, (rows,), np.int32)
    if (lengths < 1).any() or (lengths > slots).any():
        raise InputError(f"{name}lengths: expected 1 to {slots} ids in each row, got {lengths.tolist()}")


def _padded(
    tokens: NDArray[np.int32], lengths: NDArray[np.int32], size: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    padded = np.zeros((len(tokens), size), np.int32)
    width = min(size, tokens.shape[1])
    padded[:, :width] = tokens[:, :width]
    padded[np.arange(size)[None] >= lengths[:, None]] = 0
    return padded, lengths


def _check(name: str, array: AnyArray, shape: tuple[int, ...], dtype: type) -> None:
    got: object = getattr(array, "dtype", None)  # a caller's list has none
    if np.shape(array) != shape or got != np.dtype(dtype):
        raise InputError(
            f"{name}: expected {np.dtype(dtype).name} of shape {shape}, got {got} of shape {np.shape(array)}"
        )
