"""A policy in closed loop with a simulator: success with its uncertainty, films, demonstrations to train on.

    evaluate, EvaluationSettings, Evaluation: many seeds at once, in one batch of the policy
    Adapter, Moment: what makes any gymnasium environment a task
    find_task, task_names: tasks by name; those of our own are in `pioxide.evaluate.tasks`
    remote.RemotePolicy: a policy behind a server, in the place of one here (needs the extra "client")
    Variant: what is taken from a policy, to see whether it needs it
    Score, wilson: success rates and their intervals
    Reel: films, failures first
    record, RecordSettings: scripted demonstrations as a LeRobot dataset with video

Needs gymnasium, and MuJoCo for our own tasks: `pip install "pioxide[eval]"`.
"""

from pioxide.evaluate.adapter import Adapter, Environment, Moment, Variant
from pioxide.evaluate.catalogue import find_task, task_names
from pioxide.evaluate.film import Reel
from pioxide.evaluate.lane import Episode, Outcome
from pioxide.evaluate.player import Player
from pioxide.evaluate.record import RecordSettings, record
from pioxide.evaluate.rollout import FIRST_FRESH_SEED, Evaluation, EvaluationSettings, evaluate
from pioxide.evaluate.score import Score, scores, wilson

__all__ = [
    "FIRST_FRESH_SEED",
    "Adapter",
    "Environment",
    "Episode",
    "Evaluation",
    "EvaluationSettings",
    "Moment",
    "Outcome",
    "Player",
    "RecordSettings",
    "Reel",
    "Score",
    "Variant",
    "evaluate",
    "find_task",
    "record",
    "scores",
    "task_names",
    "wilson",
]
