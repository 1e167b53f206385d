"""Instructions: of their own, from another column, or given; one that exists is never replaced unasked."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pioxide.data import (
    EpisodeData,
    FrameColumns,
    LeRobotDataset,
    TaskChoice,
    check_dataset,
    write_lerobot_v21,
)
from pioxide.data.advantages import AdvantageRule, Advantages
from pioxide.data.subtasks import Subtasks
from pioxide.errors import DatasetError, InputError
from support.datasets import rewrite, with_column, write_v3, write_v21

KEYS = ("action",)
FOLD, CUPS = "fold the towel", "stack the cups"


@pytest.fixture(params=[False, True], ids=["v2.1", "v3.0"])
def root(request, tmp_path):
    return (write_v3 if request.param else write_v21)(tmp_path / "d")


def prompts(root, choice):
    """What each frame is told, by episode."""
    dataset = LeRobotDataset.open(root).with_tasks(choice)
    found = {}
    for episode in dataset.scan(KEYS):
        texts, which = episode.prompts
        found[episode.index] = [texts[i] for i in which]
        assert all(episode.tasks[i] in dataset.tasks.values() for i in episode.task_index.tolist())
    return found


def each(*texts, lengths=(7, 4, 9)):
    return {i: [text] * n for i, (text, n) in enumerate(zip(texts, lengths, strict=True))}


def each_file(root, change):
    for file in root.glob("data/**/*.parquet"):
        rewrite(file, change)


def set_task(root, text, new):
    """Changes the text of a task where the dataset lists it."""
    file = root / "meta/tasks.jsonl"
    if file.exists():
        file.write_text(file.read_text().replace(json.dumps(text), json.dumps(new)))
    else:

        def change(table):
            key = next(c for c in table.column_names if c != "task_index")
            return with_column(
                table, key, pa.array([new if t == text else t for t in table[key].to_pylist()])
            )

        rewrite(root / "meta/tasks.parquet", change)


def test_without_a_choice_nothing_changes(root):
    assert prompts(root, TaskChoice()) == each(FOLD, CUPS, FOLD)


def test_a_task_is_given_to_episodes_that_have_none_only(root):
    set_task(root, CUPS, "  ")
    assert prompts(root, TaskChoice("wave")) == each(FOLD, "wave", FOLD)


def test_a_frame_whose_task_is_not_listed_has_none(root):
    def lose(table):
        tasks = np.where(table["episode_index"].to_numpy() == 1, 7, table["task_index"].to_numpy())
        return with_column(table, "task_index", pa.array(tasks))

    each_file(root, lose)
    with pytest.raises(DatasetError, match=r"task_index 7, and no such task is listed(?s:.*)--task TEXT"):
        prompts(root, TaskChoice())
    assert prompts(root, TaskChoice("wave")) == each(FOLD, "wave", FOLD)


def test_a_missing_task_index_is_one_that_says_nothing(root):
    def lose(table):
        tasks = table["task_index"].to_pylist()
        gone = [None if e == 1 else t for t, e in zip(tasks, table["episode_index"].to_pylist(), strict=True)]
        return with_column(table, "task_index", pa.array(gone, pa.int64()))

    each_file(root, lose)
    with pytest.raises(DatasetError, match=r'"task_index" frame 0(?s:.*)has no value'):
        prompts(root, TaskChoice())
    assert prompts(root, TaskChoice("wave")) == each(FOLD, "wave", FOLD)


def test_a_task_for_all_replaces_every_other(root):
    dataset = LeRobotDataset.open(root).with_tasks(TaskChoice("wave", "all"))
    assert dataset.tasks == {0: "wave"}
    assert prompts(root, TaskChoice("wave", "all")) == each("wave", "wave", "wave")


def test_a_task_that_is_there_already_keeps_its_number(root):
    set_task(root, CUPS, "")
    dataset = LeRobotDataset.open(root).with_tasks(TaskChoice(FOLD))
    assert dataset.tasks == {0: FOLD, 1: ""}
    assert prompts(root, TaskChoice(FOLD)) == each(FOLD, FOLD, FOLD)


def test_a_given_task_that_nothing_needs_is_a_warning(root):
    dataset = LeRobotDataset.open(root).with_tasks(TaskChoice("wave"))
    codes = {finding.code.value: finding for finding in check_dataset(dataset, FrameColumns())}
    assert "--task-for all" in codes["task-unused"].way_out
    set_task(root, CUPS, "")
    dataset = LeRobotDataset.open(root).with_tasks(TaskChoice("wave"))
    assert not {"task-unused", "empty-task"} & {f.code.value for f in check_dataset(dataset, FrameColumns())}
    assert "empty-task" in {f.code.value for f in check_dataset(LeRobotDataset.open(root), FrameColumns())}


def declare(root, key, dtype, shape=(1,)):
    info = json.loads((root / "meta/info.json").read_text())
    info["features"][key] = {"dtype": dtype, "shape": list(shape), "names": None}
    (root / "meta/info.json").write_text(json.dumps(info))


@pytest.mark.parametrize("as_list", [False, True])
def test_instructions_come_from_a_column_of_texts(root, as_list):
    declare(root, "language", "string")

    def add(table):
        texts = [f"say {e}" if f < 3 else None for e, f in _places(table)]
        values = [None if t is None else [t] for t in texts] if as_list else texts
        return table.append_column(
            "language", pa.array(values, pa.list_(pa.string()) if as_list else pa.string())
        )

    each_file(root, add)
    with pytest.raises(DatasetError, match='frame 3 has no instruction in "language"'):
        prompts(root, TaskChoice(task_key="language"))
    found = prompts(root, TaskChoice("wave", task_key="language"))
    assert found == {e: [f"say {e}"] * 3 + ["wave"] * (n - 3) for e, n in enumerate((7, 4, 9))}


def test_instructions_come_from_a_column_of_task_indices(root):
    declare(root, "annotation.action", "int64")
    each_file(
        root, lambda t: t.append_column("annotation.action", pa.array([1 - e % 2 for e, _ in _places(t)]))
    )
    assert prompts(root, TaskChoice(task_key="annotation.action")) == each(CUPS, FOLD, CUPS)


def test_instructions_come_from_the_list_of_episodes(root):
    texts = ["pour", "sweep", None]
    file = root / "meta/episodes.jsonl"
    if file.exists():
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        file.write_text(
            "\n".join(json.dumps(row | {"remark": t}) for row, t in zip(rows, texts, strict=True))
        )
    else:
        lists = root / "meta/episodes/chunk-000/file-000.parquet"
        rewrite(lists, lambda table: table.append_column("remark", pa.array(texts)))
    with pytest.raises(DatasetError, match="episode 2: frame 0 has no instruction in the list of episodes"):
        prompts(root, TaskChoice(task_key="remark"))
    assert prompts(root, TaskChoice("wave", task_key="remark")) == each("pour", "sweep", "wave")


def test_a_column_that_is_not_there_is_refused_with_those_that_are(root):
    with pytest.raises(
        InputError, match=r'there is no column "langauge"; there are observation\.state, action'
    ):
        LeRobotDataset.open(root).with_tasks(TaskChoice(task_key="langauge"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TaskChoice(task_for="all"), "needs the instruction"),
        (lambda: TaskChoice("a", "all", "b"), "leave one of them out"),
        (lambda: TaskChoice("a", "some"), "expected missing or all"),
    ],
)
def test_choices_that_contradict_themselves_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_without_task_index_an_episode_that_lists_none_gets_the_given_one(tmp_path):
    data = [EpisodeData({"action": np.zeros((5, 2), np.float32)}, text) for text in ("a", "b", "c")]
    root = write_lerobot_v21(tmp_path / "d", data, fps=10, robot_type="x")
    each_file(root, lambda table: table.drop_columns(["task_index"]))
    file = root / "meta/episodes.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[1]["tasks"] = []
    rows[2]["tasks"] = ["a", "b"]
    file.write_text("\n".join(map(json.dumps, rows)))
    found = {}
    dataset = LeRobotDataset.open(root).with_tasks(TaskChoice("wave"))
    bad = {}
    for episode in dataset.scan(KEYS, on_bad=lambda info, error: bad.update({info.index: str(error)})):
        found[episode.index] = episode.prompts[0]
    assert found == {0: ["a"], 1: ["wave"]}
    assert "2 tasks are possible" in bad[2]  # it has one, and nobody can say which


def _places(table):
    return list(zip(table["episode_index"].to_pylist(), table["frame_index"].to_pylist(), strict=True))


def test_subtasks_come_from_a_column_of_texts(root):
    """The last episode has none."""
    declare(root, "subtask", "string")

    def add(table):
        said = ["reach", "reach", None, *["lift"] * 9]
        texts = [said[f] if e < 2 else "" for e, f in _places(table)]
        return table.append_column("subtask", pa.array(texts, pa.string()))

    each_file(root, add)
    found = Subtasks.read("subtask", LeRobotDataset.open(root))
    said = {
        episode: [found.texts[i] if i >= 0 else None for i in found.of_episode(episode, length)]
        for episode, length in enumerate((7, 4, 9))
    }
    assert said == {
        0: ["reach"] * 2 + [None] + ["lift"] * 4,
        1: ["reach"] * 2 + [None, "lift"],
        2: [None] * 9,
    }
    with pytest.raises(InputError, match="no column"):
        Subtasks.read("subtsk", LeRobotDataset.open(root))


def test_advantages_come_from_a_column_and_a_persons_frames_are_good(root):
    declare(root, "good", "bool")
    declare(root, "value", "float32")
    declare(root, "person", "int64")
    declare(root, "pair", "float32", shape=[2])

    def add(table):
        places = _places(table)
        for name, values, kind in (
            ("good", [f < 2 for _, f in places], pa.bool_()),
            ("value", [float(e - f) if (e, f) != (2, 8) else float("nan") for e, f in places], pa.float32()),
            ("person", [int(e == 0 and f >= 5) for e, f in places], pa.int64()),
            ("pair", [[0.0, 1.0]] * len(places), pa.list_(pa.float32(), 2)),
        ):
            table = table.append_column(name, pa.array(values, kind))
        return table

    each_file(root, add)
    dataset, threshold = LeRobotDataset.open(root), AdvantageRule(threshold=-2.5)
    rule = AdvantageRule(interventions="person")
    found = Advantages.read("good", dataset, rule, episodes=(0, 1))
    assert {e: of.tolist() for e, of in found.frames.items()} == {0: [1, 1, 0, 0, 0, 1, 1], 1: [1, 1, 0, 0]}
    assert found.count == (6, 11)
    above = Advantages.read("value", dataset, threshold, episodes=(0, 1))
    assert {e: of.tolist() for e, of in above.frames.items()} == {0: [1, 1, 1, 0, 0, 0, 0], 1: [1] * 4}
    for column, rule, says in (
        ("value", threshold, 'episode 2: "value" frame 8, dimension 0 is nan'),
        ("pair", None, "holds 2 numbers a frame"),
        ("god", None, "no column 'god'; columns of one number are .*good"),
        ("good", threshold, "says good or bad by itself"),
        (
            "person",
            AdvantageRule(interventions="index"),
            "is 2 in frame 2 of episode 0; expected true or false",
        ),
    ):
        with pytest.raises((InputError, DatasetError), match=says):
            Advantages.read(column, dataset, rule)
    with pytest.raises(InputError, match="not both"):
        AdvantageRule(threshold=0.0, positive_share=0.3)


def test_a_share_that_ties_make_far_smaller_is_refused(root):
    """One frame of the best value, and many of the next, are no 30%."""
    declare(root, "value", "float32")
    values = iter([1.0, *[0.5] * 9, *[0.0] * 100])
    each_file(
        root,
        lambda table: table.append_column(
            "value", pa.array([next(values) for _ in range(table.num_rows)], pa.float32())
        ),
    )
    with pytest.raises(InputError, match="can't be told apart"):
        Advantages.read("value", LeRobotDataset.open(root), AdvantageRule(positive_share=0.3))


def test_subtasks_come_from_lerobots_index_and_its_table(root):
    declare(root, "subtask_index", "int64")
    each_file(
        root,
        lambda table: table.append_column(
            "subtask_index", pa.array([min(f // 3, 2) if e < 2 else 1 for e, f in _places(table)])
        ),
    )
    with pytest.raises(DatasetError, match=r"meta/subtasks.parquet.* is missing"):
        Subtasks.read("subtask_index", LeRobotDataset.open(root))

    def listed(*rows):
        names = {"subtask_index": [i for i, _ in rows], "subtask": [text for _, text in rows]}
        pq.write_table(pa.table(names), root / "meta/subtasks.parquet")
        return Subtasks.read("subtask_index", LeRobotDataset.open(root))

    found = listed((0, "reach"), (1, " "), (2, "lift"))
    said = {
        episode: [found.texts[i] if i >= 0 else None for i in found.of_episode(episode, length)]
        for episode, length in enumerate((7, 4, 9))
    }
    assert said == {
        0: ["reach"] * 3 + [None] * 3 + ["lift"],
        1: ["reach"] * 3 + [None],
        2: [None] * 9,
    }
    with pytest.raises(DatasetError, match=r"episode 0.* frame 6 has subtask_index 2, .* lists 0 to 1"):
        listed((0, "reach"), (1, "lift"))
    with pytest.raises(DatasetError, match="row 0 is of subtask_index 1, and LeRobot takes it for 0"):
        listed((1, "reach"), (0, "lift"), (2, "go"))
