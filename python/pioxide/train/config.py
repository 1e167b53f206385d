"""Everything that a training run can be told, in frozen dataclasses; the command line is derived from them.

What the contract says (family, horizon, lengths, cameras, the trained delay) is not said again here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from pioxide.errors import InputError

Precision = Literal["float32", "bfloat16"]


class Size(StrEnum):
    """Sizes of a model that starts from nothing, or of the base checkpoint: all released ones are FULL."""

    TINY = "tiny"
    MINI = "mini"
    SMALL = "small"
    FULL = "full"


class Remat(StrEnum):
    """What the backward pass computes again instead of keeping it.

    Attributes:
        NONE: Nothing.
        LAYERS: Each layer.
    """

    NONE = "none"
    LAYERS = "layers"


class Tracker(StrEnum):
    """A service that shows numbers besides TensorBoard."""

    NONE = "none"
    WANDB = "wandb"
    TRACKIO = "trackio"


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """The network, as far as the contract does not say it.

    Attributes:
        size: Its size; a base checkpoint's own where there is one.
        dtype: What the transformers compute in.
        frozen_dtype: What parameters are kept in that are not trained; trained ones are float32.
        remat: What the backward pass computes again.
    """

    size: Size = Size.FULL
    dtype: Precision = "bfloat16"
    frozen_dtype: Precision = "bfloat16"
    remat: Remat = Remat.LAYERS


@dataclass(frozen=True, kw_only=True)
class AdamW:
    """The optimiser, with clipping before it.

    Attributes:
        b1: Decay of the gradients' mean.
        b2: Decay of the squared gradients' mean.
        eps: Added to the root.
        weight_decay: A step.
        clip: Largest norm of the gradients of all trained parameters together.
    """

    b1: float = 0.9
    b2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 1e-10
    clip: float = 1.0


@dataclass(frozen=True, kw_only=True)
class CosineSchedule:
    """A learning rate that climbs to a peak and falls as a cosine. Counted in updates.

    Attributes:
        peak: Where the warm-up ends.
        end: Where the cosine ends.
        warmup: Updates to the peak, from peak / (warmup + 1).
        decay: Updates to the cosine's end, those of the warm-up included; None for the run's.
    """

    peak: float = 2.5e-5
    end: float = 2.5e-6
    warmup: int = 1000
    decay: int | None = None


@dataclass(frozen=True, kw_only=True)
class Ema:
    """The moving average of trained parameters that is what `Policy.load` reads.

    Attributes:
        decay: Of the average a step; 0 for none: the last parameters are the policy's.
        warmup: Whether it is `min(decay, (1 + updates) / (10 + updates))`, for weights that start from noise.
    """

    decay: float = 0.99
    warmup: bool = False


class LoraStyle(StrEnum):
    """How low-rank factors become an update of a weight.

    Attributes:
        OPENPI: As openpi trains: heads share the sum of their B in the projection out of attention, alpha is
            the rank, and B starts as small as A, so that the first update does not start at the base.
        PLAIN: alpha / rank * A @ B, each head on its own, B from zero: the first update starts at the base.
    """

    OPENPI = "openpi"
    PLAIN = "plain"


@dataclass(frozen=True, kw_only=True)
class Lora:
    """Low-rank updates instead of the transformer's own weights; vision and projections are trained in full.

    Whatever the style, a checkpoint's readers add them rightly, openpi too.

    Attributes:
        language: Rank for the language model; 0 for none, and it is trained in full.
        action: Rank for the action expert; likewise.
        style: How factors become an update.
        alpha: Of the plain style; 0 for the rank, which makes its scale 1.
        rank_stabilised: Of the plain style: alpha / sqrt(rank) (rsLoRA, arXiv 2312.03732).
    """

    language: int = 0
    action: int = 0
    style: LoraStyle = LoraStyle.OPENPI
    alpha: float = 0.0
    rank_stabilised: bool = False

    def __post_init__(self) -> None:
        """Refuses what can't be.

        Raises:
            InputError: Names the field.
        """
        for name, rank in (("language", self.language), ("action", self.action)):
            if rank < 0:
                raise InputError(f"lora.{name}: expected a rank, or 0 for none, got {rank}")
        if not 0 <= self.alpha < float("inf"):
            raise InputError(f"lora.alpha: expected a number above 0, or 0 for the rank, got {self.alpha}")
        if self.style is LoraStyle.OPENPI and (self.alpha or self.rank_stabilised):
            raise InputError("lora: in openpi's style alpha is the rank; choose the plain style for another")

    def scale(self, rank: int) -> float:
        """Returns the factor of A @ B."""
        alpha = self.alpha or float(rank)
        return alpha / (rank**0.5 if self.rank_stabilised else rank) if rank else 1.0


class Targets(StrEnum):
    """What π0 and π0.5 learn of the actions.

    Attributes:
        FLOW: Their flow, in the action expert; its gradient goes into the language model too.
        JOINT: The flow, and the action tokens in the language model, which both gradients reach.
        INSULATED: The same, but the flow's gradient stops before the language model and the vision tower:
            knowledge insulation (arXiv 2505.23705).
    """

    FLOW = "flow"
    JOINT = "joint"
    INSULATED = "insulated"


@dataclass(frozen=True, kw_only=True)
class ActionLoss:
    """What π0 and π0.5 learn, and what counts how much; π0-FAST learns tokens alone.

    Attributes:
        targets: The flow alone, or action tokens in the language model too, with or without insulation. The
            policy acts by the flow in either case.
        subtasks: Whether π0.5's language model learns to say subtasks, in rows of their own: batches then
            hold some, see `LoaderSettings.subtask_share`. The command sets it by `--data.subtasks`.
        flow_weight: Of the flow's mean square, where there are tokens too.
        token_weight: Of the tokens' mean cross entropy, a subtask's as well.
        answer_len: Ids that the tokens of a chunk may take, `|` and the end included; what is longer is cut.
        flow_num_repeats: Draws of noise and flow time for each row. Images and prompt, which take most of the
            time, are computed once for all of them.
    """

    targets: Targets = Targets.FLOW
    subtasks: bool = False
    flow_weight: float = 1.0
    token_weight: float = 1.0
    answer_len: int = 128
    flow_num_repeats: int = 1

    def __post_init__(self) -> None:
        """Refuses what can't be.

        Raises:
            InputError: Names the field.
        """
        for name, value in (("flow_weight", self.flow_weight), ("token_weight", self.token_weight)):
            if not 0 < value < float("inf"):
                raise InputError(f"loss.{name}: expected a number above 0, got {value}")
        for name, value in (("answer_len", self.answer_len), ("flow_num_repeats", self.flow_num_repeats)):
            if value < 1:
                raise InputError(f"loss.{name}: expected 1 or more, got {value}")

    @property
    def tokens(self) -> bool:
        """Returns whether the language model learns action tokens beside the flow."""
        return self.targets is not Targets.FLOW

    @property
    def answers(self) -> bool:
        """Returns whether it learns to write anything: action tokens, or subtasks."""
        return self.tokens or self.subtasks


FLOW_ALONE = ActionLoss()


@dataclass(frozen=True, kw_only=True)
class Checkpoints:
    """What is kept of a run.

    Attributes:
        every: Updates between checkpoints; the last update and an interrupted one are kept too.
        keep: So many of the latest.
        keep_every: And each whose number is a multiple of this; 0 for none.
    """

    every: int = 1000
    keep: int = 1
    keep_every: int = 5000


@dataclass(frozen=True, kw_only=True)
class Logging:
    """What is said of a run while it runs.

    Attributes:
        every: Updates between two lines.
        tensorboard: Whether RUN/logs is written for TensorBoard.
        tracker: A service besides it.
    """

    every: int = 100
    tensorboard: bool = True
    tracker: Tracker = Tracker.NONE


@dataclass(frozen=True, kw_only=True)
class Validation:
    """How the policy is judged on held-out episodes, where a run has some.

    Attributes:
        every: Updates between two; 0 for at the end only.
        batches: How many batches each time, always the same.
        flow_steps: Euler steps of the actions that are compared.
    """

    every: int = 1000
    batches: int = 8
    flow_steps: int = 10


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A training run.

    Attributes:
        base: Checkpoint to start from, of any format that `Policy.load` reads, or PaliGemma; None for noise.
        steps: Updates.
        batch_size: Rows of an update, over all devices.
        accumulate: Parts that a batch is computed in, one after another.
        seed: Of initial values, noise, flow times and augmentation; the loader has its own.
        fsdp: Devices that parameters are split over.
        freeze: Regular expressions: parameters whose path begins with one are not trained. Paths as in
            "vision/blocks/up/kernel" and "language/blocks/experts/0/query".
        augment: Whether images are cropped, turned and coloured at random, as in openpi.
        learn_padding: Whether padded dimensions of π0 and π0.5 are learnt too, as zeros, which openpi does.
            Where not, what the network says of them is left to its base: from noise, let the contract's
            `model_dim` be the robot's own instead.
        explosion: A loss so many times the average before it ends the run.
        loss: What is learnt of the actions.
        model: The network.
        optimizer: AdamW and clipping.
        schedule: The learning rate.
        ema: The moving average.
        lora: Low-rank updates.
        checkpoints: What is kept.
        logging: What is said.
        validation: How it is judged.
    """

    base: str | None = None
    steps: int = 30_000
    batch_size: int = 32
    accumulate: int = 1
    seed: int = 42
    fsdp: int = 1
    freeze: tuple[str, ...] = ()
    augment: bool = True
    learn_padding: bool = False
    explosion: float = 50.0
    loss: ActionLoss = field(default_factory=ActionLoss)
    model: ModelSettings = field(default_factory=ModelSettings)
    optimizer: AdamW = field(default_factory=AdamW)
    schedule: CosineSchedule = field(default_factory=CosineSchedule)
    ema: Ema = field(default_factory=Ema)
    lora: Lora = field(default_factory=Lora)
    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    logging: Logging = field(default_factory=Logging)
    validation: Validation = field(default_factory=Validation)

    def __post_init__(self) -> None:
        """Refuses what can't be.

        Raises:
            InputError: Names the field.
        """
        for name, value in (
            ("steps", self.steps),
            ("batch_size", self.batch_size),
            ("accumulate", self.accumulate),
            ("fsdp", self.fsdp),
            ("checkpoints.every", self.checkpoints.every),
            ("checkpoints.keep", self.checkpoints.keep),
            ("logging.every", self.logging.every),
            ("validation.batches", self.validation.batches),
            ("validation.flow_steps", self.validation.flow_steps),
        ):
            if value < 1:
                raise InputError(f"{name}: expected 1 or more, got {value}")
        if self.batch_size % self.accumulate:
            raise InputError(
                f"batch_size {self.batch_size} can't be computed in {self.accumulate} equal parts"
            )
        if not 0 <= self.ema.decay < 1:
            raise InputError(f"ema.decay: expected 0 to below 1, got {self.ema.decay}")
        decay = self.steps if self.schedule.decay is None else self.schedule.decay
        if not 0 <= self.schedule.warmup < decay:
            raise InputError(
                f"schedule.warmup: expected 0 to below the {decay:,} updates of the decay, "
                f"got {self.schedule.warmup:,}; a short run needs a short one (--train.schedule.warmup)"
            )
        if not self.schedule.peak > 0 or not 0 <= self.schedule.end <= self.schedule.peak:
            raise InputError(
                f"schedule: expected 0 <= end <= peak and a peak above 0, got {self.schedule.end} and "
                f"{self.schedule.peak}"
            )
        if not self.explosion > 1:
            raise InputError(f"explosion: expected a factor above 1, got {self.explosion}")
        for pattern in self.freeze:
            try:
                re.compile(pattern)
            except re.error as error:
                raise InputError(f"freeze: {pattern!r} is no regular expression: {error}") from None
