"""What can be wrong with a dataset on disk: every fault's error names the file, the place and the reason."""

import json
import multiprocessing
import os
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pioxide
from pioxide.data import LeRobotDataset
from pioxide.errors import DatasetError
from support.datasets import episodes, rewrite, with_column, write_v3, write_v21

KEYS = ["observation.state", "action"]


@pytest.fixture(params=[write_v21, write_v3], ids=["v2.1", "v3.0"])
def root(request, tmp_path):
    return request.param(tmp_path / "data")


def edit_info(root, **changes):
    info = json.loads((root / "meta/info.json").read_text())
    (root / "meta/info.json").write_text(json.dumps(info | changes))


def edit_rows(root, episode, change):
    """Let `change(rows)` edit the rows (a list of dicts) of the file that holds `episode`."""
    file = root / LeRobotDataset.open(root).episodes[episode].file
    table = pq.read_table(file)
    rows = table.to_pylist()
    rows = change(rows) or rows
    pq.write_table(pa.Table.from_pylist(rows, table.schema), file, row_group_size=2)


def assert_only_bad(root, episode, message):
    """Only `episode` fails, with `message`; a scan that may skip goes on past it."""
    dataset = LeRobotDataset.open(root)
    with pytest.raises(DatasetError, match=message) as caught:
        dataset.read(episode, KEYS)
    file = dataset.episodes[episode].file
    assert (caught.value.file, caught.value.episode) == (file, episode)
    assert str(caught.value).startswith(f"{file}: episode {episode}: ")
    assert "\n" not in str(caught.value)
    bad = []
    good = [
        e.index for e in dataset.scan(KEYS, on_bad=lambda info, error: bad.append((info.index, str(error))))
    ]
    assert good == [i for i in range(3) if i != episode]
    assert bad == [(episode, str(caught.value))]
    with pytest.raises(DatasetError, match=message):
        list(dataset.scan(KEYS))


# One episode is broken, the others can be read.


def test_a_missing_row(root):
    edit_rows(root, 1, lambda rows: [r for r in rows if (r["episode_index"], r["frame_index"]) != (1, 3)])
    assert_only_bad(root, 1, "has 3 rows, the metadata says 4")


def test_frames_out_of_order(root):
    def swap(rows):
        first = next(i for i, r in enumerate(rows) if r["episode_index"] == 1)
        rows[first + 1], rows[first + 2] = rows[first + 2], rows[first + 1]

    edit_rows(root, 1, swap)
    assert_only_bad(root, 1, "row 1 has frame_index 2, frames must count from 0")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_not_finite(root, value):
    def spoil(rows):
        next(r for r in rows if (r["episode_index"], r["frame_index"]) == (1, 2))["action"][1] = value

    edit_rows(root, 1, spoil)
    assert_only_bad(root, 1, rf'"action" frame 2, dimension 1 \(elbow\) is {value}')


def test_a_value_that_is_missing(root):
    def spoil(rows):
        next(r for r in rows if (r["episode_index"], r["frame_index"]) == (1, 2))["action"][1] = None

    edit_rows(root, 1, spoil)
    assert_only_bad(root, 1, r'"action" frame 2, dimension 1 \(elbow\) has no value')


def test_a_frame_that_is_missing(root):
    def spoil(rows):
        next(r for r in rows if (r["episode_index"], r["frame_index"]) == (1, 2))["action"] = None

    edit_rows(root, 1, spoil)
    assert_only_bad(root, 1, '"action" has no value in frame 2')


def test_a_task_that_is_not_listed(root):
    def spoil(rows):
        next(r for r in rows if (r["episode_index"], r["frame_index"]) == (1, 2))["task_index"] = 7

    edit_rows(root, 1, spoil)
    assert_only_bad(root, 1, "frame 2 has task_index 7, and no such task is listed")


