"""Writes token columns back into a LeRobot v3.0 dataset, for whoever trains with LeRobot's own loader.

The new dataset is the old one with more columns: data files are written anew, metadata is copied, and videos
get a second name where the file system can give one. Everything appears at once or not at all.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pioxide.data import LeRobotDataset
from pioxide.data.parquet import open_parquet
from pioxide.data.rlds.pictures import is_indexed
from pioxide.errors import DatasetError, InputError, OutputError
from pioxide.files import hard_link, make_directory, new_directory, output_error, read_json, write_json
from pioxide.shards.job import Progress
from pioxide.shards.reader import Batch, TokenDataset

PREFIX = "pioxide."
INFO = "meta/info.json"


def export_lerobot(
    tokens: TokenDataset,
    dataset: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    progress: Progress | None = None,
) -> Path:
    """Writes a LeRobot v3.0 dataset that has a row's tokens beside each frame.

    The columns are those of a row, under `pioxide.`: `tokens` int32[L] padded with 0, `token_count` (ids that
    are no padding), `length`, and by model `state` float32[S], `actions` float32[H * D] row-major,
    `prefix_length` and `clipped`. What they mean stands in the tokens' contract.

    Args:
        tokens: All rows of a directory.
        dataset: The v3.0 dataset that they were made of.
        output: The new dataset's directory; must not exist or be empty.
        progress: Told of frames written.

    Raises:
        DatasetError: `dataset` is another one, is not v3.0, or can't be read.
        InputError: Some frames have no tokens, `output` holds something, or the dataset has such columns.
        OutputError: It can't be written; nothing is left behind then.
    """
    source = LeRobotDataset.open(dataset, pictures=True)
    if is_indexed(source.path):
        raise InputError(
            f"{dataset}: its pictures lie in RLDS records, which LeRobot does not read; export --to "
            "array_record"
        )
    info = read_json(source.path / INFO)
    first_row = _rows_by_episode(tokens, source, info)
    target = Path(output)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"{target} exists already; the dataset is written to a new directory")
    files = sorted({episode.file for episode in source.episodes})
    if progress is not None:
        progress.begin(source.total_frames, 0)
    with new_directory(target) as root:
        try:
            _bring_others(source.path, root, set(files))
            columns: dict[str, NDArray[Any]] = {}
            for file in files:
                columns = _write_file(source.path, root, file, tokens, first_row, progress)
            for name, values in columns.items():
                shape = list(values.shape[1:]) or [1]
                info["features"][name] = {"dtype": str(values.dtype), "shape": shape, "names": None}
            write_json(root / INFO, info)
        except OSError as error:
            raise output_error(target, error) from error
    return target


def _rows_by_episode(tokens: TokenDataset, source: LeRobotDataset, info: Any) -> dict[int, int]:
    """The number of each episode's first row.

    Raises:
        DatasetError, InputError: As `export_lerobot`.
    """
    if source.version != "v3.0":
        raise DatasetError(
            f"{source.path} is LeRobot {source.version}; tokens are written back into v3.0: convert it with "
            "LeRobot's convert_dataset_v21_to_v30, and tokenize that"
        )
    if source.fingerprint() != tokens.manifest.dataset["fingerprint"]:
        raise DatasetError(
            f"{source.path} is not the dataset, or not as it was, that {tokens.path} was made of"
        )
    if taken := [name for name in info["features"] if name.startswith(PREFIX)]:
        raise InputError(f"{source.path} has a column {taken[0]} already")
    if len(tokens) != source.total_frames or tokens.rows.start:
        raise InputError(
            f"{tokens.path} has tokens of {len(tokens):,} of {source.total_frames:,} frames; a LeRobot "
            "dataset needs them for every frame: tokenize all of it"
        )
    episodes = np.concatenate([batch["episode"] for batch in tokens.batches(65536)])
    numbers, first = np.unique(episodes, return_index=True)
    return dict(zip(numbers.tolist(), first.tolist(), strict=True))


def _bring_others(source: Path, root: Path, written: set[str]) -> None:
    """Brings what isn't written anew: metadata as copies, because LeRobot changes it in place."""
    for path in sorted(source.rglob("*")):
        name = path.relative_to(source).as_posix()
        if (
            path.is_dir()
            or name in written
            or name == INFO
            or any(p.startswith(".") for p in Path(name).parts)
        ):
            continue
        make_directory((root / name).parent)
        if not (name.startswith("videos/") and hard_link(path.resolve(), root / name)):
            shutil.copyfile(path, root / name)
    make_directory(root / "meta")


def _write_file(
    source: Path,
    root: Path,
    name: str,
    tokens: TokenDataset,
    first_row: dict[int, int],
    progress: Progress | None,
) -> dict[str, NDArray[Any]]:
    """Writes one data file with more columns, row group by row group; returns some of these columns."""
    make_directory((root / name).parent)
    writer: pq.ParquetWriter | None = None
    columns: dict[str, NDArray[Any]] = {}
    try:
        with open_parquet(source / name) as file:
            for group in range(file.num_row_groups):
                table = file.read_row_group(group)
                episode, frame = (table[key].to_numpy() for key in ("episode_index", "frame_index"))
                if not np.isin(episode, list(first_row)).all():
                    raise DatasetError(f"{name}: holds episodes that the dataset doesn't list")
                batch = tokens[np.array([first_row[one] for one in episode.tolist()], np.int64) + frame]
                if (batch["episode"] != episode).any() or (batch["frame"] != frame).any():
                    raise DatasetError(f"{name}: frames are not numbered as they were when tokens were made")
                columns = _columns(batch)
                for key, values in columns.items():
                    table = table.append_column(key, _arrow(values))
                # What Hugging Face wrote there tells of the old columns.
                kept = {k: v for k, v in (table.schema.metadata or {}).items() if k != b"huggingface"}
                table = table.replace_schema_metadata(kept or None)
                if writer is None:
                    writer = pq.ParquetWriter(root / name, table.schema, compression="zstd")
                writer.write_table(table, row_group_size=max(table.num_rows, 1))
                if progress is not None:
                    progress.advance(table.num_rows)
    except (pa.ArrowException, KeyError) as error:
        raise DatasetError(f"{name}: can't be read ({error})") from error
    finally:
        if writer is not None:
            writer.close()
    if writer is None:
        raise OutputError(f"{source / name} has no rows")
    return columns


def _columns(batch: Batch) -> dict[str, NDArray[Any]]:
    found = {"tokens": batch["tokens"], "token_count": batch["mask"].sum(1).astype(np.int32)}
    for name in ("length", "state", "actions", "prefix_length", "clipped"):
        if name in batch:
            values = batch[name]
            found[name] = values.reshape(len(values), -1) if values.ndim > 1 else values
    return {PREFIX + name: values for name, values in found.items()}


def _arrow(values: NDArray[Any]) -> pa.Array:
    if values.ndim == 1:
        return pa.array(values)
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
