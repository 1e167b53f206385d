"""Every Python block of README and docs runs, in a world with the files and robots of its page.

A page's blocks share their names, as for somebody who types them in order. Policies are tiny and random,
released checkpoints are those, and loops without an end stop after three rounds.
"""

import inspect
import os
import shutil
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import grain
import gymnasium
import jax
import numpy as np
import pytest

import pioxide.train
import pioxide.weights
from pioxide.cli.main import main
from pioxide.codec import FastCodec, TextTokenizer
from pioxide.contract import CameraSlot
from pioxide.control import Limits
from pioxide.demo import dataset_path, text_model_path
from pioxide.models import Pi0Config
from pioxide.policy import Policy
from pioxide.robots import Camera, RobotSpec, aloha, droid, so101
from pioxide.train.recipes import read_robots
from pioxide.transforms import Stats
from support.models import random_model
from support.pages import Block, blocks
from support.policies import contract_of
from support.servers import ROBOT, Echo, seen, serving
from support.videos import write_v3_video

PYTHON = [block for block in blocks() if block.language == "python" and block.runs]
PAGES = sorted({block.page for block in PYTHON})
TEXT = 200
DEMO_IDS = TextTokenizer.load(text_model_path()).vocab_size


class Robot:
    """A robot that can be asked for three ticks."""

    def __init__(self, spec: RobotSpec, observation: dict[str, Any]) -> None:
        self.spec, self.seen, self.ticks = spec, observation, 0
        self.sent: list[np.ndarray] = []

    def joints(self) -> np.ndarray:
        return np.zeros(self.spec.action_dim)

    def running(self) -> bool:
        self.ticks += 1
        return self.ticks <= 3

    def observe(self) -> dict[str, Any]:
        return self.seen

    def send(self, action: np.ndarray) -> None:
        self.sent.append(action)

    def observation(self) -> dict[str, Any]:
        if not self.running():
            raise StopLoop
        return self.seen

    move = send


class StopLoop(Exception):
    """Ends a loop that has no end."""


def saw(spec: RobotSpec) -> dict[str, Any]:
    """What such a robot sees."""
    seen: dict[str, Any] = {camera.key: np.zeros((28, 28, 3), np.uint8) for camera in spec.cameras}
    seen |= {part.key: np.full(part.size, 0.1) for part in spec.state}
    return seen | {spec.prompt_key: "fold the towel"}


