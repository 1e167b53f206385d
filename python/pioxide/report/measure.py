"""Accumulators: one pass over the chunks gives statistics, errors and the worst chunks, in bounded memory."""

import numpy as np
from numpy.typing import NDArray

from pioxide.report.facts import ActionDensity, Floats, Ints, JointRanges, Reconstruction, WorstChunk

# |error| is binned by its logarithm from 1e-9 to 1e7: a quantile is known to a third of a per cent of itself.
_LOG_LOW, _LOG_HIGH, _PER_OCTAVE = -30, 24, 200
_ERROR_BINS = (_LOG_HIGH - _LOG_LOW) * _PER_OCTAVE
_DENSITY_EDGES = np.linspace(-2, 2, 101)


class ErrorMeter:
    """Sums up decoded against original chunks, normalised units."""

    def __init__(self, horizon: int, dim: int, worst: int) -> None:
        self._squares = np.zeros((horizon, dim))
        self._largest = np.zeros(dim)
        self._histogram = np.zeros((dim, _ERROR_BINS), np.int64)
        self._chunks = 0
        self._keep = worst
        self._best: dict[
            int, WorstChunk
        ] = {}  # an episode's worst chunk, of the episodes with the largest errors
        self._more: list[WorstChunk] = []  # others, which count where there are few episodes

    def add(self, episode: int, frames: Ints, original: Floats, decoded: Floats) -> None:
        """Adds chunks [N, H, D] of one episode that begin at `frames` [N]."""
        if not len(original):
            return
        errors = np.abs(decoded - original)
        self._squares += np.square(errors).sum(axis=0)
        self._largest = np.maximum(self._largest, errors.max(axis=(0, 1)))
        logs = np.log2(np.maximum(errors, 2.0**_LOG_LOW))
        bins = np.clip((logs - _LOG_LOW) * _PER_OCTAVE, 0, _ERROR_BINS - 1).astype(np.intp)
        for joint in range(errors.shape[2]):
            self._histogram[joint] += np.bincount(bins[:, :, joint].ravel(), minlength=_ERROR_BINS)
        self._chunks += len(original)
        # Neighbouring windows hold nearly the same actions: only chunks that don't overlap are of interest.
        largest = errors.max(axis=(1, 2))
        for _ in range(self._keep if len(self._best) < self._keep else 1):
            index = int(np.argmax(largest))
            if largest[index] < 0:
                break
            arrays = original[index].copy(), decoded[index].copy()
            self._remember(WorstChunk(episode, int(frames[index]), float(largest[index]), *arrays))
            largest[np.abs(frames - frames[index]) < original.shape[1]] = -1

    def result(self, total: int, unit: Floats) -> Reconstruction:
        """Returns what was seen so far; `total` chunks exist, `unit` [D] leads to the robot's units."""
        chunks = max(1, self._chunks)
        by_step = self._squares / chunks
        return Reconstruction(
            measured=self._chunks,
            total=total,
            rms=np.sqrt(by_step.mean(axis=0)),
            p99=np.minimum(_quantile(self._histogram, 0.99), self._largest),
            worst=self._largest,
            rms_by_step=np.sqrt(by_step),
            unit=unit,
            worst_chunks=self._ranked(),
        )

    def _remember(self, chunk: WorstChunk) -> None:
        best = self._best.get(chunk.episode, chunk)
        better, other = sorted([chunk, best], key=_rank)
        self._best[chunk.episode] = better
        if other is not better:
            self._more = sorted([*self._more, other], key=_rank)[: self._keep]
        if len(self._best) > self._keep:
            del self._best[max(self._best.values(), key=_rank).episode]

    def _ranked(self) -> tuple[WorstChunk, ...]:
        """Worst first: one an episode, and only where that gives too few, more that don't overlap."""
        chosen = sorted(self._best.values(), key=_rank)
        for chunk in self._more:
            near = [c for c in chosen if c.episode == chunk.episode]
            if len(chosen) < self._keep and all(abs(c.frame - chunk.frame) >= len(c.original) for c in near):
                chosen.append(chunk)
        return tuple(sorted(chosen, key=_rank))


def _rank(chunk: WorstChunk) -> tuple[float, int, int]:
    return -chunk.error, chunk.episode, chunk.frame


def _quantile(histogram: NDArray[np.int64], share: float) -> Floats:
    """Upper edge of the bin that holds the quantile, for each row."""
    cumulative = np.cumsum(histogram, axis=1)
    needed = np.ceil(cumulative[:, -1:] * share)
    index = np.argmax(cumulative >= needed, axis=1)
    return np.where(index == 0, 0.0, np.exp2(_LOG_LOW + (index + 1) / _PER_OCTAVE))


class RangeMeter:
    """Extremes of one quantity a joint, and how much of it lies beyond given quantiles."""

    def __init__(self, q01: Floats, q99: Floats) -> None:
        self._q01, self._q99 = np.asarray(q01, np.float64), np.asarray(q99, np.float64)
        dim = len(self._q01)
        self._low, self._high = np.full(dim, np.inf), np.full(dim, -np.inf)
        self._outside = np.zeros(dim, np.int64)
        self._count = 0

    def add(self, values: NDArray[np.floating]) -> None:
        """Adds values [..., D] in the robot's units."""
        flat = values.reshape(-1, values.shape[-1])
        if not len(flat):
            return
        self._low = np.minimum(self._low, flat.min(axis=0))
        self._high = np.maximum(self._high, flat.max(axis=0))
        self._outside += ((flat < self._q01) | (flat > self._q99)).sum(axis=0)
        self._count += len(flat)

    def result(self, names: tuple[str, ...], mean: Floats, std: Floats) -> JointRanges:
        """Returns the ranges, with mean and standard deviation taken from the statistics in use."""
        seen = self._count > 0
        low = self._low if seen else self._q01
        high = self._high if seen else self._q99
        width = self._q99 - self._q01 + 1e-6
        reach = np.maximum(
            np.abs((low - self._q01) / width * 2 - 1), np.abs((high - self._q01) / width * 2 - 1)
        )
        outside = self._outside / max(1, self._count)
        return JointRanges(names, low, high, self._q01, self._q99, mean, std, outside, reach)


class DensityMeter:
    """Histogram of normalised values a joint between -2 and 2; the outermost bins take what lies beyond."""

    def __init__(self, dim: int) -> None:
        self._counts = np.zeros((dim, len(_DENSITY_EDGES) - 1), np.int64)

    def add(self, values: NDArray[np.floating]) -> None:
        """Adds normalised values [..., D]."""
        flat = values.reshape(-1, values.shape[-1])
        last = self._counts.shape[1] - 1
        bins = np.clip(np.floor((flat + 2) * (last + 1) / 4), 0, last).astype(np.int64)
        for joint in range(flat.shape[1]):
            self._counts[joint] += np.bincount(bins[:, joint], minlength=last + 1)

    def result(self) -> ActionDensity:
        """Counts so far."""
        return ActionDensity(self._counts, _DENSITY_EDGES)
