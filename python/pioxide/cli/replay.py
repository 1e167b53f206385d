"""`pioxide replay`: what a server recorded, asked again of a checkpoint, or made a dataset."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import FlagCreatePairsOff

from pioxide.cli.options import Realtime, flow_sampler, left_open


@dataclass(frozen=True)
class Replay:
    """Ask a checkpoint what robots asked a server that recorded, and compare; or write a dataset.

    Ends with 0 where all answers are the same to the last bit, and with 3 where some are not.
    """

    recording: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RECORDING")]
    """What `pioxide serve --record DIR` made."""

    against: Annotated[str | None, left_open("CKPT")] = None
    """A checkpoint to ask: the same one on the same machine gives the same bits."""

    dataset: Annotated[Path | None, left_open("DIR")] = None
    """Write a LeRobot v3.0 dataset with video there: a frame a request, its action the first of the chunk."""

    fps: Annotated[int | None, left_open("INT")] = None
    """Of the dataset; without it as requests came."""

    tokenizer: Annotated[Path | None, left_open("FILE", also=["--text-model"])] = None
    """A SentencePiece model, where neither the checkpoint nor `pioxide fetch` has brought one."""

    codec: Annotated[Path | None, left_open("DIR", also=["--fast"])] = None
    """π0-FAST's tokenizer of actions, where the checkpoint has none."""

    dtype: Annotated[Literal["float32", "bfloat16"] | None, left_open("NAME")] = None
    """Of weights and computation, as it was served."""

    realtime: Realtime = "off"
    """Whether chunks continued what was left to play, as it was served."""

    guidance: Annotated[float | None, left_open("NUMBER")] = None
    """Of an advantage, as it was served."""

    json: FlagCreatePairsOff[bool] = False
    """Print one JSON document and no table."""

    def __call__(self) -> int:
        """Replay."""
        from pioxide.cli import main, show
        from pioxide.contract import known
        from pioxide.errors import InputError
        from pioxide.files import json_text
        from pioxide.policy import Policy, PolicyOptions
        from pioxide.serve.record import Recording
        from pioxide.serve.replay import compare, to_dataset

        if self.against is None and self.dataset is None:
            raise InputError("say what to do: --against CKPT compares, --dataset DIR writes a dataset")
        recording = Recording(self.recording)
        if self.dataset is not None:
            to_dataset(recording, self.dataset, self.fps)
            if not self.json:
                print(f"{self.dataset}: a LeRobot v3.0 dataset of what was asked")
        if self.against is None:
            return main.OK
        policy = Policy.load(
            self.against,
            robot=known(recording.contract.robot, "robot"),
            tokenizer=self.tokenizer,
            codec=self.codec,
            dtype=self.dtype,
            options=PolicyOptions(sampler=flow_sampler(self.realtime, guidance=self.guidance)),
        )
        found = compare(recording, policy)
        if self.json:
            print(json_text(found.as_json()), end="")
        else:
            print(f"{found.same:,} of {found.answers:,} answers are the same to the last bit")
            if len(found.by_checkpoint) > 1:
                for checkpoint, (answers, same) in found.by_checkpoint.items():
                    print(f"  {same:,} of {answers:,} that {checkpoint or 'an unnamed checkpoint'} gave")
            if found.first is not None:
                robot = policy.robot
                units = robot.joint_units or ("",) * robot.action_dim
                rows = [
                    [robot.joint(d), f"{found.furthest[d]:.3g}", f"{found.typical[d]:.3g}", units[d]]
                    for d in range(robot.action_dim)
                ]
                print(f"the first that differs is answer {found.first}")
                show.table("how far apart", ["", "largest", "root mean square", "unit"], rows)
            if found.damaged:
                print(f"{found.damaged} entries at the ends of logs were cut off by a crash and left out")
        return main.OK if found.first is None else main.LEFT_OUT
