"""`pioxide train`: a recipe and a dataset to a policy."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from tyro.conf import FlagCreatePairsOff

from pioxide.cli import output
from pioxide.cli.options import left_open, parsed, slot_keys
from pioxide.errors import InputError
from pioxide.files import make_directory, refuse_address, sha256_of
from pioxide.train.config import TrainConfig
from pioxide.train.contracts import Numbers
from pioxide.train.recipes import RECIPES, Data, Recipe, RobotData, is_robots_file, read_robots

if TYPE_CHECKING:
    from pioxide.cli.parts import Part
    from pioxide.cli.progress import FrameProgress
    from pioxide.codec import ActionCodec, TextTokenizer
    from pioxide.contract import Contract
    from pioxide.data import LeRobotDataset
    from pioxide.data.advantages import Advantages
    from pioxide.data.loader import Batch, CacheSettings, Loader
    from pioxide.data.subtasks import Subtasks
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
        from pioxide.cli.progress import FrameProgress
        from pioxide.cli.training import TrainingProgress
        from pioxide.data import LeRobotDataset
        from pioxide.data.loader import Loader, LoaderSettings, Source
        from pioxide.models import make_mesh
        from pioxide.train.config import Tracker
        from pioxide.train.hosts import join_hosts
        from pioxide.train.picture import draw_batch
        from pioxide.train.run import LOGS, settings_of, train
        from pioxide.train.tensorboard import Service, TensorBoard
        from pioxide.train.validate import HeldOut, HeldOutByRobot

        join_hosts(self.coordinator, self.hosts, self.host)
        # What can be wrong at once is looked at before minutes go into fitting.
        robots = self._robots()
        whole = self._text_model()
        subtasks = self._subtasks(LeRobotDataset.open(robots[0].datasets[0]))
        parts = self._parts(robots)
        codec = self._codec(parts)
        tokenizer = self._tokenizer(whole, parts, codec, subtasks)
        names = [robot.name for robot in robots]
        contracts = dict(zip(names, self._contracts(robots, parts, codec), strict=True))
        config = self.train
        if subtasks is not None:
            config = replace(config, loss=replace(config.loss, subtasks=True))
        advantages = self._advantages(parts[0].dataset, {*parts[0].training, *parts[0].held_out})

        def loader(of: Callable[[Part], tuple[int, ...]], seed: int, workers: int, dropout: float) -> Loader:
            sources = [
                Source(
                    part.dataset,
                    contracts[part.robot.name],
                    columns=part.fitted.columns,
                    episodes=of(part),
                    weight=part.weight,
                    on_overflow="clip",
                    subtasks=subtasks,
                    advantages=advantages,
                )
                for part in parts
                if of(part)
            ]
            settings = LoaderSettings(
                config.batch_size,
                seed=seed,
                workers=workers,
                host=jax.process_index(),
                hosts=jax.process_count(),
                answer_len=config.loss.answer_len if config.loss.tokens else 0,
                subtask_share=self.data.subtask_share if subtasks is not None else 0.0,
                advantage_dropout=dropout if advantages is not None else 0.0,
            )
            with FrameProgress("keeping pictures") as shown:
                return Loader(sources, settings, tokenizer, codec, cache=self._cache(shown))

        first = jax.process_index() == 0
        progress = TrainingProgress(config)
        reporters: list[Any] = [progress] if first else []
        if first and config.logging.tensorboard:
            reporters.append(TensorBoard(self.output / LOGS))
        if first and config.logging.tracker is not Tracker.NONE:
            reporters.append(Service(config.logging.tracker, config, settings_of(config), self.output))
        seed = config.seed if config.augment else None
        dropout = self.data.advantage_dropout

        def draw(batch: Batch) -> None:
            draw_batch(batch, tokenizer, self.output / "first_batch.png", seed=seed)

        with (
            closing(progress),
            loader(lambda part: part.training, config.seed, self.data.workers, dropout) as batches,
        ):
            judge: Judge | None = None
            judges: dict[str, HeldOut] = {}
            for name in dict.fromkeys(part.robot.name for part in parts if part.held_out):

                def unseen(part: Part, name: str = name) -> tuple[int, ...]:
                    return part.held_out if part.robot.name == name else ()

                with loader(unseen, 0, 0, 0.0) as rows:
                    judges[name] = HeldOut(config, Sourced(rows, tokenizer, codec), make_mesh(config.fsdp))
            if judges:
                judge = HeldOutByRobot(judges) if len(robots) > 1 else judges[names[0]]
            data: dict[str, Any] = {"episodes": self.data.episodes, "cached": bool(self.data.cache)}
            if is_robots_file(self.dataset):
                # As they stand in the file: it may have been moved together with the datasets.
                data["robots"] = [as_plain(one, self.dataset) for one in robots]
            if self.data.where:
                data["where"] = self.data.where
            if any(part.dataset.kept is not None for part in parts):
                kept = [None if (one := part.dataset.kept) is None else one.identity for part in parts]
                data["frames"] = kept if is_robots_file(self.dataset) else kept[0]
            if subtasks is not None:
                data |= {"subtasks": labels(self.data.subtasks), "subtask_share": self.data.subtask_share}
            data |= self._advantage_settings()
            if self.data.also:
                data |= {"also": list(self.data.also), "weight": list(self.data.weight)}
            made = train(
                config,
                Sourced(batches, tokenizer, codec),
                self.output,
                data=data,
                resume=self.resume,
                reporters=tuple(reporters),
                judge=judge,
                on_first_batch=draw if first else None,
            )
        if first:
            found = "made before" if isnan(made.loss) else f"loss {made.loss:.4f}"
            print(f"{made.checkpoint}: {made.steps:,} updates, {found}")
            which = f" --robot {names[0]}" if len(names) > 1 else ""
            print(f"\nnext: pioxide convert {made.checkpoint} TARGET --to lerobot{which}")
        return main.OK

    def _robots(self) -> tuple[RobotData, ...]:
        """Returns the run's robots: those of the file, or the one that the options describe."""
        data = self.data
        if not is_robots_file(self.dataset):
            cameras = slot_keys(data.camera, "--data.camera") or {}
            robot = RobotData(
                datasets=(str(self.dataset), *data.also),
                weight=data.weight,
                robot=data.robot,
                fit=data.fit,
                statistics=data.statistics,
                camera=cameras,
                episodes=data.episodes,
                where=data.where,
                frames=data.frames,
                prompt=self.numbers.prompt,
            )
            return (robot,)
        for name in ("robot", "also", "weight", "statistics", "camera", "episodes", "where", "frames"):
            if getattr(data, name):
                way_out = ' (--data.robot "" where the recipe says one)' if name == "robot" else ""
                raise InputError(f"data.{name}: {self.dataset} says it of each robot: leave it out{way_out}")
        if self.numbers.prompt:
            raise InputError(f"numbers.prompt: {self.dataset} says it of each robot: leave it out")
        robots = read_robots(self.dataset)
        for robot in robots:
            if data.fit and (robot.fit or robot.robot):
                what = "fit" if robot.fit else "robot"
                raise InputError(f"{self.dataset}: {robot.name}: {what}: data.fit says it: leave one out")
        return robots

    def _parts(self, robots: Sequence[RobotData]) -> list[Part]:
        """Opens the run's datasets, which the first host fits where nobody did."""
        import jax
        from jax.experimental import multihost_utils

        from pioxide.cli.parts import fit_parts, open_parts
        from pioxide.shards import FitSettings

        data, directory = self.data, self.output / "fit"
        if data.fit:
            return open_parts(robots, Path(data.fit))
        if unfitted := [robot for robot in robots if not robot.fit]:
            settings = FitSettings(
                horizon=self.numbers.horizon,
                normalization=self.numbers.normalization or self.numbers.family.normalization,
                vocab_size=data.tokens,
                scale=data.scale,
            )
            make_directory(self.output)
            if jax.process_index() == 0:
                fit_parts(unfitted, directory, settings)
            if jax.process_count() > 1:
                multihost_utils.sync_global_devices("host 0 has fitted")
        return open_parts(robots, directory)

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

    def _subtasks(self, dataset: LeRobotDataset) -> Subtasks | None:
        from pioxide.data.subtasks import Subtasks

        for name in ("subtasks", "advantage"):
            if getattr(self.data, name) and (self.data.also or is_robots_file(self.dataset)):
                raise InputError(f"data.{name} is of one dataset, and there are several: name one alone")
        if not self.data.subtasks:
            if self.train.loss.subtasks:
                raise InputError("train.loss.subtasks: say what the subtasks are (--data.subtasks)")
            return None
        if not 0 < self.data.subtask_share < 1:
            raise InputError(
                f"data.subtask_share: expected a share above 0 and below 1, got {self.data.subtask_share}"
            )
        return Subtasks.read(self.data.subtasks, dataset)

    def _advantages(self, dataset: LeRobotDataset, episodes: set[int]) -> Advantages | None:
        from pioxide.data.advantages import AdvantageRule, Advantages

        data = self.data
        if not data.advantage:
            for name in ("advantage_threshold", "advantage_share", "interventions"):
                if getattr(data, name) not in (None, ""):
                    raise InputError(f"data.{name}: say which actions are good (--data.advantage)")
            return None
        if not 0 <= data.advantage_dropout < 1:
            raise InputError(
                f"data.advantage_dropout: expected 0 or a share below 1, got {data.advantage_dropout}"
            )
        rule = AdvantageRule(data.advantage_threshold, data.advantage_share, data.interventions)
        found = Advantages.read(data.advantage, dataset, rule, episodes)
        good, every = found.count
        print(f"advantage: {good:,} of {every:,} frames are positive ({good / every:.0%})", file=sys.stderr)
        return found

    def _advantage_settings(self) -> dict[str, Any]:
        """What of the advantages a resumed run must have alike; empty where there are none."""
        if not self.data.advantage:
            return {}
        names = ("advantage", "advantage_threshold", "advantage_share", "advantage_dropout", "interventions")
        return {name: getattr(self.data, name) for name in names} | {"advantage": labels(self.data.advantage)}

    def _codec(self, parts: Sequence[Part]) -> ActionCodec | None:
        """Returns the action tokenizer, one for all robots; None where nothing learns action tokens."""
        from pioxide.codec import load_codec

        if self.numbers.family.is_flow and not self.train.loss.tokens:
            return None
        first, *others = parts
        if all(part.robot == first.robot for part in others):
            return load_codec(first.fitted.directory)
        if apart := [part for part in others if part.fit.resolve() != first.fit.resolve()]:
            raise InputError(
                f"{self.dataset}: one action tokenizer writes the actions of all robots, and {first.name} "
                f"and {apart[0].name} were fitted apart, in {first.fit} and {apart[0].fit}: leave out what "
                "was fitted, or fit them together (pioxide fit DATASET DATASET ... -o DIR, --data.fit DIR)"
            )
        return load_codec(first.fit)

    def _text_model(self) -> TextTokenizer:
        from pioxide.codec import TextTokenizer
        from pioxide.fetch import text_model

        return TextTokenizer.load(self.data.text_model or text_model())

    def _tokenizer(
        self,
        whole: TextTokenizer,
        parts: Sequence[Part],
        codec: ActionCodec | None,
        subtasks: Subtasks | None,
    ) -> TextTokenizer:
        from pioxide.codec import Advantage, cut_text_model, with_advantage

        whole_numbers = self.data.whole_numbers and not self.numbers.family.state_is_vector
        if not self.data.cut_vocabulary:
            if whole_numbers:
                raise InputError(
                    "data.whole_numbers: only a vocabulary that is cut gets new pieces; leave it out"
                )
            return whole
        if self.train.base is not None:
            raise InputError(
                "data.cut_vocabulary: a base's table has a row for each id of the whole vocabulary"
            )
        texts = {part.robot.prompt for part in parts}
        texts |= {text for part in parts for text in part.dataset.tasks.values()}
        if subtasks is not None:
            texts |= {*subtasks.texts, ";\nSubtask: "}
        if self.data.advantage:
            said = {with_advantage(text, one) for text in texts for one in Advantage}
            texts |= said | {text.replace("\n", " ") for text in said}
        fast_tokens = codec.vocab_size if codec else 0
        cut = cut_text_model(whole, sorted(texts), fast_tokens=fast_tokens, whole_numbers=whole_numbers)
        return cut.tokenizer

    def _contracts(
        self, robots: Sequence[RobotData], parts: Sequence[Part], codec: ActionCodec | None
    ) -> list[Contract]:
        """Returns each robot's contract, which has to be that of each of its datasets."""
        from pioxide.contract import known, refuse_differences

        made: list[Contract] = []
        for robot in robots:
            own = [part for part in parts if part.robot == robot]
            first, *others = (self._contract_of(part, codec) for part in own)
            for part, other in zip(own[1:], others, strict=True):
                refuse_differences(first, other, names=(own[0].name, part.name))
            made.append(first)
        if not self.numbers.family.is_flow:
            return made
        # One network is as wide as the widest of its robots needs.
        widths = {known(one.robot, "robot").action_dim for one in made}
        if len(widths) > 1 and self.train.base is None and not self.train.learn_padding:
            print(
                "robots of different widths, from random weights: what the network makes of numbers that a "
                "narrower robot does not have is not learnt, and its chunks are computed beside them; "
                "--train.learn-padding learns them as zeros",
                file=sys.stderr,
            )
        widest = max(known(one.model_dim, "model_dim") for one in made)
        return [replace(one, model_dim=widest) for one in made]

    def _contract_of(self, part: Part, codec: ActionCodec | None) -> Contract:
        from pioxide.contract import AdvantageStyle, robot_name
        from pioxide.report.doctor.subjects import open_subject
        from pioxide.train.contracts import run_contract
        from pioxide.train.statistics import with_statistics

        fitted, robot = part.contract, part.robot
        if robot.statistics:
            if codec is not None:
                raise InputError(
                    "data.statistics: action tokens are of numbers that the dataset's own statistics "
                    "normalise; leave it out for models that learn tokens"
                )
            other = open_subject(robot.statistics, robot=robot_name(fitted))
            fitted = with_statistics(fitted, other.contract)
        advantage = None
        if self.data.advantage:
            advantage = AdvantageStyle.TEXT_OR_NONE if self.data.advantage_dropout else AdvantageStyle.TEXT
        size, based = self.train.model.size, self.train.base is not None
        return run_contract(
            fitted,
            replace(self.numbers, prompt=robot.prompt),
            size,
            codec,
            based=based,
            subtasks=bool(self.data.subtasks),
            advantage=advantage,
            cameras=robot.camera,
        )


def as_plain(robot: RobotData, file: Path) -> dict[str, Any]:
    """Returns what a run keeps of a robot that its file names, paths as from where the file is."""
    here = f"{file.parent}/"
    datasets = [path.removeprefix(here) for path in robot.datasets]
    chosen = {"episodes": robot.episodes, "where": robot.where}
    return {"name": robot.name, "datasets": datasets, "weight": list(robot.weight), **chosen}


def labels(said: str) -> str:
    """Returns what a run keeps of its labels: the column's name, or the file's with a digest of it."""
    return f"{said} ({sha256_of(Path(said))[:16]})" if said.endswith(".json") else said


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
