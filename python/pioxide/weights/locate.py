"""Where a checkpoint's tensors are, below the path that a person gives."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from pioxide.errors import CheckpointError
from pioxide.files import as_address
from pioxide.weights.adapter import is_adapter, open_adapter
from pioxide.weights.openpi import is_orbax

PICKLED = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle")
# LeRobot's names in a training run: checkpoints/last -> 000100, and in each step the policy.
STEPS, LAST, POLICY = "checkpoints", "last", "pretrained_model"


class Located(NamedTuple):
    """A checkpoint on this machine.

    Attributes:
        root: Its own directory, in which everything lies that came with it.
        weights: Its tensors: a file, or the directory that holds them; of an adapter those of its base.
        adapter: The directory of an adapter, or None.
    """

    root: Path
    weights: Path
    adapter: Path | None = None


def locate(path: Path, base: Path | None = None) -> Located:
    """Finds a checkpoint.

    Args:
        path: A checkpoint, a directory of one, or a LeRobot training run.
        base: An adapter's base, where it is not where the adapter says.

    Raises:
        CheckpointError: There is none, there are several, it is pickled, or an adapter's base is not there.
    """
    if path.suffix in PICKLED:
        raise CheckpointError(
            f"{path} is a pickled PyTorch file: reading one can run any code, so pioxide never does; "
            "save it as .safetensors where you trust it"
        )
    if path.is_file():
        return Located(path.parent if path.suffix != ".npz" else path, path)
    if not path.is_dir():
        raise CheckpointError(f"{path} is not there")
    if is_orbax(path):
        return Located(path.parent if path.name == "params" else path, path)
    found: list[Located] = []
    if is_orbax(path / "params"):
        found.append(Located(path, path / "params"))
    for directory in (path, path / POLICY):
        if is_adapter(directory):
            found.append(_with_base(directory, base))
            continue
        for name in ("model.safetensors", "model.safetensors.index.json"):
            if (directory / name).is_file():
                found.append(Located(directory, directory / name))
                break
    found = found or [Located(path, archive) for archive in sorted(path.glob("*.npz"))]
    if not found and (step := _trained(path)) is not None:
        return locate(step, base)
    if not found:
        raise CheckpointError(_nothing_here(path))
    if len(found) > 1:
        names = ", ".join(str(one.weights.relative_to(path)) for one in found)
        raise CheckpointError(f"{path} holds several checkpoints ({names}): name one, as {found[0].weights}")
    return found[0]


def newest(path: str | Path) -> str | Path:
    """Returns the last whole step of a training run of ours, by RUN or RUN/checkpoints; else what was given.

    A step appears under its number when all of it is written. Addresses are given back as they are.
    """
    if as_address(path):
        return path
    for directory in (Path(path) / STEPS, Path(path)):
        steps = [step for step in _steps(directory) if is_orbax(step / "params")]
        if steps:
            return steps[-1]
    return path


def _steps(directory: Path) -> list[Path]:
    """Returns directories that are numbers, in their order."""
    if not directory.is_dir():
        return []
    return sorted((d for d in directory.iterdir() if d.name.isdigit()), key=lambda d: int(d.name))


def _with_base(directory: Path, base: Path | None) -> Located:
    if base is None:
        adapter = open_adapter(directory)
        adapter.file.close()
        base = adapter.find_base()
    if is_adapter(base):
        raise CheckpointError(f"{directory}: its base {base} is an adapter itself: merge that one first")
    return Located(directory, locate(base).weights, directory)


def _trained(path: Path) -> Path | None:
    """Returns the policy of a training run's last step, from any of its directories; None for no run."""
    for directory in (path / STEPS, path):
        if (directory / LAST / POLICY).is_dir():
            return (directory / LAST).resolve() / POLICY
        steps = [step for step in _steps(directory) if (step / POLICY).is_dir()]
        if len(steps) == 1:
            return steps[0] / POLICY
        if steps:
            names = ", ".join(step.name for step in steps)
            raise CheckpointError(
                f"{directory} holds training steps {names} and no link {LAST!r}: name one, as {steps[-1]}"
            )
    return None


def _nothing_here(path: Path) -> str:
    steps = [step.name for step in _steps(path) if is_orbax(step / "params")]
    if steps:
        return f"{path} holds training steps {', '.join(steps)}: name one, as in {path / steps[-1]}"
    pickled = sorted(f.name for f in path.iterdir() if f.suffix in PICKLED)
    if pickled:
        return (
            f"{path} holds only pickled files ({', '.join(pickled[:3])}), which are never loaded; "
            "save the model as .safetensors where you trust it"
        )
    return (
        f"{path} is no checkpoint: it has no params/ (openpi), no model.safetensors (LeRobot, "
        "openpi-PyTorch, Hugging Face) and no .npz (PaliGemma)"
    )
