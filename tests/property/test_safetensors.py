"""The reader of safetensors against the safetensors package, on whole files and on damaged ones."""

import ml_dtypes
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from pioxide.errors import CheckpointError
from pioxide.weights.safetensors import SafetensorsFile, SafetensorsWriter
from pioxide.weights.tree import Spec

DTYPES = [np.float64, np.float32, np.float16, ml_dtypes.bfloat16, np.int64, np.int32, np.uint8, np.bool_]
quietly = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)

names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12).filter(
    lambda name: name != "__metadata__"
)
shapes = st.lists(st.integers(0, 4), max_size=3).map(tuple)
tensors = st.dictionaries(names, st.tuples(shapes, st.sampled_from(DTYPES)), max_size=5)


def arrays_of(table: dict) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        n: np.asarray(rng.standard_normal(shape) * 8).astype(dtype) for n, (shape, dtype) in table.items()
    }


@quietly
@given(tensors)
def test_reads_what_the_package_writes(tmp_path, table):
    arrays = arrays_of(table)
    (tmp_path / "x.safetensors").write_bytes(save(arrays, {"format": "pt"}))
    file = SafetensorsFile(tmp_path / "x.safetensors")
    assert file.metadata == {"format": "pt"}
    assert set(file.tensors) == set(arrays)
    for name, array in arrays.items():
        got = file.read(name)
        assert got.dtype == array.dtype
        assert got.shape == array.shape
        assert got.tobytes() == array.tobytes()
    file.close()


@quietly
@given(tensors)
def test_the_package_reads_what_is_written(tmp_path, table):
    arrays = arrays_of(table)
    specs = {name: Spec(array.shape, array.dtype) for name, array in arrays.items()}
    writer = SafetensorsWriter(tmp_path / "x.safetensors", specs, {"a": "b"})
    for name, array in arrays.items():
        writer.put(name, array)
    writer.close()
    with safe_open(tmp_path / "x.safetensors", framework="numpy") as file:
        assert file.metadata() == {"a": "b"}
        assert set(file.keys()) == set(arrays)
        for name, array in arrays.items():
            assert file.get_tensor(name).tobytes() == array.tobytes()


@quietly
@given(tensors, st.data())
def test_damage_is_refused_in_one_way_or_read_as_the_package_reads_it(tmp_path, table, data):
    content = bytearray(save(arrays_of(table)))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content)))
        cut = data.draw(st.integers(0, 3))
        content[at : at + cut] = data.draw(st.binary(max_size=3))
    (tmp_path / "x.safetensors").write_bytes(content)
    try:
        file = SafetensorsFile(tmp_path / "x.safetensors")
    except CheckpointError:
        return
    try:
        with safe_open(tmp_path / "x.safetensors", framework="numpy") as theirs:
            assert set(file.tensors) == set(theirs.keys())
            for name in file.tensors:
                assert file.read(name).tobytes() == theirs.get_tensor(name).tobytes()
    except SafetensorError:
        # The package asks more of the header's text than that it is JSON; the tensors lie where it says.
        for name in file.tensors:
            file.read(name)
    finally:
        file.close()
