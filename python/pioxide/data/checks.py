"""Judges a dataset without fitting anything: what a person should know before tokens are made of it.

`check_dataset` reads every episode once; `judge` turns what was seen into findings. Thresholds are such that
recordings of real arms pass.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

from pioxide.data import motion
from pioxide.data.columns import FrameColumns
from pioxide.data.episode import EpisodeInfo
from pioxide.data.findings import Code, Finding, Quantity, Spot, merged, numbers
from pioxide.data.joints import Joints, opposed, units
from pioxide.data.lerobot import LeRobotDataset
from pioxide.data.portions import Crew, Portion
from pioxide.data.summary import EpisodeSummary, summarize
from pioxide.errors import DatasetError

# Frames in the sample that quantiles are taken of.
SAMPLE_FRAMES = 200_000
# Frames that a thread reads before it takes up others.
PART_FRAMES = 20_000
# Median steps further from 1/fps than this share of it are another rate.
PERIOD_TOLERANCE = 0.05
# Task texts that were never meant to stay.
PLACEHOLDERS = {"test", "testing", "asdf", "todo", "tbd", "n/a", "none", "null", "xxx", "task", "placeholder"}
TASK_WAY_OUT = "--task TEXT gives one, --task-key COLUMN takes another column"
# A task with so many times fewer episodes than another is rare.
RARE = 10
# Episodes so many times shorter or longer than the usual one.
UNUSUAL_LENGTH = 5
# A task of more characters is quoted without its middle.
LONG_TASK = 80


def check_dataset(
    dataset: LeRobotDataset,
    columns: FrameColumns,
    *,
    episodes: Iterable[int] | None = None,
    width: int | None = None,
    on_frames: Callable[[int], None] | None = None,
    workers: int = 1,
    crew: Crew | None = None,
) -> list[Finding]:
    """Reads every episode once, and says what a person should know; faults first.

    Args:
        dataset: opened.
        columns: of state and actions.
        episodes: which, all by default.
        width: numbers that the model takes, where they are limited.
        on_frames: told of frames done, from several threads.
        workers: threads.
        crew: who reads the dataset, its first, in place of threads here.

    Raises:
        InputError: no such column.
    """
    summaries, faults = look(dataset, columns, episodes, on_frames, workers, crew)
    return judge(dataset, columns, summaries, faults, width=width)


def look(
    dataset: LeRobotDataset,
    columns: FrameColumns,
    episodes: Iterable[int] | None = None,
    on_frames: Callable[[int], None] | None = None,
    workers: int = 1,
    crew: Crew | None = None,
) -> tuple[list[EpisodeSummary], list[Finding]]:
    """Does the first half of `check_dataset`: episodes in numbers, and those that can't be read."""
    step = max(1, dataset.total_frames // SAMPLE_FRAMES)
    optional = [key for key in ("timestamp", "index") if key in dataset.features]
    keys = columns.all
    dataset.dim(keys)  # raises before any thread is started

    work = _Look(columns, tuple(optional), step)
    chosen = [e.index for e in dataset.episodes] if episodes is None else sorted(set(episodes))
    parts = _parts(dataset, chosen)
    if crew is not None:
        seen = list(crew.each(work, crew.portions(0, chosen)))
    elif workers == 1 or len(parts) == 1:
        seen = [work.of(dataset, part, on_frames) for part in parts]
    else:
        with ThreadPoolExecutor(workers, thread_name_prefix="check") as pool:
            seen = list(pool.map(lambda part: work.of(dataset, part, on_frames), parts))
    summaries = [summary for part in seen for summary in part.summaries]
    faults = [finding for part in seen for finding in part.faults]
    return summaries, sorted(faults, key=lambda finding: finding.episodes)


class _Seen(NamedTuple):
    """Episodes in numbers, and those that can't be read."""

    summaries: list[EpisodeSummary]
    faults: list[Finding]


@dataclass(frozen=True)
class _Look:
    """Looks at a portion; see `portions.Work`.

    Attributes:
        columns: of state and actions.
        optional: that are read where they are there.
        step: every so many frames one is kept.
    """

    columns: FrameColumns
    optional: tuple[str, ...]
    step: int

    def __call__(self, dataset: LeRobotDataset, portion: Portion) -> _Seen:
        return self.of(dataset, portion.episodes, None)

    def of(
        self, dataset: LeRobotDataset, episodes: Sequence[int], on_frames: Callable[[int], None] | None
    ) -> _Seen:
        seen = _Seen([], [])

        def bad(info: EpisodeInfo, error: DatasetError) -> None:
            reason = str(error).removeprefix(f"{error.file}: episode {info.index}: ")
            place = f"episode {info.index} ({error.file})"
            way_out = "--skip-bad leaves it out"
            seen.faults.append(Finding(Code.EPISODE, place, reason, way_out, (info.index,)))
            if on_frames is not None:
                on_frames(info.length)

        for episode in dataset.scan(self.columns.all, episodes, on_bad=bad, optional=self.optional):
            seen.summaries.append(summarize(episode, self.columns, fps=dataset.fps, step=self.step))
            if on_frames is not None:
                on_frames(len(episode))
        return seen


def _parts(dataset: LeRobotDataset, chosen: Sequence[int]) -> list[list[int]]:
    """The episodes in parts that hold whole files, each of some thousands of frames."""
    files: dict[str, list[EpisodeInfo]] = defaultdict(list)
    for index in chosen:
        info = dataset.episode(index)
        files[info.file].append(info)
    parts: list[list[int]] = []
    frames = PART_FRAMES
    for infos in files.values():
        if frames >= PART_FRAMES:
            parts.append([])
            frames = 0
        parts[-1] += [info.index for info in infos]
        frames += sum(info.length for info in infos)
    return parts


def judge(
    dataset: LeRobotDataset,
    columns: FrameColumns,
    summaries: Sequence[EpisodeSummary],
    faults: Sequence[Finding],
    *,
    width: int | None = None,
) -> list[Finding]:
    """Does the second half of `check_dataset`."""
    found = [*faults, *dataset.findings, *_shapes(dataset, columns, width)]
    if not summaries:
        return merged(found)
    ordered = sorted(summaries, key=lambda summary: summary.index)
    found += _where(dataset, ordered)
    found += _tasks(dataset, ordered)
    found += _times(dataset.fps, ordered)
    found += _duplicates(ordered)
    found += _lengths(ordered)
    found += _numbering(dataset, ordered)
    other, unlike = units(ordered)
    found += other
    alike = [summary for summary in ordered if summary.index not in unlike] or ordered
    state = Joints(
        Quantity.STATE, columns.state_names(dataset), [(s.index, s.length, s.state) for s in alike]
    )
    actions = Joints(
        Quantity.ACTIONS, columns.action_names(dataset), [(s.index, s.length, s.actions) for s in alike]
    )
    for joints in (state, actions):
        found += [*joints.still(), *joints.tiny(), *joints.seldom(), *joints.noise(), *joints.outliers()]
        found += joints.mirrored()
        found += [*motion.jumps(joints), *motion.frozen(joints, dataset.fps)]
        found += [*motion.at_limit(joints), *motion.shifted(joints)]
    found += [*motion.still_once(state), *motion.one_place(state)]
    found += opposed(actions.names, alike)
    found += motion.followed(state, actions, alike)
    found += motion.actions_in_other_units(actions.names, state, actions, alike)
    found += motion.alike(ordered, actions.high.max(axis=0) - actions.low.min(axis=0))
    return merged(found)


def _shapes(dataset: LeRobotDataset, columns: FrameColumns, width: int | None) -> list[Finding]:
    found = []
    for key in columns.all:
        shape = dataset.features[key].shape
        if sum(n > 1 for n in shape) > 1:
            sizes = " x ".join(map(str, shape))
            message = f"has {sizes} numbers a frame, which count as {dataset.features[key].dim} joints"
            found.append(
                Finding(Code.FLATTENED, f'feature "{key}"', message, "choose another column if they are not")
            )
    for what, names in (("state", columns.state_names(dataset)), ("actions", columns.action_names(dataset))):
        dim = len(names)
        if width is not None and dim > width:
            message = f"{dim} numbers, and the released models take {width}"
            found.append(Finding(Code.WIDE, what, message, "choose columns, or train a wider model"))
    return found


def _where(dataset: LeRobotDataset, summaries: Sequence[EpisodeSummary]) -> list[Finding]:
    found = []
    if moved := [s.index for s in summaries if s.file != dataset.episode(s.index).file]:
        message = f"the list names another data file than the one that holds {numbers(moved, 'episode')}"
        found.append(Finding(Code.MOVED, "meta/episodes", message, "the file that holds them is read"))
    for column in ("frame_index", "task_index"):
        if lacking := [s.index for s in summaries if column in s.derived]:
            message = f"{numbers(lacking, 'episode')} without {column}"
            found.append(Finding(Code.DERIVED, "data", message, "only one value is possible, which is taken"))
    return found


def _tasks(dataset: LeRobotDataset, summaries: Sequence[EpisodeSummary]) -> list[Finding]:
    said = dataset.instructions
    if said is not None and said.fill is not None and not any(s.filled for s in summaries):
        message = (
            f"{_quoted(said.tasks[said.fill])} is used for no frame, since each has an instruction of its own"
        )
        return [Finding(Code.UNUSED_TASK, "--task", message, "--task-for all puts it in their place")]
    found = []
    empty = tuple(s.index for s in summaries if any(not prompt.strip() for prompt in s.prompts))
    if empty:
        message = f"no task text in {numbers(empty, 'episode')}"
        found.append(Finding(Code.EMPTY_TASK, "tasks", message, TASK_WAY_OUT, empty))
    told: dict[str, list[int]] = defaultdict(list)
    for summary in summaries:
        for prompt in summary.prompts:
            told[prompt].append(summary.index)
    for prompt, indices in told.items():
        if prompt.strip() and (prompt.strip().lower() in PLACEHOLDERS or len(prompt.strip()) < 3):
            message = f"the task of {numbers(indices, 'episode')} is {_quoted(prompt)}, which tells nothing"
            found.append(Finding(Code.EMPTY_TASK, "tasks", message, TASK_WAY_OUT, tuple(indices)))
    spelled: dict[str, list[str]] = defaultdict(list)
    for prompt in told:
        spelled["".join(c for c in prompt.casefold() if c.isalnum())].append(prompt)
    for same in spelled.values():
        if len(same) > 1:
            message = f"one task is written in {len(same)} ways: {', '.join(map(_quoted, same[:3]))}"
            found.append(Finding(Code.SPELLINGS, "tasks", message, "write it in one way"))
    most = max(map(len, told.values()))
    if rare := [prompt for prompt, indices in told.items() if len(indices) * RARE < most]:
        count = len(told[rare[0]])
        message = f"{_quoted(rare[0])} is the task of {count} of {len(summaries):,} episodes"
        if len(rare) > 1:
            message += f", and {len(rare) - 1:,} more are as rare"
        way_out = "a policy hardly learns it: record more, or leave it out"
        found.append(Finding(Code.RARE_TASK, "tasks", message, way_out, tuple(told[rare[0]])))
    return found


def _quoted(task: str) -> str:
    """Returns a task in quotes, its middle left out where it is long."""
    return repr(task if len(task) <= LONG_TASK else f"{task[: LONG_TASK // 2]} … {task[-LONG_TASK // 4 :]}")


def _lengths(summaries: Sequence[EpisodeSummary]) -> list[Finding]:
    found = []
    middle = sorted(s.length for s in summaries)[len(summaries) // 2]
    kinds = (
        ("shorter", [s for s in summaries if s.length == 1 or s.length * UNUSUAL_LENGTH < middle]),
        ("longer", [s for s in summaries if s.length > UNUSUAL_LENGTH * middle]),
    )
    for kind, odd in kinds:
        if not odd:
            continue
        worst = (min if kind == "shorter" else max)(odd, key=lambda s: s.length)
        frames = "1 frame" if worst.length == 1 else f"{worst.length:,} frames"
        message = f"{frames}, much {kind} than the usual {middle:,}" if middle > 1 else "has a single frame"
        if len(odd) > 1:
            message += f", as are {numbers([s.index for s in odd if s is not worst], 'episode')}"
        way_out = "a recording that was not meant, or not ended: leave it out with --episodes"
        indices = tuple(s.index for s in odd)
        found.append(Finding(Code.LENGTH, f"episode {worst.index}", message, way_out, indices))
    return found


def _numbering(dataset: LeRobotDataset, summaries: Sequence[EpisodeSummary]) -> list[Finding]:
    """`index` counts the rows of the whole dataset; LeRobot looks frames up by it."""
    way_out = "LeRobot would take other frames: number the rows anew"
    for summary in summaries:
        if summary.index_broken_at is not None:
            place = f"episode {summary.index}, frame {summary.index_broken_at}"
            return [Finding(Code.INDEX, place, "index does not count on from the row before", way_out)]
    if [s.index for s in summaries] != [info.index for info in dataset.episodes]:
        return []
    following = 0
    for summary in summaries:
        if summary.first_index is None:
            return []
        if summary.first_index != following:
            message = f"begins with index {summary.first_index}, where {following} rows come before it"
            return [Finding(Code.INDEX, f"episode {summary.index}", message, way_out)]
        following += summary.length
    return []


def _times(fps: float, summaries: Sequence[EpisodeSummary]) -> list[Finding]:
    found: list[Finding] = []
    timed = [(s.index, s.times) for s in summaries if s.times is not None]
    holes = [(index, times) for index, times in timed if times.holes]
    if holes:
        index, worst = max(holes, key=lambda item: item[1].widest)
        message = f"{worst.widest:.2f} s without a frame"
        if (count := sum(times.holes for _, times in holes)) > 1:
            message += f", the widest of {count:,} holes in {numbers([i for i, _ in holes], 'episode')}"
        way_out = "chunks of actions go across it: cut the episode there"
        place = f"episode {index}, frame {worst.widest_at}"
        spot = Spot(Quantity.TIME, None, index, worst.widest_at)
        found.append(Finding(Code.HOLE, place, message, way_out, tuple(i for i, _ in holes), spot))
    if back := [(index, times.back_at) for index, times in timed if times.back_at is not None]:
        message = f"the timestamp is not after the one before ({numbers([i for i, _ in back], 'episode')})"
        place = f"episode {back[0][0]}, frame {back[0][1]}"
        spot = Spot(Quantity.TIME, None, back[0][0], back[0][1])
        found.append(Finding(Code.HOLE, place, message, "sort the frames", tuple(i for i, _ in back), spot))
    if fps:
        off = [
            (index, times.period)
            for index, times in timed
            if times.period > 0 and abs(times.period * fps - 1) > PERIOD_TOLERANCE
        ]
        if off:
            message = f"timestamps say {1 / off[0][1]:.4g} frames a second, {fps:g} in meta/info.json"
            indices = tuple(index for index, _ in off)
            found.append(
                Finding(Code.WRONG_RATE, numbers(indices, "episode"), message, "correct fps", indices)
            )
    return found


def _duplicates(summaries: Sequence[EpisodeSummary]) -> list[Finding]:
    same: dict[bytes, list[int]] = defaultdict(list)
    for summary in summaries:
        same[summary.digest].append(summary.index)
    return [
        Finding(
            Code.DUPLICATE,
            f"episode {indices[0]}",
            f"{numbers(indices[1:], 'episode')} with the same states and actions",
            "it counts more than once, and may be held out as well: leave copies out with --episodes",
            tuple(indices),
        )
        for indices in same.values()
        if len(indices) > 1
    ]
