"""What a person sees of a training run: a bar in a terminal, lines in a log file."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pioxide.cli import output

if TYPE_CHECKING:
    from rich.console import Console

    from pioxide.train import Report, TrainConfig


class TrainingProgress:
    """Loss, samples a second and the time left, on standard error; nothing with `--quiet`, see `output`.

    The rate is that since the first report, so that compiling does not count.
    """

    def __init__(
        self,
        config: TrainConfig,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Shows nothing yet.

        Args:
            config: The run's.
            console: Standard error by default.
            clock: Seconds, from any moment.
        """
        from rich.console import Console

        self.config, self.clock = config, clock
        self.console = Console(stderr=True) if console is None else console
        self.began: tuple[float, int] | None = None
        self.bar: Any = None

    def updated(self, report: Report) -> None:
        """Shows a report."""
        output.current.progress("training", "updates", report.step, self.config.steps)
        if not output.current.speaks:
            return
        if self.began is None:
            self.began = self.clock(), report.step
        done = report.step - self.began[1]
        pace = ""
        if done > 0:
            each = (self.clock() - self.began[0]) / done
            left = duration(each * (self.config.steps - report.step))
            pace = f", {self.config.batch_size / max(each, 1e-9):,.1f} samples/s, {left} left"
        if self.console.is_terminal:
            self._show(report, f"loss {report.loss:.4f}{pace}")
            return
        accuracy = "" if report.accuracy is None else f", {report.accuracy:.0%} of tokens right"
        self._print(
            f"{report.step:>7,} of {self.config.steps:,}: loss {report.loss:.4f}{accuracy}, gradients "
            f"{report.grad_norm:.3g} ({report.clipped:.0%} clipped), rate {report.learning_rate:.2e}{pace}"
        )

    def judged(self, step: int, numbers: dict[str, float]) -> None:
        """Prints what came of the held-out episodes."""
        if output.current.speaks:
            shown = ", ".join(f"{k} {v:.4g}" for k, v in numbers.items() if "dimension" not in k)
            self._print(f"{step:>7,} held out: {shown}")

    def close(self) -> None:
        """Takes the bar away."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def _print(self, line: str) -> None:
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _show(self, report: Report, said: str) -> None:
        if self.bar is None:
            from rich import progress

            columns = (
                progress.BarColumn(),
                progress.TaskProgressColumn(),
                progress.TextColumn("{task.fields[said]}"),
            )
            self.bar = progress.Progress(
                progress.TextColumn("{task.completed:,} of {task.total:,}"),
                *columns,
                console=self.console,
                transient=True,
            )
            self.task = self.bar.add_task("", total=self.config.steps, said="")
            self.bar.start()
        self.bar.update(self.task, completed=report.step, said=said)


def duration(seconds: float) -> str:
    """Returns a time as people say it."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