def test_a_frame_of_another_dimension(root):
    """Only lists of variable length can differ from frame to frame."""
    file = root / LeRobotDataset.open(root).episodes[1].file

    def spoil(table):
        rows = table["action"].to_pylist()
        first = table["episode_index"].to_pylist().index(1)
        rows[first + 3] = rows[first + 3][:2]
        return with_column(table, "action", pa.array(rows, pa.list_(pa.float32())))

    rewrite(file, spoil)
    assert_only_bad(root, 1, '"action" frame 3 has 2 numbers, expected 3')


def test_rows_of_another_episode(tmp_path):
    root = write_v21(tmp_path / "d")
    edit_rows(root, 1, lambda rows: [r | {"episode_index": 5} for r in rows])
    assert_only_bad(root, 1, "has no row in this file")


def test_rows_twice(tmp_path):
    """Both halves of a v3.0 file hold episode 1: its rows no longer stand together."""
    root = write_v3(tmp_path / "d")
    edit_rows(root, 1, lambda rows: rows[7:9] + rows[:7] + rows[9:])
    assert_only_bad(root, 1, "has 2 rows, the metadata says 4")


def test_a_v3_file_that_is_torn_in_the_middle_loses_only_the_episodes_it_hits(tmp_path):
    root = write_v3(tmp_path / "d", rows_per_file=1000)
    file = root / "data/chunk-000/file-000.parquet"
    middle = pq.ParquetFile(file).metadata.row_group(1)
    content = bytearray(file.read_bytes())
    for column in range(middle.num_columns):
        start = middle.column(column).dictionary_page_offset or middle.column(column).data_page_offset
        content[start : start + 8] = b"\xff" * 8
    file.write_bytes(content)
    assert_only_bad(root, 1, "can't be read as Parquet")


