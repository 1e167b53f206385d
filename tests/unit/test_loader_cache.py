from pathlib import Path

import numpy as np
import pytest

from pioxide.data.loader import CacheSettings, Loader, LoaderSettings
from pioxide.errors import DatasetError, InputError, SettingsError
from support.loading import LENGTHS, SIZE, make_pictured
from support.videos import CAMERAS, number_in, picture_number, write_still_images, write_v3_video, write_video

ROWS = sum(LENGTHS)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_pictured(tmp_path_factory.mktemp("world"))


def load(world, directory=None, *, stated=None, told=None, **settings):
    options = {"batch_size": ROWS, "shuffle": False, "repeat": False} | settings
    on_frames = None if told is None else lambda done, total: told.append((done, total))
    cache = None if directory is None else CacheSettings(directory, 2, on_frames)
    source = world.source(stated=stated)
    with Loader(source, LoaderSettings(**options), world.tokenizer, cache=cache) as loader:
        return loader.at(0)


def files(directory: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in sorted(directory.rglob("*.frames"))}


@pytest.mark.parametrize("write", [write_v3_video, write_still_images])
def test_cached_pictures_are_those_of_their_rows(tmp_path, write):
    world = make_pictured(tmp_path, write=write)
    plain = load(world)
    for _ in range(2):
        cached = load(world, tmp_path / "cache")
        for camera, (slot, images) in enumerate(cached.images.items()):
            numbers = [number_in(image, SIZE) for image in images]
            assert numbers == [picture_number(camera, row) for row in range(ROWS)]
            assert np.abs(images.astype(int) - plain.images[slot]).mean() < 2
            assert not images[:, :4].any()
            assert not images[:, 28:].any()
    assert len(files(tmp_path / "cache")) == 2 * len(LENGTHS)


def test_exact_pictures_are_the_same_to_the_bit(world, tmp_path):
    plain, cached = load(world, exact_images=True), load(world, tmp_path, exact_images=True)
    for slot in plain.images:
        assert np.array_equal(plain.images[slot], cached.images[slot])


def test_lerobots_floats_are_cached_in_8_bits(world, tmp_path):
    stated = {"resize": "interpolate"}
    plain, cached = load(world, stated=stated), load(world, tmp_path, stated=stated)
    for slot in plain.images:
        assert cached.images[slot].dtype == np.float32
        assert np.abs(plain.images[slot] - cached.images[slot]).mean() < 2 / 127
        assert (cached.images[slot][:, :4] == -1).all()
    with pytest.raises(InputError, match="floats"):
        load(world, tmp_path, stated=stated, exact_images=True)


def test_what_is_there_is_not_made_again_and_what_is_missing_is(world, tmp_path):
    told = []
    load(world, tmp_path, told=told)
    assert told[0] == (0, 2 * ROWS)
    assert told[-1] == (2 * ROWS, 2 * ROWS)
    before = files(tmp_path)
    gone = sorted(before)[3]
    gone.unlink()
    told.clear()
    load(world, tmp_path, told=told)
    after = files(tmp_path)
    assert list(after) == list(before)
    assert [path for path in after if after[path] != before[path]] == [gone]
    assert told[0] == (2 * ROWS - LENGTHS[3], 2 * ROWS)


def test_what_a_killed_run_left_half_written_is_removed(world, tmp_path):
    load(world, tmp_path)
    made = sorted(files(tmp_path))
    half = made[0].with_name(f".{made[0].name}.0123abcd.tmp")
    made[0].rename(half)
    load(world, tmp_path)
    assert sorted(files(tmp_path)) == made
    assert not half.exists()


def test_kinds_of_pictures_lie_side_by_side(world, tmp_path):
    load(world, tmp_path)
    load(world, tmp_path, exact_images=True)
    load(world, tmp_path, stated={"image_size": 48})
    kinds = {path.parent.name for path in tmp_path.glob("dataset/*/cache.json")}
    assert kinds == {"32-antialias-jpeg95", "32-antialias-exact", "48-antialias-jpeg95"}


def test_a_video_that_was_encoded_anew_is_decoded_anew(tmp_path):
    world = make_pictured(tmp_path, (9, 8), per_file=1)
    load(world, tmp_path / "cache", batch_size=17)
    before = files(tmp_path / "cache")
    video = world.path / f"videos/{CAMERAS[0]}/chunk-000/file-001.mp4"
    write_video(video, [900 + t for t in range(8)])
    cached = load(world, tmp_path / "cache", batch_size=17)
    numbers = [number_in(image, SIZE) for image in cached.images["base_0_rgb"]]
    assert numbers == [*range(1, 10), *range(900, 908)]
    assert len(files(tmp_path / "cache")) == len(before) + 1


def test_a_cache_made_in_another_way_is_refused(world, tmp_path):
    load(world, tmp_path)
    (record,) = tmp_path.glob("*/*/cache.json")
    record.write_text(record.read_text().replace("quality 95", "quality 50"))
    with pytest.raises(SettingsError, match="another cache directory"):
        load(world, tmp_path)


def test_a_damaged_cache_is_named(world, tmp_path):
    load(world, tmp_path)
    path = sorted(tmp_path.rglob("*.frames"))[0]
    content = path.read_bytes()
    for spoiled in (content[:200], b"nothing" + content[7:], content[:-3000] + bytes(3000)):
        path.write_bytes(spoiled)
        with pytest.raises(DatasetError, match=r"\.frames: .*delete it and start again"):
            load(world, tmp_path)
    path.write_bytes(content)


def test_a_video_that_can_not_be_read_leaves_nothing_half_made(tmp_path):
    world = make_pictured(tmp_path, (9, 8), per_file=1)
    video = world.path / f"videos/{CAMERAS[0]}/chunk-000/file-001.mp4"
    write_video(video, list(range(5)))  # three frames short
    with pytest.raises(DatasetError, match=r"file-001.mp4: has no frame at 0.5000 s"):
        load(world, tmp_path / "cache", batch_size=17)
    made = [path.name[:14] for path in files(tmp_path / "cache") if CAMERAS[0] in str(path)]
    assert made == ["episode_000000"]
    assert not list((tmp_path / "cache").rglob("*.tmp"))
