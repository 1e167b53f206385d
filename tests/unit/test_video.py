import multiprocessing
import pickle
import random
import shutil
from dataclasses import replace

import numpy as np
import pytest

from pioxide.contract import Resize
from pioxide.data import LeRobotDataset
from pioxide.data.footage import video_places
from pioxide.data.images import Fit, StillImages, decode_image
from pioxide.data.video import VideoReader
from pioxide.errors import DatasetError, InputError
from pioxide.transforms.images import resize_with_pad
from support.videos import (
    AV1,
    CAMERAS,
    FPS,
    H264,
    coded,
    number_in,
    picture_number,
    write_still_images,
    write_v3_video,
    write_v21_video,
    write_video,
)

FIT = Fit(32, Resize.ANTIALIAS)
LONG_GOP = ("libx264", {"g": "250", "bf": "3", "crf": "18"})


def read(root, file, seconds, fit=FIT, reader=None):
    images = (reader or VideoReader()).frames(root, file, seconds, fit, fps=FPS)
    return [number_in(image, fit.size) for image in images]


@pytest.mark.parametrize("codec", [H264, LONG_GOP, AV1], ids=["h264", "h264-long-gop", "av1"])
def test_every_timestamp_gives_its_own_frame_in_any_order(tmp_path, codec):
    write_video(tmp_path / "v.mp4", list(range(1, 61)), codec)
    order = list(range(60))
    random.Random(1).shuffle(order)
    reader = VideoReader()
    for batch in ([*order[:7]], [*order[7:30]], [0], [59], [58, 59], [3, 3, 3], [*order], [*range(60)]):
        # LeRobot stores times as float32.
        seconds = np.float32(batch) / np.float32(FPS)
        assert read(tmp_path, "v.mp4", seconds, reader=reader) == [b + 1 for b in batch]


def test_a_time_within_half_a_frame_finds_its_frame(tmp_path):
    write_video(tmp_path / "v.mp4", list(range(1, 21)))
    assert read(tmp_path, "v.mp4", [0.54, 0.46, 1.04, -0.03]) == [6, 6, 11, 1]


def test_a_time_behind_the_last_frame_is_an_error_and_not_the_last_frame(tmp_path):
    write_video(tmp_path / "v.mp4", list(range(1, 21)))
    reader = VideoReader()
    for seconds in (2.0, 17.0):
        with pytest.raises(DatasetError, match=r"v.mp4: has no frame at .* s: it ends before"):
            read(tmp_path, "v.mp4", [seconds], reader=reader)
    assert read(tmp_path, "v.mp4", [1.9, 0.0], reader=reader) == [20, 1]


def test_a_video_of_half_the_rate_lacks_every_other_frame(tmp_path):
    write_video(tmp_path / "v.mp4", list(range(1, 21)), fps=FPS // 2)
    assert read(tmp_path, "v.mp4", [0.4]) == [3]
    with pytest.raises(DatasetError, match=r"no frame at 0.3000 s: it has the next at 0.4000 s"):
        read(tmp_path, "v.mp4", [0.3])


def test_a_video_of_twice_the_rate_gives_the_frame_at_the_time(tmp_path):
    write_video(tmp_path / "v.mp4", list(range(1, 21)), fps=FPS * 2)
    assert read(tmp_path, "v.mp4", np.arange(10) / FPS) == [1 + 2 * i for i in range(10)]


def test_few_files_stay_open_and_all_can_be_read(tmp_path):
    for i in range(5):
        write_video(tmp_path / f"{i}.mp4", [100 * i + t for t in range(1, 8)])
    reader = VideoReader(keep_open=2)
    for _ in range(2):
        for i in range(5):
            assert read(tmp_path, f"{i}.mp4", [0.3, 0.1], reader=reader) == [100 * i + 4, 100 * i + 2]
            assert len(reader._files()) <= 2
    reader.close()
    assert read(tmp_path, "0.mp4", [0.2], reader=reader) == [3]


# A process with threads, as one that has used JAX, is warned of forking; the child here runs no JAX.
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning", "ignore:.*fork:RuntimeWarning")
def test_a_reader_with_open_files_can_be_pickled_and_forked(tmp_path):
    write_video(tmp_path / "v.mp4", list(range(1, 21)))
    reader = VideoReader()
    read(tmp_path, "v.mp4", [0.5], reader=reader)
    copy = pickle.loads(pickle.dumps(reader))
    assert read(tmp_path, "v.mp4", [0.7], reader=copy) == [8]
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=lambda: queue.put(read(tmp_path, "v.mp4", [1.2], reader=reader)))
    child.start()
    assert queue.get() == [13]
    child.join()
    assert read(tmp_path, "v.mp4", [0.6, 1.9], reader=reader) == [7, 20]


