"""Constrained decoding for π0-FAST: only tokens that lead to a whole action chunk may be written.

FAST tokens are pieces of UTF-8 that may begin or end inside a character, so a small automaton decides what
may follow: its state is where in a character the text stands, and how many characters are left to write.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from numpy.typing import NDArray

from pioxide.codec import ActionCodec
from pioxide.errors import InputError
from pioxide.models.decoding import Decoding
from pioxide.models.observation import Observation
from pioxide.models.pi0_fast import Pi0Fast
from pioxide.sampling.tokens import BROKEN, Keys, check, draw, no_numbers

# More characters, or tokens, than any chunk has.
NEVER = np.iinfo(np.int16).max

# Where in a character a text may stand, by the bytes that may come next (Unicode, table 3-7). Each place has
# ranges of bytes and where they lead: no surrogates, nothing spelled longer than it has to be, nothing
# above U+10FFFF.
BETWEEN = 0
_PLACES: tuple[tuple[tuple[int, int, int], ...], ...] = (
    (
        (0x00, 0x7F, 0),
        (0xC2, 0xDF, 1),
        (0xE0, 0xE0, 4),
        (0xE1, 0xEC, 2),
        (0xED, 0xED, 5),
        (0xEE, 0xEF, 2),
        (0xF0, 0xF0, 6),
        (0xF1, 0xF3, 3),
        (0xF4, 0xF4, 7),
    ),
    ((0x80, 0xBF, 0),),  # one more byte
    ((0x80, 0xBF, 1),),  # two more
    ((0x80, 0xBF, 2),),  # three more
    ((0xA0, 0xBF, 1),),  # after E0
    ((0x80, 0x9F, 1),),  # after ED
    ((0x90, 0xBF, 2),),  # after F0
    ((0x80, 0x8F, 2),),  # after F4
)
_NEXT = [{byte: to for low, high, to in place for byte in range(low, high + 1)} for place in _PLACES]


def _read(token: bytes, place: int) -> tuple[int, int] | None:
    """Returns the characters that a token completes from a place, and where it ends; None if it can't."""
    completed = 0
    for byte in token:
        to = _NEXT[place].get(byte)
        if to is None:
            return None
        completed += to == BETWEEN
        place = to
    return completed, place


@dataclass(frozen=True, eq=False)
class Grammar:
    """The tokens of one action codec inside a text vocabulary, and what each does to a text.

    A text has a character a coefficient. FAST's tokens may be several characters or parts of one; the tokens
    of other codecs are one each, so that their grammar only counts.

    Attributes:
        ids: [V] the text ids that a chunk may consist of, ascending.
        end: The text id that ends a chunk.
        completes: [8, V] characters that a token completes from each place in a character; `NEVER` where it
            would break one.
        places: [8, V] where it ends.
        steps: Characters of each dimension; None for as many as the chunk has actions.
    """

    ids: NDArray[np.int32]
    end: int
    completes: NDArray[np.int16]
    places: NDArray[np.int8]
    steps: int | None = None

    @classmethod
    def of(cls, codec: ActionCodec, *, first_fast_id: int, end: int) -> Grammar:
        """Makes the grammar of a codec's tokens.

        Args:
            codec: FAST, or another.
            first_fast_id: The text id of FAST id 0; the others count down from it.
            end: The text id of "|".

        Raises:
            InputError: The FAST ids don't fit into the text vocabulary, or one of them is `end`.
        """
        tokens = [codec.token_bytes(t) for t in range(codec.vocab_size)]
        return replace(cls.spelled(tokens, first_fast_id, end), steps=codec.steps)

    @classmethod
    def spelled(cls, tokens: Sequence[bytes | None], first_fast_id: int, end: int) -> Grammar:
        """Makes the grammar from the bytes of each FAST id; None or empty for one that can't be written.

        Raises:
            InputError: As `of`.
        """
        spelled = {first_fast_id - t: token for t, token in enumerate(tokens) if token}
        ids = sorted(spelled)
        if first_fast_id < len(tokens) or end in ids:
            raise InputError(
                f"{len(tokens)} FAST ids don't fit below text id {first_fast_id + 1}, or {end} is one of them"
            )
        completes = np.full((len(_PLACES), len(ids)), NEVER, np.int16)
        places = np.zeros((len(_PLACES), len(ids)), np.int8)
        for column, text_id in enumerate(ids):
            for place in range(len(_PLACES)):
                found = _read(spelled[text_id], place)
                if found is not None and found[0] < NEVER:
                    completes[place, column], places[place, column] = found
        return cls(np.array(ids, np.int32), end, completes, places)

    def characters(self, horizon: int, dim: int) -> int:
        """Returns how many characters the text of a chunk [horizon, dim] has."""
        return (self.steps or horizon) * dim

    @property
    def begins(self) -> NDArray[np.int32]:
        """Returns [V] the characters that begin in each token, wherever it may be written."""
        place = np.argmax(self.completes != NEVER, axis=0)[None]
        completes, to = (
            np.take_along_axis(table, place, axis=0)[0].astype(np.int32)
            for table in (self.completes, self.places)
        )
        return completes + (to != BETWEEN) - (place[0] != BETWEEN)

    def shortest(self, characters: int, max_tokens: int = NEVER) -> NDArray[np.int16]:
        """Returns [8, characters + 1] the fewest tokens that end a text of so many more characters.

        It is `NEVER` where none do. A token is allowed exactly where the text can still be ended after it, so
        nothing leads into a dead end, whatever bytes or characters the vocabulary lacks.

        Raises:
            InputError: All characters and the end behind them can't be written with `max_tokens`.
        """
        moves = []
        for place in range(len(_PLACES)):
            legal = self.completes[place] != NEVER
            pairs = np.stack([self.completes[place][legal], self.places[place][legal]], axis=1)
            moves.append(np.unique(pairs, axis=0).astype(np.int64))
        fewest = np.full((len(_PLACES), characters + 1), NEVER, np.int64)
        fewest[BETWEEN, 0] = 0
        for left in range(characters + 1):
            # Tokens that complete nothing lead deeper into a character of four bytes: thrice at most.
            for _ in range(4):
                for place, pairs in enumerate(moves):
                    fits = pairs[pairs[:, 0] <= left]
                    if len(fits):
                        after = fewest[fits[:, 1], left - fits[:, 0]].min() + 1
                        fewest[place, left] = min(fewest[place, left], after)
        needed = int(fewest[BETWEEN, -1])
        if needed >= min(max_tokens, NEVER):
            needs = "can't be written at all" if needed >= NEVER else f"takes at least {needed + 1} tokens"
            raise InputError(
                f"a chunk of {characters} numbers {needs} with this action vocabulary; there are {max_tokens}"
            )
        return np.minimum(fewest, NEVER).astype(np.int16)


