"""The lists of episodes and tasks in a dataset's `meta/` folder: JSON lines in v2, Parquet in v3.0.

Part of `data.meta`. An entry that can't be read takes its episode's place in the list, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from pioxide.data.episode import EpisodeInfo
from pioxide.data.faults import fault, unreadable
from pioxide.data.findings import Code, Finding, numbers
from pioxide.data.parquet import open_parquet
from pioxide.errors import DatasetError, FormatError
from pioxide.files import parse_json, read_text

V3_COLUMNS = ("episode_index", "length", "data/chunk_index", "data/file_index")
# Columns of v3's lists that say where things lie, and statistics.
_OF_FILES = ("stats/", "data/", "videos/", "meta/")
V3_OPTIONAL = ("tasks", "dataset_from_index", "dataset_to_index")


@dataclass(frozen=True)
class Listing:
    """What is listed.

    Attributes:
        tasks: instruction by task index.
        episodes: in the order of the list, not yet checked against each other.
        files: that were read, the one with the episodes last.
        without_tasks: why the tasks can't be read; "" where they can.
        lost: lists of episodes that can't be read, with the reason, where others can.
    """

    tasks: dict[int, str]
    episodes: list[EpisodeInfo]
    files: tuple[str, ...]
    without_tasks: str = ""
    lost: tuple[tuple[str, str], ...] = ()


def read_v2(root: Path, template: str, chunk_size: int, findings: list[Finding]) -> Listing:
    """Reads `meta/episodes.jsonl` and `meta/tasks.jsonl`.

    Raises:
        DatasetError: the list of episodes is missing or is no text.
    """
    episodes_file, tasks_file = "meta/episodes.jsonl", "meta/tasks.jsonl"
    tasks, without = _readable(_jsonl_tasks, root, tasks_file, findings)
    episodes: list[EpisodeInfo] = []
    elsewhere = _Elsewhere(root)
    for line, row, problem in _json_lines(root, episodes_file):
        index = _natural(row.get("episode_index"))
        if index is None:
            # Such lists have a line an episode: an unreadable one hides the episode after the one before it.
            index = episodes[-1].index + 1 if episodes else 0
            problem = problem or f"has episode_index {row.get('episode_index')!r}, expected an integer from 0"
            episodes.append(EpisodeInfo(index, 0, (), episodes_file, problem=f"line {line} {problem}"))
            continue
        length = _natural(row.get("length"))
        if length is None:
            problem = f"length is {row.get('length')!r}, expected an integer from 1"
            episodes.append(EpisodeInfo(index, 0, (), episodes_file, problem=problem))
            continue
        # Converters use v3's names, too; in v2 an episode is a file, and a chunk is a folder.
        fields = {"episode_index": index, "file_index": index}
        chunks = {"episode_chunk": index // chunk_size, "chunk_index": index // chunk_size}
        file = elsewhere.find(template.format(**fields, **chunks), index)
        episodes.append(EpisodeInfo(index, length, _strings(row.get("tasks")), file))
    elsewhere.report(findings)
    return Listing(tasks, episodes, (*_there(root, tasks_file), episodes_file), without)


def read_v3(root: Path, template: str, findings: list[Finding]) -> Listing:
    """Reads `meta/episodes/*/*.parquet` and `meta/tasks.parquet` (early recordings: `meta/tasks.jsonl`).

    Raises:
        DatasetError: no list of episodes is there, is Parquet, and has its columns.
    """
    tasks_file = "meta/tasks.parquet"
    if (root / tasks_file).exists():
        tasks, without = _readable(_parquet_tasks, root, tasks_file, findings)
    else:
        tasks_file = "meta/tasks.jsonl"
        tasks, without = _readable(_jsonl_tasks, root, tasks_file, findings)
    tables = sorted(path.relative_to(root).as_posix() for path in root.glob("meta/episodes/*/*.parquet"))
    if not tables:
        raise fault("has no chunk-*/file-*.parquet", file="meta/episodes")
    episodes: list[EpisodeInfo] = []
    contradicting: list[int] = []
    lost: list[tuple[str, str]] = []
    for file in tables:
        try:
            rows = _rows(root, file, V3_COLUMNS, V3_OPTIONAL)
        except DatasetError as error:
            if len(lost) + 1 == len(tables):
                raise
            lost.append((file, str(error).removeprefix(f"{file}: ")))
            continue
        for row in rows:
            index = _natural(row["episode_index"])
            if index is None:
                index = episodes[-1].index + 1 if episodes else 0
                problem = f"episode_index is {row['episode_index']!r}, expected an integer from 0"
                episodes.append(EpisodeInfo(index, 0, (), file, problem=problem))
                continue
            found = {key: _natural(row[key]) for key in V3_COLUMNS}
            wrong = next((key for key, value in found.items() if value is None), None)
            if wrong is not None:
                problem = f"{wrong} is {row[wrong]!r}, expected an integer from 0"
                episodes.append(EpisodeInfo(index, 0, (), file, problem=problem))
                continue
            chunk, number, length = (found[k] for k in ("data/chunk_index", "data/file_index", "length"))
            assert length is not None
            path = template.format(
                chunk_index=chunk, file_index=number, episode_index=index, episode_chunk=chunk
            )
            start, stop = (_natural(row.get(k)) for k in ("dataset_from_index", "dataset_to_index"))
            if start is not None and stop is not None and stop - start != length:
                contradicting.append(index)
            episodes.append(EpisodeInfo(index, length, _strings(row.get("tasks")), path, start))
    if contradicting:
        message = f"dataset_from_index and dataset_to_index of {numbers(contradicting, 'episode')} "
        findings.append(Finding(Code.ROWS, tables[0], f"{message}contradict its length", "they are not used"))
    return Listing(tasks, episodes, (*_there(root, tasks_file), *tables), without, tuple(lost))


def listed_columns(root: Path, files: Sequence[str]) -> tuple[str, ...]:
    """Returns what the lists of episodes say besides what every list has; statistics and paths left out."""
    found: dict[str, None] = {}
    for file in files:
        if file.endswith(".jsonl"):
            for _, row, _ in _json_lines(root, file):
                found.update(dict.fromkeys(row))
        else:
            with open_parquet(root / file) as parquet:
                found.update(dict.fromkeys(parquet.schema_arrow.names))
    usual = {*V3_COLUMNS, *V3_OPTIONAL}
    return tuple(name for name in found if name not in usual and not name.startswith(_OF_FILES))


def listed_values(root: Path, files: Sequence[str], column: str) -> dict[int, Any]:
    """Returns a column of the lists of episodes by episode; a list of one value is that value.

    Raises:
        DatasetError: a list can't be read.
    """
    found: dict[int, Any] = {}
    for file in files:
        if file.endswith(".jsonl"):
            rows = [row for _, row, _ in _json_lines(root, file)]
        else:
            rows = _rows(root, file, ("episode_index",), (column,))
        for row in rows:
            value, index = row.get(column), _natural(row.get("episode_index"))
            if index is not None:
                found[index] = value[0] if isinstance(value, list) and len(value) == 1 else value
    return found


class _Elsewhere:
    """Finds v2 files that do not lie where `data_path` says, by the episode's number in their names."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.named: dict[int, list[str]] | None = None
        self.moved: list[int] = []

    def find(self, file: str, index: int) -> str:
        if (self.root / file).exists():
            return file
        if self.named is None:
            self.named = {}
            for path in sorted(self.root.glob("data/**/episode_*.parquet")):
                number = path.stem.removeprefix("episode_")
                if number.isascii() and number.isdigit():
                    self.named.setdefault(int(number), []).append(path.relative_to(self.root).as_posix())
        found = self.named.get(index, [])
        if len(found) != 1:
            return file
        self.moved.append(index)
        return found[0]

    def report(self, findings: list[Finding]) -> None:
        if self.moved:
            message = f"data_path does not lead to the file of {numbers(self.moved, 'episode')}"
            findings.append(
                Finding(Code.MOVED, "meta/info.json", message, "the file of that name below data/ is used")
            )


