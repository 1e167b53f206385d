"""Speculative decoding for π0-FAST: verify a draft in one pass, keep its correct prefix.

arXiv 2211.17192 with a draft that costs nothing: the tokens of the previous chunk, or of what remains of it.
A pass over a few tokens takes hardly longer than over one, because its time goes into reading the weights.

Where the answer leaves the draft, drafting continues at the draft token that begins at the same place of the
chunk. Under a grammar places are characters, one a coefficient: a coefficient that changed, and with it how
its neighbours are merged into tokens, costs a pass or two and not the rest of the draft.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from pioxide.models.decoding import Decoding
from pioxide.models.observation import Observation
from pioxide.models.pi0_fast import Pi0Fast
from pioxide.models.typed import AnyArray
from pioxide.sampling.constrained import BETWEEN, ChunkState, Grammar, Rules, best_allowed
from pioxide.sampling.tokens import BROKEN, EOS, no_numbers

# The value of a slot that no token was written to.
NOTHING = -1
# Tokens of a block that are followed without a loop; more make compiling slow.
UNROLL = 16


class Draft(NamedTuple):
    """A guess at each row's answer: [B, N] ids, of which the first `length` [B] count."""

    tokens: Int[AnyArray, "b n"]
    length: Int[AnyArray, " b"]


class Speculation(NamedTuple):
    """Answers, and what their drafts were worth.

    Attributes:
        tokens: [B, max_tokens] ids, equal to those of the sampler without a draft, `BROKEN` included.
        accepted: [B] tokens that took no pass of their own.
        passes: Passes through the model after the prompt's.
    """

    tokens: Int[Array, "b n"]
    accepted: Int[Array, " b"]
    passes: Int[Array, ""]


class FreeWriter(NamedTuple):
    """Rules of free decoding: any token, until one of `stop`. A text's state is whether it has ended.

    M is any number of texts; a state is a tree of [M] arrays.
    """

    stop: Int[Array, " e"]

    def start(self, batch: int) -> Bool[Array, " b"]:
        """Returns the state of empty texts."""
        return jnp.zeros(batch, bool)

    def choose(self, logits: Float[Array, "m v"], state: Any, step: Int[Array, " m"]) -> Int[Array, " m"]:
        """Returns the best token, as number `step` of its text."""
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)

    def consume_token(self, state: Bool[Array, " m"], token: Int[Array, " m"]) -> Bool[Array, " m"]:
        """Returns the state after `token`; unspecified if the token was not allowed."""
        return state | jnp.isin(token, self.stop)

    def over(self, state: Bool[Array, " m"]) -> Bool[Array, " m"]:
        """Returns whether each text is complete."""
        return state

    def extent(self, tokens: Int[Array, "*m"]) -> Int[Array, "*m"]:
        """Returns how many places of a text each token takes up, by which drafts are aligned: one."""
        return jnp.ones_like(tokens)


class ChunkWriter(NamedTuple):
    """Rules of constrained decoding: the tokens of one chunk of `characters` coefficients."""

    rules: Rules
    ids: Int[Array, " v"]
    begins: Int[Array, " v"]
    characters: int
    max_tokens: int

    def start(self, batch: int) -> ChunkState:
        """See `FreeWriter`."""
        return ChunkState(jnp.full(batch, BETWEEN, jnp.int32), jnp.full(batch, self.characters, jnp.int32))

    def choose(
        self, logits: Float[Array, "m v"], state: ChunkState, step: Int[Array, " m"]
    ) -> Int[Array, " m"]:
        """See `FreeWriter`."""
        allowed = self.rules.compute_mask(state, self.max_tokens - step[:, None] - 2)
        return self.ids[best_allowed(logits, allowed)]

    def consume_token(self, state: ChunkState, token: Int[Array, " m"]) -> ChunkState:
        """See `FreeWriter`."""
        return self.rules.consume_token(state, self._column(token))

    def over(self, state: ChunkState) -> Bool[Array, " m"]:
        """See `FreeWriter`."""
        return state.left <= 0

    def extent(self, tokens: Int[Array, "*m"]) -> Int[Array, "*m"]:
        """Returns the characters that begin in each token."""
        return self.begins[self._column(tokens)]

    def _column(self, tokens: Int[Array, "*m"]) -> Int[Array, "*m"]:
        return jnp.minimum(jnp.searchsorted(self.ids, tokens), len(self.ids) - 1)


Writer = FreeWriter | ChunkWriter


class _State(NamedTuple):
    """The state of the loop: all rows at the same step, the last token of each not yet read by the model."""

    passes: Int[Array, ""]
    step: Int[Array, ""]
    last: Int[Array, " b"]
    tokens: Int[Array, "b n"]
    reached: Int[Array, " b"]
    accepted: Int[Array, " b"]
    broken: Bool[Array, " b"]
    text: Any
    decoding: Decoding


