"""The `meta/` folder of a LeRobot dataset, v2.0, v2.1 or v3.0, read into one form and checked.

Only what makes reading impossible is an error. An episode whose entry is wrong keeps its place in the list,
with the reason; a contradiction that nothing here depends on is a finding.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from pioxide.data.episode import EpisodeInfo, Feature, parse_feature
from pioxide.data.faults import fault
from pioxide.data.findings import Code, Finding, numbers
from pioxide.data.listing import Listing, read_v2, read_v3
from pioxide.data.tasks import Instructions
from pioxide.errors import FormatError
from pioxide.files import as_address, read_json, refuse_address

INFO = "meta/info.json"
TFDS = "dataset_info.json"
VERSIONS = ("v2.0", "v2.1", "v3.0")
V2_PATH = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
V3_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"


@dataclass(frozen=True)
class Meta:
    """Everything the metadata says.

    Attributes:
        version: "v2.0", "v2.1" or "v3.0".
        fps: frames a second; 0 where it isn't said.
        robot_type: as recorded, "unknown" where it is null.
        features: by key, in the order of `info.json`.
        undeclared: features whose entry is wrong, with the reason.
        tasks: instruction by task index.
        episodes: in the order of their indices.
        files: the metadata files that were read, relative to the dataset.
        findings: what is contradictory there, and not needed.
        instructions: of episodes that list one, where the file of the tasks can't be read; else None.
    """

    version: str
    fps: float
    robot_type: str
    features: dict[str, Feature]
    undeclared: dict[str, str]
    tasks: dict[int, str]
    episodes: tuple[EpisodeInfo, ...]
    files: tuple[str, ...]
    findings: tuple[Finding, ...]
    instructions: Instructions | None = None


def load_meta(root: Path) -> Meta:
    """Reads the metadata of the dataset at `root`.

    Raises:
        DatasetError: a file is missing or malformed as a whole, the version is another one, or no episode is
            listed. The message names the file.
    """
    findings: list[Finding] = []
    info = _read_info(root)
    version = info.get("codebase_version")
    if version not in VERSIONS:
        raise fault(f"codebase_version is {version!r}, expected one of {', '.join(VERSIONS)}", file=INFO)
    if info.get("storage_format", "parquet") != "parquet":
        raise fault(f"storage_format is {info['storage_format']!r}, only Parquet is read", file=INFO)
    features, undeclared = _parse_features(info, findings)
    if version == "v3.0":
        listing = read_v3(root, _template(info, V3_PATH), findings)
    else:
        listing = read_v2(root, _template(info, V2_PATH), _chunk_size(info), findings)
    listing = _with_lost(listing, info.get("total_episodes"), findings)
    episodes = _checked(listing, findings)
    instructions = _listed_tasks(listing, findings) if listing.without_tasks else None
    _check_totals(info, episodes, findings)
    robot_type = info.get("robot_type")
    return Meta(
        version=version,
        fps=_fps(info, findings),
        robot_type=robot_type if isinstance(robot_type, str) else "unknown",
        features=features,
        undeclared=undeclared,
        tasks=listing.tasks if instructions is None else instructions.tasks,
        episodes=episodes,
        files=(INFO, *listing.files),
        findings=tuple(findings),
        instructions=instructions,
    )


def _read_info(root: Path) -> dict[str, Any]:
    try:
        refuse_address(root)
    except FormatError as error:
        raise fault(error.reason, file=as_address(root)) from error
    if not root.is_dir():
        raise fault("no such directory", file=str(root))
    if not (root / INFO).exists():
        rlds = f"; it is one of TFDS: pioxide index {root} makes one of it" if (root / TFDS).exists() else ""
        raise fault(f"no such file; {root} is not a LeRobot dataset{rlds}", file=INFO)
    try:
        info = read_json(root / INFO)
    except FormatError as error:
        raise fault(error.reason, file=INFO) from error
    if not isinstance(info, dict):
        raise fault("is not a JSON object", file=INFO)
    return info


def _parse_features(
    info: dict[str, Any], findings: list[Finding]
) -> tuple[dict[str, Feature], dict[str, str]]:
    declared = info.get("features")
    if not isinstance(declared, dict):
        raise fault('has no "features" object', file=INFO)
    features: dict[str, Feature] = {}
    undeclared: dict[str, str] = {}
    for key, value in declared.items():
        try:
            features[key] = parse_feature(value)
        except (KeyError, TypeError, ValueError, AttributeError):
            undeclared[key] = f'{INFO}: feature "{key}" needs a dtype and a shape of integers from 1'
            findings.append(
                Finding(
                    Code.FEATURE,
                    INFO,
                    f'feature "{key}" has no dtype and shape of integers from 1',
                    "it can't be read until it has",
                )
            )
    return features, undeclared


def _template(info: dict[str, Any], default: str) -> str:
    """`data_path`, tried once; a dataset must not point outside its own directory."""
    template = info.get("data_path", default)
    fields = {"episode_chunk": 0, "episode_index": 0, "chunk_index": 0, "file_index": 0}
    try:
        path = PurePosixPath(template.format(**fields))
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise fault(f"data_path {template!r} can't be filled in with {sorted(fields)}", file=INFO) from error
    if path.is_absolute() or ".." in path.parts or "\0" in template:
        raise fault(f"data_path {template!r} leads outside the dataset", file=INFO)
    return template


def _chunk_size(info: dict[str, Any]) -> int:
    chunk_size = info.get("chunks_size", 1000)
    if isinstance(chunk_size, bool) or not isinstance(chunk_size, int) or chunk_size < 1:
        raise fault(f"chunks_size is {chunk_size!r}, expected a positive integer", file=INFO)
    return chunk_size


def _fps(info: dict[str, Any], findings: list[Finding]) -> float:
    fps = info.get("fps")
    if not isinstance(fps, bool) and isinstance(fps, int | float) and 0 < fps < float("inf"):
        return float(fps)
    findings.append(
        Finding(Code.RATE, INFO, f"fps is {fps!r}, expected a positive number", "no rate is noted down")
    )
    return 0.0


def _checked(listing: Listing, findings: list[Finding]) -> tuple[EpisodeInfo, ...]:
    """The episodes by index, each once; what contradicts itself becomes the episode's problem."""
    file = listing.files[-1]
    by_index: dict[int, EpisodeInfo] = {}
    twice: dict[int, bool] = {}  # whether the entries differ
    for entry in listing.episodes:
        before = by_index.setdefault(entry.index, entry)
        if before is not entry:
            twice[entry.index] = twice.get(entry.index, False) or before != entry
    for index, differs in twice.items():
        if differs:
            by_index[index] = _broken(by_index[index], file, "is listed twice, differently")
    if same := [index for index, differs in twice.items() if not differs]:
        findings.append(
            Finding(Code.LISTED_TWICE, file, f"{numbers(same, 'episode')} listed twice", "used once")
        )
    if not by_index:
        raise fault("lists no episode", file=file)
    for index, entry in by_index.items():
        if not entry.problem and entry.length < 1:
            by_index[index] = _broken(entry, file, f"length is {entry.length}")
    episodes = tuple(by_index[index] for index in sorted(by_index))
    missing = sorted(set(range(min(episodes[-1].index, 10 * len(episodes)))) - set(by_index))
    if missing:
        findings.append(
            Finding(
                Code.NOT_LISTED,
                file,
                f"{numbers(missing, 'episode')} not listed, though later ones are",
                "only listed episodes are used",
            )
        )
    return episodes


