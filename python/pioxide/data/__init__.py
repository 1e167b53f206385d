"""Robot datasets on disk -> NumPy arrays: LeRobot v2.0, v2.1 and v3.0 alike, action windows, statistics.

Needs pyarrow (`pip install "pioxide[data]"`). Video is never opened here.
"""

# What a dataset is made of
from pioxide.data.episode import Episode, EpisodeInfo, Feature

# Reading
from pioxide.data.lerobot import LeRobotDataset

# Quantiles and moments
from pioxide.data.quantiles import ExactQuantiles
from pioxide.data.stats import chunk_stats, compute_stats
from pioxide.data.windows import delta_windows, window_weights, windows

# Writing
from pioxide.data.writer import EpisodeData, write_lerobot_v3, write_lerobot_v21

__all__ = [
    "Episode",
    "EpisodeData",
    "EpisodeInfo",
    "ExactQuantiles",
    "Feature",
    "LeRobotDataset",
    "chunk_stats",
    "compute_stats",
    "delta_windows",
    "window_weights",
    "windows",
    "write_lerobot_v3",
    "write_lerobot_v21",
]
