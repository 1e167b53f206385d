"""LeRobot ran directories that pioxide wrote: they are written alike still, and mean the same actions."""

from pathlib import Path

import numpy as np
import pytest

from pioxide.codec import FastCodec, TextTokenizer
from pioxide.contract import Pipeline
from pioxide.family import Family
from pioxide.policy import Policy
from support.lerobot_policies import GOLDEN, TEXT_MODEL, case, read, write_fast_tokenizer
from support.lerobot_written import SOURCES, tensors, write


@pytest.mark.parametrize("name", SOURCES)
def test_the_files_that_lerobot_ran_are_written_again(name: str, tmp_path: Path) -> None:
    write(name, tmp_path)
    recorded = GOLDEN / "written" / name
    for file in sorted((recorded / "checkpoint").iterdir()):
        own = tmp_path / name / file.name
        if file.suffix == ".json":
            # The order of features is that of the cameras.
            assert list(_pairs(read(own))) == list(_pairs(read(file))), file.name
        else:
            assert own.read_bytes() == file.read_bytes(), file.name
    shapes = {tensor: shape for tensor, (_, *shape) in tensors(tmp_path / name).items()}
    assert shapes == read(recorded / "case.json")["tensors"]


@pytest.mark.parametrize("name", SOURCES)
def test_lerobot_computes_the_contracts_numbers_from_its_files(name: str, tmp_path: Path) -> None:
    contract = write(name, tmp_path)
    codec = None
    if contract.family is Family.PI0_FAST:
        codec = FastCodec.load(write_fast_tokenizer(tmp_path / "fast"))
    pipeline = Pipeline(contract, TextTokenizer.load(TEXT_MODEL), codec)
    what, sent = case(SOURCES[name])
    states = sent["observation.state"]
    with np.load(GOLDEN / "written" / name / "golden.npz") as lerobots:
        normalised = pipeline.numbers.state.apply(states)
        np.testing.assert_allclose(normalised, lerobots["pre.state"], rtol=0, atol=2e-6)
        ids, _ = pipeline.tokenize(what["tasks"], normalised)
        for own, tokens, mask in zip(ids, lerobots["pre.tokens"], lerobots["pre.mask"], strict=True):
            np.testing.assert_array_equal(own, tokens[mask])
        theirs = lerobots["post.actions"]
        actions = pipeline.invert(lerobots["chunk"], states)
        np.testing.assert_allclose(actions, theirs, rtol=0, atol=1e-6 * np.abs(theirs).max())


@pytest.mark.parametrize("beside", [True, False], ids=["contract.json", "LeRobot's files"])
def test_a_policy_from_such_a_directory_moves_the_robot_as_lerobot_does(beside: bool, tmp_path: Path) -> None:
    name = "pi05_openpi"
    write(name, tmp_path)
    if not beside:
        (tmp_path / name / "contract.json").unlink()
    policy = Policy.load(tmp_path / name, tokenizer=str(TEXT_MODEL))
    what, sent = case(SOURCES[name])
    frame = {key: value[0] for key, value in sent.items() if key.startswith("observation.")}
    answer = policy(frame | {"task": what["tasks"][0]}, noise=sent["noise"][0])
    with np.load(GOLDEN / "written" / name / "golden.npz") as lerobots:
        np.testing.assert_allclose(answer.model_actions[:, :6], lerobots["chunk"][0], rtol=0, atol=2e-4)
        numbers = policy.pipeline.numbers
        own, theirs = (
            numbers.apply_actions(actions, frame["observation.state"])
            for actions in (answer.actions, lerobots["post.actions"][0])
        )
        np.testing.assert_allclose(own, theirs, rtol=0, atol=2e-4)


def _pairs(value: object, path: str = "") -> "list[tuple[str, object]]":
    """Every leaf of a JSON document with its path, in the file's order."""
    if isinstance(value, dict):
        return [pair for key, inner in value.items() for pair in _pairs(inner, f"{path}/{key}")]
    return [(path, value)]
