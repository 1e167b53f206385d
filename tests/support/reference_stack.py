"""The reference stack on scipy, tokenizers and sentencepiece: what the published tools compute, quirks too.

Written from the documented behaviour, plain on purpose. Tests take it as an oracle, the benches as the peer;
nothing in pioxide imports it.
"""

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import sentencepiece
from numpy.typing import NDArray
from scipy.fft import dct, idct
from tokenizers import ByteLevelBPETokenizer, Tokenizer, trainers

SKIPPED_AT_THE_END = 128  # PaliGemma's <seg> pieces, which FAST ids don't use
EOS = 1

_EDGES = np.linspace(-1, 1, 257)[:-1]

# What `clean_up_tokenization_spaces` rewrites in decoded text, in this order.
_CLEAN_UP = [
    (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"),
    (" n't", "n't"), (" 'm", "'m"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"),
]  # fmt: skip


class Bpe(Protocol):
    """The part of a byte-level BPE tokenizer that FAST needs, so that a bench can swap the one behind it."""

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...


class HuggingFaceBpe:
    """The `tokenizers` package, called once a chunk as the published processor does."""

    def __init__(self, tokenizer: Tokenizer, clean_up: bool = False) -> None:
        self.tokenizer, self.clean_up = tokenizer, clean_up

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text).ids

    def decode(self, ids: Sequence[int]) -> str:
        text = self.tokenizer.decode(ids, skip_special_tokens=False)
        if self.clean_up:
            for written, wanted in _CLEAN_UP:
                text = text.replace(written, wanted)
        return text


class TransformersBpe:
    """The same behind `transformers`, whose call per chunk users of the published processor pay for."""

    def __init__(self, tokenizer: Tokenizer, clean_up: bool = False) -> None:
        from transformers import PreTrainedTokenizerFast

        self.tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, clean_up_tokenization_spaces=clean_up
        )

    def encode(self, text: str) -> list[int]:
        return self.tokenizer(text)["input_ids"]

    def decode(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(ids)


@dataclass
class ReferenceFast:
    """The FAST processor: DCT, quantise, characters, byte-level BPE, and back, one chunk at a time."""

    bpe: Bpe
    scale: float
    min_token: int

    @classmethod
    def load(cls, directory: Path, bpe: type[Any] = HuggingFaceBpe) -> "ReferenceFast":
        config = json.loads((directory / "processor_config.json").read_text())
        clean_up = False
        if (path := directory / "tokenizer_config.json").exists():
            clean_up = json.loads(path.read_text()).get("clean_up_tokenization_spaces", False)
        tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        return cls(bpe(tokenizer, clean_up), config["scale"], config["min_token"])

    @classmethod
    def fit(
        cls, chunks: Iterable[NDArray[Any]], *, vocab_size: int = 1024, scale: float = 10.0
    ) -> "ReferenceFast":
        """Trains a vocabulary the published way, with its alphabet of characters where bytes were meant."""
        coefficients = [dct(chunk, axis=0, norm="ortho").flatten() for chunk in chunks]
        rounded = np.around(np.concatenate(coefficients) * scale)
        lowest, highest = int(rounded.min()), int(rounded.max())
        if highest - lowest > vocab_size:
            raise ValueError(f"vocabulary {vocab_size} is smaller than the range {lowest}..{highest}")

        def texts() -> Iterable[str]:
            for values in coefficients:
                yield "".join(map(chr, (np.around(values * scale) - lowest).astype(int)))

        tokenizer = ByteLevelBPETokenizer()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            min_frequency=2,
            show_progress=False,
            special_tokens=[],
            initial_alphabet=[chr(i) for i in range(highest - lowest + 1)],
            max_token_length=10_000,
        )
        tokenizer._tokenizer.train_from_iterator(texts(), trainer=trainer)
        return cls(HuggingFaceBpe(tokenizer._tokenizer), scale, lowest)

    def coefficients(self, chunk: NDArray[Any]) -> NDArray[Any]:
        return dct(chunk, axis=0, norm="ortho")

    def quantise(self, coefficients: NDArray[Any]) -> NDArray[Any]:
        return np.around(coefficients * self.scale)

    def text(self, quantised: NDArray[Any]) -> str:
        return "".join(map(chr, np.maximum(quantised.flatten() - self.min_token, 0).astype(int)))

    def encode(self, chunk: NDArray[Any]) -> list[int]:
        return self.bpe.encode(self.text(self.quantise(self.coefficients(chunk))))

    def decode(self, ids: Sequence[int], horizon: int, dim: int) -> NDArray[np.float64]:
        """Returns actions [horizon, dim]; zeros, like the published processor, where the ids don't decode."""
        try:
            values = np.array(list(map(ord, self.bpe.decode(ids)))) + self.min_token
            quantised = values.reshape(-1, dim)
            if quantised.shape != (horizon, dim):
                raise ValueError(f"decoded shape {quantised.shape} is not {(horizon, dim)}")
        except Exception:
            logging.getLogger(__name__).debug("zeros for ids that do not decode", exc_info=True)
            quantised = np.zeros((horizon, dim))
        return idct(quantised / self.scale, axis=0, norm="ortho")


