"""How the readers say what is wrong: a `DatasetError` with file and episode as fields and in the sentence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pioxide.errors import DatasetError
from pioxide.files import mistaken_file


def fault(reason: str, *, file: str, episode: int | None = None) -> DatasetError:
    """Returns an error to raise: `data/…/episode_000003.parquet: episode 3: reason`."""
    place = file if episode is None else f"{file}: episode {episode}"
    error = DatasetError(f"{place}: {reason}")
    error.file = file
    error.episode = episode
    return error


def unreadable(root: Path, file: str, error: BaseException) -> DatasetError:
    """Returns an error for a Parquet file: absent, something else (a Git LFS pointer), or damaged."""
    path = root / file
    if not path.exists():
        return fault("no such file", file=file)
    if not path.is_file():
        return fault("is a directory" if path.is_dir() else "is not a regular file", file=file)
    return fault(mistaken_file(path) or f"can't be read as Parquet ({one_line(error)})", file=file)


def nothing_left(reasons: Sequence[str], most: int = 3) -> DatasetError:
    """Returns an error for when leaving out bad episodes leaves none: with the first of their reasons."""
    lines = [
        f"every episode was left out ({len(reasons):,}), so there is nothing to work on:",
        *reasons[:most],
    ]
    if len(reasons) > most:
        lines.append(f"... and {len(reasons) - most:,} more")
    return DatasetError("\n  ".join(lines))


def one_line(error: BaseException) -> str:
    """Returns the first line of a foreign exception, for a message that stays one sentence."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
