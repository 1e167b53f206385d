"""Tokens, one thread: pioxide beside the reference stack and the best stack a user can compose.

"Published" is the FAST processor as people run it, through `transformers`; "reference" runs on `tokenizers`
alone. All work on the same chunks, and their ids and actions are compared before anything is timed.

    python benches/tokens.py [--quick] [--dataset DIR] [--json FILE] [--markdown FILE]
"""

import timing

timing.one_thread()

import argparse  # noqa: E402
import json  # noqa: E402
import logging  # noqa: E402
from collections.abc import Callable  # noqa: E402
from dataclasses import asdict, dataclass, field  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402
from scipy.fft import dct, idct  # noqa: E402

from material import Material, shared  # noqa: E402
from pioxide.codec import (  # noqa: E402
    FastCodec,
    Pi0FastPrompts,
    Pi0Prompts,
    Pi05Prompts,
    TextTokenizer,
)
from support.composed_stack import ComposedFast  # noqa: E402
from support.reference_stack import (  # noqa: E402
    ReferenceFast,
    ReferencePrompts,
    TransformersBpe,
    state_bins,
)

VERBS = ["pick up", "push", "lift", "hand over", "turn", "place", "wipe", "grasp"]
THINGS = ["the yellow bottle", "the red cube", "a plate", "the small box", "the sponge", "the left drawer"]
PLACES = ["on the table", "from the shelf", "into the bin", "with the right hand", "next to the cup"]
PROMPTS = [f"{verb} {thing} {place}" for verb in VERBS for thing in THINGS for place in PLACES]


@dataclass
class Row:
    """One line of the table, microseconds an item; `checked` says what was found equal before timing."""

    work: str
    reference: float
    pioxide: float
    published: float | None = None
    batch: float | None = None
    composed: float | None = None
    aim: float | None = None
    checked: str = ""
    peers: dict[str, float] = field(default_factory=dict)

    @property
    def best(self) -> float:
        return min(self.pioxide, self.batch or self.pioxide)

    @property
    def today(self) -> float:
        """What it takes people today."""
        return self.published or self.reference


@dataclass
class Bench:
    """Holds what all measurements share."""

    material: Material
    rounds: int
    items: int

    def time(
        self, contenders: dict[str, Callable[[int], object]], items: int | None = None
    ) -> dict[str, float]:
        """Microseconds an item."""
        seconds = timing.interleaved(contenders, self.rounds)
        return {name: value / (items or self.items) * 1e6 for name, value in seconds.items()}

    def per_round(self, array):
        """Splits an array into the rounds' parts, so that no input comes twice."""
        return [array[r * self.items : (r + 1) * self.items] for r in range(self.rounds)]


def encode(
    bench: Bench, horizon: int, dim: int, size: int, aim: float, dtype: str
) -> tuple[Row, dict[str, float]]:
    """FAST encode, and where its time goes in each stack."""
    chunks = bench.material.chunks(horizon, dim, bench.rounds * bench.items)
    bench.items = len(chunks) // bench.rounds
    directory = bench.material.vocabulary(horizon, chunks.shape[2], size, chunks)
    chunks = chunks[: bench.rounds * bench.items].astype(dtype)
    # tokenizers and fastokens remember what they have seen: what is timed is not what was compared before.
    oracle, codec, reference = (
        ReferenceFast.load(directory),
        FastCodec.load(directory),
        ReferenceFast.load(directory),
    )
    published = ReferenceFast.load(directory, TransformersBpe)
    parts = bench.per_round(chunks)

    batch = codec.encode_batch(chunks, on_overflow="clip")
    kept = [i for i in range(len(chunks)) if not batch.clipped[i]]
    wrong = sum(oracle.encode(chunks[i]) != batch[i].tolist() for i in kept)
    alone = sum(codec.encode(chunks[i]).ids.tolist() != batch[i].tolist() for i in kept[:500])
    assert wrong == alone == 0, f"{wrong} of {len(kept)} chunks got other ids than the reference's"
    checked = f"ids of {len(kept):,} distinct chunks"
    if len(kept) < len(chunks):
        checked += f" ({len(chunks) - len(kept)} that this vocabulary can't represent left out)"

    contenders: dict[str, Callable[[int], object]] = {
        "reference": lambda r: [reference.encode(c) for c in parts[r]],
        "published": lambda r: [published.encode(c) for c in parts[r]],
        "pioxide": lambda r: [codec.encode(c, on_overflow="clip") for c in parts[r]],
        "pioxide batch": lambda r: codec.encode_batch(parts[r], on_overflow="clip"),
    }
    composed = composed_one = None
    try:
        composed, composed_one = ComposedFast.load(directory), ComposedFast.load(directory)
        ids, offsets = ComposedFast.load(directory).encode_batch(chunks[:500])
        for i in range(min(500, len(chunks))):
            assert ids[int(offsets[i]) : int(offsets[i + 1])].tolist() == batch[i].tolist()
        contenders["composed"] = lambda r: composed.encode_batch(parts[r])
        contenders["composed, one at a time"] = lambda r: [composed_one.encode(c) for c in parts[r]]
    except Exception as error:
        composed = None
        checked += f"; fastokens refuses this vocabulary ({error})"
    took = bench.time(contenders)

    work = f"FAST encode, {horizon} x {chunks.shape[2]}, {size} tokens, {dtype}"
    peers = {name: took[name] for name in ["composed, one at a time"] if name in took}
    row = Row(
        work,
        took["reference"],
        took["pioxide"],
        took["published"],
        took["pioxide batch"],
        took.get("composed"),
        aim,
        checked,
        peers,
    )
    return row, _stages(bench, ReferenceFast.load(directory), parts, took)


