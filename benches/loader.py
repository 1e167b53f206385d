"""Training samples a second of CPU: pioxide's loader beside LeRobot's dataset, on the same recording.

Three ways: numbers alone, video as it was recorded, and pioxide's cache of pictures (LeRobot has none). A
sample is a state, 50 actions, the instruction and one picture. LeRobot's is left at the camera's size and as
recorded; pioxide's is normalised, tokenized for π0.5, and at the model's 224 pixels. Random order, batches of
32, one process each, without workers. LeRobot needs an environment of its own (Python 3.12 or later,
`pip install lerobot`).

    python benches/loader.py DATASET --text-model FILE [--peer .../bin/python] [--seconds 20]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HORIZON, BATCH, SIZE = 50, 32, 224
WAYS = ("numbers", "video", "cache")


def main() -> None:
    """Makes the datasets, measures each way in its own process, prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path, help="a LeRobot dataset with video, any version")
    parser.add_argument("--text-model", type=Path)
    parser.add_argument("--peer", type=Path, help="Python of an environment with lerobot")
    parser.add_argument("--backend", default="pyav", help="LeRobot's decoder: pyav or torchcodec")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        who, way = arguments.measure.split("/")
        batches = peer(arguments.dataset, way) if who == "lerobot" else ours(arguments, way)
        print(json.dumps(measure(batches, arguments.seconds)))
        return
    with tempfile.TemporaryDirectory(prefix="pioxide-bench-") as root:
        paths = {"numbers": Path(root, "numbers"), "video": Path(root, "video")}
        for way, path in paths.items():
            copy_as_v3(arguments.dataset, path, with_video=way == "video")
        paths["cache"] = paths["video"]
        rows: list[dict[str, Any]] = []
        print(f"{'samples a second of CPU':28} {'pioxide':>10} {'lerobot':>10} {'ratio':>7}   of wall clock")
        for way in WAYS:
            found = {"pioxide": run(sys.executable, arguments, paths[way], f"pioxide/{way}")}
            if arguments.peer is not None:
                way_of_peer = "numbers" if way == "numbers" else arguments.backend
                found["lerobot"] = run(arguments.peer, arguments, paths[way], f"lerobot/{way_of_peer}")
            rows.append({"way": way, **found})
            cpu = [one["cpu"] for one in found.values()]
            line = f"{way:28} " + " ".join(f"{rate:10,.0f}" for rate in cpu)
            if len(cpu) == 2:
                line += f" {cpu[0] / cpu[1]:6.1f}x"
            print(line + "   " + ", ".join(f"{one['wall']:,.0f}" for one in found.values()), flush=True)
        if arguments.json is not None:
            arguments.json.write_text(json.dumps({"rows": rows}))


