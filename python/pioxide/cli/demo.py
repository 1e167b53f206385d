"""`pioxide demo`: fit, tokenize and inspect the robot episodes that ship with pioxide, without network."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from pioxide.cli.options import METAVARS


@dataclass(frozen=True)
class Demo:
    """Fit a tokenizer, make training tokens and look at them, on robot episodes that ship with pioxide."""

    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar=METAVARS["output"])] = Path("pioxide-demo")
    """Directory for everything that is made."""

    def __call__(self) -> int:
        """Do what a user does with a dataset of their own, and say each step as the command for it."""
        from pioxide import demo
        from pioxide.cli import main, show
        from pioxide.family import Family
        from pioxide.report import inspect_directory, print_report, write_page
        from pioxide.shards import FitSettings, JobRequest, fit, resolve, sentence, tokenize_dataset

        dataset, text_model = demo.dataset_path(), demo.text_model_path()
        fitted, tokens, page = self.output / "fit", self.output / "tokens", self.output / "report.html"

        _say(f"pioxide fit {dataset} -o {fitted}")
        fit(dataset, fitted, FitSettings(horizon=50))
        options = f"--model pi0_fast --fit {fitted} --text-model {text_model}"
        _say(f"pioxide tokenize {dataset} -o {tokens} {options}")
        request = JobRequest(dataset=dataset, model=Family.PI0_FAST, text_model=text_model, fit=fitted)
        inputs, settings = resolve(request)
        tokenize_dataset(inputs, tokens, settings)
        show.contract(sentence(settings.contract))
        _say(f"pioxide inspect {tokens} -o {page}")
        report = inspect_directory(tokens, dataset=dataset)
        report = replace(report, source=replace(report.source, name="Two simulated ALOHA arms"))
        write_page(report, page)
        print_report(report, show.console())
        print(f"page: {page.resolve()}")
        return main.OK


def _say(command: str) -> None:
    print(f"$ {command}", file=sys.stderr, flush=True)
