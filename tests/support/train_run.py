"""Trains the toy policy and prints its losses: `-m support.train_run RUN STEPS [RANK HOSTS PORT] [judge]`."""

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path

import jax

from pioxide.models import make_mesh
from pioxide.train import Checkpoints, Logging, Validation, train
from pioxide.train.hosts import join_hosts
from pioxide.train.validate import HeldOut
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
        for name, number in numbers.items():
            print("JUDGED", step, name, number, flush=True)


class Mine(ToySource):
    """This host's rows of each batch."""

    def batch(self, step):
        whole = super().batch(step)
        rows = len(whole) // jax.process_count()
        mine = slice(jax.process_index() * rows, (jax.process_index() + 1) * rows)
        parts = {f.name: getattr(whole, f.name) for f in dataclasses.fields(whole)}
        return dataclasses.replace(whole, **jax.tree.map(lambda x: x[mine], parts))


def run(
    directory: Path, steps: int, say: Callable[[int, str], None], every: int = EVERY, *, judge: bool = False
) -> None:
    """Trains, or goes on; judges two batches at the end."""
    config = toy_config(
        steps=steps,
        logging=Logging(every=1, tensorboard=False),
        checkpoints=Checkpoints(every=every, keep=2, keep_every=0),
        model=TINY,
        validation=Validation(every=0, batches=2, flow_steps=1),
    )
    unseen = HeldOut(config, Mine("pi0", image_size=28, seed=1, end=2), make_mesh(1)) if judge else None
    data = Mine("pi0", image_size=28)
    train(config, data, directory, resume=True, reporters=(Losses(say),), judge=unseen)


if __name__ == "__main__":
    directory, steps, *rest = sys.argv[1:]
    judge = "judge" in rest
    if len(rest) > judge:
        rank, hosts, port = map(int, rest[:3])
        join_hosts(f"127.0.0.1:{port}", hosts, rank)
    run(Path(directory), int(steps), lambda at, loss: print("LOSS", at, loss, flush=True), judge=judge)
