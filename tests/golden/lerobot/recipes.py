"""The recorded cases: which policy, which features, which statistics, and what the robot sent.

A `Recipe` is written out in full by `record.py`; every number in it is drawn from its name.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from lerobot.configs import NormalizationMode
from numpy.typing import NDArray

MODES = ("IDENTITY", "MEAN_STD", "MIN_MAX", "QUANTILES", "QUANTILE10")
FAMILIES = ("pi0", "pi05", "pi0_fast")
JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
SEVEN = (*(f"joint_{n}" for n in range(1, 7)), "Gripper_width")
FOURTEEN = tuple(f"{side}_{joint}" for side in ("left", "right") for joint in SEVEN)
NAMES = {6: JOINTS, 7: SEVEN, 14: FOURTEEN}
TASKS = ("pick up the cube", "Put the RED_cube on\nthe plate ", "stack 3 cubes")
TOP = {"top": (24, 32)}


@dataclass(frozen=True)
class Recipe:
    """One case.

    Attributes:
        name: Of its folder.
        says: What it is there for, a sentence.
        family: LeRobot's name of the policy.
        kind: Whether the network runs too.
        width: Numbers in the state, and in an action unless `actions` says another.
        actions: Numbers in an action.
        state_mode, action_mode, image_mode: LeRobot's names of how each is normalised.
        cameras: [height, width] by name, in the order of the policy's features.
        sent: The names under which the robot sends cameras; others are not sent. None is all where the
            network runs, and none where it doesn't.
        rename: Keys of the robot to keys of the policy.
        config: Further fields of LeRobot's config.
        relative: Whether the statistics of actions are those of relative ones.
        constant: A joint that never moves, whose statistics have no width.
        statistics: Those that the dataset has; None is all, an empty tuple no statistics at all.
        dtype: Of the state and the actions that come in.
        tasks: One a frame.
        horizon: Actions in a chunk.
        image: Pixels along an edge of what the network sees.
        without: Tensors that the weights lack.
        adapter: The case whose weights a LoRA adapter changes.
    """

    name: str
    says: str
    family: str
    kind: Literal["processors", "model"] = "processors"
    width: int = 6
    actions: int | None = None
    state_mode: str = "MEAN_STD"
    action_mode: str = "MEAN_STD"
    image_mode: str = "IDENTITY"
    cameras: dict[str, tuple[int, int]] = field(default_factory=lambda: dict(TOP))
    sent: tuple[str, ...] | None = None
    rename: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    relative: bool = False
    constant: int | None = None
    statistics: tuple[str, ...] | None = None
    dtype: str = "float32"
    tasks: tuple[str, ...] = TASKS
    horizon: int = 8
    image: int = 28
    without: tuple[str, ...] = ()
    adapter: str | None = None

    @property
    def action_width(self) -> int:
        """Numbers in an action."""
        return self.actions or self.width

    @property
    def normalization(self) -> dict[str, NormalizationMode]:
        """LeRobot's `normalization_mapping`."""
        modes = {"VISUAL": self.image_mode, "STATE": self.state_mode, "ACTION": self.action_mode}
        return {key: NormalizationMode(mode) for key, mode in modes.items()}

    def draws(self, what: str) -> np.random.RandomState:
        """NumPy's frozen legacy generator for one purpose."""
        return np.random.RandomState(zlib.crc32(f"{self.name}:{what}".encode()))


def recipes() -> list[Recipe]:
    """All cases."""
    return [*_modes(), *_processors(), *_models()]


def frames(recipe: Recipe) -> dict[str, NDArray[Any]]:
    """What the robot sends, frame by frame, and the chunks that were recorded then.

    The first frame is an ordinary one, the second stands at a limit of the statistics, the third far outside.
    """
    draws, many = recipe.draws("frames"), len(recipe.tasks)
    centre, spread = _joints(recipe, recipe.width)
    state = centre + spread * draws.uniform(-1, 1, (many, recipe.width))
    if many > 2:
        state[2] = centre + 3 * spread
    steps = spread_of(recipe) * draws.uniform(-0.4, 0.4, (many, recipe.horizon, recipe.action_width))
    start = np.resize(state[:, None], (many, 1, recipe.action_width))
    sent = {"observation.state": state, "action": start + steps}
    sent = {key: value.astype(recipe.dtype) for key, value in sent.items()}
    every = tuple(recipe.cameras) if recipe.kind == "model" else ()
    for name in every if recipe.sent is None else recipe.sent:
        policy = recipe.rename.get(f"observation.images.{name}", f"observation.images.{name}")
        size = recipe.cameras[policy.removeprefix("observation.images.")]
        sent[f"observation.images.{name}"] = pictures(draws, many, *size)
    return sent


