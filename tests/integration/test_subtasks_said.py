"""Subtasks from a file of spans to what a served policy says, by the commands and clients that people use."""

import json

import numpy as np
import pytest

pytest.importorskip("jax")

from pioxide.cli.main import main
from pioxide.demo import text_model_path
from pioxide.policy import FlowSampler, Policy, PolicyOptions, SubtaskOptions
from pioxide.serve import Client
from support.datasets import TASKS
from support.servers import serving
from support.videos import CAMERAS, write_still_images

pytestmark = pytest.mark.slow

LENGTHS = (9, 7, 9, 7, 8, 8)
SAID = {"fold the towel": "take the corners", "stack the cups": "lift the red cup"}
SETTINGS = """
    --numbers.family pi05 --numbers.horizon 4 --numbers.text-len 64 --numbers.image-size 28
    --data.subtask-share 0.5 --train.steps 60 --train.batch-size 8 --train.schedule.peak 5e-3
    --train.schedule.end 1e-3 --train.schedule.warmup 5 --train.ema.decay 0 --train.model.size tiny
    --train.validation.every 0 --train.validation.batches 1 --train.validation.flow-steps 1
    --train.logging.no-tensorboard
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    root = tmp_path_factory.mktemp("said")
    dataset = write_still_images(root / "dataset", LENGTHS)
    spans = [
        {"episode": episode, "from": 0, "to": length, "text": SAID[TASKS[episode % len(TASKS)]]}
        for episode, length in enumerate(LENGTHS)
    ]
    (root / "spans.json").write_text(json.dumps(spans))
    slots = ("base_0_rgb", "left_wrist_0_rgb")
    cameras = ["--data.camera", *(f"{slot}={key}" for slot, key in zip(slots, CAMERAS, strict=True))]
    arguments = ["train", "mini", dataset, "-o", root / "run", "--data.subtasks", root / "spans.json"]
    text = ["--data.text-model", text_model_path()]
    assert main([*map(str, arguments + text), *cameras, *SETTINGS.split()]) == 0
    return root / "run/checkpoints/60"


def look(words):
    return {
        **{camera: np.zeros((28, 28, 3), np.uint8) for camera in CAMERAS},
        "observation.state": np.zeros(3),
        "task": words,
    }


def test_a_trained_policy_says_each_instructions_subtask_and_so_does_its_server(checkpoint, monkeypatch):
    options = PolicyOptions(FlowSampler(num_steps=1), subtask=SubtaskOptions(every=2, max_tokens=12))
    policy = Policy.load(checkpoint, options=options)
    alone = {words: policy(look(words), session=policy.new_session()) for words in SAID}
    assert {words: answer.subtask.text for words, answer in alone.items()} == SAID
    fold, stack = SAID
    with serving(policy) as server, Client(f"ws://127.0.0.1:{server.port}") as client:
        # Each is kept for two chunks, whatever the instruction has become.
        answers = [client(look(words)) for words in (fold, stack, stack)]
        assert [one.subtask for one in answers] == [SAID[fold], SAID[fold], SAID[stack]]
        client.reset()
        assert client(look(stack)).subtask == SAID[stack]
        client(look(stack))
        monkeypatch.setattr(policy._writer.prompts, "end", -1)
        kept = client(look(fold))
        assert kept.subtask == SAID[stack]
        assert "no end after" in kept.subtask_unreadable
