"""Records tests/golden/fast/*.json: two vocabularies trained by the published processor, and their ids.

Takes the reference folder ($PIOXIDE_SHARED). Chunks are the recorded ones, rounded to 1/1024 so that they are
short as text; ids and what they decode to come from scipy and the `tokenizers` package. Run from the
repository's root with PYTHONPATH=tests.
"""

import json
import os
from pathlib import Path

import numpy as np

from support.reference_stack import HuggingFaceBpe, ReferenceFast

GRID = 1024
TAKEN = {"g1_h16_v1024": [*range(0, 80, 5), *range(80, 100)], "g1_h50_v2048": [0, 40, *range(80, 100, 4)]}

for name, taken in TAKEN.items():
    directory = Path(os.environ["PIOXIDE_SHARED"], "reference/fast", name)
    reference = ReferenceFast.load(directory, HuggingFaceBpe)
    chunks = np.load(directory / "golden.npz")["chunks"][taken]
    cases = []
    for chunk in np.rint(chunks * GRID):
        actions = chunk / GRID
        ids = reference.encode(actions)
        values = reference.quantise(reference.coefficients(actions))
        whole = reference.bpe.decode(ids) == reference.text(values) and values.min() >= reference.min_token
        cases.append({"chunk": chunk.astype(int).flatten().tolist(), "ids": ids, "round_trips": bool(whole)})
    record = {
        "shape": list(chunks.shape[1:]),
        "grid": GRID,
        "processor_config": json.loads((directory / "processor_config.json").read_text()),
        "tokenizer": json.loads((directory / "tokenizer.json").read_text()),
        "cases": cases,
    }
    target = Path("tests/golden/fast", f"{name}.json")
    target.write_text(json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n")
    print(target, target.stat().st_size, sum(case["round_trips"] for case in cases), "of", len(cases))
