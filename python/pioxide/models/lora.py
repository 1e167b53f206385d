"""Low-rank updates (LoRA, arXiv 2106.09685): a weight plus the product of two small factors.

A product with such a weight goes through the factors one after the other. Training then makes no gradient as
large as the weight, and an update that is too small to show in a bfloat16 sum still counts.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx

from pioxide.models.gemma import Gemma
from pioxide.models.param import normal

ATTENTION = ("query", "key_value", "out")
MLP = ("gate_up", "down")


class LoraRule(enum.Enum):
    """How the two factors are combined.

    Attributes:
        PLAIN: `scale * A @ B`, each head on its own; B starts at zero.
        OPENPI: As openpi computes it, for its checkpoints: in the projection out of attention every head's A
            meets the sum of all heads' B, the MLP ignores the scale, and B starts as small as A.
    """

    PLAIN = "plain"
    OPENPI = "openpi"


@dataclass(frozen=True)
class LoraConfig:
    """The low-rank updates of one expert.

    Attributes:
        rank: Columns of A, rows of B.
        alpha: The scale is `alpha / rank`.
        rank_stabilised: The scale is `alpha / sqrt(rank)` (arXiv 2312.03732).
        rule: How the factors are combined.
        weights: Names of the weights that are updated.
    """

    rank: int
    alpha: float
    rank_stabilised: bool = False
    rule: LoraRule = LoraRule.PLAIN
    weights: tuple[str, ...] = (*ATTENTION, *MLP)

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            ValueError: The rank is below 1, or alpha is not finite.
        """
        if self.rank < 1 or not math.isfinite(self.alpha):
            raise ValueError(
                f"LoRA of rank {self.rank} and alpha {self.alpha}: expected 1 or more, and a number"
            )

    @property
    def scale(self) -> float:
        """Returns the factor of A @ B."""
        return self.alpha / (self.rank**0.5 if self.rank_stabilised else self.rank)

    @classmethod
    def openpi_language(cls) -> LoraConfig:
        """Returns openpi's `gemma_2b_lora`."""
        return cls(rank=16, alpha=16.0, rule=LoraRule.OPENPI)

    @classmethod
    def openpi_action(cls) -> LoraConfig:
        """Returns openpi's `gemma_300m_lora`."""
        return cls(rank=32, alpha=32.0, rule=LoraRule.OPENPI)


class LoraParam(nnx.Param):
    """A factor of an update; `nnx.OfType(LoraParam)` selects what is trained."""


class LowRank(nnx.Module):
    """Replaces a weight: `base` [..., I, O], `a` [..., I, r], `b` [..., r, O]."""

    def __init__(self, base: nnx.Param, rngs: nnx.Rngs, config: LoraConfig, *, name: str) -> None:
        """Keeps `base` and draws the factors; `name` is the weight's, which the rule may ask for."""
        *batch, inputs, outputs = base.shape
        dtype = base.dtype
        self.base = base
        self.a = LoraParam(normal(rngs, (*batch, inputs, config.rank), std=0.01, dtype=dtype)[...])
        b_shape = (*batch, config.rank, outputs)
        if config.rule is LoraRule.OPENPI:
            self.b = LoraParam(normal(rngs, b_shape, std=0.01, dtype=dtype)[...])
        else:
            self.b = LoraParam(jnp.zeros(b_shape, dtype))
        openpi = config.rule is LoraRule.OPENPI
        self.scale = 1.0 if openpi and name in MLP else config.scale
        self.sum_heads = openpi and name == "out"

    def compose(self) -> jax.Array:
        """Returns the base with its update, summed in float32 and rounded once to the base's dtype."""
        a, b = self.a[...].astype(jnp.float32), self.b[...].astype(jnp.float32)
        if self.sum_heads:
            b = b.sum(axis=-3, keepdims=True)
        base = self.base[...]
        return (base.astype(jnp.float32) + self.scale * (a @ b)).astype(base.dtype)

    def contract(self, equation: str, x: jax.Array) -> jax.Array:
        """Returns `einsum(equation, x, base) + scale * (x A) B` in x's dtype, for any equation."""
        inner, outer = factored(equation, sum_heads=self.sum_heads)
        b = self.b[...].sum(axis=-3) if self.sum_heads else self.b[...]
        low = jnp.einsum(inner, x, self.a[...].astype(x.dtype))
        update = jnp.einsum(outer, low, b.astype(x.dtype))
        base = jnp.einsum(equation, x, self.base[...].astype(x.dtype))
        return base + jnp.asarray(self.scale, x.dtype) * update


def factored(equation: str, *, sum_heads: bool) -> tuple[str, str]:
    """Returns the equations of x with A, and of that product with B, for an equation of x with the weight.

    The weight's last two letters are its inputs and outputs. What it has before them (heads, or key and
    value) A and B have too, so that each has its own update: `btnh,nhw->btw` becomes `btnh,nhr->btnr` and
    `btnr,nrw->btw`. With `sum_heads` x meets all of A at once and B comes summed: `btnh,nhr->btr` and
    `btr,rw->btw`.
    """
    operands, result = equation.split("->")
    x, weight = operands.split(",")
    heads, inputs, outputs = weight[:-2], weight[-2], weight[-1]
    if sum_heads:
        low = result.replace(outputs, "r")
        return f"{x},{heads}{inputs}r->{low}", f"{low},r{outputs}->{result}"
    low = x.replace(inputs, "") + "".join(h for h in heads if h not in x) + "r"
    return f"{x},{heads}{inputs}r->{low}", f"{low},{heads}r{outputs}->{result}"


def add_lora(language: Gemma, configs: Sequence[LoraConfig | None], rngs: nnx.Rngs) -> None:
    """Adds updates to a transformer, in place.

    Args:
        language: A model's `language`.
        configs: One an expert; None leaves an expert as it is.
        rngs: Draws the factors.

    Raises:
        ValueError: There are more configs than experts, a weight has updates already, or there is no such
            weight.
    """
    experts = language.blocks.experts
    if len(configs) > len(experts):
        raise ValueError(f"{len(configs)} LoRA configs for {len(experts)} experts")
    for expert, config in zip(experts, configs, strict=False):
        for name in () if config is None else config.weights:
            weight = getattr(expert, name, None)
            if not isinstance(weight, nnx.Param):
                raise ValueError(f"no plain weight {name!r} to update; the weights are {[*ATTENTION, *MLP]}")
            assert config is not None
            setattr(expert, name, LowRank(weight, rngs, config, name=name))


def merge_lora(language: Gemma) -> None:
    """Replaces every updated weight by its sum, in place; the model's outputs stay as they are."""
    for expert in language.blocks.experts:
        for name in (*ATTENTION, *MLP):
            weight = getattr(expert, name)
            if isinstance(weight, LowRank):
                setattr(expert, name, nnx.Param(weight.compose()))
