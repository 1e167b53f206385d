import json
from dataclasses import replace

import numpy as np
import pytest

from pioxide.codec import Advantage
from pioxide.contract import CameraSlot, Contract, Pipeline, openpi_contract
from pioxide.data import TaskChoice
from pioxide.data.advantages import AdvantageRule, Advantages
from pioxide.data.loader import Loader, LoaderSettings, Source
from pioxide.data.loader.rows import Widths
from pioxide.data.subtasks import Subtasks
from pioxide.errors import ContractError, DatasetError, InputError, OverflowingChunkError
from pioxide.family import Family
from pioxide.robots import tabletop
from support.loading import HORIZON, LENGTHS, SIZE, WIDTH, make_pictured
from support.videos import (
    CAMERAS,
    FPS,
    number_in,
    picture_number,
    write_still_images,
    write_v3_video,
    write_v21_video,
)

STARTS = np.cumsum([0, *LENGTHS]).tolist()
ROWS = STARTS[-1]
FAMILIES = ("pi0", "pi05", "pi0_fast")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_pictured(tmp_path_factory.mktemp("world"))


def rows_of(batch, slot="base_0_rgb", camera=0):
    """Which rows of the dataset the pictures of a batch are of."""
    shift = picture_number(camera, 0)
    return [number_in(image, SIZE) - shift for image in batch.images[slot]]


def in_order(world, family="pi0", sources=None, **settings):
    options = {"shuffle": False, "repeat": False, "drop_last": False} | settings
    with world.loader(sources, family, **options) as loader:
        return list(loader.batches())


def joined(batches, name):
    return np.concatenate([getattr(batch, name) for batch in batches])


def same(one, two):
    for name in ("tokens", "token_mask", "state", "actions", "action_mask", "ar_mask", "loss_mask", "source"):
        a, b = getattr(one, name), getattr(two, name)
        assert (a is None) == (b is None), name
        assert a is None or (a.dtype == b.dtype and np.array_equal(a, b)), name
    assert list(one.images) == list(two.images)
    for slot in one.images:
        assert np.array_equal(one.images[slot], two.images[slot])
        assert np.array_equal(one.image_masks[slot], two.image_masks[slot])
    return True


def test_a_batch_has_the_shapes_that_are_agreed_on(world):
    batch = world.loader().at(0)
    assert len(batch) == 8
    assert list(batch.images) == ["base_0_rgb", "left_wrist_0_rgb"]  # nothing fills the third slot
    for slot, image in batch.images.items():
        assert (image.shape, image.dtype) == ((8, SIZE, SIZE, 3), np.uint8)
        assert batch.image_masks[slot].tolist() == [True] * 8
    assert (batch.tokens.shape, batch.tokens.dtype) == ((8, 48), np.int32)
    assert (batch.state.shape, batch.state.dtype) == ((8, WIDTH), np.float32)
    assert (batch.actions.shape, batch.actions.dtype) == ((8, HORIZON, WIDTH), np.float32)
    assert (batch.action_mask.shape, batch.action_mask.dtype) == ((8, HORIZON, WIDTH), bool)
    assert batch.ar_mask is None
    assert batch.source.tolist() == [0] * 8
    assert world.loader(family="pi05").at(0).state is None
    fast = world.loader(family="pi0_fast").at(0)
    assert fast.actions is fast.action_mask is fast.state is None
    assert fast.loss_mask.shape == fast.ar_mask.shape == (8, 250)


