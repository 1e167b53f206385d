"""Time a policy's network against the plain computation, measure by measure, and what surrounds it.

Every row adds one measure to the row above, and its answer is compared with the equations' before anything is
timed: the largest difference of an action over the largest action, or the tokens that differ.

    python benches/policy.py                                      # what fits the device
    python benches/policy.py --kind pi05 --model full --cameras 3
    python benches/policy.py --model small --markdown            # tables for docs/policy.md
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import jax

from networks import KINDS, NAMES, SIZES, TEXT, config, device_facts, random_model, timed
from policy_batch import batches
from policy_fast import fast_rows
from policy_flow import continued, flow_rows
from policy_host import call_stages, starts, uploaded
from tables import Table

PARTS = ("rows", "realtime", "call", "batch", "upload", "start")


def bench(
    kind: str, size: str, cameras: int, text: int, seconds: float, parts: tuple[str, ...]
) -> dict[str, Any]:
    c = config(kind, size)
    model = random_model(c)
    result: dict[str, Any] = {"kind": kind, "model": size, "cameras": cameras, "text": text}
    if "rows" in parts:
        rows = fast_rows if kind == "pi0_fast" else flow_rows
        result |= rows(model, cameras, text, seconds)
    if "realtime" in parts and kind != "pi0_fast":
        result["realtime"] = timed(continued(model, cameras, text), seconds / 3)
    if "call" in parts:
        result["policy"] = call_stages(model, cameras, seconds / 3)
    if "batch" in parts:
        result["batch"] = timed(batches(model, cameras, text), seconds / 3)
    if "upload" in parts:
        result["upload"] = uploaded(c, cameras, text, seconds / 10)
    del model
    if "start" in parts:
        result["start"] = starts(kind, size, cameras)
    return result


def tables(result: dict[str, Any]) -> Iterator[Table]:
    """What was measured of a model."""
    kind, size = NAMES[result["kind"]], result["model"]
    if "rows" in result:
        yield rows_table(f"{kind}, {size}", result)
    if "realtime" in result:
        yield Table(
            f"{kind}, {size}, a chunk",
            ("p50 ms", "p99 ms", "cpu ms", "ratio"),
            {
                name: clock(row) + ratios(row, result["realtime"])[:1]
                for name, row in result["realtime"].items()
            },
        )
    if "policy" in result:
        yield call_table(f"{kind}, {size}, a whole call from 480 x 640 images", result["policy"])
    if "batch" in result:
        yield batch_table(f"{kind}, {size}, one call for several robots", result["batch"])
    if "upload" in result:
        yield Table(
            f"{kind}, {size}, upload of fitted images and what goes with them",
            ("p50 ms", "p99 ms", "cpu ms", "ratio"),
            {
                name: clock(row, digits=3) + ratios(row, result["upload"])[:1]
                for name, row in result["upload"].items()
            },
        )
    if "start" in result:
        yield start_table(f"{kind}, {size}, start of a process", result["start"])


def rows_table(title: str, result: dict[str, Any]) -> Table:
    rows, fast = result["rows"], result["kind"] == "pi0_fast"
    columns = ("p50 ms", "p99 ms", "cpu ms", "ratio (clock)", "ratio (cpu)")
    columns += FAST_COLUMNS if fast else ("apart",)

    def cells(row: dict[str, Any]) -> tuple[str, ...]:
        own = fast_cells(row) if fast else (f"{row['apart']:.0e}",)
        return clock(row) + ratios(row, rows) + own + (f"{row['compile']:.0f}",)

    named = {name: cells(row) for name, row in rows.items()}
    named["floor, one token a pass" if fast else "floor"] = (milliseconds(result["floor"]),)
    cameras = "3 cameras" if fast else f"{result['cameras']} of 3 cameras"
    note = (
        f"{cameras}, {result['text']} ids of text. The floor: {result['flop'] / 1e9:.0f} GFLOP at "
        f"{result['multiply'] / 1e9:.0f} GFLOP/s, weights read at {result['read'] / 1e9:.0f} GB/s."
    )
    return Table(title, (*columns, "compile s"), named, (note,))


FAST_COLUMNS = ("prefill ms", "ms a token", "tokens", "passes", "accepted", "differ")


def fast_cells(row: dict[str, Any]) -> tuple[str, ...]:
    """The prompt's pass, what each token behind it took, and how the answer came about."""
    counts = (str(row[key]) for key in ("tokens", "passes", "accepted", "apart"))
    return (milliseconds(row["prefill"]), f"{row['token'] * 1e3:.2f}", *counts)