def _stages(bench: Bench, reference: ReferenceFast, parts, took: dict[str, float]) -> dict[str, float]:
    """The reference's stages by themselves, and what calling pioxide from Python costs."""
    coefficients = [[reference.coefficients(c) for c in part] for part in parts]
    quantised = [[reference.quantise(c) for c in part] for part in coefficients]
    texts = [[reference.text(q) for q in part] for part in quantised]
    stages = bench.time(
        {
            "reference: DCT (scipy)": lambda r: [reference.coefficients(c) for c in parts[r]],
            "reference: scale and round": lambda r: [reference.quantise(c) for c in coefficients[r]],
            "reference: characters": lambda r: [reference.text(q) for q in quantised[r]],
            "reference: split and BPE (tokenizers)": lambda r: [reference.bpe.encode(t) for t in texts[r]],
        }
    )
    stages["reference: what transformers adds"] = took["published"] - took["reference"]
    if "composed" in took:
        flat = [np.stack(part) for part in parts]
        several = bench.time(
            {
                "composed: DCT (scipy), whole batch": lambda r: dct(flat[r], axis=1, norm="ortho"),
                "composed: scale, round, characters": lambda r: _characters(reference, coefficients[r]),
            }
        )
        stages |= several
        stages["composed: split and BPE (fastokens)"] = took["composed"] - sum(several.values())
    stages["pioxide: everything, in Rust"] = took["pioxide batch"]
    stages["pioxide: a Python call and its arrays"] = took["pioxide"] - took["pioxide batch"]
    return stages


def _characters(reference: ReferenceFast, coefficients) -> str:
    quantised = np.rint(np.stack(coefficients) * reference.scale) - reference.min_token
    return np.maximum(quantised, 0).astype("<u4").tobytes().decode("utf-32-le")


def decode(bench: Bench, horizon: int, dim: int, size: int, aim: float) -> tuple[Row, dict[str, float]]:
    """FAST decode."""
    chunks = bench.material.chunks(horizon, dim, bench.rounds * bench.items)
    dim = chunks.shape[2]
    directory = bench.material.vocabulary(horizon, dim, size, chunks)
    codec, reference = FastCodec.load(directory), ReferenceFast.load(directory)
    published = ReferenceFast.load(directory, TransformersBpe)
    batch = codec.encode_batch(chunks, on_overflow="clip")
    ids = [batch[i] for i in range(len(chunks))]
    lists = bench.per_round([i.tolist() for i in ids])
    arrays = bench.per_round(ids)
    actions, _ = codec.decode_batch(batch, horizon=horizon, dim=dim)
    theirs = np.stack([reference.decode(i.tolist(), horizon, dim) for i in ids])
    checked = same_actions(theirs, actions)
    values = [[np.array(list(map(ord, reference.bpe.decode(i)))) for i in part] for part in lists]
    took = bench.time(
        {
            "reference": lambda r: [reference.decode(i, horizon, dim) for i in lists[r]],
            "published": lambda r: [published.decode(i, horizon, dim) for i in lists[r]],
            "pioxide": lambda r: [codec.decode(i, horizon=horizon, dim=dim) for i in arrays[r]],
            "pioxide batch": lambda r: codec.decode_batch(arrays[r], horizon=horizon, dim=dim),
            "reference: ids to text (tokenizers)": lambda r: [reference.bpe.decode(i) for i in lists[r]],
            "reference: inverse DCT (scipy)": lambda r: [
                idct(v.reshape(horizon, dim) / 10, axis=0, norm="ortho") for v in values[r]
            ],
        }
    )
    stages = {name: value for name, value in took.items() if name.startswith("reference:")}
    stages["reference: characters to numbers"] = took["reference"] - sum(stages.values())
    stages["pioxide: everything, in Rust"] = took["pioxide batch"]
    work = f"FAST decode, {horizon} x {dim}, {size} tokens"
    stages["reference: what transformers adds"] = took["published"] - took["reference"]
    times = (took["reference"], took["pioxide"], took["published"], took["pioxide batch"])
    return Row(work, *times, None, aim, checked), stages