def test_a_broken_page_makes_no_file_be_read_more_than_twice(tmp_path, monkeypatch):
    """However many episodes there are: the cost must not grow with their square."""
    root = write_v3(tmp_path / "d", episodes([5] * 40), rows_per_file=1000)
    file = root / "data/chunk-000/file-000.parquet"
    column = pq.ParquetFile(file).metadata.row_group(3).column(1)
    content = bytearray(file.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    content[start : start + 8] = b"\xff" * 8
    file.write_bytes(content)
    groups = []
    iterate = pq.ParquetFile.iter_batches

    def counted(self, size, row_groups, **options):
        groups.extend(row_groups)
        return iterate(self, size, row_groups=row_groups, **options)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", counted)
    bad = []
    dataset = LeRobotDataset.open(root)
    good = [e.index for e in dataset.scan(KEYS, on_bad=lambda info, error: bad.append(info.index))]
    assert (sorted([*good, *bad]), bad) == (list(range(40)), [3])
    assert len(groups) <= 2 * 40


def flip_bits(root, seed):
    """Read a dataset with every one of some bits of its footer flipped; run in a process of its own."""
    file = next(root.glob("data/*/*.parquet"))
    content = file.read_bytes()
    footer = int.from_bytes(content[-8:-4], "little") + 8
    dataset = LeRobotDataset.open(root)
    for place in np.random.default_rng(seed).choice(footer * 8, 400, replace=False).tolist():
        changed = bytearray(content)
        changed[len(content) - footer + place // 8] ^= 1 << place % 8
        file.write_bytes(changed)
        for wanted in ([0], [1, 2], None):
            list(dataset.scan(KEYS, wanted, on_bad=lambda *_: None))


def test_a_flipped_bit_in_a_footer_never_ends_the_process(tmp_path):
    """pyarrow throws through a destructor when it reads statistics that are wrong."""
    root = write_v3(tmp_path / "d", rows_per_file=1000)
    context = multiprocessing.get_context("spawn")
    child = context.Process(target=flip_bits, args=(root, 0))
    child.start()
    child.join(120)
    assert child.exitcode == 0


def test_statistics_in_footers_are_read_nowhere():
    """What the test above can't find in a sample of bits."""
    root = Path(pioxide.__file__).parent
    sources = [path for path in root.rglob("*.py") if "pyarrow" in path.read_text()]
    assert [str(path) for path in sources if ".statistics" in path.read_text()] == []


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path):
    root = write_v21(tmp_path / "d")
    file = root / "data/chunk-000/episode_000001.parquet"
    file.unlink()
    os.mkfifo(file)
    assert_only_bad(root, 1, "is not a regular file")
    (root / "meta/tasks.jsonl").unlink()
    os.mkfifo(root / "meta/tasks.jsonl")
    assert "not a regular file" in LeRobotDataset.open(root).findings[0].message
    (root / "meta/episodes.jsonl").unlink()
    os.mkfifo(root / "meta/episodes.jsonl")
    assert_will_not_open(root, "not a regular file")


@pytest.mark.parametrize("address", ["az://bucket/d", "ftp://host/d", "https://host/d"])
def test_an_address_is_refused_by_name(address):
    for path in (address, Path(address)):
        with pytest.raises(
            DatasetError, match=f"^{address}: is an address, and only files and directories of this machine"
        ):
            LeRobotDataset.open(path)


# A whole file is broken: each of its episodes is.


def assert_file_bad(root, episode, message):
    dataset = LeRobotDataset.open(root)
    file = dataset.episodes[episode].file
    bad = []
    good = [e.index for e in dataset.scan(KEYS, on_bad=lambda info, error: bad.append(error))]
    hit = [e.index for e in dataset.files()[file]]
    assert good == [i for i in range(3) if i not in hit]
    assert [(e.file, e.episode) for e in bad] == [(file, i) for i in hit]
    for error, index in zip(bad, hit, strict=True):
        assert str(error).startswith(f"{file}: episode {index}: {message}")
        assert "\n" not in str(error)


def test_a_missing_file(root):
    (root / LeRobotDataset.open(root).episodes[1].file).unlink()
    assert_file_bad(root, 1, "no such file")


@pytest.mark.parametrize("keep", [3, 100, -1])
def test_a_truncated_file(root, keep):
    file = root / LeRobotDataset.open(root).episodes[1].file
    file.write_bytes(file.read_bytes()[:keep])
    assert_file_bad(root, 1, "can't be read as Parquet (")


def test_a_file_without_a_column(root):
    rewrite(root / LeRobotDataset.open(root).episodes[1].file, lambda t: t.drop_columns(["action"]))
    assert_file_bad(root, 1, 'has no column "action"')


def test_a_file_of_another_dimension(root):
    def widen(table):
        wide = [[*row, 0.0] for row in table["action"].to_pylist()]
        return with_column(table, "action", pa.array(wide, pa.list_(pa.float32(), 4)))

    rewrite(root / LeRobotDataset.open(root).episodes[1].file, widen)
    assert_file_bad(root, 1, '"action" frame 0 has 4 numbers, expected 3')


def test_a_file_with_text_for_numbers(root):
    def spell(table):
        return with_column(table, "action", pa.array(["left"] * len(table)))

    edit_info(
        root,
        features=json.loads((root / "meta/info.json").read_text())["features"]
        | {"action": {"dtype": "float32", "shape": [1], "names": None}},
    )
    rewrite(root / LeRobotDataset.open(root).episodes[1].file, spell)
    dataset = LeRobotDataset.open(root)
    with pytest.raises(DatasetError, match='"action" holds string, expected numbers'):
        dataset.read(1, ["action"])


# The metadata is broken: opening fails.


def assert_will_not_open(root, message):
    with pytest.raises(DatasetError, match=message) as caught:
        LeRobotDataset.open(root)
    assert caught.value.file is not None
    assert "\n" not in str(caught.value)


def test_a_directory_that_is_no_dataset(tmp_path):
    assert_will_not_open(tmp_path / "nothing", "nothing: no such directory")
    assert_will_not_open(tmp_path, r"meta/info\.json: no such file; .* is not a LeRobot dataset")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"codebase_version": "v1.6"}, r"codebase_version is 'v1\.6', expected one of v2\.0, v2\.1, v3\.0"),
        ({"codebase_version": None}, "codebase_version is None"),
        ({"storage_format": "lance"}, "storage_format is 'lance'"),
        ({"features": []}, 'no "features" object'),
        ({"data_path": "data/{nonsense}.parquet"}, "data_path 'data/{nonsense}.parquet' can't be filled in"),
        ({"data_path": "../secret.parquet"}, "leads outside the dataset"),
        ({"data_path": "/etc/passwd"}, "leads outside the dataset"),
    ],
)
def test_info_that_is_wrong(root, changes, message):
    edit_info(root, **changes)
    assert_will_not_open(root, rf"^meta/info\.json: .*{message}")


