"""The examples in docstrings run, and print what they say."""

import doctest
from importlib import import_module

import pytest

MODULES = [
    "pioxide.codec.fast",
    "pioxide.codec.prompts",
    "pioxide.codec.state",
    "pioxide.codec.text",
    "pioxide.contract.contract",
    "pioxide.contract.compare",
    "pioxide.control.queue",
    "pioxide.control.runner",
    "pioxide.control.safety",
    "pioxide.policy.policy",
]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name: str) -> None:
    module = import_module(name)
    results = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL)
    assert results.attempted > 0, "a module is listed here for its examples"
    assert results.failed == 0
