"""`Guided`: a flow's velocity moved away from what a prompt without its advantage would give."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from pioxide.models.observation import Observation
from pioxide.models.pi0 import Condition, Pi0, PrefixCache
from pioxide.models.prefix import Prefix


class Guided:
    """π0 or π0.5 under classifier-free guidance: v = v_plain + weight * (v - v_plain).

    v is the velocity of the observation's prompt, v_plain that of the same moment with another one. Both come
    of one call of twice the rows; images are embedded once (appendix E of arXiv 2511.14759).
    """

    def __init__(
        self,
        model: Pi0,
        tokens: Int[Array, "b l"],
        token_mask: Bool[Array, "b l"],
        weight: float | Float[Array, ""],
    ) -> None:
        """Takes the model, and the other prompts with which of their ids are real.

        Args:
            model: π0 or π0.5.
            tokens: Of the length of the observation's.
            token_mask: Which are real.
            weight: 1 is the observation's prompt alone, 0 the other alone.
        """
        self.model, self.weight = model, weight
        self.tokens, self.token_mask = tokens, token_mask

    def condition(self, time: Float[Array, "b *t"]) -> Condition:
        """Returns the model's, see `Pi0.condition`."""
        return self.model.condition(time)

    def prefill(self, observation: Observation, *, scan_layers: bool = False) -> PrefixCache:
        """Computes both prefixes' keys and values: the rows of the observation, then those without."""
        said = self.model.embed_prefix(observation, scan_layers=scan_layers)
        before = said.tokens.shape[1] - self.tokens.shape[1]
        text = self.model.language.embed(self.tokens)
        plain = Prefix(
            jnp.concatenate([said.tokens[:, :before], text], axis=1),
            jnp.concatenate([said.valid[:, :before], self.token_mask], axis=1),
            said.ar_mask,
        )
        both = Prefix(*(jnp.concatenate(pair) for pair in zip(said, plain, strict=True)))
        return self.model.prefill_of(both, scan_layers=scan_layers)

    def cached_velocity(
        self,
        prefix: PrefixCache,
        observation: Observation,
        x_t: Float[Array, "b h d"],
        condition: Condition,
    ) -> tuple[Float[Array, "b h d"], PrefixCache]:
        """Returns the guided velocity, see `Pi0.cached_velocity`."""
        state = observation.state
        twice = observation._replace(state=None if state is None else _twice(state))
        # What is alike in every row has one row.
        each = jax.tree.map(lambda x: x if x.shape[-3] == 1 else _twice(x, -3), condition)
        velocity, prefix = self.model.cached_velocity(prefix, twice, _twice(x_t), each)
        said, plain = jnp.split(velocity, 2)
        return plain + self.weight * (said - plain), prefix


FlowModel = Pi0 | Guided


def _twice(x: Array, axis: int = 0) -> Array:
    return jnp.concatenate([x, x], axis=axis)
