"""`pioxide eval`: how often a policy does a task, in closed loop in a simulator."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from tyro.conf import FlagCreatePairsOff

from pioxide.cli import show
from pioxide.cli.options import METAVARS, Realtime, derived, flow_sampler, left_open, listed, taken
from pioxide.evaluate import EvaluationSettings, Variant, task_names

if TYPE_CHECKING:
    from pioxide.evaluate import Adapter, Evaluation, Outcome
    from pioxide.evaluate.player import Player, S
    from pioxide.evaluate.remote import RemotePolicy
    from pioxide.policy import Policy


@derived(EvaluationSettings)
@dataclass(frozen=True, kw_only=True)
class Eval:
    """Play a task in closed loop with a checkpoint, many seeds at once, and count successes.

    What runs is what drives a robot: the checkpoint's contract and pipeline, the action queue, real-time
    chunking and the safety filter. Ends with 0, and with 3 where --at-least is not reached.
    """

    checkpoint: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar=METAVARS["contract"])]
    """A checkpoint of any format that pioxide reads, or the address of a server, as ws://127.0.0.1:8000."""

    task: Annotated[str, tyro.conf.arg(metavar="{" + ",".join(task_names()) + "}|MODULE:FUNCTION")] = "reach"
    """Which task; or a function without arguments that returns a pioxide.evaluate.Adapter."""

    robot: Annotated[str | None, left_open("NAME")] = None
    """Of a checkpoint of several robots: by whose numbers to play; by default that of the task's robot's
    name."""

    without: Annotated[str, left_open("A,B")] = ""
    """What is taken from the policy in further runs over the same seeds, to see that it needs it: blank (the
    picture), exchanged (the words)."""

    realtime: Realtime = "off"
    """How a chunk continues the one before (π0 and π0.5), which a delay makes necessary."""

    num_steps: Annotated[int | None, left_open("INT")] = None
    """Flow steps; what the checkpoint says by default."""

    guidance: Annotated[float | None, left_open("NUMBER")] = None
    """How far to go beyond what weights that know an advantage do with it (π0 and π0.5): 1.5 to 2.5 in the
    paper, 1 where it is left out."""

    video: Annotated[Path | None, left_open("FILE.mp4")] = None
    """Film of up to sixteen episodes side by side, failures first."""

    films: int = 16
    """Episodes in the film."""

    rerun: Annotated[str | None, left_open("FILE.rrd|URL")] = None
    """What the policy sees and answers, and what is played of it, for Rerun's viewer."""

    at_least: Annotated[float | None, left_open("NUMBER")] = None
    """End with status 3 where the success rate is lower."""

    contract: Annotated[Path | None, left_open("FILE")] = None
    """A contract.json that says what the checkpoint does not."""

    fast: Annotated[Path | None, left_open("DIR", also=["--codec"])] = None
    """π0-FAST: its tokenizer of actions, where the checkpoint has none beside it."""

    text_model: Annotated[Path | None, left_open("FILE", also=["--tokenizer"])] = None
    """The text vocabulary, where the checkpoint has none beside it."""

    key_file: Annotated[Path | None, left_open("FILE")] = None
    """The key of a server beyond this machine: the first one in the file."""

    json: FlagCreatePairsOff[bool] = False
    """Print one JSON document, every episode in it, and no tables."""

    def __call__(self) -> int:
        """Plays, prints, and says by the exit status whether it was good enough."""
        from pioxide.errors import InputError
        from pioxide.evaluate import find_task

        settings, adapter = taken(self, EvaluationSettings), find_task(self.task)
        variants = [Variant.PLAIN, *_variants(self.without)]  # refused before minutes go into loading
        if self.films < 1:
            raise InputError(f"films: expected 1 or more, got {self.films}")
        if self.checkpoint.startswith(("ws://", "wss://")):
            with self._remote() as remote:
                return self._played(remote, remote.symbol, settings, adapter, variants)
        if self.key_file is not None:
            raise InputError("--key-file is a server's, and a checkpoint plays in this process")
        policy = self._policy(adapter)
        return self._played(policy, policy.pipeline.family.symbol, settings, adapter, variants)

    def _played(
        self,
        policy: Player[S],
        symbol: str,
        settings: EvaluationSettings,
        adapter: Adapter,
        variants: list[Variant],
    ) -> int:
        from contextlib import ExitStack

        from pioxide.cli import main
        from pioxide.control.rerun import RerunLog
        from pioxide.evaluate import Reel, evaluate
        from pioxide.evaluate.watched import WatchedPlayer
        from pioxide.files import json_text

        reel = None if self.video is None else Reel(self.films)
        if not self.json:
            play = settings.played(policy)
            print(f"{self.checkpoint}: {symbol}, chunks of {policy.horizon} actions, {play} of them played")
        progress = _Progress(settings.seeds * len(variants))
        with ExitStack() as held:
            player: Player[S] = policy
            if self.rerun is not None:
                robot = adapter.robot
                joints = robot.joint_names or [f"action {d}" for d in range(robot.action_dim)]
                watch = held.enter_context(RerunLog(self.rerun, hz=adapter.hz, joints=joints))
                player = WatchedPlayer(policy, watch, adapter.hz)
            made = evaluate(player, adapter, settings, variants=variants, reel=reel, on_outcome=progress)
        if reel is not None and self.video is not None:
            reel.write(self.video, adapter.hz)
        if self.json:
            print(json_text({"checkpoint": self.checkpoint} | made.as_json()), end="")
        else:
            print_evaluation(made)
            if self.video is not None:
                print(f"\nfilm: {self.video}")
        low = self.at_least is not None and made.overall.rate < self.at_least
        if low:
            print(
                f"pioxide: {made.overall.rate:.1%} succeeded, and --at-least is {self.at_least:.1%}",
                file=sys.stderr,
            )
        return main.LEFT_OUT if low else main.OK

    def _policy(self, adapter: Adapter) -> Policy:
        """The checkpoint for the task's robot, compiled for its prompts."""
        from dataclasses import replace

        from pioxide.contract import load_contract
        from pioxide.errors import InputError
        from pioxide.policy import Policy, PolicyOptions

        named = adapter.robot if self.robot is None else replace(adapter.robot, name=self.robot)
        said = None if self.contract is None else load_contract(self.contract, named.name)
        if self.contract is not None and said is None:
            raise InputError(f"there is no contract {self.contract}")
        return Policy.load(
            self.checkpoint,
            robot=replace(named, delta_mask=None),  # the checkpoint's to say
            contract=said,
            tokenizer=self.text_model,
            codec=self.fast,
            options=PolicyOptions(
                sampler=flow_sampler(self.realtime, self.num_steps, self.guidance), compile_when="on_demand"
            ),
        )

    def _remote(self) -> RemotePolicy:
        """The server's policy, which was compiled with what the server was told."""
        from pioxide.errors import InputError
        from pioxide.evaluate.remote import RemotePolicy
        from pioxide.serve.keys import read_keys

        said = {
            "--realtime": self.realtime != "off",
            "--num-steps": self.num_steps is not None,
            "--guidance": self.guidance is not None,
            "--contract": self.contract is not None,
            "--robot": self.robot is not None,
            "--fast": self.fast is not None,
            "--text-model": self.text_model is not None,
        }
        if theirs := [name for name, given in said.items() if given]:
            raise InputError(f"{theirs[0]} is the server's to be told: pass it to `pioxide serve`")
        key = None
        if self.key_file is not None:
            key = next(iter(read_keys(self.key_file)), None)
            if key is None:
                raise InputError(f"{self.key_file}: there is no key in it")
        return RemotePolicy(self.checkpoint, key=key)


