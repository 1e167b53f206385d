"""`pioxide convert`: a checkpoint of one project into another's format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from tyro.conf import FlagCreatePairsOff

from pioxide.cli.options import METAVARS, left_open, read_robot

if TYPE_CHECKING:
    from pioxide.contract import Contract


@dataclass(frozen=True)
class Convert:
    """Write a checkpoint (openpi, LeRobot, openpi-PyTorch, PaliGemma) in another format, tensor by tensor."""

    source: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar=METAVARS["contract"])]
    """A directory or file, or a gs://, s3:// or hf:// address."""

    target: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar=METAVARS["output"])]
    """Directory to make; it appears when everything is in it."""

    to: Literal["openpi", "lerobot", "openpi-pytorch"]
    """Format to write."""

    dtype: Annotated[Literal["float32", "bfloat16", "float16"] | None, left_open("NAME")] = None
    """Store all tensors as float32, bfloat16 or float16; each as it is by default."""

    merge_lora: FlagCreatePairsOff[bool] = False
    """Add openpi's low-rank updates to the weights."""

    lora_scale: Annotated[float, tyro.conf.arg(metavar="NUMBER")] = 1.0
    """alpha / rank; 1 in all of openpi's configs."""

    action_horizon: Annotated[int | None, left_open("INT")] = None
    """Actions in a chunk, where the source does not say."""

    text_len: Annotated[int | None, left_open("INT")] = None
    """Ids in a prompt, where the source does not say."""

    robot: Annotated[str | None, left_open("NAME|FILE.yaml")] = None
    """Whose numbers, where the source does not say: a preset's name, or a YAML file. Of a source of several
    robots, the name of the one whose numbers are written."""

    delta_mask: Annotated[str | None, left_open("N,-N")] = None
    """Which actions are relative to the state, where the source does not say; "" for none."""

    asset_id: Annotated[str, tyro.conf.arg(metavar="NAME")] = "own"
    """Name for statistics that have none in the source (LeRobot's)."""

    embedding: Annotated[Literal["embed_tokens", "lm_head"] | None, left_open("NAME")] = None
    """Which tensor to take, embed_tokens or lm_head, where both are stored and differ."""

    base: Annotated[str | None, left_open("CKPT")] = None
    """Of a PEFT adapter, where the one it names is not on this machine."""

    def __call__(self) -> int:
        """Convert, and say what was written and what was not."""
        from pioxide.cli import main, output, show
        from pioxide.cli.progress import BytesProgress, say_file
        from pioxide.contract import robot_name
        from pioxide.weights import convert, load
        from pioxide.weights.tree import parse_dtype

        with load(self.source, embedding=self.embedding, base=self.base, on_file=say_file) as found:
            opened = found.of(self.robot)
            several = len(found.contracts) > 1
            robots = [robot_name(one) for one in found.contracts] if several else []
            checkpoint = opened.merged(self.lora_scale) if self.merge_lora else opened
            total = sum(spec.nbytes for spec in checkpoint.tree.specs.values())
            with BytesProgress("convert", total) as progress:
                written = convert(
                    checkpoint,
                    self.target,
                    self.to,
                    stated=self.stated(named=several),
                    dtype=None if self.dtype is None else parse_dtype(self.dtype),
                    asset_id=self.asset_id,
                    on_bytes=progress.tensor,
                )
            output.current.result = {"output": str(self.target), "bytes": written.nbytes}
            print(f"{self.target}: {checkpoint.title} for {self.to}, {show.size(written.nbytes)}")
            for name, reason in checkpoint.tree.unused.items():
                print(f"  not taken over: {show.printable(name)} ({reason})")
            for note in checkpoint.said.notes:
                print(f"  note: {show.printable(note)}")
        for what in written.left_out:
            print(f"  not written: {what}")
        if others := [name for name in robots if name != opened.robot]:
            print(f"  not written: the numbers of {', '.join(others)}: convert each by itself (--robot)")
        return main.OK

    def stated(self, *, named: bool = False) -> Contract:
        """Returns what the options say of the contract; not of the robot where that is only `named`."""
        from pioxide.contract import UNKNOWN, Contract
        from pioxide.shards import parse_mask
        from pioxide.transforms import make_mask

        robot = UNKNOWN if self.robot is None or named else read_robot(self.robot)
        mask = UNKNOWN if self.delta_mask is None else make_mask(*parse_mask(self.delta_mask))
        horizon = UNKNOWN if self.action_horizon is None else self.action_horizon
        length = UNKNOWN if self.text_len is None else self.text_len
        return Contract(robot=robot, delta_mask=mask, action_horizon=horizon, text_len=length)