def state_bins(state: NDArray[Any]) -> NDArray[np.int64]:
    return np.digitize(state, bins=_EDGES) - 1


class ReferencePrompt(NamedTuple):
    """Tokens and mask [max_len]; `length` counts the ids before they were cut."""

    tokens: NDArray[Any]
    mask: NDArray[Any]
    length: int


class ReferenceFastPrompt(NamedTuple):
    tokens: NDArray[Any]
    mask: NDArray[Any]
    ar_mask: NDArray[Any]
    loss_mask: NDArray[Any]
    length: int


def _fill(values: list[Any], max_len: int) -> list[Any]:
    return values[:max_len] if len(values) >= max_len else values + [False] * (max_len - len(values))


@dataclass
class ReferencePrompts:
    """The prompt formats of π0, π0.5 and π0-FAST by plain string building and SentencePiece."""

    processor: sentencepiece.SentencePieceProcessor
    fast: ReferenceFast | None = None

    @classmethod
    def load(cls, model: Path, fast: ReferenceFast | None = None) -> "ReferencePrompts":
        return cls(sentencepiece.SentencePieceProcessor(model_file=str(model)), fast)

    def pi0(self, prompt: str, max_len: int = 48) -> ReferencePrompt:
        text = prompt.strip().replace("_", " ").replace("\n", " ")
        ids = self.processor.encode(text, add_bos=True) + self.processor.encode("\n")
        return self._prompt(ids, max_len)

    def pi05(self, prompt: str, state: NDArray[Any], max_len: int = 200) -> ReferencePrompt:
        text = prompt.strip().replace("_", " ").replace("\n", " ")
        numbers = " ".join(map(str, state_bins(state)))
        ids = self.processor.encode(f"Task: {text}, State: {numbers};\nAction: ", add_bos=True)
        return self._prompt(ids, max_len)

    def pi0_fast(
        self, prompt: str, state: NDArray[Any], actions: NDArray[Any] | None = None, max_len: int = 250
    ) -> ReferenceFastPrompt:
        """Prefix alone, or with `actions` [H, D] the training form."""
        text = prompt.lower().strip().replace("_", " ")
        numbers = " ".join(map(str, state_bins(state)))
        prefix = self.processor.encode(f"Task: {text}, State: {numbers};\n", add_bos=True)
        suffix: list[int] = []
        if actions is not None:
            assert self.fast is not None
            action_ids = self.to_text_ids(np.array(self.fast.encode(actions))).tolist()
            suffix = [*self.processor.encode("Action: "), *action_ids, *self.processor.encode("|"), EOS]
        ids = prefix + suffix
        return ReferenceFastPrompt(
            np.asarray(_fill(ids, max_len)),
            np.asarray(_fill([True] * len(ids), max_len)),
            np.asarray(_fill([0] * len(prefix) + [1] * len(suffix), max_len)),
            np.asarray(_fill([False] * len(prefix) + [True] * len(suffix), max_len)),
            len(ids),
        )

    def extract_actions(self, ids: NDArray[Any], horizon: int, dim: int) -> NDArray[Any]:
        """Model output to actions [horizon, dim], by way of text as openpi does; zeros without "Action: "."""
        assert self.fast is not None
        text = self.processor.decode(np.asarray(ids).tolist())
        if "Action: " not in text:
            return np.zeros((horizon, dim), dtype=np.float32)
        between = text.split("Action: ")[1].split("|")[0].strip()
        return self.fast.decode(
            self.to_text_ids(np.array(self.processor.encode(between))).tolist(), horizon, dim
        )

    def to_text_ids(self, fast_ids: NDArray[Any]) -> NDArray[Any]:
        """FAST ids to ids of the text model; the same map leads back."""
        return self.processor.vocab_size() - 1 - SKIPPED_AT_THE_END - fast_ids

    def _prompt(self, ids: list[int], max_len: int) -> ReferencePrompt:
        return ReferencePrompt(
            np.asarray(_fill(ids, max_len)), np.asarray(_fill([True] * len(ids), max_len)), len(ids)
        )
