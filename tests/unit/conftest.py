"""What every unit test is given."""

from support.signals import signals_as_at_a_terminal

__all__ = ["signals_as_at_a_terminal"]
