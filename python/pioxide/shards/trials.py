"""One codec on trial: made from some chunks, judged on others; and which codecs `explore` tries.

What is measured stands in `Trial`. Chunks come from `explore`, which draws them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pioxide.codec import ActionCodec, TokenBatch
from pioxide.contract import Numbers
from pioxide.shards.codecs import BeastOptions, BinningOptions, CodecOptions, FastOptions
from pioxide.shards.evaluate import Evaluation
from pioxide.shards.predict import TokenText, bits_per_chunk

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Sample:
    """Chunks of some episodes.

    Attributes:
        chunks: [N, H, D] normalised.
        state: [N, S] normalised.
        episode: [N].
    """

    chunks: Floats
    state: Floats
    episode: NDArray[np.int64]

    def __len__(self) -> int:
        """Returns N."""
        return len(self.chunks)


@dataclass(frozen=True)
class Samples:
    """What trials share: chunks to fit and count on, to weigh the context model by, and to judge on."""

    train: Sample
    tune: Sample
    judge: Sample

    def state_of_joints(self) -> NDArray[np.int64]:
        """Returns [D] which number of the state says most about each dimension's level in a chunk."""
        state = self.train.state - self.train.state.mean(axis=0)
        level = self.train.chunks.mean(axis=1)
        level -= level.mean(axis=0)
        state /= np.maximum(np.sqrt(np.square(state).sum(axis=0)), 1e-9)
        return np.argmax(np.abs(state.T @ level), axis=0)


@dataclass(frozen=True)
class Trial:
    """What a codec is worth on episodes that nothing was fitted on.

    Attributes:
        codec: Its name.
        options: How `pioxide fit` makes it.
        label: The codec in a few words.
        tokens: A chunk: mean, 99th percentile and most, as in `Evaluation.result`.
        bits: A chunk, mean over the episodes: what the context model needs to predict its tokens.
        bits_error: Standard error of that mean, from the differences between episodes; None of one episode.
        rms: Of what is lost, in normalised actions.
        largest: Likewise.
        joints: Of each dimension name, rms and max, in the robot's units.
        clipped: Share of the chunks in which something had to be clipped.
        changed_by_actions: Tokens a chunk that change when every action moves by noise.
        changed_by_state: Tokens a chunk that change when the state moves by noise, and with it all of a
            relative action; 0 where all actions are absolute.
        seconds: That the trial took.
    """

    codec: str
    options: str
    label: str
    tokens: dict[str, float]
    bits: float
    bits_error: float | None
    rms: float
    largest: float
    joints: list[dict[str, Any]]
    clipped: float
    changed_by_actions: float
    changed_by_state: float
    seconds: float


def codecs_to_try(chunks: Floats) -> list[CodecOptions]:
    """Returns how codecs are made that are worth trying on chunks like these [N, H, D]."""
    horizon = chunks.shape[1]
    reach = float(np.ceil(np.abs(chunks).max(initial=1.0) * 10) / 10)
    tried: list[CodecOptions] = [
        FastOptions(vocab_size, scale) for scale in (5.0, 10.0, 20.0) for vocab_size in (512, 1024, 2048)
    ]
    tried.append(FastOptions(regex_split=True))
    tried += [BinningOptions(256), BinningOptions(128, reach), BinningOptions(256, reach)]
    points = sorted({min(max(4, round(horizon / n)), horizon) for n in (10, 5, 3, 2)})
    tried += [BeastOptions(n, min(3, n - 1), bins) for n in points for bins in (64, 256)]
    tried.append(BeastOptions(points[min(1, len(points) - 1)], min(1, horizon - 1), 64))
    return tried


def judged(
    options: CodecOptions, samples: Samples, numbers: Numbers, names: list[str], *, noise: float, seed: int
) -> Trial:
    """Makes a codec and measures it.

    Raises:
        InputError: It can't be made of these chunks.
    """
    began = time.monotonic()
    codec = options.fit(samples.train.chunks)
    chunks = samples.judge.chunks
    evaluation = Evaluation(codec, numbers, names)
    evaluation.add(chunks)
    found = evaluation.result()
    bits, error = _bits(codec, samples)
    rng = np.random.default_rng(seed)
    moved = np.zeros(len(names))
    moved[: len(numbers.delta_mask)] = numbers.delta_mask
    by_actions = chunks + rng.normal(0, noise, chunks.shape)
    by_state = chunks + rng.normal(0, noise, (len(chunks), 1, len(names))) * moved
    return Trial(
        codec=codec.kind,
        options=str(options),
        label=options.label,
        tokens=found["tokens"],
        bits=bits,
        bits_error=error,
        rms=found["error"]["rms"],
        largest=found["error"]["max"],
        joints=found["joints"],
        clipped=found["clipped_chunks"] / found["chunks"],
        changed_by_actions=_changed(codec, chunks, by_actions),
        changed_by_state=_changed(codec, chunks, by_state),
        seconds=time.monotonic() - began,
    )


def token_text(codec: ActionCodec, batch: TokenBatch, dim: int, state: Floats | None) -> TokenText:
    """Returns tokens with what the context model is told of them; `state` is [N, D]."""
    spelled = (codec.token_bytes(i) or b"" for i in range(codec.vocab_size))
    # A character begins in every byte that does not continue one.
    begins = np.array([sum(byte & 0xC0 != 0x80 for byte in token) for token in spelled], np.int64)
    ids = batch.ids.astype(np.int64)
    return TokenText(
        ids, batch.offsets, begins[ids], codec.vocab_size, dim, codec.kind in ("binning", "beast"), state
    )


def _bits(codec: ActionCodec, samples: Samples) -> tuple[float, float | None]:
    """Bits a chunk, and the standard error of that mean where there are several episodes."""
    joints = samples.state_of_joints()
    texts = [
        token_text(
            codec,
            codec.encode_batch(one.chunks, on_overflow="clip"),
            one.chunks.shape[2],
            one.state[:, joints],
        )
        for one in (samples.train, samples.tune, samples.judge)
    ]
    bits = bits_per_chunk(*texts)
    # Chunks of one episode resemble each other; episodes are what was drawn.
    _, episode = np.unique(samples.judge.episode, return_inverse=True)
    sizes = np.bincount(episode)
    if len(sizes) < 2:
        return float(bits.mean()), None
    means = np.bincount(episode, bits) / sizes
    spread = np.sqrt(np.square((means - bits.mean()) * sizes / sizes.mean()).sum())
    return float(bits.mean()), float(spread / len(sizes))


def _changed(codec: ActionCodec, chunks: Floats, moved: Floats) -> float:
    """Mean tokens of a moved chunk that don't stand at the same place of the chunk itself."""
    keys = []
    for given in (chunks, moved):
        batch = codec.encode_batch(given, on_overflow="clip")
        text = token_text(codec, batch, given.shape[2], None)
        chunk = np.repeat(np.arange(text.chunks), np.diff(text.offsets))
        total = np.concatenate([[0], np.cumsum(text.begins)])
        place = total[:-1] - total[text.offsets[:-1]][chunk]
        numbers = (codec.steps or given.shape[1]) * given.shape[2]
        keys.append((chunk * (numbers + 1) + place) * codec.vocab_size + text.ids)
    return float(np.count_nonzero(~np.isin(keys[1], keys[0])) / len(chunks))