def write_policy(
    directory: Path, spec: RobotSpec, *, to: Any = "openpi", said: bool = True, **changes: Any
) -> None:
    """A tiny π0.5 for a robot, with random weights and the demo's text model."""
    config = replace(Pi0Config.tiny(pi05=True), action_dim=spec.action_dim, action_horizon=50, text_len=TEXT)
    config = replace(config, language=replace(config.language, vocab=DEMO_IDS))
    if "cameras" in changes:
        config = replace(config, cameras=tuple(camera.slot for camera in changes["cameras"]))
    model = random_model(config)
    stats = {
        key: Stats(mean=[0.0] * dim, std=[1.0] * dim, q01=[-1.0] * dim, q99=[1.0] * dim)
        for key, dim in (("state", spec.state_dim), ("actions", spec.action_dim))
    }
    contract = contract_of(model, spec, stats, text_len=TEXT, **changes)
    if said:
        pioxide.weights.save(model, directory, to, contract=contract)
    else:
        pioxide.weights.save(model, directory, to, norm_stats=stats)
    shutil.copy(text_model_path(), directory / "tokenizer.model")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with what the pages name."""
    root = tmp_path_factory.mktemp("world")
    shutil.copytree(dataset_path(), root / "DATASET")
    shutil.copy(text_model_path(), root / "paligemma_tokenizer.model")
    data, text = str(root / "DATASET"), str(text_model_path())
    assert main(["fit", data, "-o", str(root / "FITTED"), "--quiet"]) == 0
    made = ["--fit", str(root / "FITTED"), "--text-model", text, "--model", "pi0_fast", "--limit", "300"]
    assert main(["tokenize", data, "-o", str(root / "TOKENS"), *made, "--quiet"]) == 0
    write_policy(root / "CKPT", aloha())
    write_policy(root / "DROID", droid())
    write_policy(root / "SO101", so101())
    return root


@pytest.fixture
def here(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh working directory in which the world's names lie."""
    for one in world.iterdir():
        os.symlink(one, tmp_path / one.name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Setting:
    """What a page's blocks find: names, and what is otherwise than a person would type it."""

    def __init__(self, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.here, self.patch = here, monkeypatch
        self.names: dict[str, Any] = {"np": np, "jax": jax}
        self.changes: dict[str, str] = {}
        self.closing = ExitStack()

    def robot(self, spec: RobotSpec) -> None:
        """There is this robot, and what it sees."""
        self.names["robot"] = Robot(spec, saw(spec))
        self.names["observation"] = saw(spec)

    def server(self) -> None:
        """A server answers where the page has one."""
        server = self.closing.enter_context(serving(Echo()))
        self.names["robot"] = Robot(ROBOT, seen(0.1))
        self.names["observation"] = seen(0.1)
        self.changes["ws://127.0.0.1:8000"] = f"ws://127.0.0.1:{server.port}"


def readme(s: Setting) -> None:
    s.robot(aloha())
    s.changes["gs://openpi-assets/checkpoints/pi05_droid"] = "DROID"


def checkpoints(s: Setting) -> None:
    s.changes["gs://openpi-assets/checkpoints/pi05_droid"] = "DROID"
    s.changes["fsdp=8"] = "fsdp=1"


def data(s: Setting) -> None:
    """Its dataset has a camera, and its loader an end."""
    camera = "observation.images.cam_high"
    (s.here / "DATASET").unlink()
    (s.here / "TOKENS").unlink()
    write_v3_video(s.here / "DATASET", lengths=(9, 5, 7), cameras=(camera,))
    text = ["--text-model", str(text_model_path()), "--model", "pi05", "--quiet"]
    assert main(["fit", "DATASET", "-o", "MINE", "--horizon", "5", "--quiet"]) in (0, 4)
    assert main(["tokenize", "DATASET", "-o", "TOKENS", "--fit", "MINE", *text]) == 0
    s.changes |= {"workers=4": "workers=0", "loader.texts(batch)": "loader.texts(batch); break;"}


def doctor(s: Setting) -> None:
    s.changes['"CKPT"'] = '"SO101"'


def finetune(s: Setting) -> None:
    s.server()
    s.changes["dim=2"] = f"dim={ROBOT.action_dim}"


def learning(s: Setting) -> None:
    s.names |= {"so101": so101, "gymnasium": gymnasium, "Limits": Limits}


def policy(s: Setting) -> None:
    s.robot(droid())
    lerobot_policy(s)
    fine_tune(s)
    s.names["observations"] = [saw(so101())] * 4
    config = replace(Pi0Config.tiny(pi05=True), text_len=64)
    s.names |= {
        "model": random_model(config),
        "images": {name: np.zeros((4, 28, 28, 3), np.uint8) for name in ("base_0_rgb", "left_wrist_0_rgb")},
        "masks": {},
        "tokens": np.ones((4, 64), np.int32),
        "lengths": np.full(4, 9, np.int32),
        "state": None,
        "noise": np.zeros((4, config.action_horizon, config.action_dim), np.float32),
    }
    s.changes |= {
        "gs://openpi-assets/checkpoints/pi05_droid": "DROID",
        '"CKPT"': '"DROID"',
        "exact, observations": "exact, [observation]",
    }


def from_openpi(s: Setting) -> None:
    s.robot(droid())
    fine_tune(s)
    s.changes["gs://openpi-assets/checkpoints/pi05_droid"] = "DROID"
    chunks = np.cumsum(np.random.default_rng(0).normal(0, 0.05, (50, 50, 14)), axis=1)
    FastCodec.fit(chunks, vocab_size=400).save(s.here / "fast")
    s.names["chunk"] = chunks[0]


def from_lerobot(s: Setting) -> None:
    lerobot_policy(s)
    s.names["observation"] = saw(so101())


def embed(s: Setting) -> None:
    s.robot(aloha())


def tokens(s: Setting) -> None:
    s.names |= {"epoch": 0, "grain": grain}


def training(s: Setting) -> None:
    """Its run has ended already; what is checked is that it was begun rightly."""
    begun = inspect.signature(pioxide.train.train)

    def train(*arguments: Any, **options: Any) -> pioxide.train.Trained:
        begun.bind(*arguments, **options)
        return pioxide.train.Trained(Path(arguments[2]), Path("CKPT"), arguments[0].steps, 0.0)

    s.patch.setattr(pioxide.train, "train", train)
    s.names |= {"source": None, "Policy": Policy}


def fine_tune(s: Setting) -> None:
    """A fine-tune of openpi's for ALOHA, whose files say nothing."""
    write_policy(s.here / "MY_FINE_TUNE", aloha(), said=False)


def lerobot_policy(s: Setting) -> None:
    """A checkpoint of LeRobot's that was trained with a camera of another name."""
    keys = ("observation.images.top", "observation.images.wrist")
    arm = replace(so101(), cameras=tuple(Camera(key, key) for key in keys))
    slots = tuple(CameraSlot(key, key) for key in keys)
    write_policy(s.here / "LEROBOT_CKPT", arm, to="lerobot", cameras=slots)
    (s.here / "LEROBOT_CKPT" / "contract.json").unlink()  # which LeRobot does not write


SETTINGS: dict[str, Callable[[Setting], None]] = {
    "README.md": readme,
    "docs/checkpoints.md": checkpoints,
    "docs/data.md": data,
    "docs/doctor.md": doctor,
    "docs/embed.md": embed,
    "docs/finetune.md": finetune,
    "docs/from-lerobot.md": from_lerobot,
    "docs/from-openpi.md": from_openpi,
    "docs/learning.md": learning,
    "docs/models.md": lambda s: None,
    "docs/policy.md": policy,
    "docs/serve-tutorial.md": Setting.server,
    "docs/serve.md": Setting.server,
    "docs/tokens.md": tokens,
    "docs/training.md": training,
}


@pytest.mark.parametrize("page", PAGES)
def test_a_pages_blocks_run(page: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setting = Setting(here, monkeypatch)
    with setting.closing:
        SETTINGS.get(page, lambda s: None)(setting)
        for block in PYTHON:
            if block.page == page:
                with suppress(StopLoop):
                    run(block, setting.names, setting.changes)


def run(block: Block, names: dict[str, Any], changes: dict[str, str]) -> None:
    code = block.code
    for before, after in changes.items():
        code = code.replace(before, after)
    # So many empty lines before it that a traceback names the page's own line.
    exec(compile("\n" * (block.line - 1) + code, block.page, "exec"), names)


@pytest.mark.parametrize("block", [b for b in blocks() if b.language == "yaml"], ids=lambda b: b.place)
def test_robots_that_a_page_declares_can_be_read(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "robot.yaml"
    file.write_text(block.code)
    if "datasets:" in block.code:
        assert [robot.name for robot in read_robots(file)] == ["bench-arm", "g1"]
    else:
        assert RobotSpec.from_yaml(file).action_dim == 14


def test_a_page_that_needs_a_setting_is_there() -> None:
    assert set(SETTINGS) <= set(PAGES)
