"""Robot datasets on disk -> NumPy arrays: LeRobot v2.0, v2.1 and v3.0 alike, action windows, statistics.

Needs pyarrow (`pip install "pioxide[data]"`). Pictures are in `data.video` and `data.images`, training
batches in `data.loader`; they need more, and nothing here imports them.
"""

# Looking before running
from pioxide.data.checks import check_dataset

# What a dataset is made of
from pioxide.data.columns import FrameColumns, JointChoice
from pioxide.data.episode import Episode, EpisodeInfo, Feature
from pioxide.data.findings import Code, Finding, Level, Quantity, Spot

# Reading
from pioxide.data.lerobot import LeRobotDataset

# Quantiles and moments
from pioxide.data.quantiles import ExactQuantiles

# Which episodes
from pioxide.data.selection import EpisodeChoice, Split, select_episodes, split_episodes
from pioxide.data.stats import chunk_stats, compute_stats
from pioxide.data.survey import Checked, CheckSettings, check_datasets, cores, find_datasets
from pioxide.data.tasks import TaskChoice
from pioxide.data.windows import delta_windows, window_weights, windows

# Writing
from pioxide.data.writer import EpisodeData, write_lerobot_v3, write_lerobot_v21

__all__ = [
    "CheckSettings",
    "Checked",
    "Code",
    "Episode",
    "EpisodeChoice",
    "EpisodeData",
    "EpisodeInfo",
    "ExactQuantiles",
    "Feature",
    "Finding",
    "FrameColumns",
    "JointChoice",
    "LeRobotDataset",
    "Level",
    "Quantity",
    "Split",
    "Spot",
    "TaskChoice",
    "check_dataset",
    "check_datasets",
    "chunk_stats",
    "compute_stats",
    "cores",
    "delta_windows",
    "find_datasets",
    "select_episodes",
    "split_episodes",
    "window_weights",
    "windows",
    "write_lerobot_v3",
    "write_lerobot_v21",
]
