"""The streaming quantiles equal sorting, for any floats, weights and cut into blocks."""

import hypothesis.strategies as st
import numpy as np
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from pioxide.data import ExactQuantiles


@st.composite
def weighted_values(draw):
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    width = np.dtype(dtype).itemsize * 8
    # Few distinct values make ties, all finite floats make every digit matter.
    elements = st.one_of(
        st.sampled_from([-1.5, -0.0, 0.0, 1.0, 1.0000001]).map(lambda x: float(dtype(x))),
        st.floats(allow_nan=False, allow_infinity=False, width=width),
    )
    shape = draw(st.integers(1, 30)), draw(st.integers(1, 3))
    values = draw(arrays(dtype, shape, elements=elements))
    weights = draw(arrays(np.int64, shape[0], elements=st.integers(1, 5)))
    return values, weights


@given(
    weighted_values(),
    st.booleans(),
    st.integers(1, 30),
    st.lists(st.sampled_from([0.01, 0.25, 0.5, 0.99, 1.0]), min_size=1, max_size=3),
)
@settings(deadline=None, max_examples=150)
def test_streaming_quantiles_equal_sorting(case, weighted, block, probabilities):
    values, weights = case
    quantiles = ExactQuantiles(values.shape[1], values.dtype, tuple(probabilities))
    for _ in range(quantiles.passes):
        for start in range(0, len(values), block):
            part = slice(start, start + block)
            quantiles.add(values[part], weights[part] if weighted else None)
        quantiles.next_pass()
    written_out = np.repeat(values, weights, axis=0) if weighted else values
    for found, q in zip(quantiles.values, probabilities, strict=True):
        rank = int(np.ceil(q * len(written_out)))
        np.testing.assert_array_equal(found, np.sort(written_out, axis=0)[rank - 1])
