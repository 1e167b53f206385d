"""RLDS datasets become datasets that fit, tokenize and training read; what is damaged in them is named."""

import json
import shutil
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import pioxide.train.run
from pioxide.cli.main import main
from pioxide.contract import CameraSlot, Resize
from pioxide.data import (
    CheckSettings,
    EpisodeChoice,
    FrameColumns,
    LeRobotDataset,
    Level,
    check_dataset,
    check_datasets,
)
from pioxide.data.images import Fit
from pioxide.data.loader import CacheSettings, Loader, LoaderSettings
from pioxide.data.rlds import MAPPINGS, RldsDirectory, index_rlds
from pioxide.data.rlds.example import Kind, bytes_of, features_of, numbers_of
from pioxide.data.rlds.pictures import RecordImages
from pioxide.errors import DatasetError, FormatError, InputError, PioxideError, SettingsError
from pioxide.shards import FitSettings, fit
from pioxide.shards.export_lerobot import export_lerobot
from support.loading import HORIZON, SIZE, Pictured
from support.rlds import droid_steps, example, field, framed, picture, varint, write_droid, write_rlds
from support.text_model import write_text_model

DROID = MAPPINGS["droid"]
GOLDEN = Path(__file__).parents[1] / "golden/rlds"
CAMERAS = (
    CameraSlot("base_0_rgb", "observation/exterior_image_1_left"),
    CameraSlot("left_wrist_0_rgb", "observation/wrist_image_left"),
)
STATED = {
    "cameras": CAMERAS,
    "absent_camera": "masked",
    "image_size": SIZE,
    "resize": "antialias",
    "model_dim": 8,
}


def indexed(source, output, mapping=DROID, **options):
    return index_rlds(RldsDirectory.open(source), mapping, output, **options)


@pytest.fixture(scope="module", params=["tfrecord", "array_record"])
def world(tmp_path_factory, request):
    root = tmp_path_factory.mktemp("world")
    indexed(write_droid(root / "droid", kind=request.param), root / "dataset")
    fit(root / "dataset", root / "fitted", FitSettings(horizon=HORIZON, vocab_size=300))
    return Pictured(root / "dataset", root / "fitted", write_text_model(root / "text.model"))


def test_numbers_and_rate_are_those_of_the_records(world):
    dataset = world.dataset
    assert (dataset.fps, dataset.robot_type) == (15.0, "droid")
    assert [info.length for info in dataset.episodes] == [4, 5, 6, 7]
    for episode in dataset.scan(["observation.state", "action"]):
        steps = droid_steps(episode.index, len(episode))
        state = np.column_stack([steps[f"steps/observation/{k}_position"] for k in ("joint", "gripper")])
        action = steps["steps/action_dict/joint_velocity"], steps["steps/action_dict/gripper_position"]
        np.testing.assert_array_equal(episode.columns["observation.state"], state.astype(np.float32))
        np.testing.assert_array_equal(episode.columns["action"], np.column_stack(action).astype(np.float32))


def test_each_frame_has_one_of_its_instructions_that_is_not_empty(world):
    said = {e.index: set(e.prompts[0]) for e in world.dataset.scan(())}
    assert said[0] == {"put block 0 away"}
    assert set().union(*(said[i] for i in (1, 2, 3))) == {
        text for i in (1, 2, 3) for text in (f"put block {i} away", f"tidy block {i}")
    }


def test_what_tensorflow_datasets_itself_wrote_is_read(tmp_path):
    indexed(GOLDEN, tmp_path / "dataset")
    dataset = LeRobotDataset.open(tmp_path / "dataset")
    episodes = list(dataset.scan(["observation.state", "action"]))
    assert [len(episode) for episode in episodes] == [3, 6, 4, 5]
    written = [0, 3, 1, 2]  # TFDS shuffles what it writes
    for episode, number in zip(episodes, written, strict=True):
        frame = np.arange(len(episode))[:, None]
        velocity = (0.2 * np.arange(7) - 0.02 * frame - number).astype(np.float32)
        np.testing.assert_allclose(episode.columns["action"][:, :7], velocity, atol=1e-6)
        said = {f"task {number}"} | ({f"zwei {number}"} if number else set())
        assert set(episode.prompts[0]) <= said
    assert dataset.episode_values("success") == {0: False, 1: True, 2: True, 3: False}
    images = RecordImages.open(dataset.path)
    fit = Fit(32, Resize.ANTIALIAS, exact=True)
    for episode, number in zip(episodes, written, strict=True):
        frames = np.arange(len(episode))
        shown = images.frames(episode.info, "observation.images.wrist_image_left", frames, fit)
        y, x = np.mgrid[0:18, 0:32]
        red = (x * 7 + (number + 2) * 40 + frames[:, None, None] * 9) % 256  # a PNG: to the bit
        green = (y * 13 + frames[:, None, None] * 5) % 256
        np.testing.assert_array_equal(shown[:, 7:25, :, 0], red)
        np.testing.assert_array_equal(shown[:, 7:25, :, 1], green + 0 * x)


