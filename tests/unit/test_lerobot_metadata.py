"""Metadata that contradicts itself: a finding where nothing depends on it, else the fault of its episode."""

import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pioxide.data import LeRobotDataset, TaskChoice
from pioxide.data.findings import Code
from pioxide.errors import DatasetError, InputError
from support.datasets import episodes, rewrite, with_column, write_v3, write_v21
from support.exporters import as_cloth, as_gr1, edit_info, lines, without, write_lines

KEYS = ["observation.state", "action"]
V3_EPISODES = "meta/episodes/chunk-000/file-000.parquet"


@pytest.fixture(params=[write_v21, write_v3], ids=["v2.1", "v3.0"])
def root(request, tmp_path):
    return request.param(tmp_path / "data")


def read(root):
    """What can be read (index to length), what can't (index to reason), and the codes of what was found."""
    dataset = LeRobotDataset.open(root)
    bad = {}
    good = {
        e.index: len(e)
        for e in dataset.scan(KEYS, on_bad=lambda info, error: bad.update({info.index: str(error)}))
    }
    return good, bad, {finding.code for finding in dataset.findings}


@pytest.mark.parametrize("fps", [0, None, -1, float("inf"), "30"])
def test_rate_that_is_unknown_is_found_and_reading_goes_on(root, fps):
    edit_info(root, fps=fps)
    assert read(root) == ({0: 7, 1: 4, 2: 9}, {}, {Code.RATE})
    assert LeRobotDataset.open(root).fps == 0


@pytest.mark.parametrize("changes", [{"total_episodes": 4}, {"total_frames": 21}, {"total_frames": None}])
def test_totals_that_differ_from_the_list_are_found(root, changes):
    edit_info(root, **changes)
    assert read(root) == ({0: 7, 1: 4, 2: 9}, {}, {Code.TOTALS})


@pytest.mark.parametrize(
    "declaration", [{"dtype": "float32"}, {"shape": [3]}, {"dtype": "float32", "shape": [0]}, None, [1], "x"]
)
def test_feature_nobody_asks_for_need_not_be_declared(root, declaration):
    info = json.loads((root / "meta/info.json").read_text())
    edit_info(root, features=info["features"] | {"reward": declaration})
    assert read(root) == ({0: 7, 1: 4, 2: 9}, {}, {Code.FEATURE})
    with pytest.raises(InputError, match=r'info\.json: feature "reward" needs a dtype and a shape'):
        LeRobotDataset.open(root).scan(["reward"])


def test_byte_order_mark_is_passed_over(tmp_path):
    root = write_v21(tmp_path / "d")
    for file in ("info.json", "episodes.jsonl", "tasks.jsonl"):
        content = (root / "meta" / file).read_bytes()
        (root / "meta" / file).write_bytes(b"\xef\xbb\xbf" + content)
    assert read(root) == ({0: 7, 1: 4, 2: 9}, {}, set())


def test_episode_that_is_not_listed(tmp_path):
    v21, v3 = write_v21(tmp_path / "a"), write_v3(tmp_path / "b")
    write_lines(v21, [row for row in lines(v21) if row["episode_index"] != 1])
    rewrite(v3 / V3_EPISODES, lambda t: pa.concat_tables([t.slice(0, 1), t.slice(2, 1)]))
    for root in (v21, v3):
        assert read(root) == ({0: 7, 2: 9}, {}, {Code.NOT_LISTED, Code.TOTALS})
        dataset = LeRobotDataset.open(root)
        assert dataset.read(2, KEYS).index == dataset.episode(2).index == 2
        with pytest.raises(InputError, match="no episode 1: the dataset has 0 to 2, not all of them"):
            dataset.read(1, KEYS)


