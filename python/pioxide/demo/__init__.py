"""Files for trying pioxide without network: a robot dataset recorded in simulation, a small vocabulary."""

from importlib.resources import files
from pathlib import Path


def dataset_path() -> Path:
    """A LeRobot v3.0 dataset of two simulated ALOHA arms; `README.md` beside it says how it was recorded."""
    return _file("dataset")


def text_model_path() -> Path:
    """A SentencePiece model with PaliGemma's special ids and few pieces; real models need PaliGemma's own."""
    return _file("text.model")


def _file(name: str) -> Path:
    path = files(__name__) / name
    # pyarrow and the tokenizer open files by path, so an installation inside a zip archive can't serve them.
    if not isinstance(path, Path):
        raise TypeError(f"pioxide is installed inside {path}; unpack it to use the demo files")
    return path
