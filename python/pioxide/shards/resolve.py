"""What a person says (a dataset, a model, a directory that `fit` made) -> complete inputs and settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pioxide.errors import InputError
from pioxide.family import Family, Normalization
from pioxide.shards.fit import FitResult
from pioxide.shards.settings import (
    ActionSpace,
    JobSettings,
    OnOverflow,
    as_json,
    differences,
)
from pioxide.shards.shard import JobInputs


@dataclass(frozen=True)
class JobRequest:
    """What a person says; None leaves it to the fitted directory, then to the model.

    Attributes:
        dataset: a LeRobot dataset.
        model: what the rows are for.
        text_model: a SentencePiece model.
        fit: a directory that `fit` made: statistics, FAST tokenizer, columns, horizon, delta mask.
        stats: `norm_stats.json`, in place of the fitted directory's.
        fast: a FAST tokenizer, in place of the fitted directory's.
        state_keys: see `ActionSpace`, as the next three.
        action_keys: columns of the actions.
        horizon: actions in a chunk.
        delta_mask: run lengths.
        normalization: see `JobSettings`, as all that follows.
        max_len: tokens before a prompt is cut.
        on_overflow: "error" or "clip".
        episodes: as in "0:10,15".
        limit: frames.
        shard_frames: rows a shard.
    """

    dataset: Path
    model: Family
    text_model: Path
    fit: Path | None = None
    stats: Path | None = None
    fast: Path | None = None
    state_keys: tuple[str, ...] | None = None
    action_keys: tuple[str, ...] | None = None
    horizon: int | None = None
    delta_mask: tuple[int, ...] | None = None
    normalization: Normalization | None = None
    max_len: int | None = None
    on_overflow: OnOverflow = "error"
    episodes: str = ""
    limit: int | None = None
    shard_frames: int | None = None


def resolve(request: JobRequest) -> tuple[JobInputs, JobSettings]:
    """Fill in what was left open.

    The columns, horizon and delta mask of the fitted directory hold; others given beside it are refused,
    because its statistics would then be those of other numbers.

    Raises:
        InputError: no statistics, no FAST tokenizer for pi0_fast, or a contradiction to the fitted directory.
        FormatError: the fitted directory is none.
    """
    fitted = None if request.fit is None else FitResult.load(request.fit)
    stats = request.stats or request.fit
    if stats is None:
        raise InputError(
            "normalising needs statistics: make them with `pioxide fit DATASET -o DIR` and pass --fit DIR, "
            "or pass openpi's norm_stats.json with --stats"
        )
    fast = (request.fast or request.fit) if Family(request.model) is Family.PI0_FAST else None
    if Family(request.model) is Family.PI0_FAST and fast is None:
        raise InputError(
            "pi0_fast needs a FAST tokenizer: pass --fit DIR (from `pioxide fit`), or --fast DIR "
            "(any FAST tokenizer; `pioxide fetch fast` brings the published one)"
        )
    normalization = request.normalization
    if (
        normalization is None
        and fitted is not None
        and Family(request.model) is Family.PI0_FAST
        and request.fast is None
    ):
        normalization = fitted.settings["normalization"]  # its vocabulary was made from such numbers
    settings = JobSettings(
        model=request.model,
        space=_space(request, fitted),
        normalization=normalization,
        max_len=request.max_len,
        on_overflow=request.on_overflow,
        episodes=request.episodes,
        limit=request.limit,
        shard_frames=request.shard_frames,
    )
    return JobInputs(request.dataset, stats, request.text_model, fast), settings


def _space(request: JobRequest, fitted: FitResult | None) -> ActionSpace:
    base = ActionSpace() if fitted is None else fitted.space
    said = {
        name: value
        for name in ("state_keys", "action_keys", "horizon", "delta_mask")
        if (value := getattr(request, name)) is not None
    }
    space = ActionSpace(**{**{f: getattr(base, f) for f in base.__dataclass_fields__}, **said})
    if fitted is not None and request.stats is None and space != base:
        lines = "; ".join(differences(as_json(base), as_json(space)))
        raise InputError(
            f"{request.fit} was fitted for something else ({lines}); fit again, or leave that option out"
        )
    return space


def parse_mask(text: str) -> tuple[int, ...]:
    """Run lengths from text such as "6,-1,6,-1"; empty text is an empty mask.

    Raises:
        InputError: a part is not a whole number other than 0.
    """
    runs: list[int] = []
    for part in (p.strip() for p in text.split(",") if text.strip()):
        try:
            runs.append(int(part))
        except ValueError:
            raise InputError(
                f'delta mask {text!r}: {part!r} is not a number; write it as "6,-1,6,-1"'
            ) from None
        if runs[-1] == 0:
            raise InputError(f"delta mask {text!r}: a run of 0 dimensions")
    return tuple(runs)
