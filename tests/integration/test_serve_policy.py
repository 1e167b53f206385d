"""`pioxide serve` in a process of its own, with a checkpoint, and a robot whose actions are the policy's."""

import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("jax")

from pioxide.cli import main
from pioxide.cli.serve import Serve
from pioxide.codec import TextTokenizer
from pioxide.errors import InputError
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
    config = replace(tiny, language=language, text_len=48, action_dim=16)
    stats = {"state": Stats(np.zeros(8), np.ones(8)), "actions": Stats(np.zeros(7), np.full(7, 0.5))}
    for name, seed in (("CKPT", 0), ("LATER", 1)):
        model = random_model(config, seed)
        contract = contract_of(model, libero(), stats, state_norm=NormRule.openpi("mean_std"))
        save(model, root / name, contract=contract)
    return root / "CKPT", text


@contextmanager
def served(*arguments, log):
    """`pioxide serve` in a process of its own, which ends with 0 and no traceback, and its address."""
    command = [sys.executable, "-m", "pioxide", "serve", *arguments, "--port", "0", "--batch-size", "1"]
    with log.open("w") as out:
        server = subprocess.Popen([str(c) for c in command], stderr=out)
    try:
        port = said(server, log, r"listening .*port=(\d+)")
        yield server, f"127.0.0.1:{port[1]}"
    finally:
        server.send_signal(signal.SIGTERM)
        status = server.wait(60)
    assert status == 0, log.read_text()
    # Every line is an event, with its time and its zone.
    event = re.compile(r"\d{4}-\d\d-\d\dT\S+[+-]\d\d:\d\d (INFO|WARNING|ERROR) pioxide")
    assert [line for line in log.read_text().splitlines() if not event.match(line)] == []


def said(server, log, pattern):
    """Waits for a line of the log."""
    while (found := re.search(pattern, log.read_text())) is None:
        assert server.poll() is None, log.read_text()
        time.sleep(0.05)
    return found


def test_a_served_checkpoint_answers_as_the_policy_does_and_ends_at_sigterm(checkpoint, tmp_path, capsys):
    directory, text = checkpoint
    arguments = [directory, "--tokenizer", text, "--prompt", WORDS, "--record", tmp_path / "REC"]
    log = tmp_path / "log"
    with served(*arguments, log=log) as (_, where), Client(f"ws://{where}") as client:
        told = client.metadata["pioxide"]
        assert (told["model"], told["robot"], told["horizon"]) == ("π0", "libero", 6)
        answers = [client(observation(i)).actions for i in range(2)]
    for event in ("robot joined robot=.* robots=1", "robot left robot=.* answers=2", "recorded entries=2"):
        assert re.search(event, log.read_text())
    policy = Policy.load(directory, tokenizer=text, options=PolicyOptions(FlowSampler()))
    session = policy.new_session(1)  # the first robot's
    expected = [policy(observation(i), session=session).actions for i in range(2)]
    assert np.allclose(answers, expected, rtol=1e-4, atol=1e-5)
    assert not np.allclose(answers[0], answers[1], atol=1e-3)
    against = ["--against", str(directory), "--tokenizer", str(text)]
    assert main.main(["replay", str(tmp_path / "REC"), *against]) == 0
    assert "2 of 2 answers are the same to the last bit" in capsys.readouterr().out


def test_a_hangup_swaps_to_the_newest_step_of_a_run_or_leaves_the_old_one_where_it_is_another_robots(
    checkpoint, tmp_path
):
    directory, text = checkpoint
    steps, log = tmp_path / "RUN" / "checkpoints", tmp_path / "log"
    shutil.copytree(directory, steps / "900")
    arguments = [tmp_path / "RUN", "--tokenizer", text, "--prompt", WORDS]
    with served(*arguments, log=log) as (server, where), Client(f"ws://{where}") as client:

        def answered():
            client.reset(seed=7)
            return client(observation(0))

        before = answered()
        shutil.copytree(directory.with_name("LATER"), steps / "1000")
        (steps / "1100.orbax-checkpoint-tmp").mkdir()  # half written
        server.send_signal(signal.SIGHUP)
        said(server, log, r"policy swapped number=2 source=\S*/1000")
        after = answered()
        assert (before.policy, after.policy) == (1, 2)
        assert not np.allclose(before.actions, after.actions, atol=1e-3)
        shutil.copytree(directory, steps / "2000")
        contract = steps / "2000" / "contract.json"
        contract.write_text(contract.read_text().replace('"action_horizon": 6', '"action_horizon": 5'))
        server.send_signal(signal.SIGHUP)
        said(server, log, "swap refused, the old policy goes on reason=.*horizon is 5, was 6")
        assert np.array_equal(answered().actions, after.actions)


def test_a_checkpoint_at_an_address_is_not_read_again_from_its_copy():
    with pytest.raises(InputError, match=r"gs://bucket/run: what was copied .* serve a directory"):
        Serve(checkpoint="gs://bucket/run").read_again()
