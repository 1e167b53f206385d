"""Recipes of our own: any dataset, two robots that many people have, and a size for a processor's cores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pioxide.family import Family
from pioxide.train.config import (
    ActionLoss,
    AdamW,
    CosineSchedule,
    Ema,
    Lora,
    ModelSettings,
    Remat,
    Size,
    Targets,
    TrainConfig,
)
from pioxide.train.contracts import Numbers
from pioxide.train.recipes.openpi import BASES
from pioxide.train.recipes.recipe import Data, Recipe


def finetune() -> Recipe:
    """π0.5 on your dataset, all parameters: 80 GB on one device, less on several (train.fsdp)."""
    return Recipe(
        train=TrainConfig(base=f"{BASES}/pi05_base", steps=20_000, ema=Ema(decay=0.999)),
    )


def finetune_lora() -> Recipe:
    """π0.5 on your dataset by low-rank updates: one device of 24 GB."""
    made = finetune()
    return replace(
        made,
        train=replace(made.train, batch_size=8, lora=Lora(language=16, action=32), ema=Ema(decay=0.0)),
    )


def insulated() -> Recipe:
    """π0.5 on your dataset with knowledge insulation, all parameters: as finetune, and some more memory."""
    made = finetune()
    loss = ActionLoss(targets=Targets.INSULATED, flow_num_repeats=5)
    return replace(made, train=replace(made.train, loss=loss))


def so101() -> Recipe:
    """π0.5 on the SO-101 arm by low-rank updates."""
    made = finetune_lora()
    return replace(made, data=Data(robot="so101"))


def g1() -> Recipe:
    """π0.5 on the Unitree G1."""
    return replace(finetune(), data=Data(robot="unitree-g1"))


def mini() -> Recipe:
    """A million parameters from noise, for small simulated tasks on a processor's cores."""
    return Recipe(
        numbers=Numbers(family=Family.PI0, horizon=8, text_len=32),
        data=Data(cut_vocabulary=True, whole_numbers=True, workers=0, tokens=272, scale=6.0),
        train=TrainConfig(
            steps=2000,
            batch_size=64,
            augment=False,
            loss=ActionLoss(answer_len=48),
            optimizer=AdamW(weight_decay=1e-4),
            schedule=CosineSchedule(peak=1e-3, end=5e-5, warmup=100),
            ema=Ema(decay=0.99, warmup=True),
            model=ModelSettings(size=Size.MINI, dtype="float32", frozen_dtype="float32", remat=Remat.NONE),
        ),
    )


OWN: dict[str, Callable[[], Recipe]] = {
    one.__name__.replace("_", "-"): one for one in (finetune, finetune_lora, insulated, so101, g1, mini)
}
