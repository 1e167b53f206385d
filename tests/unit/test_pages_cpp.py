"""Every C++ block of README and docs compiles against the header; every Rust block is run by `cargo test`.

A C++ page's blocks share their names, as for somebody who types them in order, and find what the page says of
in words.
"""

import os
import re
import shutil
import subprocess

import pytest

from support.pages import ROOT, Block, blocks

CPP = [block for block in blocks() if block.language in ("cpp", "c++", "cc") and block.runs]
PAGES = sorted({block.page for block in CPP})
COMPILERS = [name for name in ("g++", "clang++") if shutil.which(name)]
STRICT = ["-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-Wno-unused-variable"]
# What a page's reader has at hand.
SETTINGS = {
    "docs/cpp.md": """
        std::vector<double> chunk(350), joints(7), normalised(7);
        std::vector<float> answer(50 * 32);
        const std::size_t width = 32;
        const auto text = pioxide::Text::from_file("paligemma_tokenizer.model").value();
        std::vector<std::int32_t> tokens(200), written(32);
        std::vector<std::uint8_t> mask(200);
    """,
}

# A person's machine may lack one. One that says for others whether pages are right may not pass by skipping.
if os.environ.get("CI") and not COMPILERS:
    raise RuntimeError("CI must have g++ or clang++: without them no C++ block of docs is compiled")


def compiled(code: list[Block], setting: str, compiler: str) -> str:
    """Returns what a compiler says against a page's blocks; nothing where they are right."""
    included = "\n".join(line for block in code for line in re.findall(r"^#include .*", block.code, re.M))
    # So named that a message says the page's own line.
    bodies = "\n".join(
        f'#line {block.line} "{block.page}"\n' + re.sub(r"^#include .*", "", block.code, flags=re.M)
        for block in code
    )
    program = f"{included}\n#include <vector>\nvoid page();\nvoid page() {{\n{setting}\n{bodies}\n}}\n"
    command = [compiler, *STRICT, "-I", "rust/capi/include", "-x", "c++", "-"]
    return subprocess.run(command, input=program, capture_output=True, text=True, cwd=ROOT).stderr


@pytest.mark.skipif(
    not COMPILERS, reason="NO C++ BLOCK OF DOCS IS COMPILED: needs g++ or clang++, which are not here"
)
@pytest.mark.parametrize("page", PAGES)
def test_a_pages_cpp_blocks_compile(page: str) -> None:
    of_page = [block for block in CPP if block.page == page]
    for compiler in COMPILERS:
        assert compiled(of_page, SETTINGS.get(page, ""), compiler) == ""


@pytest.mark.skipif(not COMPILERS, reason="needs g++ or clang++, which are not here")
def test_a_call_that_the_header_has_not_is_noticed_at_its_line() -> None:
    wrong = Block(
        "docs/cpp.md", 40, "cpp", "#include <pioxide.hpp>\nauto a = pioxide::Codec::nothing();\n", True
    )
    said = compiled([wrong], "", COMPILERS[0])
    assert "docs/cpp.md:41" in said
    assert "nothing" in said


def test_every_page_with_rust_blocks_is_run_by_cargo_test() -> None:
    library = (ROOT / "rust/core/src/lib.rs").read_text(encoding="utf-8")
    run = set(re.findall(r'include_str!\("\.\./\.\./\.\./([\w/.-]+\.md)"\)', library))
    shown = {block.page for block in blocks() if block.language == "rust"}
    assert shown
    assert shown <= run


def test_a_page_that_needs_a_setting_is_there() -> None:
    assert set(SETTINGS) <= set(PAGES)
    assert PAGES
