"""A model laid out and compiled for inference: batches of NumPy in, batches of NumPy out.

It knows no robot and no text, keeps nothing from one call to the next, and holds no lock while it computes.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from numpy.typing import NDArray

from pioxide.engine.inputs import Batch, Inputs
from pioxide.engine.program import Programs, TokenFormat
from pioxide.engine.quantize import Quantization, check_quantization
from pioxide.engine.sampler import AnySampler, FlowSampler, Sampler, TextSampler, TokenSampler
from pioxide.engine.shape import BATCHES, Shape, best_compiled, bucket, text_buckets
from pioxide.errors import InputError, PolicyError
from pioxide.models import Pi0, Pi0Config, Pi0Fast, typed
from pioxide.sampling import Speculation

# When a call may compile the program that it lacks, which takes seconds.
CompileWhen = Literal["on_demand", "until_warm_up", "never"]


class EngineTiming(NamedTuple):
    """Seconds of one call by stage. A stage on the device ends when its result is there.

    Attributes:
        pad: Inputs checked and padded, and the program chosen or, where that is allowed, compiled.
        upload: Everything to the device.
        model: The network.
        download: The answer back.
    """

    pad: float
    upload: float
    model: float
    download: float


class SpeculativeStats(NamedTuple):
    """What a row's draft was worth.

    Attributes:
        drafted: Tokens in the draft.
        tokens: Tokens in the answer, its end included.
        accepted: Tokens that took no pass of their own.
        passes: Passes through the model after the prompt's.
    """

    drafted: int
    tokens: int
    accepted: int
    passes: int


class Answer(NamedTuple):
    """A batch of answers, row by row as the inputs were.

    Attributes:
        actions: [B, H, D] float32 normalised, of π0 and π0.5.
        tokens: [B, N] int32 ids, of π0-FAST and of text: 0 after the end; all `BROKEN` in a row for which
            the network gave NaN or infinity.
        speculative: By row, where π0-FAST speculates.
        timing: By stage, summed where a batch took several calls of a program.
        shape: Of the program that was run.
    """

    actions: NDArray[np.float32] | None
    tokens: NDArray[np.int32] | None
    speculative: tuple[SpeculativeStats, ...] | None
    timing: EngineTiming
    shape: Shape


class Engine:
    """A model, its sampler and their compiled programs. Any number of threads may call `run`.

    Attributes:
        config: The model's.
        sampler: How it answers.
        programs: The compiled functions.
    """

    def __init__(
        self,
        model: Pi0 | Pi0Fast,
        sampler: Sampler | None = None,
        token_format: TokenFormat | None = None,
        *,
        quantize: Quantization | None = None,
        consume: bool = False,
        compile_when: CompileWhen = "until_warm_up",
        float_images: bool = False,
    ) -> None:
        """Lays out the weights for inference; `warm_up` compiles.

        Args:
            model: Its layers' weights are copied, so it may be let go of.
            sampler: How it answers; by default `FlowSampler()` or `TokenSampler()`, as the model needs.
            token_format: π0-FAST: what its vocabulary writes answers with.
            quantize: "int8" keeps the matrices of all layers in 8 bits, which is inexact.
            consume: Free each array once it is copied, so that peak memory stays below two models; the model
                is unusable afterwards, with all that shares its arrays.
            compile_when: When a call whose program is missing compiles it. Where it does not, it uses a
                program that exists and gives the same answer (more rows, a longer text, more cameras of which
                the absent are masked), and is refused if there is none. "until_warm_up" compiles while
                nothing was warmed up, and never in a loop that was. "on_demand" compiles whenever a call
                lacks more than a longer text. "never" leaves all compiling to `warm_up`.
            float_images: Whether images come as float32 in [-1, 1], as LeRobot resizes them, not as uint8.

        Raises:
            InputError: The sampler is not this model's, or a value is none of those above.
        """
        if sampler is None:
            sampler = FlowSampler() if isinstance(model, Pi0) else TokenSampler()
        _check_sampler(model, sampler, token_format)
        check_quantization(quantize)
        if compile_when not in ("on_demand", "until_warm_up", "never"):
            raise InputError(
                f'compile_when: expected "on_demand", "until_warm_up" or "never", got {compile_when!r}'
            )
        self.config = model.config
        self.sampler: AnySampler = sampler
        causal = 0 if token_format is None else token_format.causal
        self.text_lengths = text_buckets(self.config.text_len + causal)
        self.programs = Programs(
            model, sampler, token_format, quantize=quantize, consume=consume, float_images=float_images
        )
        self._reads = self.programs.reads
        self._compile_when = compile_when
        self._warm = False
        # A masked camera takes no position in π0, and nothing sees it. π0-FAST counts slots as in training.
        self._more_cameras = isinstance(self.config, Pi0Config)
        self._film = bool(self._reads.frames)
        self._image_tokens = self.config.vision.tokens

    def writer(self, sampler: TextSampler, token_format: TokenFormat) -> Engine:
        """Returns an engine of the same weights whose answers are text, in `Answer.tokens`.

        Args:
            sampler: How it writes.
            token_format: What ends a text.

        Raises:
            InputError: The model is π0-FAST.
        """
        if not isinstance(self.config, Pi0Config):
            raise InputError("writer: π0-FAST writes actions alone")
        made = copy.copy(self)
        made.sampler = sampler
        made.programs = self.programs.writing(sampler, token_format)
        made._reads = made.programs.reads
        made._warm = False
        return made

    @property
    def weights(self) -> tuple[jax.Array, ...]:
        """Returns all arrays that are kept on the device."""
        return self.programs.weights

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """Returns the shapes that are compiled."""
        return self.programs.shapes

    def shape(self, batch: int, cameras: Iterable[str], length: int) -> Shape:
        """Returns the shape of a call: sizes rounded up to buckets, cameras in the model's order.

        Args:
            batch: Rows.
            cameras: Those that any row has.
            length: Ids in the longest text.

        Raises:
            InputError: A camera that the model has not, no row, or a text that is longer than the model's.
        """
        if isinstance(cameras, str):
            raise InputError(f"cameras: expected several, got the text {cameras!r}; put it into a list")
        present = set(cameras)
        if unknown := sorted(present - set(self.config.cameras)):
            raise InputError(f"no camera {unknown[0]!r}; this model has {list(self.config.cameras)}")
        if batch < 1 or not 1 <= length <= self.text_lengths[-1]:
            raise InputError(
                f"a batch of {batch} rows of {length} ids: expected 1 row or more, of 1 to "
                f"{self.text_lengths[-1]} ids"
            )
        ordered = tuple(name for name in self.config.cameras if name in present)
        return Shape(bucket(batch, BATCHES), ordered, bucket(length, self.text_lengths))

    def warm_up(self, shapes: Iterable[Shape]) -> dict[Shape, float]:
        """Compiles ahead of time, so that no call has to.

        Args:
            shapes: Of the calls that will come; sizes are rounded up as `shape` does.

        Returns:
            Seconds by shape, 0 for one that was there.

        Raises:
            InputError: A shape that no call can have.
        """
        wanted = list(dict.fromkeys(self.shape(*shape) for shape in shapes))
        seconds = {shape: self.programs.compile(shape) for shape in wanted}
        self._warm = self._warm or bool(seconds)
        return seconds

    def run(self, inputs: Inputs) -> Answer:
        """Answers a batch; each row gets what it would get alone, within rounding.

        Args:
            inputs: Of any number of rows.

        Raises:
            InputError: An array is missing, superfluous, or of another shape or dtype than the model reads.
            PolicyError: The program is not compiled, none that is compiled can take its place, and this
                engine does not compile in a call.
        """
        clock = time.perf_counter()
        rows = self._reads.check(inputs)
        shape = self._choose(self._shape_of(inputs, rows))
        batches = [
            self._reads.pad(inputs, shape, first, min(shape.batch, rows - first))
            for first in range(0, rows, shape.batch)
        ]
        laps = [time.perf_counter() - clock, 0.0, 0.0, 0.0]
        outputs: list[Any] = []
        for batch in batches:
            clock = time.perf_counter()
            uploaded: Batch[jax.Array] = typed.upload(batch)
            laps[1] += (now := time.perf_counter()) - clock
            computed = typed.block_until_ready(self.programs(shape, uploaded))
            laps[2] += (then := time.perf_counter()) - now
            outputs.append(jax.device_get(computed))
            laps[3] += time.perf_counter() - then
        return self._answer(outputs, inputs, rows, EngineTiming(*laps), shape)

    def _shape_of(self, inputs: Inputs, rows: int) -> Shape:
        cameras = list(inputs.images)
        if self._more_cameras:
            masks = inputs.image_masks or {}
            # A camera that is away now is masked, whatever it showed before.
            now = {name: mask[:, -1] if self._film else mask for name, mask in masks.items()}
            cameras = [name for name in cameras if name not in now or now[name].any()]
        return self.shape(rows, cameras, inputs.longest)

    def _choose(self, wanted: Shape) -> Shape:
        compiled = self.programs.shapes
        if wanted in compiled:
            return wanted
        if self._compile_when == "on_demand" or (self._compile_when == "until_warm_up" and not self._warm):
            longer = [s for s in compiled if s[:2] == wanted[:2] and s.text > wanted.text]
            if longer:
                return min(longer, key=lambda s: s.text)
            self.programs.compile(wanted)
            return wanted
        found = best_compiled(wanted, compiled, self._image_tokens, more_cameras=self._more_cameras)
        if found is None:
            ready = "; ".join(map(str, compiled)) or "nothing"
            raise PolicyError(
                f"no compiled program can answer {wanted}; compiled: {ready}. Warm up that shape before the "
                'loop, or choose compile_when="on_demand", which stops for seconds in such a call'
            )
        return found

    def _answer(
        self, outputs: list[Any], inputs: Inputs, rows: int, timing: EngineTiming, shape: Shape
    ) -> Answer:
        def joined(parts: list[Any]) -> NDArray[Any]:
            return np.asarray(parts[0] if len(parts) == 1 else np.concatenate(parts))[:rows]

        if isinstance(self.sampler, FlowSampler):
            return Answer(joined(outputs), None, None, timing, shape)
        if not isinstance(outputs[0], Speculation):
            return Answer(None, joined(outputs), None, timing, shape)
        tokens, accepted = joined([o.tokens for o in outputs]), joined([o.accepted for o in outputs])
        drafted = np.zeros(rows, int) if inputs.draft is None else np.asarray(inputs.draft.length)
        written = np.count_nonzero(tokens, axis=1)
        stats = tuple(
            SpeculativeStats(
                int(drafted[row]),
                int(written[row]),
                int(accepted[row]),
                int(outputs[row // shape.batch].passes),
            )
            for row in range(rows)
        )
        return Answer(None, tokens, stats, timing, shape)


def _check_sampler(model: Pi0 | Pi0Fast, sampler: Sampler, token_format: TokenFormat | None) -> None:
    symbol = model.config.family.symbol
    if isinstance(model, Pi0):
        if not isinstance(sampler, FlowSampler):
            raise InputError(f"sampler: {symbol} answers with a FlowSampler, got {sampler!r}")
        if token_format is not None:
            raise InputError(f"token_format: {symbol} writes no tokens")
        return
    if not isinstance(sampler, TokenSampler):
        raise InputError(f"sampler: {symbol} answers with a TokenSampler, got {sampler!r}")
    if token_format is None:
        raise InputError(f"token_format: {symbol} needs to know what ends an answer")
    if sampler.constrained:
        if token_format.grammar is None:
            raise InputError("token_format: a constrained TokenSampler needs its grammar")
        grammar, config = token_format.grammar, model.config
        grammar.shortest(grammar.characters(config.action_horizon, config.action_dim), sampler.max_tokens)
