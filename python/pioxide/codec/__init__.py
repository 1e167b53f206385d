"""The text, token and byte side of the π policies: NumPy in, NumPy out, computed in Rust.

Action chunks to FAST tokens and back:
    FastCodec, TokenBatch, Encoded, Decoded

Text to PaliGemma's ids and back:
    TextTokenizer

Prompts, as each model was trained to read them:
    Pi0Prompts, Pi05Prompts, Pi0FastPrompts, Prompt, PromptBatch, FastPrompt, FastPromptBatch, PromptStyle

A robot's state as bins:
    state_bins

Every object here is immutable and may be shared between threads.
"""

from pioxide.codec.fast import Decoded, Encoded, FastCodec, TokenBatch
from pioxide.codec.prompts import (
    FastPrompt,
    FastPromptBatch,
    Pi0FastPrompts,
    Pi0Prompts,
    Pi05Prompts,
    Prompt,
    PromptBatch,
    PromptStyle,
)
from pioxide.codec.state import state_bins
from pioxide.codec.text import TextTokenizer

__all__ = [
    "Decoded",
    "Encoded",
    "FastCodec",
    "FastPrompt",
    "FastPromptBatch",
    "Pi0FastPrompts",
    "Pi0Prompts",
    "Pi05Prompts",
    "Prompt",
    "PromptBatch",
    "PromptStyle",
    "TextTokenizer",
    "TokenBatch",
    "state_bins",
]