def test_episode_that_is_listed_twice(tmp_path):
    root = write_v21(tmp_path / "d")
    rows = lines(root)
    write_lines(root, [*rows, rows[1]])
    assert read(root) == ({0: 7, 1: 4, 2: 9}, {}, {Code.LISTED_TWICE})
    write_lines(root, [*rows, rows[1] | {"length": 3}])
    good, bad, _ = read(root)
    assert good == {0: 7, 2: 9}
    assert bad == {1: "meta/episodes.jsonl: episode 1: is listed twice, differently"}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"episode_index": 1, "length": 0}', "length is 0"),
        ('{"episode_index": 1, "length": "4"}', "length is '4', expected an integer from 1"),
        ('{"episode_index": 1}', "length is None"),
        ('{"episode_index": 1, "length": true}', "length is True"),
        ('{"episode_index": 1, "len', "line 2 is not JSON"),
        ('{"episode_index": null, "length": 4}', "line 2 has episode_index None"),
        ("7", "line 2 is not a JSON object"),
        ("[" * 100_000, "line 2 is JSON nested too deeply"),
    ],
)
def test_v2_entry_that_is_wrong_costs_its_episode_only(tmp_path, line, reason):
    root = write_v21(tmp_path / "d")
    rows = lines(root)
    write_lines(root, [rows[0], line, rows[2]])
    good, bad, _ = read(root)
    assert good == {0: 7, 2: 9}
    assert list(bad) == [1]
    assert bad[1].startswith(f"meta/episodes.jsonl: episode 1: {reason}")
    with pytest.raises(DatasetError, match="episode 1"):
        list(LeRobotDataset.open(root).scan(KEYS))


@pytest.mark.parametrize("column", ["length", "data/file_index", "episode_index"])
def test_v3_entry_that_is_wrong_costs_its_episode_only(tmp_path, column):
    root = write_v3(tmp_path / "d")

    def spoil(table):
        values = table[column].to_pylist()
        return with_column(table, column, pa.array([values[0], None, values[2]]))

    rewrite(root / V3_EPISODES, spoil)
    good, bad, _ = read(root)
    assert good == {0: 7, 2: 9}
    assert bad == {1: f"{V3_EPISODES}: episode 1: {column} is None, expected an integer from 0"}


def test_v3_row_ranges_that_nothing_reads_may_contradict(tmp_path):
    root = write_v3(tmp_path / "d")
    rewrite(root / V3_EPISODES, lambda t: with_column(t, "dataset_to_index", pa.array([7, 12, 20])))
    assert read(root) == ({0: 7, 1: 4, 2: 9}, {}, {Code.ROWS})
    rewrite(root / V3_EPISODES, lambda t: t.drop_columns(["dataset_from_index", "dataset_to_index", "tasks"]))
    assert read(root) == ({0: 7, 1: 4, 2: 9}, {}, set())


def test_v3_file_index_that_is_stale_is_looked_past(tmp_path):
    """A converter numbered the files anew and left the list as it was."""
    root = write_v3(tmp_path / "d")
    right = LeRobotDataset.open(root).read(2, KEYS).columns["action"]
    for stale in ([0, 0, 0], [1, 1, 0], [5, 5, 5]):
        rewrite(root / V3_EPISODES, lambda t, s=stale: with_column(t, "data/file_index", pa.array(s)))
        assert read(root)[:2] == ({0: 7, 1: 4, 2: 9}, {})
        np.testing.assert_array_equal(LeRobotDataset.open(root).read(2, KEYS).columns["action"], right)


def test_v3_episode_that_two_files_hold_is_not_guessed(tmp_path):
    root = write_v3(tmp_path / "d")
    rewrite(root / V3_EPISODES, lambda t: with_column(t, "data/file_index", pa.array([0, 0, 7])))
    data = root / "data/chunk-000"
    (data / "file-003.parquet").write_bytes((data / "file-001.parquet").read_bytes())
    good, bad, _ = read(root)
    assert (good, list(bad)) == ({0: 7, 1: 4}, [2])
    assert "no such file" in bad[2]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"task_index": 0}], "task 0 is None, expected a string"),
        ([{"task_index": 0, "task": "\ud800"}], "expected a string"),
        ([{"task_index": 0, "task": "a"}, {"task_index": 0, "task": "b"}], "task 0 is both 'a' and 'b'"),
        ([{"task_index": -1, "task": "a"}], "task_index is -1"),
    ],
)
def test_task_that_is_wrong_costs_the_episodes_that_have_it(tmp_path, rows, message):
    root = write_v21(tmp_path / "d")
    write_lines(root, [*rows, {"task_index": 1, "task": "stack the cups"}], "meta/tasks.jsonl")
    good, bad, codes = read(root)
    assert (good, set(bad), codes) == ({1: 4}, {0, 2}, {Code.TASK})
    assert "frame 0 has task_index 0, and no such task is listed" in bad[0]
    assert message in LeRobotDataset.open(root).findings[0].message