def test_what_a_record_says_of_its_episode_can_be_chosen_by(world):
    assert EpisodeChoice(where="file_path ~ success").of(world.dataset) == [1, 3]


def test_batches_show_the_pictures_and_actions_of_their_frames(world, tmp_path):
    source = world.source(stated=STATED)
    settings = LoaderSettings(batch_size=22, shuffle=False, repeat=False)
    shown = []
    for cache in (None, CacheSettings(tmp_path)):
        with Loader(source, settings, world.tokenizer, cache=cache) as loader:
            shown.append(loader.at(0))
    batch, again = shown
    frames = [(e, t) for e in range(4) for t in range(4 + e)]
    wrist = [60 * 2 + 20 * e + 5 * t + 3 for e, t in frames]
    inside = (slice(None), SIZE // 2, SIZE // 2, 0)
    assert batch.images["left_wrist_0_rgb"][inside].tolist() == [value % 256 for value in wrist]
    base = batch.images["base_0_rgb"][inside].astype(int)
    camera = (base - [20 * e + 5 * t + 3 for e, t in frames]) / 60
    assert np.abs(camera - camera.round()).max() < 0.05  # JPEG
    drawn = [{int(c) for c, (e, _) in zip(camera.round(), frames, strict=True) if e == n} for n in range(4)]
    assert drawn == [{1}, {0}, {1}, {0}]  # one of the two exterior cameras an episode
    assert batch.action_mask is not None
    assert batch.action_mask[:, :, 0].sum(1).tolist() == [min(HORIZON, 4 + e - t) for e, t in frames]
    assert "block 0" in loader.texts(batch)[0]
    for slot, images in batch.images.items():
        assert np.abs(images.astype(int) - again.images[slot]).max() <= 2


def test_tokens_are_made_of_it(world, tmp_path):
    assert len(world.tokens(tmp_path / "tokens", "pi0_fast")) == 22


def test_nothing_is_found_wrong_with_it(world):
    checked = check_datasets([world.path], CheckSettings())[0]
    assert [finding.message for finding in checked.findings] == []


def test_a_run_is_trained_on_it_and_goes_on_with_the_same_batches(tmp_path, monkeypatch, capsys):
    """As `pioxide train` reads it, with a worker of its own, up to the first update."""
    records = [[example(droid_steps(e, 12 + e)) for e in range(shard, shard + 2)] for shard in (0, 2)]
    indexed(write_rlds(tmp_path / "droid", records), tmp_path / "dataset")
    names = {
        e: f"gs://droid/{e}/recordings/MP4--/{'success' if e % 2 else 'failure'}/{e}.h5" for e in range(4)
    }
    ranges = {name: [[0, 2], [4, 12]] if e else [[0, 12]] for e, name in names.items()}
    (tmp_path / "frames.json").write_text(json.dumps(ranges))
    given = {}

    def train(config, source, directory, *, data, judge, on_first_batch, **_):
        batches = source.batches()
        first, second = next(batches), next(batches)
        on_first_batch(first)
        again = source.loader.at(1)  # without a worker
        given.update(data=data, batches=(first, second, again), contract=source.contracts[0])
        given.update(judge=judge)
        return pioxide.train.run.Trained(Path(directory), Path("none"), 0, 0.0)

    monkeypatch.setattr(pioxide.train.run, "train", train)
    options = ["--data.robot", "droid", "--data.text-model", str(write_text_model(tmp_path / "text.model"))]
    options += ["--data.frames", str(tmp_path / "frames.json"), "--data.where", "file_path ~ h5"]
    options += ["--data.workers", "1", "--train.batch-size", "24", "--train.validation.batches", "1"]
    assert main(["train", "mini", str(tmp_path / "dataset"), "-o", str(tmp_path / "run"), *options]) == 0
    assert "frames: 42 of 54 are used (" in capsys.readouterr().err
    first, second, again = given["batches"]
    assert given["contract"].robot.name == "droid"
    for key in ("tokens", "state", "actions"):
        np.testing.assert_array_equal(getattr(second, key), getattr(again, key))
    inside = (slice(None), 32, 32, 0)
    for slot, image in second.images.items():
        np.testing.assert_array_equal(image, again.images[slot])
    wrist = {
        (123 + 20 * e + 5 * t) % 256
        for e, name in names.items()
        for start, stop in ranges[name]
        for t in range(start, stop)
    }
    assert {*first.images["left_wrist_0_rgb"][inside].tolist()} <= wrist
    assert given["judge"] is not None
    assert (tmp_path / "run/first_batch.png").stat().st_size > 1000
    noted = json.loads((tmp_path / "run/fit/fit.json").read_text())
    assert noted["dataset"]["frames"]["kept"] == 42
    assert given["data"]["frames"] == f"42 of 54 ({noted['dataset']['frames']['digest']})"
    assert given["data"]["where"] == "file_path ~ h5"


@pytest.fixture
def droid(tmp_path):
    return write_droid(tmp_path / "droid")


@pytest.fixture
def out(tmp_path):
    return tmp_path / "dataset"


def shard(source, number=0):
    return source / f"droid-train.tfrecord-{number:05d}-of-00002"


def edited(source, change, number=0):
    content = bytearray(shard(source, number).read_bytes())
    shard(source, number).write_bytes(change(content))


def flip(at):
    def change(content):
        content[at] ^= 4
        return content

    return change


def refused(source, out, *words, kind=DatasetError, mapping=DROID):
    with pytest.raises(kind) as raised:
        indexed(source, out, mapping)
    for word in words:
        assert word in str(raised.value)
    assert not (out / "meta/info.json").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c[:-3], ["ends in record 1"]),
        (lambda c: c[:7], ["ends in the head of record 0"]),
        (flip(100), ["record 0", "CRC"]),
        (flip(2), ["record 0", "damaged length"]),
        (lambda c: framed(b"\x0a\xff\xff\x03")[:-1] + b"0" + c, ["CRC"]),
        (lambda c: framed(b"\x0a\xff\xff\x03") + c, ["record 0", "no Example"]),
        (lambda c: c + c, ["more records than the 2"]),
        (lambda c: b"version https://git-lfs.github.com/spec/v1\noid", ["Git LFS pointer"]),
        (lambda c: b"", ["has 0 records, and 2 are described"]),
    ],
)
def test_a_damaged_shard_is_named_with_its_record(droid, out, change, words):
    edited(droid, change)
    refused(droid, out, shard(droid).name, *words)


