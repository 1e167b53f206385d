"""From a loader's batches to a policy: the loop, its settings and its checkpoints. Needs the extra `train`.

    train, Trained, Source, Judge: a run
    TrainConfig and its parts: ActionLoss, Targets, ModelSettings, Size, Remat, AdamW, CosineSchedule, Ema,
        Lora, LoraStyle, Checkpoints, Logging, Tracker, Validation
    Report, Reporter: what it says while it runs

What `train` writes is read by `Policy.load` and by `pioxide convert`.
"""

from pioxide.train.config import (
    ActionLoss,
    AdamW,
    Checkpoints,
    CosineSchedule,
    Ema,
    Logging,
    Lora,
    LoraStyle,
    ModelSettings,
    Remat,
    Size,
    Targets,
    Tracker,
    TrainConfig,
    Validation,
)
from pioxide.train.report import Report, Reporter
from pioxide.train.run import Judge, Source, Trained, train

__all__ = [
    "ActionLoss",
    "AdamW",
    "Checkpoints",
    "CosineSchedule",
    "Ema",
    "Judge",
    "Logging",
    "Lora",
    "LoraStyle",
    "ModelSettings",
    "Remat",
    "Report",
    "Reporter",
    "Size",
    "Source",
    "Targets",
    "Tracker",
    "TrainConfig",
    "Trained",
    "Validation",
    "train",
]
