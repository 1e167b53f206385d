"""A language model that writes: its prompt read once into a cache, then token after token.

π0-FAST writes actions so, and π0.5 subtasks.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from pioxide.models.gemma import Cache, Gemma, slots_of
from pioxide.models.masks import block_mask, positions
from pioxide.models.observation import Observation
from pioxide.models.pi0 import Pi0
from pioxide.models.prefix import Prefix


class DecodingConvention(enum.Enum):
    """The position of a generated token, and what it sees of the prompt.

    Attributes:
        OPENPI: Positions are one further than in training: `prompt_length + t + 1` for token t. The prompt is
            taken for the last `prompt_length` slots up to its last valid one, which is the prompt where no
            camera is masked, and not quite where one is.
        TRAINING: Positions go on without a gap, and every valid slot is seen.
    """

    OPENPI = "openpi"
    TRAINING = "training"


class Decoding(NamedTuple):
    """The state of decoding: `prefill` makes it, `decode` takes and returns it.

    Attributes:
        cache: Keys and values of prompt and tokens so far.
        valid: [B, S] which slots count.
        slot: The slot that the next token is written to.
        length: [B] valid tokens of the prompt.
        prompt_slots: Slots of the prompt, padding included.
    """

    cache: Cache
    valid: Bool[Array, "b s"]
    slot: Int[Array, ""]
    length: Int[Array, " b"]
    prompt_slots: Int[Array, ""]


class TextWriter:
    """The language model of π0 or π0.5 as one that writes text behind a prompt, as it was trained to."""

    def __init__(self, model: Pi0) -> None:
        """Takes the model, whose action expert is left out of it."""
        self.model = model

    def prefill(
        self, observation: Observation, max_new_tokens: int, *, scan_layers: bool = False
    ) -> tuple[Float[Array, "b v"], Decoding]:
        """See `Pi0Fast.prefill`."""
        prefix = self.model.embed_prefix(observation, scan_layers=scan_layers)
        convention = DecodingConvention.TRAINING
        return read_prompt(self.model.language, prefix, max_new_tokens, convention, scan_layers=scan_layers)

    def decode(self, tokens: Int[Array, "b t"], state: Decoding) -> tuple[Float[Array, "b t v"], Decoding]:
        """See `Pi0Fast.decode`."""
        return read_tokens(self.model.language, tokens, state, DecodingConvention.TRAINING)


def read_prompt(
    language: Gemma,
    prefix: Prefix,
    max_new_tokens: int,
    convention: DecodingConvention,
    head: Float[Array, "v w"] | None = None,
    *,
    scan_layers: bool,
) -> tuple[Float[Array, "b v"], Decoding]:
    """Returns the scores of the first new token, and the state of decoding; see `Pi0Fast.prefill`."""
    batch, slots = prefix.valid.shape
    cache = language.empty_cache(batch, slots + max_new_tokens, scan_layers=scan_layers)
    mask = block_mask(prefix.valid, prefix.ar_mask)
    at = positions(prefix.valid)
    if convention is DecodingConvention.OPENPI:
        # Tokens that begin the answer stand where they would if they had been generated.
        at += (jnp.cumsum(prefix.ar_mask, axis=1) > 0).astype(at.dtype)
    streams = _alone(language, prefix.tokens)
    (out, *_), cache = language(streams, at, mask, cache=cache, scan_layers=scan_layers)
    assert cache is not None
    last = slots - 1 - jnp.argmax(prefix.valid[:, ::-1], axis=1)
    logits = language.logits(jnp.take_along_axis(out, last[:, None, None], axis=1)[:, 0], head)
    length = prefix.valid.sum(axis=1, dtype=jnp.int32)
    valid = prefix.valid
    if convention is DecodingConvention.OPENPI:
        slot = jnp.arange(slots)[None]
        valid = (slot > (last - length)[:, None]) & (slot <= last[:, None])
    valid = jnp.pad(valid, ((0, 0), (0, slots_of(cache) - slots)))
    at = jnp.asarray(slots, jnp.int32)
    return logits, Decoding(cache, valid, at, length, at)


def read_tokens(
    language: Gemma,
    tokens: Int[Array, "b t"],
    state: Decoding,
    convention: DecodingConvention,
    head: Float[Array, "v w"] | None = None,
) -> tuple[Float[Array, "b t v"], Decoding]:
    """Reads T more tokens, and returns the scores of what may follow each; see `Pi0Fast.decode`."""
    count = tokens.shape[1]
    batch, slots = state.valid.shape
    gap = 1 if convention is DecodingConvention.OPENPI else 0
    ahead = state.slot - state.prompt_slots + jnp.arange(count) + gap
    valid = jax.lax.dynamic_update_slice_in_dim(state.valid, jnp.ones((batch, count), bool), state.slot, 1)
    sees = jnp.arange(slots)[None, :] <= state.slot + jnp.arange(count)[:, None]
    (out, *_), cache = language(
        _alone(language, language.embed(tokens)),
        state.length[:, None] + ahead,
        valid[:, None] & sees[None],
        cache=state.cache,
        start=state.slot,
        scan_layers=not isinstance(state.cache, list),
    )
    assert cache is not None
    logits = language.logits(out, head)
    return logits, state._replace(cache=cache, valid=valid, slot=state.slot + count)


def _alone(language: Gemma, tokens: Float[Array, "b t w"]) -> tuple[Float[Array, "b t w"] | None, ...]:
    """Returns the language model's stream, without those of other experts."""
    return (tokens, *[None] * (len(language.config.experts) - 1))