def test_reduced_video_is_within_a_level_of_the_exact_resize_on_average(tmp_path):
    # Soft colours as cameras have them; at hard edges between saturated ones both are off by more.
    y, x = np.mgrid[:48, :64] / 10
    waves = [np.stack([np.sin(x + c + i) * np.cos(y * (1 + c / 4)) for c in range(3)], -1) for i in range(3)]
    pictures = [np.rint(127 + 60 * wave).astype(np.uint8) for wave in waves]
    write_video(tmp_path / "v.mp4", pictures, ("libx264", {"crf": "10"}))
    times = np.arange(3) / FPS
    quick = VideoReader().frames(tmp_path, "v.mp4", times, FIT, fps=FPS)
    exact = VideoReader().frames(tmp_path, "v.mp4", times, replace(FIT, exact=True), fps=FPS)
    assert (quick[:, :4] == 0).all()
    assert (exact[:, :4] == 0).all()
    assert quick[:, 4].min() > 0
    assert np.abs(quick.astype(int) - exact).mean() < 0.6
    full = VideoReader().frames(tmp_path, "v.mp4", times, Fit(64, Resize.ANTIALIAS, exact=True), fps=FPS)
    assert (exact[1] == resize_with_pad(full[1, 8:56], 32)).all()


def test_lerobots_resize_is_always_exact_and_in_float(tmp_path):
    write_video(tmp_path / "v.mp4", [5, 6])
    image = VideoReader().frames(tmp_path, "v.mp4", [0.1], Fit(32, Resize.INTERPOLATE), fps=FPS)
    assert image.dtype == np.float32
    assert image[0, 0, 0, 0] == -1
    assert number_in(image[0], 32) == 6