def test_a_record_of_absurd_length_is_not_allocated(droid, out):
    head = struct.pack("<Q", 1 << 60)
    edited(droid, lambda c: head + framed(head)[12 + 8 :] + c)
    refused(droid, out, "2 GiB")


def changed(**features):
    steps = droid_steps(0, 4)
    return example({**steps, **{f"steps/{key.replace('__', '/')}": value for key, value in features.items()}})


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (changed(observation__joint_position=np.zeros(27)), ["joint_position has 27 numbers", "of 7"]),
        (changed(action_dict__joint_velocity=np.zeros(21)), ["joint_velocity has 3 steps", "have 4"]),
        (changed(observation__wrist_image_left=[b"GIF89a"] * 4), ["wrist_image_left of step 0", "JPEG"]),
        (changed(observation__wrist_image_left=np.zeros(4)), ["wrist_image_left holds floats"]),
        (changed(language_instruction=[b"ok", b"\xff\xfe", b"", b""]), ["step 1 is not UTF-8"]),
        (example({"steps/is_first": np.zeros(2, bool)}), ["no steps/observation/joint_position"]),
        (example(droid_steps(0, 0)), ["has no steps"]),
    ],
)
def test_a_record_that_is_not_as_described_is_refused_or_left_out(tmp_path, out, record, words):
    source = write_rlds(
        tmp_path / "droid", [[example(droid_steps(0, 4)), record], [example(droid_steps(2, 6))]]
    )
    refused(source, out, "episode 1", "record 1", *words)
    made = indexed(source, out, skip_bad=True)
    assert [index for index, _ in made.left_out] == [1]
    assert [info.index for info in LeRobotDataset.open(out).episodes] == [0, 2]
    assert words[0] in made.left_out[0][1]