def call_table(title: str, whole: dict[str, Any]) -> Table:
    stages = {**whole["stages"], "in all": whole}
    named = {n: (f"{s['p50'] * 1e3:.2f}", f"{s['p99'] * 1e3:.2f}") for n, s in stages.items()}
    note = (
        f"{whole['calls']} calls, the state's text of another length in each. Compiled before: "
        f"{len(whole['compile'])} lengths of text; in a call: none."
    )
    return Table(title, ("p50 ms", "p99 ms"), named, (note,))


def batch_table(title: str, measured: dict[str, dict[str, Any]]) -> Table:
    def cells(name: str, row: dict[str, Any]) -> tuple[str, ...]:
        return (*clock(row), milliseconds(row["p50"] / int(name.split()[0])))

    named = {name: cells(name, row) for name, row in measured.items()}
    return Table(title, ("p50 ms", "p99 ms", "cpu ms", "p50 ms a robot"), named)


def start_table(title: str, measured: dict[str, dict[str, float]]) -> Table:
    named = {n: (f"{s['weights']:.1f}", f"{s['compile']:.1f}") for n, s in measured.items()}
    shapes = next(iter(measured.values()))["shapes"]
    return Table(title, ("weights laid out s", "compile s"), named, (f"Lengths of text: {shapes}.",))


def clock(row: dict[str, Any], digits: int | None = None) -> tuple[str, ...]:
    """p50, p99 and processor time."""
    return tuple(milliseconds(row[key], digits) for key in ("p50", "p99", "processor"))


def milliseconds(seconds: float, digits: int | None = None) -> str:
    return f"{seconds * 1e3:.{(0 if seconds > 0.1 else 1) if digits is None else digits}f}"


def ratios(row: dict[str, Any], rows: dict[str, Any]) -> tuple[str, ...]:
    """How many times faster than the first row, on the clock and in processor time."""
    first = next(iter(rows.values()))
    return tuple(f"{first[key] / row[key]:.2f}" for key in ("p50", "processor"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kind", action="append", choices=KINDS, help="all by default")
    parser.add_argument("--model", action="append", choices=SIZES)
    parser.add_argument("--part", action="append", choices=PARTS, help="all by default")
    parser.add_argument("--cameras", type=int, default=2, choices=[1, 2, 3])
    parser.add_argument("--text", type=int, help=f"ids in the prompt; by default {TEXT}")
    parser.add_argument("--seconds", type=float, default=60, help="for the rows of each model")
    parser.add_argument("--markdown", action="store_true", help="print tables as docs/policy.md has them")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    gpu = jax.default_backend() != "cpu"
    facts = device_facts()
    results = []
    for size in arguments.model or (["full"] if gpu else ["small", "so400m-dummy"]):
        for kind in arguments.kind or KINDS:
            text = arguments.text or TEXT[kind]
            parts = tuple(arguments.part or PARTS)
            results.append(bench(kind, size, arguments.cameras, text, arguments.seconds, parts))
            for table in tables(results[-1]):
                print(f"\n{table.markdown() if arguments.markdown else table.text()}", flush=True)
            if arguments.json:
                arguments.json.write_text(json.dumps({"machine": facts, "results": results}, indent=2))


if __name__ == "__main__":
    main()
