"""Matrices in 8 bits with one scale an output: half of bfloat16's memory and of a step's memory traffic.

Inexact, and opt-in. qwix calibrates and rounds; `pioxide.policy.compare_policies` measures what it costs.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from pioxide.errors import InputError
from pioxide.models import typed

Quantization = Literal["int8"]


class Quantized(nnx.Module):
    """Replaces a weight [inputs..., outputs...]: int8 values, and a float32 scale an output.

    Multiplies by the int8 values (exact in bfloat16), then scales the result; scaling the values first would
    round each of them once more.
    """

    def __init__(self, kernel: jax.Array, inputs: int) -> None:
        """Rounds each output's weights to 256 steps over their own range.

        NaN or infinity among them makes that whole output NaN.

        Args:
            kernel: The weight.
            inputs: How many leading axes are summed over.
        """
        outputs = tuple(range(inputs, kernel.ndim))
        rounded = _rounded(kernel.astype(jnp.float32), outputs)
        self.values = nnx.Param(rounded.qvalue)
        # 8 bits hold no NaN, and a maximum may pass over it: the scale has to carry it to the answer.
        finite = jnp.isfinite(kernel).all(axis=tuple(range(inputs)))
        scale = rounded.scale.reshape(kernel.shape[inputs:])
        self.scale = nnx.Param(jnp.where(finite, scale, jnp.nan))

    def compose(self) -> jax.Array:
        """Returns the weight that the values and scales stand for, float32."""
        return self.values[...].astype(jnp.float32) * self.scale[...]

    def contract(self, equation: str, x: jax.Array) -> jax.Array:
        """Returns `einsum(equation, x, weight)` in x's dtype; the equation's result ends with all outputs."""
        values = self.values[...].astype(x.dtype)
        product = typed.einsum(equation, x, values, accumulate_in=jnp.float32)
        return (product * self.scale[...]).astype(x.dtype)


def check_quantization(quantize: object) -> None:
    """Checks a quantization and that what it needs is installed.

    Raises:
        InputError: It is neither None nor "int8", or qwix is not installed.
    """
    if quantize is None:
        return
    if quantize != "int8":
        raise InputError(f'quantize: expected None or "int8", got {quantize!r}')
    if find_spec("qwix") is None:
        raise InputError('quantize: int8 weights need qwix: pip install "pioxide[int8]"')


def _rounded(kernel: jax.Array, outputs: tuple[int, ...]) -> Any:
    """Returns qwix's array: `qvalue` of int8, and a `scale` for each index along the axes of outputs."""
    import qwix  # pyright: ignore[reportMissingTypeStubs]  # it ships none

    return qwix.quantize(kernel, jnp.int8, channelwise_axes=outputs)