def same_actions(theirs, ours) -> str:
    """Says how alike decoded actions [N, H, D] are; raises where they are not."""
    largest = float(np.abs(theirs - ours).max())
    assert theirs.any(axis=(1, 2)).all(), "the reference returned zeros"
    assert largest < 1e-9, f"decoded actions differ from the reference's by up to {largest}"
    exact = "bit for bit" if np.array_equal(theirs, ours) else f"to {largest:.0e}"
    return f"actions of {len(ours):,} chunks, {exact}"


def prompts(bench: Bench) -> tuple[list[Row], dict[str, float]]:
    """The prompts of the three models: 240 instructions, 32 joints."""
    model = bench.material.text_model
    text, reference = TextTokenizer.load(model), ReferencePrompts.load(model)
    count = bench.rounds * bench.items
    states = np.resize(bench.material.states, (count, 32))
    index = np.random.default_rng(1).integers(0, len(PROMPTS), count)
    chunks = bench.material.chunks(16, 14, 100)
    codec = FastCodec.load(bench.material.vocabulary(16, chunks.shape[2], 1024, chunks))
    pi0, pi05, fast = Pi0Prompts(text), Pi05Prompts(text), Pi0FastPrompts(text, codec)
    state_parts, index_parts = bench.per_round(states), bench.per_round(index)
    parts = [
        list(zip([PROMPTS[i] for i in ii], ss, strict=True))
        for ii, ss in zip(index_parts, state_parts, strict=True)
    ]

    rows = []
    cases = [
        ("π0 prompt", 20.0, reference.pi0, pi0, False, 48),
        ("π0.5 prompt, 32 joints", 40.0, reference.pi05, pi05, True, 200),
        ("π0-FAST prompt without actions, 32 joints", 40.0, reference.pi0_fast, fast, True, 250),
    ]
    for work, aim, peer, ours, with_state, max_len in cases:
        rows.append(
            _prompt_row(bench, work, aim, peer, ours, with_state, max_len, parts, index_parts, state_parts)
        )
    stages = bench.time(
        {
            "reference: state bins (numpy)": lambda r: [state_bins(s) for s in state_parts[r]],
            "reference: numbers to text": lambda r: [" ".join(map(str, b)) for b in _bins(state_parts[r])],
            "reference: SentencePiece": lambda r: [
                reference.processor.encode(t, add_bos=True) for t in _texts(parts[r])
            ],
        }
    )
    # The comprehensions above make their inputs anew; that time is not the reference's.
    made = bench.time({"bins": lambda r: _bins(state_parts[r]), "texts": lambda r: _texts(parts[r])})
    stages["reference: numbers to text"] -= made["bins"]
    stages["reference: SentencePiece"] -= made["texts"]
    stages["reference: padding and arrays"] = rows[1].reference - sum(stages.values())
    stages["pioxide: everything, in Rust"] = rows[1].batch or rows[1].pioxide
    return rows, stages


def _bins(states) -> list:
    return list(np.digitize(states, np.linspace(-1, 1, 257)[:-1]) - 1)


def _texts(pairs) -> list[str]:
    states = np.stack([s for _, s in pairs])
    return [
        f"Task: {p}, State: {' '.join(map(str, b))};\nAction: "
        for (p, _), b in zip(pairs, _bins(states), strict=True)
    ]


