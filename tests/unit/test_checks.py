"""Faults planted in small stand-ins, each found by its code and its place; nothing in what is in order."""

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pioxide import demo
from pioxide.data import (
    CheckSettings,
    Code,
    EpisodeData,
    Level,
    check_datasets,
    find_datasets,
    write_lerobot_v3,
    write_lerobot_v21,
)
from pioxide.data.survey import check_one
from support.datasets import rewrite, with_column

NAMES = ["waist", "shoulder", "elbow", "wrist", "gripper"]
EPISODES, FRAMES = 8, 60
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
V3_EPISODES = "meta/episodes/chunk-000/file-000.parquet"
Arrays = list[dict[str, np.ndarray]]


def arrays() -> Arrays:
    """Smooth arms whose gripper begins open and closes, each episode a little different."""
    rng = np.random.default_rng(7)
    out = []
    for _ in range(EPISODES):
        t = np.linspace(0, 2 * np.pi, FRAMES)[:, None]
        arm = 0.8 * np.sin(t * rng.uniform(0.8, 1.2, 4) + rng.uniform(-0.3, 0.3, 4)) + rng.normal(0, 0.02, 4)
        close = 1 / (1 + np.exp((np.arange(FRAMES) - rng.integers(20, 30)) / 2))
        action = np.column_stack([arm, close]).astype(np.float32)
        state = np.concatenate([action[:1], action[:-1]]) + rng.normal(0, 0.002, action.shape)
        out.append({"observation.state": state.astype(np.float32), "action": action})
    return out


def write(path: Path, data: Arrays, *, v3: bool = False, task: str = "fold the towel") -> Path:
    writer = write_lerobot_v3 if v3 else write_lerobot_v21
    episodes = [EpisodeData(columns, task) for columns in data]
    dim = data[0]["action"].shape[1]
    names = NAMES if dim == len(NAMES) else [f"joint_{i}" for i in range(dim)]
    return writer(
        path, episodes, fps=30, robot_type="arm", names={"action": names, "observation.state": names}
    )


def data_file(root: Path, episode: int) -> Path:
    return root / f"data/chunk-000/episode_{episode:06d}.parquet"


def info(root: Path, **changes) -> None:
    file = root / "meta/info.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def in_data(change: Callable[[Arrays], None], **options) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        data = arrays()
        change(data)
        return write(path, data, **options)

    return make


def on_disk(change: Callable[[Path], object], **options) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        root = write(path, arrays(), **options)
        change(root)
        return root

    return make


def both(data: Arrays, episode: int, change: Callable[[np.ndarray], np.ndarray]) -> None:
    for key, values in data[episode].items():
        data[episode][key] = change(values).astype(np.float32)


def set_joint(joint: int, value) -> Callable[[np.ndarray], np.ndarray]:
    def change(values: np.ndarray) -> np.ndarray:
        values = values.copy()
        values[:, joint] = value(len(values)) if callable(value) else value
        return values

    return change


def still(data: Arrays) -> None:
    for episode in range(EPISODES):
        both(data, episode, set_joint(3, 0.25))


def seldom(data: Arrays) -> None:
    still(data)
    data[5]["action"][17, 3] = 0.5
    data[5]["observation.state"][18, 3] = 0.5


def noise(data: Arrays) -> None:
    rng = np.random.default_rng(1)
    for episode in range(EPISODES):
        both(data, episode, set_joint(2, lambda n: rng.normal(size=n)))


def glitch(data: Arrays) -> None:
    data[4]["action"][33, 1] = 40.0


def degrees(data: Arrays) -> None:
    for episode in (2, 6):
        both(data, episode, lambda x: x * np.array([57.29578] * 4 + [1]))


def reversed_gripper(data: Arrays) -> None:
    both(data, 3, lambda x: np.column_stack([x[:, :4], 1 - x[:, 4]]))


def reversed_action(data: Arrays) -> None:
    data[3]["action"][:, 4] = 1 - data[3]["action"][:, 4]


def duplicate(data: Arrays) -> None:
    data[6] = {key: values.copy() for key, values in data[1].items()}


def wide(data: Arrays) -> None:
    for episode in data:
        for key, values in episode.items():
            episode[key] = np.column_stack([values] * 7)[:, :34]


def column(episode: int, key: str, make: Callable[[pa.Table], pa.Array]) -> Callable[[Path], None]:
    return lambda root: rewrite(data_file(root, episode), lambda t: with_column(t, key, make(t)))


def hole(table: pa.Table) -> pa.Array:
    times = table["timestamp"].to_numpy().copy()
    times[25:] += 5
    return pa.array(times)


def back(table: pa.Table) -> pa.Array:
    times = table["timestamp"].to_numpy().copy()
    times[25] = times[20]
    return pa.array(times)


def half_rate(root: Path) -> None:
    for episode in range(EPISODES):
        column(episode, "timestamp", lambda t: pa.array(t["timestamp"].to_numpy() * 2))(root)


