"""Compiles an update for all devices: `python -m support.compile_step FAMILY ROWS FILE`.

Writes the program's text to the file, and to standard output how many bytes the parameters have.
"""

import sys
from dataclasses import replace
from pathlib import Path

import jax

from pioxide.models import make_mesh, sharding
from pioxide.models.tuning import PLAIN
from pioxide.train import Ema
from pioxide.train.network import model_config, plan_network
from pioxide.train.place import place_batch
from pioxide.train.step import make_step, state_shapes
from support.training import TINY, ToySource, toy_config

# Small parameters would be kept whole: then nothing travels that could be wrong.
for split in (sharding.parameter_spec, sharding.parameter_sharding):
    split.__kwdefaults__["smallest_bytes"] = 1024

# The program is looked at and not run, so it need not be fast.
FAST_COMPILE = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def main(family: str, rows: int, file: str) -> None:
    size = replace(TINY, dtype="bfloat16", remat="layers")
    settings = toy_config(batch_size=rows, fsdp=jax.device_count(), model=size, ema=Ema(decay=0))
    data = ToySource(family, rows=rows, model_dim=5, image_size=28)
    mesh = make_mesh(settings.fsdp)
    model = model_config(data.contract, settings.model, data.tokenizer.vocab_size)
    plan = plan_network(settings, model, mesh, PLAIN)
    state = state_shapes(settings, plan.trained, plan.frozen)
    step = make_step(settings, plan.graph, state)
    program = step.lower(state, place_batch(data.batch(0), mesh)).compile(FAST_COMPILE)
    leaves = jax.tree.leaves(plan.trained)
    whole = [leaf.size * leaf.dtype.itemsize for leaf in leaves]
    split = [n for n, leaf in zip(whole, leaves, strict=True) if not leaf.sharding.is_fully_replicated]
    print(sum(whole), sum(split))
    Path(file).write_text(program.as_text())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
