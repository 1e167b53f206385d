"""Which episodes are used: numbers, what is left out, conditions on what is known of one, held-out ones."""

import json

import pyarrow as pa
import pytest

from pioxide.data import EpisodeChoice, LeRobotDataset, select_episodes, split_episodes
from pioxide.data.where import parse
from pioxide.errors import InputError
from support.datasets import episodes, rewrite, write_v3, write_v21

V3_EPISODES = "meta/episodes/chunk-000/file-000.parquet"
LENGTHS = (7, 4, 9, 12)  # tasks: fold the towel, stack the cups, fold the towel, fold the towel


@pytest.mark.parametrize(
    ("selection", "chosen"),
    [
        ("0:4,!2", [0, 1, 3]),
        ("!2", [0, 1, 3, 4, 5]),
        ("!0:3, !5", [3, 4]),
        ("!1,0:3", [0, 2]),
        ("2,!:2", [2]),
    ],
)
def test_episodes_are_left_out_by_number(selection, chosen):
    assert select_episodes(selection, range(6)) == chosen


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ("!9", "'9' names no episode"),
        ("2,!2", "none is left"),
        ("!", "'' is not a number"),
        ("!!2", "'!2' is not"),
    ],
)
def test_what_leaves_out_nothing_or_all_is_refused(selection, message):
    with pytest.raises(InputError, match=message):
        select_episodes(selection, range(6))


def add_metadata(root, v3):
    """Who recorded an episode, and whether it went well; unknown for the third."""
    operator, success = ["ann", "bob", None, "ann"], [True, False, None, True]
    if v3:

        def more(table):
            return table.append_column("operator", pa.array(operator)).append_column(
                "success", pa.array(success)
            )

        rewrite(root / V3_EPISODES, more)
        return
    lines = (root / "meta/episodes.jsonl").read_text().splitlines()
    rows = [json.loads(line) | {"operator": o} for line, o in zip(lines, operator, strict=True)]
    rows = [row | {"success": s} for row, s in zip(rows, success, strict=True)]
    (root / "meta/episodes.jsonl").write_text("\n".join(map(json.dumps, rows)))


@pytest.fixture(params=[False, True], ids=["v2.1", "v3.0"])
def dataset(request, tmp_path):
    root = (write_v3 if request.param else write_v21)(tmp_path / "d", episodes(LENGTHS))
    add_metadata(root, request.param)
    return LeRobotDataset.open(root)


@pytest.mark.parametrize(
    ("where", "chosen"),
    [
        ("length >= 7", [0, 2, 3]),
        ("length>4 and length<12", [0, 2]),
        ("seconds < 0.1", [1]),
        ("episode != 2", [0, 1, 3]),
        ("task ~ FOLD", [0, 2, 3]),
        ("task !~ fold", [1]),
        ("task = stack the cups", [1]),
        ("task == 'stack the cups' or length = 12", [1, 3]),
        ("operator = ann and length > 7", [3]),
        ("operator != ann", [1]),
        ("success = true", [0, 3]),
        ("success = False", [1]),
        ("'operator' ~ \"o\" or success = true and length = 7", [0, 1]),
    ],
)
def test_episodes_are_chosen_by_a_condition(dataset, where, chosen):
    assert EpisodeChoice(where=where).of(dataset) == chosen


def test_numbers_and_condition_both_have_to_allow(dataset):
    assert EpisodeChoice("0:3", "task ~ fold").of(dataset) == [0, 2]


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (
            "lenght > 3",
            "nothing is known of 'lenght'; there are episode, length, seconds, task, operator, ",
        ),
        ("length > many", "length is compared with a number"),
        ("operator > 3", "operator is a text"),
        ("success = maybe", "success is compared with true or false"),
        ("success > 1", "true or false"),
        ("length > 100", "true of none of the 4 episodes"),
        ("length", "'length' is no comparison; write it as"),
        ("length > 3 and", "'nothing' is no comparison"),
        ("> 3", "'> 3' is no comparison"),
        ("length > > 3", "is no comparison"),
        ("task ~ pick and place", "'place' is no comparison"),
        ("task ~ 'open", "can't be read from \"'open\""),
        ("__import__('os').system('x')", "is no comparison"),
    ],
)
def test_a_condition_that_says_nothing_is_refused(dataset, where, message):
    with pytest.raises(InputError, match=message):
        EpisodeChoice(where=where).of(dataset)


def test_the_lists_statistics_are_no_columns_to_choose_by(dataset):
    assert set(dataset.episode_columns()) == {"operator", "success"}


def test_an_episode_that_can_not_be_judged_stays_to_be_told_of(tmp_path):
    root = write_v21(tmp_path / "d", episodes(LENGTHS))
    lines = (root / "meta/episodes.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    rows[1]["length"] = "four"
    for row in rows[2:]:
        del row["tasks"]
    (root / "meta/episodes.jsonl").write_text("\n".join(map(json.dumps, rows)))
    dataset = LeRobotDataset.open(root)
    assert EpisodeChoice(where="length > 9").of(dataset) == [1, 3]
    assert EpisodeChoice(where="task ~ cups").of(dataset) == [1]
    (root / dataset.episode(2).file).unlink()  # its task stands in its frames only
    assert EpisodeChoice(where="task ~ cups").of(dataset) == [1, 2]


def test_a_condition_is_read_once():
    condition = parse("a = 1 and b = 2 or a = 3")
    assert condition.names == ("a", "b")
    assert [condition.holds({"a": a, "b": b}) for a, b in ((1, 2), (1, 3), (3, 0), (None, 2))] == [
        True,
        False,
        True,
        False,
    ]


def test_a_split_is_whole_rising_and_repeatable():
    split = split_episodes([9, 3, 5, 1, 7, 3], 0.4)
    assert sorted(split.train + split.held_out) == [1, 3, 5, 7, 9]
    assert len(split.held_out) == 2
    assert split == split_episodes([1, 3, 5, 7, 9], 0.4)
    assert any(
        split_episodes(range(50), 0.1, seed=s).held_out != split_episodes(range(50), 0.1).held_out
        for s in (1, 2)
    )


def test_more_episodes_move_few_to_the_other_side():
    before, after = split_episodes(range(100), 0.1), split_episodes(range(110), 0.1)
    assert len(set(before.held_out) - set(after.held_out)) <= 2


def test_nothing_is_held_out_unless_asked_for_and_at_least_one_when():
    assert split_episodes([4, 2], 0.0) == ([2, 4], [])
    assert len(split_episodes(range(30), 0.001).held_out) == 1


@pytest.mark.parametrize(("episodes", "share"), [([1], 0.1), ([1, 2], 1.0), ([1, 2], -0.1), ([1, 2, 3], 0.9)])
def test_a_split_that_leaves_nothing_is_refused(episodes, share):
    with pytest.raises(InputError):
        split_episodes(episodes, share)
