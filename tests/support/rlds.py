"""Writes RLDS datasets as TFDS does, without TensorFlow: framing, `tf.train.Example`, descriptions."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from PIL import Image

SHAPE = (18, 32, 3)


def masked_crc(content: bytes) -> int:
    crc = google_crc32c.value(content)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def framed(record: bytes) -> bytes:
    length = struct.pack("<Q", len(record))
    tail = struct.pack("<I", masked_crc(record))
    return length + struct.pack("<I", masked_crc(length)) + record + tail


def varint(value: int) -> bytes:
    value %= 1 << 64
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def example(features: Mapping[str, Any]) -> bytes:
    """Lists of bytes, and arrays of floats or integers, by name."""
    entries = []
    for name, values in features.items():
        if isinstance(values, list):
            content = field(1, b"".join(field(1, value) for value in values))
        elif values.dtype.kind == "f":
            content = field(2, field(1, values.astype("<f4").tobytes()))
        else:
            content = field(3, field(1, b"".join(varint(int(value)) for value in values.reshape(-1))))
        entries.append(field(1, field(1, name.encode()) + field(2, content)))
    return field(1, b"".join(entries))


def picture(camera: int, episode: int, frame: int, kind: str = "JPEG") -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.full(SHAPE, (60 * camera + 20 * episode + 5 * frame + 3) % 256, np.uint8)).save(
        out, kind
    )
    return out.getvalue()


def droid_steps(episode: int, length: int) -> dict[str, Any]:
    """One episode with DROID's keys, whose numbers say which frame they are."""
    frame = np.arange(length)[:, None]
    joints = 0.1 * np.arange(7) + 0.01 * frame + episode
    grip = np.linspace(0, 1, length) if length else np.zeros(0)
    texts = {"": f"put block {episode} away", "_2": f"tidy block {episode}" if episode else "", "_3": ""}
    return {
        "steps/observation/joint_position": joints,
        "steps/observation/gripper_position": grip,
        "steps/observation/exterior_image_1_left": [picture(0, episode, t) for t in range(length)],
        "steps/observation/exterior_image_2_left": [picture(1, episode, t) for t in range(length)],
        "steps/observation/wrist_image_left": [picture(2, episode, t, "PNG") for t in range(length)],
        "steps/action_dict/joint_velocity": -joints,
        "steps/action_dict/joint_position": joints + 0.5,
        "steps/action_dict/gripper_position": 1 - grip,
        "steps/is_first": frame[:, 0] == 0,
        **{f"steps/language_instruction{which}": [text.encode()] * length for which, text in texts.items()},
        "episode_metadata/recording_folderpath": [f"gs://droid/{episode}/recordings/MP4".encode()],
        "episode_metadata/file_path": [f"/{'success' if episode % 2 else 'failure'}/{episode}.h5".encode()],
    }


def _described(kind: str, shape: Sequence[int] = (), dtype: str = "float64") -> dict[str, Any]:
    if kind == "text":
        return {"pythonClassName": "tensorflow_datasets.core.features.text_feature.Text", "text": {}}
    sized = {"dimensions": [str(size) for size in shape]} if shape else {}
    return {kind: {"shape": sized, "dtype": dtype, "encoding": "none"}}


def _tree(leaves: Mapping[str, Any]) -> dict[str, Any]:
    root: dict[str, Any] = {}
    for key, leaf in leaves.items():
        *above, last = key.split("/")
        node = root
        for name in above:
            node = node.setdefault(name, {"featuresDict": {"features": {}}})["featuresDict"]["features"]
        node[last] = leaf
    return {"featuresDict": {"features": root}}


DROID_FEATURES = {
    **{
        f"observation/{name}": _described("image", SHAPE, "uint8")
        for name in ("exterior_image_1_left", "exterior_image_2_left", "wrist_image_left")
    },
    "observation/joint_position": _described("tensor", (7,)),
    "observation/gripper_position": _described("tensor", (1,)),
    "action_dict/joint_velocity": _described("tensor", (7,)),
    "action_dict/joint_position": _described("tensor", (7,)),
    "action_dict/gripper_position": _described("tensor", (1,)),
    "is_first": _described("tensor", (), "bool"),
    **{f"language_instruction{which}": _described("text") for which in ("", "_2", "_3")},
}


def write_rlds(
    root: Path, records: Sequence[Sequence[bytes]], *, kind: str = "tfrecord", name: str = "droid"
) -> Path:
    """Writes a dataset of these records, a list a shard, with DROID's features."""
    root.mkdir(parents=True)
    for shard, several in enumerate(records):
        path = root / f"{name}-train.{kind}-{shard:05d}-of-{len(records):05d}"
        if kind == "tfrecord":
            path.write_bytes(b"".join(map(framed, several)))
        else:
            from array_record.python.array_record_module import ArrayRecordWriter

            writer = ArrayRecordWriter(str(path), "group_size:1")
            for record in several:
                writer.write(record)
            writer.close()
    split = {"name": "train", "shardLengths": [str(len(several)) for several in records]}
    info = {"name": name, "version": "1.0.1", "fileFormat": kind, "splits": [split]}
    (root / "dataset_info.json").write_text(json.dumps(info))
    tree = _tree(
        {f"episode_metadata/{key}": _described("text") for key in ("file_path", "recording_folderpath")}
    )
    tree["featuresDict"]["features"]["steps"] = {"sequence": {"feature": _tree(DROID_FEATURES)}}
    (root / "features.json").write_text(json.dumps(tree))
    return root


def write_droid(root: Path, *, kind: str = "tfrecord", shards: int = 2, each: int = 2) -> Path:
    """Writes episodes of 4, 5, 6, ... steps."""
    records = [
        [example(droid_steps(e, 4 + e)) for e in range(shard * each, (shard + 1) * each)]
        for shard in range(shards)
    ]
    return write_rlds(root, records, kind=kind)
