"""A text model that is cut writes the texts that it was cut for with the same pieces."""

import pytest

from pioxide.codec import TextTokenizer, cut_text_model
from pioxide.demo import text_model_path
from pioxide.errors import InputError

TEXTS = ["pick up the red cube", "put the cube into the box", "_odd_ words: naïve\nend"]


@pytest.fixture(scope="module")
def whole():
    return TextTokenizer.load(text_model_path())


@pytest.mark.parametrize("prompt", ["{}", "Task: {}, State: 12 0 -1 255;\nAction: ", "{}\n"])
def test_texts_are_written_with_the_same_pieces(whole, prompt):
    cut, kept = cut_text_model(whole, TEXTS)
    assert cut.vocab_size == len(kept) < whole.vocab_size / 4
    for text in TEXTS:
        ids = cut.encode(prompt.format(text), bos=True)
        assert [kept[id] for id in ids] == list(whole.encode(prompt.format(text), bos=True))


def test_other_texts_come_back_whole(whole):
    cut, _ = cut_text_model(whole, TEXTS[:1])
    text = "stack 3 zebras, müde 木"
    assert cut.decode(cut.encode(text)) == text


def test_the_last_ids_are_kept_for_action_tokens(whole):
    cut, kept = cut_text_model(whole, TEXTS, fast_tokens=300)
    assert list(kept[-428:]) == list(range(whole.vocab_size - 428, whole.vocab_size))
    assert cut.vocab_size == len(kept)
    with pytest.raises(InputError, match="fast_tokens"):
        cut_text_model(whole, TEXTS, fast_tokens=whole.vocab_size)
