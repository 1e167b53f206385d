"""What the benches work on: action chunks, vocabularies, a text model; from ../shared or the demo dataset."""

import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pioxide.codec import FastCodec
from pioxide.data import LeRobotDataset, windows

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))  # for support.reference_stack and support.composed_stack


def shared() -> Path | None:
    """The folder of reference material, where there is one."""
    candidates = [os.environ.get("PIOXIDE_SHARED"), ROOT.parent / "shared", ROOT.parent.parent / "shared"]
    return next((Path(c) for c in candidates if c and Path(c).is_dir()), None)


@dataclass
class Material:
    """Normalised actions and states of a robot dataset, episode by episode, float64."""

    dataset: Path
    text_model: Path
    actions: list[NDArray[np.float64]]
    states: NDArray[np.float64]
    _vocabularies: tempfile.TemporaryDirectory

    @classmethod
    def find(cls, dataset: Path | None = None) -> "Material":
        root = shared()
        text_model = root / "reference/paligemma_tokenizer.model" if root else None
        if dataset is None and root and (root / "data/g1_pick_bottle").is_dir():
            dataset = root / "data/g1_pick_bottle"
        if dataset is None or text_model is None or not text_model.is_file():
            from pioxide import demo

            dataset = dataset or demo.dataset_path()
            text_model = text_model if text_model and text_model.is_file() else demo.text_model_path()
        opened = LeRobotDataset.open(dataset)
        columns = ["action", "observation.state"]
        pairs = [tuple(e.stack([c]).astype(np.float64) for c in columns) for e in opened.scan(columns)]
        actions = [a for a, _ in pairs]
        states = np.concatenate([s for _, s in pairs])
        low, high = np.quantile(np.concatenate(actions), [0.01, 0.99], axis=0)
        state_low, state_high = np.quantile(states, [0.01, 0.99], axis=0)
        return cls(
            dataset,
            text_model,
            [(a - low) / (high - low + 1e-6) * 2 - 1 for a in actions],
            (states - state_low) / (state_high - state_low + 1e-6) * 2 - 1,
            tempfile.TemporaryDirectory(prefix="pioxide-bench-"),
        )

    def chunks(self, horizon: int, dim: int, count: int) -> NDArray[np.float64]:
        """Distinct chunks [count, horizon, dim] spread over all episodes; fewer where there are fewer."""
        whole = [windows(a, horizon)[: len(a) - horizon + 1] for a in self.actions if len(a) >= horizon]
        total = sum(map(len, whole))
        picked = np.random.default_rng(0).permutation(total)[:count]
        starts = np.cumsum([0, *map(len, whole)])
        owner = np.searchsorted(starts, picked, side="right") - 1
        out = np.empty((len(picked), horizon, min(dim, whole[0].shape[2])))
        for i, (episode, number) in enumerate(zip(owner, picked, strict=True)):
            out[i] = whole[episode][number - starts[episode]][:, :dim]
        return out

    def vocabulary(self, horizon: int, dim: int, size: int, chunks: NDArray[np.float64]) -> Path:
        """A directory with a FAST tokenizer of this shape: the recorded one for G1, else one fitted here."""
        root = shared()
        recorded = root / f"reference/fast/g1_h{horizon}_v{size}" if root else None
        if recorded and recorded.is_dir() and "g1" in self.dataset.name:
            return recorded
        directory = Path(self._vocabularies.name) / f"h{horizon}_d{dim}_v{size}"
        if not directory.is_dir():
            codec = FastCodec.fit(chunks[:2000], vocab_size=size, regex_split=True)
            codec.save(directory, horizon=horizon, dim=dim)
        return directory
