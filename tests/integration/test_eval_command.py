"""`pioxide eval` on a whole checkpoint on disk: what it prints, its film, its JSON and its exit statuses."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from flax import nnx

from pioxide import demo
from pioxide.cli import main
from pioxide.codec import TextTokenizer
from pioxide.models import Pi0, Pi0Config
from pioxide.policy import Policy, agree, model_contract
from pioxide.robots import tabletop
from pioxide.serve import ServeConfig
from pioxide.transforms import NormRule
from pioxide.weights import save
from support.servers import Echo, serving


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """A π0 of random weights that says it is for the table's robot."""
    tokenizer = TextTokenizer.load(demo.text_model_path())
    tiny = Pi0Config.tiny()
    config = replace(
        tiny,
        language=replace(tiny.language, vocab=tokenizer.vocab_size),
        cameras=("base_0_rgb",),
        action_horizon=8,
    )
    identity = NormRule.openpi("identity")
    said = replace(model_contract(config), state_norm=identity, action_norm=identity, num_steps=2)
    root = tmp_path_factory.mktemp("made") / "checkpoint"
    save(Pi0(config, nnx.Rngs(0)), root, contract=agree(said, tabletop()))
    shutil.copy(demo.text_model_path(), root / "tokenizer.model")
    return root


def test_it_counts_and_films_what_a_policy_does(checkpoint, tmp_path, capsys):
    film = tmp_path / "film.mp4"
    command = ["eval", str(checkpoint), "--task", "reach", "--seeds", "3", "--without", "blank"]
    assert main.main([*command, "--video", str(film)]) == main.OK
    said = capsys.readouterr()
    assert "π0, chunks of 8 actions, 4 of them played" in said.out
    assert "0/3" in said.out
    assert "picture blanked" in said.out
    assert "6 of 6 episodes, 0 done" in said.err
    assert film.stat().st_size > 1000


def test_its_json_has_every_episode_and_a_rate_that_is_too_low_is_a_status(checkpoint, capsys):
    command = ["eval", str(checkpoint), "--seeds", "2", "--first-seed", "7", "--play", "2", "--json"]
    assert main.main([*command, "--at-least", "0.5"]) == main.LEFT_OUT
    said = capsys.readouterr()
    document = json.loads(said.out)
    assert [one["seed"] for one in document["episodes"]] == [7, 8]
    assert document["play"] == 2
    assert document["scores"][0]["rate"] == 0.0
    assert "0.0% succeeded, and --at-least is 50.0%" in said.err


def test_a_checkpoint_of_another_robot_is_refused(checkpoint, capsys):
    assert main.main(["eval", str(checkpoint), "--task", "words"]) == main.YOUR_MISTAKE
    assert "robot.state_dim" in capsys.readouterr().err


def test_a_chunk_that_is_too_short_is_refused(checkpoint, capsys):
    assert main.main(["eval", str(checkpoint), "--play", "6", "--delay", "4"]) == main.YOUR_MISTAKE
    assert "more than the 8 actions of a chunk" in capsys.readouterr().err


def test_over_the_wire_the_same_seeds_give_the_same_episodes(checkpoint, capsys):
    def episodes(where: str) -> tuple[list, list]:
        command = ["eval", where, "--task", "reach", "--seeds", "3", "--lanes", "1", "--json"]
        assert main.main(command) == main.OK
        document = json.loads(capsys.readouterr().out)
        return document["episodes"], document["scores"]

    with serving(Policy.load(checkpoint), ServeConfig(port=0)) as server:
        there = episodes(f"ws://127.0.0.1:{server.port}")
        again = episodes(f"ws://127.0.0.1:{server.port}")
    assert there == again == episodes(str(checkpoint))


def test_a_server_of_another_robot_and_options_that_are_its_own_are_refused(capsys):
    with serving(Echo(), ServeConfig(port=0)) as server:
        address = f"ws://127.0.0.1:{server.port}"
        assert main.main(["eval", address]) == main.YOUR_MISTAKE
        assert "the policy is for arm" in capsys.readouterr().err
        assert main.main(["eval", address, "--num-steps", "3"]) == main.YOUR_MISTAKE
        assert "pass it to `pioxide serve`" in capsys.readouterr().err
    assert main.main(["eval", address]) == main.YOUR_MISTAKE
    assert "no policy server answers" in capsys.readouterr().err


def test_the_servers_own_file_of_keys_opens_it_and_one_without_a_key_is_named(tmp_path, capsys):
    file = tmp_path / "keys"
    file.write_text("# robots\n\n0123456789abcdef\n")
    with serving(Echo(), ServeConfig(port=0, key_file=file)) as server:
        address = f"ws://127.0.0.1:{server.port}"
        assert main.main(["eval", address]) == main.YOUR_MISTAKE
        assert "key" in capsys.readouterr().err
        assert main.main(["eval", address, "--key-file", str(file)]) == main.YOUR_MISTAKE
        assert "the policy is for arm" in capsys.readouterr().err  # it was let in
        file.with_name("none").write_text("# robots\n")
        assert main.main(["eval", address, "--key-file", str(file.with_name("none"))]) == main.YOUR_MISTAKE
        assert "there is no key in it" in capsys.readouterr().err
