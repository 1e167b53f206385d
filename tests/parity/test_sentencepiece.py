"""Ids and texts equal the sentencepiece package's, for PaliGemma's vocabulary and small ones trained here.

Source of truth: the `sentencepiece` package, run beside ours on thousands of texts of seventeen kinds.
"""

import io
import itertools
import random

import pytest
import sentencepiece
from sentencepiece import sentencepiece_model_pb2 as pb

from pioxide.codec import TextTokenizer
from pioxide.demo import text_model_path
from pioxide.errors import FormatError

BLOCKS = {
    "latin": (0x20, 0x24F), "greek": (0x370, 0x3FF), "cyrillic": (0x400, 0x4FF),
    "hebrew and arabic": (0x590, 0x6FF), "indic and thai": (0x900, 0xE7F), "hangul": (0xAC00, 0xD7A3),
    "kana": (0x3040, 0x30FF), "han": (0x4E00, 0x9FFF), "any": (1, 0x10FFFF),
}  # fmt: skip
EMOJI = [*map(chr, range(0x1F600, 0x1F650)), "\u200d", "\ufe0f", "\U0001f3fd", "\U0001f1e9", " ", "a"]
FRAGMENTS = [
    "<bos>", "<pad>", "<eos>", "<unk>", "<s>", "<loc0001>", "<loc1023>", "<seg127>", "<loc", "<0x41>",
    "[toxicity=0]", "<h1>", "</table>", "▁", "▁▁", "def f(x):\n    return x\n", "\t\tif (a == b) {\n",
    "<b>bold</b>", " ", "  ", "|", "||", "\n\n", "'s", "http://x.y/z?q=1&r=2", "<start_of_turn>user",
    "<unused99>", "[@BOS@]", ";\n", ", ",
]  # fmt: skip
WORDS = [
    "Task:", "State:", "pick", "up", "the", "red", "cube", "and", "place", "it", "on", "top", "of", "blue",
    "bowl,", "left", "arm;", "then", "12", "-1", "255", "Action:",
]  # fmt: skip


