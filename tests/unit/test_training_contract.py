"""The contract of a run: how wide the network's actions are, with a base and without."""

from dataclasses import replace

import pytest

from pioxide.contract import openpi_contract
from pioxide.errors import InputError
from pioxide.family import Family
from pioxide.robots import tabletop
from pioxide.train.config import Size
from pioxide.train.contracts import Numbers, run_contract
from support.training import toy_stats

FITTED = replace(
    openpi_contract("pi05"), robot=tabletop(targets=3), norm_stats=toy_stats(), delta_mask=(True, True)
)


@pytest.mark.parametrize(
    ("family", "based", "said", "width"),
    [
        (Family.PI05, False, 0, 2),  # its state is text
        (Family.PI0, False, 0, 8),
        (Family.PI0, True, 0, 32),
        (Family.PI0, True, 8, 8),  # a base that was trained here
    ],
)
def test_actions_are_as_wide_as_the_network_they_are_for(family, based, said, width):
    numbers = Numbers(family=family, horizon=8, model_dim=said)
    assert run_contract(FITTED, numbers, Size.MINI, based=based).model_dim == width


def test_a_delay_that_leaves_nothing_to_learn_is_refused():
    with pytest.raises(InputError, match="expected 0 to 7 actions of 8"):
        run_contract(FITTED, Numbers(horizon=8, max_delay=8), Size.MINI)
