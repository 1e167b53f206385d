"""Tasks of our own in MuJoCo, with scripted experts: a tip on a table, seen from above. Needs MuJoCo.

Reach: a disc that only the picture shows
Words: one of three targets, told by words, picture and state together
Push: a puck to a goal
"""

from pioxide.evaluate.tasks.push import Push
from pioxide.evaluate.tasks.reach import Reach
from pioxide.evaluate.tasks.table import TableTask
from pioxide.evaluate.tasks.words import Words

TASKS: dict[str, type[TableTask]] = {"reach": Reach, "words": Words, "push": Push}

__all__ = ["TASKS", "Push", "Reach", "TableTask", "Words"]
