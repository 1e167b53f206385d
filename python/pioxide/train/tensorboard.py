"""Numbers and pictures of a run for TensorBoard, or for Weights & Biases or trackio where asked."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

from pioxide.errors import InputError
from pioxide.train.config import Tracker, TrainConfig
from pioxide.train.report import Report


class TensorBoard:
    """Writes RUN/logs."""

    def __init__(self, directory: Path) -> None:
        """Opens the log; one that is there is gone on with."""
        from tensorboardX import SummaryWriter

        self.writer: Any = SummaryWriter(str(directory))

    def updated(self, report: Report) -> None:
        """Writes a report's numbers."""
        for name, value in report.numbers().items():
            self.writer.add_scalar(f"train/{name}", value, report.step)
        self.writer.flush()

    def judged(self, step: int, numbers: dict[str, float]) -> None:
        """Writes a validation's numbers."""
        for name, value in numbers.items():
            self.writer.add_scalar(f"validation/{name}", value, step)
        self.writer.flush()


class Service:
    """Weights & Biases or trackio, whose `init` and `log` are alike."""

    def __init__(
        self, tracker: Tracker, config: TrainConfig, settings: dict[str, Any], directory: Path
    ) -> None:
        """Begins a run there.

        Raises:
            InputError: The package is not installed.
        """
        del config
        try:
            self.module: ModuleType = importlib.import_module(tracker.value)
        except ImportError:
            raise InputError(
                f"logging.tracker: pip install {tracker.value}, which is not installed"
            ) from None
        self.module.init(project="pioxide", name=directory.name, config=settings)

    def updated(self, report: Report) -> None:
        """Sends a report's numbers."""
        self.module.log({f"train/{name}": v for name, v in report.numbers().items()}, step=report.step)

    def judged(self, step: int, numbers: dict[str, float]) -> None:
        """Sends a validation's numbers."""
        self.module.log({f"validation/{name}": value for name, value in numbers.items()}, step=step)