@pytest.mark.parametrize("text", ["", "{", "[1]", b"\xff\xfe"])
def test_info_that_is_no_json_object(root, text):
    (root / "meta/info.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert_will_not_open(root, r"^meta/info\.json: (is not JSON|is not UTF-8|is empty|is not a JSON object)")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "lists no episode"),
        ([""], "lists no episode"),
        (["version https://git-lfs.github.com/spec/v1"], ":1: is a Git LFS pointer"),
        (["[" * 100_000], ":1: is JSON nested too deeply"),
        (["\udce4".encode("utf-8", "surrogateescape").decode("latin-1")], ":1: is not JSON"),
    ],
)
def test_a_v21_episode_list_that_is_wrong(tmp_path, lines, message):
    root = write_v21(tmp_path / "d")
    (root / "meta/episodes.jsonl").write_text("\n".join(lines))
    assert_will_not_open(root, rf"^meta/episodes\.jsonl.*{message}")


def test_a_v21_list_that_is_missing(tmp_path):
    root = write_v21(tmp_path / "d")
    (root / "meta/episodes.jsonl").unlink()
    assert_will_not_open(root, r"^meta/episodes\.jsonl: no such file")


EPISODES = "meta/episodes/chunk-000/file-000.parquet"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop_columns(["data/file_index"]), "has no column 'data/file_index'"),
        (lambda t: t.slice(0, 0), "lists no episode"),
    ],
)
def test_a_v3_episode_table_that_is_wrong(tmp_path, change, message):
    root = write_v3(tmp_path / "d")
    rewrite(root / EPISODES, change)
    assert_will_not_open(root, rf"^{EPISODES}: {message}")


def test_a_v3_episode_table_that_is_torn_or_missing(tmp_path):
    root = write_v3(tmp_path / "d")
    (root / EPISODES).write_bytes((root / EPISODES).read_bytes()[:-5])
    assert_will_not_open(root, f"^{EPISODES}: can't be read as Parquet")
    (root / EPISODES).unlink()
    assert_will_not_open(root, "^meta/episodes: has no chunk")


def test_a_v3_task_table_that_is_wrong(tmp_path):
    root = write_v3(tmp_path / "d")
    pq.write_table(pa.table({"task_index": [0]}), root / "meta/tasks.parquet")
    (found,) = LeRobotDataset.open(root).findings
    assert (found.place, found.code.value) == ("meta/tasks.parquet", "task-unreadable")
    assert "expected the columns task and task_index" in found.message


def test_an_error_keeps_its_fields_between_processes(root):
    (root / LeRobotDataset.open(root).episodes[2].file).unlink()
    with pytest.raises(DatasetError) as caught:
        LeRobotDataset.open(root).read(2, KEYS)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.file, copy.episode) == (str(caught.value), caught.value.file, 2)


def test_the_undamaged_dataset_reads(root):
    """The tests above change one thing each of this dataset."""
    assert [len(e) for e in LeRobotDataset.open(root).scan(KEYS)] == [e.length for e in episodes()]
    assert np.isfinite(LeRobotDataset.open(root).read(0, KEYS).columns["action"]).all()


def test_a_fingerprint_of_a_dataset_that_has_gone(root):
    dataset = LeRobotDataset.open(root)
    (root / "meta/info.json").unlink()
    with pytest.raises(DatasetError, match=r"meta/info\.json: can't be read any more"):
        dataset.fingerprint()