def task_file(root):
    return next((root / "meta").glob("tasks.*"))


def test_tasks_that_can_not_be_read_are_those_that_the_episodes_list(root):
    expected = {0: ["fold the towel"], 1: ["stack the cups"], 2: ["fold the towel"]}
    for spoil in (lambda file: file.write_bytes(b"\x00PAR1"), lambda file: file.unlink()):
        spoil(task_file(root))
        dataset = LeRobotDataset.open(root)
        assert {e.index: e.prompts[0] for e in dataset.scan(KEYS)} == expected
        assert [finding.code for finding in dataset.findings] == [Code.TASK]
        assert "the list of episodes says the task of episodes 0, 1 and 2" in dataset.findings[0].way_out
        assert len(dataset.fingerprint()) == 32


def test_without_readable_tasks_an_episode_that_lists_none_or_two_can_not_be_read(tmp_path):
    root = write_v21(tmp_path / "d")
    task_file(root).unlink()
    rows = lines(root)
    write_lines(root, [rows[0], rows[1] | {"tasks": []}, rows[2] | {"tasks": ["a", "b"]}])
    good, bad, _ = read(root)
    assert good == {0: 7}
    for index in (1, 2):
        assert "no instruction is known (meta/tasks.jsonl: no such file" in bad[index]
        assert "--task TEXT" in bad[index]
    given = LeRobotDataset.open(root).with_tasks(TaskChoice("wave"))
    assert [e.prompts[0] for e in given.scan(KEYS)] == [["fold the towel"], ["wave"], ["wave"]]


def split_list(root):
    """The list of episodes in two files, as recordings of many have it."""
    table = pq.read_table(root / V3_EPISODES)
    second = root / "meta/episodes/chunk-000/file-001.parquet"
    pq.write_table(table.slice(1), second)
    pq.write_table(table.slice(0, 1), root / V3_EPISODES)
    return second


def test_v3_list_that_can_not_be_read_costs_its_episodes_only(tmp_path):
    root = write_v3(tmp_path / "d")
    second = split_list(root)
    assert read(root) == ({0: 7, 1: 4, 2: 9}, {}, set())
    second.write_bytes(second.read_bytes()[:-5])
    good, bad, _ = read(root)
    assert good == {0: 7}
    assert list(bad) == [1, 2]
    assert "file-001.parquet: episode 1: is listed nowhere else, and this list can't be read" in bad[1]
    edit_info(root, total_episodes=None)
    with pytest.raises(DatasetError, match=r"file-001\.parquet: can't be read as Parquet"):
        LeRobotDataset.open(root)


def test_v3_list_that_can_not_be_read_and_holds_nothing_new_is_found(tmp_path):
    root = write_v3(tmp_path / "d")
    (root / "meta/episodes/chunk-000/file-001.parquet").write_bytes(LFS)
    good, bad, codes = read(root)
    assert (good, bad, codes) == ({0: 7, 1: 4, 2: 9}, {}, {Code.LISTED_TWICE})


# Two real recordings that are like this; each was written by another exporter.


def test_gr1_like_recording_reads(tmp_path):
    root = as_gr1(write_v21(tmp_path / "d"))
    assert read(root) == ({0: 7, 1: 4, 2: 9}, {}, set())
    episode = LeRobotDataset.open(root).read(2, KEYS)
    np.testing.assert_array_equal(episode.frame_index, np.arange(9))
    np.testing.assert_array_equal(episode.columns["action"], episodes()[2].columns["action"])


def test_cloth_like_recording_reads(tmp_path):
    root = as_cloth(write_v21(tmp_path / "d"))
    assert read(root) == ({0: 7, 1: 4, 2: 9}, {}, {Code.TOTALS})
    episode = LeRobotDataset.open(root).read(1, KEYS)
    assert episode.prompts[0] == ["fold the towel"]
    np.testing.assert_array_equal(episode.task_index, np.zeros(4))


def test_files_that_lie_elsewhere_are_found_by_their_number(tmp_path):
    root = write_v21(tmp_path / "d")
    (root / "data/chunk-000").rename(root / "data/episodes")
    assert read(root) == ({0: 7, 1: 4, 2: 9}, {}, {Code.MOVED})


