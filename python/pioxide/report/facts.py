"""What a report knows about a tokenized dataset: numbers and arrays, gathered once, drawn and printed."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pioxide.data import Finding as DatasetFinding
from pioxide.family import Family

# What a report calls each model, and a directory of `fit`.
_MODELS = {family.value: family.symbol for family in Family}

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Source:
    """Where the tokens came from. `settings` is what a reader needs to make them again, label to value."""

    name: str
    model: str
    dataset: str
    robot: str
    fps: float
    horizon: int
    dim: int
    joints: tuple[str, ...]
    episodes: int
    frames: int
    settings: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class JointRanges:
    """Statistics of one quantity ("actions" or "state") a joint, in the robot's own units, each [D].

    `outside` is the share of values beyond q01..q99; `reach` the largest absolute value they normalise to.
    """

    names: tuple[str, ...]
    low: Floats
    high: Floats
    q01: Floats
    q99: Floats
    mean: Floats
    std: Floats
    outside: Floats
    reach: Floats

    @property
    def constant(self) -> NDArray[np.bool_]:
        """Joints that never move, [D]."""
        return self.low == self.high

    @property
    def degenerate(self) -> NDArray[np.bool_]:
        """Joints that move, but so seldom that q01 equals q99: normalisation blows these moves up, [D]."""
        return (self.high - self.low > 1e-6) & (self.q99 - self.q01 <= 1e-6)


@dataclass(frozen=True)
class Tokens:
    """Action tokens of a codec.

    How many a chunk [N], in which episode [N], how often each id came [V], values clipped; and how many
    more chunks there are whose prompt was cut before its first action token: nothing says what they took.
    """

    per_chunk: Ints
    episode: Ints
    use: Ints
    clipped_chunks: int
    clipped_coefficients: int
    codec: str = "FAST"
    lost: int = 0

    @property
    def chunks(self) -> int:
        """Returns how many chunks there are."""
        return len(self.per_chunk) + self.lost

    @property
    def vocab_size(self) -> int:
        """Returns the ids in the vocabulary."""
        return len(self.use)


@dataclass(frozen=True)
class WorstChunk:
    """A chunk that came back badly: original and decoded actions [H, D], normalised; error is its largest."""

    episode: int
    frame: int
    error: float
    original: Floats
    decoded: Floats

    def worst_joints(self, count: int) -> list[int]:
        """Joints with the largest errors in this chunk, worst first."""
        return np.argsort(-np.abs(self.decoded - self.original).max(axis=0))[:count].tolist()


@dataclass(frozen=True)
class Reconstruction:
    """Decoded against original actions, in normalised units, over `measured` of `total` chunks.

    rms, p99 and worst are [D]; rms_by_step is [H, D]; `unit` [D] is one normalised unit in the robot's units.
    """

    measured: int
    total: int
    rms: Floats
    p99: Floats
    worst: Floats
    rms_by_step: Floats
    unit: Floats
    worst_chunks: tuple[WorstChunk, ...]

    @property
    def overall_rms(self) -> float:
        """Returns the root mean square over all joints, steps and chunks."""
        return float(np.sqrt(np.mean(np.square(self.rms))))


@dataclass(frozen=True)
class Prompts:
    """Prompt lengths in tokens before they were cut at `max_len`, [N]."""

    lengths: Ints
    max_len: int

    @property
    def truncated(self) -> int:
        """Prompts that lost their end."""
        return int((self.lengths > self.max_len).sum())


@dataclass(frozen=True)
class ActionDensity:
    """Normalised actions: counts [D, bins] between `edges` [bins + 1]; the outermost take the rest."""

    counts: Ints
    edges: Floats


@dataclass(frozen=True)
class Report:
    """Everything one page shows. What a model doesn't have, or what needs a dataset not at hand, is None.

    `differing` counts rows whose tokens aren't those of their frames; `missing` says why parts are missing;
    `warnings` is what `pioxide check` says of the dataset.
    """

    source: Source
    actions: JointRanges | None = None
    state: JointRanges | None = None
    tokens: Tokens | None = None
    reconstruction: Reconstruction | None = None
    prompts: Prompts | None = None
    density: ActionDensity | None = None
    skipped: tuple[tuple[int, str], ...] = ()
    differing: int = 0
    missing: str = ""
    warnings: tuple[DatasetFinding, ...] = ()

    @property
    def subject(self) -> str:
        """Returns what the page is about: a model's name, or what `fit` made."""
        if self.source.model == "fit":
            return f"{self.tokens.codec if self.tokens else 'action'} tokenizer"
        return _MODELS.get(self.source.model, self.source.model)

    @property
    def naive_tokens(self) -> int:
        """Returns the tokens a chunk takes when each value becomes one."""
        return self.source.horizon * self.source.dim

    @property
    def compression(self) -> float | None:
        """Values of a chunk over its tokens, on average."""
        if self.tokens is None or not len(self.tokens.per_chunk):
            return None
        return self.naive_tokens / float(self.tokens.per_chunk.mean())

    @property
    def bit_compression(self) -> float | None:
        """Returns the same in bits: 8 for a value that is binned, log2(vocabulary) for a token."""
        if self.compression is None or self.tokens is None:
            return None
        return self.compression * 8 / float(np.log2(self.tokens.vocab_size))
