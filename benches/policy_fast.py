"""π0-FAST: what each measure buys over the plain computation of a chunk's tokens.

Plain is what the model's own sampler does with text padded to its full length and layers by scan, "Action: "
and the end written token by token like the rest.

Random weights would not write a chunk, so `Trained` stands in for training: it lowers the scores of all but
what may stand at a place by its number alone: "Action: " first, then as many tokens of `SPELLED` numbers as a
chunk has room for, then "|", then the end. Which of them is the weights' own choice, the same in every row,
and any of them makes a whole chunk, so that the grammar has nothing to correct.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from networks import (
    FAST_DIM,
    FAST_HORIZON,
    FAST_ROOM,
    INEXACT,
    Apart,
    Row,
    apart,
    compiled,
    device_dtype,
    floor,
    observed,
    pass_phase,
    prefix_phase,
    timed,
    vision_phase,
)
from pioxide.codec import FastCodec
from pioxide.engine.prepare import prepare
from pioxide.engine.shape import bucket, text_buckets
from pioxide.models import Observation, Pi0Fast, Pi0FastConfig
from pioxide.models.decoding import Decoding
from pioxide.sampling import (
    Draft,
    Grammar,
    Speculation,
    sample_action_tokens,
    sample_tokens,
    speculate_action_tokens,
)
from pioxide.sampling.constrained import BETWEEN
from pioxide.sampling.tokens import EOS

# Text ids of "Action: " and "|"; which they are matters to nothing here.
BEGIN, BAR = (5, 6, 7), 8
# Numbers that each token of an answer stands for, and tokens of an answer.
SPELLED = 4
LENGTH = FAST_HORIZON * FAST_DIM // SPELLED
# Tokens that each is chosen from; others each time, as random weights like to repeat the token they read.
CHOICES = 10
# Below any score. What may stand keeps its own to the last bit.
LOWERED = -1e9
# Tokens that a pass reads of a draft.
BLOCK = 8


def fitted_codec() -> FastCodec:
    chunks = np.cumsum(np.random.default_rng(0).normal(0, 0.05, (500, FAST_HORIZON, FAST_DIM)), axis=1)
    return FastCodec.fit(chunks, vocab_size=1024)


def lowered_scores(grammar: Grammar, vocab: int) -> NDArray[np.float32]:
    """[N, V] what `Trained` adds to the scores of an answer's token, by its number."""
    rng, ids = np.random.default_rng(5), spelling(grammar)
    chunk = [rng.choice(ids, CHOICES, replace=False) for _ in range(LENGTH)]
    numbered = [*([i] for i in BEGIN), *chunk, [BAR], [EOS]]
    lowered = np.full((len(numbered), vocab), LOWERED, np.float32)
    for row, may_come in zip(lowered, numbered, strict=True):
        row[may_come] = 0.0
    return lowered


def spelling(grammar: Grammar) -> NDArray[np.int32]:
    """The tokens that stand for `SPELLED` whole characters."""
    whole = (grammar.completes[BETWEEN] == SPELLED) & (grammar.places[BETWEEN] == BETWEEN)
    return grammar.ids[whole]


class Trained(NamedTuple):
    """A model that writes an answer's form, of which `begun` tokens are in the prompt."""

    model: Any
    lowered: jax.Array
    begun: int

    @property
    def language(self) -> Any:
        return self.model.language

    def prefill(
        self, observation: Observation, room: int, *, scan_layers: bool = False, head: Any = None
    ) -> Any:
        scores, state = self.model.prefill(observation, room, head=head, scan_layers=scan_layers)
        return scores + self.lowered[self.begun], state

    def decode(self, tokens: jax.Array, state: Decoding, *, head: Any = None) -> Any:
        scores, after = self.model.decode(tokens, state, head=head)
        number = self.begun + state.slot - state.prompt_slots + 1 + jnp.arange(tokens.shape[1])
        return scores + self.lowered[jnp.minimum(number, len(self.lowered) - 1)], after


class Pruned(NamedTuple):
    """A model of which `ids` alone are scored; tokens are their columns, in and out."""

    model: Any
    ids: jax.Array

    @property
    def head(self) -> jax.Array:
        return self.model.language.head(self.ids)

    def prefill(self, observation: Observation, room: int, *, scan_layers: bool = False) -> Any:
        return self.model.prefill(observation, room, head=self.head, scan_layers=scan_layers)

    def decode(self, tokens: jax.Array, state: Decoding) -> Any:
        return self.model.decode(self.ids[tokens], state, head=self.head)


