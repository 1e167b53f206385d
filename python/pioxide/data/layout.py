"""What is odd about a dataset's files besides the numbers in them: part of `data.survey`.

Footers of data files are compared with each other and with `meta/info.json`; numbers that nobody asked for
must still be numbers; files that nothing uses and links that lead away are named.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pioxide.data.columns import INDEX_KEYS, FrameColumns
from pioxide.data.findings import Code, Finding
from pioxide.data.lerobot import LeRobotDataset
from pioxide.data.parquet import open_parquet
from pioxide.data.rlds.pictures import is_indexed
from pioxide.data.summary import EpisodeSummary
from pioxide.files import read_json

INFO = "meta/info.json"
# What LeRobot's own reader takes from info.json besides features and rate.
REQUIRED = ("total_episodes", "total_frames", "total_tasks", "data_path", "robot_type")


def check_layout(
    dataset: LeRobotDataset, columns: FrameColumns, summaries: Sequence[EpisodeSummary]
) -> list[Finding]:
    """Looks at a dataset's files.

    Args:
        dataset: whose.
        columns: those whose values were read anyway.
        summaries: of the episodes that could be read.
    """
    found = _lacking(dataset)
    found += _columns(dataset, columns, sorted({summary.file for summary in summaries}))
    found += _unlisted(dataset, {summary.file for summary in summaries})
    found += _links(dataset.path)
    return found


def _lacking(dataset: LeRobotDataset) -> list[Finding]:
    info: dict[str, Any] = read_json(dataset.path / INFO)
    found: list[Finding] = []
    if missing := [key for key in REQUIRED if key not in info]:
        message = f"has no {', '.join(missing)}, which LeRobot reads"
        found.append(Finding(Code.LACKING, INFO, message, "write it there"))
    if "action" not in dataset.features and not any(key.startswith("action") for key in dataset.features):
        message = "declares no action, so that nothing can be trained on it"
        found.append(Finding(Code.LACKING, INFO, message, "name the columns with --action-keys"))
    total = info.get("total_tasks", len(dataset.tasks))
    if total != len(dataset.tasks):
        message = f"total_tasks is {total!r}, but {len(dataset.tasks)} are listed"
        found.append(Finding(Code.TOTALS, INFO, message, "the list is what is used"))
    return found


def _columns(dataset: LeRobotDataset, columns: FrameColumns, files: Sequence[str]) -> list[Finding]:
    """Columns that a file has and another lacks, or has as another type; and values that are no numbers."""
    types: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    strange: dict[str, list[tuple[str, int]]] = defaultdict(list)
    read: list[str] = []
    for file in files:
        try:
            with open_parquet(dataset.path / file) as parquet:
                schema = parquet.schema_arrow
                others = [
                    field.name
                    for field in schema
                    if field.name not in (*columns.all, *INDEX_KEYS)
                    and pa.types.is_floating(_leaf(field.type))
                ]
                for key in others:
                    count = sum(
                        _not_finite(batch.column(0))
                        for batch in parquet.iter_batches(columns=[key], use_threads=False)
                    )
                    if count:
                        strange[key].append((file, count))
        except (OSError, pa.ArrowException, ValueError):
            continue  # said of its episodes
        read.append(file)
        for field in schema:
            types[field.name][str(_leaf(field.type))].append(file)
    found: list[Finding] = []
    for key, where in strange.items():
        message = f"{where[0][1]:,} values are missing, NaN or infinite"
        if len(where) > 1:
            message += f", and some in {len(where) - 1:,} more files"
        way_out = "nothing that is made here reads them, and other tools may"
        found.append(Finding(Code.NOT_FINITE, f"{key} ({where[0][0]})", message, way_out))
    said = set(columns.all) | {"frame_index", "task_index", "episode_index"}
    elsewhere = ("video", "image") if is_indexed(dataset.path) else ("video",)
    for key in [*dataset.features, *(key for key in types if key not in dataset.features)]:
        feature = dataset.features.get(key)
        if key in said or (feature is not None and feature.dtype in elsewhere):
            continue
        having = [file for files in types.get(key, {}).values() for file in files]
        if not having and read:
            message = f'feature "{key}" is declared, and no data file has it'
            found.append(Finding(Code.COLUMNS, INFO, message, "take it out, or fetch the files that have it"))
        elif len(having) < len(read):
            lacking = next(file for file in read if file not in having)
            message = f'has no column "{key}", which {len(having):,} other files have'
            found.append(Finding(Code.COLUMNS, lacking, message, "other tools refuse such a dataset"))
        elif feature is None:
            message = f'data files have a column "{key}", which is not declared'
            found.append(Finding(Code.COLUMNS, INFO, message, "declare it, or take it out"))
    for key, kinds in types.items():
        if len(kinds) > 1:
            kind, odd = min(kinds.items(), key=lambda item: len(item[1]))
            usual = max(kinds.items(), key=lambda item: len(item[1]))[0]
            message = f'column "{key}" holds {kind}, and {usual} in other files'
            found.append(Finding(Code.COLUMNS, odd[0], message, "write it as one type"))
    return found


def _not_finite(column: pa.Array) -> int:
    while not pa.types.is_floating(column.type):
        column = column.storage if isinstance(column, pa.ExtensionArray) else column.flatten()
    finite = pc.call_function("is_finite", [column])
    return len(column) - (pc.call_function("sum", [finite]).as_py() or 0)


def _leaf(kind: pa.DataType) -> pa.DataType:
    while isinstance(kind, pa.ExtensionType):
        kind = kind.storage_type
    while pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        kind = kind.value_type
    return kind


def _unlisted(dataset: LeRobotDataset, read: set[str]) -> list[Finding]:
    if any(info.problem for info in dataset.episodes):
        return []  # whose file may be any
    used = read | {info.file for info in dataset.episodes}
    there = (path.relative_to(dataset.path).as_posix() for path in dataset.path.glob("data/**/*"))
    extra = sorted(f for f in there if f not in used and not (dataset.path / f).is_dir())
    if not extra:
        return []
    more = f", nor {len(extra) - 1:,} other files" if len(extra) > 1 else ""
    message = f"no listed episode is in it{more}"
    return [Finding(Code.UNLISTED, extra[0], message, "list what belongs to the dataset, delete the rest")]


def _links(root: Path) -> list[Finding]:
    """Symbolic links to elsewhere; those of a Hugging Face cache lead to its blobs, and may."""
    whole = root.resolve()
    away = [
        path
        for path in sorted(root.rglob("*"))
        if path.is_symlink()
        and not path.resolve().is_relative_to(whole)
        and path.resolve().parent.name != "blobs"
    ]
    if not away:
        return []
    more = f", as do {len(away) - 1:,} others" if len(away) > 1 else ""
    message = f"is a link that leads out of the dataset{more}"
    return [Finding(Code.LINK, away[0].relative_to(root).as_posix(), message, "copy what it leads to")]
