"""Reading and writing LeRobot datasets: both layouts alike, whatever the files' inner arrangement."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pioxide.data import EpisodeData, LeRobotDataset, write_lerobot_v3, write_lerobot_v21
from pioxide.errors import InputError
from support.datasets import JOINTS, episodes, rewrite, with_column, write_v3, write_v21

KEYS = ["observation.state", "action"]


@pytest.fixture(params=[write_v21, write_v3], ids=["v2.1", "v3.0"])
def dataset(request, tmp_path) -> LeRobotDataset:
    return LeRobotDataset.open(request.param(tmp_path / "data"))


def assert_same(found, expected, keys=KEYS):
    for key in keys:
        np.testing.assert_array_equal(found.columns[key], expected.columns[key])
        assert found.columns[key].dtype == expected.columns[key].dtype


def test_metadata_is_the_same_in_both_layouts(dataset):
    assert dataset.fps == 50
    assert dataset.robot_type == "arm"
    assert dataset.total_frames == 20
    assert dataset.tasks == {0: "fold the towel", 1: "stack the cups"}
    assert [(e.index, e.length, e.tasks) for e in dataset.episodes] == [
        (0, 7, ("fold the towel",)),
        (1, 4, ("stack the cups",)),
        (2, 9, ("fold the towel",)),
    ]
    assert dataset.features["action"].names == tuple(JOINTS)
    assert dataset.names(["reward", "action", "observation.state"]) == [
        "reward",
        *JOINTS,
        *(f"observation.state[{i}]" for i in range(3)),
    ]
    assert dataset.dim(["reward", "action"]) == 4


def test_every_episode_comes_back_by_scan_and_by_index(dataset):
    expected = episodes()
    scanned = list(dataset.scan([*KEYS, "reward"]))
    assert [e.index for e in scanned] == [0, 1, 2]
    for i, episode in enumerate(scanned):
        assert_same(episode, expected[i], [*KEYS, "reward"])
        assert_same(dataset.read(i, KEYS), expected[i])
        assert len(episode) == expected[i].length
        np.testing.assert_array_equal(episode.frame_index, np.arange(len(episode)))
        prompts, which = episode.prompts
        assert prompts == [expected[i].task]
        np.testing.assert_array_equal(which, np.zeros(len(episode)))


def test_a_scan_takes_some_episodes_once_in_order(dataset):
    assert [e.index for e in dataset.scan(["action"], [2, 0, 2])] == [0, 2]


def test_only_the_named_columns_are_read(dataset):
    assert list(dataset.read(0, ["action"]).columns) == ["action"]
    assert dataset.read(0, []).columns == {}


def test_stack_puts_columns_side_by_side(dataset):
    episode = dataset.read(1, ["reward", "action"])
    out = episode.stack(["reward", "action"])
    assert out.shape == (4, 4)
    np.testing.assert_array_equal(out[:, 0], episode.columns["reward"])
    with pytest.raises(InputError, match=r'"observation\.state" was not read'):
        episode.stack(["observation.state"])


def test_columns_that_do_not_exist_or_are_video_are_refused_before_reading(tmp_path, dataset):
    with pytest.raises(InputError, match=r'no feature "actions": the dataset has observation\.state, action'):
        dataset.scan(["actions"])
    info = json.loads((dataset.path / "meta/info.json").read_text())
    info["features"]["cam"] = {"dtype": "video", "shape": [480, 640, 3], "names": ["height", "width", "c"]}
    (dataset.path / "meta/info.json").write_text(json.dumps(info))
    with pytest.raises(InputError, match='"cam" holds video'):
        LeRobotDataset.open(dataset.path).read(0, ["cam"])
    with pytest.raises(InputError, match="expected a list of columns"):
        dataset.scan("action")


@pytest.mark.parametrize("index", [-1, 3])
def test_an_episode_that_does_not_exist_is_refused(dataset, index):
    with pytest.raises(InputError, match=f"no episode {index}: the dataset has 0 to 2"):
        dataset.read(index, KEYS)


def test_v3_puts_several_episodes_in_a_file_and_several_files(tmp_path):
    dataset = LeRobotDataset.open(write_v3(tmp_path / "d"))
    assert {file: [e.index for e in infos] for file, infos in dataset.files().items()} == {
        "data/chunk-000/file-000.parquet": [0, 1],
        "data/chunk-000/file-001.parquet": [2],
    }
    assert [e.start for e in dataset.episodes] == [0, 7, 11]
    parquet = pq.ParquetFile(tmp_path / "d/data/chunk-000/file-000.parquet")
    assert [parquet.metadata.row_group(i).num_rows for i in range(parquet.num_row_groups)] == [7, 4]


@pytest.mark.parametrize("row_group_size", [1, 3, 1000])
def test_row_groups_that_cut_through_episodes_make_no_difference(tmp_path, row_group_size):
    write_v3(tmp_path / "d", rows_per_file=1000)
    rewrite(tmp_path / "d/data/chunk-000/file-000.parquet", lambda t: t, row_group_size=row_group_size)
    dataset = LeRobotDataset.open(tmp_path / "d")
    for i, expected in enumerate(episodes()):
        assert_same(dataset.read(i, KEYS), expected)
    for episode, expected in zip(dataset.scan(KEYS), episodes(), strict=True):
        assert_same(episode, expected)


def test_episodes_longer_than_a_batch_of_rows_are_joined(tmp_path):
    data = episodes((5000, 3, 9000))
    write_v3(tmp_path / "d", data, rows_per_file=100_000)
    rewrite(tmp_path / "d/data/chunk-000/file-000.parquet", lambda t: t, row_group_size=100_000)
    for episode, expected in zip(LeRobotDataset.open(tmp_path / "d").scan(KEYS), data, strict=True):
        assert_same(episode, expected)


def test_files_without_column_statistics_are_read_all_the_same(tmp_path):
    write_v3(tmp_path / "d", rows_per_file=1000)
    rewrite(
        tmp_path / "d/data/chunk-000/file-000.parquet", lambda t: t, row_group_size=4, write_statistics=False
    )
    assert_same(LeRobotDataset.open(tmp_path / "d").read(2, KEYS), episodes()[2])


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.float32()), pa.large_list(pa.float32()), pa.list_(pa.float64())]
)
def test_lists_of_any_kind_are_read(dataset, kind):
    for file in dataset.files():
        rewrite(dataset.path / file, lambda t: with_column(t, "action", t["action"].cast(kind)))
    for episode, expected in zip(dataset.scan(KEYS), episodes(), strict=True):
        np.testing.assert_array_equal(episode.columns["action"], expected.columns["action"])


def test_tables_within_a_frame_are_read(dataset):
    """A [2, 2] feature is stored as lists within lists."""
    info = json.loads((dataset.path / "meta/info.json").read_text())
    info["features"]["pose"] = {"dtype": "float32", "shape": [2, 2], "names": None}
    (dataset.path / "meta/info.json").write_text(json.dumps(info))

    def add(table):
        rows = [[[row, row + 0.25], [row + 0.5, row + 0.75]] for row in table["index"].to_pylist()]
        return table.append_column("pose", pa.array(rows, pa.list_(pa.list_(pa.float32()))))

    for file in dataset.files():
        rewrite(dataset.path / file, add)
    pose = LeRobotDataset.open(dataset.path).read(1, ["pose"]).columns["pose"]
    np.testing.assert_array_equal(pose, np.arange(7, 11, 0.25).reshape(4, 2, 2))


def test_plain_numbers_and_lists_of_one_read_alike(dataset):
    for file in dataset.files():
        one = pa.list_(pa.float64(), 1)
        rewrite(
            dataset.path / file,
            lambda t: with_column(t, "reward", pa.array([[x] for x in t["reward"].to_pylist()], one)),  # noqa: B023
        )
    np.testing.assert_array_equal(
        dataset.read(0, ["reward"]).columns["reward"], episodes()[0].columns["reward"]
    )


def test_integers_and_bools_keep_their_type(tmp_path):
    columns = {"action": np.arange(6).reshape(3, 2), "done": np.array([False, False, True])}
    for write in (write_lerobot_v3, write_lerobot_v21):
        root = write(tmp_path / write.__name__, [EpisodeData(columns, "go")], fps=10, robot_type="x")
        episode = LeRobotDataset.open(root).read(0, ["action", "done"])
        for key in columns:
            np.testing.assert_array_equal(episode.columns[key], columns[key])
            assert episode.columns[key].dtype == columns[key].dtype


def test_a_task_may_change_within_an_episode(tmp_path):
    data = [EpisodeData({"action": np.zeros((4, 1), np.float32)}, ["b", "b", "a", "b"])]
    for write in (write_lerobot_v3, write_lerobot_v21):
        root = write(tmp_path / write.__name__, data, fps=10, robot_type="x")
        prompts, which = LeRobotDataset.open(root).read(0, ["action"]).prompts
        assert [prompts[i] for i in which] == ["b", "b", "a", "b"]


def test_version_2_0_reads_like_2_1(tmp_path):
    root = write_v21(tmp_path / "d")
    text = (root / "meta/info.json").read_text().replace('"v2.1"', '"v2.0"')
    (root / "meta/info.json").write_text(text)
    (root / "meta/episodes_stats.jsonl").unlink()
    dataset = LeRobotDataset.open(root)
    assert dataset.version == "v2.0"
    assert_same(dataset.read(2, KEYS), episodes()[2])


@pytest.mark.parametrize("column", ["task", "__index_level_0__"])
def test_tasks_of_v3_may_be_an_index_with_or_without_a_name(tmp_path, column):
    root = write_v3(tmp_path / "d")
    tasks = {"task_index": [1, 0], column: ["stack the cups", "fold the towel"]}
    pq.write_table(pa.table(tasks), root / "meta/tasks.parquet")
    assert LeRobotDataset.open(root).tasks == {0: "fold the towel", 1: "stack the cups"}


def test_v3_episode_tables_may_be_several_files(tmp_path):
    root = write_v3(tmp_path / "d")
    whole = root / "meta/episodes/chunk-000/file-000.parquet"
    table = pq.read_table(whole)
    (root / "meta/episodes/chunk-001").mkdir()
    pq.write_table(table.slice(2, 1), root / "meta/episodes/chunk-001/file-000.parquet")
    pq.write_table(table.slice(0, 2), whole)
    dataset = LeRobotDataset.open(root)
    assert [e.index for e in dataset.scan(["action"])] == [0, 1, 2]
    assert len(dataset.meta_files) == 4


def test_joint_names_are_found_in_every_arrangement(dataset):
    info = json.loads((dataset.path / "meta/info.json").read_text())
    for names, expected in (
        ([JOINTS], JOINTS),
        ({"motors": JOINTS}, JOINTS),
        ({"elbow": 1, "waist": 0, "gripper": 2}, JOINTS),
        (["x", "y"], [f"action[{i}]" for i in range(3)]),
        (None, [f"action[{i}]" for i in range(3)]),
    ):
        info["features"]["action"]["names"] = names
        (dataset.path / "meta/info.json").write_text(json.dumps(info))
        assert LeRobotDataset.open(dataset.path).names(["action"]) == expected


def test_the_fingerprint_survives_copying_and_sees_changes(dataset, tmp_path):
    before = dataset.fingerprint()
    copy = tmp_path / "elsewhere"
    shutil.copytree(dataset.path, copy)
    assert LeRobotDataset.open(copy).fingerprint() == before
    (copy / "videos").mkdir()
    (copy / "README.md").write_text("hello")
    assert LeRobotDataset.open(copy).fingerprint() == before
    file = copy / next(iter(dataset.files()))

    def change(table):
        rows = table["action"].to_pylist()
        rows[0][0] += 1
        return with_column(table, "action", pa.array(rows, table.schema.field("action").type))

    rewrite(file, change)
    changed = LeRobotDataset.open(copy).fingerprint()
    file.unlink()
    missing = LeRobotDataset.open(copy).fingerprint()
    assert len({before, changed, missing}) == 3


def test_a_dataset_travels_to_other_processes(dataset):
    copy = pickle.loads(pickle.dumps(dataset))
    assert_same(copy.read(1, KEYS), episodes()[1])


def test_a_file_is_opened_once_for_all_its_episodes(tmp_path, monkeypatch):
    dataset = LeRobotDataset.open(write_v3(tmp_path / "d"))
    opened = []

    class Counting(pq.ParquetFile):
        def __init__(self, source, *args, **kwargs):
            opened.append(Path(source).name)
            super().__init__(source, *args, **kwargs)

    monkeypatch.setattr(pq, "ParquetFile", Counting)
    assert len(list(dataset.scan(KEYS))) == 3
    assert opened == ["file-000.parquet", "file-001.parquet"]


def test_a_scan_holds_a_batch_and_an_episode_and_not_the_file(tmp_path):
    data = episodes((4000,) * 100)
    root = write_v3(tmp_path / "d", data, rows_per_file=1_000_000)
    rewrite(root / "data/chunk-000/file-000.parquet", lambda t: t, row_group_size=1_000_000)
    dataset = LeRobotDataset.open(root)
    whole = pq.read_table(root / "data/chunk-000/file-000.parquet").nbytes
    del data
    base, peak = pa.total_allocated_bytes(), 0
    for _ in dataset.scan(KEYS):
        peak = max(peak, pa.total_allocated_bytes() - base)
    assert peak < whole / 3


def test_a_written_dataset_appears_whole_or_not_at_all(tmp_path):
    def breaks_off():
        yield episodes()[0]
        raise RuntimeError("the robot fell over")

    for write in (write_lerobot_v3, write_lerobot_v21):
        with pytest.raises(RuntimeError, match="fell over"):
            write(tmp_path / "d", breaks_off(), fps=50, robot_type="arm")
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("write", [write_lerobot_v3, write_lerobot_v21])
def test_the_writer_refuses_what_would_not_read_back(tmp_path, write):
    good = episodes()[0]
    short = EpisodeData({**good.columns, "action": good.columns["action"][:-1]}, "go")
    for data, message in (
        ([], "at least one episode"),
        ([good, EpisodeData({"action": good.columns["action"]}, "go")], "episode 1 has columns"),
        ([short], '"action" has shape'),
        ([EpisodeData({"index": np.arange(3)}, "go")], '"index" is filled in by the writer'),
        ([EpisodeData({"a": np.array([0, np.nan])}, "go")], 'episode 0: "a" frame 1 is nan'),
        (
            [EpisodeData({"a": np.array([[0, 1], [2, -np.inf]])}, "go")],
            'episode 0: "a" frame 1, dimension 1 is -inf',
        ),
        ([EpisodeData({"action": np.zeros((3, 1))}, ["a", "b"])], "3 frames and 2 tasks"),
    ):
        with pytest.raises(InputError, match=message):
            write(tmp_path / "d", data, fps=50, robot_type="arm")
    with pytest.raises(InputError, match='"action" has 3 dimensions but 1 names'):
        write(tmp_path / "d", [good], fps=50, robot_type="arm", names={"action": ["waist"]})
    assert list(tmp_path.iterdir()) == []
    write(tmp_path / "d", [good], fps=50, robot_type="arm")
    with pytest.raises(InputError, match="exists already"):
        write(tmp_path / "d", [good], fps=50, robot_type="arm")


def test_written_statistics_describe_the_data(tmp_path):
    root = write_v3(tmp_path / "d")
    stats = json.loads((root / "meta/stats.json").read_text())["action"]
    values = np.concatenate([e.columns["action"] for e in episodes()]).astype(np.float64)
    np.testing.assert_allclose(stats["mean"], values.mean(axis=0))
    np.testing.assert_allclose(stats["std"], values.std(axis=0))
    np.testing.assert_array_equal(stats["max"], values.max(axis=0))
    assert stats["count"] == [20]


def test_real_v21_dataset(shared):
    dataset = LeRobotDataset.open(shared("data/g1_pick_bottle"))
    assert (dataset.version, dataset.fps, dataset.total_frames) == ("v2.1", 30, 14296)
    assert dataset.names(["action"])[7] == "kRightShoulderPitch"
    frames = 0
    for episode in dataset.scan(KEYS):
        raw = pq.read_table(dataset.path / episode.info.file)
        for key in KEYS:
            assert episode.columns[key].dtype == np.float32
            np.testing.assert_array_equal(episode.columns[key], np.array(raw[key].to_pylist(), np.float32))
        assert episode.prompts[0] == ["Pick up the yellow bottle on the table."]
        frames += len(episode)
    assert frames == 14296


def test_real_dataset_with_video_is_read_without_it(shared):
    dataset = LeRobotDataset.open(shared("data/g1_with_video"))
    assert dataset.features["observation.images.cam_high"].dtype == "video"
    assert sum(len(e) for e in dataset.scan(KEYS)) == 1043


def test_real_dataset_as_v3_reads_like_v21(shared, tmp_path):
    old = LeRobotDataset.open(shared("data/g1_with_video"))
    data = [EpisodeData(e.columns, e.prompts[0][0]) for e in old.scan(KEYS)]
    root = write_lerobot_v3(tmp_path / "d", data, fps=30, robot_type="g1", rows_per_file=500)
    new = LeRobotDataset.open(root)
    assert len(new.files()) == 3
    for a, b in zip(old.scan(KEYS), new.scan(KEYS), strict=True):
        assert_same(a, b)
        assert a.prompts[0] == b.prompts[0]
