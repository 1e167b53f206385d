"""Recipes say what openpi's configurations of the same name say, and can be built."""

import pytest

from pioxide.cli.options import read_robot
from pioxide.train.config import Lora
from pioxide.train.recipes import RECIPES

# base, robot, horizon, text, batch, updates, peak and end of the learning rate, decay, average; openpi's.
OPENPI = {
    "pi0_libero": ("pi0_base", "libero", 50, 0, 32, 30_000, 2.5e-5, 2.5e-6, 30_000, 0.99),
    "pi05_libero": ("pi05_base", "libero", 10, 0, 256, 30_000, 5e-5, 5e-5, 1_000_000, 0.999),
    "pi0_fast_libero": ("pi0_fast_base", "libero", 10, 180, 32, 30_000, 2.5e-5, 2.5e-6, 30_000, 0.99),
    "pi0_aloha_sim": ("pi0_base", "aloha-sim", 50, 0, 32, 20_000, 2.5e-5, 2.5e-6, 30_000, 0.99),
    "pi0_aloha_pen_uncap": ("pi0_base", "aloha", 50, 0, 32, 20_000, 2.5e-5, 2.5e-6, 30_000, 0.99),
    "pi05_aloha_pen_uncap": ("pi05_base", "aloha", 50, 0, 64, 20_000, 2.5e-5, 2.5e-6, 30_000, 0.99),
    "pi05_droid_finetune": ("pi05_droid", "droid", 16, 0, 32, 20_000, 2.5e-5, 2.5e-6, 30_000, 0.99),
    "pi05_full_droid_finetune": (
        *("pi05_base", "droid-jointpos", 16, 0, 256, 100_000),
        *(5e-5, 5e-5, 1_000_000, 0.99),
    ),
    "pi0_fast_full_droid_finetune": (
        *("pi0_fast_base", "droid-jointpos", 16, 180, 256, 100_000),
        *(5e-5, 5e-5, 1_000_000, 0.99),
    ),
}
OPENPI |= {
    name: (name, "droid-jointpos", horizon, text, 128, 1000, 5e-5, 5e-5, 1_000_000, 0.99)
    for name, horizon, text in (
        ("pi05_droid_jointpos_polaris", 15, 0),
        ("pi0_fast_droid_jointpos_polaris", 10, 180),
        ("pi0_droid_jointpos_polaris", 10, 100),
        ("pi0_droid_jointpos_100k_polaris", 10, 100),
    )
}


@pytest.mark.parametrize("name", OPENPI)
def test_a_recipe_has_openpis_numbers(name):
    made = RECIPES[name]()
    train, numbers = made.train, made.numbers
    rate = train.schedule
    assert (
        train.base.rsplit("/", 1)[-1],
        made.data.robot,
        *(numbers.horizon, numbers.text_len, train.batch_size, train.steps),
        *(rate.peak, rate.end, rate.decay, train.ema.decay),
    ) == OPENPI[name]
    assert train.lora == Lora()


@pytest.mark.parametrize("name", [name for name in RECIPES if name.endswith("_lora")])
def test_a_low_rank_recipe_is_the_full_one_without_an_average(name):
    made, full = RECIPES[name](), RECIPES[name.removesuffix("_lora")]()
    assert (made.numbers, made.data) == (full.numbers, full.data)
    assert (made.train.base, made.train.schedule) == (full.train.base, full.train.schedule)
    assert made.train.ema.decay == 0
    ranks = Lora(language=16, action=32 if made.numbers.family.is_flow else 0)
    assert made.train.lora == ranks


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_of_a_robot_that_there_is(name):
    made = RECIPES[name]()
    assert not made.data.robot or read_robot(made.data.robot)
    assert RECIPES[name].__doc__