def test_frame_index_is_not_derived_where_rows_are_out_of_order(tmp_path):
    root = write_v21(tmp_path / "d")
    for file in root.glob("data/*/*.parquet"):
        rewrite(file, without("frame_index"))
    rewrite(root / "data/chunk-000/episode_000001.parquet", lambda t: t.take([0, 2, 1, 3]))
    good, bad, _ = read(root)
    assert good == {0: 7, 2: 9}
    assert "has no frame_index, and timestamp does not rise at row 2" in bad[1]


def test_task_index_is_not_derived_where_two_are_possible(tmp_path):
    root = write_v21(tmp_path / "d")
    for file in root.glob("data/*/*.parquet"):
        rewrite(file, without("task_index"))
    assert read(root)[0] == {0: 7, 1: 4, 2: 9}  # the list says which task each episode has
    write_lines(root, [row | {"tasks": ["fold the towel", "stack the cups"]} for row in lines(root)])
    good, bad, _ = read(root)
    assert good == {}
    assert 'has no column "task_index", and 2 tasks are possible' in bad[0]


def test_episode_index_is_derived_where_a_file_is_an_episode(tmp_path):
    v21, v3 = write_v21(tmp_path / "a"), write_v3(tmp_path / "b")
    for root in (v21, v3):
        for file in root.glob("data/*/*.parquet"):
            rewrite(file, without("episode_index"))
    assert read(v21)[:2] == ({0: 7, 1: 4, 2: 9}, {})
    good, bad, _ = read(v3)
    assert good == {2: 9}  # alone in its file
    assert 'has no column "episode_index"' in bad[0]


# What stands in the place of a file, or of a column.


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def test_git_lfs_pointers_are_named(root):
    dataset = LeRobotDataset.open(root)
    (root / dataset.episodes[1].file).write_bytes(LFS)
    with pytest.raises(
        DatasetError, match="episode 1: is a Git LFS pointer, not the file itself; `git lfs pull`"
    ):
        dataset.read(1, KEYS)
    for file in dataset.meta_files:
        content = (root / file).read_bytes()
        (root / file).write_bytes(LFS)
        if file.startswith("meta/tasks"):
            (found,) = LeRobotDataset.open(root).findings
            assert (found.place.partition(":")[0], "Git LFS pointer" in found.message) == (file, True)
        else:
            with pytest.raises(DatasetError, match="is a Git LFS pointer") as caught:
                LeRobotDataset.open(root)
            assert caught.value.file.startswith(file)
        (root / file).write_bytes(content)


@pytest.mark.parametrize(
    ("make", "holds"),
    [
        (lambda n: pa.array([{"x": 1.0, "y": 2.0}] * n), "struct<x: double, y: double>, expected numbers"),
        (lambda n: pa.array([["a", "b", "c"]] * n), "string, expected numbers"),
        (lambda n: pa.array(["left"] * n), "string, expected numbers"),
        (lambda n: pa.nulls(n), "no values at all, expected numbers"),
        (lambda n: pa.array([[None] * 3] * n), "no values at all, expected numbers"),
        (lambda n: pa.array([b"123"] * n), "binary, expected numbers"),
    ],
)
def test_column_of_another_kind_says_what_it_holds(tmp_path, make, holds):
    root = write_v21(tmp_path / "d")
    file = root / "data/chunk-000/episode_000001.parquet"
    rewrite(file, lambda t: with_column(t, "action", make(len(t))))
    with pytest.raises(DatasetError, match=f'"action" holds {holds}'):
        LeRobotDataset.open(root).read(1, KEYS)


def test_text_that_is_no_utf8_is_an_error_and_no_traceback(tmp_path):
    root = write_v3(tmp_path / "d")
    wrong = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.py_buffer(np.array([0, 1, 2], np.int32)), pa.py_buffer(b"\xe4\xff")]
    )
    pq.write_table(pa.table({"task_index": [0, 1], "task": wrong}), root / "meta/tasks.parquet")
    (found,) = LeRobotDataset.open(root).findings
    assert (found.place, "can't be read as Parquet" in found.message) == ("meta/tasks.parquet", True)


def test_directory_whose_name_is_no_utf8_is_read(tmp_path):
    for write in (write_v21, write_v3):
        plain = write(tmp_path / write.__name__)
        odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xe4\xff-" + write.__name__.encode()))
        plain.rename(odd)
        assert read(odd) == ({0: 7, 1: 4, 2: 9}, {}, set())
        assert len(LeRobotDataset.open(odd).fingerprint()) == 32
