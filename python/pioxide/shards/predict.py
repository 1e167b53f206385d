"""How predictable tokens are: the cross entropy of a small context model, trained on some chunks, on others.

A policy is trained to predict action tokens, so what a codec costs it is how many bits a chunk it must learn
to predict, whatever the number of tokens. A network is too slow to ask about twenty codecs; this model is a
mixture of counts, as in the compressors of the PPM family, and takes seconds:

- A *chain* of contexts goes from few known things to many: nothing; the dimension; the dimension and the
  token at the same joint one row earlier; and so on. Each level mixes what it has counted with the level
  before, by Witten's and Bell's rule: where n tokens followed a context, t of them different, the level
  before gets the share t / (n + t).
- Where tokens are numbers (binning, BEAST), further chains count the *difference* to a forecast: the number
  one row earlier, its continuation, a line through the state. A network learns that bins have an order;
  counts must be told.
- Chains are mixed linearly, with weights by row that expectation maximisation finds on chunks of their own.

Every level and mixture is a probability distribution that is fixed before it sees what it is judged on, so
the figure is an upper bound of what these tokens cost: a better model needs fewer bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

# Rounds of expectation maximisation, and tokens that it looks at.
ROUNDS = 40
MOST_TUNED = 300_000
# Rows up to each of these share their weights.
ROW_BORDERS = np.array([1, 2, 4, 8, 16])
STATE_BINS = 12


@dataclass(frozen=True)
class TokenText:
    """The tokens of N chunks, and what a model that writes them knows.

    Attributes:
        ids: [T] of all chunks, one after another.
        offsets: [N + 1] where each chunk's ids start.
        begins: [T] coefficients that begin in each token.
        vocab: Number of ids.
        dim: D, coefficients of a row.
        numeric: Whether ids are numbers on a line, one a coefficient.
        state: [N, D] for each dimension the number of the normalised state that says most about it; or None.
    """

    ids: Ints
    offsets: Ints
    begins: Ints
    vocab: int
    dim: int
    numeric: bool
    state: Floats | None = None

    @property
    def chunks(self) -> int:
        """Returns N."""
        return len(self.offsets) - 1

    def taken(self, first: int, last: int) -> TokenText:
        """Returns chunks `first` to `last`."""
        part = slice(int(self.offsets[first]), int(self.offsets[last]))
        return TokenText(
            self.ids[part],
            self.offsets[first : last + 1] - self.offsets[first],
            self.begins[part],
            self.vocab,
            self.dim,
            self.numeric,
            None if self.state is None else self.state[first:last],
        )


class _Known(NamedTuple):
    """What is known before each of T tokens, and the token; see `_known`."""

    ids: Ints
    chunk: Ints
    place: Ints
    row: Ints
    joint: Ints
    before: Ints
    before2: Ints
    above: Ints
    above2: Ints
    state: Ints


# What a chain predicts, and the keys of its contexts, from few known things to many.
_Levels = tuple[Ints, list[Ints]]


def bits_per_chunk(train: TokenText, tune: TokenText, judge: TokenText) -> Floats:
    """Returns [N] the bits that the tokens of each chunk of `judge` take; see the module.

    That a chunk ends when it is whole takes none. Chains are counted one after another and not kept, so that
    memory is some ten numbers a token.

    Args:
        train: Chunks to count in.
        tune: Others, by which chains are weighed.
        judge: Others again.
    """
    forecasts = _Forecasts(train) if train.numeric else None
    known = [_known(text) for text in (train, tune, judge)]
    every = [_chains(text, one, forecasts) for text, one in zip((train, tune, judge), known, strict=True)]
    tuned: list[Floats] = []
    judged: list[Floats] = []
    for counted, *asked in zip(*every, strict=True):
        for out, p in zip((tuned, judged), _probabilities(train.vocab, counted, asked), strict=True):
            out.append(p)
    experts, rows = np.stack(tuned), _row_group(known[1])
    if len(rows) > MOST_TUNED:
        some = np.random.default_rng(0).choice(len(rows), MOST_TUNED, replace=False)
        experts, rows = experts[:, some], rows[some]
    weights = _weights(experts, rows)
    probability = np.einsum("et,te->t", np.stack(judged), weights[_row_group(known[2])])
    bits = np.bincount(known[2].chunk, -np.log2(probability), minlength=judge.chunks)
    return np.asarray(bits, np.float64)


def _probabilities(vocab: int, counted: _Levels, asked: list[_Levels]) -> list[Floats]:
    """What a chain that is counted in one text says of the symbols of others."""
    probabilities = [np.full(len(symbols), 1 / vocab) for symbols, _ in asked]
    for level, keys in enumerate(counted[1]):
        table = _Table(2 * vocab + 1, keys, counted[0])
        for i, (symbols, levels) in enumerate(asked):
            both, alone, different = table.counts(levels[level], symbols)
            seen = np.maximum(alone + different, 1)
            before = probabilities[i]
            probabilities[i] = np.where(alone > 0, (both + different * before) / seen, before)
    return probabilities


def _chains(text: TokenText, known: _Known, forecasts: _Forecasts | None) -> Iterator[_Levels]:
    k, v = known, text.vocab + 1
    nothing = np.zeros_like(k.ids)
    yield k.ids, [nothing, k.joint, k.place, k.place * STATE_BINS + k.state]
    yield k.ids, [nothing, k.before, k.before * v + k.before2]
    yield k.ids, [nothing, k.joint, k.joint * v + k.above, (k.joint * v + k.above) * v + k.before]
    yield k.ids, [nothing, k.place, k.place * v + k.before]
    if forecasts is not None:
        yield from forecasts.chains(text, known)


class _Forecasts:
    """Chains of differences to a forecast, for ids that are numbers."""

    def __init__(self, text: TokenText) -> None:
        # By place, the line through the numbers against the state; without a state their mean.
        rows = text.ids.reshape(text.chunks, -1)
        self.slope = np.zeros(rows.shape[1])
        middle = rows.mean(axis=0)
        if text.state is not None:
            x = text.state[:, np.arange(rows.shape[1]) % text.dim]
            spread = np.maximum(x.var(axis=0), 1e-9)
            self.slope = ((x - x.mean(axis=0)) * (rows - middle)).mean(axis=0) / spread
            middle = middle - self.slope * x.mean(axis=0)
        self.offset = middle

    def chains(self, text: TokenText, known: _Known) -> Iterator[_Levels]:
        k, top = known, text.vocab - 1
        line = self.offset[k.place].copy()
        if text.state is not None:
            line += self.slope[k.place] * text.state[k.chunk, k.joint]
        by_state = np.clip(np.rint(line), 0, top).astype(np.int64)
        line_above = np.where(k.row > 0, np.roll(line, text.dim), 0.0)
        first, second = k.row == 0, k.row < 2
        held = np.where(first, by_state, k.above)
        moved = np.where(second, held, np.clip(2 * k.above - k.above2, 0, top))
        shifted = np.where(first, by_state, np.clip(np.rint(k.above + line - line_above), 0, top))
        place = k.joint * 3 + np.minimum(k.row, 2)
        speed = _magnitude(np.where(second, 0, k.above - k.above2))
        for forecast in (by_state, held, moved, shifted.astype(np.int64)):
            difference = k.ids - forecast
            # How wrong the same forecast was about the joint before, in the same row.
            beside = _magnitude(np.where(k.joint > 0, np.roll(difference, 1), 0))
            key = place * _MAGNITUDES + speed
            yield difference + text.vocab, [k.joint, place, key, key * _MAGNITUDES + beside]


class _Table:
    """How often symbols followed contexts."""

    def __init__(self, size: int, keys: Ints, symbols: Ints) -> None:
        self.size = size
        self.pairs, self.both = np.unique(keys * size + symbols, return_counts=True)
        contexts = self.pairs // size
        self.contexts, first, self.different = np.unique(contexts, return_index=True, return_counts=True)
        self.alone = np.add.reduceat(self.both, first) if len(first) else self.both

    def counts(self, keys: Ints, symbols: Ints) -> tuple[Ints, Ints, Ints]:
        """Returns how often the symbol followed the context, how often any did, and how many that were."""
        contexts, inverse = np.unique(keys, return_inverse=True)
        at, found = _find(self.contexts, contexts)
        alone, different = (np.where(found, x[at], 0)[inverse] for x in (self.alone, self.different))
        at, found = _find(self.pairs, keys * self.size + symbols)
        return np.where(found, self.both[at], 0), alone, different


def _find(values: Ints, wanted: Ints) -> tuple[Ints, NDArray[np.bool_]]:
    at = np.minimum(np.searchsorted(values, wanted), len(values) - 1)
    return at, values[at] == wanted


def _known(text: TokenText) -> _Known:
    """What is known before each token; "no token" is the id after the last."""
    none = text.vocab
    chunk = np.repeat(np.arange(text.chunks), np.diff(text.offsets))
    total = np.concatenate([[0], np.cumsum(text.begins)])
    place = total[:-1] - total[text.offsets[:-1]][chunk]
    # Which token each coefficient began in, chunk after chunk.
    cover = np.repeat(np.arange(len(text.ids)), text.begins)
    start = total[:-1]

    def at_row(back: int) -> Ints:
        earlier = place >= back * text.dim
        index = cover[np.where(earlier, start - back * text.dim, 0).clip(0, max(len(cover) - 1, 0))]
        return np.where(earlier, text.ids[index], none)

    def at_token(back: int) -> Ints:
        number = np.arange(len(text.ids)) - text.offsets[:-1][chunk]
        return np.where(number >= back, np.roll(text.ids, back), none)

    joint = place % text.dim
    state = np.zeros_like(place)
    if text.state is not None:
        state = np.clip((text.state[chunk, joint] + 1) / 2 * STATE_BINS, 0, STATE_BINS - 1).astype(np.int64)
    return _Known(
        text.ids,
        chunk,
        place,
        place // text.dim,
        joint,
        at_token(1),
        at_token(2),
        at_row(1),
        at_row(2),
        state,
    )


_MAGNITUDES = 32


def _magnitude(difference: Ints) -> Ints:
    """A number by its sign and its size to a power of two, from 0 to 31."""
    size = np.minimum(np.ceil(np.log2(np.abs(difference) + 1)), 15)
    return (np.sign(difference) * size + 16).astype(np.int64)


def _row_group(known: _Known) -> Ints:
    return np.searchsorted(ROW_BORDERS, known.row, side="right")


def _weights(experts: Floats, groups: Ints) -> Floats:
    """[G, E] the weights by group of rows under which the tokens are most probable."""
    count = len(ROW_BORDERS) + 1
    weights = np.full((count, len(experts)), 1 / len(experts))
    for group in range(count):
        p = experts[:, groups == group]
        if not p.shape[1]:
            continue
        w = weights[group]
        for _ in range(ROUNDS):
            shares = w[:, None] * p
            w = (shares / shares.sum(axis=0)).mean(axis=1)
        # Nothing is quite impossible on other chunks.
        weights[group] = (w + 1e-4) / (w + 1e-4).sum()
    return weights
