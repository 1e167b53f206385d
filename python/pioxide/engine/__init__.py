"""A model laid out and compiled for inference: batched, no robot, no text, no lock. Needs JAX.

Engine, CompileWhen: a model with its sampler and compiled programs
FlowSampler, TokenSampler, TextSampler: how a model answers, as a person chooses it
Inputs, Answer, EngineTiming, SpeculativeStats: what a call takes and gives
Shape: what a program is compiled for
TokenFormat: what π0-FAST's vocabulary writes answers with
Quantization: matrices in 8 bits
keep_programs: keep compiled programs on disk
"""

from pioxide.engine.engine import Answer, CompileWhen, Engine, EngineTiming, SpeculativeStats
from pioxide.engine.inputs import Inputs
from pioxide.engine.program import TokenFormat, keep_programs
from pioxide.engine.quantize import Quantization
from pioxide.engine.sampler import FlowSampler, Sampler, TextSampler, TokenSampler
from pioxide.engine.shape import Shape

__all__ = [
    "Answer",
    "CompileWhen",
    "Engine",
    "EngineTiming",
    "FlowSampler",
    "Inputs",
    "Quantization",
    "Sampler",
    "Shape",
    "SpeculativeStats",
    "TextSampler",
    "TokenFormat",
    "TokenSampler",
    "keep_programs",
]
