"""`Recipe`: everything that a run is made of, but for the data's path."""

from __future__ import annotations

from dataclasses import dataclass, field

from pioxide.train.config import TrainConfig
from pioxide.train.contracts import Numbers


@dataclass(frozen=True, kw_only=True)
class Data:
    """How a dataset is read.

    Attributes:
        robot: Whose numbers: a preset's name or a YAML file; the dataset's own where it says so.
        also: More datasets of the same robot, which are mixed in.
        weight: The share of rows from each of them, DATASET's first, in relation to each other; by default
            each has as many as it has frames.
        fit: What `pioxide fit` made of the dataset, of all of them where there are several; made in the run's
            directory where not given.
        statistics: Whose statistics normalise, in place of the dataset's own: a checkpoint, as the one that
            the run starts from, or what `pioxide fit` made of more of the robot's data.
        camera: A robot's camera for an image slot, where names do not tell: SLOT=KEY, all of them after one
            --data.camera.
        text_model: The text model; PaliGemma's from the cache by default.
        cut_vocabulary: Whether the text model is cut to what the dataset's instructions need.
        whole_numbers: Whether each number of a state that is text is one piece of the vocabulary that is cut,
            and not one a digit: a small network from noise does not learn to read digits.
        subtasks: What the robot does in each frame: a column of texts, LeRobot's subtask_index, or a file of
            spans (.json). π0.5 then learns to say it, and acts by it.
        subtask_share: The share of rows that teach it to say subtasks; the others act.
        advantage: Which actions are good: a column of truth values or numbers, or a file of spans or numbers
            (.json). Prompts then say it, and the policy is asked for good ones (RECAP).
        advantage_threshold: What numbers are to be above; or
        advantage_share: the share of each task's frames that is good, the best ones: 0.3 in the paper.
        advantage_dropout: The share of prompts that leave it out, so that a policy can be guided.
        interventions: A column of which frames a person acted in: these are good, whatever their number.
        episodes: Which episodes to use at all, as in 0:100,!17.
        where: Only episodes of which this is true, as in 'length >= 30 and file_path ~ success'.
        frames: Which frames to train on: a column of truth values, or a file of spans (.json), as `pioxide
            idle` and openpi write. Their actions may reach into others.
        workers: Processes that decode images.
        cache: Directory where pictures are kept at the model's size, as JPEG: decoded once, and read many
            times faster than video. Several runs, datasets and hosts may share it. By default none are kept.
        tokens: Vocabulary of a FAST tokenizer that has to be fitted.
        scale: Of its coefficients.
    """

    robot: str = ""
    also: tuple[str, ...] = ()
    weight: tuple[float, ...] = ()
    fit: str = ""
    statistics: str = ""
    camera: tuple[str, ...] = ()
    text_model: str = ""
    cut_vocabulary: bool = False
    whole_numbers: bool = False
    subtasks: str = ""
    subtask_share: float = 0.3
    advantage: str = ""
    advantage_threshold: float | None = None
    advantage_share: float | None = None
    advantage_dropout: float = 0.3
    interventions: str = ""
    episodes: str = ""
    where: str = ""
    frames: str = ""
    workers: int = 2
    cache: str = ""
    tokens: int = 1024
    scale: float = 10.0


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A run, but for where its data is.

    Attributes:
        numbers: What its contract says.
        data: How the data is read.
        train: The training.
    """

    numbers: Numbers = field(default_factory=Numbers)
    data: Data = field(default_factory=Data)
    train: TrainConfig = field(default_factory=TrainConfig)
