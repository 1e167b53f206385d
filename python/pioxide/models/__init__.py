"""π0, π0.5 and π0-FAST as Flax NNX modules on one transformer.

Models and what configures them:
    Pi0, Pi0Config, Pi0Fast, Pi0FastConfig

Their parts:
    Gemma, GemmaConfig, ExpertConfig, Siglip, SiglipConfig

What they see:
    Observation

Sampling is in `pioxide.sampling`, weights of others in `pioxide.weights`.
"""

from pioxide.models.gemma import ExpertConfig, Gemma, GemmaConfig
from pioxide.models.observation import Observation
from pioxide.models.pi0 import Pi0, Pi0Config
from pioxide.models.pi0_fast import Pi0Fast, Pi0FastConfig
from pioxide.models.siglip import Siglip, SiglipConfig

__all__ = [
    "ExpertConfig",
    "Gemma",
    "GemmaConfig",
    "Observation",
    "Pi0",
    "Pi0Config",
    "Pi0Fast",
    "Pi0FastConfig",
    "Siglip",
    "SiglipConfig",
]