def test_a_missing_shard_is_missed_and_its_episodes_can_be_left_out(droid, out):
    shard(droid, 1).unlink()
    refused(droid, out, shard(droid, 1).name, "no such file", "2 records")
    made = indexed(droid, out, skip_bad=True)
    assert (made.episodes, [index for index, _ in made.left_out]) == (2, [2, 3])


def test_a_torn_shard_loses_what_is_behind_the_tear_only(droid, out):
    edited(droid, lambda c: c[:-3])
    made = indexed(droid, out, skip_bad=True)
    assert [index for index, _ in made.left_out] == [1]


def test_records_that_nobody_described_are_not_left_out_as_bad(droid, out):
    """Which records the descriptions mean, and so the numbers of all later episodes, is in doubt."""
    edited(droid, lambda c: c + framed(example(droid_steps(3, 4))))
    with pytest.raises(DatasetError, match="more records than the 2"):
        indexed(droid, out, skip_bad=True)


def test_nan_in_what_is_said_of_an_episode_is_left_out(droid, out):
    features = json.loads((droid / "features.json").read_text())
    said = features["featuresDict"]["features"]["episode_metadata"]["featuresDict"]["features"]
    said["score"] = {"tensor": {"shape": {}, "dtype": "float32", "encoding": "none"}}
    (droid / "features.json").write_text(json.dumps(features))
    scored = [
        {**droid_steps(e, 4), "episode_metadata/score": np.array([np.nan if e else 0.5])} for e in (0, 1)
    ]
    shard(droid).write_bytes(b"".join(framed(example(one)) for one in scored))
    assert indexed(droid, out).episodes == 4


def test_showing_another_picture_is_another_dataset(droid, out, tmp_path):
    indexed(droid, out)
    other = replace(
        DROID, cameras={**DROID.cameras, "wrist_image_left": ("observation/exterior_image_1_left",)}
    )
    indexed(droid, tmp_path / "other", other)
    assert LeRobotDataset.open(out).fingerprint() != LeRobotDataset.open(tmp_path / "other").fingerprint()