def speculate_tokens(
    model: Pi0Fast,
    observation: Observation,
    draft: Draft,
    *,
    block: int,
    max_tokens: int = 256,
    temperature: float = 0.0,
    stop: tuple[int, ...] = (EOS,),
    scan_layers: bool = False,
) -> Speculation:
    """Writes what `sample_tokens` writes at temperature 0, in fewer passes where the draft is right.

    See `speculate_action_tokens` for how exact that is; the arguments are those of `sample_tokens`. A wrong
    token costs its pass, and drafting continues with the next token of the draft.

    Raises:
        ValueError: A temperature above 0, or a block or an answer without a token.
    """
    _check(block, temperature)
    if max_tokens < 1:
        raise ValueError(f"max_tokens: expected at least 1, got {max_tokens}")
    logits, decoding = model.prefill(observation, max_tokens + block, scan_layers=scan_layers)
    writer = FreeWriter(jnp.asarray(stop, jnp.int32))
    state = _speculate(model, logits, decoding, draft, writer, block=block, max_tokens=max_tokens, head=None)
    tokens = jnp.maximum(state.tokens[:, :max_tokens], 0)
    tokens = jnp.where(state.broken[:, None], BROKEN, tokens)
    return Speculation(tokens, state.accepted, state.passes)


def speculate_action_tokens(
    model: Pi0Fast,
    observation: Observation,
    grammar: Grammar,
    draft: Draft,
    *,
    horizon: int,
    dim: int,
    block: int,
    max_tokens: int = 256,
    temperature: float = 0.0,
    scan_layers: bool = False,
) -> Speculation:
    """Writes what `sample_action_tokens` writes at temperature 0, in fewer passes where the draft is right.

    Every token is the best allowed one after the tokens before it, whatever the draft was. A pass over
    several tokens may round its sums otherwise than a pass over one, so that of two tokens that are equally
    good to the last bits the other may be chosen; the chunk is whole in any case.

    All rows advance together, by as many tokens as the row that agrees least with its draft.

    Args:
        model: π0-FAST.
        observation: Prompts that end in `Action: `.
        grammar: The rules; a static argument under jit.
        draft: The guess; any ids at all are allowed in it.
        horizon: H of the chunk.
        dim: D of the chunk.
        block: Tokens a pass reads: the last one written and `block - 1` of the draft. Static under jit.
        max_tokens: The most tokens, the end included.
        temperature: Must be 0; anything else is refused rather than ignored.
        scan_layers: Whether layers run in a scan, or unrolled one by one as inference wants them.

    Raises:
        ValueError: A temperature above 0, or a block without a token.
        InputError: The vocabulary can't write such a chunk within `max_tokens`.
    """
    _check(block, temperature)
    rules = Rules.of(grammar, horizon=horizon, dim=dim, max_tokens=max_tokens)
    ids, begins = jnp.asarray(grammar.ids), jnp.asarray(grammar.begins)
    head = model.language.head(ids)
    logits, decoding = model.prefill(observation, max_tokens + block, head=head, scan_layers=scan_layers)
    writer = ChunkWriter(rules, ids, begins, grammar.characters(horizon, dim), max_tokens)
    state = _speculate(model, logits, decoding, draft, writer, block=block, max_tokens=max_tokens, head=head)
    tokens = state.tokens[:, :max_tokens]
    length = jnp.sum(tokens != NOTHING, axis=1, keepdims=True)
    tokens = jnp.where(jnp.arange(max_tokens) == length, grammar.end, jnp.maximum(tokens, 0))
    tokens = jnp.where(state.broken[:, None], BROKEN, tokens)
    return Speculation(tokens, state.accepted, state.passes)


def _check(block: int, temperature: float) -> None:
    if temperature != 0.0:
        raise ValueError(f"temperature {temperature}: a draft is verified against the best tokens, so only 0")
    if block < 1:
        raise ValueError(f"a block of {block} tokens holds not even the last one written")


def _speculate(
    model: Pi0Fast,
    logits: Float[Array, "b v"],
    decoding: Decoding,
    draft: Draft,
    writer: Writer,
    *,
    block: int,
    max_tokens: int,
    head: Float[Array, "v w"] | None,
) -> _State:
    batch = len(logits)
    guesses = _Guesses.of(draft, writer, vocab=model.language.config.vocab, block=block)

    def body(state: _State) -> _State:
        guess = guesses.at(state.reached, block - 1)
        read = jnp.concatenate([state.last[:, None], guess], axis=1)
        logits, decoding = model.decode(read, state.decoding, head=head)
        new = _write(writer, state, logits, guess, max_tokens)
        # Wrong guesses lie behind this slot: unseen, and overwritten before they could be seen.
        slot = state.decoding.slot + (new.step - state.step)
        return new._replace(passes=state.passes + 1, decoding=decoding._replace(slot=slot))

    def going(state: _State) -> Bool[Array, ""]:
        return (state.step < max_tokens) & ~jnp.all(writer.over(state.text))

    zero, zeros = jnp.int32(0), jnp.zeros(batch, jnp.int32)
    tokens = jnp.full((batch, max_tokens + block), NOTHING, jnp.int32)
    broken = jnp.zeros(batch, bool)
    state = _State(zero, zero, zeros, tokens, zeros, zeros, broken, writer.start(batch), decoding)
    state = _write(writer, state, logits[:, None], jnp.zeros((batch, 0), jnp.int32), max_tokens)
    return jax.lax.while_loop(going, body, state)