@pytest.mark.parametrize("write", [write_v3_video, write_v21_video, write_still_images])
def test_pictures_numbers_and_prompts_are_of_one_row(tmp_path, write):
    """Joint 0 of state and action is the row's number, and so is the picture."""
    world = make_pictured(tmp_path, write=write)
    pipeline = Pipeline(world.contract())
    with world.loader(seed=3) as loader:
        for step, batch in zip(range(20), loader.batches(), strict=False):
            rows = np.array(rows_of(batch))
            assert rows.min() >= 0
            assert rows_of(batch, "left_wrist_0_rgb", 1) == rows.tolist()
            episode = np.searchsorted(STARTS, rows, side="right") - 1
            ends = np.array(STARTS)[episode + 1]
            state = pipeline.numbers.state.invert(batch.state[:, :3].astype(np.float64))
            assert np.allclose(state[:, 0], rows, atol=1e-3)
            actions = pipeline.numbers.actions.invert(batch.actions[..., :3].astype(np.float64))
            expected = np.minimum(rows[:, None] + np.arange(HORIZON), ends[:, None] - 1)
            assert np.allclose(actions[..., 0], expected, atol=1e-3)
            there = rows[:, None] + np.arange(HORIZON) < ends[:, None]
            assert (batch.action_mask[..., :3] == there[..., None]).all()
            assert not batch.action_mask[..., 3:].any()
            assert not batch.actions[..., 3:].any()
            tasks = [world.dataset.episodes[e].tasks[0] for e in episode]
            assert [text.rstrip("\n") for text in loader.texts(batch)] == tasks
            assert step < 20


@pytest.mark.parametrize("family", FAMILIES)
def test_every_row_equals_what_tokenize_writes(world, tmp_path, family):
    tokens = world.tokens(tmp_path / "tokens", family)
    rows = {(int(r["episode"]), int(r["frame"])): r for r in tokens}
    batches = in_order(world, family)
    assert sum(map(len, batches)) == len(rows) == ROWS
    keys = [(e, f) for e, n in enumerate(LENGTHS) for f in range(n)]
    expected = {name: np.stack([rows[key][name] for key in keys]) for name in rows[0, 0]}
    assert np.array_equal(joined(batches, "tokens"), expected["tokens"])
    assert np.array_equal(joined(batches, "token_mask"), expected["mask"])
    if family == "pi0_fast":
        assert np.array_equal(joined(batches, "ar_mask"), expected["ar_mask"])
        assert np.array_equal(joined(batches, "loss_mask"), expected["loss_mask"])
    else:
        assert np.array_equal(joined(batches, "actions")[..., :3], expected["actions"])
    if family == "pi0":
        assert np.array_equal(joined(batches, "state")[:, :3], expected["state"])


@pytest.mark.parametrize("family", FAMILIES)
def test_shards_as_source_give_the_same_batches(world, tmp_path, family):
    tokens = world.tokens(tmp_path / "tokens", family)
    source = replace(world.source(family), tokens=tokens)
    with world.loader(family=family) as plain, world.loader(source, family) as made:
        assert all(same(plain.at(i), made.at(i)) for i in (0, 1, 9, 17))


def test_shards_of_some_episodes_give_rows_of_those(world, tmp_path):
    tokens = world.tokens(tmp_path / "tokens", "pi0", episodes="1,2", limit=20)
    found = in_order(world, sources=replace(world.source(), tokens=tokens))
    assert [row for batch in found for row in rows_of(batch)] == [*range(30, 42), *range(42, 50)]
    # The window of the last row that was tokenized goes on in its episode.
    assert found[-1].action_mask[-1, :, 0].all()
    found = in_order(world, sources=replace(world.source(episodes=(2, 3)), tokens=tokens))
    assert [row for batch in found for row in rows_of(batch)] == [*range(42, 50)]


def test_shards_of_another_contract_are_refused(world, tmp_path):
    tokens = world.tokens(tmp_path / "tokens", "pi0")
    source = replace(world.source(stated={"action_horizon": 9}), tokens=tokens)
    with pytest.raises(ContractError, match="action_horizon"):
        world.loader(source)


def test_each_row_comes_once_a_pass_in_another_order(world):
    with world.loader(batch_size=15) as loader:
        rows = [row for i in range(10) for row in rows_of(loader.at(i))]
    assert sorted(rows[:ROWS]) == sorted(rows[ROWS:]) == list(range(ROWS))
    assert rows[:ROWS] != rows[ROWS:]
    assert rows[:ROWS] != list(range(ROWS))


def test_the_seed_decides_the_order(world):
    with world.loader(seed=1) as one, world.loader(seed=1) as again, world.loader(seed=2) as other:
        assert same(one.at(3), again.at(3))
        assert rows_of(one.at(3)) != rows_of(other.at(3))


