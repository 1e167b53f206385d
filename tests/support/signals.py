"""Signals as a test expects them, wherever the suite runs."""

import signal
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def signals_as_at_a_terminal() -> Iterator[None]:
    """Lets signals be heard where the suite runs in the background (`&`, nohup), which ignores them.

    What a test sends to itself or to a child, which inherits this, would be waited for in vain.
    """
    heard = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    deaf = {number: how for number, how in heard.items() if signal.getsignal(number) == signal.SIG_IGN}
    for number, how in deaf.items():
        signal.signal(number, how)
    yield
    for number in deaf:
        signal.signal(number, signal.SIG_IGN)