def _prompt_row(bench, work, aim, peer, ours, with_state, max_len, parts, index_parts, state_parts) -> Row:
    def expected(prompt, state):
        return peer(prompt, state, max_len=max_len) if with_state else peer(prompt, max_len)

    def made(prompt, state):
        return ours.encode(prompt, state) if with_state else ours.encode(prompt)

    def batch(r):
        unique = (PROMPTS, index_parts[r])
        return ours.encode_batch(unique, state_parts[r]) if with_state else ours.encode_batch(unique)

    wrong = total = 0
    for r in range(len(parts)):
        together = batch(r)
        for i, (prompt, state) in enumerate(parts[r]):
            one, want = made(prompt, state), expected(prompt, state)
            same = np.array_equal(one.tokens, want.tokens) and np.array_equal(one.mask, want.mask)
            same &= np.array_equal(together.tokens[i], want.tokens) and np.array_equal(
                together.mask[i], want.mask
            )
            wrong, total = wrong + (not same), total + 1
    assert wrong == 0, f"{wrong} of {total} prompts differ from the reference's"
    took = bench.time(
        {
            "reference": lambda r: [expected(p, s) for p, s in parts[r]],
            "pioxide": lambda r: [made(p, s) for p, s in parts[r]],
            "pioxide batch": batch,
        }
    )
    times = (took["reference"], took["pioxide"], None, took["pioxide batch"])
    return Row(work, *times, None, aim, f"{total:,} prompts")


def way_back(bench: Bench) -> Row:
    """π0-FAST ids, as the model gives them, to actions."""
    model = bench.material.text_model
    chunks = bench.material.chunks(16, 14, bench.rounds * bench.items)
    directory = bench.material.vocabulary(16, chunks.shape[2], 1024, chunks)
    dim = chunks.shape[2]
    codec, text = FastCodec.load(directory), TextTokenizer.load(model)
    kept = np.flatnonzero(codec.encode_batch(chunks, on_overflow="clip").clipped == 0)
    chunks = chunks[np.resize(kept, len(chunks))]
    reference = ReferencePrompts.load(model, ReferenceFast.load(directory))
    published = ReferencePrompts.load(model, ReferenceFast.load(directory, TransformersBpe))
    fast = Pi0FastPrompts(text, codec)
    ids = []
    for chunk in chunks:
        made = reference.pi0_fast("pick up the bottle", np.zeros(14), chunk, 512)
        prefix = reference.pi0_fast("pick up the bottle", np.zeros(14), None, 512).length
        ids.append(made.tokens[prefix : made.length].astype(np.int32))
    theirs = np.stack([reference.extract_actions(i, 16, dim) for i in ids])
    checked = same_actions(
        theirs, np.stack([fast.ids_to_actions(i, horizon=16, dim=dim).actions for i in ids])
    )
    same_actions(theirs, fast.ids_to_actions_batch(ids, horizon=16, dim=dim)[0])
    parts = bench.per_round(ids)
    took = bench.time(
        {
            "reference": lambda r: [reference.extract_actions(i, 16, dim) for i in parts[r]],
            "published": lambda r: [published.extract_actions(i, 16, dim) for i in parts[r]],
            "pioxide": lambda r: [fast.ids_to_actions(i, horizon=16, dim=dim) for i in parts[r]],
            "pioxide batch": lambda r: fast.ids_to_actions_batch(parts[r], horizon=16, dim=dim),
        }
    )
    work = f"π0-FAST ids to actions, 16 x {dim}"
    times = (took["reference"], took["pioxide"], took["published"], took["pioxide batch"])
    return Row(work, *times, None, 40.0, checked)


