"""A text model that is cut writes the texts that it was cut for with the same pieces."""

import pytest
import sentencepiece
from sentencepiece import sentencepiece_model_pb2 as model_pb

from pioxide.codec import Pi05Prompts, TextTokenizer, cut_text_model
from pioxide.demo import text_model_path
from pioxide.errors import InputError

USER_DEFINED = model_pb.ModelProto.SentencePiece.USER_DEFINED
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


@pytest.mark.parametrize("fast_tokens", [0, 300])
def test_numbers_of_a_state_are_one_piece_each(whole, fast_tokens, tmp_path):
    plain, before = cut_text_model(whole, TEXTS, fast_tokens=fast_tokens)
    cut, kept = cut_text_model(whole, TEXTS, fast_tokens=fast_tokens, whole_numbers=True)
    assert cut.vocab_size == len(kept) == plain.vocab_size + 257
    assert [id for id in kept if id is not None] == list(before)
    assert len({cut.encode(f" {number}")[0] for number in range(-1, 256)}) == 257
    if fast_tokens:  # they are counted from the end
        assert kept[-128 - fast_tokens :] == before[-128 - fast_tokens :]
    state = "Task: pick up the red cube, State: 7 0 -1 255 12 128;\nAction: "
    pieces = [cut.piece(id) for id in cut.encode(state)]
    assert pieces[pieces.index("▁State") :] == (
        ["▁State", ":", "▁7", "▁0", "▁-1", "▁255", "▁12", "▁128", ";", "\n", "Action", ":", "▁"]
    )
    prompt = Pi05Prompts(cut).encode("pick up the red cube", [-0.9453125, -1, -1.5, 1, -0.90625, 0])
    assert cut.decode(prompt.tokens[prompt.mask]) == state
    assert prompt.tokens[prompt.mask].tolist() == cut.encode(state, bos=True).tolist()
    path = tmp_path / "cut.model"
    path.write_bytes(cut.to_bytes())
    peer = sentencepiece.SentencePieceProcessor(model_file=str(path))
    for text in (state, "x 1281 -12 - 300 25 6", *TEXTS):
        assert list(cut.encode(text)) == peer.encode(text)
        assert cut.decode(cut.encode(text)) == text


def test_digits_that_nothing_joins_are_refused(whole):
    model = model_pb.ModelProto.FromString(whole.to_bytes())
    model.pieces.insert(300, model_pb.ModelProto.SentencePiece(piece="12", type=USER_DEFINED))
    joined = TextTokenizer.from_bytes(model.SerializeToString())
    with pytest.raises(InputError, match="whole_numbers"):
        cut_text_model(joined, ["12 cubes"], whole_numbers=True)
