"""Every row of the PyTorch name table is undone by its own inverse, and finds its axes again."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pioxide.errors import CheckpointError
from pioxide.weights.pytorch_names import ROWS
from pioxide.weights.rearrange import Rearrange

PATTERNS = sorted({row.how.pattern for row in ROWS})


@given(st.sampled_from(PATTERNS), st.integers(0, 2**32 - 1))
def test_placing_undoes_taking(pattern, seed):
    rng = np.random.default_rng(seed)
    how = Rearrange(pattern)
    shape = tuple(2 if isinstance(i, int) else int(rng.integers(1, 140)) for i in how.index)
    shape = tuple(min(n, 9) for n in shape) if len(shape) > 2 else shape
    parameter = rng.standard_normal(shape).astype(np.float32)
    foreign = how.to_foreign(parameter)
    assert foreign.flags.c_contiguous
    assert foreign.shape == how.foreign_shape(shape)
    back = np.full(shape, np.nan, np.float32)
    how.place(back, foreign)
    assert np.array_equal(back[how.index], parameter[how.index])
    sizes = how.sizes(shape)
    # Of two axes in one, a file does not tell the first: heads.
    known = {axis: sizes[axis] for group in how.groups if len(group) > 1 for axis in group[:1]}
    assert how.solve(foreign.shape, known) == sizes


def test_a_pattern_reads_as_it_is_written():
    x = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    assert np.array_equal(Rearrange("n d h -> (n h) d").to_foreign(x), x.transpose(0, 2, 1).reshape(8, 3))
    assert np.array_equal(Rearrange("1 d h -> h d").to_foreign(x), x[1].T)


def test_axes_that_do_not_divide_are_said():
    with pytest.raises(CheckpointError, match="an axis of 10 is no"):
        Rearrange("n d h -> (n h) d").solve((10, 3), {"n": 4})
    with pytest.raises(CheckpointError, match="has 1 axes, expected 2"):
        Rearrange("x y -> y x").solve((10,), {})
