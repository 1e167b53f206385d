"""Faults planted in small stand-ins of LeRobot datasets, and the finding that each must lead to.

`FAULTS` has them by name. The tests of `pioxide check` and the comparison with its peers both use them.
"""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from pioxide.data import Code, EpisodeData, write_lerobot_v3, write_lerobot_v21
from support.datasets import rewrite, with_column

NAMES = ["waist", "shoulder", "elbow", "wrist", "gripper"]
EPISODES, FRAMES = 8, 60
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
V3_EPISODES = "meta/episodes/chunk-000/file-000.parquet"
Arrays = list[dict[str, np.ndarray]]


def arrays(episodes: int = EPISODES) -> Arrays:
    """Smooth arms whose gripper begins open and closes, each episode a little different."""
    rng = np.random.default_rng(7)
    out = []
    for _ in range(episodes):
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


def in_data(change: Callable[[Arrays], None], **options) -> Callable[..., Path]:
    def make(path: Path, **others) -> Path:
        data = arrays()
        change(data)
        return write(path, data, **options | others)

    return make


def on_disk(change: Callable[[Path], object], **options) -> Callable[..., Path]:
    def make(path: Path, **others) -> Path:
        root = write(path, arrays(), **options | others)
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
    """One column of one episode anew, in its own file (v2.1) or in that of all (v3.0)."""

    def in_all(table: pa.Table) -> pa.Table:
        of_all = table[key].to_pylist()
        first = episode * FRAMES
        of_all[first : first + FRAMES] = make(table.slice(first, FRAMES)).to_pylist()
        return with_column(table, key, pa.array(of_all, table[key].type))

    def change(root: Path) -> None:
        if data_file(root, episode).exists():
            rewrite(data_file(root, episode), lambda t: with_column(t, key, make(t)))
        else:
            rewrite(root / "data/chunk-000/file-000.parquet", in_all)

    return change


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


def jump(data: Arrays) -> None:
    """A stretch of an episode is missing: the arm is elsewhere from one frame to the next."""
    for values in data[4].values():
        values[30:, 1] += 1.2


def wrapped(data: Arrays) -> None:
    """The wrist turns through half a turn, and its angle wraps round."""
    for i in range(EPISODES):
        turn = np.linspace(2.5, 2.9, FRAMES) + (0.8 * np.linspace(0, 1, FRAMES) if i % 2 else 0)
        both(data, i, set_joint(3, lambda n, turn=turn: (turn + np.pi) % (2 * np.pi) - np.pi))


def frozen(data: Arrays) -> None:
    for values in data[3].values():
        values[15:50] = values[15]


def dead_motor(data: Arrays) -> None:
    data[5]["observation.state"][:, 2] = data[5]["observation.state"][0, 2]


def not_followed(data: Arrays) -> None:
    data[5]["observation.state"][:, 2] = 0.8 * np.cos(2 * np.linspace(0, 2 * np.pi, FRAMES))


def swapped(data: Arrays) -> None:
    """The actions have two joints the other way round, which move differently."""
    t = np.linspace(0, 2 * np.pi, FRAMES)
    for i in range(EPISODES):
        both(data, i, set_joint(2, lambda n: 0.8 * np.cos(2 * t)))
        data[i]["action"] = data[i]["action"][:, [0, 2, 1, 3, 4]].copy()


def clipped(data: Arrays) -> None:
    for i in range(EPISODES):
        both(data, i, lambda x: np.column_stack([x[:, :1], np.maximum(x[:, 1], 0.4), x[:, 2:]]))


def moved_zero(data: Arrays) -> None:
    data += arrays(14)[EPISODES:]
    for episode in data[9:]:
        for key in episode:
            episode[key][:, 0] += 3


def other_units(data: Arrays) -> None:
    for episode in data:
        episode["action"] = (episode["action"] * np.array([57.29578] * 4 + [1])).astype(np.float32)


def other_zero(data: Arrays) -> None:
    for episode in data:
        episode["action"][:, 1] += 5


def nearly_twice(data: Arrays) -> None:
    rng = np.random.default_rng(3)
    data[6] = {k: (v + rng.normal(0, 1e-6, v.shape)).astype(np.float32) for k, v in data[1].items()}