class ChunkState(NamedTuple):
    """How far each row's chunk is: its place inside a character, and the characters left to write; [B]."""

    place: Int[Array, " b"]
    left: Int[Array, " b"]


class Rules(NamedTuple):
    """A grammar's tables on the device, for chunks of one size."""

    completes: Int[Array, "p v"]
    places: Int[Array, "p v"]
    shortest: Int[Array, "p n"]

    @classmethod
    def of(cls, grammar: Grammar, *, horizon: int, dim: int, max_tokens: int) -> Rules:
        """Makes the tables for chunks of [horizon, dim].

        Raises:
            InputError: The vocabulary can't write such a chunk within `max_tokens`, or there is none.
        """
        characters = grammar.characters(horizon, dim)
        if min(horizon, dim) < 1 or characters >= NEVER:
            raise InputError(f"a chunk of [{horizon}, {dim}]: expected 1 to {NEVER - 1:,} numbers")
        shortest = grammar.shortest(characters, max_tokens)
        return cls(jnp.asarray(grammar.completes), jnp.asarray(grammar.places), jnp.asarray(shortest))

    def compute_mask(
        self, state: ChunkState, remaining: Int[Array, ""] | Int[Array, "b 1"]
    ) -> Bool[Array, "b v"]:
        """Returns which tokens may be written if at most `remaining` tokens, one number or [B, 1], follow."""
        completes = self.completes[state.place].astype(jnp.int32)
        left = state.left[:, None] - completes
        places = self.places[state.place].astype(jnp.int32)
        fewest = self.shortest[places, jnp.maximum(left, 0)].astype(jnp.int32)
        return (left >= 0) & (fewest <= remaining)

    def consume_token(self, state: ChunkState, choice: Int[Array, " b"]) -> ChunkState:
        """Returns the state after an allowed token, given by its column."""
        left = state.left - self.completes[state.place, choice].astype(jnp.int32)
        return ChunkState(self.places[state.place, choice].astype(jnp.int32), left)


class WritingState(NamedTuple):
    """The state of the decoding loop.

    Attributes:
        step: Tokens written so far.
        token: [B] the last of them.
        tokens: [B, N] all of them.
        chunk: How far each row's chunk is.
        broken: [B] which rows had a score that was NaN or infinite.
        decoding: The model's state.
    """

    step: Int[Array, ""]
    token: Int[Array, " b"]
    tokens: Int[Array, "b n"]
    chunk: ChunkState
    broken: Bool[Array, " b"]
    decoding: Decoding