def test_what_is_no_video_is_named(tmp_path):
    (tmp_path / "text.mp4").write_text("hello " * 100)
    (tmp_path / "pointer.mp4").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 3\n"
    )
    write_video(tmp_path / "whole.mp4", list(range(60)))
    content = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(content[: len(content) // 2])
    for file, reason in (
        ("text.mp4", "can't be read as video"),
        ("pointer.mp4", "Git LFS"),
        ("cut.mp4", "can't be read as video"),
        ("absent.mp4", "no such file"),
    ):
        with pytest.raises(DatasetError, match=f"{file}: .*{reason}"):
            read(tmp_path, file, [0.0])


@pytest.mark.parametrize("write", [write_v21_video, write_v3_video])
def test_every_layout_leads_to_the_frames_of_its_episodes(tmp_path, write):
    lengths = (9, 5, 7)
    dataset = LeRobotDataset.open(write(tmp_path / "d", lengths))
    starts = np.cumsum([0, *lengths])
    for c, key in enumerate(CAMERAS):
        places = video_places(dataset, key, range(3))
        for i, place in places.items():
            times = place.start + np.arange(lengths[i]) / FPS
            expected = [picture_number(c, starts[i] + t) for t in range(lengths[i])]
            assert read(dataset.path, place.file, times) == expected


def test_a_missing_video_is_named_before_anything_is_decoded(tmp_path):
    dataset = LeRobotDataset.open(write_v21_video(tmp_path / "d"))
    (dataset.path / f"videos/chunk-000/{CAMERAS[1]}/episode_000001.mp4").unlink()
    assert len(video_places(dataset, CAMERAS[1], [0, 2])) == 2
    with pytest.raises(DatasetError, match=r"episode_000001.mp4: episode 1: no such file"):
        video_places(dataset, CAMERAS[1], [0, 1, 2])


def test_a_v3_list_without_the_camera_is_named(tmp_path):
    dataset = LeRobotDataset.open(write_v3_video(tmp_path / "d", cameras=CAMERAS[:1]))
    with pytest.raises(DatasetError, match="videos/other/chunk_index"):
        video_places(dataset, "other", [0])


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_images_in_data_files_are_those_of_their_rows(tmp_path, form):
    lengths = (9, 5, 7)
    dataset = LeRobotDataset.open(write_still_images(tmp_path / "d", lengths, form=form))
    stills, starts = StillImages(dataset.path), np.cumsum([0, *lengths])
    for i, info in enumerate(dataset.episodes):
        order = np.random.default_rng(i).permutation(lengths[i])
        images = stills.frames(info, CAMERAS[1], order, FIT)
        expected = [picture_number(1, starts[i] + t) for t in order]
        assert [number_in(image, 32) for image in images] == expected


def test_an_image_may_lie_beside_the_data_files(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    dataset = LeRobotDataset.open(write_still_images(tmp_path / "d", (4,), cameras=CAMERAS[:1]))
    file = dataset.path / dataset.episodes[0].file
    table = pq.read_table(file)
    (dataset.path / "images").mkdir()
    values = []
    for t in range(4):
        Image.fromarray(coded(50 + t)).save(dataset.path / f"images/{t}.png")
        values.append({"bytes": None, "path": f"images/{t}.png"})
    values[2]["path"] = "images/absent.png"
    at = table.column_names.index(CAMERAS[0])
    column = pa.array(values, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    pq.write_table(table.set_column(at, CAMERAS[0], column), file)
    stills = StillImages(dataset.path)
    images = stills.frames(dataset.episodes[0], CAMERAS[0], np.array([3, 1]), FIT)
    assert [number_in(image, 32) for image in images] == [53, 51]
    with pytest.raises(DatasetError, match=r'episode 0: "observation.images.top" frame 2 can\'t be read'):
        stills.frames(dataset.episodes[0], CAMERAS[0], np.array([2]), FIT)


def test_depth_and_nonsense_are_no_images():
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(buffer, "PNG")
    with pytest.raises(InputError, match="mode I;16"):
        decode_image(buffer.getvalue())
    with pytest.raises(InputError, match="no image"):
        decode_image(b"nothing")


def test_recorded_video_gives_the_frame_of_every_row(shared):
    """Against sequential decoding of a real AV1 recording: every 7th frame of an episode, shuffled."""
    import av

    dataset = LeRobotDataset.open(shared("data/g1_with_video"))
    key = "observation.images.cam_high"
    fit = Fit(56, Resize.ANTIALIAS, exact=True)
    reader = VideoReader()
    for index, place in video_places(dataset, key, range(2)).items():
        rows = dataset.read(index, ["timestamp"]).columns["timestamp"]
        wanted = np.random.default_rng(index).permutation(len(rows))[::7]
        found = reader.frames(dataset.path, place.file, place.start + rows[wanted], fit, fps=dataset.fps)
        with av.open(str(dataset.path / place.file)) as container:
            pts = [round(frame.time * dataset.fps) for frame in container.decode(video=0)]
        assert pts == list(range(len(rows)))
        again = VideoReader().frames(
            dataset.path, place.file, np.arange(len(rows)) / dataset.fps, fit, fps=dataset.fps
        )
        assert (found == again[wanted]).all()


def test_a_copied_dataset_needs_no_index(tmp_path):
    """Files are found below the directory that was opened, wherever that is."""
    write_v3_video(tmp_path / "a", (4,))
    shutil.move(tmp_path / "a", tmp_path / "b")
    dataset = LeRobotDataset.open(tmp_path / "b")
    place = video_places(dataset, CAMERAS[0], [0])[0]
    assert read(dataset.path, place.file, [0.2]) == [picture_number(0, 2)]


def test_what_only_describes_a_file_may_be_spelled_in_any_encoding(tmp_path):
    write_video(tmp_path / "v.mp4", [1, 2, 3])
    content = (tmp_path / "v.mp4").read_bytes()
    assert b"Lavf" in content
    (tmp_path / "v.mp4").write_bytes(content.replace(b"Lavf", b"\xe9\xff\xfef"))
    assert read(tmp_path, "v.mp4", [0.0, 0.2]) == [1, 3]