def _with_lost(listing: Listing, total: Any, findings: list[Finding]) -> Listing:
    """The episodes that are nowhere else are those of a list that can't be read."""
    if not listing.lost:
        return listing
    file, reason = listing.lost[0]
    if type(total) is not int or not 0 < total < 1 << 31:
        raise fault(reason, file=file)  # nobody can say which episodes are lost
    problem = f"is listed nowhere else, and this list {reason}"
    listed = {episode.index for episode in listing.episodes}
    gone = [index for index in range(total) if index not in listed]
    if not gone:
        findings.append(Finding(Code.LISTED_TWICE, file, reason, "every episode is listed elsewhere"))
    added = [EpisodeInfo(index, 0, (), file, problem=problem) for index in gone]
    return replace(listing, episodes=[*listing.episodes, *added])


def _listed_tasks(listing: Listing, findings: list[Finding]) -> Instructions:
    """The instructions of episodes that list one, where the tasks of the frames' indices are not known."""
    texts: dict[str, int] = {}
    by_episode: dict[int, int] = {}
    for episode in listing.episodes:
        if len(set(episode.tasks)) == 1 and episode.tasks[0].strip():
            by_episode[episode.index] = texts.setdefault(episode.tasks[0], len(texts))
    file, reason = listing.without_tasks.split(": ", 1)
    said = numbers(sorted(by_episode), "episode") if by_episode else "no episode"
    way_out = f"the list of episodes says the task of {said}; --task TEXT gives one to the others"
    findings.append(Finding(Code.TASK, file, reason, way_out))
    tasks = {index: text for text, index in texts.items()}
    return Instructions(tasks, by_episode=by_episode, lost=listing.without_tasks)


def _broken(entry: EpisodeInfo, file: str, problem: str) -> EpisodeInfo:
    return EpisodeInfo(entry.index, 0, entry.tasks, file, entry.start, problem)


def _check_totals(info: dict[str, Any], episodes: Iterable[EpisodeInfo], findings: list[Finding]) -> None:
    listed = list(episodes)
    totals = {"total_episodes": len(listed), "total_frames": sum(e.length for e in listed)}
    for key, found in totals.items():
        if key in info and info[key] != found:
            findings.append(
                Finding(
                    Code.TOTALS,
                    INFO,
                    f"{key} is {info[key]!r}, but the listed episodes make {found}",
                    "the list is what is used",
                )
            )
