"""Low-rank factors of the plain rule under openpi's names, so that a checkpoint's readers add them rightly.

Readers add what they find by openpi's rule: in the projection out of attention head n's A meets the sum of
all heads' B, and the scale is 1. So the scale is multiplied into A, and attention's factors get N times their
rank: head n's pair stands in block n of the rank, with zeros elsewhere, and its A meets no other head's B.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from pioxide.models import Pi0Config, Pi0FastConfig
from pioxide.models.lora import MLP
from pioxide.train.config import Lora, LoraStyle


@dataclass(frozen=True)
class PlainFactors:
    """How plain factors are written.

    Attributes:
        heads: N, query heads.
        scales: Of A @ B, by expert.
    """

    heads: int
    scales: tuple[float, float]

    @classmethod
    def of(cls, lora: Lora, model: Pi0Config | Pi0FastConfig) -> PlainFactors | None:
        """Returns it, or None where factors are openpi's, or there are none."""
        if lora.style is not LoraStyle.PLAIN or not (lora.language or lora.action):
            return None
        return cls(model.language.heads, (lora.scale(lora.language), lora.scale(lora.action)))

    def written(self, path: str, leaf: Any) -> Any:
        """Returns a factor as it is written.

        Args:
            path: Our own: "language/blocks/experts/0/query/a".
            leaf: [L, ..., in, r] or [L, ..., r, out]; or its shape, dtype and sharding alone.
        """
        expert, weight, side = path.split("/")[-3:]
        scale = self.scales[int(expert)]

        def widen(factor: jax.Array) -> jax.Array:
            if side == "a":
                factor = factor * jnp.asarray(scale, factor.dtype)
            if weight in MLP:
                return factor
            more = (self.heads - 1) * factor.shape[-1 if side == "a" else -2]
            if weight != "out":
                last = ((0, 0), (0, more)) if side == "a" else ((0, more), (0, 0))
                return jnp.pad(factor, (*[(0, 0)] * (factor.ndim - 2), *last))
            own = jnp.eye(self.heads, dtype=factor.dtype)
            if side == "a":
                return jnp.einsum("lnhr,nm->lnhmr", factor, own).reshape(*factor.shape[:3], -1)
            return jnp.einsum("lnrw,nm->lnmrw", factor, own).reshape(*factor.shape[:2], -1, factor.shape[3])

        if isinstance(leaf, jax.ShapeDtypeStruct):
            shape = jax.eval_shape(widen, leaf)
            return jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=leaf.sharding)
        return widen(leaf)


def is_factor(path: str) -> bool:
    """Returns whether one of our own paths is a low-rank factor's."""
    return path.startswith("language/") and path.endswith(("/a", "/b"))
