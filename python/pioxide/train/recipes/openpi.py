"""What openpi fine-tunes, by its configurations' names: the same numbers, from the same base checkpoints.

openpi has low-rank updates of π0 and π0-FAST on LIBERO alone, as `_low_mem_finetune`; other recipes whose
names end in `_lora` are full ones with openpi's ranks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pioxide.family import Family
from pioxide.train.config import CosineSchedule, Ema, Lora, ModelSettings, Size, TrainConfig
from pioxide.train.contracts import Numbers
from pioxide.train.recipes.recipe import Data, Recipe

BASES = "gs://openpi-assets/checkpoints"


def _recipe(
    base: str,
    numbers: Numbers,
    *,
    robot: str,
    steps: int = 30_000,
    batch_size: int = 32,
    schedule: CosineSchedule | None = None,
    ema: float = 0.99,
    lora: Lora | None = None,
) -> Recipe:
    return Recipe(
        numbers=numbers,
        data=Data(robot=robot),
        train=TrainConfig(
            base=f"{BASES}/{base}",
            steps=steps,
            batch_size=batch_size,
            schedule=CosineSchedule(decay=30_000) if schedule is None else schedule,
            ema=Ema(decay=0.0 if lora else ema),
            lora=lora or Lora(),
        ),
    )


def _by_lora(recipe: Recipe) -> Recipe:
    """Returns a recipe of π0 or π0.5 with openpi's low-rank updates in both experts, and no average."""
    return replace(recipe, train=replace(recipe.train, lora=BOTH, ema=Ema(decay=0.0)))


FLAT = CosineSchedule(peak=5e-5, end=5e-5, warmup=10_000, decay=1_000_000)
DROID = CosineSchedule(peak=5e-5, end=5e-5, warmup=1000, decay=1_000_000)
BOTH = Lora(language=16, action=32)


def pi0_libero() -> Recipe:
    """π0 on LIBERO."""
    return _recipe("pi0_base", Numbers(family=Family.PI0), robot="libero")


def pi0_libero_lora() -> Recipe:
    """π0 on LIBERO by low-rank updates, on one GPU of 24 GB; openpi's pi0_libero_low_mem_finetune."""
    return _recipe("pi0_base", Numbers(family=Family.PI0), robot="libero", lora=BOTH)


def pi05_libero() -> Recipe:
    """π0.5 on LIBERO: chunks of 10, no state in the prompt."""
    numbers = Numbers(family=Family.PI05, horizon=10, state_in_text=False)
    return _recipe("pi05_base", numbers, robot="libero", batch_size=256, schedule=FLAT, ema=0.999)


def pi05_libero_lora() -> Recipe:
    """π0.5 on LIBERO by low-rank updates, in batches of 32."""
    made = _by_lora(pi05_libero())
    return replace(made, train=replace(made.train, batch_size=32))


def pi0_fast_libero() -> Recipe:
    """π0-FAST on LIBERO."""
    numbers = Numbers(family=Family.PI0_FAST, horizon=10, text_len=180)
    return _recipe("pi0_fast_base", numbers, robot="libero")


def pi0_fast_libero_lora() -> Recipe:
    """π0-FAST on LIBERO by low-rank updates."""
    numbers = Numbers(family=Family.PI0_FAST, horizon=10, text_len=180)
    return _recipe("pi0_fast_base", numbers, robot="libero", lora=Lora(language=16))


def pi0_aloha_sim() -> Recipe:
    """π0 on the simulated ALOHA's cube transfer, in absolute joints."""
    numbers = Numbers(family=Family.PI0, prompt="Transfer cube")
    return _recipe("pi0_base", numbers, robot="aloha-sim", steps=20_000)


def pi0_aloha_pen_uncap() -> Recipe:
    """π0 on ALOHA's pen."""
    numbers = Numbers(family=Family.PI0, prompt="uncap the pen")
    return _recipe("pi0_base", numbers, robot="aloha", steps=20_000)


def pi05_aloha_pen_uncap() -> Recipe:
    """π0.5 on ALOHA's pen."""
    numbers = Numbers(family=Family.PI05, prompt="uncap the pen")
    return _recipe("pi05_base", numbers, robot="aloha", steps=20_000, batch_size=64)


def pi0_aloha_sim_lora() -> Recipe:
    """π0 on the simulated ALOHA's cube transfer by low-rank updates."""
    return _by_lora(pi0_aloha_sim())


def pi0_aloha_pen_uncap_lora() -> Recipe:
    """π0 on ALOHA's pen by low-rank updates."""
    return _by_lora(pi0_aloha_pen_uncap())


