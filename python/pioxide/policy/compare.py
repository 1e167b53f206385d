"""How far one policy's actions are from another's: what an inexact option costs on real observations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pioxide.errors import InputError
from pioxide.policy.policy import Policy
from pioxide.policy.session import Session


class PolicyDifference(NamedTuple):
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
        """Returns a line for each dimension."""
        rows = zip(self.largest, self.rms, self.spread, strict=True)
        lines = [
            f"{'dim':>4} {'largest':>10} {'rms':>10} {'spread':>10}  of {self.observations} observations"
        ]
        lines += [f"{i:4d} {a:10.4g} {b:10.4g} {c:10.4g}" for i, (a, b, c) in enumerate(rows)]
        return "\n".join(lines)


def compare_policies(
    policy: Policy, reference: Policy, observations: Iterable[Mapping[str, Any]], *, seed: int = 0
) -> PolicyDifference:
    """Asks two policies the same and compares their actions: what an inexact option costs on real data.

    Policies with memory see each observation as the first of an episode.

    Args:
        policy: With the option, for example `PolicyOptions(quantize="int8")`.
        reference: The same checkpoint and robot without.
        observations: As the robot gives them; ten or more from recorded episodes tell more than one.
        seed: Of the noise that both of π0's or π0.5's begin with.

    Raises:
        InputError: There is no observation, the policies answer in different shapes, or one of π0-FAST draws
            its tokens at a temperature, which would differ from itself.
    """
    if any(p.draws_tokens for p in (policy, reference)):
        raise InputError("π0-FAST is compared at temperature 0, where its answer is no draw")
    random = np.random.default_rng(seed)
    ours: list[NDArray[np.float64]] = []
    theirs: list[NDArray[np.float64]] = []
    for observation in observations:
        noise = None if policy.noise_shape is None else random.standard_normal(policy.noise_shape, np.float32)
        ours.append(policy(observation, session=_without_past(policy), noise=noise).actions)
        theirs.append(reference(observation, session=_without_past(reference), noise=noise).actions)
        if ours[-1].shape != theirs[-1].shape:
            raise InputError(f"the policies answer {ours[-1].shape} and {theirs[-1].shape}: not comparable")
    if not ours:
        raise InputError("observations: expected at least one")
    expected = np.concatenate(theirs)
    apart = np.abs(np.concatenate(ours) - expected)
    rms = np.sqrt(np.mean(apart**2, axis=0))
    return PolicyDifference(apart.max(axis=0), rms, expected.std(axis=0), len(ours))


def _without_past(policy: Policy) -> Session | None:
    """Returns a session that has seen nothing where that makes a difference, else the policy's own."""
    return policy.new_session() if policy.remembers else None