@pytest.mark.parametrize("step", [0, 1, 13, 400])
def test_batches_start_anywhere_as_if_those_before_had_been_asked_for(world, step):
    with world.loader() as loader:
        running = loader.batches(step)
        assert all(same(next(running), loader.at(step + i)) for i in range(3))


def test_hosts_get_their_slices_of_one_batch(world):
    with world.loader(batch_size=12, seed=5) as whole:
        expected = [rows_of(whole.at(i)) for i in range(15)]
    parts = [world.loader(batch_size=12, seed=5, host=host, hosts=3) for host in range(3)]
    found = [[row for part in parts for row in rows_of(part.at(i))] for i in range(15)]
    assert found == expected
    assert [rows_of(next(part.batches(7))) for part in parts] == [
        expected[7][4 * host : 4 * host + 4] for host in range(3)
    ]


def test_hosts_that_go_through_the_data_once_get_as_many_batches(world):
    options = {"batch_size": 12, "hosts": 3, "shuffle": False, "repeat": False, "drop_last": False}
    parts = [list(world.loader(host=host, **options).batches()) for host in range(3)]
    assert [len(part) for part in parts] == [ROWS // 12] * 3
    rows = [row for step in zip(*parts, strict=True) for batch in step for row in rows_of(batch)]
    assert rows == list(range(ROWS // 12 * 12))


def test_texts_that_are_cut_are_said_once_and_counted(world):
    with world.loader(world.source("pi0_fast", stated={"text_len": 40}), "pi0_fast") as loader:
        with pytest.warns(UserWarning, match="8 of 8 rows fill all 40 tokens.*the last of the actions"):
            batches = [batch for batch, _ in zip(loader.batches(), range(3), strict=False)]
        assert loader.cut >= 24
        assert all(batch.token_mask.all() for batch in batches)


def test_chosen_episodes_are_the_only_ones_and_a_window_does_not_leave_them(world):
    source = world.source(episodes=(3, 1))
    found = in_order(world, sources=source)
    assert [row for batch in found for row in rows_of(batch)] == [*range(30, 42), *range(67, 75)]
    last = found[1].action_mask[3]  # row 41, the end of episode 1
    assert last[:, 0].tolist() == [True] + [False] * (HORIZON - 1)


def test_a_pass_without_end_has_no_length_and_one_with_an_end_has(world):
    with world.loader() as loader, pytest.raises(InputError, match="for ever"):
        len(loader)
    with world.loader(repeat=False) as loader:
        assert len(loader) == len(list(loader.batches())) == ROWS // 8
    assert [len(batch) for batch in in_order(world)] == [8] * (ROWS // 8) + [ROWS % 8]
    with pytest.raises(InputError, match="75 rows make no batch of 100"):
        world.loader(repeat=False, batch_size=100)


def second_arm(tmp_path):
    """Another robot: one camera of another name, other statistics."""
    return make_pictured(
        tmp_path / "second", (20, 9), write=write_v21_video, cameras=("observation.images.side",), seed=9
    )


def test_two_robots_are_mixed_by_weight_each_by_its_own_contract(world, tmp_path):
    other = second_arm(tmp_path)
    slots = (CameraSlot("base_0_rgb", "observation.images.side"), CameraSlot("left_wrist_0_rgb", None))
    slots = (*slots, CameraSlot("right_wrist_0_rgb", None))
    sources = [
        world.source(weight=3.0),
        Source(other.dataset, other.contract(cameras=slots), weight=1.0, name="second"),
    ]
    with world.loader(sources, batch_size=40) as loader:
        batch = loader.at(2)
        assert loader.names == ("dataset", "second")
        assert np.concatenate([loader.at(i).source for i in range(10)]).mean() == pytest.approx(
            0.25, abs=0.01
        )
        mine = batch.source == 0
        assert 5 <= (~mine).sum() <= 15
        assert batch.image_masks["base_0_rgb"].all()
        assert np.array_equal(batch.image_masks["left_wrist_0_rgb"], mine)
        assert not batch.images["left_wrist_0_rgb"][~mine].any()
        rows = np.array(rows_of(batch))
        for source, contract in enumerate(loader.contracts):
            of = batch.source == source
            state = Pipeline(contract).numbers.state.invert(batch.state[of, :3].astype(np.float64))
            assert np.allclose(state[:, 0], rows[of], atol=1e-3)
    assert not np.array_equal(*[contract.norm_stats["state"].mean for contract in loader.contracts])


def test_without_weights_sources_count_by_their_frames(world, tmp_path):
    other = second_arm(tmp_path)
    side = CameraSlot("base_0_rgb", "observation.images.side")
    slots = (side, CameraSlot("left_wrist_0_rgb", None), CameraSlot("right_wrist_0_rgb", None))
    sources = [world.source(), Source(other.dataset, other.contract(cameras=slots))]
    with world.loader(sources, batch_size=52) as loader:
        drawn = np.concatenate([loader.at(i).source for i in range(8)])
        assert drawn.mean() == pytest.approx(29 / 104, abs=0.01)
        assert loader.rows == 104
    with pytest.raises(InputError, match="some sources have a weight"):
        world.loader([replace(sources[0], weight=1.0), sources[1]])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"action_horizon": 9}, "action_horizon"),
        ({"image_size": 16}, "image_size"),
        ({"model_dim": 7}, "model_dim"),
    ],
)
def test_sources_of_two_models_are_refused(world, changes, reason):
    with pytest.raises(ContractError, match=reason):
        world.loader([world.source(), world.source(stated=changes)])
    moved = world.source(stated={"cameras": tuple(reversed(world.contract().cameras))})
    with pytest.raises(ContractError, match="image slots"):
        world.loader([world.source(), moved])


