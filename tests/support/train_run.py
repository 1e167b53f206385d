"""Trains the toy policy and prints its losses: `python -m support.train_run RUN STEPS [RANK HOSTS PORT]`."""

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path

import jax

from pioxide.train import Checkpoints, Logging, train
from pioxide.train.hosts import join_hosts
from support.training import TINY, ToySource, toy_config

# Updates between checkpoints.
EVERY = 2


class Losses:
    """Says each update's loss, to the bit."""

    def __init__(self, say: Callable[[int, str], None]) -> None:
        self.say = say

    def updated(self, report):
        self.say(report.step, report.loss.hex())

    def judged(self, step, numbers):
        pass


class Mine(ToySource):
    """This host's rows of each batch."""

    def batch(self, step):
        whole = super().batch(step)
        rows = len(whole) // jax.process_count()
        mine = slice(jax.process_index() * rows, (jax.process_index() + 1) * rows)
        parts = {f.name: getattr(whole, f.name) for f in dataclasses.fields(whole)}
        return dataclasses.replace(whole, **jax.tree.map(lambda x: x[mine], parts))


def run(directory: Path, steps: int, say: Callable[[int, str], None], every: int = EVERY) -> None:
    """Trains, or goes on."""
    config = toy_config(
        steps=steps,
        logging=Logging(every=1, tensorboard=False),
        checkpoints=Checkpoints(every=every, keep=2, keep_every=0),
        model=TINY,
    )
    train(config, Mine("pi0", image_size=28), directory, resume=True, reporters=(Losses(say),))


if __name__ == "__main__":
    if len(sys.argv) > 3:
        rank, hosts, port = map(int, sys.argv[3:6])
        join_hosts(f"127.0.0.1:{port}", hosts, rank)
    run(Path(sys.argv[1]), int(sys.argv[2]), lambda step, loss: print("LOSS", step, loss, flush=True))
