"""π0, π0.5 and π0-FAST as Flax NNX modules on one transformer.

Models and what configures them:
    Pi0, Pi0Config, Pi0Fast, Pi0FastConfig, TextWriter

Their parts:
    Gemma, GemmaConfig, ExpertConfig, Siglip, SiglipConfig

What they see and learn from:
    Observation, TrainingBatch, training_batch, Answer, joint_errors, JointErrors

Low-rank updates:
    LoraConfig, LoraParam, LoraRule, add_lora, merge_lora

Many devices:
    make_mesh, create_sharded, spread, batch_sharding, parameter_sharding, gathered_outside_layers

Sampling is in `pioxide.sampling`, weights of others in `pioxide.weights`.
"""

from pioxide.models.batch import TrainingBatch, training_batch
from pioxide.models.decoding import TextWriter
from pioxide.models.gemma import ExpertConfig, Gemma, GemmaConfig
from pioxide.models.insulation import Answer, JointErrors, joint_errors
from pioxide.models.lora import LoraConfig, LoraParam, LoraRule, add_lora, merge_lora
from pioxide.models.observation import Observation
from pioxide.models.pi0 import Pi0, Pi0Config
from pioxide.models.pi0_fast import Pi0Fast, Pi0FastConfig
from pioxide.models.sharding import (
    batch_sharding,
    create_sharded,
    gathered_outside_layers,
    make_mesh,
    parameter_sharding,
    spread,
)
from pioxide.models.siglip import Siglip, SiglipConfig

__all__ = [
    "Answer",
    "ExpertConfig",
    "Gemma",
    "GemmaConfig",
    "JointErrors",
    "LoraConfig",
    "LoraParam",
    "LoraRule",
    "Observation",
    "Pi0",
    "Pi0Config",
    "Pi0Fast",
    "Pi0FastConfig",
    "Siglip",
    "SiglipConfig",
    "TextWriter",
    "TrainingBatch",
    "add_lora",
    "batch_sharding",
    "create_sharded",
    "gathered_outside_layers",
    "joint_errors",
    "make_mesh",
    "merge_lora",
    "parameter_sharding",
    "spread",
    "training_batch",
]