def test_a_robots_cameras_are_found_by_their_ending_or_named(world):
    named = {
        "cameras": (CameraSlot("base_0_rgb", "images/wrist"), CameraSlot("left_wrist_0_rgb", "images/top"))
    }
    batch = world.loader(world.source(stated=named)).at(0)
    rows = rows_of(batch, "left_wrist_0_rgb", 0)
    assert rows == rows_of(batch, "base_0_rgb", 1)
    strange = {"cameras": (CameraSlot("base_0_rgb", "cam"),)}
    with pytest.raises(ContractError, match=r"nothing shows 'cam'.*observation.images.top"):
        world.loader(world.source(stated=strange))
    batch = world.loader(world.source(stated=strange, cameras={"cam": CAMERAS[0]})).at(0)
    assert rows_of(batch) == rows
    for chosen, reason in (
        ({"cam": "nowhere"}, "'nowhere' is no camera"),
        ({"other": CAMERAS[0]}, "no camera is called 'other'"),
        ({"cam": None}, "nothing shows 'cam'"),
    ):
        with pytest.raises(ContractError, match=reason):
            world.loader(world.source(stated=strange, cameras=chosen))


def test_a_slot_that_is_black_in_training_is_attended_to(world):
    batch = world.loader(world.source(stated={"absent_camera": "black"})).at(0)
    assert list(batch.images) == ["base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb"]
    assert batch.image_masks["right_wrist_0_rgb"].all()
    assert not batch.images["right_wrist_0_rgb"].any()


def test_images_that_are_resized_as_lerobot_does_are_floats(world):
    batch = world.loader(world.source(stated={"resize": "interpolate", "absent_camera": "black"})).at(0)
    assert batch.images["base_0_rgb"].dtype == np.float32
    assert (batch.images["right_wrist_0_rgb"] == -1).all()
    assert min(rows_of(batch)) >= 0


def test_exact_images_are_those_of_a_policys_pipeline(world):
    """What a policy makes of the decoded frame, to the bit."""
    from pioxide.contract import Resize
    from pioxide.data.footage import video_places
    from pioxide.data.images import Fit
    from pioxide.data.video import VideoReader

    pipeline = Pipeline(world.contract(), world.tokenizer)
    with world.loader(exact_images=True) as loader:
        batch = loader.at(1)
    row = rows_of(batch)[0]
    episode = int(np.searchsorted(STARTS, row, side="right")) - 1
    observation = {"observation.state": np.zeros(3), "task": "fold"}
    for key in CAMERAS:
        place = video_places(world.dataset, key, [episode])[episode]
        whole = Fit(64, Resize.ANTIALIAS, exact=True)  # the frame is 48 by 64: nothing is resized
        time = place.start + (row - STARTS[episode]) / FPS
        observation[key] = VideoReader().frames(world.path, place.file, [time], whole, fps=FPS)[0, 8:56]
    inputs = pipeline.apply(observation)
    for slot in inputs.images:
        assert np.array_equal(inputs.images[slot][0], batch.images[slot][0])


