"""Record what the reference stack makes of texts and prompts in the demo's vocabulary, for tests.

    PYTHONPATH=tests python tools/record_text_golden.py tests/golden/text.json

`pieces` are texts with the ids and the decoded text of the sentencepiece package, `ids` are id sequences with
their decoded text, `prompts` are rows of the three formats by the stack in tests/support, `subtasks` are
questions for a subtask, answers and what is read of them, `characters` what Python's `str.lower` and
`str.isspace` say of each code point, `sigmas` what `str.lower` does to a Σ.
"""

import argparse
import json
import random
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece

from support.reference_stack import EOS, ReferencePrompts, state_bins

MODEL = Path(__file__).parent.parent / "python" / "pioxide" / "demo" / "text.model"

TEXTS = """pick up the red cube
Pick up the yellow bottle on the table.
fold_the_towel
  open   the drawer
Clean the table: plates → rack; trash → bin!
naïve café déjà-vu
把红色方块放进碗里
ぬいぐるみを取って
Поставь чашку на стол
ضع الكوب على الطاولة
🤖 wave hello 👋🏽
stack 3 blocks at x=12.5, y=-0.7
Task: State: 1 2;
<bos>plain<pad>text<eos>
<loc0001><loc1023><seg127><loc
<0x41><0xFF>
def f(x):\\n\\treturn {x: 'y'}\\n
▁ ▁▁literal▁lower▁blocks
\\n\\n\\n \\n
"quoted" 'task', "and," more,
12345678901234567890
ΟΔΟΣ ΣΑΣ İSTANBUL ẞ Ǆ"""


def texts(rng: random.Random) -> list[str]:
    """The texts above, some at the edges, and random ones over all of Unicode."""
    fixed = [line.replace("\\n", "\n").replace("\\t", "\t") for line in TEXTS.splitlines()]
    fixed += ["", " ", "a", "\x00", "\x1f_a_\x1c", " " * 40, "\n" * 7, "ab" * 60, "the " * 20, "cube" * 30]
    blocks = [
        (0x20, 0x7F),
        (0xA0, 0x250),
        (0x370, 0x400),
        (0x3040, 0x3100),
        (0x1F600, 0x1F650),
        (1, 0x10FFFF),
    ]
    for _ in range(60):
        low, high = rng.choice(blocks)
        points = [rng.randint(low, high) for _ in range(rng.randint(1, 24))]
        fixed.append("".join(" " if p % 7 == 0 else chr(p) for p in points if not 0xD800 <= p < 0xE000))
    return fixed


def prompts(stack: ReferencePrompts, rng: random.Random) -> list[dict[str, Any]]:
    """Rows of every format, short ones cut."""
    vocabulary = stack.processor.vocab_size()
    rows: list[dict[str, Any]] = []
    for number, text in enumerate(texts(rng)[:45]):
        state = np.random.RandomState(number).normal(0, 0.7, [0, 1, 6, 7, 14, 32][number % 6])
        if number % 5 == 0:
            state = np.round(state * 128) / 128
        max_len = [250, 250, 40, 12][number % 4]
        actions = [rng.randrange(2048) for _ in range(rng.choice([0, 1, 20]))]
        pi0, pi05 = stack.pi0(text, max_len), stack.pi05(text, state, max_len)
        fast = stack.pi0_fast(text, state, None, max_len)
        prefix = stack.pi0_fast(text, state, None, 4000)
        suffix = stack.processor.encode("Action: ") + [vocabulary - 129 - t for t in actions]
        suffix += [*stack.processor.encode("|"), 1]
        training = prefix.tokens[: prefix.length].tolist() + suffix
        rows.append({
            "text": text, "state": state.tolist(), "max_len": max_len, "actions": actions,
            "pi0": pi0.tokens[: pi0.mask.sum()].tolist(), "pi0_length": pi0.length,
            "pi05": pi05.tokens[: pi05.mask.sum()].tolist(), "pi05_length": pi05.length,
            "fast": fast.tokens[: fast.mask.sum()].tolist(), "fast_length": fast.length,
            "training": training[:max_len], "training_length": len(training),
        })  # fmt: skip
    return rows


def subtasks(processor: sentencepiece.SentencePieceProcessor) -> list[dict[str, Any]]:
    """Questions with and without a state, answers, and what is read of them; null for no subtask."""
    rng = random.Random(8)
    rows: list[dict[str, Any]] = []
    for number, text in enumerate(texts(rng)[:45]):
        state = np.random.RandomState(number).normal(0, 0.7, [0, 1, 6, 7, 14, 32][number % 6])
        reads_state, width = number % 4 != 0, 32 if number % 3 == 0 else None
        cleaned = text.strip().replace("_", " ").replace("\n", " ")
        numbers = state_bins(np.pad(state, (0, (width or len(state)) - len(state))))
        middle = f", State: {' '.join(map(str, numbers))}" if reads_state else ""
        question = processor.encode(f"Task: {cleaned}{middle};\nSubtask: ", add_bos=True)
        answer = [*processor.encode(cleaned), EOS] if cleaned else None
        written = [rng.randrange(12, 270) for _ in range(5)] + processor.encode(text)
        ended = [*written, EOS, 7, EOS] if number % 5 else written
        said = processor.decode(written).strip() if number % 5 else ""
        rows.append({
            "text": text, "state": state.tolist(), "reads_state": reads_state, "state_width": width,
            "question": question, "answer": answer, "written": ended, "said": said or None,
        })  # fmt: skip
    return rows


def characters() -> dict[str, Any]:
    """Code points that lower-case to something else, and those that are space; and by which Unicode."""
    points = [p for p in range(0x110000) if not 0xD800 <= p < 0xE000]
    return {
        "unicode": unicodedata.unidata_version,
        "lower": {f"{p:x}": chr(p).lower() for p in points if chr(p).lower() != chr(p)},
        "space": [p for p in points if chr(p).isspace()],
    }


def sigmas(rng: random.Random) -> list[list[str]]:
    """Whether a sigma is final depends on the letters around it, and on what is passed over to find them."""
    parts = [*"ΣΣΣΣΣAßé .:'’ʰªⓐ1中", "\u0301", "\u00ad", "\u200d"]
    words = ["".join(rng.choices(parts, k=rng.randint(1, 7))) for _ in range(500)]
    return [[word, word.lower()] for word in words if "Σ" in word]


def main() -> None:
    """Records, and writes the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("output", type=Path, help="where to write the .json")
    output: Path = parser.parse_args().output
    rng = random.Random(7)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(MODEL))
    size = processor.vocab_size()
    sequences = [
        [rng.choice([rng.randrange(size), rng.randrange(12, 270)]) for _ in range(12)] for _ in range(40)
    ]
    encoded = [(text, processor.encode(text)) for text in texts(rng)]
    golden = {
        "pieces": [{"text": text, "ids": ids, "decoded": processor.decode(ids)} for text, ids in encoded],
        "ids": [{"ids": ids, "decoded": processor.decode(ids)} for ids in sequences],
        "prompts": prompts(ReferencePrompts(processor), rng),
        "subtasks": subtasks(processor),
        "characters": characters(),
        "sigmas": sigmas(rng),
    }
    # One record a line.
    parts = []
    for name, value in golden.items():
        lines = value if isinstance(value, list) else [value]
        body = ",\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
        parts.append(f'"{name}": ' + (f"[\n{body}\n]" if isinstance(value, list) else body))
    output.write_text("{\n" + ",\n".join(parts) + "\n}\n")


if __name__ == "__main__":
    main()
