"""`pioxide fit`: norm statistics and a FAST tokenizer from a dataset."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import FlagCreatePairsOff

from pioxide.cli.options import left_open, listed


@dataclass(frozen=True)
class Fit:
    """Make norm statistics and a FAST tokenizer from a robot dataset, and judge them on held-out episodes."""

    dataset: tyro.conf.Positional[Path]
    """A LeRobot dataset, v2.0, v2.1 or v3.0."""

    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Directory to make: norm_stats.json, the tokenizer in the Hugging Face layout, fit.json."""

    horizon: int = 50
    """Actions in a chunk."""

    vocab_size: int = 1024
    """FAST ids."""

    scale: float = 10.0
    """DCT coefficients are multiplied by this before rounding: larger is finer, and takes more tokens."""

    state_keys: str = "observation.state"
    """Columns that make up the state; several (A,B) are put side by side."""

    action_keys: str = "action"
    """Columns that make up an action, likewise."""

    delta_mask: Annotated[str, left_open("N,-N")] = ""
    """Which actions are relative to the state, as run lengths: 6,-1,6,-1 leaves two grippers absolute."""

    normalization: Literal["quantile", "zscore"] = "quantile"
    """Of the chunks that the tokenizer sees; quantile is what pi0-FAST uses."""

    episodes: Annotated[str, left_open("A:B,C")] = ""
    """Which episodes to use, as in 0:10,15; all by default."""

    held_out: float = 0.1
    """Share of the episodes that the tokenizer does not see and is judged on."""

    held_out_episodes: Annotated[str, left_open("A:B,C")] = ""
    """Hold out these episodes instead of a random share."""

    max_chunks: int = 10_000
    """Chunks to fit on, drawn from the other episodes."""

    seed: int = 0
    """Of both draws."""

    regex_split: Literal["default", "on", "off"] = "default"
    """Whether merges stop where character classes meet, as in published tokenizers; off is shorter."""

    skip_bad: FlagCreatePairsOff[bool] = False
    """Leave out episodes that can't be read, and end with status 3."""

    def __call__(self) -> int:
        """Fit, and print what it achieves."""
        from pioxide.cli import main, show
        from pioxide.shards import ActionSpace, FitSettings, fit, parse_mask

        settings = FitSettings(
            space=ActionSpace(
                listed(self.state_keys) or (),
                listed(self.action_keys) or (),
                self.horizon,
                parse_mask(self.delta_mask),
            ),
            normalization=self.normalization,
            vocab_size=self.vocab_size,
            scale=self.scale,
            regex_split={"default": None, "on": True, "off": False}[self.regex_split],
            episodes=self.episodes,
            held_out=self.held_out,
            held_out_episodes=self.held_out_episodes,
            max_chunks=self.max_chunks,
            seed=self.seed,
        )
        made = fit(
            self.dataset,
            self.output,
            settings,
            skip_bad=self.skip_bad,
            on_stage=lambda stage: print(f"{stage} ...", file=sys.stderr, flush=True),
        )
        if made.found:
            print(f"{self.output} was made with these settings already; nothing to do")
        print_result(made, self.horizon, self.scale)
        print(f"\nnext: pioxide tokenize {self.dataset} --fit {self.output} --model pi0_fast -o TOKENS")
        if made.skipped:
            show.left_out([(s["episode"], s["reason"]) for s in made.skipped])
            return main.LEFT_OUT
        return main.OK


def print_result(made, horizon: int, scale: float) -> None:
    """The figures that decide whether a tokenizer is good enough."""
    from pioxide.cli import show

    result = made.result
    tokens, error = result["tokens"], result["error"]
    if not made.held_out:
        episodes = "the episodes it was fitted on (none are held out)"
    elif len(made.held_out) > 10:
        episodes = show.counted(len(made.held_out), "held-out episode")
    else:
        numbers = ", ".join(map(str, made.held_out))
        episodes = f"held-out episode{'s' if len(made.held_out) > 1 else ''} {numbers}"
    judged = f"{show.counted(result['chunks'], 'chunk')} of {episodes}"
    print(f"{made.directory}: fitted on {show.counted(made.fitted_chunks, 'chunk')}, judged on {judged}")
    show.facts(
        [
            (
                "tokens a chunk",
                f"mean {tokens['mean']:.1f}, median {tokens['p50']}, "
                f"99% {tokens['p99']}, longest {tokens['max']}",
            ),
            (
                "compression",
                f"{result['compression']:.1f}x against one token a number "
                f"({horizon} x {len(result['joints'])} = {result['naive_tokens']:,})",
            ),
            (
                "error, normalised",
                f"RMS {error['rms']:.4f}, largest {error['max']:.3f} (a coefficient's step is {1 / scale:g})",
            ),
            ("clipped chunks", show.share(result["clipped_chunks"], result["chunks"])),
        ]
    )
    print()
    show.table(
        "error a dimension, in the robot's units",
        ["", "RMS", "largest"],
        [[j["name"], f"{j['rms']:.4g}", f"{j['max']:.4g}"] for j in result["joints"]],
    )