def _readable(
    read: Callable[[Path, str, list[Finding]], dict[int, str]],
    root: Path,
    file: str,
    findings: list[Finding],
) -> tuple[dict[int, str], str]:
    """The tasks of a file, or none and the reason why."""
    try:
        return read(root, file, findings), ""
    except DatasetError as error:
        return {}, str(error)


def _there(root: Path, file: str) -> tuple[str, ...]:
    return (file,) if (root / file).is_file() else ()


def _jsonl_tasks(root: Path, file: str, findings: list[Finding]) -> dict[int, str]:
    rows = [(f"{file}:{line}", row, problem) for line, row, problem in _json_lines(root, file)]
    return _tasks(
        [(w, row.get("task_index"), row.get("task"), problem) for w, row, problem in rows], findings
    )


def _parquet_tasks(root: Path, file: str, findings: list[Finding]) -> dict[int, str]:
    """A pandas table whose index is the instruction: stored as `task` or, unnamed, as `__index_level_0__`."""
    rows = _rows(root, file, ("task_index",))
    text = next((name for name in ("task", "__index_level_0__") if rows and name in rows[0]), None)
    if rows and text is None:
        raise fault(f"expected the columns task and task_index, found {list(rows[0])}", file=file)
    return _tasks([(file, row["task_index"], row[text or ""], "") for row in rows], findings)