def test_one_instruction_may_stand_in_place_of_all_tasks(world):
    dataset = world.dataset.with_tasks(TaskChoice("pick it up", task_for="all"))
    with world.loader(replace(world.source(), dataset=dataset)) as loader:
        assert {text.strip() for text in loader.texts(loader.at(0))} == {"pick it up"}


def test_an_empty_task_is_the_contracts_default_or_an_error(tmp_path):
    import pyarrow.parquet as pq

    world = make_pictured(tmp_path, (9, 8))
    tasks = pq.read_table(world.path / "meta/tasks.parquet")
    at = tasks.column_names.index("__index_level_0__")
    pq.write_table(
        tasks.set_column(at, "__index_level_0__", [["", "stack"]]), world.path / "meta/tasks.parquet"
    )
    with pytest.raises(InputError, match="task 0 is ''"):
        world.loader()
    with world.loader(world.source(stated={"default_prompt": "tidy up"})) as loader:
        assert {text.strip() for text in loader.texts(loader.at(0))} == {"tidy up", "stack"}


def test_times_that_are_not_their_frames_are_refused(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    from support.datasets import rewrite, with_column

    world = make_pictured(tmp_path, (9, 8))
    file = world.path / "data/chunk-000/file-001.parquet"
    assert pq.read_table(file)["episode_index"].to_pylist() == [1] * 8
    # Times that go on from the episode before: the second one's would be counted twice.
    rewrite(file, lambda t: with_column(t, "timestamp", pa.array(np.float32((np.arange(8) + 9) / FPS))))
    with pytest.raises(DatasetError, match=r"file-001.parquet: episode 1: frame 0 has timestamp 0.9000"):
        world.loader()


def test_a_chunk_without_tokens_names_dataset_episode_and_frame(tmp_path):
    world = make_pictured(tmp_path, (20, 9))
    import pyarrow as pa

    from support.datasets import rewrite, with_column

    def spoil(table):
        actions = np.array(table["action"].to_pylist(), np.float32)
        actions[3, 1] = 1e7
        kind = table["action"].type
        return with_column(table, "action", pa.array(actions.tolist(), kind))

    rewrite(world.path / "data/chunk-000/file-000.parquet", spoil)
    loader = world.loader(world.source("pi0_fast", on_overflow="error"), "pi0_fast", batch_size=29)
    with pytest.raises(OverflowingChunkError, match=r"^dataset: episode 0, the chunk from frame"):
        loader.at(0)
    with world.loader(family="pi0_fast", batch_size=29) as loader:
        assert len(loader.at(0)) == 29


def test_a_robot_of_other_joints_is_refused(world):
    robot = replace(world.contract().robot, hz=3 * FPS)
    with pytest.raises(ContractError, match=r"(?s)hz.*--robot"):
        world.loader(world.source(stated={"robot": robot}))
    with pytest.raises(ContractError, match="model_dim"):
        world.loader(world.source(stated={"model_dim": 2}))
    with pytest.raises(ContractError, match="cameras"):
        world.loader(Source(world.dataset, replace(world.contract(), cameras=Contract().cameras)))


def test_a_state_has_to_fit_the_model_only_where_it_is_read_as_a_vector():
    contract = replace(
        openpi_contract("pi05"), robot=tabletop(targets=3), action_horizon=8, text_len=64, model_dim=2
    )
    assert Widths.of(contract).model_dim == 2
    with pytest.raises(ContractError, match="8 numbers of state"):
        Widths.of(replace(contract, family=Family.PI0))


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": 8, "hosts": 3}, "can't be shared alike"),
        ({"batch_size": 8, "host": 2, "hosts": 2}, "host is 2"),
        ({"batch_size": 8, "workers": -1}, "workers"),
    ],
)
def test_settings_that_can_not_be_are_refused(settings, reason):
    with pytest.raises(InputError, match=reason):
        LoaderSettings(**settings)


