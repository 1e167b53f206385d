"""The text, token and byte side of the π policies: NumPy in, NumPy out, computed in Rust.

Action chunks to tokens and back:
    ActionCodec, load_codec, holds_codec, CODEC_FILE: whichever codec it is
    FastCodec, BinningCodec, BeastCodec, TokenBatch, Encoded, Decoded

Text to PaliGemma's ids and back:
    TextTokenizer, cut_text_model

Prompts, as each model was trained to read them:
    Pi0Prompts, Pi05Prompts, Pi0FastPrompts, Prompt, PromptBatch, FastPrompt, FastPromptBatch, PromptStyle
    SubtaskPrompts; Advantage, with_advantage

A robot's state as bins:
    state_bins

Every object here is immutable and may be shared between threads.
"""

from pioxide.codec.action_codec import ActionCodec, holds_codec, load_codec
from pioxide.codec.advantage import Advantage, with_advantage
from pioxide.codec.beast import BeastCodec
from pioxide.codec.binning import BinningCodec
from pioxide.codec.cut import CutTextModel, cut_text_model
from pioxide.codec.fast import Decoded, Encoded, FastCodec, TokenBatch
from pioxide.codec.numbered import FILE_NAME as CODEC_FILE
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
from pioxide.codec.subtasks import SubtaskPrompts
from pioxide.codec.text import TextTokenizer

__all__ = [
    "CODEC_FILE",
    "ActionCodec",
    "Advantage",
    "BeastCodec",
    "BinningCodec",
    "CutTextModel",
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
    "SubtaskPrompts",
    "TextTokenizer",
    "TokenBatch",
    "cut_text_model",
    "holds_codec",
    "load_codec",
    "state_bins",
    "with_advantage",
]