@dataclass(frozen=True)
class Way:
    """How an answer is computed.

    Attributes:
        text: Slots of the prompt's text.
        own: Whether weights are laid out for inference.
        rounded: Whether they are in 8 bits.
        scan_layers: Whether layers run in a scan.
        begun: Whether "Action: " is in the prompt, and the answer ends at "|".
        pruned: Whether only what may come is scored.
        grammar: Whether only whole chunks can be written.
        draft: Text ids of a draft, where there is one.
    """

    text: int
    own: bool = False
    rounded: bool = False
    scan_layers: bool = True
    begun: bool = False
    pruned: bool = False
    grammar: bool = False
    draft: NDArray[np.int32] | None = None

    @property
    def prefill(self) -> Way:
        """What the prompt's pass depends on."""
        return replace(self, grammar=False, draft=None)


class Bench:
    """One model, its grammar, and its weights both ways."""

    def __init__(self, model: Pi0Fast, cameras: int, real: int) -> None:
        self.config, self.real = model.config, real
        self.grammar = Grammar.of(fitted_codec(), first_fast_id=self.config.language.vocab - 129, end=BAR)
        self.lowered = lowered_scores(self.grammar, self.config.language.vocab)
        self.stacked, self.own = apart(model), apart(prepare(model).model)
        self.rounded = apart(prepare(model, quantize="int8").model)
        self._cameras = cameras

    def ways(self) -> dict[str, Way]:
        """Each adds one measure to the row above; drafts come later, when there is an answer."""
        longest, n = self.config.text_len, len(BEGIN)
        short = bucket(self.real + n, text_buckets(longest + n))
        way = Way(longest)
        named = {"plain": way}

        def add(name: str, **measure: Any) -> None:
            nonlocal way
            way = named[name] = replace(way, **measure)

        add(f"+ text padded to {short}, not {longest}", text=short)
        add("+ layers unrolled", scan_layers=False)
        add("+ weights laid out", own=True)
        add('+ "Action: " in the prefill, the end at "|"', begun=True)
        add("+ vocabulary pruned to what may come", pruned=True)
        add("+ only whole chunks (pioxide)", grammar=True)
        return named

    def observation(self, way: Way) -> Observation:
        """All cameras count, as in training; `cameras` of them are not black."""
        c, ids = self.config, list(BEGIN) if way.begun else []
        real = self.real + len(ids)
        seen = observed(c, self._cameras, way.text, real, absent=True)._replace(image_masks={})
        if not ids:
            return seen
        tokens, starts = np.array(seen.tokens), np.zeros((1, way.text), np.int32)
        tokens[0, self.real : real], starts[0, self.real : real] = ids, 1
        return seen._replace(tokens=tokens, ar_mask=starts)

    def row(self, way: Way) -> Row:
        """A whole answer."""
        draft = () if way.draft is None else (self._draft(way.draft),)

        def function(weights, observation, *draft):
            model = self._model(way, weights)
            size = {"horizon": FAST_HORIZON, "dim": FAST_DIM, "max_tokens": FAST_ROOM}
            if draft:
                return speculate_action_tokens(
                    model, observation, self.grammar, draft[0], block=BLOCK, **size
                )
            if way.grammar:
                tokens = sample_action_tokens(
                    model, observation, self.grammar, scan_layers=way.scan_layers, **size
                )
                return _counted(tokens, without_pass=2)
            stop = self._stop(way)
            tokens = sample_tokens(
                model, observation, max_tokens=FAST_ROOM, stop=stop, scan_layers=way.scan_layers
            )
            if way.pruned:
                written = jnp.arange(FAST_ROOM) <= jnp.argmax(tokens == stop[0], axis=1)[:, None]
                tokens = jnp.where(written, model.ids[tokens], 0)
            return _counted(tokens, without_pass=1)

        return Row(function, self._weights(way), (self.observation(way), *draft))

    def prefill_row(self, way: Way) -> Row:
        """The prompt's pass alone."""

        def function(weights, observation):
            model = self._model(way, weights)
            scores, decoding = model.prefill(observation, FAST_ROOM, scan_layers=way.scan_layers)
            return jnp.argmax(scores, axis=-1), decoding

        return Row(function, self._weights(way), (self.observation(way),))

    def _weights(self, way: Way) -> Any:
        lowered = self.lowered[:, self._scored(way)] if way.pruned else self.lowered
        return self._parts(way).leaves, jnp.asarray(lowered)

    def _parts(self, way: Way) -> Apart:
        if way.rounded:
            return self.rounded
        return self.own if way.own else self.stacked

    def _model(self, way: Way, weights: Any) -> Any:
        leaves, lowered = weights
        model = self._parts(way).merge(leaves)
        trained = Trained(model, lowered, len(BEGIN) if way.begun else 0)
        if way.pruned and not way.grammar:
            return Pruned(trained, jnp.asarray(self._scored(way)))
        return trained

    def _scored(self, way: Way) -> NDArray[np.int32]:
        """What a head scores: under a grammar the end is not, and else it comes first."""
        return self.grammar.ids if way.grammar else np.append(np.int32(BAR), self.grammar.ids)

    def _stop(self, way: Way) -> tuple[int, ...]:
        if way.pruned:
            return (0,)
        return (BAR, EOS) if way.begun else (EOS,)

    def _draft(self, ids: NDArray[np.int32]) -> Draft:
        tokens = np.zeros((1, FAST_ROOM), np.int32)
        tokens[0, : len(ids)] = ids
        return Draft(tokens, np.array([len(ids)], np.int32))  # type: ignore[arg-type]

    def chunk(self, answer: Speculation) -> NDArray[np.int32]:
        """The action tokens of an answer."""
        tokens = np.asarray(answer.tokens)[0]
        return tokens[np.isin(tokens, self.grammar.ids)]

    def wrong(self, chunk: NDArray[np.int32]) -> NDArray[np.int32]:
        """Another token in every place, as long as the right one."""
        ids = spelling(self.grammar)
        return ids[(np.searchsorted(ids, chunk) + 1) % len(ids)]