def print_evaluation(made: Evaluation) -> None:
    """Prints a table with a line a variant and kind of instruction."""
    rows = [
        [
            {"plain": "as it is", "blank": "picture blanked", "exchanged": "words exchanged"}[one.variant]
            + (f", {one.kind}" if one.kind else ""),
            f"{one.successes}/{one.episodes}",
            f"{one.rate:.0%}",
            f"{one.low:.0%} to {one.high:.0%}",
            "-" if one.successes == 0 else f"{one.steps:.1f}",
            f"{one.jerk:.3g}",
            f"{one.limited:.1%}",
        ]
        for one in made.scores
    ]
    columns = ["", "done", "rate", "95% interval", "steps", "jerk", "limited"]
    show.table(f"{made.task}, seeds from {made.settings.first_seed:,}", columns, rows)
    print(f"  the policy took {made.seconds * 1e3:.0f} ms a batch; delay {made.settings.delay} actions")


def _variants(text: str) -> Sequence[Variant]:
    from pioxide.errors import InputError

    known = {str(one): one for one in Variant if one is not Variant.PLAIN}
    names = listed(text)
    if unknown := [name for name in names if name not in known]:
        raise InputError(f"without: expected some of {', '.join(known)}, got {unknown[0]!r}")
    return [known[name] for name in dict.fromkeys(names)]


class _Progress:
    """Episodes done, on standard error."""

    def __init__(self, total: int) -> None:
        self._total, self._done, self._successes = total, 0, 0

    def __call__(self, outcome: Outcome) -> None:
        self._done += 1
        self._successes += outcome.success
        if self._done % 25 == 0 or self._done == self._total:
            line = f"{self._done:,} of {self._total:,} episodes, {self._successes:,} done"
            print(line, file=sys.stderr, flush=True)