def pictures(draws: np.random.RandomState, many: int, height: int, width: int) -> NDArray[np.uint8]:
    """Pictures [N, H, W, 3] with soft colours, fine lines and noise in one corner."""
    y, x = np.mgrid[0:height, 0:width]
    phase = draws.uniform(0, 6, (many, 1, 1, 3))
    soft = 110 + 100 * np.sin(phase + (x / width * 3 + y / height * 2)[None, :, :, None])
    soft += 40 * ((x + 2 * y) % 3 == 0)[None, :, :, None]
    soft[:, : height // 3, : width // 3] = draws.uniform(0, 255, (many, height // 3, width // 3, 3))
    return np.clip(soft, 0, 255).astype(np.uint8)


def dataset_stats(recipe: Recipe) -> dict[str, dict[str, NDArray[Any]]]:
    """Statistics as a dataset's `meta.stats` has them, of 400 drawn frames."""
    if recipe.statistics == ():
        return {}
    draws = recipe.draws("dataset")
    centre, spread = _joints(recipe, recipe.width)
    state = centre + spread * np.clip(draws.standard_normal((400, recipe.width)) / 2, -1, 1)
    around = 0.0 if recipe.relative else np.resize(centre, recipe.action_width)
    actions = around + spread_of(recipe) * draws.standard_normal((400, recipe.action_width)) / 2
    if recipe.constant is not None:
        state[:, recipe.constant] = actions[:, recipe.constant] = centre[recipe.constant]
    every = {
        "observation.state": _stats(state),
        "action": _stats(actions),
        "timestamp": _stats(draws.rand(400, 1)),
    }
    for name in recipe.cameras:
        colours = _stats(draws.rand(400, 3))
        every[f"observation.images.{name}"] = {key: v.reshape(-1, 1, 1) for key, v in colours.items()}
    if recipe.statistics is None:
        return every
    return {key: {n: v for n, v in group.items() if n in recipe.statistics} for key, group in every.items()}


def spread_of(recipe: Recipe) -> NDArray[np.float64]:
    """How far each number of an action goes."""
    return np.resize(_joints(recipe, recipe.width)[1], recipe.action_width)


def _joints(recipe: Recipe, width: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where joints stand and how far they go: degrees, and a gripper from 0 to 100."""
    draws = np.random.RandomState(width)
    centre, spread = draws.uniform(-60, 60, width), draws.uniform(15, 50, width)
    for at, name in enumerate(NAMES[width]):
        if "gripper" in name.lower():
            centre[at], spread[at] = 50, 50
    return centre, spread


def _stats(values: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
    quantiles = {f"q{q:02d}": np.quantile(values, q / 100, axis=0) for q in (1, 10, 50, 90, 99)}
    return {
        "min": values.min(0),
        "max": values.max(0),
        "mean": values.mean(0),
        "std": values.std(0),
        "count": np.array([len(values)]),
        **quantiles,
    }


def _modes() -> list[Recipe]:
    widths = dict(zip(MODES, (6, 7, 14, 6, 7), strict=True))
    return [
        Recipe(
            name=f"{family}_{mode.lower()}",
            says=f"{mode} of state and actions"
            + ("" if family == "pi0_fast" else ", one joint without spread"),
            family=family,
            state_mode=mode,
            action_mode=mode,
            width=widths[mode],
            constant=None if family == "pi0_fast" else 2,  # no token is that large
        )
        for family in FAMILIES
        for mode in MODES
    ]


def _relative(width: int, exclude: list[str], names: list[str] | None) -> dict[str, Any]:
    return {
        "use_relative_actions": True,
        "relative_exclude_joints": exclude,
        "action_feature_names": names,
    }


def _processors() -> list[Recipe]:
    relative = [
        Recipe(
            name=f"{family}_relative",
            says="relative actions, the gripper absolute",
            family=family,
            state_mode=mode,
            action_mode=mode,
            relative=True,
            config=_relative(6, ["gripper"], list(JOINTS)),
        )
        for family, mode in zip(FAMILIES, ("MEAN_STD", "QUANTILES", "MIN_MAX"), strict=True)
    ]
    prompts = (
        "pick up the cube",
        "pick up the cube\n",
        "  Spaces  around_and__between  ",
        "two\nlines\n\n",
        "Größe ☃ 名前",
        "put " + "the very small blue cube " * 60,
        "",
    )
    return [
        *relative,
        Recipe(
            name="pi05_relative_two_arms",
            says="relative actions of two arms: every name that holds a word is absolute, whatever its case",
            family="pi05",
            width=14,
            relative=True,
            config=_relative(14, ["gripper", "right_joint_6"], list(FOURTEEN)),
        ),
        Recipe(
            name="pi0_relative_all",
            says="relative actions with nothing excluded",
            family="pi0",
            relative=True,
            config=_relative(6, [], list(JOINTS)),
        ),
        Recipe(
            name="pi0_relative_unnamed",
            says="relative actions whose joints have no names: the gripper is relative too",
            family="pi0",
            relative=True,
            config=_relative(6, ["gripper"], None),
        ),
        Recipe(
            name="pi05_relative_narrow_actions",
            says="relative actions of the first 6 of 7 numbers of the state",
            family="pi05",
            width=7,
            actions=6,
            relative=True,
            config=_relative(6, ["gripper"], list(JOINTS)),
        ),
        Recipe(
            name="pi0_mixed_modes",
            says="the state by mean and standard deviation, actions between their extremes",
            family="pi0",
            state_mode="MEAN_STD",
            action_mode="MIN_MAX",
        ),
        Recipe(
            name="pi05_quantiles_only",
            says="statistics that hold q01 and q99 and nothing else",
            family="pi05",
            state_mode="QUANTILES",
            action_mode="QUANTILES",
            statistics=("q01", "q99"),
        ),
        Recipe(
            name="pi0_mean_std_only",
            says="statistics that hold mean and std and nothing else",
            family="pi0",
            statistics=("mean", "std"),
        ),
        Recipe(
            name="pi05_no_statistics",
            says="QUANTILES without any statistics: nothing is normalised, and no state file is written",
            family="pi05",
            state_mode="QUANTILES",
            action_mode="QUANTILES",
            statistics=(),
        ),
        Recipe(
            name="pi05_float64",
            says="a state and actions in float64: so are the statistics then, and the results",
            family="pi05",
            state_mode="QUANTILES",
            action_mode="QUANTILES",
            dtype="float64",
        ),
        Recipe(
            name="pi0_image_statistics",
            says="images normalised by mean and standard deviation, before they are resized",
            family="pi0",
            image_mode="MEAN_STD",
            sent=("top",),
        ),
        *(
            Recipe(
                name=f"{family}_prompts",
                says="instructions with spaces, lines, underscores, other scripts, too long, and none",
                family=family,
                state_mode="QUANTILES",
                action_mode="QUANTILES",
                tasks=prompts,
                horizon=2,
            )
            for family in FAMILIES
        ),
        Recipe(
            name="pi05_renamed",
            says="cameras of the robot under other names than the policy's",
            family="pi05",
            state_mode="QUANTILES",
            action_mode="QUANTILES",
            cameras={"base_0_rgb": (24, 32), "left_wrist_0_rgb": (20, 20)},
            rename={
                "observation.images.front": "observation.images.base_0_rgb",
                "observation.images.hand": "observation.images.left_wrist_0_rgb",
            },
            sent=("hand", "front"),
        ),
    ]


def _models() -> list[Recipe]:
    quantiles = {"state_mode": "QUANTILES", "action_mode": "QUANTILES"}
    two = ("pick up the cube", "Put the RED_cube on\nthe plate")
    return [
        Recipe(
            name="pi0_model",
            says="π0 as LeRobot's defaults have it: two cameras, one resized up and one down",
            family="pi0",
            kind="model",
            cameras={"top": (40, 64), "side": (20, 12)},
            tasks=two,
        ),
        Recipe(
            name="pi05_model",
            says="π0.5 as LeRobot's defaults have it; the wrist's camera comes before the base's",
            family="pi05",
            kind="model",
            cameras={"wrist": (28, 28), "base": (30, 50)},
            sent=("base", "wrist"),
            tasks=two,
            **quantiles,
        ),
        Recipe(
            name="pi0_fast_model",
            says="π0-FAST whose answer is whole: words made to say two recorded chunks",
            family="pi0_fast",
            kind="model",
            cameras={"top": (28, 28)},
            tasks=two,
            **quantiles,
        ),
        Recipe(
            name="pi0_fast_short",
            says="π0-FAST with fewer steps than its chunk: LeRobot decodes the chunk as if it were shorter",
            family="pi0_fast",
            kind="model",
            cameras={"top": (28, 28)},
            tasks=two,
            config={"n_action_steps": 4},
            **quantiles,
        ),
        Recipe(
            name="pi05_model_relative",
            says="relative actions through the network; 4 flow steps, 5 of 8 actions used",
            family="pi05",
            kind="model",
            cameras={"top": (21, 28)},
            tasks=two,
            relative=True,
            config={**_relative(6, ["gripper"], list(JOINTS)), "num_inference_steps": 4, "n_action_steps": 5},
            **quantiles,
        ),
        Recipe(
            name="pi0_model_renamed",
            says="three cameras of 14 joints, renamed, in an order of their own, one with an edge of a pixel",
            family="pi0",
            kind="model",
            width=14,
            cameras={"left_wrist_0_rgb": (27, 48), "base_0_rgb": (24, 32), "right_wrist_0_rgb": (48, 27)},
            rename={
                "observation.images.cam_high": "observation.images.base_0_rgb",
                "observation.images.cam_left": "observation.images.left_wrist_0_rgb",
                "observation.images.cam_right": "observation.images.right_wrist_0_rgb",
            },
            sent=("cam_high", "cam_left", "cam_right"),
            tasks=two[:1],
        ),
        Recipe(
            name="pi05_model_empty_cameras",
            says="an empty camera of the config, and one camera that the robot does not send",
            family="pi05",
            kind="model",
            cameras={"top": (28, 28), "side": (28, 28), "wrist": (24, 32)},
            sent=("top", "wrist"),
            config={"empty_cameras": 1},
            tasks=two,
            **quantiles,
        ),
        Recipe(
            name="pi0_model_four_cameras",
            says="four cameras",
            family="pi0",
            kind="model",
            cameras=dict.fromkeys(("a", "b", "c", "d"), (28, 28)),
            tasks=two[:1],
        ),
        Recipe(
            name="pi05_model_widths",
            says="widths of 8 in place of 32, 60 tokens, 3 steps",
            family="pi05",
            kind="model",
            width=7,
            cameras={"top": (28, 28)},
            config={
                "max_state_dim": 8,
                "max_action_dim": 8,
                "tokenizer_max_length": 60,
                "num_inference_steps": 3,
            },
            tasks=two,
            **quantiles,
        ),
        Recipe(
            name="pi0_model_224",
            says="224 pixels from 480 x 640, as in the released models; no embed_tokens, as on the Hub",
            family="pi0",
            kind="model",
            cameras={"top": (480, 640)},
            image=224,
            tasks=two[:1],
            without=("embed_tokens.weight", "gemma_expert.lm_head.weight"),
        ),
        Recipe(
            name="pi0_model_adapter",
            says="a PEFT LoRA adapter with LeRobot's own targets over the weights of another case",
            family="pi0",
            kind="model",
            cameras={"top": (40, 64), "side": (20, 12)},
            tasks=two,
            adapter="pi0_model",
        ),
    ]
