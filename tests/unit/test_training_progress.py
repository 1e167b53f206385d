"""What a person sees of a training run, in a terminal and in a log file."""

import io

from rich.console import Console

from pioxide.cli import output
from pioxide.cli.training import TrainingProgress
from pioxide.train import CosineSchedule, Report, TrainConfig


def report(step, loss):
    nothing = {"by_dimension": None, "by_time": None, "accuracy": None}
    return Report(step, 10, loss, 0.5, 0.1, 0.01, 3.0, 1e-4, **nothing)


def shown(terminal):
    """What is written for reports 20 seconds apart."""
    now, written = [0.0], io.StringIO()
    console = Console(file=written, force_terminal=terminal, width=120)
    progress = TrainingProgress(
        TrainConfig(steps=40, batch_size=8, schedule=CosineSchedule(warmup=1)), console, lambda: now[0]
    )
    for step, loss in ((10, 1.5), (20, 0.75)):
        progress.updated(report(step, loss))
        now[0] += 20.0
    progress.judged(20, {"loss": 0.9, "error/dimension_00": 3.0})
    progress.close()
    return written.getvalue()


def test_a_log_file_gets_a_line_with_loss_rate_and_time_left():
    lines = shown(terminal=False).splitlines()
    assert "10 of 40: loss 1.5000" in lines[0]
    assert "samples/s" not in lines[0], "nothing is known of the pace before a second report"
    assert "20 of 40: loss 0.7500" in lines[1]
    assert "4.0 samples/s, 40 s left" in lines[1]
    assert lines[2].strip() == "20 held out: loss 0.9"


def test_a_terminal_gets_a_bar_with_the_same():
    written = shown(terminal=True)
    assert "20 of 40" in written
    assert "loss 0.7500, 4.0 samples/s, 40 s left" in written


def test_quiet_is_quiet(monkeypatch):
    monkeypatch.setattr(output, "current", output.Output(quiet=True))
    assert shown(terminal=False) == ""
