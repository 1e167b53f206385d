import pytest
from hypothesis import given
from hypothesis import strategies as st

from pioxide.data.selection import select_episodes
from pioxide.errors import InputError
from pioxide.shards.plan import ShardTask, Slice, make_plan

LENGTHS = st.lists(st.integers(0, 40), min_size=1, max_size=30)


@given(LENGTHS, st.integers(1, 60), st.none() | st.integers(1, 300))
def test_plan_holds_every_frame_once_in_order(lengths: list[int], size: int, limit: int | None) -> None:
    total = min(sum(lengths), limit) if limit is not None else sum(lengths)
    plan = make_plan(enumerate(lengths), shard_frames=size, limit=limit)
    slices = [s for task in plan.tasks for s in task.slices]
    assert [s.episode for s in slices] == sorted({s.episode for s in slices})
    assert plan.frames == total == sum(s.frames for s in slices)
    if limit is None:  # an episode whose entry is wrong has no frames, and is read to say so
        assert len(slices) == len(lengths)
    # Only the last slice may be cut.
    assert all(s.frames == lengths[s.episode] for s in slices[:-1])
    assert [task.number for task in plan.tasks] == list(range(len(plan.tasks)))


@given(LENGTHS, st.integers(1, 60))
def test_shard_exceeds_its_size_only_for_one_long_episode(lengths: list[int], size: int) -> None:
    if sum(lengths) == 0:
        return
    plan = make_plan(enumerate(lengths), shard_frames=size)
    for task, following in zip(plan.tasks, [*plan.tasks[1:], None], strict=True):
        assert task.frames <= size or len(task.slices) == 1
        # It closed because the next episode would not have fitted.
        if following is not None:
            assert task.frames + following.slices[0].frames > size


@pytest.mark.parametrize(
    ("episodes", "length", "shards"), [(1, 10, 1), (40, 357, 8), (3000, 350, 64), (60_000, 350, 321)]
)
def test_default_size_gives_every_core_something(episodes: int, length: int, shards: int) -> None:
    plan = make_plan((i, length) for i in range(episodes))
    assert len(plan.tasks) == pytest.approx(shards, rel=0.05)
    # A limit counts, not what it cuts off.
    assert len(make_plan(((i, length) for i in range(episodes)), limit=10).tasks) == 1


def test_no_episodes_are_an_error() -> None:
    with pytest.raises(InputError, match="nothing to tokenize"):
        make_plan([])


def test_episodes_after_a_shard_do_not_change_it() -> None:
    short = make_plan(enumerate([5, 5, 5, 5]), shard_frames=10)
    long = make_plan(enumerate([5, 5, 5, 5, 5, 5]), shard_frames=10)
    assert long.tasks[:2] == short.tasks
    assert short.tasks[1] == ShardTask(1, (Slice(2, 5), Slice(3, 5)))
    assert short.tasks[1].name == "shard-00001.parquet"


@pytest.mark.parametrize(
    ("selection", "chosen"),
    [
        ("", [0, 1, 2, 3, 4, 5]),
        ("0:2", [0, 1]),
        ("4:", [4, 5]),
        (":1", [0]),
        ("3", [3]),
        ("5, 0:2,1", [0, 1, 5]),
        (":", [0, 1, 2, 3, 4, 5]),
        ("4:100", [4, 5]),
    ],
)
def test_selection(selection: str, chosen: list[int]) -> None:
    assert select_episodes(selection, range(6)) == chosen


@pytest.mark.parametrize("selection", ["6", "7:9", "2:2", "a", "-1", "1-3", "1,,2", "0:1:2", "1.5"])
def test_selection_that_names_nothing_is_refused(selection: str) -> None:
    with pytest.raises(InputError, match="episodes "):
        select_episodes(selection, range(6))