def fit(bench: Bench, count: int, horizon: int, dim: int, size: int) -> Row:
    """Training a tokenizer, seconds in all (shown in microseconds a chunk)."""
    chunks = bench.material.chunks(horizon, dim, count)
    seconds = timing.interleaved(
        {
            "reference": lambda _: ReferenceFast.fit(chunks, vocab_size=size),
            "pioxide": lambda _: FastCodec.fit(chunks, vocab_size=size, regex_split=True),
            "no split": lambda _: FastCodec.fit(chunks, vocab_size=size, regex_split=False),
        },
        min(3, bench.rounds),
    )
    reference = ReferenceFast.fit(chunks, vocab_size=size)
    held_out = chunks[:: max(1, len(chunks) // 300)]
    theirs = float(np.mean([len(reference.encode(c)) for c in held_out]))
    means = {}
    for split in (True, False):
        codec = FastCodec.fit(chunks, vocab_size=size, regex_split=split)
        means[split] = float(np.mean(np.diff(codec.encode_batch(held_out, on_overflow="clip").offsets)))
    checked = (
        f"tokens a chunk {theirs:.1f} there, {means[True]:.1f} here, {means[False]:.1f} without the split"
    )
    took = {name: value / len(chunks) * 1e6 for name, value in seconds.items()}
    work = f"fit on {len(chunks):,} chunks {horizon} x {chunks.shape[2]}, {size} tokens"
    peers = {"without the split": took["no split"]}
    return Row(work, took["reference"], took["pioxide"], None, None, None, 10.0, checked, peers)


COLUMNS = [
    "published",
    "reference",
    "composed",
    "pioxide",
    "batch",
    "ratio",
    "aim",
    "to reference",
    "to composed",
]


def report(rows: list[Row], stages: dict[str, dict[str, float]], console: Console) -> None:
    table = Table(
        title="Microseconds an item, one thread", title_justify="left", box=None, padding=(0, 2, 0, 0)
    )
    table.add_column("work")
    for column in COLUMNS:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(row.work, *cells(row))
    console.print(table)
    for row in rows:
        extra = "".join(f"; {name} {_us(value)} µs" for name, value in row.peers.items())
        console.print(f"  {row.work}: equal: {row.checked}{extra}", style="dim", highlight=False)
    for name, parts in stages.items():
        console.print()
        part_table = Table(title=name, title_justify="left", box=None, padding=(0, 2, 0, 0))
        part_table.add_column("stage")
        part_table.add_column("µs", justify="right")
        for stage, value in parts.items():
            part_table.add_row(stage, _us(value))
        console.print(part_table)


def cells(row: Row) -> list[str]:
    return [
        _us(row.published),
        _us(row.reference),
        _us(row.composed),
        _us(row.pioxide),
        _us(row.batch),
        _ratio(row.today, row.best),
        f"{row.aim:.0f}x" if row.aim else "",
        _ratio(row.reference, row.best),
        _ratio(row.composed, row.best),
    ]


def _ratio(theirs: float | None, ours: float) -> str:
    return (
        "" if theirs is None else f"{theirs / ours:.0f}x" if theirs >= 10 * ours else f"{theirs / ours:.1f}x"
    )


def markdown(rows: list[Row], stages: dict[str, dict[str, float]], about: dict[str, str]) -> str:
    lines = [", ".join(f"{k} {v}" for k, v in about.items()), ""]
    lines += [f"| work | {' | '.join(COLUMNS)} |", "|---|" + "--:|" * len(COLUMNS)]
    lines += [f"| {row.work} | {' | '.join(cells(row))} |" for row in rows]
    lines += ["", *(f"- {row.work}: {row.checked}" + _peers(row) for row in rows)]
    for name, parts in stages.items():
        lines += ["", f"**{name}**", "", "| stage | µs |", "|---|--:|"]
        lines += [f"| {stage} | {_us(value)} |" for stage, value in parts.items()]
    return "\n".join(lines) + "\n"


def _peers(row: Row) -> str:
    return "".join(f"; {name} {_us(value)} µs" for name, value in row.peers.items())


def _us(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="few items and rounds: does it run, and are ids equal"
    )
    parser.add_argument(
        "--dataset", type=Path, help="LeRobot dataset; G1 from ../shared or the demo's by default"
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    logging.getLogger("transformers").setLevel(logging.ERROR)

    material = Material.find(options.dataset)
    console = Console(width=150)
    about = {**timing.machine(), "dataset": material.dataset.name, "load": timing.load()}
    console.print(", ".join(f"{k} {v}" for k, v in about.items()), style="dim", highlight=False)
    rounds, items = (2, 40) if options.quick else (7, 1000)

    def bench() -> Bench:
        return Bench(material, rounds, items)

    rows, stages = [], {}
    for horizon, dim, size, aim, dtype in [
        (50, 26, 2048, 60.0, "float64"),
        (50, 26, 2048, 60.0, "float32"),
        (16, 14, 1024, 55.0, "float64"),
    ]:
        row, parts = encode(bench(), horizon, dim, size, aim, dtype)
        rows.append(row)
        if dtype == "float64":
            stages[row.work] = parts
    row, stages["FAST decode, by stage"] = decode(bench(), 50, 26, 2048, 50.0)
    rows.append(row)
    several, stages["π0.5 prompt, by stage"] = prompts(bench())
    rows += several
    rows.append(way_back(bench()))
    rows.append(fit(bench(), 200 if options.quick else 2482, 50, 26, 1024))
    report(rows, stages, console)
    if options.json:
        result = {"machine": about, "rows": [asdict(row) for row in rows], "stages": stages}
        options.json.write_text(json.dumps(result, indent=1, ensure_ascii=False))
    if options.markdown:
        options.markdown.write_text(markdown(rows, stages, about))
    if shared() is None:
        console.print(
            "Small vocabulary and demo dataset: ../shared with the real ones was not found.", style="yellow"
        )


if __name__ == "__main__":
    main()
