"""Images are fitted as jax.image.resize and openpi's borders do. Source of truth: jax.image.resize itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pioxide.errors import InputError
from pioxide.transforms.images import plan_for, resize_with_pad

SHAPES = [
    (480, 640),
    (720, 1280),
    (180, 320),
    (256, 256),
    (640, 480),
    (224, 300),
    (300, 224),
    (97, 131),
    (100, 60),
    (50, 224),
    (225, 223),
    (37, 1000),
    (1, 2),
    (1, 1),
    (3, 2),
]


def reference(image, size):
    """openpi's arithmetic: sizes by truncation, one float32 resize, rounding, black borders."""
    height, width = image.shape[:2]
    ratio = max(width / size, height / size)
    new = (int(height / ratio), int(width / ratio), 3)
    resized = jax.image.resize(jnp.asarray(image, jnp.float32), new, "linear", antialias=True)
    resized = np.asarray(jnp.clip(jnp.round(resized), 0, 255)).astype(np.uint8)
    (top, odd_top), (left, odd_left) = (divmod(size - n, 2) for n in new[:2])
    return np.pad(resized, ((top, top + odd_top), (left, left + odd_left), (0, 0)))


def images(height, width):
    rng = np.random.default_rng(height * 10_000 + width)
    yield rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    yield np.full((height, width, 3), 255, np.uint8)
    ramp = np.linspace(0, 255, height * width * 3).reshape(height, width, 3)
    yield ramp.astype(np.uint8)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [224, 28])
def test_pixels_are_those_of_jax_within_one_level(shape, size):
    ratio = max(shape) / size
    if int(min(shape) / ratio) == 0:
        pytest.skip("nothing would be left of the short side")
    for image in images(*shape):
        ours, theirs = resize_with_pad(image, size), reference(image, size)
        assert ours.shape == (size, size, 3)
        assert ours.dtype == np.uint8
        apart = np.abs(ours.astype(int) - theirs.astype(int))
        assert apart.max() <= 1
        # They part at exact halves alone, which whole numbers in a float32 sum seldom are. JAX adds up in an
        # order of its compiler's choice.
        assert np.mean(apart > 0) < 0.05


def test_an_image_of_the_right_size_is_not_copied():
    image = np.zeros((224, 224, 3), np.uint8)
    assert resize_with_pad(image, 224) is image


def test_borders_are_black_and_the_odd_pixel_comes_after():
    out = resize_with_pad(np.full((100, 61, 3), 200, np.uint8), 28)
    plan = plan_for(100, 61, 28)
    assert (plan.height, plan.width, plan.left) == (28, 17, 5)
    assert (out[:, 5:22] == 200).all()
    assert not out[:, :5].any()
    assert not out[:, 22:].any()


def test_any_memory_order_gives_the_same():
    planes = np.random.default_rng(0).integers(0, 256, (3, 48, 64), dtype=np.uint8)
    view = np.moveaxis(planes, 0, -1)
    np.testing.assert_array_equal(resize_with_pad(view, 28), resize_with_pad(np.ascontiguousarray(view), 28))


def test_a_plan_is_made_once_per_shape():
    plan_for.cache_clear()
    for _ in range(5):
        resize_with_pad(np.zeros((48, 64, 3), np.uint8), 28)
    assert plan_for.cache_info().misses == 1


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((4, 4), np.uint8), "uint8"),
        (np.zeros((4, 4, 3), np.float32), "float32"),
        (np.zeros((0, 4, 3), np.uint8), "(0, 4, 3)"),
        (np.zeros((1, 5000, 3), np.uint8), "too narrow"),
    ],
)
def test_what_is_no_image_is_refused(image, words):
    with pytest.raises(InputError) as error:
        resize_with_pad(image, 28)
    assert words in str(error.value)
