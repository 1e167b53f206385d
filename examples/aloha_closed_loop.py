"""A policy in a closed loop with two simulated ALOHA arms, with and without real-time chunking.

    pip install "pioxide[sim]"
    python examples/aloha_closed_loop.py --out out/aloha

A small π0 with random weights moves the arms of gym-aloha at 50 Hz; inference runs beside the loop, and the
actions pass a safety filter. It writes a film of both runs, a picture of the seams between chunks, and
prints a table.

What is real: the physics, the loop, the delays (`--clock real`), the joint ranges of the norm statistics
(those of the demo dataset). What is not: the weights. Trained weights turn white noise into smooth motion,
random ones let it pass, so this example begins each chunk with noise that is smooth in time, independent of
the last chunk's (`--smooth 0` for white noise). The chunks then are what real-time chunking is for: each
smooth, and no two agreed.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import tyro
from aloha_seams import ARM_JOINTS, GRIPPERS, RecordedQueue, Run, measure, plot
from numpy.typing import NDArray
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pioxide import demo
from pioxide.control import (
    DelayEstimate,
    Limits,
    LimitViolation,
    Request,
    Runner,
    SafetyFilter,
    ThreadWorker,
    WallClock,
    run_loop,
)
from pioxide.control.loop import Clock
from pioxide.control.runner import Answer, Worker
from pioxide.errors import InputError

PROMPT = "Transfer the red cube from the right arm to the left arm."
DIM = 14
SPEED = 3.0  # radians a second, as fast as the real arm's joints turn
CAMERA_HZ = 10.0


@dataclass(frozen=True)
class Options:
    """Run a random π0 on simulated ALOHA arms, with and without real-time chunking.

    Attributes:
        seconds: How long each of the two runs takes.
        horizon: Actions in a chunk.
        replan: Ask for the next chunk once so many actions are left; half a chunk by default.
        seed: Weights, noise and the cube's place.
        model: The size of π0.
        smooth: How many actions the noise's correlation reaches; 0 is white noise.
        clock: The wall's, with inference in a thread; or a simulated one, which repeats exactly.
        latency_ticks: How long an inference takes on the simulated clock.
        hz: Actions a second.
        out: Where film and picture go.
        video: Whether a film is made.
    """

    seconds: float = 8.0
    horizon: int = 50
    replan: int | None = None
    seed: int = 0
    model: Literal["tiny", "small"] = "small"
    smooth: float = 30.0
    clock: Literal["real", "simulated"] = "real"
    latency_ticks: int = 4
    hz: float = 50.0
    out: Path = Path("out/aloha")
    video: bool = True

    def __post_init__(self) -> None:
        """Refuse what can't run.

        Raises:
            InputError: A number is out of its range.
        """
        if not (self.seconds > 0 and self.hz > 0):
            raise InputError(f"expected seconds and hz above 0, got {self.seconds} and {self.hz}")
        if self.horizon < 2:
            raise InputError(f"expected a horizon of at least 2 actions, got {self.horizon}")
        if not 1 <= self.latency_ticks < self.horizon:
            raise InputError(f"latency-ticks: expected 1 to {self.horizon - 1}, got {self.latency_ticks}")
        if self.replan is not None and not 0 <= self.replan <= self.horizon:
            raise InputError(f"replan: expected 0 to {self.horizon} actions, got {self.replan}")
        if self.smooth < 0:
            raise InputError(f"smooth: expected 0 or more actions, got {self.smooth}")

    @property
    def replan_below(self) -> int:
        """Actions left at which the next chunk is asked for."""
        return self.horizon // 2 if self.replan is None else self.replan


class Robot(Protocol):
    """What the loop needs of a robot; `aloha_scene.Aloha` is one."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]

    def joints(self) -> NDArray[np.float64]: ...
    def observe(self) -> Mapping[str, Any]: ...
    def act(self, action: NDArray[np.float64]) -> None: ...


class SimulatedClock:
    """Time that passes when somebody sleeps."""

    def __init__(self) -> None:
        self._time = 0.0

    def now(self) -> float:
        return self._time

    def sleep_until(self, when: float) -> None:
        self._time = max(self._time, when)


class TickWorker:
    """A worker whose answers come a fixed number of ticks after the question, however fast the machine is."""

    def __init__(self, policy: Callable[[Request], NDArray[np.float64]], ticks: int) -> None:
        self._policy, self._ticks = policy, ticks
        self._answer: Answer | None = None
        self._left = 0

    def start(self, request: Request, since: float) -> None:
        self._answer, self._left = Answer(self._policy(request), None, since), self._ticks

    @property
    def busy(self) -> bool:
        return self._answer is not None

    def reset(self) -> None:
        """An answer under way is dropped by the queue."""

    def observe(self, observation: Mapping[str, Any], at: float) -> None:
        """These policies see no past."""

    def collect(self) -> Answer | None:
        self._left -= 1
        if self._answer is None or self._left > 0:
            return None
        answer, self._answer = self._answer, None
        return answer

    def close(self) -> None:
        pass