def _tasks(rows: list[tuple[str, Any, Any, str]], findings: list[Finding]) -> dict[int, str]:
    """Instruction by index, without those that can't be used: a frame that has one is the episode's fault."""
    tasks: dict[int, str] = {}
    dropped: set[int] = set()
    for where, number, task, problem in rows:
        index = _natural(number)
        if not problem and index is None:
            problem = f"task_index is {number!r}, expected an integer from 0"
        elif not problem and (not isinstance(task, str) or not _is_text(task)):
            problem = f"task {index} is {task!r}, expected a string"
        elif not problem and tasks.get(index or 0, task) != task:
            problem = f"task {index} is both {tasks[index or 0]!r} and {task!r}"
        if problem:
            findings.append(Finding(Code.TASK, where, problem, "no episode that has this task can be read"))
            dropped.add(-1 if index is None else index)
        elif index is not None:
            tasks[index] = task
    return {index: task for index, task in tasks.items() if index not in dropped}


def _is_text(text: str) -> bool:
    """Whether it can be written as UTF-8: JSON can spell half of a surrogate pair."""
    return not any("\ud800" <= c <= "\udfff" for c in text)


def _json_lines(root: Path, file: str) -> Iterator[tuple[int, dict[str, Any], str]]:
    """Line number, object, and what is wrong with the line, in whose place an empty object comes."""
    try:
        lines = read_text(root / file).split("\n")
    except FormatError as error:
        raise fault(error.reason, file=file) from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = parse_json(line, "")
        except FormatError as error:
            if number == 1:  # of a file that is something else altogether
                raise fault(error.reason, file=f"{file}:{number}") from error
            yield number, {}, error.reason
            continue
        yield (number, row, "") if isinstance(row, dict) else (number, {}, "is not a JSON object")


def listed_subtasks(root: Path) -> tuple[str, ...]:
    """Returns the texts of `meta/subtasks.parquet` by `subtask_index`.

    It is a pandas table as that of the tasks. LeRobot finds a text by its row, so rows have to be in order.

    Raises:
        DatasetError: The file is missing or no such table, or a row's number is not its place.
    """
    file = "meta/subtasks.parquet"
    if not (root / file).is_file():
        raise fault("is missing, and says what each subtask_index is", file=file)
    rows = _rows(root, file, ("subtask_index",))
    name = next((name for name in ("subtask", "__index_level_0__") if rows and name in rows[0]), None)
    if name is None:
        found = list(rows[0]) if rows else "no row"
        raise fault(f"expected the columns subtask and subtask_index, found {found}", file=file)
    for place, row in enumerate(rows):
        if row["subtask_index"] != place:
            raise fault(
                f"row {place} is of subtask_index {row['subtask_index']!r}, and LeRobot takes it for {place}",
                file=file,
            )
        if not isinstance(row[name], str):
            raise fault(f"subtask {place} is {row[name]!r}, expected a text", file=file)
    return tuple(row[name] for row in rows)


def _rows(
    root: Path, file: str, columns: tuple[str, ...], optional: tuple[str, ...] | None = None
) -> list[dict[str, Any]]:
    """A small Parquet table's rows; all columns where `optional` is None, else these and the optional."""
    try:
        with open_parquet(root / file) as parquet:
            present = parquet.schema_arrow.names
            missing = [name for name in columns if name not in present]
            if missing:
                raise fault(f"has no column {missing[0]!r}", file=file)
            chosen = None if optional is None else [*columns, *(n for n in optional if n in present)]
            return parquet.read(columns=chosen, use_threads=False).to_pylist()
    except DatasetError:
        raise
    except (OSError, pa.ArrowException, ValueError) as error:
        raise unreadable(root, file, error) from error


def _natural(value: Any) -> int | None:
    """An integer from 0, or None."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 62:
        return None
    return value


def _strings(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    return tuple(str(item) for item in value) if isinstance(value, list) else ()
