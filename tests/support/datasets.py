"""Small LeRobot datasets for tests: smooth random arms, and ways to spoil a file."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pioxide.data import EpisodeData, write_lerobot_v3, write_lerobot_v21

JOINTS = ["waist", "elbow", "gripper"]
TASKS = ["fold the towel", "stack the cups", "fold the towel"]


def episodes(lengths=(7, 4, 9), dtype=np.float32, seed=0) -> list[EpisodeData]:
    """Episodes of three joints, state and action differing."""
    rng = np.random.default_rng(seed)
    out = []
    for i, length in enumerate(lengths):
        state = np.cumsum(rng.normal(size=(length, 3)), axis=0).astype(dtype)
        action = (state + rng.normal(size=(length, 3)) * 0.1).astype(dtype)
        columns = {
            "observation.state": state,
            "action": action,
            "reward": rng.random(length).astype(np.float64),
        }
        out.append(EpisodeData(columns, TASKS[i % len(TASKS)]))
    return out


def write_v3(path: Path, data=None, **options) -> Path:
    """A v3.0 dataset of `episodes()`: two files, the first with two episodes, unless told otherwise."""
    options = {"rows_per_file": 11} | options
    return write_lerobot_v3(
        path, data or episodes(), fps=50, robot_type="arm", names={"action": JOINTS}, **options
    )


def write_v21(path: Path, data=None, **options) -> Path:
    """A v2.1 dataset of `episodes()`."""
    return write_lerobot_v21(
        path, data or episodes(), fps=50, robot_type="arm", names={"action": JOINTS}, **options
    )


def rewrite(file: Path, change: Callable[[pa.Table], pa.Table], **options) -> None:
    """Replace a Parquet file by what `change` makes of its table."""
    table = change(pq.read_table(file))
    pq.write_table(table, file, **options)


def with_column(table: pa.Table, key: str, column: pa.Array) -> pa.Table:
    """The table with one column replaced."""
    return table.set_column(table.column_names.index(key), key, column)
