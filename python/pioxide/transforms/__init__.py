"""What happens to states and actions between a robot and a model, each step with its way back. NumPy only.

A training example passes delta actions -> normalise -> pad, an answer passes back through the same steps
inverted.
"""

from pioxide.transforms.actions import DeltaActions, make_mask
from pioxide.transforms.normalize import Arithmetic, Normalizer, NormMode, NormRule, Quantile, ZScore
from pioxide.transforms.pad import Pad
from pioxide.transforms.stats import Stats, load_norm_stats, save_norm_stats

__all__ = [
    "Arithmetic",
    "DeltaActions",
    "NormMode",
    "NormRule",
    "Normalizer",
    "Pad",
    "Quantile",
    "Stats",
    "ZScore",
    "load_norm_stats",
    "make_mask",
    "save_norm_stats",
]