def test_sources_that_can_not_be_are_refused(world):
    for changes, reason in (
        ({"episodes": ()}, "no episodes"),
        ({"weight": 0.0}, "weight is 0.0"),
    ):
        with pytest.raises(InputError, match=reason):
            world.source(**changes)
    with pytest.raises(InputError, match="no episode 9"):
        world.loader(world.source(episodes=(1, 9)))
    with pytest.raises(InputError, match="at least one source"):
        Loader([], LoaderSettings(4), world.tokenizer)


def test_a_dataset_without_a_rate_shows_no_video(tmp_path):
    world = make_pictured(tmp_path, (9, 8))
    contract = world.contract()
    info = json.loads((world.path / "meta/info.json").read_text())
    (world.path / "meta/info.json").write_text(json.dumps(info | {"fps": 0}))
    with pytest.raises(DatasetError, match="fps"):
        world.loader(Source(world.dataset, contract))


def spans(*said):
    return [dict(zip(("episode", "from", "to", "text"), one, strict=True)) for one in said]


@pytest.fixture(scope="module")
def saying(world):
    """Subtasks of all of episode 0 but its last 5 frames, and of all of episode 1."""
    of = spans((0, 0, 10, "reach out"), (0, 10, 25, "close_it"), (1, 0, 12, "reach out"))
    return Subtasks.of_spans(of, world.dataset)


def test_rows_act_by_their_subtask_and_some_ask_for_it(world, saying):
    said = {"subtask_style": "instead"}
    source = world.source("pi05", stated=said, subtasks=saying, episodes=(0, 1))
    with pytest.warns(UserWarning, match="5 of 42 frames have no subtask and are left out"):
        loader = world.loader(
            source, "pi05", batch_size=64, subtask_share=0.4, repeat=False, shuffle=False, drop_last=False
        )
    with loader:
        assert loader.rows == 37
        first, second = loader.batches()
        texts = loader.texts(first) + loader.texts(second)
        tokenizer = world.tokenizer
    answers = np.concatenate([first.answer, second.answer])
    masks = np.concatenate([first.answer_mask, second.answer_mask])
    real = np.concatenate([first.action_mask, second.action_mask]).any(axis=(1, 2))
    words = ["reach out"] * 10 + ["close it"] * 15 + ["reach out"] * 12
    assert real.tolist() == [True] * 37 + [False] * 37
    for text, word in zip(texts[:37], words, strict=True):
        assert text.startswith(f"Task: {word}, State: ")
        assert text.endswith(";\nAction: ")
    assert not masks[:37].any()
    told = [
        task for one in world.dataset.scan((), (0, 1)) for task in np.array(one.prompts[0])[one.prompts[1]]
    ]
    asked = zip(texts[37:], [*told[:25], *told[30:]], words, answers[37:], masks[37:], strict=True)
    for text, task, word, ids, mask in asked:
        assert text.startswith(f"Task: {task}, State: ")
        assert text.endswith(";\nSubtask: ")
        assert tokenizer.decode(ids[mask][:-1]) == word
        assert ids[mask][-1] == tokenizer.eos_id
        assert not mask.all()


def test_the_share_of_rows_that_ask_is_what_was_said(world, saying):
    source = world.source("pi05", stated={"subtask_style": "instead"}, subtasks=saying, episodes=(1,))
    with world.loader(source, "pi05", batch_size=50, subtask_share=0.3) as loader:
        batches = [loader.at(step) for step in range(4)]
    asking = [int((~batch.action_mask.any(axis=(1, 2))).sum()) for batch in batches]
    assert asking == pytest.approx([15] * 4, abs=1)
    assert {batch.answer.shape for batch in batches} == {batches[0].answer.shape}


