"""One small world for the job's tests: episodes in both layouts, a text model, a fitted tokenizer."""

from dataclasses import dataclass, replace
from pathlib import Path

from pioxide.family import Family
from pioxide.shards import FitSettings, JobInputs, JobRequest, JobSettings, fit, resolve
from support.datasets import episodes, write_v3, write_v21
from support.text_model import write_text_model

LENGTHS = (30, 12, 25, 40, 8, 33)
HORIZON = 8
# What `settings` takes besides the fields of `JobRequest`.
SMALL = {"shard_frames": 50, "on_overflow": "clip"}


@dataclass(frozen=True)
class World:
    """Paths of everything a job needs."""

    v3: Path
    v21: Path
    text_model: Path
    fitted: Path

    def request(self, model: str = "pi0_fast", **changes) -> JobRequest:
        return replace(JobRequest(self.v3, Family(model), self.text_model, self.fitted), **(SMALL | changes))

    def command(self, out: Path, dataset: Path | None = None) -> list[str]:
        """The arguments of `pioxide tokenize` for a job of one process."""
        options = {
            "--model": "pi0_fast",
            "--fit": self.fitted,
            "--text-model": self.text_model,
            "--shard-frames": 50,
            "--on-overflow": "clip",
            "--workers": 1,
            "-o": out,
        }
        return ["tokenize", str(dataset or self.v3), *(str(x) for pair in options.items() for x in pair)]

    def inputs(self, model: str = "pi0_fast", dataset: Path | None = None) -> JobInputs:
        return JobInputs(dataset or self.v3, self.text_model, self.fitted if model == "pi0_fast" else None)

    def settings(self, model: str = "pi0_fast", **changes) -> JobSettings:
        """What the fitted directory and these changes of a request come to."""
        return resolve(self.request(model, **changes))[1]


def make_world(root: Path) -> World:
    """Write and fit it below `root`."""
    data = episodes(LENGTHS)
    fit(write_v3(root / "v3", data), root / "fitted", FitSettings(horizon=HORIZON, vocab_size=400))
    return World(
        root / "v3",
        write_v21(root / "v21", data),
        write_text_model(root / "text.model"),
        root / "fitted",
    )


def content(directory: Path) -> dict[str, bytes]:
    """Every file below a directory, hidden ones too, with its bytes."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }
