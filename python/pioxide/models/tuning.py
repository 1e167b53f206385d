"""How a device wants a model computed. Nothing here changes an answer, but for the last bits of rounding."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

# Query tokens that one block of cuDNN's attention takes, and how many blocks are worth starting it for: on
# fewer of a GPU's 132 processors its one kernel takes longer than the three of a plain computation.
BLOCK, BLOCKS = 128, 48


@dataclass(frozen=True)
class Tuning:
    """Choices for one kind of device.

    Attributes:
        slots: A cache has a multiple of so many slots. Those that are never written are never seen.
        rows: Products of a single token get so many rows, zeros but for the first: XLA for a GPU makes a
            product of one row a multiplication and a sum, which writes all of it to memory in between.
        fused_attention: Whether attention may be one kernel of cuDNN, see `fuses`.
    """

    slots: int = 1
    rows: int = 1
    fused_attention: bool = False

    @classmethod
    def of(cls, platform: str, compute_capability: str | None) -> Tuning:
        """Returns `HOPPER` for the GPUs its choices were predicted for, `GPU` for others, else `PLAIN`."""
        if platform != "gpu":
            return PLAIN
        return HOPPER if compute_capability == "9.0" else GPU

    @classmethod
    def here(cls) -> Tuning:
        """Returns the tuning for JAX's first device."""
        device = jax.devices()[0]
        return cls.of(device.platform, getattr(device, "compute_capability", None))

    def fuses(self, dtype: DTypeLike, batch: int, tokens: int, heads: int) -> bool:
        """Returns whether attention is fused: in 16 bits, and of enough queries to fill a GPU."""
        enough = batch * heads * -(-tokens // BLOCK) >= BLOCKS
        return self.fused_attention and enough and jnp.dtype(dtype) in (jnp.bfloat16, jnp.float16)


PLAIN = Tuning()
GPU = Tuning(slots=128, rows=8)
HOPPER = Tuning(slots=128, rows=8, fused_attention=True)
