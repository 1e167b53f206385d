"""The offline job: a robot dataset -> a fitted tokenizer, and -> token shards that survive interruption.

Needs pyarrow (`pip install "pioxide[data]"`).
"""

from pioxide.data import FrameColumns
from pioxide.data.robot import check_robot, dataset_robot, other_names

# For other loaders
from pioxide.shards.array_record import ArrayRecordRows, export_array_record

# What it would make
# What a directory's numbers mean
from pioxide.shards.beside import read_contract
from pioxide.shards.describe import sentence
from pioxide.shards.estimate import Estimate, estimate

# A tokenizer and statistics from a dataset
# Codecs compared
from pioxide.shards.explore import Exploration, ExploreSettings, explore
from pioxide.shards.export_lerobot import export_lerobot

# A codec and statistics from a dataset
from pioxide.shards.fit import FitResult, FitSettings, fit
from pioxide.shards.frames import FrameCutter, Frames

# A dataset into token shards
from pioxide.shards.job import Job, Progress, plan_job
from pioxide.shards.joint import JointMember, JointResult, JointSettings, fit_jointly
from pioxide.shards.manifest import Manifest, ShardRecord, Skipped

# By several machines
from pioxide.shards.merge import Merged, merge
from pioxide.shards.on_ray import Ray
from pioxide.shards.parts import Part, PartResult

# Reading them back
from pioxide.shards.reader import TokenDataset
from pioxide.shards.resolve import JobRequest, parse_mask, resolve
from pioxide.shards.run import Interrupted, run_job, run_part, tokenize_dataset
from pioxide.shards.settings import JobSettings
from pioxide.shards.shard import JobInputs, ShardMaker
from pioxide.shards.threads import Engine, Threads

__all__ = [
    "ArrayRecordRows",
    "Engine",
    "Estimate",
    "Exploration",
    "ExploreSettings",
    "FitResult",
    "FitSettings",
    "FrameColumns",
    "FrameCutter",
    "Frames",
    "Interrupted",
    "Job",
    "JobInputs",
    "JobRequest",
    "JobSettings",
    "JointMember",
    "JointResult",
    "JointSettings",
    "Manifest",
    "Merged",
    "Part",
    "PartResult",
    "Progress",
    "Ray",
    "ShardMaker",
    "ShardRecord",
    "Skipped",
    "Threads",
    "TokenDataset",
    "check_robot",
    "dataset_robot",
    "estimate",
    "explore",
    "export_array_record",
    "export_lerobot",
    "fit",
    "fit_jointly",
    "merge",
    "other_names",
    "parse_mask",
    "plan_job",
    "read_contract",
    "resolve",
    "run_job",
    "run_part",
    "sentence",
    "tokenize_dataset",
]