def one_thing(data: Arrays) -> None:
    rng = np.random.default_rng(3)
    first = data[0]
    data[:] = [
        {k: (v + rng.normal(0, 5e-3, v.shape)).astype(np.float32) for k, v in first.items()}
        for _ in range(12)
    ]


def short(data: Arrays) -> None:
    data[2] = {key: values[:4] for key, values in data[2].items()}


def long(data: Arrays) -> None:
    data[2] = {key: np.concatenate([values, values[::-1]] * 4) for key, values in data[2].items()}


def with_tasks(tasks: list[str], episodes: int = EPISODES) -> Callable[..., Path]:
    def make(path: Path, *, v3: bool = False) -> Path:
        listed = [EpisodeData(columns, tasks[i % len(tasks)]) for i, columns in enumerate(arrays(episodes))]
        names = {"action": NAMES, "observation.state": NAMES}
        writer = write_lerobot_v3 if v3 else write_lerobot_v21
        return writer(path, listed, fps=30, robot_type="arm", names=names)

    return make


def recorded(change: Callable[[dict], None]) -> Callable[[Path], Path]:
    def edit(root: Path) -> None:
        file = root / "meta/stats.json"
        stats = json.loads(file.read_text())
        change(stats)
        file.write_text(json.dumps(stats))

    return on_disk(edit, v3=True)


def stale(stats: dict) -> None:
    stats["action"]["mean"][1] += 0.5


def another_type(root: Path) -> None:
    wide = pa.list_(pa.float64(), 5)
    column(2, "action", lambda t: pa.array(t["action"].to_pylist(), wide))(root)


def effort(root: Path) -> None:
    """A column that no policy takes, with a hole in it."""
    features = json.loads((root / "meta/info.json").read_text())["features"]
    info(root, features=features | {"effort": {"dtype": "float32", "shape": [1], "names": None}})
    for i in range(EPISODES):
        values = np.linspace(0, 1, FRAMES).astype(np.float32)
        values[7] = np.nan if i == 2 else 0
        rewrite(data_file(root, i), lambda t, v=values: t.append_column("effort", pa.array(v)))


def extra_column(root: Path) -> None:
    rewrite(data_file(root, 2), lambda t: t.append_column("note", pa.array([1] * len(t))))


def declared_only(root: Path) -> None:
    features = json.loads((root / "meta/info.json").read_text())["features"]
    info(root, features=features | {"reward": {"dtype": "float32", "shape": [1], "names": None}})


def linked(root: Path) -> None:
    away = root.parent / "elsewhere.parquet"
    shutil.move(data_file(root, 2), away)
    data_file(root, 2).symlink_to(away)


def without_key(root: Path) -> None:
    file = root / "meta/info.json"
    content = json.loads(file.read_text())
    del content["robot_type"]
    file.write_text(json.dumps(content))


def drop_one(table: pa.Table) -> pa.Array:
    times = table["timestamp"].to_numpy().copy()
    times[25:] += 1 / 30
    return pa.array(times)


