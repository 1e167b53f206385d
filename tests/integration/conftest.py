"""The job's tests share one small world, made once."""

import pytest

from support.jobs import World, make_world
from support.signals import signals_as_at_a_terminal

__all__ = ["signals_as_at_a_terminal", "world"]


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))