class Noise:
    """Standard normal numbers [H, W], correlated in time over about `smooth` actions; the same for a seed."""

    def __init__(self, horizon: int, width: int, *, smooth: float, seed: int) -> None:
        self._shape, self._random = (horizon, width), np.random.default_rng(seed)
        self._mix = np.eye(horizon)
        if smooth:
            apart = np.subtract.outer(np.arange(horizon), np.arange(horizon)) / smooth
            # A little white noise on the diagonal, without which rounding makes the matrix indefinite.
            self._mix = np.linalg.cholesky(np.exp(-(apart**2) / 2) + 1e-6 * np.eye(horizon))

    def __call__(self) -> NDArray[np.float32]:
        return (self._mix @ self._random.standard_normal(self._shape)).astype(np.float32)


def play(
    name: str, robot: Robot, answer: Callable[[Request], NDArray[np.float64]], options: Options, delay: int
) -> Run:
    """One run of the loop, recorded. `delay` is expected of an answer, in actions, until one was measured."""
    queue = RecordedQueue(DIM)
    bites: list[LimitViolation] = []
    limits = Limits(low=robot.low, high=robot.high, velocity=SPEED)
    safety = SafetyFilter(limits, DIM, options.hz, on_violation=bites.append)
    safety.reset(robot.joints())
    clock: Clock
    worker: Worker
    if options.clock == "real":
        clock, worker = WallClock(), ThreadWorker(answer)
    else:
        clock, worker = SimulatedClock(), TickWorker(answer, options.latency_ticks)
    sent: list[NDArray[np.float64]] = []

    def act(action: NDArray[np.float64]) -> None:
        sent.append(action)
        robot.act(action)

    with Runner(worker, queue, options.replan_below, safety, DelayEstimate(first_guess=delay)) as runner:
        report = run_loop(runner, robot.observe, act, hz=options.hz, seconds=options.seconds, clock=clock)
    if runner.last_error is not None:
        raise runner.last_error
    silent = np.full((len(queue.played) - len(sent), DIM), np.nan)  # before the first chunk
    return Run(
        name,
        np.array(queue.played),
        np.concatenate([silent, np.array(sent).reshape(-1, DIM)]),
        queue.takeovers,
        report,
        bites,
        queue.dry_ticks,
    )


def make_policies(options: Options) -> dict[str, Any]:
    """One π0 with random weights, as a policy without and one with real-time chunking.

    It knows ALOHA's joints by the demo dataset's statistics.
    """
    import jax
    import jax.numpy as jnp
    from flax import nnx

    from pioxide.codec import TextTokenizer
    from pioxide.data import LeRobotDataset, compute_stats
    from pioxide.models import Pi0, Pi0Config
    from pioxide.policy import FlowSampler, Policy, PolicyOptions, RTCConfig, agree, model_contract
    from pioxide.robots import aloha

    tokenizer = TextTokenizer.load(demo.text_model_path())
    preset = {"tiny": Pi0Config.tiny, "small": Pi0Config.small}[options.model]()
    config = replace(
        preset,
        language=replace(preset.language, vocab=tokenizer.vocab_size),
        action_dim=DIM,
        action_horizon=options.horizon,
        text_len=48,
        dtype=jnp.float32,
    )
    # Drawn by NumPy: Flax's own initialisers would be compiled one by one, for longer than the run takes.
    graph, shapes = nnx.split(nnx.eval_shape(lambda: Pi0(config, nnx.Rngs(0))))
    random = np.random.default_rng(options.seed)

    def draw(leaf):
        scale = (leaf.shape[-2] if leaf.ndim > 1 else 25) ** -0.5
        return jnp.asarray(random.standard_normal(leaf.shape, np.float32) * np.float32(scale), leaf.dtype)

    model = nnx.merge(graph, jax.tree.map(draw, shapes))
    stats = compute_stats(LeRobotDataset.open(demo.dataset_path()), horizon=options.horizon)
    # The dataset and gym-aloha share their joints' signs and grippers, so there is nothing to adapt.
    robot = aloha(sim=True, adapt_to_pi=False, delta=False)
    contract = agree(replace(model_contract(config), norm_stats=stats), robot)
    policies = {}
    for name, realtime in (("without RTC", None), ("with RTC", RTCConfig())):
        sampler = FlowSampler(realtime=realtime)
        policy = Policy(model, contract, tokenizer, options=PolicyOptions(sampler=sampler))
        policy.warm_up([PROMPT], cameras=[("base_0_rgb",)])
        policies[name] = policy
    return policies


def answerer(policy, options: Options) -> Callable[[Request], NDArray[np.float64]]:
    """What `policy.chunk` does, with smooth noise that begins anew: both runs get the same."""
    noise = Noise(options.horizon, DIM, smooth=options.smooth, seed=options.seed)

    def answer(request: Request) -> NDArray[np.float64]:
        if policy.options.sampler.realtime is None:
            return policy(request.observation, noise=noise()).actions
        return policy(
            request.observation,
            noise=noise(),
            prev_chunk_left_over=request.prev_chunk_left_over,
            inference_delay=request.inference_delay,
        ).actions

    return answer


