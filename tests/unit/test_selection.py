import pytest

from pioxide.data.selection import split_episodes
from pioxide.errors import InputError


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
