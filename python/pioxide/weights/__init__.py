"""Everyone's weights: checkpoints of openpi, LeRobot, openpi's PyTorch port and PaliGemma, read and written.

    from pioxide.weights import load_model

    model = load_model("gs://openpi-assets/checkpoints/pi05_droid", param_dtype="bfloat16")

Every format is a table of names and a reader that gives tensors under openpi's paths; `checkpoint` finds out
which one a path is. Nothing is ever unpickled.
"""

from pioxide.weights.architecture import Architecture, Expert, Vision, recognise
from pioxide.weights.checkpoint import Checkpoint, contract_of, load, stream
from pioxide.weights.companions import Companions
from pioxide.weights.convert import Written, convert
from pioxide.weights.lora import MergedTree
from pioxide.weights.model import build, load_into, load_model, save, tree_of
from pioxide.weights.model_config import configure
from pioxide.weights.tree import MemoryTree, Problems, Spec, Tree

__all__ = [
    "Architecture",
    "Checkpoint",
    "Companions",
    "Expert",
    "MemoryTree",
    "MergedTree",
    "Problems",
    "Spec",
    "Tree",
    "Vision",
    "Written",
    "build",
    "configure",
    "contract_of",
    "convert",
    "load",
    "load_into",
    "load_model",
    "recognise",
    "save",
    "stream",
    "tree_of",
]
