"""Small worlds for the loader's tests: a dataset with pictures, fitted, and contracts for each model."""

from dataclasses import dataclass, replace
from pathlib import Path

from pioxide.codec import FastCodec, TextTokenizer
from pioxide.contract import CameraSlot, Contract
from pioxide.data import LeRobotDataset
from pioxide.data.loader import Loader, LoaderSettings, Source
from pioxide.family import Family
from pioxide.shards import FitSettings, JobRequest, TokenDataset, fit, resolve, tokenize_dataset
from support.text_model import write_text_model
from support.videos import CAMERAS, write_v3_video

HORIZON, WIDTH, SIZE = 8, 6, 32
LENGTHS = (30, 12, 25, 8)
SLOTS = tuple(
    CameraSlot(slot, key)
    for slot, key in zip(
        ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb"), (*CAMERAS, None), strict=True
    )
)
STATED = {
    "cameras": SLOTS,
    "absent_camera": "masked",
    "image_size": SIZE,
    "resize": "antialias",
    "model_dim": WIDTH,
}


@dataclass(frozen=True)
class Pictured:
    """A dataset with pictures, its statistics and FAST tokenizer, and a text model."""

    path: Path
    fitted: Path
    text_model: Path

    @property
    def dataset(self) -> LeRobotDataset:
        return LeRobotDataset.open(self.path)

    @property
    def tokenizer(self) -> TextTokenizer:
        return TextTokenizer.load(self.text_model)

    def request(self, family: str, **changes) -> JobRequest:
        options = {"on_overflow": "clip", "shard_frames": 40} | changes
        return replace(JobRequest(self.path, Family(family), self.text_model, self.fitted), **options)

    def codec(self, family: str) -> FastCodec | None:
        return FastCodec.load(self.fitted) if family == "pi0_fast" else None

    def contract(self, family: str = "pi0", **changes) -> Contract:
        return replace(resolve(self.request(family))[1].contract, **(STATED | changes))

    def source(self, family: str = "pi0", *, stated=None, **changes) -> Source:
        options = {"on_overflow": "clip"} | changes
        return Source(self.dataset, self.contract(family, **(stated or {})), **options)

    def loader(self, sources=None, family: str = "pi0", *, codec=None, **settings) -> Loader:
        settings = {"batch_size": 8} | settings
        codec = codec or self.codec(family)
        return Loader(sources or self.source(family), LoaderSettings(**settings), self.tokenizer, codec)

    def tokens(self, output: Path, family: str, **changes) -> TokenDataset:
        inputs, settings = resolve(self.request(family, **changes))[:2]
        tokenize_dataset(inputs, output, settings, workers=1)
        return TokenDataset.open(output)


def make_pictured(root: Path, lengths=LENGTHS, write=write_v3_video, **options) -> Pictured:
    """Write and fit it below `root`."""
    path = write(root / "dataset", lengths, **options)
    fit(path, root / "fitted", FitSettings(horizon=HORIZON, vocab_size=300))
    return Pictured(path, root / "fitted", write_text_model(root / "text.model"))
