"""Free decoding, of π0-FAST and of text: token after token until every row has ended, in one device loop."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key
from numpy.typing import NDArray

from pioxide.models.decoding import Decoding, TextWriter
from pioxide.models.observation import Observation
from pioxide.models.pi0_fast import Pi0Fast

EOS = 1
# The only token of a row whose scores were NaN or infinite: a token chosen by them means nothing.
BROKEN = -1
# One random key for a whole batch, or one a row.
Keys = Key[Array, "*rows"]


class SamplingState(NamedTuple):
    """The state of the decoding loop.

    Attributes:
        step: Tokens written so far.
        token: [B] the last of them.
        tokens: [B, max_tokens] all of them, 0 beyond and after a row's end.
        done: [B] which rows have ended.
        broken: [B] which rows had a score that was NaN or infinite.
        decoding: The model's side, which has not read the last token yet.
    """

    step: Int[Array, ""]
    token: Int[Array, " b"]
    tokens: Int[Array, "b n"]
    done: Bool[Array, " b"]
    broken: Bool[Array, " b"]
    decoding: Decoding


def choose(
    logits: Float[Array, "b v"], temperature: float, key: Keys | None, step: Int[Array, ""]
) -> Int[Array, " b"]:
    """Returns the best token, or one drawn from `softmax(logits / temperature)`."""
    if temperature == 0.0 or key is None:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)
    return draw(key, logits / temperature, step)


def draw(key: Keys, scores: Float[Array, "b v"], step: Int[Array, ""]) -> Int[Array, " b"]:
    """Returns tokens drawn from `softmax(scores)`; with a key a row, a row's draw is its own."""

    def one(key: Keys, scores: Float[Array, "*b v"]) -> Int[Array, "*b"]:
        return jax.random.categorical(jax.random.fold_in(key, step), scores).astype(jnp.int32)

    return jax.vmap(one)(key, scores) if key.ndim else one(key, scores)


def no_numbers(logits: Float[Array, "*b v"]) -> Bool[Array, "*b"]:
    """Returns where any score is NaN or infinite."""
    return ~jnp.isfinite(logits).all(axis=-1)


def check(temperature: float, key: Keys | None) -> None:
    """Checks a temperature.

    Raises:
        ValueError: A temperature above 0 without a key, or one below 0 or not finite.
    """
    if not 0 <= temperature < math.inf or (temperature > 0 and key is None):
        raise ValueError(f"temperature {temperature} must be 0, or above 0 with a key to draw from")


def sample_tokens(
    model: Pi0Fast | TextWriter,
    observation: Observation,
    *,
    max_tokens: int = 256,
    temperature: float = 0.0,
    key: Keys | None = None,
    stop: tuple[int, ...] = (EOS,),
    writable: NDArray[np.bool_] | None = None,
    scan_layers: bool = False,
) -> Int[Array, "b n"]:
    """Writes tokens until each row has written one of `stop`, or `max_tokens` of them.

    Args:
        model: π0-FAST, or the language model of π0.5 as a `TextWriter`.
        observation: Prompts without what is to be written.
        max_tokens: The most tokens.
        temperature: 0 for the best token each time.
        key: Needed for a temperature above 0: one a row [B], or one for all.
        stop: Ids that end a row; openpi stops at the end-of-sequence id alone.
        writable: [V] which ids may be written; None for all.
        scan_layers: Whether layers run in a scan, or unrolled one by one as inference wants them.

    Returns:
        [B, max_tokens] ids, the stopping one included, 0 after it. A row for which the network gave NaN or
        infinity is all `BROKEN`.

    Raises:
        ValueError: A temperature above 0 without a key, or one below 0 or not finite; or not one token.
    """
    check(temperature, key)
    if max_tokens < 1:
        raise ValueError(f"max_tokens: expected at least 1, got {max_tokens}")
    logits, decoding = model.prefill(observation, max_tokens, scan_layers=scan_layers)
    batch = len(logits)
    ends = jnp.asarray(stop, jnp.int32)

    def write(logits: Float[Array, "b v"], state: SamplingState) -> SamplingState:
        scores = logits if writable is None else jnp.where(writable, logits, -jnp.inf)
        token = jnp.where(state.done, 0, choose(scores, temperature, key, state.step))
        tokens = jax.lax.dynamic_update_slice_in_dim(state.tokens, token[:, None], state.step, 1)
        done, broken = state.done | jnp.isin(token, ends), state.broken | (~state.done & no_numbers(logits))
        return SamplingState(state.step + 1, token, tokens, done, broken, state.decoding)

    def going(state: SamplingState) -> Bool[Array, ""]:
        return (state.step < max_tokens) & ~jnp.all(state.done)

    def body(state: SamplingState) -> SamplingState:
        scores, decoding = model.decode(state.token[:, None], state.decoding)
        return write(scores[:, 0], state._replace(decoding=decoding))

    nothing = jnp.zeros(batch, jnp.int32), jnp.zeros((batch, max_tokens), jnp.int32)
    no = jnp.zeros(batch, bool)
    start = write(logits, SamplingState(jnp.int32(0), *nothing, no, no, decoding))
    end = jax.lax.while_loop(going, body, start)
    return jnp.where(end.broken[:, None], BROKEN, end.tokens)
