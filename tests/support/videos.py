"""Small LeRobot datasets whose frames carry their number as pixels, so that none can pass for another."""

import io
import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pioxide.data import EpisodeData, write_lerobot_v3, write_lerobot_v21
from support.datasets import TASKS

HEIGHT, WIDTH = 48, 64
BITS = 12  # a grid of 3 rows and 4 columns, black or white
FPS = 10
CAMERAS = ("observation.images.top", "observation.images.wrist")
H264 = ("libx264", {"g": "7", "bf": "2", "crf": "18"})
AV1 = ("libsvtav1", {"g": "2", "crf": "20", "preset": "10"})


def coded(number: int) -> np.ndarray:
    """A picture [48, 64, 3] that says `number`, below 4096."""
    bits = [(number >> i) & 1 for i in range(BITS)]
    cells = np.array(bits, np.uint8).reshape(3, 4) * 200 + 25
    return np.repeat(np.kron(cells, np.ones((16, 16), np.uint8))[..., None], 3, axis=2)


def number_in(image: np.ndarray, size: int) -> int:
    """What a picture says that was fitted into [size, size, 3]; -1 where it is black throughout."""
    values = image.astype(np.float64).mean(axis=2)
    if image.dtype != np.uint8:
        values = (values + 1) * 127.5
    if values.max() < 10:
        return -1
    cell = size // 4
    top = (size - 3 * cell) // 2
    centres = values[top + cell // 2 :: cell][:3, cell // 2 :: cell][:, :4]
    return int(sum(int(v > 125) << i for i, v in enumerate(centres.reshape(-1))))


def write_video(path: Path, numbers, codec=H264, fps=FPS) -> None:
    """A video of these pictures, one a frame."""
    path.parent.mkdir(parents=True, exist_ok=True)
    name, options = codec
    with av.open(str(path), "w") as container:
        stream = container.add_stream(name, rate=Fraction(fps), options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.thread_count = 1
        for number in numbers:
            picture = coded(number) if isinstance(number, int) else number
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def arm(length: int, seed: int, first: int, joints: int = 3) -> dict[str, np.ndarray]:
    """Columns of an arm, of three joints by default; joint 0 counts the dataset's frames."""
    rng = np.random.default_rng(seed)
    state = np.cumsum(rng.normal(size=(length, joints)), axis=0).astype(np.float32)
    action = (state + rng.normal(size=(length, joints)) * 0.1).astype(np.float32)
    state[:, 0] = action[:, 0] = np.arange(first, first + length)
    return {"observation.state": state, "action": action}


def recorded(lengths, seed=0, joints=3) -> list[EpisodeData]:
    """Episodes of `arm`, tasks in turn."""
    starts = np.cumsum([0, *lengths]).tolist()
    return [
        EpisodeData(arm(length, seed + i, starts[i], joints), TASKS[i % len(TASKS)])
        for i, length in enumerate(lengths)
    ]


def picture_number(camera: int, row: int) -> int:
    """What camera `camera` shows in row `row` of the whole dataset."""
    return 1 + row + 1500 * camera


def write_v21_video(path: Path, lengths=(9, 5, 7), cameras=CAMERAS, codec=H264, seed=0) -> Path:
    """A v2.1 dataset, a video an episode and camera."""
    write_lerobot_v21(path, recorded(lengths, seed), fps=FPS, robot_type="arm")
    starts = np.cumsum([0, *lengths]).tolist()
    for c, key in enumerate(cameras):
        for i, length in enumerate(lengths):
            file = path / f"videos/chunk-000/{key}/episode_{i:06d}.mp4"
            write_video(file, [picture_number(c, starts[i] + t) for t in range(length)], codec)
    _declare(
        path, cameras, "video", "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
    )
    return path


def write_v3_video(path: Path, lengths=(9, 5, 7), cameras=CAMERAS, codec=H264, per_file=2, seed=0) -> Path:
    """A v3.0 dataset, `per_file` episodes a video."""
    write_lerobot_v3(path, recorded(lengths, seed), fps=FPS, robot_type="arm", rows_per_file=12)
    starts = np.cumsum([0, *lengths]).tolist()
    file = path / "meta/episodes/chunk-000/file-000.parquet"
    table = pq.read_table(file)
    for c, key in enumerate(cameras):
        chunks, numbers, begins = [], [], []
        for first in range(0, len(lengths), per_file):
            inside = range(first, min(first + per_file, len(lengths)))
            rows = range(starts[inside[0]], starts[inside[-1] + 1])
            number = first // per_file
            name = path / f"videos/{key}/chunk-000/file-{number:03d}.mp4"
            write_video(name, [picture_number(c, row) for row in rows], codec)
            for i in inside:
                chunks.append(0)
                numbers.append(number)
                begins.append((starts[i] - rows[0]) / FPS)
        ends = [b + n / FPS for b, n in zip(begins, lengths, strict=True)]
        for name, values in (
            ("chunk_index", chunks),
            ("file_index", numbers),
            ("from_timestamp", begins),
            ("to_timestamp", ends),
        ):
            table = table.append_column(f"videos/{key}/{name}", pa.array(values))
    pq.write_table(table, file)
    _declare(path, cameras, "video", "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4")
    return path


def write_still_images(path: Path, lengths=(9, 5, 7), cameras=CAMERAS, form="PNG", seed=0, joints=3) -> Path:
    """A v3.0 dataset with its images in the data files."""
    write_lerobot_v3(path, recorded(lengths, seed, joints), fps=FPS, robot_type="arm", rows_per_file=15)
    for file in sorted(path.glob("data/*/*.parquet")):
        table = pq.read_table(file)
        for c, key in enumerate(cameras):
            images = []
            for row in table["index"].to_pylist():
                buffer = io.BytesIO()
                Image.fromarray(coded(picture_number(c, row))).save(buffer, form)
                images.append({"bytes": buffer.getvalue(), "path": f"frame-{row}.png"})
            table = table.append_column(key, pa.array(images))
        pq.write_table(table, file, row_group_size=6)
    _declare(path, cameras, "image", None)
    return path


def _declare(path: Path, cameras, dtype: str, video_path) -> None:
    info = json.loads((path / "meta/info.json").read_text())
    for key in cameras:
        info["features"][key] = {"dtype": dtype, "shape": [HEIGHT, WIDTH, 3], "names": None}
    info["video_path"] = video_path
    (path / "meta/info.json").write_text(json.dumps(info))
