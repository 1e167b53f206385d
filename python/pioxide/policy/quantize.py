"""Matrices in 8 bits with a scale for every output, and how far that moves a policy's actions.

Inexact, and opt-in: half of bfloat16's memory, and half the bytes that a step reads. qwix calibrates and
rounds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from numpy.typing import NDArray

from pioxide.errors import InputError

if TYPE_CHECKING:
    from pioxide.policy.policy import Policy

Quantization = Literal["int8"]


class Quantized(nnx.Module):
    """Stands where a weight [inputs..., outputs...] stood: int8 values, and a float32 scale an output.

    Products are of the values, which bfloat16 holds exactly, and scaled afterwards: scaling the values first
    would round each of them once more.
    """

    def __init__(self, kernel: jax.Array, inputs: int) -> None:
        """Rounds each output's weights to 256 steps over their own range.

        NaN or infinity among them makes all of the output NaN.

        Args:
            kernel: The weight.
            inputs: How many leading axes are summed over.
        """
        import qwix

        outputs = tuple(range(inputs, kernel.ndim))
        rounded = qwix.quantize(kernel.astype(jnp.float32), jnp.int8, channelwise_axes=outputs)
        self.values = nnx.Param(rounded.qvalue)
        # 8 bits hold no NaN, and a maximum may pass over it: the scale has to carry it to the answer.
        finite = jnp.isfinite(kernel).all(axis=tuple(range(inputs)))
        scale = rounded.scale.reshape(kernel.shape[inputs:])
        self.scale = nnx.Param(jnp.where(finite, scale, jnp.nan))

    def compose(self) -> jax.Array:
        """The weight that the values and scales stand for, float32."""
        return self.values[...].astype(jnp.float32) * self.scale[...]

    def contract(self, equation: str, x: jax.Array) -> jax.Array:
        """`einsum(equation, x, weight)` in x's dtype; the equation's result must end with all outputs."""
        values = self.values[...].astype(x.dtype)
        product = jnp.einsum(equation, x, values, preferred_element_type=jnp.float32)
        return (product * self.scale[...]).astype(x.dtype)


def check_quantization(quantize: object) -> None:
    """Refuses what there is not, or what can't be imported.

    Raises:
        InputError: It is neither None nor "int8", or qwix is not installed.
    """
    if quantize is None:
        return
    if quantize != "int8":
        raise InputError(f'quantize: expected None or "int8", got {quantize!r}')
    try:
        import qwix  # noqa: F401
    except ImportError:
        raise InputError('quantize: int8 weights need qwix: pip install "pioxide[int8]"') from None


class Deviation(NamedTuple):
    """How far one policy's actions are from another's, by action dimension, in the robot's units.

    Attributes:
        largest: [D] the largest difference.
        rms: [D] the root mean square of the differences.
        spread: [D] the standard deviation of the reference's actions over everything compared.
        observations: How many observations were compared.
    """

    largest: NDArray[np.float64]
    rms: NDArray[np.float64]
    spread: NDArray[np.float64]
    observations: int

    def __str__(self) -> str:
        """A line a dimension."""
        rows = zip(self.largest, self.rms, self.spread, strict=True)
        lines = [
            f"{'dim':>4} {'largest':>10} {'rms':>10} {'spread':>10}  of {self.observations} observations"
        ]
        lines += [f"{i:4d} {a:10.4g} {b:10.4g} {c:10.4g}" for i, (a, b, c) in enumerate(rows)]
        return "\n".join(lines)


def deviation(
    policy: Policy, reference: Policy, observations: Iterable[Mapping[str, Any]], *, seed: int = 0
) -> Deviation:
    """Asks two policies the same and compares their actions: what an inexact option costs on real data.

    Args:
        policy: With the option, for example `PolicyOptions(quantize="int8")`.
        reference: The same checkpoint and robot without.
        observations: As the robot gives them; ten or more from recorded episodes tell more than one.
        seed: Of the noise that both of π0's or π0.5's begin with.

    Raises:
        InputError: There is no observation, the policies answer in different shapes, or one of π0-FAST draws
            its tokens at a temperature, which would differ from itself.
    """
    if any(p.noise_shape is None and p.options.temperature > 0 for p in (policy, reference)):
        raise InputError("deviation: π0-FAST is compared at temperature 0, where its answer is no draw")
    random, ours, theirs = np.random.default_rng(seed), [], []
    for observation in observations:
        noise = None if policy.noise_shape is None else random.standard_normal(policy.noise_shape, np.float32)
        ours.append(policy(observation, noise=noise).actions)
        theirs.append(reference(observation, noise=noise).actions)
        if ours[-1].shape != theirs[-1].shape:
            raise InputError(f"the policies answer {ours[-1].shape} and {theirs[-1].shape}: not comparable")
    if not ours:
        raise InputError("observations: expected at least one")
    expected = np.concatenate(theirs)
    apart = np.abs(np.concatenate(ours) - expected)
    rms = np.sqrt(np.mean(apart**2, axis=0))
    return Deviation(apart.max(axis=0), rms, expected.std(axis=0), len(ours))
