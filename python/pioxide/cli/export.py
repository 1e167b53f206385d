"""`pioxide export`: tokens in the formats of other loaders."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from pioxide.cli.options import METAVARS, left_open


@dataclass(frozen=True)
class Export:
    """Write tokens as columns of a LeRobot v3.0 dataset, or as ArrayRecord files for grain."""

    tokens: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar=METAVARS["tokens"])]
    """Output of `pioxide tokenize`, at an address (s3://, gs://, hf://) too."""

    to: Literal["lerobot", "array_record"]
    """What to write: the dataset again, with tokens beside each frame; or one record a row."""

    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar=METAVARS["output"])]
    """Directory to make; it appears when everything is in it."""

    dataset: Annotated[Path | None, left_open(METAVARS["dataset"])] = None
    """For lerobot: the dataset that the tokens were made of, where it has moved since."""

    def __call__(self) -> int:
        """Writes, and says what was written."""
        from pioxide.cli import main, output, show
        from pioxide.cli.progress import FrameProgress
        from pioxide.errors import InputError
        from pioxide.shards import TokenDataset, export_array_record, export_lerobot

        if self.dataset is not None and self.to != "lerobot":
            raise InputError("--dataset is for --to lerobot: records hold no more than the tokens")
        tokens = TokenDataset.open(self.tokens)
        with FrameProgress(f"export to {self.to}", "rows") as progress:
            if self.to == "lerobot":
                dataset = self.dataset or Path(tokens.manifest.dataset["path"])
                export_lerobot(tokens, dataset, self.output, progress=progress)
            else:
                export_array_record(tokens, self.output, progress=progress)
        output.current.result = {"output": str(self.output), "rows": len(tokens)}
        print(f"{self.output}: {show.counted(len(tokens), 'row')} for {tokens.model}")
        if self.to == "lerobot":
            print("  columns pioxide.tokens, pioxide.token_count and so on beside the dataset's own")
        else:
            print("  read them with pioxide.shards.ArrayRecordRows, or by layout.json")
        return main.OK
