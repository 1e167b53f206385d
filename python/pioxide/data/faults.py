"""How the readers say what is wrong: a `DatasetError` with file and episode as fields and in the sentence."""

from __future__ import annotations

from pioxide.errors import DatasetError


def fault(reason: str, *, file: str, episode: int | None = None) -> DatasetError:
    """An error to raise: `data/…/episode_000003.parquet: episode 3: reason`."""
    place = file if episode is None else f"{file}: episode {episode}"
    error = DatasetError(f"{place}: {reason}")
    error.file = file
    error.episode = episode
    return error


def one_line(error: BaseException) -> str:
    """The first line of a foreign exception, for a message that stays one sentence."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