def _write(
    writer: Writer,
    state: _State,
    logits: Float[Array, "b t v"],
    guess: Int[Array, "b t-1"],
    max_tokens: int,
) -> _State:
    """Writes the tokens that a pass decided: the guesses that were right, and one more."""
    batch, count = logits.shape[:2]

    def follow(text: Any, token: Int[Array, " b"]) -> tuple[Any, Any]:
        return writer.consume_token(text, token), text

    end, along = jax.lax.scan(follow, state.text, guess.T, unroll=UNROLL)
    before = jax.tree.map(lambda x, y: jnp.concatenate([x.T, y[:, None]], axis=1).reshape(-1), along, end)
    steps = jnp.broadcast_to(state.step + jnp.arange(count), (batch, count)).reshape(-1)
    chosen = writer.choose(logits.reshape(batch * count, -1), before, steps)
    after = jax.tree.map(lambda x: x.reshape(batch, count), writer.consume_token(before, chosen))
    chosen = chosen.reshape(batch, count)

    # Keep a choice only if every earlier draft token matched and the sequence had not ended.
    was_over = writer.over(state.text)[:, None]
    is_over = writer.over(jax.tree.map(lambda x: x.reshape(-1), after)).reshape(batch, count)
    own = ~jnp.concatenate([was_over, (chosen[:, :-1] != guess) | is_over[:, :-1]], axis=1)
    own = jnp.cumprod(own, axis=1).astype(bool)
    # A row that has ended, or ends in this pass, holds no other back.
    ends = was_over[:, 0] | jnp.any(own & is_over, axis=1)
    agreed = jnp.min(jnp.where(ends, count, jnp.sum(own, axis=1, dtype=jnp.int32)))
    agreed = jnp.minimum(agreed, max_tokens - state.step)
    kept = own & (jnp.arange(count) < agreed)

    written = jnp.sum(kept, axis=1, dtype=jnp.int32)
    last = jnp.maximum(written - 1, 0)[:, None]
    text = jax.tree.map(
        lambda old, new: jnp.where(written > 0, jnp.take_along_axis(new, last, axis=1)[:, 0], old),
        state.text,
        after,
    )
    extent = jnp.sum(jnp.where(kept, writer.extent(chosen), 0), axis=1, dtype=jnp.int32)
    return state._replace(
        step=state.step + agreed,
        last=jnp.take_along_axis(chosen, last, axis=1)[:, 0],
        tokens=jax.lax.dynamic_update_slice_in_dim(
            state.tokens, jnp.where(kept, chosen, NOTHING), state.step, 1
        ),
        reached=state.reached + extent,
        accepted=state.accepted + last[:, 0],
        broken=state.broken | jnp.any(kept & no_numbers(logits), axis=1),
        text=text,
    )


class _Guesses(NamedTuple):
    """A draft by place: `begin` [B, N] is how much of the text lies before each token."""

    tokens: Int[Array, "b m"]
    begin: Int[Array, "b n"]

    @classmethod
    def of(cls, draft: Draft, writer: Writer, *, vocab: int, block: int) -> _Guesses:
        # An id that does not exist is only another wrong guess; reading it would give NaN.
        tokens = jnp.clip(draft.tokens.astype(jnp.int32), 0, vocab - 1)
        tokens = jnp.pad(tokens, ((0, 0), (0, 1)))  # a place to look at where the draft is empty
        extent = writer.extent(tokens)
        counts = jnp.arange(tokens.shape[1]) < draft.length[:, None]
        begin = jnp.where(counts, jnp.cumsum(extent, axis=1) - extent, NOTHING)
        return cls(jnp.pad(jnp.where(counts, tokens, 0), ((0, 0), (0, block))), begin)

    def at(self, reached: Int[Array, " b"], count: int) -> Int[Array, "b {count}"]:
        """Returns the `count` tokens that begin at a place; unspecified ones where none does."""
        here = jnp.argmax(self.begin == reached[:, None], axis=1)
        return jnp.take_along_axis(self.tokens, here[:, None] + jnp.arange(count), axis=1)
