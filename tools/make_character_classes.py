"""Writes rust/core/src/pretokenize/classes.rs: what the GPT-2 split takes for letters and numbers.

Asks the `tokenizers` package about every code point, so that the answer is the one its users get.
Run from the repository's root: python tools/make_character_classes.py
"""

from pathlib import Path

import tokenizers
from tokenizers.pre_tokenizers import ByteLevel

TARGET = Path("rust/core/src/pretokenize/classes.rs")
SURROGATES = range(0xD800, 0xE000)
WHITESPACE = [*range(0x9, 0xE), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B)]
WHITESPACE += [0x2028, 0x2029, 0x202F, 0x205F, 0x3000]

Ranges = list[tuple[int, int]]


def ranges(members: list[int]) -> Ranges:
    found: Ranges = []
    for code in members:
        if found and found[-1][1] + 1 == code:
            found[-1] = (found[-1][0], code)
        else:
            found.append((code, code))
    return found


def table(name: str, what: str, members: list[int]) -> str:
    rows, row = [], "   "
    for low, high in ranges(members):
        entry = f" ({low:#x}, {high:#x}),"
        if len(row + entry) > 110:
            rows.append(row)
            row = "   "
        row += entry
    body = "\n".join([*rows, row])
    return f"/// {what}\n#[rustfmt::skip]\npub(super) const {name}: &[(u32, u32)] = &[\n{body}\n];\n"


def main() -> None:
    split = ByteLevel(add_prefix_space=False, use_regex=True)

    def joins(text: str) -> bool:
        return len(split.pre_tokenize_str(text)) == 1

    letters, numbers, spaces = [], [], []
    for code in range(0x110000):
        if code in SURROGATES:
            continue
        character = chr(code)
        if joins("a" + character):
            letters.append(code)
        elif joins("1" + character):
            numbers.append(code)
        elif joins("\n" + character):
            spaces.append(code)
    assert spaces == WHITESPACE, "the whitespace that split.rs spells out is another one here"
    TARGET.write_text(
        "//! Which characters the GPT-2 split takes for letters and numbers, as ranges from first to last.\n"
        f"//! Made by tools/make_character_classes.py from `tokenizers` {tokenizers.__version__}.\n\n"
        + table("LETTERS", "Unicode categories L*.", letters)
        + "\n"
        + table("NUMBERS", "Unicode categories N*.", numbers)
    )
    print(f"{TARGET}: {len(ranges(letters))} ranges of letters, {len(ranges(numbers))} of numbers")


if __name__ == "__main__":
    main()
