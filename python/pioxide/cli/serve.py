"""`pioxide serve`: a checkpoint that robots ask over a network."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from pioxide.cli.options import (
    METAVARS,
    Realtime,
    derived,
    flow_sampler,
    left_open,
    robot_or_name,
    slot_keys,
    taken,
)
from pioxide.serve.config import ServeConfig

if TYPE_CHECKING:
    from pioxide.policy import Policy
    from pioxide.serve import BatchConfig
    from pioxide.serve.lerobot import ZenohConfig


@derived(ServeConfig, without=["batch", "limits", "zenoh"])
@dataclass(frozen=True, kw_only=True)
class Serve:
    """Serve a checkpoint to robots: openpi's WebSocket protocol, and pioxide's own clients.

    Compiles before the first robot is let in. /healthz, /readyz, /metrics and /v1/metadata are on the same
    port. SIGINT and SIGTERM finish what is under way; SIGHUP reads the checkpoint again while robots ask.
    """

    checkpoint: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar=METAVARS["contract"])]
    """A directory, or a gs://, s3:// or hf:// address; of a training run's directory its newest step."""

    robot: Annotated[str | None, left_open("NAME|FILE.yaml")] = None
    """Whose numbers come in and go out; not needed where the checkpoint names its robot. Of a checkpoint of
    several robots, which of them."""

    subtask_every: Annotated[int | None, left_open("CHUNKS")] = None
    """A π0.5 that learnt subtasks says what it does next each so many chunks, and acts by it; without it, for
    each chunk."""

    camera: Annotated[tuple[str, ...], left_open("SLOT=KEY")] = ()
    """A robot's camera for an image slot, where names do not tell; may stand several times."""

    contract: Annotated[Path | None, left_open("FILE")] = None
    """A contract.json of what you know and the checkpoint does not say."""

    asset_id: Annotated[str | None, left_open("NAME")] = None
    """Whose statistics, where the checkpoint has several."""

    tokenizer: Annotated[Path | None, left_open("FILE", also=["--text-model"])] = None
    """A SentencePiece model, where neither the checkpoint nor `pioxide fetch` has brought one."""

    codec: Annotated[Path | None, left_open("DIR", also=["--fast"])] = None
    """π0-FAST's tokenizer of actions, where the checkpoint has none."""

    action_horizon: Annotated[int | None, left_open("INT")] = None
    """Actions in a chunk, where the checkpoint does not say."""

    dtype: Annotated[Literal["float32", "bfloat16"] | None, left_open("NAME")] = None
    """Of weights and computation: float32 or bfloat16; without it float32 on a CPU, bfloat16 elsewhere."""

    prompt: Annotated[tuple[str, ...], left_open("TEXT")] = ()
    """An instruction to compile for; may stand several times. Without any, all lengths are compiled."""

    realtime: Realtime = "off"
    """Whether a chunk continues what a robot still plays: guided by gradients, or as weights were trained."""

    guidance: Annotated[float | None, left_open("NUMBER")] = None
    """How far to go beyond what weights that know an advantage do with it (π0 and π0.5): 1.5 to 2.5 in the
    paper, 1 where it is left out."""

    batch_size: int = 8
    """Robots that are answered together at most."""

    batch_wait: Annotated[float, tyro.conf.arg(metavar="NUMBER")] = 0.002
    """Seconds that a batch waits for connected robots that have not asked yet."""

    queue: int = 64
    """Robots that may wait; one more is told that the server is busy."""

    zenoh: Annotated[str | None, left_open("NAME")] = None
    """Let LeRobot's clients in too (its protocol 1 over Zenoh), under this deployment name."""

    zenoh_listen: str = "tcp/127.0.0.1:7447"
    """Where Zenoh listens."""

    zenoh_file: Annotated[Path | None, left_open("FILE.json5")] = None
    """Zenoh's own configuration, as for TLS; an address beyond this machine needs it, or --without-key."""

    zenoh_semantics: Annotated[str | None, left_open("TEXT")] = None
    """Convention of the robot's numbers, which LeRobot's clients name alike; by default the robot's name."""

    zenoh_image: Annotated[tuple[str, ...], left_open("HxW|CAMERA=HxW")] = ()
    """Size of the images that LeRobot's clients send, of all cameras or of one; without it 480x640."""

    def __call__(self) -> None:
        """Load, compile, serve until a signal comes."""
        import os
        import sys

        from pioxide.serve import WireLimits
        from pioxide.serve.process import run
        from pioxide.serve.server import Server
        from pioxide.serve.swap import Swapper

        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_OneLine("%(asctime)s %(levelname)s %(name)s %(message)s"))
        logging.basicConfig(handlers=[handler])
        logging.getLogger("pioxide").setLevel(logging.INFO)
        config = taken(self, ServeConfig, batch=self._batch(), limits=WireLimits(), zenoh=self._zenoh())
        config.keys()  # before minutes go into loading
        policy = self._policy()
        self._warm_up(policy)
        server = Server(policy, config)
        del policy  # the server's, until another takes its place
        swapper = Swapper(server, self.read_again, self._warm_up)
        run(server, on_hangup=swapper.ask)
        if swapper.busy:
            # A compiler can't be told to stop, and an interpreter that ends beside one may abort.
            logging.shutdown()
            os._exit(0)

    def read_again(self) -> Policy:
        """Reads the checkpoint as it is now, for a swap.

        Raises:
            InputError: It is at an address, of which only the copy of the first reading is here.
        """
        from pioxide.errors import InputError
        from pioxide.files import as_address

        if as_address(self.checkpoint):
            raise InputError(
                f"{self.checkpoint}: what was copied from an address is not copied again; serve a directory "
                "where checkpoints are to be swapped"
            )
        return self._policy()

    def _warm_up(self, policy: Policy) -> None:
        from pioxide.serve.server import batch_sizes

        log, contract = logging.getLogger("pioxide.serve"), policy.contract
        log.info("loaded robot=%s horizon=%d source=%s", policy.robot.name, policy.horizon, contract.source)
        seconds = policy.warm_up(self.prompt, batches=batch_sizes(self.batch_size))
        log.info("compiled programs=%d seconds=%.1f", len(seconds), sum(seconds.values()))

    def _batch(self) -> BatchConfig:
        from pioxide.serve import BatchConfig

        return BatchConfig(self.batch_size, self.batch_wait, self.queue)

    def _zenoh(self) -> ZenohConfig | None:
        from pioxide.serve.lerobot import ZenohConfig

        if self.zenoh is None:
            return None
        sizes = {name: size for name, _, size in (one.rpartition("=") for one in self.zenoh_image)}
        images = {name: _size(size) for name, size in sizes.items()}
        return ZenohConfig(
            self.zenoh,
            self.zenoh_listen,
            self.zenoh_file,
            self.zenoh_semantics or "",
            image=images.pop("", ZenohConfig.image),
            images=images,
        )

    def _policy(self) -> Policy:
        from pioxide.contract import load_contract
        from pioxide.errors import InputError
        from pioxide.policy import Policy, PolicyOptions, SubtaskOptions
        from pioxide.weights.locate import newest

        robot = robot_or_name(self.robot)
        named = robot if robot is None or isinstance(robot, str) else robot.name
        said = None
        if self.contract is not None and (said := load_contract(self.contract, named)) is None:
            raise InputError(f"{self.contract}: there is no contract")
        return Policy.load(
            newest(self.checkpoint),
            robot=robot,
            contract=said,
            cameras=slot_keys(self.camera, "--camera"),
            tokenizer=self.tokenizer,
            codec=self.codec,
            asset_id=self.asset_id,
            action_horizon=self.action_horizon,
            dtype=self.dtype,
            options=PolicyOptions(
                sampler=flow_sampler(self.realtime, guidance=self.guidance),
                subtask=None if self.subtask_every is None else SubtaskOptions(every=self.subtask_every),
            ),
        )


class _OneLine(logging.Formatter):
    """A line an event, whatever a robot's words hold; only a traceback has lines of its own."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        return datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds")

    def formatMessage(self, record: logging.LogRecord) -> str:
        return super().formatMessage(record).replace("\r", "\\r").replace("\n", "\\n")


def _size(text: str) -> tuple[int, int]:
    """Reads a height and a width, as 480x640."""
    from pioxide.errors import InputError

    height, _, width = text.partition("x")
    if not (height.isdecimal() and width.isdecimal()):
        raise InputError(f"--zenoh-image {text!r}: expected HxW or CAMERA=HxW, as 480x640")
    return int(height), int(width)