def run(python: Any, arguments: argparse.Namespace, dataset: Path, what: str) -> dict[str, float]:
    """Measures in a fresh process that may use one thread for arithmetic."""
    command = [str(python), __file__, str(dataset), "--measure", what, "--seconds", str(arguments.seconds)]
    if arguments.text_model is not None:
        command += ["--text-model", str(arguments.text_model)]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    environment = os.environ | threads | offline
    if what.startswith("lerobot"):
        environment.pop("PYTHONPATH", None)  # another Python: what is installed here is not for it
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{what}: {done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(batches: Iterator[int], seconds: float) -> dict[str, float]:
    """Draws batches for so long, after two that are not counted."""
    for _ in range(2):
        next(batches)
    wall, cpu, samples = time.perf_counter(), time.process_time(), 0
    while time.process_time() - cpu < seconds:
        samples += next(batches)
    spent = time.process_time() - cpu
    return {"cpu": samples / spent, "wall": samples / (time.perf_counter() - wall), "samples": samples}


def ours(arguments: argparse.Namespace, way: str) -> Iterator[int]:
    """Sizes of pioxide's batches."""
    from pioxide.codec import TextTokenizer
    from pioxide.contract import CameraSlot, Contract
    from pioxide.data import FrameColumns, LeRobotDataset, compute_stats
    from pioxide.data.loader import CacheSettings, Loader, LoaderSettings, Source
    from pioxide.data.robot import dataset_robot
    from pioxide.demo import text_model_path
    from pioxide.transforms import NormRule

    dataset = LeRobotDataset.open(arguments.dataset)
    robot = dataset_robot(dataset, FrameColumns())
    rule = NormRule.openpi("quantile")
    keys = [camera.key for camera in robot.cameras]
    contract = Contract(
        family="pi05",
        robot=robot,
        cameras=(CameraSlot("base_0_rgb", keys[0] if keys else None),),
        absent_camera="masked",
        delta_mask=(),
        state_norm=rule,
        action_norm=rule,
        norm_stats=compute_stats(dataset, horizon=HORIZON),
        state_in_text=True,
        state_text_dim=None,
        prompt_style="openpi",
        text_len=200,
        default_prompt=None,
        action_horizon=HORIZON,
        model_dim=32,
        image_size=SIZE,
        resize="antialias",
    )
    tokenizer = TextTokenizer.load(arguments.text_model or text_model_path())
    source = Source(dataset, contract)
    cache = CacheSettings(arguments.dataset.parent / "cache") if way == "cache" else None
    if way == "numbers":
        return numbers_alone(source, tokenizer)
    batches = Loader(source, LoaderSettings(BATCH), tokenizer, cache=cache).batches()
    return (len(batch) for batch in batches)


def numbers_alone(source: Any, tokenizer: Any) -> Iterator[int]:
    """A loader refuses a source without cameras, so its text and numbers are asked for directly."""
    import numpy as np

    from pioxide.contract import Pipeline
    from pioxide.data.loader.reading import read_rows

    _, drawn, rows = read_rows(source, Pipeline(source.contract, tokenizer), timed=False)
    rng = np.random.default_rng(0)
    while True:
        order = rng.permutation(drawn)
        for start in range(0, len(order) - BATCH + 1, BATCH):
            yield len(rows.part(order[start : start + BATCH]).tokens)


def peer(path: Path, way: str) -> Iterator[int]:
    """Sizes of batches of LeRobot's dataset, by PyTorch's own loader."""
    import torch
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    torch.set_num_threads(1)
    rate = json.loads((path / "meta/info.json").read_text())["fps"]
    windows = {"action": [step / rate for step in range(HORIZON)]}
    backend = None if way == "numbers" else way
    dataset = LeRobotDataset("bench/dataset", root=path, delta_timestamps=windows, video_backend=backend)
    while True:
        for batch in torch.utils.data.DataLoader(dataset, batch_size=BATCH, shuffle=True, drop_last=True):
            yield len(batch["action"])


def copy_as_v3(source: Path, target: Path, *, with_video: bool) -> None:
    """Writes a recording as v3.0, which is what LeRobot reads now; its videos are copied as they are."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from pioxide.data import EpisodeData, LeRobotDataset, write_lerobot_v3
    from pioxide.data.footage import video_places

    dataset = LeRobotDataset.open(source)
    columns = ["observation.state", "action"]
    episodes = list(dataset.scan(columns))
    data = [EpisodeData(e.columns, e.prompts[0][0]) for e in episodes]
    write_lerobot_v3(target, data, fps=int(dataset.fps), robot_type=dataset.robot_type)
    if not with_video:
        return
    info = json.loads((target / "meta/info.json").read_text())
    file = target / "meta/episodes/chunk-000/file-000.parquet"
    table = pq.read_table(file)
    for key, feature in dataset.features.items():
        if feature.dtype != "video":
            continue
        info["features"][key] = json.loads((source / "meta/info.json").read_text())["features"][key]
        places = video_places(dataset, key, [e.index for e in episodes])
        files = list(dict.fromkeys(place.file for place in places.values()))
        for number, name in enumerate(files):
            copy = target / f"videos/{key}/chunk-000/file-{number:03d}.mp4"
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / name, copy)
        starts = [places[e.index].start for e in episodes]
        added = {
            "chunk_index": np.zeros(len(episodes), np.int64),
            "file_index": np.array([files.index(places[e.index].file) for e in episodes]),
            "from_timestamp": np.array(starts),
            "to_timestamp": np.array(
                [s + len(e) / dataset.fps for s, e in zip(starts, episodes, strict=True)]
            ),
        }
        for name, values in added.items():
            table = table.append_column(f"videos/{key}/{name}", pa.array(values))
    info["video_path"] = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
    (target / "meta/info.json").write_text(json.dumps(info))
    pq.write_table(table, file)


if __name__ == "__main__":
    main()