def _counted(tokens: jax.Array, *, without_pass: int) -> Speculation:
    """An answer written one token a pass, of which `without_pass` needed none behind the prompt's."""
    return Speculation(tokens, jnp.zeros(1, jnp.int32), jnp.count_nonzero(tokens[0]) - without_pass)


def fast_rows(model: Pi0Fast, cameras: int, real: int, seconds: float) -> dict[str, Any]:
    """The rows compared and timed, the prompt's pass and a token apart, and the floor below them."""
    bench = Bench(model, cameras, real)
    ways = bench.ways()
    programs = {name: compiled(bench.row(way)) for name, way in ways.items()}
    answers = {name: program.call() for name, program in programs.items()}
    last = list(ways)[-1]
    right = bench.chunk(answers[last])
    for name, further in (
        (f"+ a draft of {BLOCK}, all wrong", {"draft": bench.wrong(right)}),
        ("+ the same, all right", {"draft": right}),
        (INEXACT, {"rounded": True}),
    ):
        ways[name] = replace(ways[last], **further)
        programs[name] = compiled(bench.row(ways[name]))
        answers[name] = programs[name].call()
    chunks = {name: bench.chunk(answer) for name, answer in answers.items()}
    plain = next(iter(chunks.values()))
    assert all(len(chunk) == LENGTH for chunk in chunks.values()), {n: len(c) for n, c in chunks.items()}
    differ = {name: int(np.count_nonzero(chunk != plain)) for name, chunk in chunks.items()}
    # In bfloat16 two tokens may be as good as each other to the last bit, and a sum in another order decides.
    exact = [count for name, count in differ.items() if name != INEXACT]
    assert device_dtype() != jnp.float32 or not any(exact), f"rows disagree: {differ}"

    measured = timed({name: program.call for name, program in programs.items()}, seconds)
    prefills = {way.prefill: compiled(bench.prefill_row(way.prefill)) for way in ways.values()}
    prompts = timed({way: program.call for way, program in prefills.items()}, seconds / 3)
    for name, way in ways.items():
        prefill = prompts[way.prefill]["p50"]
        passes, accepted = int(answers[name].passes), int(answers[name].accepted[0])
        measured[name] |= {
            "compile": programs[name].seconds,
            "apart": differ[name],
            "prefill": prefill,
            "token": (measured[name]["p50"] - prefill) / (passes + accepted),
            "tokens": int(np.count_nonzero(np.asarray(answers[name].tokens))),
            "passes": passes,
            "accepted": accepted,
        }
    return {**floor(phases(model.config, len(bench.grammar.ids), real)), "rows": measured}


def phases(c: Pi0FastConfig, scored: int, text: int) -> dict[str, Any]:
    """What an answer of one token a pass takes at least."""
    prefix = len(c.cameras) * c.vision.tokens + text + len(BEGIN)
    head = scored * c.language.experts[0].width
    return {
        "vision": vision_phase(c, len(c.cameras)),
        "prefix": prefix_phase(c, len(c.cameras), text + len(BEGIN)),
        "tokens": pass_phase(c, c.language, 1, prefix, head, LENGTH - 1),
    }