@dataclass(frozen=True)
class Planted:
    """A fault: how to make it, the finding that must come of it, and those that it brings with it."""

    make: Callable[..., Path]
    code: Code
    place: str
    message: str = ""
    also: tuple[Code, ...] = ()


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
        (Code.TOTALS,),
    ),
    "an episode that is not listed": Planted(
        on_disk(lambda root: relist(root, lambda rows: rows[:2] + rows[3:])),
        Code.NOT_LISTED,
        "meta/episodes",
        "episode 2",
        (Code.TOTALS, Code.INDEX, Code.UNLISTED),
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
    "a table a frame": Planted(
        on_disk(flattened), Code.FLATTENED, "action", "5 x 2 numbers a frame", (Code.STATS,)
    ),
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
    "a frame that was dropped": Planted(
        on_disk(column(2, "timestamp", drop_one)), Code.HOLE, "episode 2, frame 25", "0.07 s"
    ),
    "a jump": Planted(in_data(jump), Code.JUMP, "episode 4, frame 30, shoulder", "one frame to the next"),
    "an angle that wraps round": Planted(in_data(wrapped), Code.JUMP, "wrist (state)", "a whole turn"),
    "a stretch that is frozen": Planted(
        in_data(frozen), Code.FROZEN, "episode 3, frame 15", "35 frames", (Code.JUMP,)
    ),
    "a motor that was off": Planted(
        in_data(dead_motor),
        Code.STILL_ONCE,
        "episode 5",
        r"elbow \(state\) does not move",
    ),
    "a state of another recording": Planted(
        in_data(not_followed), Code.UNFOLLOWED, "episode 5", "elbow of the state does not follow"
    ),
    "joints in another order": Planted(
        in_data(swapped), Code.UNFOLLOWED, "actions", "shoulder, elbow: the state does not follow"
    ),
    "a joint at its limit": Planted(in_data(clipped), Code.LIMIT, "shoulder (state)", "smallest value, 0.4"),
    "another zero from an episode on": Planted(
        in_data(moved_zero), Code.SHIFTED, "from episode 9 on, waist (state)", "before"
    ),
    "actions in degrees, states in radians": Planted(
        in_data(other_units), Code.UNITS, "actions", "57.2 times as far as the state"
    ),
    "actions with another zero": Planted(
        in_data(other_zero), Code.UNITS, "shoulder (actions)", "though they move together"
    ),
    "an episode nearly twice": Planted(in_data(nearly_twice), Code.ALIKE, "episodes 1 and 6", "for noise"),
    "one thing again and again": Planted(in_data(one_thing), Code.ALIKE, "all episodes", "again and again"),
    "an episode of four frames": Planted(in_data(short), Code.LENGTH, "episode 2", "4 frames, much shorter"),
    "an episode that was not ended": Planted(in_data(long), Code.LENGTH, "episode 2", "480 frames"),
    "a task that tells nothing": Planted(with_tasks(["asdf"]), Code.EMPTY_TASK, "tasks", "tells nothing"),
    "a task in two spellings": Planted(
        with_tasks(["fold the towel", "Fold the towel."]), Code.SPELLINGS, "tasks", "in 2 ways"
    ),
    "a task of one episode": Planted(
        with_tasks(["fold the towel"] * 11 + ["stack the cups"], 12), Code.RARE_TASK, "tasks", "1 of 12"
    ),
    "an index that starts anew": Planted(
        on_disk(column(2, "index", lambda t: pa.array(range(len(t))))), Code.INDEX, "episode 2", "index 0"
    ),
    "recorded statistics of before": Planted(
        recorded(stale), Code.STATS, "action (meta/stats.json)", "mean of shoulder"
    ),
    "no recorded statistics": Planted(
        on_disk(lambda root: (root / "meta/stats.json").unlink(), v3=True),
        Code.STATS,
        "meta",
        "no stats.json",
    ),
    "info.json lacks a key": Planted(on_disk(without_key), Code.LACKING, "meta/info.json", "robot_type"),
    "total_tasks": Planted(
        on_disk(lambda root: info(root, total_tasks=3)), Code.TOTALS, "meta/info.json", "total_tasks is 3"
    ),
    "a column of another type in one file": Planted(
        on_disk(another_type), Code.COLUMNS, "episode_000002", "holds double, and float in other files"
    ),
    "a column in one file only": Planted(
        on_disk(extra_column), Code.COLUMNS, "episode_000000", 'has no column "note"'
    ),
    "a feature that no file has": Planted(
        on_disk(declared_only), Code.COLUMNS, "meta/info.json", 'feature "reward" is declared'
    ),
    "NaN where no policy looks": Planted(
        on_disk(effort), Code.NOT_FINITE, "effort (data/chunk-000/episode_000002", "1 values"
    ),
    "a file that no episode is in": Planted(
        on_disk(lambda root: shutil.copy(data_file(root, 2), data_file(root, 70))),
        Code.UNLISTED,
        "episode_000070",
        "no listed episode",
    ),
    "a link that leads away": Planted(on_disk(linked), Code.LINK, "episode_000002", "leads out of"),
}


def filmed(change: Callable[[Path], object]) -> Callable[[Path], Path]:
    """Two cameras, a video an episode, in which something moves."""
    from support.videos import write_video

    def make(path: Path) -> Path:
        root = write(path, arrays())
        for c, key in enumerate(CAMERAS):
            for i in range(EPISODES):
                write_video(
                    video(root, i, key), [1 + c + 2 * (i * FRAMES + t) for t in range(FRAMES)], fps=30
                )
        features = json.loads((root / "meta/info.json").read_text())["features"]
        declared = {"dtype": "video", "shape": [48, 64, 3], "names": ["height", "width", "channel"]}
        info(root, features=features | dict.fromkeys(CAMERAS, declared), video_path=VIDEO_PATH)
        change(root)
        return root

    return make


