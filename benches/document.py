"""Writes docs/benchmarks.md from what the benches measured.

python benches/tokens.py --json tokens.json
python benches/job.py --json job.json
python benches/document.py tokens.json job.json
"""

import json
import sys
from pathlib import Path
from typing import Any

TARGET = Path(__file__).resolve().parent.parent / "docs/benchmarks.md"
# The section that `make bench-h100` is the source of.
PREDICTED = "## A policy on an H100, predicted"
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

INTRODUCTION = """# Benchmarks

```console
$ make bench          # pioxide beside its peers: tokens in one process on the same chunks, then the whole job
$ make bench-rust     # the core by stage (criterion)
```

Results are compared before anything is timed: on every input below, ids, masks and actions are the
reference's. Each contender takes its turn on the same distinct inputs, because `tokenizers` and
`fastokens` remember what they have seen. Garbage collection is off, the process is held to one core and
one thread, and the median of seven rounds of 1,000 items counts, in processor time.

- **published**: the FAST processor as people run it, `scipy` and `transformers`, one chunk a call (its
  batches are a loop).
- **reference**: the same on `tokenizers` alone; prompts by NumPy and `sentencepiece`, as openpi builds
  them.
- **composed**: the best stack that can be put together from published packages: the characters of a
  whole batch by array operations, then `fastokens` on the batch.
- **pioxide**: one item a call; **batch**: all in one call. Ratios take the faster of the two, to
  *published* where there is one.
- *aim*: what pioxide set out to reach, against figures of older releases of the peers on a slower
  processor.
"""


def main() -> None:
    tokens, job = (json.loads(Path(name).read_text()) for name in sys.argv[1:3])
    parts = [
        INTRODUCTION,
        machine(tokens["machine"]),
        rows(tokens["rows"]),
        stages(tokens["stages"]),
        whole(job),
    ]
    # What the benches here don't measure is kept.
    _, heading, predicted = TARGET.read_text().partition(PREDICTED)
    TARGET.write_text("\n".join(parts) + (f"\n{heading}{predicted}" if heading else ""))


def machine(about: dict[str, str]) -> str:
    packages = [
        "numpy",
        "scipy",
        "tokenizers",
        "transformers",
        "sentencepiece",
        "fastokens",
        "pyarrow",
        "pioxide",
    ]
    versions = ", ".join(f"{name} {about[name]}" for name in packages)
    busy = float(about["load"]) > 2
    shared = f", busy with other work at the time (load {about['load']})" if busy else ""
    return (
        f"## Machine\n\n{about['cpu']}, {about['cores']} virtual cores{shared}; {about['system']}, "
        f"Python {about['python']};\n{versions}.\n\n"
        f"Dataset: `{about['dataset']}`. Where that is g1_pick_bottle (Unitree G1, 26 joints, 30 Hz, 14,296\n"
        "frames), the FAST vocabularies were fitted by the published processor, and the text model has\n"
        "PaliGemma's 257,152 pieces.\n"
    )


def rows(measured: list[dict[str, Any]]) -> str:
    lines = ["## Tokens", "", "Microseconds an item.", ""]
    lines += [f"| work | {' | '.join(COLUMNS)} |", "|---|" + "--:|" * len(COLUMNS)]
    for row in measured:
        best = min(row["pioxide"], row["batch"] or row["pioxide"])
        cells = [us(row[name]) for name in COLUMNS[:5]]
        cells += [times(row["published"] or row["reference"], best), f"{row['aim']:.0f}x"]
        cells += [times(row["reference"], best), times(row["composed"], best)]
        lines.append(f"| {row['work']} | {' | '.join(cells)} |")
    lines += ["", "What was found equal first:", ""]
    return "\n".join([*lines, *(f"- {row['work']}: {row['checked']}" for row in measured), ""])


def stages(measured: dict[str, dict[str, float]]) -> str:
    lines = ["### Where the time goes", ""]
    for title, parts in measured.items():
        lines += [
            f"| {title} | µs |",
            "|---|--:|",
            *(f"| {stage} | {us(v)} |" for stage, v in parts.items()),
            "",
        ]
    return "\n".join(lines)


def whole(job: dict[str, Any]) -> str:
    lines = [
        "## The whole job",
        "",
        "From the dataset on disk to token shards on disk for π0-FAST: read, normalise, cut a chunk of",
        "50 steps for every frame, encode, build the prompt, write Parquet. The reference job does the same",
        f"with the reference stack and pyarrow; both write the same {job['equal_rows']:,} rows. The larger",
        "dataset is ten copies, each shifted by a milliradian or so.",
        "",
        "| job | frames | seconds | CPU seconds | frames a second | frames a CPU second |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for name, result in job["results"].items():
        cells = [f"{result['frames']:,}", f"{result['seconds']:.2f}", f"{result['busy']:.2f}"]
        cells += [f"{result['frames'] / result[kind]:,.0f}" for kind in ("seconds", "busy")]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += [
        "",
        f"On one core and the same frames pioxide takes {job['ratio']:.0f} times less processor time.",
    ]
    if "scaling" in job:
        lines.append(f"A second core makes the larger job {job['scaling']:.2f} times as fast on the clock.")
        if float(job["machine"]["load"]) > 2:
            load = job["machine"]["load"]
            lines.append(f"That says little here: {load} processes wanted these cores while it was taken.")
    return "\n".join([*lines, ""])


def us(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def times(theirs: float | None, ours: float) -> str:
    return (
        "" if theirs is None else f"{theirs / ours:.0f}x" if theirs >= 10 * ours else f"{theirs / ours:.1f}x"
    )


if __name__ == "__main__":
    main()