def sample_action_tokens(
    model: Pi0Fast,
    observation: Observation,
    grammar: Grammar,
    *,
    horizon: int,
    dim: int,
    max_tokens: int = 256,
    temperature: float = 0.0,
    key: Keys | None = None,
    scan_layers: bool = False,
) -> Int[Array, "b n"]:
    """Writes the tokens of one chunk and its end, so that every answer decodes to [horizon, dim].

    Where greedy decoding writes a whole chunk by itself, this gives that chunk. Scores are computed for the
    grammar's tokens alone, which equals masking the rest of the vocabulary; the end is not scored, because
    nothing else may stand there.

    Args:
        model: π0-FAST.
        observation: Prompts that end in the answer's constant start, `Action: `.
        grammar: The rules; static under jit.
        horizon: H of the chunk.
        dim: D of the chunk.
        max_tokens: The most tokens, the end included. Tokens after which the chunk could not be ended in time
            are masked.
        temperature: 0 for the best token each time.
        key: Needed for a temperature above 0: one a row [B], or one for all.
        scan_layers: Whether layers run in a scan, or unrolled one by one as inference wants them.

    Returns:
        [B, max_tokens] text ids, the end included, 0 after it. A row for which the network gave NaN or
        infinity is all `BROKEN`, which decodes to nothing.

    Raises:
        ValueError: A temperature above 0 without a key, or one below 0 or not finite.
        InputError: The vocabulary can't write such a chunk within `max_tokens`, or there is none.
    """
    check(temperature, key)
    rules = Rules.of(grammar, horizon=horizon, dim=dim, max_tokens=max_tokens)
    ids = jnp.asarray(grammar.ids)
    head = model.language.head(ids)
    logits, decoding = model.prefill(observation, max_tokens, head=head, scan_layers=scan_layers)
    batch = len(logits)

    def write(logits: Float[Array, "b v"], state: WritingState) -> WritingState:
        # Behind this token there must be space for the rest of the chunk, and for the end.
        allowed = rules.compute_mask(state.chunk, max_tokens - state.step - 2)
        column = _choose(logits, allowed, temperature, key, state.step)
        done = state.chunk.left == 0
        after = rules.consume_token(state.chunk, column)
        chunk = ChunkState(*(jnp.where(done, old, new) for old, new in zip(state.chunk, after, strict=True)))
        ended = ~done & (chunk.left == 0)
        token = jnp.where(done, 0, ids[column])
        # The end behind a chunk's last token is written with it; a row that ended before keeps its zeros.
        written = jnp.where(done, state.tokens[:, state.step], token)
        following = jnp.where(ended, grammar.end, state.tokens[:, state.step + 1])
        both = jnp.stack([written, following], axis=1)
        tokens = jax.lax.dynamic_update_slice_in_dim(state.tokens, both, state.step, 1)
        broken = state.broken | (~done & no_numbers(logits))
        return WritingState(state.step + 1, token, tokens, chunk, broken, state.decoding)

    def going(state: WritingState) -> Bool[Array, ""]:
        return jnp.any(state.chunk.left > 0)

    def body(state: WritingState) -> WritingState:
        scores, decoding = model.decode(state.token[:, None], state.decoding, head=head)
        return write(scores[:, 0], state._replace(decoding=decoding))

    characters = grammar.characters(horizon, dim)
    chunk = ChunkState(jnp.zeros(batch, jnp.int32), jnp.full(batch, characters, jnp.int32))
    empty = jnp.zeros(batch, jnp.int32), jnp.zeros((batch, max_tokens), jnp.int32)
    start = write(logits, WritingState(jnp.int32(0), *empty, chunk, jnp.zeros(batch, bool), decoding))
    end = jax.lax.while_loop(going, body, start)
    return jnp.where(end.broken[:, None], BROKEN, end.tokens)


def _choose(
    logits: Float[Array, "b v"],
    allowed: Bool[Array, "b v"],
    temperature: float,
    key: Keys | None,
    step: Int[Array, ""],
) -> Int[Array, " b"]:
    if key is None or temperature == 0.0:
        return best_allowed(logits, allowed)
    scores = _masked(logits.astype(jnp.float32) / temperature, allowed)
    return draw(key, scores, step)


def best_allowed(logits: Float[Array, "b v"], allowed: Bool[Array, "b v"]) -> Int[Array, " b"]:
    """Returns the column of the best allowed token, even where scores are infinite or NaN."""
    return jnp.argmax(_masked(logits.astype(jnp.float32), allowed), axis=-1).astype(jnp.int32)


def _masked(scores: Float[Array, "b v"], allowed: Bool[Array, "b v"]) -> Float[Array, "b v"]:
    return jnp.where(allowed, jnp.nan_to_num(scores), -jnp.inf)