CAMERAS = ("observation.images.top", "observation.images.wrist")
VIDEO_PATH = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"


def video(root: Path, episode: int, key: str = CAMERAS[0]) -> Path:
    return root / f"videos/chunk-000/{key}/episode_{episode:06d}.mp4"


def refilmed(numbers: Callable[[int], object], frames: int = FRAMES, fps: int = 30) -> Callable[[Path], None]:
    """Episode 2's video anew: the picture of each frame by its number, or an image."""
    from support.videos import write_video

    return lambda root: write_video(video(root, 2), [numbers(t) for t in range(frames)], fps=fps)


def scrambled(root: Path) -> None:
    content = bytearray(video(root, 2).read_bytes())
    middle = content.index(b"mdat") + 40
    content[middle : middle + 4000] = bytes(4000)
    video(root, 2).write_bytes(content)


def other_size(root: Path) -> None:
    features = json.loads((root / "meta/info.json").read_text())["features"]
    info(root, features=features | {CAMERAS[0]: features[CAMERAS[0]] | {"shape": [480, 640, 3]}})


def grey(level: int) -> np.ndarray:
    return np.full((48, 64, 3), level, np.uint8)


def video_faults() -> dict[str, Planted]:
    """Faults of videos; writing them needs PyAV."""
    first = "episode_000002.mp4"
    return {
        "a video that is missing": Planted(
            filmed(lambda root: video(root, 2).unlink()), Code.VIDEO, "episode 2", "no such file"
        ),
        "a video that is a pointer": Planted(
            filmed(lambda root: video(root, 2).write_bytes(LFS)), Code.VIDEO, "episode 2", "Git LFS pointer"
        ),
        "a video that is empty": Planted(
            filmed(lambda root: video(root, 2).write_bytes(b"")), Code.VIDEO, "episode 2", "empty"
        ),
        "a video that is torn": Planted(
            filmed(lambda root: os.truncate(video(root, 2), 900)), Code.VIDEO, "episode 2", "as video"
        ),
        "a video with damaged pictures": Planted(filmed(scrambled), Code.VIDEO, "episode 2", ""),
        "a video that ends early": Planted(
            filmed(refilmed(lambda t: 3000 + t, 40)),
            Code.VIDEO,
            "episode 2",
            "has no frame at",
            (Code.VIDEO_LENGTH,),
        ),
        "a video with more frames": Planted(
            filmed(refilmed(lambda t: 3000 + t, 75)),
            Code.VIDEO_LENGTH,
            first,
            "75 frames, and its episode 60",
        ),
        "a video at another rate": Planted(
            filmed(refilmed(lambda t: 3000 + t, 120, 60)), Code.VIDEO_RATE, first, "60 frames a second"
        ),
        "a video of another size": Planted(filmed(other_size), Code.VIDEO_SHAPE, first, "48 x 64"),
        "a camera that hung": Planted(
            filmed(refilmed(lambda t: 3000 + min(t, 20))), Code.VIDEO_FROZEN, "episode 2", "from frame 30 on"
        ),
        "a camera that shows one picture": Planted(
            filmed(refilmed(lambda t: 3000)), Code.VIDEO_FROZEN, "episode 2", "one picture"
        ),
        "a camera that is covered": Planted(
            filmed(refilmed(lambda t: grey(2))), Code.VIDEO_BLANK, "episode 2", "nothing but black"
        ),
        "a camera that is dazzled": Planted(
            filmed(refilmed(lambda t: grey(253))), Code.VIDEO_BLANK, "episode 2", "nothing but white"
        ),
        "a video of another episode": Planted(
            filmed(lambda root: shutil.copy(video(root, 1), video(root, 2))),
            Code.VIDEO_TWICE,
            f"episode 2, {CAMERAS[0]}",
            "episode 1",
        ),
        "a camera that was opened twice": Planted(
            filmed(lambda root: shutil.copy(video(root, 2), video(root, 2, CAMERAS[1]))),
            Code.VIDEO_TWICE,
            f"episode 2, {CAMERAS[1]}",
            f"{CAMERAS[0]} of episode 2",
        ),
    }
