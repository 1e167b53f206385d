"""Datasets as other exporters write them, made from ours: two real recordings that failed as they are."""

import json
from pathlib import Path

from support.datasets import rewrite


def edit_info(root: Path, **changes) -> None:
    """Changes fields of `meta/info.json`."""
    info = json.loads((root / "meta/info.json").read_text())
    (root / "meta/info.json").write_text(json.dumps(info | changes))


def lines(root: Path, file="meta/episodes.jsonl") -> list[dict]:
    """The objects of a file of JSON lines."""
    return [json.loads(line) for line in (root / file).read_text().splitlines()]


def write_lines(root: Path, rows, file="meta/episodes.jsonl") -> None:
    """Writes such a file; a text is a line as it is."""
    text = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    (root / file).write_text("\n".join(text))


def without(*columns: str):
    """A change that drops columns."""
    return lambda table: table.drop_columns([c for c in columns if c in table.column_names])


def as_gr1(root: Path) -> Path:
    """Version 2.0, a folder an episode, no frame_index, no task texts in the list."""
    edit_info(
        root,
        codebase_version="v2.0",
        data_path="data/chunk-{episode_index}/episode_{episode_index:06d}.parquet",
    )
    for file in sorted(root.glob("data/chunk-000/*.parquet")):
        folder = root / f"data/chunk-{int(file.stem.removeprefix('episode_'))}"
        folder.mkdir()
        rewrite(file, without("frame_index"))
        file.rename(folder / file.name)
    write_lines(root, [{k: v for k, v in row.items() if k != "tasks"} for row in lines(root)])
    return root


def as_cloth(root: Path) -> Path:
    """Version 2.1, v3's names in data_path, no task_index in the rows, totals not kept up."""
    edit_info(
        root, data_path="data/chunk-{chunk_index:03d}/episode_{episode_index:06d}.parquet", total_frames=7
    )
    write_lines(root, [{"task_index": 0, "task": "fold the towel"}], "meta/tasks.jsonl")
    write_lines(root, [row | {"tasks": ["fold the towel"]} for row in lines(root)])
    for file in root.glob("data/*/*.parquet"):
        rewrite(file, without("task_index"))
    return root