def nan(table: pa.Table) -> pa.Array:
    rows = table["action"].to_pylist()
    rows[9][2] = float("nan")
    return pa.array(rows, pa.list_(pa.float32(), 5))


def relist(root: Path, change: Callable[[list[dict]], list]) -> None:
    file = root / "meta/episodes.jsonl"
    rows = change([json.loads(line) for line in file.read_text().splitlines()])
    file.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))


def flattened(root: Path) -> None:
    features = json.loads((root / "meta/info.json").read_text())["features"]
    features["action"] |= {"shape": [5, 2], "names": None}
    info(root, features=features)
    for episode in range(EPISODES):
        rewrite(
            data_file(root, episode),
            lambda t: with_column(
                t,
                "action",
                pa.array([[[x, x + 0.1 * i] for x in row] for i, row in enumerate(t["action"].to_pylist())]),
            ),
        )


@dataclass(frozen=True)
class Planted:
    """A fault: how to make it, and the finding that must come of it."""

    make: Callable[[Path], Path]
    code: Code
    place: str
    message: str = ""


FAULTS = {
    "no dataset": Planted(lambda path: path, Code.UNUSABLE, "", "no such directory"),
    "no info.json": Planted(
        on_disk(lambda root: (root / "meta/info.json").unlink()), Code.UNUSABLE, "", "not a LeRobot dataset"
    ),
    "info.json is a pointer": Planted(
        on_disk(lambda root: (root / "meta/info.json").write_bytes(LFS)), Code.UNUSABLE, "", "Git LFS pointer"
    ),
    "old version": Planted(
        on_disk(lambda root: info(root, codebase_version="v1.6")), Code.UNUSABLE, "", "v1.6"
    ),
    "a pointer": Planted(
        on_disk(lambda root: data_file(root, 2).write_bytes(LFS)),
        Code.EPISODE,
        "episode 2",
        "Git LFS pointer",
    ),
    "a missing file": Planted(
        on_disk(lambda root: data_file(root, 2).unlink()), Code.EPISODE, "episode 2", "no such file"
    ),
    "a torn file": Planted(
        on_disk(lambda root: os.truncate(data_file(root, 2), 3000)), Code.EPISODE, "episode 2", "as Parquet"
    ),
    "NaN": Planted(
        on_disk(column(2, "action", nan)), Code.EPISODE, "episode 2", r"frame 9, dimension 2 \(elbow\)"
    ),
    "a missing row": Planted(
        on_disk(lambda root: rewrite(data_file(root, 2), lambda t: t.slice(1))),
        Code.EPISODE,
        "episode 2",
        "59 rows",
    ),
    "a column of structs": Planted(
        on_disk(column(2, "action", lambda t: pa.array([{"x": 1.0}] * len(t)))),
        Code.EPISODE,
        "episode 2",
        "struct<x: double>, expected numbers",
    ),
    "a task that is not listed": Planted(
        on_disk(column(2, "task_index", lambda t: pa.array([4] * len(t)))),
        Code.EPISODE,
        "episode 2",
        "no such task",
    ),
    "an entry that is wrong": Planted(
        on_disk(lambda root: relist(root, lambda rows: [*rows[:2], "{", *rows[3:]])),
        Code.EPISODE,
        "episode 2",
        "line 3 is not JSON",
    ),
    "an episode that is not listed": Planted(
        on_disk(lambda root: relist(root, lambda rows: rows[:2] + rows[3:])),
        Code.NOT_LISTED,
        "meta/episodes",
        "episode 2",
    ),
    "an episode that is listed twice": Planted(
        on_disk(lambda root: relist(root, lambda rows: [*rows, rows[2]])),
        Code.LISTED_TWICE,
        "meta/episodes",
        "episode 2",
    ),
    "totals": Planted(
        on_disk(lambda root: info(root, total_frames=7)), Code.TOTALS, "meta/info.json", "total_frames"
    ),
    "no rate": Planted(on_disk(lambda root: info(root, fps=0)), Code.RATE, "meta/info.json", "fps is 0"),
    "another rate": Planted(on_disk(half_rate), Code.WRONG_RATE, "episodes 0", "15 frames a second, 30 in"),
    "a hole in time": Planted(
        on_disk(column(2, "timestamp", hole)), Code.HOLE, "episode 2, frame 25", "5.03 s"
    ),
    "time that goes back": Planted(
        on_disk(column(2, "timestamp", back)), Code.HOLE, "episode 2, frame 25", "not after"
    ),
    "an empty task": Planted(in_data(lambda data: None, task="  "), Code.EMPTY_TASK, "tasks", "no task text"),
    "no frame_index": Planted(
        on_disk(lambda root: rewrite(data_file(root, 2), lambda t: t.drop_columns(["frame_index"]))),
        Code.DERIVED,
        "data",
        "episode 2 without frame_index",
    ),
    "files elsewhere": Planted(
        on_disk(lambda root: (root / "data/chunk-000").rename(root / "data/other")),
        Code.MOVED,
        "meta/info.json",
        "data_path",
    ),
    "a stale file_index": Planted(
        on_disk(
            lambda root: rewrite(
                root / V3_EPISODES, lambda t: with_column(t, "data/file_index", pa.array([3] * len(t)))
            ),
            v3=True,
        ),
        Code.MOVED,
        "meta/episodes",
        "another data file",
    ),
    "a feature without a shape": Planted(
        on_disk(
            lambda root: info(
                root, features=json.loads((root / "meta/info.json").read_text())["features"] | {"reward": {}}
            )
        ),
        Code.FEATURE,
        "meta/info.json",
        "reward",
    ),
    "a table a frame": Planted(on_disk(flattened), Code.FLATTENED, "action", "5 x 2 numbers a frame"),
    "a joint that never moves": Planted(in_data(still), Code.STILL, "wrist (state)", "never moves from 0.25"),
    "a joint that seldom moves": Planted(
        in_data(seldom), Code.SELDOM, "wrist (actions), first in episode 5, frame 17", "q01 equals q99"
    ),
    "a joint that is noise": Planted(in_data(noise), Code.NOISE, "elbow (actions)", "noise"),
    "an outlier": Planted(in_data(glitch), Code.OUTLIER, "episode 4, frame 33, shoulder (actions)", "is 40"),
    "degrees": Planted(in_data(degrees), Code.UNITS, "episodes 2 and 6", "57 times larger"),
    "a gripper turned round": Planted(in_data(reversed_gripper), Code.REVERSED, "episode 3", "gripper"),
    "a gripper turned round in the actions": Planted(
        in_data(reversed_action), Code.REVERSED, "episode 3", "moves against the state"
    ),
    "an episode twice": Planted(in_data(duplicate), Code.DUPLICATE, "episode 1", "episode 6"),
    "too many joints": Planted(in_data(wide), Code.WIDE, "state", "34 numbers"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_planted_fault_is_found(name: str, tmp_path: Path) -> None:
    fault = FAULTS[name]
    checked = check_one(fault.make(tmp_path / "d"), CheckSettings())
    found = [f for f in checked.findings if f.code is fault.code]
    assert found, checked.findings
    assert any(fault.place in f.place for f in found), found
    assert any(re.search(fault.message, f.message) for f in found), found
    # Nothing is said besides that the fault does not bring with it.
    brought = {
        Code.NOT_LISTED: {Code.TOTALS},
        Code.EPISODE: {Code.TOTALS},
    }
    also = {f.code for f in checked.findings} - {fault.code} - brought.get(fault.code, set())
    assert not also, checked.findings


@pytest.mark.parametrize("v3", [False, True])
def test_nothing_is_found_where_all_is_well(v3: bool, tmp_path: Path) -> None:
    checked = check_one(write(tmp_path / "d", arrays(), v3=v3), CheckSettings())
    assert checked.findings == ()
    assert (checked.episodes, checked.frames) == (EPISODES, EPISODES * FRAMES)


def test_nothing_is_found_in_recordings_of_a_simulation() -> None:
    assert check_one(demo.dataset_path(), CheckSettings()).findings == ()


REAL = Path(__file__).parents[2] / "../shared/data"


@pytest.mark.skipif(not REAL.is_dir(), reason="REAL RECORDINGS ARE NOT HERE: ../shared/data")
def test_nothing_is_found_in_recordings_of_a_real_robot() -> None:
    paths = find_datasets([str(REAL)])
    assert paths
    for checked in check_datasets(paths, CheckSettings(), workers=1):
        assert checked.findings == (), checked


def test_every_dataset_is_checked_whatever_the_others_are_like(tmp_path: Path) -> None:
    good = write(tmp_path / "a/good", arrays())
    broken = write(tmp_path / "b/deep/broken", arrays(), v3=True)
    for file in broken.glob("data/*/*.parquet"):
        file.write_bytes(LFS)
    (tmp_path / "c/meta").mkdir(parents=True)
    (tmp_path / "c/data").mkdir()
    (tmp_path / "d").mkdir()
    paths = find_datasets(
        [str(tmp_path), str(tmp_path / "nothing"), str(tmp_path / "a/*"), str(tmp_path / "d")]
    )
    assert paths == [good, broken, tmp_path / "c", tmp_path / "nothing", tmp_path / "d"]
    done: list[Path] = []
    results = check_datasets(paths, CheckSettings(), workers=2, on_done=lambda c: done.append(c.path))
    assert [c.path for c in results] == paths
    assert sorted(done) == sorted(paths)
    assert [c.count(Level.FAULT) for c in results] == [0, EPISODES, 1, 1, 1]
    alone = check_datasets(paths, CheckSettings(), workers=1)
    assert alone == results


def test_threads_see_what_one_sees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pioxide.data.checks.PART_FRAMES", 100)
    data = arrays()
    glitch(data)
    root = write(tmp_path / "d", data)
    data_file(root, 5).unlink()
    assert check_one(root, CheckSettings(), 3) == check_one(root, CheckSettings(), 1)
