"""`gs://` and `hf://`, by servers of ours that answer as the real ones say (`support.fake_stores`)."""

from pathlib import Path

import pytest

from pioxide.data import LeRobotDataset
from pioxide.errors import DatasetError, InputError, OutputError
from pioxide.fetch.store import Store
from pioxide.shards import TokenDataset, tokenize_dataset
from pioxide.shards.lease import WHOLE, leased
from support.fake_stores import google, hub
from support.jobs import World, content

pytest.importorskip("tyro")
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIOXIDE_CACHE", str(tmp_path / "cache"))


def test_google_cloud_storage_holds_what_a_directory_would(world: World, tmp_path: Path) -> None:
    pytest.importorskip("gcsfs", reason='SKIPPED: pip install "pioxide[fetch]"')
    tokenize_dataset(world.inputs(), tmp_path / "here", world.settings())
    whole = content(tmp_path / "here")
    with google() as fake:
        fake.objects |= {f"robots/v3/{name}": data for name, data in content(world.v3).items()}
        dataset = LeRobotDataset.open("gs://robots/v3")
        assert dataset.fingerprint() == LeRobotDataset.open(world.v3).fingerprint()
        brought = len(fake.served)
        LeRobotDataset.open("gs://robots/v3")
        assert len(fake.served) == brought  # nothing twice

        out = "gs://robots/tokens"
        with leased(Store(out), WHOLE), pytest.raises(OutputError, match="another run is writing"):
            tokenize_dataset(world.inputs(), out, world.settings())
        tokenize_dataset(world.inputs(), out, world.settings())
        assert fake.below("robots/tokens/") == whole
        del fake.objects["robots/tokens/shards/shard-00001.parquet"]
        tokenize_dataset(world.inputs(), out, world.settings())
        assert fake.below("robots/tokens/") == whole
        assert len(TokenDataset.open(out, verify=True)) == len(TokenDataset.open(tmp_path / "here"))
        with pytest.raises(DatasetError, match="gs://robots/nothing: can't be read"):
            LeRobotDataset.open("gs://robots/nothing")


def test_a_dataset_of_the_hub_is_that_dataset(world: World) -> None:
    pytest.importorskip("huggingface_hub", reason='SKIPPED: pip install "pioxide[fetch]"')
    with hub() as fake:
        fake.objects |= {f"me/v3/{name}": data for name, data in content(world.v3).items()}
        fake.objects["me/v3/videos/large.mp4"] = b"..."
        dataset = LeRobotDataset.open("hf://datasets/me/v3")
        assert dataset.fingerprint() == LeRobotDataset.open(world.v3).fingerprint()
        assert not (dataset.path / "videos").exists()
        brought = len(fake.served)
        LeRobotDataset.open("hf://datasets/me/v3")
        assert len(fake.served) == brought
        info = fake.objects["me/v3/meta/info.json"]
        fake.objects["me/v3/meta/info.json"] = info.replace(b'"robot_type": "', b'"robot_type": "other ')
        assert LeRobotDataset.open("hf://datasets/me/v3").robot_type.startswith("other ")
        assert fake.served[brought:] == ["me/v3/meta/info.json"]
        with pytest.raises(DatasetError, match="hf://datasets/me/none"):
            LeRobotDataset.open("hf://datasets/me/none")
        with pytest.raises(InputError, match="nothing is written to such an address"):
            tokenize_dataset(world.inputs(), "hf://datasets/me/tokens", world.settings())