@pytest.mark.parametrize(
    ("said", "says"),
    [
        (spans((0, 0, 10, "a"), (0, 9, 12, "b")), "frame 9 of episode 0 is in 'a' already"),
        (spans((9, 0, 1, "a")), "no episode 9"),
        (spans((0, 0, 31, "a")), "0 <= from < to <= 30"),
        (spans((0, 3, 3, "a")), "got 3 to 3"),
        (spans((0, 0, 3, " ")), "expected words"),
        (spans((0, 0.5, 3, "a")), "from: expected a whole number"),
        ([{"episode": 0}], "expected episode, from, to and text"),
        ([], "expected a list of spans"),
    ],
)
def test_spans_that_cannot_be_meant_are_refused(world, said, says):
    with pytest.raises(InputError, match=says):
        Subtasks.of_spans(said, world.dataset)


def test_subtasks_that_are_missing_or_of_another_model_are_refused(world, saying):
    for family, subtasks, says in (
        ("pi05", None, "asks for subtasks, and the source has none"),
        ("pi0", saying, "π0 writes no subtasks"),
    ):
        source = world.source(family, stated={"subtask_style": "instead"}, subtasks=subtasks)
        with pytest.raises((InputError, ContractError), match=says):
            world.loader(source, family, subtask_share=0.5)
    with pytest.raises(InputError, match="holds numbers"):
        Subtasks.of_column("action", world.dataset)


@pytest.fixture(scope="module")
def judged(world):
    """Good are the first 20 frames of episode 0 and all of episode 1."""
    said = [
        {"episode": 0, "from": 0, "to": 20, "advantage": "positive"},
        {"episode": 0, "from": 20, "to": 30, "advantage": "negative"},
        {"episode": 1, "advantage": "positive"},
    ]
    return Advantages.of_file(said, world.dataset)


CONDITIONED = {"advantage_style": "text_or_none"}


@pytest.mark.parametrize("family", FAMILIES)
def test_prompts_of_rows_are_those_that_a_policy_asks_with(world, judged, family):
    source = world.source(family, stated=CONDITIONED, advantages=judged, episodes=(0, 1))
    batches = in_order(world, family, source, batch_size=42)
    (batch,) = batches
    pipeline = Pipeline(source.contract, world.tokenizer, world.codec(family))
    states = np.concatenate(
        [one.columns["observation.state"] for one in world.dataset.scan(("observation.state",), (0, 1))]
    )
    tasks = [t for one in world.dataset.scan((), (0, 1)) for t in np.array(one.prompts[0])[one.prompts[1]]]
    normalised = pipeline.numbers.apply_state(states)
    good = [True] * 20 + [False] * 10 + [True] * 12
    words = [Advantage.POSITIVE if one else Advantage.NEGATIVE for one in good]
    for i, (task, word) in enumerate(zip(tasks, words, strict=True)):
        (asked,), cut = pipeline.tokenize([task], normalised[i : i + 1], word)
        mask = batch.token_mask[i] if batch.loss_mask is None else batch.token_mask[i] & ~batch.loss_mask[i]
        assert batch.tokens[i][mask].tolist() == asked.tolist()
        assert f"dvantage: {word}" in world.tokenizer.decode(asked)
        assert not cut.any()


def test_a_share_of_the_prompts_leaves_the_advantage_out_whoever_makes_the_batch(world, judged):
    def texts(steps, **settings):
        options = {"batch_size": 40, "advantage_dropout": 0.3, "seed": 7} | settings
        with world.loader(source, "pi05", **options) as loader:
            batches = loader.batches(steps.start)
            return [loader.texts(next(batches)) for _ in steps]

    source = world.source("pi05", stated=CONDITIONED, advantages=judged, episodes=(0, 1))
    whole = texts(range(12))
    plain = [["Advantage" not in text for text in batch] for batch in whole]
    assert np.mean(plain) == pytest.approx(0.3, abs=0.06)
    assert len({tuple(batch) for batch in plain}) == 12  # other rows in each batch
    assert texts(range(10, 12)) == whole[10:]
    halves = [texts(range(2), host=host, hosts=2) for host in (0, 1)]
    assert [one + two for one, two in zip(*halves, strict=True)] == whole[:2]
    assert texts(range(2), seed=8) != whole[:2]