def pi05_aloha_pen_uncap_lora() -> Recipe:
    """π0.5 on ALOHA's pen by low-rank updates, in batches of 32."""
    made = _by_lora(pi05_aloha_pen_uncap())
    return replace(made, train=replace(made.train, batch_size=32))


def pi05_droid_finetune() -> Recipe:
    """π0.5 for DROID on a dataset of one's own."""
    numbers = Numbers(family=Family.PI05, horizon=16)
    return _recipe("pi05_droid", numbers, robot="droid", steps=20_000)


def pi05_droid_finetune_lora() -> Recipe:
    """π0.5 for DROID on a dataset of one's own by low-rank updates."""
    return _by_lora(pi05_droid_finetune())


def pi05_full_droid_finetune() -> Recipe:
    """π0.5 on all of DROID, joint positions."""
    numbers = Numbers(family=Family.PI05, horizon=16)
    return _recipe(
        "pi05_base", numbers, robot="droid-jointpos", steps=100_000, batch_size=256, schedule=DROID
    )


def pi0_fast_full_droid_finetune() -> Recipe:
    """π0-FAST on all of DROID, joint positions."""
    numbers = Numbers(family=Family.PI0_FAST, horizon=16, text_len=180)
    return _recipe(
        "pi0_fast_base", numbers, robot="droid-jointpos", steps=100_000, batch_size=256, schedule=DROID
    )


def pi05_droid_jointpos_polaris() -> Recipe:
    """π0.5 for DROID, joint positions, adapted to PolaRiS: further updates of the released checkpoint."""
    return _polaris("pi05_droid_jointpos_polaris", Numbers(family=Family.PI05, horizon=15))


def pi0_fast_droid_jointpos_polaris() -> Recipe:
    """π0-FAST for DROID, joint positions, adapted to PolaRiS: further updates of the released checkpoint."""
    numbers = Numbers(family=Family.PI0_FAST, horizon=10, text_len=180)
    return _polaris("pi0_fast_droid_jointpos_polaris", numbers)


def pi0_droid_jointpos_polaris() -> Recipe:
    """π0 for DROID, joint positions, adapted to PolaRiS: further updates of the released checkpoint."""
    return _polaris("pi0_droid_jointpos_polaris", Numbers(family=Family.PI0, horizon=10, text_len=100))


def pi0_droid_jointpos_100k_polaris() -> Recipe:
    """π0 after 100,000 updates on DROID, joint positions, adapted to PolaRiS: further updates of it."""
    numbers = Numbers(family=Family.PI0, horizon=10, text_len=100)
    return _polaris("pi0_droid_jointpos_100k_polaris", numbers)


def _polaris(name: str, numbers: Numbers) -> Recipe:
    return _recipe(
        f"polaris/{name}", numbers, robot="droid-jointpos", steps=1000, batch_size=128, schedule=DROID
    )


def debug() -> Recipe:
    """A few updates of a tiny π0, to see that everything runs."""
    return _debug(Family.PI0)


def debug_pi05() -> Recipe:
    """A few updates of a tiny π0.5."""
    return _debug(Family.PI05)


def debug_pi0_fast() -> Recipe:
    """A few updates of a tiny π0-FAST."""
    return _debug(Family.PI0_FAST)


def _debug(family: Family) -> Recipe:
    return Recipe(
        numbers=Numbers(family=family, horizon=6),
        data=Data(cut_vocabulary=True, workers=0),
        train=TrainConfig(
            steps=10,
            batch_size=2,
            schedule=CosineSchedule(peak=1e-3, end=1e-4, warmup=2),
            model=ModelSettings(size=Size.TINY, dtype="float32", frozen_dtype="float32"),
        ),
    )


OPENPI: dict[str, Callable[[], Recipe]] = {
    one.__name__: one
    for one in (
        pi0_libero,
        pi0_libero_lora,
        pi05_libero,
        pi05_libero_lora,
        pi0_fast_libero,
        pi0_fast_libero_lora,
        pi0_aloha_sim,
        pi0_aloha_sim_lora,
        pi0_aloha_pen_uncap,
        pi0_aloha_pen_uncap_lora,
        pi05_aloha_pen_uncap,
        pi05_aloha_pen_uncap_lora,
        pi05_droid_finetune,
        pi05_droid_finetune_lora,
        pi05_full_droid_finetune,
        pi0_fast_full_droid_finetune,
        pi05_droid_jointpos_polaris,
        pi0_fast_droid_jointpos_polaris,
        pi0_droid_jointpos_polaris,
        pi0_droid_jointpos_100k_polaris,
        debug,
        debug_pi05,
        debug_pi0_fast,
    )
}