def texts(pieces: list[str], rng: random.Random, count: int) -> dict[str, list[str]]:
    """Texts by kind: scripts, emoji, digits, white space, pieces in a row, markup, prompts, long runs."""

    def joined(parts, most, separator=""):
        return [separator.join(rng.choices(parts, k=rng.randint(1, most))) for _ in range(count)]

    kinds = {
        name: joined(
            [chr(c) for c in rng.choices(range(low, high), k=400) if not 0xD800 <= c < 0xE000] + [" "], 40
        )
        for name, (low, high) in BLOCKS.items()
    }
    kinds["emoji"] = joined(EMOJI, 16)
    kinds["digits"] = joined([*"0123456789 ,.-;"], 60)
    kinds["white space"] = joined([c * n for c in " \n\t\r\u00a0a▁" for n in (1, 2, 3, 31, 40)], 6)
    kinds["pieces"] = joined(pieces, 15)
    kinds["pieces in plain spelling"] = [text.replace("▁", " ") for text in joined(pieces, 15)]
    kinds["markup and code"] = joined(FRAGMENTS, 12)
    kinds["prompts"] = joined(WORDS, 30, " ")
    runs = [*"abe0 中х▁\n", "ab", "the ", "hello"]
    kinds["long runs"] = [rng.choice(runs) * rng.randint(1, 900) for _ in range(count // 5)] + [""]
    return kinds


def check(model: bytes, count: int, seed: int) -> None:
    ours, theirs = TextTokenizer.from_bytes(model), sentencepiece.SentencePieceProcessor(model_proto=model)
    size = theirs.vocab_size()
    pieces = [theirs.id_to_piece(i) for i in range(size)]
    rng = random.Random(seed)
    for kind, group in texts(pieces, rng, count).items():
        for text, ids in zip(group, theirs.encode(group), strict=True):
            assert ours.encode(text).tolist() == ids, (kind, text)
            assert ours.decode(ids) == theirs.decode(ids), (kind, text)
    special = [i for i in range(size) if not pieces[i][0].isalpha()][:300]
    for _ in range(count):
        ids = [rng.choice([rng.randrange(size), rng.choice(special)]) for _ in range(rng.randint(1, 30))]
        assert ours.decode(ids) == theirs.decode(ids), ids
    none = {
        "bos_id": theirs.bos_id(),
        "eos_id": theirs.eos_id(),
        "pad_id": theirs.pad_id(),
        "unk_id": theirs.unk_id(),
    }
    for name, expected in none.items():
        assert getattr(ours, name) == (expected if expected >= 0 else None), name
    for i in [0, size - 1, *rng.sample(range(size), 20)]:
        assert (ours.piece(i), ours.id(pieces[i])) == (pieces[i], i)


def trained(**settings) -> bytes:
    rng = random.Random(5)
    lines = [" ".join(rng.choices(WORDS + FRAGMENTS[15:], k=rng.randint(3, 20))) for _ in range(2000)]
    lines += ["naïve café → größer, 中文 字符 текст", "ὁδός ΟΔΟΣ"] * 20
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, hard_vocab_limit=False, minloglevel=2,
        **{"model_type": "bpe", "vocab_size": 700, "normalization_rule_name": "identity", **settings},
    )  # fmt: skip
    return model.getvalue()


@pytest.mark.parametrize("seed", range(3))
def test_paligemmas_vocabulary(shared, seed):
    check(shared("reference/paligemma_tokenizer.model").read_bytes(), 120, seed)


def test_the_demos_vocabulary():
    check(text_model_path().read_bytes(), 120, 0)


@pytest.mark.parametrize(
    ("byte_fallback", "add_dummy_prefix", "remove_extra_whitespaces"),
    list(itertools.product([False, True], repeat=3)),
)
def test_a_vocabulary_trained_with_these_settings(byte_fallback, add_dummy_prefix, remove_extra_whitespaces):
    model = trained(
        byte_fallback=byte_fallback,
        add_dummy_prefix=add_dummy_prefix,
        remove_extra_whitespaces=remove_extra_whitespaces,
        split_digits=byte_fallback,
        split_by_whitespace=add_dummy_prefix,
        allow_whitespace_only_pieces=True,
        character_coverage=0.99,
        user_defined_symbols=["\n", "  ", "a b", " x", "▁▁", "▁▁▁", "<loc0001>", "ing", "the", "▁th"],
        control_symbols=["<ctl>"],
        pad_id=3 if byte_fallback else -1,
    )
    check(model, 40, 1)


def test_pieces_that_share_a_score_merge_from_the_left():
    model = pb.ModelProto.FromString(trained(byte_fallback=True))
    for piece in model.pieces:
        piece.score = round(piece.score / 40)
    check(model.SerializeToString(), 40, 2)


def test_zero_is_a_better_score_than_minus_zero():
    if sentencepiece.__version__ != "0.2.3":
        pytest.skip(f"recorded with sentencepiece 0.2.3, this is {sentencepiece.__version__}")
    for first, second in itertools.product((0.0, -0.0), repeat=2):
        model = pb.ModelProto()
        model.trainer_spec.model_type = pb.TrainerSpec.BPE
        model.normalizer_spec.add_dummy_prefix = model.normalizer_spec.remove_extra_whitespaces = False
        pieces = {"ab": first, "bc": second, "a": -1.0, "b": -2.0, "c": -3.0}
        for piece, score, kind in (("<unk>", 0.0, 2), *((p, s, 1) for p, s in pieces.items())):
            model.pieces.add(piece=piece, score=score, type=kind)
        ours = TextTokenizer.from_bytes(model.SerializeToString())
        theirs = sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())
        assert ours.encode("abc").tolist() == theirs.encode("abc"), (first, second)


def test_characters_that_are_no_pieces_still_merge():
    model = pb.ModelProto.FromString(trained(byte_fallback=True))
    kept = [piece for piece in model.pieces if len(piece.piece) > 1]
    del model.pieces[:]
    model.pieces.extend(kept)
    check(model.SerializeToString(), 40, 3)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model_type": "unigram", "vocab_size": 200}, "Unigram"),
        ({"normalization_rule_name": "nmt_nfkc"}, "nmt_nfkc"),
        ({"treat_whitespace_as_suffix": True}, "suffix"),
    ],
)
def test_a_vocabulary_that_could_not_be_reproduced_is_refused_by_name(settings, words):
    with pytest.raises(FormatError, match=words):
        TextTokenizer.from_bytes(trained(**settings))
