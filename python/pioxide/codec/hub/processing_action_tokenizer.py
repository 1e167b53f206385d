"""The FAST tokenizer in this directory as a processor of `transformers`, which openpi and LeRobot load.

    processor = AutoProcessor.from_pretrained(DIRECTORY, trust_remote_code=True)
    ids = processor(chunks)                                      # [N, H, D] to N lists of ids
    chunks = processor.decode(ids, time_horizon=H, action_dim=D)

pioxide writes this file beside the tokenizers that it saves, and does not import it. It needs NumPy, SciPy
and `transformers` alone; `pioxide.codec.FastCodec` reads the same directory and is far faster.
"""

import json

import numpy as np
from scipy.fft import dct, idct
from transformers import PreTrainedTokenizerFast
from transformers.processing_utils import ProcessorMixin
from transformers.utils import cached_file

FIRST_SURROGATE, LAST_SURROGATE = 0xD800, 0xDFFF


class UniversalActionProcessor(ProcessorMixin):
    """Action chunks to FAST tokens and back.

    Attributes:
        bpe_tokenizer: Joins the characters of coefficients to tokens.
        scale: Multiplies coefficients before they are rounded.
        vocab_size: Token ids.
        min_token: The coefficient that the character U+0000 stands for.
        time_horizon: Steps of a chunk to decode, where a call does not say.
        action_dim: Numbers in an action, where a call does not say.
    """

    attributes = ["bpe_tokenizer"]  # noqa: RUF012
    bpe_tokenizer_class = "AutoTokenizer"

    def __init__(
        self,
        bpe_tokenizer,
        scale=10.0,
        vocab_size=1024,
        min_token=0,
        *,
        action_dim=None,
        time_horizon=None,
    ):
        """Keeps what `processor_config.json` says."""
        self.scale, self.vocab_size, self.min_token = scale, vocab_size, min_token
        self.time_horizon, self.action_dim = time_horizon, action_dim
        super().__init__(bpe_tokenizer)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, **kwargs):
        """Reads a directory or a repository.

        Versions of `transformers` look for a tokenizer of this name in different places, so it is read here.
        """
        known = (
            "cache_dir",
            "force_download",
            "local_files_only",
            "proxies",
            "revision",
            "subfolder",
            "token",
        )
        where = {key: kwargs[key] for key in known if kwargs.get(key) is not None}
        path = cached_file(pretrained_model_name_or_path, "processor_config.json", **where)
        with open(path, encoding="utf-8") as file:
            read = json.load(file)
        names = ("scale", "vocab_size", "min_token", "time_horizon", "action_dim")
        tokenizer = PreTrainedTokenizerFast.from_pretrained(pretrained_model_name_or_path, **where)
        return cls(tokenizer, **{name: read[name] for name in names if name in read})

    def __call__(self, action_chunk):
        """Returns a list of ids for each chunk of `action_chunk`, [N, H, D] or one chunk [H, D].

        Raises:
            ValueError: A chunk is of another shape, holds NaN or infinity, or a coefficient has no token.
        """
        chunks = np.asarray(action_chunk)
        if chunks.ndim == 2:
            chunks = chunks[None]
        if chunks.ndim != 3 or not np.isfinite(chunks).all():
            raise ValueError(f"expected finite chunks [N, H, D], got shape {chunks.shape} or NaN or infinity")
        codes = np.around(dct(chunks, axis=1, norm="ortho") * self.scale) - self.min_token
        wrong = (codes < 0) | (codes > 0x10FFFF) | ((codes >= FIRST_SURROGATE) & (codes <= LAST_SURROGATE))
        texts = [] if wrong.any() else ["".join(map(chr, chunk.astype(int).flatten())) for chunk in codes]
        tokens = [self.bpe_tokenizer(text)["input_ids"] for text in texts]
        if wrong.any() or any(self._text(ids) != text for ids, text in zip(tokens, texts, strict=True)):
            raise ValueError("a coefficient has no token in this vocabulary; are the actions normalised?")
        return tokens

    def decode(self, tokens, *, time_horizon=None, action_dim=None):
        """Returns the chunks [N, H, D] of N lists of ids.

        Raises:
            ValueError: H or D is not known, or ids do not hold as many coefficients as a chunk.
        """
        horizon, dim = time_horizon or self.time_horizon, action_dim or self.action_dim
        if not horizon or not dim:
            raise ValueError("say time_horizon and action_dim: this tokenizer has no default shape")
        chunks = []
        for ids in tokens:
            text = self._text(ids)
            if len(text) != horizon * dim:
                raise ValueError(f"the ids hold {len(text)} coefficients, a chunk has {horizon} x {dim}")
            codes = np.array([ord(character) for character in text], float).reshape(horizon, dim)
            chunks.append(idct((codes + self.min_token) / self.scale, axis=0, norm="ortho"))
        return np.array(chunks)

    def _text(self, ids):
        return self.bpe_tokenizer.decode(ids, clean_up_tokenization_spaces=False)
