"""The demo's text model is what its script makes, and the record made with it what its recorder makes."""

import json
import sys
import unicodedata

import pytest
import sentencepiece

from pioxide.codec import TextTokenizer
from pioxide.demo import text_model_path
from support.tools import tool


def test_the_shipped_model_is_the_scripts():
    if sentencepiece.__version__ != "0.2.3":
        pytest.skip(f"recorded with sentencepiece 0.2.3, this is {sentencepiece.__version__}")
    script = tool("make_demo_text_model")
    model = script.layout(*script.trained())
    assert model.SerializeToString(deterministic=True) == text_model_path().read_bytes()


def test_the_shipped_model_is_small_and_laid_out_as_paligemmas():
    assert text_model_path().stat().st_size < 150_000
    ours = TextTokenizer.load(text_model_path())
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(text_model_path()))
    assert (ours.pad_id, ours.eos_id, ours.bos_id, ours.unk_id) == (0, 1, 2, 3)
    assert (theirs.pad_id(), theirs.eos_id(), theirs.bos_id(), theirs.unk_id()) == (0, 1, 2, 3)
    first = ours.vocab_size - 1 - 128
    assert [ours.piece(first - t) for t in (-1, 0, 1023)] == ["<seg000>", "<loc1023>", "<loc0000>"]
    frame = [*ours.encode("Action: "), *ours.encode("|"), *ours.encode("\n"), ours.eos_id]
    assert max(frame) < first - 2047, "a FAST vocabulary of 2048 leaves the frame alone"
    assert len(ours.encode("\n")) == 1


def test_the_record_is_the_recorders(golden, tmp_path, monkeypatch):
    recorded = json.loads((golden / "text.json").read_text())
    if sentencepiece.__version__ != "0.2.3":
        pytest.skip(f"recorded with sentencepiece 0.2.3, this is {sentencepiece.__version__}")
    monkeypatch.setattr(sys, "argv", ["record", str(tmp_path / "text.json")])
    tool("record_text_golden").main()
    again = json.loads((tmp_path / "text.json").read_text())
    if unicodedata.unidata_version != recorded["characters"]["unicode"]:
        del recorded["characters"], again["characters"]
    assert again == recorded
