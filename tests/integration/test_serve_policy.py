"""`pioxide serve` in a process of its own, with a checkpoint, and a robot whose actions are the policy's."""

import re
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("jax")

from pioxide.cli import main
from pioxide.codec import TextTokenizer
from pioxide.models import Pi0Config
from pioxide.policy import FlowSampler, Policy, PolicyOptions
from pioxide.robots import libero
from pioxide.serve import Client
from pioxide.transforms import NormRule, Stats
from pioxide.weights import save
from support.models import random_model
from support.policies import contract_of
from support.text_model import write_text_model

WORDS = "pick up the bowl"


def observation(seed):
    rng = np.random.default_rng(seed)
    return {
        "observation/image": rng.integers(0, 256, (40, 50, 3), dtype=np.uint8),
        "observation/wrist_image": rng.integers(0, 256, (28, 28, 3), dtype=np.uint8),
        "observation/state": rng.uniform(-1, 1, 8),
        "prompt": WORDS,
    }


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    root = tmp_path_factory.mktemp("served")
    text = write_text_model(root / "text.model")
    tiny = Pi0Config.tiny()
    language = replace(tiny.language, vocab=TextTokenizer.load(text).vocab_size)
    model = random_model(replace(tiny, language=language, text_len=48, action_dim=16))
    stats = {"state": Stats(np.zeros(8), np.ones(8)), "actions": Stats(np.zeros(7), np.full(7, 0.5))}
    contract = contract_of(model, libero(), stats, state_norm=NormRule.openpi("mean_std"))
    save(model, root / "CKPT", contract=contract)
    return root / "CKPT", text


def test_a_served_checkpoint_answers_as_the_policy_does_and_ends_at_sigterm(checkpoint, tmp_path, capsys):
    directory, text = checkpoint
    log = tmp_path / "log"
    command = [sys.executable, "-m", "pioxide", "serve", directory, "--tokenizer", text, "--port", "0"]
    command += ["--prompt", WORDS, "--batch-size", "1", "--record", tmp_path / "REC"]
    with log.open("w") as out:
        server = subprocess.Popen([str(c) for c in command], stderr=out)
    try:
        port = None
        while port is None:
            assert server.poll() is None, log.read_text()
            time.sleep(0.05)
            port = re.search(r"listening .*port=(\d+)", log.read_text())
        with Client(f"ws://127.0.0.1:{port[1]}") as client:
            told = client.metadata["pioxide"]
            assert (told["model"], told["robot"], told["horizon"]) == ("π0", "libero", 6)
            answers = [client(observation(i)).actions for i in range(2)]
    finally:
        server.send_signal(signal.SIGTERM)
        status = server.wait(60)
    assert status == 0, log.read_text()
    assert "Traceback" not in log.read_text()
    policy = Policy.load(directory, tokenizer=text, options=PolicyOptions(FlowSampler()))
    session = policy.new_session(1)  # the first robot's
    expected = [policy(observation(i), session=session).actions for i in range(2)]
    assert np.allclose(answers, expected, rtol=1e-4, atol=1e-5)
    assert not np.allclose(answers[0], answers[1], atol=1e-3)
    against = ["--against", str(directory), "--tokenizer", str(text)]
    assert main.main(["replay", str(tmp_path / "REC"), *against]) == 0
    assert "2 of 2 answers are the same to the last bit" in capsys.readouterr().out
