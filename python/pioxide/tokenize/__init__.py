"""The offline job: a robot dataset -> a fitted tokenizer, and -> token shards that survive interruption.

Needs pyarrow (`pip install "pioxide[data]"`).
"""

# What it would make
from pioxide.tokenize.estimate import Estimate, estimate

# A tokenizer and statistics from a dataset
from pioxide.tokenize.fit import FitResult, FitSettings, fit

# A dataset into token shards
from pioxide.tokenize.local import Interrupted, Job, Progress, prepare, tokenize_dataset
from pioxide.tokenize.manifest import Manifest, ShardRecord, Skipped

# Reading them back
from pioxide.tokenize.reader import TokenDataset
from pioxide.tokenize.resolve import JobRequest, parse_mask, resolve
from pioxide.tokenize.settings import ActionSpace, JobSettings
from pioxide.tokenize.shard import JobInputs, ShardMaker

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