def test_advantages_that_a_contract_or_a_recording_lacks_are_refused(world, judged):
    for stated, settings, changes, says in (
        (CONDITIONED, {}, {}, "has none; say which frames are good"),
        (
            {"advantage_style": None},
            {},
            {"advantages": judged, "episodes": (0,)},
            "that prompts don't hold it",
        ),
        (CONDITIONED, {}, {"advantages": judged}, "25 of 25 frames of episode 2 have no advantage"),
        (
            {"advantage_style": "text"},
            {"advantage_dropout": 0.3},
            {"advantages": judged, "episodes": (0,)},
            "30% of the prompts are to leave",
        ),
        (
            CONDITIONED | {"text_len": 28},
            {},
            {"advantages": judged, "episodes": (0,)},
            "takes 29 tokens, and text_len is 28",
        ),
    ):
        source = replace(world.source("pi0", stated=stated), **changes)
        with pytest.raises((InputError, ContractError), match=says):
            world.loader(source, "pi0", **settings)
    with pytest.raises(InputError, match="advantage_dropout is 1"):
        LoaderSettings(4, advantage_dropout=1)


def span(episode, start, stop, advantage):
    return {"episode": episode, "from": start, "to": stop, "advantage": advantage}


@pytest.mark.parametrize(
    ("said", "rule", "says"),
    [
        ([span(0, 0, 10, "positive"), span(0, 9, 12, "negative")], {}, "frame 9 of episode 0 has an"),
        ([span(9, 0, 1, "positive")], {}, "no episode 9"),
        ([span(0, 0, 31, "positive")], {}, "0 <= from < to <= 30"),
        ([span(0, 0, 3, "good")], {}, "expected positive or negative, got 'good'"),
        ([span(0, True, 3, "positive")], {}, "from: expected a whole number"),
        ([{"episode": 0, "from": 3, "advantage": "positive"}], {}, "episode, from, to and advantage"),
        ([span(0, 0, 3, "positive")], {"threshold": 0.5}, "says good or bad by itself"),
        ([span(0, 0, 3, "negative")], {}, "calls no frame good"),
        ([{"episode": 3, "values": [0.5] * 7}], {"threshold": 0.0}, "expected 8 values.*got 7"),
        ([{"episode": 3, "values": [float("nan")] * 8}], {"threshold": 0}, r"values\[0\]: expected a number"),
        ([{"episode": 3, "values": [0.5] * 8}], {}, "neither 0 nor 1: say above which number"),
        ([{"episode": 3, "values": [0.5] * 8}], {"positive_share": 0.3}, "100% of its frames have 0.5"),
        ([{"episode": 3, "values": [1] * 8}, span(0, 0, 3, "positive")], {}, "episode and values"),
        ({}, {}, "expected a list of spans or values"),
    ],
)  # fmt: skip
def test_advantages_that_cannot_be_meant_are_refused(world, said, rule, says):
    with pytest.raises(InputError, match=says):
        Advantages.of_file(said, world.dataset, AdvantageRule(**rule))


def test_the_best_of_each_task_are_good_and_so_is_what_a_person_did(world):
    dataset = world.dataset
    rng = np.random.default_rng(0)
    values = {e: rng.normal(3 * e, 1, n).tolist() for e, n in enumerate(LENGTHS)}
    said = [{"episode": e, "values": v} for e, v in values.items()]
    found = Advantages.of_file(said, dataset, AdvantageRule(positive_share=0.3))
    by_task = {}
    for one in dataset.scan(()):
        for task, value, good in zip(one.task_index, values[one.index], found.frames[one.index], strict=True):
            by_task.setdefault(int(task), []).append((value, good))
    assert len(by_task) > 1
    for each in by_task.values():
        good = [value for value, one in each if one]
        assert len(good) == pytest.approx(0.3 * len(each), abs=1)
        assert min(good) > max(value for value, one in each if not one)
    above = Advantages.of_file(said, dataset, AdvantageRule(threshold=0.5), episodes=(0, 1))
    assert {e: of.tolist() for e, of in above.frames.items()} == {
        e: [int(v > 0.5) for v in values[e]] for e in (0, 1)
    }
