"""Batches in memory for training tests: a toy robot whose actions follow from its words, and its contract."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import jax
import numpy as np

from pioxide.codec import (
    FastCodec,
    Pi0FastPrompts,
    Pi0Prompts,
    Pi05Prompts,
    SubtaskPrompts,
    TextTokenizer,
    cut_text_model,
)
from pioxide.contract import CameraSlot, Contract, action_vocabulary
from pioxide.data.loader import Batch
from pioxide.data.loader.answers import Answers
from pioxide.demo import text_model_path
from pioxide.models import make_mesh
from pioxide.policy import agree
from pioxide.robots import Camera, RobotSpec, StatePart
from pioxide.train import AdamW, CosineSchedule, Ema, Logging, ModelSettings, Remat, Size, TrainConfig
from pioxide.train.network import make_network, model_config
from pioxide.train.place import place_batch
from pioxide.train.step import make_step, start
from pioxide.transforms import NormRule, Stats

HORIZON, DIM, IMAGE = 4, 2, 32
WORDS = ("go left", "go right")
# What π0.5 says before it acts, in a `ToySource` with subtasks.
SUBTASKS = ("push it away", "pull")
SLOT = "base_0_rgb"


def toy_robot() -> RobotSpec:
    return RobotSpec(
        "toy",
        cameras=(Camera("image", SLOT),),
        state=(StatePart("state", DIM),),
        action_dim=DIM,
        hz=10,
        prompt_key="prompt",
        delta_mask=(),
    )


def toy_tokenizer(fast_tokens: int = 0) -> TextTokenizer:
    whole = TextTokenizer.load(text_model_path())
    texts = (*WORDS, *SUBTASKS, ";\nSubtask: ")
    return cut_text_model(whole, texts, fast_tokens=fast_tokens).tokenizer


def toy_stats() -> dict[str, Stats]:
    one = Stats(mean=np.zeros(DIM), std=np.ones(DIM), q01=np.full(DIM, -1.0), q99=np.full(DIM, 1.0))
    return {"state": one, "actions": one}


@dataclass
class ToySource:
    """Batches by their number; the first word of the instruction decides the actions' sign.

    `end` is how many steps of each chunk are real in every second row. With `answer_len` π0 and π0.5 get the
    actions as tokens too. With `subtasks` half of π0.5's rows ask what follows from the instruction, and the
    others act by it.
    """

    family: str = "pi0"
    rows: int = 8
    model_dim: int = 4
    end: int = HORIZON
    seed: int = 0
    max_delay: int = 0
    image_size: int = IMAGE
    answer_len: int = 0
    subtasks: bool = False

    @cached_property
    def codec(self) -> FastCodec | None:
        if self.family != "pi0_fast" and not self.answer_len:
            return None
        rng = np.random.default_rng(0)
        return FastCodec.fit(rng.normal(size=(60, HORIZON, DIM)).cumsum(1) * 0.3, vocab_size=300)

    @cached_property
    def tokenizer(self) -> TextTokenizer:
        return toy_tokenizer(self.codec.vocab_size if self.codec else 0)

    @cached_property
    def contract(self) -> Contract:
        fast = self.family == "pi0_fast"
        said = Contract(
            family=self.family,
            cameras=(CameraSlot(SLOT, "image"),),
            absent_camera="masked",
            delta_mask=(),
            state_norm=NormRule.openpi("quantile"),
            action_norm=NormRule.openpi("quantile"),
            norm_stats=toy_stats(),
            state_in_text=self.family != "pi0",
            state_text_dim=None,
            prompt_style="openpi",
            text_len=64 if fast else 32,
            default_prompt=None,
            action_horizon=HORIZON,
            model_dim=DIM if fast else self.model_dim,
            num_steps=None if fast else 10,
            play_steps=None,
            image_size=self.image_size,
            resize="antialias",
            fast=action_vocabulary(self.codec) if self.codec else None,
            max_delay=self.max_delay,
            subtask_style="instead" if self.subtasks else None,
            memory=None,
        )
        return agree(said, toy_robot())

    @property
    def contracts(self) -> tuple[Contract, ...]:
        return (self.contract,)

    def batches(self, start_step: int = 0) -> Iterator[Batch]:
        step = start_step
        while True:
            yield self.batch(step)
            step += 1

    def batch(self, step: int) -> Batch:
        rng = np.random.default_rng([self.seed, step])
        n, size = self.rows, self.image_size
        images = rng.integers(0, 256, (n, size, size, 3)).astype(np.uint8)
        which = rng.integers(0, 2, n)
        state = rng.uniform(-1, 1, (n, DIM))
        ramp = np.linspace(0.2, 0.8, HORIZON)[None, :, None]
        actions = (
            np.where(which, 1.0, -1.0)[:, None, None] * ramp * np.ones((1, 1, DIM)) + 0.1 * state[:, None]
        )
        words = [WORDS[i] for i in which]
        common = {
            "images": {SLOT: images},
            "image_masks": {SLOT: np.ones(n, bool)},
            "source": np.zeros(n, np.int32),
        }
        length = self.contract.text_len
        if self.family == "pi0_fast":
            prompts = Pi0FastPrompts(self.tokenizer, self.codec, length).encode_batch(words, state, actions)
            return Batch(
                tokens=prompts.tokens,
                token_mask=prompts.mask.astype(bool),
                ar_mask=prompts.ar_mask.astype(np.int32),
                loss_mask=prompts.loss_mask.astype(bool),
                state=None,
                actions=None,
                action_mask=None,
                **common,
            )
        if self.family == "pi0":
            prompts = Pi0Prompts(self.tokenizer, length).encode_batch(words)
        else:
            said = [SUBTASKS[i] for i in which] if self.subtasks else words
            prompts = Pi05Prompts(self.tokenizer, length).encode_batch(said, state)
        wide = self.model_dim - DIM
        mask = np.zeros((n, HORIZON, self.model_dim), bool)
        mask[:, :, :DIM] = True
        mask[1::2, self.end :] = False
        made = Batch(
            tokens=prompts.tokens,
            token_mask=prompts.mask.astype(bool),
            state=np.pad(state, ((0, 0), (0, wide))).astype(np.float32) if self.family == "pi0" else None,
            actions=np.pad(actions, ((0, 0), (0, 0), (0, wide))).astype(np.float32),
            action_mask=mask,
            ar_mask=None,
            loss_mask=None,
            **common,
            **self.answers(actions),
        )
        return self.asking(made, which, state) if self.subtasks else made

    def asking(self, batch: Batch, which: np.ndarray, state: np.ndarray) -> Batch:
        """The batch with a question in each second row, which teaches no action."""
        prompts = SubtaskPrompts(self.tokenizer, batch.tokens.shape[1])
        answer = np.zeros((self.rows, 12), np.int32)
        mask = np.zeros(answer.shape, bool)
        for row in range(0, self.rows, 2):
            asked, _ = prompts.encode(WORDS[which[row]], state[row])
            said = prompts.answer(SUBTASKS[which[row]])
            batch.tokens[row], batch.token_mask[row] = 0, False
            batch.tokens[row, : len(asked)], batch.token_mask[row, : len(asked)] = asked, True
            answer[row, : len(said)], mask[row, : len(said)] = said, True
            batch.action_mask[row] = False
        return replace(batch, answer=answer, answer_mask=mask)

    def answers(self, actions: np.ndarray) -> dict[str, np.ndarray]:
        """The actions as tokens, for a language model that learns them beside the flow."""
        if not self.answer_len:
            return {}
        prompts = Pi05Prompts(self.tokenizer) if self.family == "pi05" else Pi0Prompts(self.tokenizer)
        answers = Answers.of(prompts, self.tokenizer, self.codec, self.answer_len)
        tokens, mask = answers.write(self.codec.encode_batch(actions, on_overflow="clip"))
        return {"answer": tokens, "answer_mask": mask}


def toy_config(**changes) -> TrainConfig:
    """A run of a few updates; `changes` are fields of `TrainConfig`."""
    said = {
        "steps": 6,
        "batch_size": 8,
        "augment": False,
        "model": ModelSettings(size=Size.MINI, dtype="float32", frozen_dtype="float32", remat=Remat.NONE),
        "optimizer": AdamW(),
        "schedule": CosineSchedule(peak=1e-3, end=1e-4, warmup=2),
        "ema": Ema(decay=0.9),
        "logging": Logging(every=2, tensorboard=False),
    }
    return replace(TrainConfig(), **(said | changes))


TINY = ModelSettings(size=Size.TINY, dtype="float32", frozen_dtype="float32", remat=Remat.NONE)


def config(**changes):
    return toy_config(**({"model": TINY} | changes))


def source(family="pi0", **changes):
    return ToySource(family, image_size=28, **changes)


class Watch:
    def __init__(self):
        self.reports, self.judged_at = [], {}

    def updated(self, report):
        self.reports.append(report)

    def judged(self, step, numbers):
        self.judged_at[step] = numbers


def network(settings, data):
    mesh = make_mesh(settings.fsdp)
    model = model_config(data.contract, settings.model, data.tokenizer.vocab_size)
    return mesh, *make_network(settings, model, mesh, None)


def updated(settings, data, updates=1, batches=None):
    """The state and the last result after some updates."""
    mesh, graph, trained, frozen = network(settings, data)
    state = start(settings, trained, frozen)
    step = make_step(settings, graph, state)
    result = None
    for i in range(updates):
        state, result = step(state, place_batch((batches or data.batch)(i), mesh))
    return state, result


def leaves(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
