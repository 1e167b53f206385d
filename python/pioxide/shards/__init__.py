"""The offline job: a robot dataset -> a fitted tokenizer, and -> token shards that survive interruption.

Needs pyarrow (`pip install "pioxide[data]"`).
"""

# What it would make
from pioxide.shards.estimate import Estimate, estimate

# A tokenizer and statistics from a dataset
from pioxide.shards.fit import FitResult, FitSettings, fit

# A dataset into token shards
from pioxide.shards.local import Interrupted, Job, Progress, prepare, tokenize_dataset
from pioxide.shards.manifest import Manifest, ShardRecord, Skipped

# Reading them back
from pioxide.shards.reader import TokenDataset
from pioxide.shards.resolve import JobRequest, parse_mask, resolve
from pioxide.shards.settings import ActionSpace, JobSettings
from pioxide.shards.shard import JobInputs, ShardMaker

__all__ = [
    "ActionSpace",
    "Estimate",
    "FitResult",
    "FitSettings",
    "Interrupted",
    "Job",
    "JobInputs",
    "JobRequest",
    "JobSettings",
    "Manifest",
    "Progress",
    "ShardMaker",
    "ShardRecord",
    "Skipped",
    "TokenDataset",
    "estimate",
    "fit",
    "parse_mask",
    "prepare",
    "resolve",
    "tokenize_dataset",
]