def table(runs: list[Run]) -> Table:
    """What happened, in figures."""
    made = Table(title="Two runs of the same policy", title_justify="left", box=SIMPLE)
    made.add_column("")
    for run in runs:
        made.add_column(run.name, justify="right")
    seams = [measure(run) for run in runs]
    delays = [[takeover.delay for takeover in run.takeovers[1:]] or [float("nan")] for run in runs]

    def row(name: str, values: list[str]) -> None:
        made.add_row(escape(name), *values)

    row("ticks", [str(run.report.ticks) for run in runs])
    row("late ticks (worst, ms)", [f"{run.report.missed} ({run.report.worst * 1e3:.1f})" for run in runs])
    row("ticks without a fresh action", [str(run.dry) for run in runs])
    row("chunks", [str(len(run.takeovers)) for run in runs])
    row("delay in actions, mean (most)", [f"{np.mean(d):.1f} ({np.max(d):.0f})" for d in delays])
    row("ordinary step [rad], mean (most)", [_mean(s.ordinary) for s in seams])
    row("jump at a seam [rad], mean (most)", [_mean(s.jumps) for s in seams])
    for kind, what, joints in (
        ("velocity", "arm", ARM_JOINTS),
        ("position", "arm", ARM_JOINTS),
        ("position", "gripper", GRIPPERS),
    ):
        held = [sum(b.kind == kind and not {*joints}.isdisjoint(b.joints) for b in run.bites) for run in runs]
        row(f"actions held by the {kind} limit, {what}", [str(number) for number in held])
    return made


def _mean(values: NDArray[np.float64]) -> str:
    return f"{values.mean():.3f} ({values.max():.3f})" if len(values) else "-"


def choose_opengl() -> None:
    """Picks a way for MuJoCo to draw without a screen: EGL, else OSMesa. Comes before MuJoCo's import.

    Raises:
        InputError: Neither works.
    """
    if "MUJOCO_GL" in os.environ or sys.platform != "linux":
        return
    # Tried in a process of its own: a library may be there and find no device, and MuJoCo decides only once.
    code = "import mujoco; mujoco.GLContext(64, 64).make_current()"
    for name in ("egl", "osmesa"):
        trial = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "MUJOCO_GL": name}, capture_output=True
        )
        if trial.returncode == 0:
            os.environ["MUJOCO_GL"] = name
            return
    raise InputError(
        "MuJoCo can draw neither by EGL nor by OSMesa; install libegl1 and a driver, or libosmesa6"
    )


def main(options: Options) -> list[Run]:
    """Both runs, film, picture and table.

    Raises:
        InputError: The simulator is not installed, or can't draw.
    """
    console = Console()
    if find_spec("gym_aloha") is None:
        raise InputError('gym-aloha is not here; pip install "pioxide[sim]" on Python 3.11 or 3.12')
    choose_opengl()
    from aloha_scene import Aloha, film

    options.out.mkdir(parents=True, exist_ok=True)
    runs, scenes = [], []
    for name, policy in make_policies(options).items():
        robot = Aloha(
            hz=options.hz,
            seed=options.seed,
            prompt=PROMPT,
            camera_hz=CAMERA_HZ,
            in_thread=options.clock == "real",
        )
        try:
            delay = options.latency_ticks
            if options.clock == "real":
                took = policy(robot.observe()).timing.total
                robot.scenes.clear()
                delay = math.ceil(took * options.hz)
            runs.append(play(name, robot, answerer(policy, options), options, delay))
        finally:
            robot.close()
        scenes.append(robot.scenes)
    console.print(table(runs))
    picture = options.out / "seams.png"
    plot(picture, runs, hz=options.hz, speed=SPEED, subtitle=_subtitle(options))
    console.print(f"seams: {picture}")
    if options.video:
        path = options.out / "runs.mp4"
        # JAX warns of any fork; this one becomes ffmpeg at once.
        warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
        cuts = [[takeover.tick for takeover in run.takeovers[1:]] for run in runs]
        film(
            path, robot.model, list(zip([run.name for run in runs], scenes, cuts, strict=True)), hz=options.hz
        )
        console.print(f"film:  {path}")
    return runs


def _subtitle(options: Options) -> str:
    noise = "white noise" if options.smooth == 0 else f"noise correlated over {options.smooth:g} actions"
    clock = "wall clock" if options.clock == "real" else f"inference takes {options.latency_ticks} ticks"
    return (
        f"π0 with random weights ({options.model}), {noise}, chunks of {options.horizon} "
        f"at {options.hz:g} Hz, {clock}, seed {options.seed}"
    )


if __name__ == "__main__":
    try:
        main(tyro.cli(Options, description=__doc__.split("\n\n")[0]))
    except InputError as error:
        sys.exit(f"error: {error}")
