"""What a training run learns from, made of its options: robots, their data, tokenizers and contracts."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pioxide.cli.options import slot_keys
from pioxide.errors import InputError
from pioxide.files import make_directory, sha256_of
from pioxide.train.config import TrainConfig
from pioxide.train.contracts import Numbers
from pioxide.train.recipes import Data, RobotData, is_robots_file, read_robots

if TYPE_CHECKING:
    from pioxide.cli.parts import Part
    from pioxide.codec import ActionCodec, TextTokenizer
    from pioxide.contract import Contract
    from pioxide.data import LeRobotDataset
    from pioxide.data.advantages import Advantages
    from pioxide.data.subtasks import Subtasks


class RunData(NamedTuple):
    """What a run learns from.

    Attributes:
        parts: Its datasets, opened and fitted.
        contracts: What the numbers of each robot mean, by its name.
        tokenizer: The text model, cut where the options say so.
        codec: The action tokenizer; None where nothing learns action tokens.
        subtasks: What the robot does in each frame, where it is learnt.
        advantages: Which actions are good, where prompts say it.
        chosen: What a resumed run must have alike, besides settings and contracts.
    """

    parts: list[Part]
    contracts: Mapping[str, Contract]
    tokenizer: TextTokenizer
    codec: ActionCodec | None
    subtasks: Subtasks | None
    advantages: Advantages | None
    chosen: dict[str, Any]


@dataclass(frozen=True)
class Preparation:
    """Makes a run's data of the options of `pioxide train`, which have the same names.

    What can be wrong at once is looked at before minutes go into fitting.
    """

    dataset: Path
    output: Path
    numbers: Numbers
    data: Data
    config: TrainConfig

    def __call__(self) -> RunData:
        """Opens the datasets, which the first host fits where nobody did, and makes all that is of them."""
        robots = self._robots()
        whole = self._text_model()
        subtasks = self._subtasks(robots[0].datasets[0])
        parts = self._parts(robots)
        codec = self._codec(parts)
        tokenizer = self._tokenizer(whole, parts, codec, subtasks)
        names = [robot.name for robot in robots]
        contracts = dict(zip(names, self._contracts(robots, parts, codec), strict=True))
        advantages = self._advantages(parts[0].dataset, {*parts[0].training, *parts[0].held_out})
        chosen = self._chosen(robots, parts)
        return RunData(parts, contracts, tokenizer, codec, subtasks, advantages, chosen)

    def _chosen(self, robots: Sequence[RobotData], parts: Sequence[Part]) -> dict[str, Any]:
        """Returns what a resumed run must have alike; what is not said does not stand in it."""
        data = self.data
        said: dict[str, Any] = {"episodes": data.episodes, "cached": bool(data.cache)}
        if is_robots_file(self.dataset):
            # As they stand in the file: it may have been moved together with the datasets.
            said["robots"] = [_as_plain(one, self.dataset) for one in robots]
        if data.where:
            said["where"] = data.where
        if any(part.dataset.kept is not None for part in parts):
            kept = [None if (one := part.dataset.kept) is None else one.identity for part in parts]
            said["frames"] = kept if is_robots_file(self.dataset) else kept[0]
        if data.subtasks:
            said |= {"subtasks": _labels(data.subtasks), "subtask_share": data.subtask_share}
        if data.advantage:
            names = ("advantage_threshold", "advantage_share", "advantage_dropout", "interventions")
            said |= {name: getattr(data, name) for name in names}
            said["advantage"] = _labels(data.advantage)
        if data.also:
            said |= {"also": list(data.also), "weight": list(data.weight)}
        return said

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

    def _subtasks(self, dataset: str) -> Subtasks | None:
        from pioxide.data import LeRobotDataset
        from pioxide.data.subtasks import Subtasks

        for name in ("subtasks", "advantage"):
            if getattr(self.data, name) and (self.data.also or is_robots_file(self.dataset)):
                raise InputError(f"data.{name} is of one dataset, and there are several: name one alone")
        if not self.data.subtasks:
            if self.config.loss.subtasks:
                raise InputError("train.loss.subtasks: say what the subtasks are (--data.subtasks)")
            return None
        if not 0 < self.data.subtask_share < 1:
            raise InputError(
                f"data.subtask_share: expected a share above 0 and below 1, got {self.data.subtask_share}"
            )
        return Subtasks.read(self.data.subtasks, LeRobotDataset.open(dataset))

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

    def _codec(self, parts: Sequence[Part]) -> ActionCodec | None:
        """Returns the action tokenizer, one for all robots; None where nothing learns action tokens."""
        from pioxide.codec import load_codec

        if self.numbers.family.is_flow and not self.config.loss.tokens:
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
                    "data.whole_numbers: only a vocabulary that is cut gets new pieces; say "
                    "--data.no-whole-numbers"
                )
            return whole
        if self.config.base is not None:
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
        if len(widths) > 1 and self.config.base is None and not self.config.learn_padding:
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
        size, based = self.config.model.size, self.config.base is not None
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


def _as_plain(robot: RobotData, file: Path) -> dict[str, Any]:
    """Returns what a run keeps of a robot that its file names, paths as from where the file is."""
    here = f"{file.parent}/"
    datasets = [path.removeprefix(here) for path in robot.datasets]
    chosen = {"episodes": robot.episodes, "where": robot.where}
    return {"name": robot.name, "datasets": datasets, "weight": list(robot.weight), **chosen}


def _labels(said: str) -> str:
    """Returns what a run keeps of its labels: the column's name, or the file's with a digest of it."""
    return f"{said} ({sha256_of(Path(said))[:16]})" if said.endswith(".json") else said
