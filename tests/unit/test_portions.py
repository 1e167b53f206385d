"""Statistics, codec and judgement by a crew that reads datasets in portions: the bits of one process."""

import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from pioxide.data import LeRobotDataset
from pioxide.data.portions import Portion, cut
from pioxide.errors import DatasetError
from pioxide.shards import FitSettings, JointSettings, fit, fit_jointly
from pioxide.shards.crew import Opened
from support.datasets import episodes, write_v3, write_v21
from support.jobs import content

LENGTHS = (30, 12, 25, 40, 8, 33, 21)
SETTINGS = FitSettings(horizon=8, vocab_size=300, max_chunks=60, delta_mask=(2, -1))


@dataclass(frozen=True)
class Apart:
    """A crew whose members share nothing: what they are told and what they tell goes by pickle."""

    datasets: Sequence[LeRobotDataset]
    frames: int

    def portions(self, source: int, episodes: Sequence[int]) -> list[Portion]:
        return cut(self.datasets[source], source, episodes, self.frames)

    def each(self, work, portions):
        sent = pickle.dumps(work)
        # The last one first: nobody depends on what was before.
        made = [
            pickle.dumps(pickle.loads(sent)(self.datasets[portion.source], portion))
            for portion in reversed(portions)
        ]
        yield from map(pickle.loads, reversed(made))


@dataclass(frozen=True)
class Others:
    """An engine of such crews."""

    frames: int = 40

    @contextmanager
    def crew(self, datasets: Sequence[Opened]) -> Iterator[Apart]:
        yield Apart([one.dataset for one in datasets], self.frames)


@pytest.mark.parametrize("frames", [1, 50, 10_000])
@pytest.mark.parametrize("codec", ["fast", "beast"])
def test_a_crew_fits_what_one_process_does(tmp_path: Path, frames: int, codec: str) -> None:
    root = write_v3(tmp_path / "robot", episodes(LENGTHS))
    settings = SETTINGS if codec == "fast" else FitSettings(horizon=12, codec="beast")
    fit(root, tmp_path / "one", settings)
    fit(root, tmp_path / "crew", settings, engine=Others(frames))
    assert content(tmp_path / "crew") == content(tmp_path / "one")


def test_a_crew_fits_several_datasets_too(tmp_path: Path) -> None:
    one = write_v3(tmp_path / "one", episodes(LENGTHS))
    two = write_v21(tmp_path / "two", episodes(LENGTHS[2:]))
    how = JointSettings(weight=(1, 2))
    fit_jointly([one, two], tmp_path / "alone", SETTINGS, how)
    fit_jointly([one, two], tmp_path / "crew", SETTINGS, how, engine=Others())
    assert content(tmp_path / "crew") == content(tmp_path / "alone")


def test_what_cannot_be_read_is_left_out_or_said_alike(tmp_path: Path) -> None:
    root = write_v21(tmp_path / "robot", episodes(LENGTHS))
    for bad in (0, 4):  # the first that is read, and one in the middle
        (root / f"data/chunk-000/episode_00000{bad}.parquet").write_bytes(b"PAR1")
    fit(root, tmp_path / "one", SETTINGS, skip_bad=True)
    made = fit(root, tmp_path / "crew", SETTINGS, skip_bad=True, engine=Others())
    assert [entry["episode"] for entry in made.skipped] == [0, 4]
    assert content(tmp_path / "crew") == content(tmp_path / "one")
    messages = []
    for engine in (None, Others()):
        with pytest.raises(DatasetError) as error:
            fit(root, tmp_path / "none", SETTINGS, engine=engine)
        messages.append(str(error.value))
    assert messages[0] == messages[1]


def test_portions_are_in_the_order_of_one_scan(tmp_path: Path) -> None:
    dataset = LeRobotDataset.open(write_v3(tmp_path / "robot", episodes(LENGTHS)))
    every = [info.index for info in dataset.episodes]
    for frames in (1, 45, 1000):
        portions = cut(dataset, 0, every[::-1], frames)
        assert [index for portion in portions for index in portion.episodes] == every
        sizes = [sum(LENGTHS[index] for index in portion.episodes[:-1]) for portion in portions]
        assert max(sizes) < frames or frames == 1


def test_a_file_between_others_is_read_in_its_turn(tmp_path: Path) -> None:
    """Episodes 0 and 2 in a file, 1 in another: a scan reads 0, 2, 1."""
    dataset = LeRobotDataset.open(write_v3(tmp_path / "robot", episodes((5, 5, 5))))
    files = ("data/a.parquet", "data/b.parquet", "data/a.parquet")
    listed = [replace(info, file=file) for info, file in zip(dataset.episodes, files, strict=True)]
    dataset = replace(dataset, episodes=tuple(listed))
    assert [portion.episodes for portion in cut(dataset, 0, [0, 1, 2], 100)] == [(0, 2), (1,)]


def test_sums_do_not_depend_on_threads_of_a_matrix_product() -> None:
    """Weighted sums of a wide block are those of each row by itself."""
    from pioxide.data.quantiles import Block

    rng = np.random.default_rng(0)
    values, weights = rng.normal(size=(5000, 26)), rng.integers(1, 50, 5000)
    whole = Block.of(values, weights, values[0])
    for dim in (0, 7, 25):
        alone = Block.of(values[:, dim : dim + 1], weights, values[0, dim : dim + 1])
        assert (alone.mean[0], alone.squares[0]) == (whole.mean[dim], whole.squares[dim])