def test_lerobot_gets_no_dataset_without_its_pictures(world, tmp_path):
    tokens = world.tokens(tmp_path / "tokens", "pi0_fast")
    with pytest.raises(InputError, match="RLDS records"):
        export_lerobot(tokens, world.dataset.path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_nothing_left_is_said_with_a_reason(droid, out):
    for number in (0, 1):
        edited(droid, flip(2), number)
    with pytest.raises(DatasetError, match="every episode was left out"):
        indexed(droid, out, skip_bad=True)


def test_a_picture_that_can_not_be_decoded_names_frame_and_episode(tmp_path, out):
    torn = [picture(2, 0, 0)[:40]] * 4
    source = write_rlds(tmp_path / "droid", [[changed(observation__wrist_image_left=torn)]])
    indexed(source, out)
    fit(out, tmp_path / "fitted", FitSettings(horizon=HORIZON, vocab_size=300))
    world = Pictured(out, tmp_path / "fitted", write_text_model(tmp_path / "text.model"))
    loader = world.loader(world.source(stated=STATED), batch_size=1)
    with pytest.raises(DatasetError, match=r"episode 0: .*wrist_image_left. frame"):
        loader.at(0)


def test_records_that_changed_or_moved_are_not_read_at_old_places(droid, out, tmp_path):
    indexed(droid, out)
    fit(out, tmp_path / "fitted", FitSettings(horizon=HORIZON, vocab_size=300))
    world = Pictured(out, tmp_path / "fitted", write_text_model(tmp_path / "text.model"))
    source = world.source(stated=STATED)
    edited(droid, lambda c: c + b"1")
    with pytest.raises(DatasetError, match="index it anew"):
        world.loader(source)
    shutil.move(droid, tmp_path / "elsewhere")
    with pytest.raises(DatasetError, match=r"meta/rlds.json: records are not at"):
        world.loader(source)


def test_a_stopped_run_goes_on_and_gives_the_same(droid, out, tmp_path):
    whole = tmp_path / "whole"
    indexed(droid, whole)
    good = shard(droid, 1).read_bytes()
    size = len(good)
    shard(droid, 1).write_bytes(b"x" * size)
    with pytest.raises(DatasetError):
        indexed(droid, out, workers=1)
    shard(droid, 1).write_bytes(good)
    shard(droid, 0).write_bytes(b"x" * shard(droid, 0).stat().st_size)  # which is not read again
    assert indexed(droid, out).episodes == 4
    files = [p.relative_to(whole) for p in whole.rglob("*") if p.is_file()]
    assert all((whole / file).read_bytes() == (out / file).read_bytes() for file in files)
    assert indexed(droid, out).found
    with pytest.raises(SettingsError, match="another mapping"):
        indexed(droid, out, replace(DROID, fps=10.0))


def test_keys_that_are_not_there_are_answered_with_those_that_are(droid, out):
    wrong = replace(DROID, state=("observation/joints",))
    refused(
        droid, out, "observation/joints", "observation/joint_position [7]", kind=InputError, mapping=wrong
    )
    wrong = replace(DROID, cameras={"a": ("observation/joint_position",)})
    refused(droid, out, "expected a image", "wrist_image_left", kind=InputError, mapping=wrong)
    refused(droid, out, "--fps", kind=InputError, mapping=replace(DROID, fps=0.0))
    refused(droid, out, "joint_position", kind=InputError, mapping=replace(DROID, action=()))


def test_descriptions_that_are_not_there_or_are_others_are_named(droid, tmp_path):
    (droid / "features.json").rename(tmp_path / "kept")
    with pytest.raises(DatasetError, match=r"features\.json: no such file"):
        RldsDirectory.open(droid)
    (droid / "features.json").write_text('{"featuresDict": {"features": {"image": {"text": {}}}}}')
    with pytest.raises(DatasetError, match="has no steps"):
        RldsDirectory.open(droid)
    info = json.loads((droid / "dataset_info.json").read_text())
    for key, value in (("fileFormat", "riegeli"), ("name", 3), ("splits", [{"name": "train"}])):
        (droid / "dataset_info.json").write_text(json.dumps(info | {key: value}))
        with pytest.raises(PioxideError):
            RldsDirectory.open(droid)
    with pytest.raises(DatasetError, match=r"its versions are droid"):
        RldsDirectory.open(tmp_path)


def test_the_directory_itself_says_what_to_do_with_it(droid):
    with pytest.raises(DatasetError, match="pioxide index"):
        LeRobotDataset.open(droid)


def counting(source, dtype, values):
    """One episode whose gripper position is whole numbers."""
    written = {**droid_steps(0, len(values)), "steps/observation/gripper_position": np.array(values)}
    write_rlds(source, [[example(written)]])
    features = json.loads((source / "features.json").read_text())
    steps = features["featuresDict"]["features"]["steps"]["sequence"]["feature"]
    observed = steps["featuresDict"]["features"]["observation"]["featuresDict"]["features"]
    observed["gripper_position"]["tensor"]["dtype"] = dtype
    (source / "features.json").write_text(json.dumps(features))
    return source


def test_whole_numbers_stay_the_same_or_are_refused(tmp_path, out):
    counts = [(1 << 24) + 1, -(1 << 24) - 1, (1 << 53) - 1, 0]
    indexed(counting(tmp_path / "counting", "int64", counts), out)
    dataset = LeRobotDataset.open(out)
    assert (dataset.features["observation.state"].dtype, dataset.features["action"].dtype) == (
        "float64",
        "float32",
    )
    states = dataset.read(0, ["observation.state"]).columns["observation.state"]
    assert states[:, 7].tolist() == counts
    assert states[1, 1] == np.float32(0.1 + 0.01)
    for name, dtype, value in (
        ("rounded", "int64", (1 << 53) + 1),
        ("unsigned", "uint64", (1 << 64) - 1),
        ("declared", "float64", (1 << 24) + 1),
    ):
        source = counting(tmp_path / name, dtype, np.array([1, value - (value >> 63 << 64)]))
        refused(source, tmp_path / f"{name} out", "episode 0", f"gripper_position of step 1 is {value};")


def test_integers_come_back_packed_or_not_and_torn_ones_are_refused():
    values = np.array([0, 1, -1, 300, -(1 << 63), (1 << 63) - 1])
    record = example({"a": values})
    assert numbers_of(record, features_of(record)["a"]).tolist() == values.tolist()
    loose = b"".join(varint(1 << 3) + varint(int(value)) for value in values)
    record = field(1, field(1, field(1, b"a") + field(2, field(3, loose))))
    assert numbers_of(record, features_of(record)["a"]).tolist() == values.tolist()
    record = field(1, field(1, field(1, b"a") + field(2, field(3, field(1, b"\xff")))))
    with pytest.raises(FormatError, match="torn"):
        numbers_of(record, features_of(record)["a"])


def as_wire(wire, number, content):
    return varint(number << 3 | wire) + (varint(len(content)) if wire == 2 else b"") + content


def one_feature(content):
    return field(1, field(1, field(1, b"a") + field(2, content)))


WRONG_WIRES = {
    "the features": as_wire(0, 1, varint(7)),
    "an entry": field(1, as_wire(5, 1, b"1234")),
    "a name": field(1, field(1, as_wire(0, 1, varint(97)) + field(2, field(2, field(1, b"1234"))))),
    "a feature": field(1, field(1, field(1, b"a") + as_wire(1, 2, b"12345678"))),
    "a list": one_feature(as_wire(0, 2, varint(1))),
    "floats of 8 bytes": one_feature(field(2, as_wire(1, 1, b"12345678"))),
    "floats as integers": one_feature(field(2, as_wire(0, 1, varint(300)))),
    "integers of 4 bytes": one_feature(field(3, as_wire(5, 1, b"1234"))),
    "texts as integers": one_feature(field(1, as_wire(0, 1, varint(300)))),
    "no number": one_feature(field(2, as_wire(2, 0, b"1234"))),
    "two lists": one_feature(field(2, field(1, b"1234")) + field(3, field(1, b"1"))),
    "a group": one_feature(field(2, as_wire(3, 1, b""))),
}


@pytest.mark.parametrize("record", WRONG_WIRES.values(), ids=WRONG_WIRES)
def test_what_protobuf_would_not_write_is_no_number(record):
    def read():
        values = features_of(record)["a"]
        return (bytes_of if values.kind is Kind.BYTES else numbers_of)(record, values)

    with pytest.raises(FormatError, match="is no Example"):
        read()


def test_fields_that_nobody_knows_are_passed_over():
    loose = b"".join(as_wire(5, 1, np.float32(value).tobytes()) for value in (1.5, -2.0))
    record = as_wire(0, 9, varint(5)) + one_feature(field(8, b"new") + field(2, loose + field(7, b"12345")))
    assert numbers_of(record, features_of(record)["a"]).tolist() == [1.5, -2.0]


def test_a_wrong_wire_type_names_shard_and_record(droid, out):
    record = example(droid_steps(0, 4)) + one_feature(b"").replace(b"a", b"b")
    torn = field(
        1,
        field(1, field(1, b"steps/action_dict/joint_velocity") + field(2, field(2, as_wire(0, 1, b"\x05")))),
    )
    shard(droid).write_bytes(framed(record) + framed(example(droid_steps(1, 5)) + torn))
    refused(droid, out, shard(droid).name, "record 1", "joint_velocity", "wire type 0, expected 2 or 5")


def test_the_command_lists_makes_and_leaves_out(droid, out, capsys):
    assert main(["index", str(droid)]) == 0
    assert "observation/joint_position" in capsys.readouterr().out
    edited(droid, flip(100))
    own = ["--state", "observation/joint_position", "--action", "action_dict/joint_velocity", "--fps", "15"]
    assert main(["index", str(droid), "-o", str(out), *own]) == 2
    assert "CRC" in capsys.readouterr().err
    assert main(["index", str(droid), "-o", str(out), *own, "--skip-bad"]) == 3
    dataset = LeRobotDataset.open(out)
    assert dataset.features["observation.state"].names == tuple(f"joint_position_{i}" for i in range(7))
    assert [k for k, f in dataset.features.items() if f.dtype == "image"] == [
        f"observation.images.{name}"
        for name in ("exterior_image_1_left", "exterior_image_2_left", "wrist_image_left")
    ]
    assert all(f.level is not Level.FAULT for f in check_dataset(dataset, FrameColumns.guess(dataset)))
