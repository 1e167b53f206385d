"""`pioxide train`: a recipe and a dataset to a policy."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from tyro.conf import FlagCreatePairsOff

from pioxide.cli import output
from pioxide.cli.options import left_open, parsed
from pioxide.errors import InputError
from pioxide.files import refuse_address
from pioxide.train.config import TrainConfig
from pioxide.train.contracts import Numbers
from pioxide.train.recipes import RECIPES, Data, Recipe

if TYPE_CHECKING:
    from pioxide.cli.parts import Part
    from pioxide.cli.progress import FrameProgress
    from pioxide.cli.run_data import RunData
    from pioxide.cli.training import TrainingProgress
    from pioxide.codec import ActionCodec, TextTokenizer
    from pioxide.contract import Contract
    from pioxide.data.loader import Batch, CacheSettings, Loader
    from pioxide.train.report import Reporter
    from pioxide.train.run import Judge


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train a policy on a robot dataset, by a recipe whose every field can be changed here.

    RUN/checkpoints/N is what `pioxide eval`, `pioxide convert` and `Policy.load` read.
    """

    dataset: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DATASET")]
    """A LeRobot dataset, v2.0, v2.1 or v3.0, with its videos; at an address (s3://, gs://, hf://) too. Or a
    file (.yaml, .json) of several robots' datasets, each with its own statistics, cameras and weights."""

    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="RUN")]
    """Directory of the run: checkpoints, settings, contract, logs, the first batch as a picture."""

    resume: FlagCreatePairsOff[bool] = False
    """Go on with the run where its last checkpoint is."""

    hosts: Annotated[int | None, left_open("N")] = None
    """Hosts that train together, each of which runs this command on the same dataset and RUN. SLURM tells
    what is not said of the three, MPI all but the coordinator."""

    host: Annotated[int | None, left_open("I")] = None
    """Which of them this is, from 0."""

    coordinator: Annotated[str | None, left_open("HOST:PORT")] = None
    """Where host 0 is to be reached by the others."""

    numbers: Numbers = field(default_factory=Numbers)
    """What the policy's contract says."""

    data: Data = field(default_factory=Data)
    """How the dataset is read."""

    train: TrainConfig = field(default_factory=TrainConfig)
    """The training."""

    @classmethod
    def parse(cls, arguments: Sequence[str], prog: str) -> Train:
        """Reads a recipe's name and then what is changed of it."""
        name = arguments[0] if arguments else "--help"
        if name.startswith("-"):
            shown = "\n".join(f"  {name:<32} {make.__doc__}" for name, make in RECIPES.items())
            print(f"usage: {prog} RECIPE DATASET -o RUN [options]\n\nrecipes:\n{shown}\n")
            print(f"{prog} RECIPE --help lists a recipe's options and what it sets them to")
            raise SystemExit(0 if name in ("-h", "--help") else 2)
        if name not in RECIPES:
            raise InputError(f"there is no recipe {name!r}; there are {', '.join(RECIPES)}")
        recipe: Recipe = RECIPES[name]()
        given = cls(
            dataset=tyro.MISSING,
            output=tyro.MISSING,
            numbers=recipe.numbers,
            data=recipe.data,
            train=recipe.train,
        )
        return parsed(
            cls,
            list(arguments[1:]),
            default=given,
            prog=f"{prog} {name}",
            description=f"{inspect.cleandoc(cls.__doc__ or '')}\n\n{output.COMMON}",
            config=(tyro.conf.AvoidSubcommands,),
        )

    def __call__(self) -> int:
        """Trains, and says where the policy is."""
        refuse_address(self.output)
        import jax

        from pioxide.cli import main
        from pioxide.cli.run_data import Preparation
        from pioxide.cli.training import TrainingProgress
        from pioxide.train.hosts import join_hosts
        from pioxide.train.picture import draw_batch
        from pioxide.train.run import train

        join_hosts(self.coordinator, self.hosts, self.host)
        made = Preparation(self.dataset, self.output, self.numbers, self.data, self.train)()
        config = self.train
        if made.subtasks is not None:
            config = replace(config, loss=replace(config.loss, subtasks=True))
        first = jax.process_index() == 0
        progress = TrainingProgress(config)
        seed = config.seed if config.augment else None

        def draw(batch: Batch) -> None:
            draw_batch(batch, made.tokenizer, self.output / "first_batch.png", seed=seed)

        with (
            closing(progress),
            self._loader(
                made,
                lambda part: part.training,
                seed=config.seed,
                workers=self.data.workers,
                dropout=self.data.advantage_dropout,
            ) as batches,
        ):
            trained = train(
                config,
                Sourced(batches, made.tokenizer, made.codec),
                self.output,
                data=made.chosen,
                resume=self.resume,
                reporters=self._reporters(config, progress) if first else (),
                judge=self._judge(made, config),
                on_first_batch=draw if first else None,
            )
        if first:
            found = "made before" if isnan(trained.loss) else f"loss {trained.loss:.4f}"
            print(f"{trained.checkpoint}: {trained.steps:,} updates, {found}")
            names = list(made.contracts)
            which = f" --robot {names[0]}" if len(names) > 1 else ""
            print(f"\nnext: pioxide convert {trained.checkpoint} TARGET --to lerobot{which}")
        return main.OK

    def _loader(
        self,
        made: RunData,
        of: Callable[[Part], tuple[int, ...]],
        *,
        seed: int = 0,
        workers: int = 0,
        dropout: float = 0.0,
    ) -> Loader:
        """Opens the batches of some episodes of each dataset."""
        import jax

        from pioxide.cli.progress import FrameProgress
        from pioxide.data.loader import Loader, LoaderSettings, Source

        sources = [
            Source(
                part.dataset,
                made.contracts[part.robot.name],
                columns=part.fitted.columns,
                episodes=of(part),
                weight=part.weight,
                on_overflow="clip",
                subtasks=made.subtasks,
                advantages=made.advantages,
            )
            for part in made.parts
            if of(part)
        ]
        loss = self.train.loss
        settings = LoaderSettings(
            self.train.batch_size,
            seed=seed,
            workers=workers,
            host=jax.process_index(),
            hosts=jax.process_count(),
            answer_len=loss.answer_len if loss.tokens else 0,
            subtask_share=self.data.subtask_share if made.subtasks is not None else 0.0,
            advantage_dropout=dropout if made.advantages is not None else 0.0,
        )
        with FrameProgress("keeping pictures") as shown:
            return Loader(sources, settings, made.tokenizer, made.codec, cache=self._cache(shown))

    def _judge(self, made: RunData, config: TrainConfig) -> Judge | None:
        """Returns what judges the held-out episodes, of each robot apart; None where there are none."""
        from pioxide.models import make_mesh
        from pioxide.train.validate import HeldOut, HeldOutByRobot

        judges: dict[str, HeldOut] = {}
        for name in dict.fromkeys(part.robot.name for part in made.parts if part.held_out):

            def unseen(part: Part, name: str = name) -> tuple[int, ...]:
                return part.held_out if part.robot.name == name else ()

            with self._loader(made, unseen) as rows:
                source = Sourced(rows, made.tokenizer, made.codec)
                judges[name] = HeldOut(config, source, make_mesh(config.fsdp))
        if not judges:
            return None
        return HeldOutByRobot(judges) if len(made.contracts) > 1 else next(iter(judges.values()))

    def _reporters(self, config: TrainConfig, progress: TrainingProgress) -> tuple[Reporter, ...]:
        """Returns who is told of the losses."""
        from pioxide.train.config import Tracker
        from pioxide.train.run import LOGS, settings_of
        from pioxide.train.tensorboard import Service, TensorBoard

        reporters: list[Reporter] = [progress]
        if config.logging.tensorboard:
            reporters.append(TensorBoard(self.output / LOGS))
        if config.logging.tracker is not Tracker.NONE:
            reporters.append(Service(config.logging.tracker, config, settings_of(config), self.output))
        return tuple(reporters)

    def _cache(self, shown: FrameProgress) -> CacheSettings | None:
        from pioxide.data.loader import CacheSettings

        if not self.data.cache:
            return None

        def on_frames(done: int, total: int) -> None:
            if shown.total != total:
                shown.begin(total, done)
            else:
                shown.advance(done - shown.done)

        return CacheSettings(Path(self.data.cache), on_frames=on_frames)


class Sourced:
    """A loader, with the tokenizers it was made with."""

    def __init__(self, loader: Any, tokenizer: TextTokenizer, codec: ActionCodec | None) -> None:
        self.loader, self.tokenizer, self.codec = loader, tokenizer, codec

    @property
    def contracts(self) -> Sequence[Contract]:
        """Returns the loader's."""
        return self.loader.contracts

    def batches(self, start_step: int = 0) -> Any:
        """Returns the loader's."""
        return self.loader.batches(start_step)
