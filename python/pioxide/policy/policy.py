"""A trained model as a function of what a robot sees: observation in, action chunk in the robot's units out.

There: robot's frame -> normalise the state -> fit the images -> tokenize -> pad -> one upload. Back: one
download -> slice -> unnormalise -> absolute actions -> robot's units.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from os import PathLike
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from numpy.typing import ArrayLike, NDArray

from pioxide.codec import FastCodec, Pi0FastPrompts, Pi0Prompts, Pi05Prompts, TextTokenizer
from pioxide.control.runner import Request
from pioxide.engine import (
    CompileWhen,
    Engine,
    FlowSampler,
    Inputs,
    Quantization,
    Sampler,
    Shape,
    SpeculativeStats,
    TokenFormat,
    TokenSampler,
)
from pioxide.errors import IncompleteChunkError, InputError, PolicyError
from pioxide.family import Family, Normalization
from pioxide.models import Pi0, Pi0Fast
from pioxide.robots import ROBOTS, RobotInput, RobotSpec, droid
from pioxide.sampling import (
    BROKEN,
    Draft,
    Grammar,
    PrevChunkLeftOver,
    pad_prev_chunk_left_over,
)
from pioxide.transforms import ActionChain, DeltaActions, Pad, Quantile, Stats, ZScore
from pioxide.transforms.images import resize_with_pad


@dataclass(frozen=True)
class PolicyOptions:
    """What a person may choose; the defaults are openpi's.

    Attributes:
        default_prompt: The instruction where an observation has none.
        normalization: How statistics are used; None is what the model was trained with: z-score for π0,
            quantiles for π0.5 and π0-FAST.
        state_in_text: Whether π0.5 reads the state, as text. False for weights trained without
            (`pi05_libero`), whose prompts are those of π0.
        sampler: How the model answers: a `FlowSampler` for π0 and π0.5, a `TokenSampler` for π0-FAST;
            None for the model's own with its defaults.
        quantize: "int8" keeps the matrices of all layers in 8 bits with a scale an output: half of bfloat16's
            memory, and other actions. `compare_policies` says by how much. None changes nothing.
        compile_when: When a call whose program is missing compiles it, which takes seconds: see `Engine`.
        seed: Where noise begins; two policies with one seed give the same answers to the same calls.
    """

    default_prompt: str | None = None
    normalization: Normalization | None = None
    state_in_text: bool = True
    sampler: Sampler | None = None
    quantize: Quantization | None = None
    compile_when: CompileWhen = "until_warm_up"
    seed: int = 0


class Timing(NamedTuple):
    """Seconds of one call by stage. A stage on the device ends when its result is there.

    Attributes:
        robot: The observation checked and brought to the model's frame, the state normalised.
        images: Images fitted to the model's size.
        text: The prompt tokenized.
        upload: Everything to the device.
        model: The network.
        download: The answer back.
        actions: Unnormalised, absolute, in the robot's units.
    """

    robot: float
    images: float
    text: float
    upload: float
    model: float
    download: float
    actions: float

    @property
    def total(self) -> float:
        """Their sum."""
        return sum(self)

    def milliseconds(self) -> dict[str, float]:
        """By name, with `infer_ms` for the sum, as openpi's clients know it."""
        named = {f"{name}_ms": value * 1e3 for name, value in self._asdict().items()}
        return {"infer_ms": self.total * 1e3, **named}


class Prediction(NamedTuple):
    """An answer.

    Attributes:
        actions: [H, D] float64 in the robot's own units; row 0 belongs to the observation.
        model_actions: [H, W] as the network gave them, normalised; relative ones are relative to this state.
        timing: By stage.
        truncated: Whether the prompt was too long, so that its end was cut.
        missing: π0-FAST with `TokenSampler(partial="pad")`: coefficients that the answer lacked.
        speculated: π0-FAST with `TokenSampler.speculative`: what the draft was worth.
    """

    actions: NDArray[np.float64]
    model_actions: NDArray[np.floating]
    timing: Timing
    truncated: bool
    missing: int = 0
    speculated: SpeculativeStats | None = None


class Text(NamedTuple):
    """A prompt before it is padded: its ids, and whether its end was cut."""

    ids: NDArray[np.int32]
    truncated: bool


class Policy:
    """A model, a robot, and what lies between them. Calls from several threads take turns.

    Attributes:
        robot: Whose observations it takes.
        options: What was chosen.
        engine: The model, compiled.
        calls: Answers given.
        truncated: Prompts whose end was cut.
    """

    def __init__(
        self,
        model: Pi0 | Pi0Fast,
        robot: RobotSpec,
        norm_stats: Mapping[str, Stats] | None,
        tokenizer: TextTokenizer,
        *,
        codec: FastCodec | None = None,
        options: PolicyOptions | None = None,
        consume: bool = False,
    ) -> None:
        """Lays out the weights for inference; `warm_up` compiles.

        Args:
            model: The weights of its layers are copied, so it may be let go of.
            robot: Its cameras must have names that the model knows.
            norm_stats: "state" and "actions"; None where the model was trained on the robot's own numbers.
            tokenizer: The text vocabulary of the weights.
            codec: π0-FAST's tokenizer of actions.
            options: See `PolicyOptions`.
            consume: Free each array once it is copied, so that peak memory stays below two models; the model
                is unusable afterwards, with all that shares its arrays (another merge of its state).

        Raises:
            InputError: The parts don't fit each other; says which.
        """
        self.robot, self.options = robot, options or PolicyOptions()
        self.calls = self.truncated = 0
        config = self._config = model.config
        self._kind = config.family
        self._fast = self._kind is Family.PI0_FAST
        _check_cameras(robot, config.cameras)
        self._state_norm, actions_norm = _normalisers(norm_stats, self._kind, self.options, robot)
        width = config.action_dim
        if self._fast and width != robot.action_dim:
            raise InputError(
                f"{robot.name} has {robot.action_dim} action dimensions, and this π0-FAST writes {width}; "
                "its config's action_dim must be the robot's"
            )
        mask = robot.delta_mask or ()
        delta = DeltaActions(mask) if any(mask) else None
        self._back = ActionChain(delta, None, actions_norm, None, Pad(robot.action_dim, width))
        self._state_pad = Pad(robot.state_dim, width) if self._kind is Family.PI0 else None
        self._begin = np.zeros(0, np.int32)
        self._codec = codec
        _check_normalization(self.options)
        sampler = self._sampler = self.options.sampler or (TokenSampler() if self._fast else FlowSampler())
        token_format = None
        if self._fast:
            if codec is None:
                raise InputError("π0-FAST needs the FAST tokenizer (codec) that its actions are written with")
            self._prompts = Pi0FastPrompts(tokenizer, codec, config.text_len)
            self._begin = np.asarray(self._prompts.answer_start, np.int32)
            bar = int(tokenizer.encode("|")[-1])
            grammar = None
            if isinstance(sampler, TokenSampler) and sampler.constrained:
                grammar = Grammar.of(codec, first_fast_id=self._prompts.first_fast_id, end=bar)
            stop = (bar, 1 if tokenizer.eos_id is None else tokenizer.eos_id)
            token_format = TokenFormat(stop, len(self._begin), grammar)
        elif self._kind is Family.PI05 and self.options.state_in_text:
            self._prompts = Pi05Prompts(tokenizer, config.text_len)
        else:
            self._prompts = Pi0Prompts(tokenizer, config.text_len)
        self._black = np.zeros((config.vision.image_size, config.vision.image_size, 3), np.uint8)
        self._random = np.random.default_rng(self.options.seed)
        self._before = np.zeros(0, np.int32)  # the last answer's ids, for the next draft
        self._turn = threading.Lock()
        self.engine = Engine(
            model,
            sampler,
            token_format,
            quantize=self.options.quantize,
            consume=consume,
            compile_when=self.options.compile_when,
        )

    @classmethod
    def load(
        cls,
        checkpoint: str | Path,
        *,
        robot: RobotSpec | str,
        tokenizer: TextTokenizer | str | PathLike[str] | None = None,
        codec: FastCodec | str | PathLike[str] | None = None,
        asset_id: str | None = None,
        norm_stats: Mapping[str, Stats] | None = None,
        action_horizon: int | None = None,
        dtype: Literal["float32", "bfloat16"] | None = None,
        options: PolicyOptions | None = None,
    ) -> Policy:
        """Reads a checkpoint of any format that `pioxide.weights.load` knows, and what lies beside it.

        Args:
            checkpoint: A path or an address.
            robot: A `RobotSpec`, or the name of one of `pioxide.robots.ROBOTS`.
            tokenizer: A SentencePiece model; by default the checkpoint's own, else the one that
                `pioxide fetch` keeps.
            codec: π0-FAST: the directory of a FAST tokenizer; by default the checkpoint's own.
            asset_id: Whose norm statistics, where the checkpoint has several.
            norm_stats: In place of the checkpoint's.
            action_horizon: Actions in a chunk, where the checkpoint does not say.
            dtype: Of weights and computation; by default float32 on a CPU, bfloat16 elsewhere.
            options: See `PolicyOptions`.

        Raises:
            InputError: A part is missing, or parts don't fit each other.
            CheckpointError: The weights are not whole.
        """
        from pioxide.weights import build, load

        dtype = dtype or ("float32" if jax.default_backend() == "cpu" else "bfloat16")
        with load(checkpoint) as opened:
            beside, kind = opened.companions, opened.architecture.kind
            robot = _robot(robot, kind)
            stats = opened.norm_stats(asset_id) if norm_stats is None else norm_stats
            tokenizer = _tokenizer(tokenizer or beside.text_model)
            fields: dict[str, Any] = {"action_horizon": action_horizon, "dtype": dtype}
            if kind is Family.PI0_FAST:
                codec = _codec(codec or beside.fast_tokenizer, opened.path)
                fields |= {"action_dim": robot.action_dim, "cameras": _fast_cameras(robot)}
            else:
                codec = None
            model = build(opened.merged(), param_dtype=dtype, **fields)
        return cls(model, robot, stats, tokenizer, codec=codec, options=options, consume=True)

    @property
    def horizon(self) -> int:
        """Actions in a chunk, H."""
        return self._config.action_horizon

    @property
    def noise_shape(self) -> tuple[int, int] | None:
        """[H, W] of the noise that an answer begins with; None for π0-FAST."""
        return None if self._fast else (self.horizon, self._config.action_dim)

    @property
    def draws_tokens(self) -> bool:
        """Whether answers are drawn at a temperature, so that two of one observation differ."""
        return isinstance(self._sampler, TokenSampler) and self._sampler.temperature > 0

    @property
    def _continues(self) -> bool:
        return isinstance(self._sampler, FlowSampler) and self._sampler.realtime is not None

    @property
    def _speculates(self) -> bool:
        return isinstance(self._sampler, TokenSampler) and self._sampler.speculative > 0

    def warm_up(
        self, prompts: Iterable[str] = (), cameras: Iterable[Sequence[str]] = ()
    ) -> dict[Shape, float]:
        """Compiles ahead of time, so that no call in the loop has to.

        Args:
            prompts: Instructions that will come: every length they can take, whatever the state, is compiled.
                None given: the default prompt; without one all lengths.
            cameras: Sets of the robot's cameras (the model's names) that will be there together. None given:
                all of the robot's at once.

        Returns:
            Seconds by shape.

        Raises:
            InputError: One text in place of several, an empty one, or a camera that the robot has not.
        """
        prompts, cameras = _several("prompts", prompts), _several("cameras", cameras)
        for one in cameras:
            _several("a set of cameras", one)
        known = [c.slot for c in self.robot.cameras]
        sets = [tuple(one) for one in cameras] or [tuple(known)]
        if unknown := sorted({name for one in sets for name in one} - set(known)):
            raise InputError(f"{self.robot.name} has no camera {unknown[0]!r}; it has {known}")
        texts = prompts or ([self.options.default_prompt] if self.options.default_prompt else [])
        lengths = {n for text in texts for n in self._lengths_of(text)} or set(self.engine.text_lengths)
        return self.engine.warm_up(
            Shape(1, present, length)
            for present in dict.fromkeys(self._cameras(one) for one in sets)
            for length in sorted(lengths, reverse=True)
        )

    def __call__(
        self,
        observation: Mapping[str, Any],
        *,
        noise: ArrayLike | None = None,
        leftover: ArrayLike | None = None,
        delay: int = 0,
    ) -> Prediction:
        """The actions for one moment.

        Args:
            observation: Flat ("observation/image") or nested NumPy arrays under the robot's keys, and the
                instruction.
            noise: [H, W] that π0 and π0.5 begin with; drawn where it is not given.
            leftover: [n, D] what is left of the chunk before in the robot's units, the action that is due at
                the observation first. Needs a sampler with `realtime`, or `speculative`, which it is only a
                guess for.
            delay: How many of these will have been played before the answer is there: they are kept.

        Raises:
            InputError: A key is missing or unknown, a value of another shape, dtype or range, or NaN; or
                there is no instruction; or a leftover that nothing can use.
            PolicyError: The network's answer is no action chunk.
        """
        with self._turn:
            return self._answer(observation, noise, leftover, delay)

    def chunk(self, request: Request) -> NDArray[np.float64]:
        """A runner's question answered: `ThreadWorker(policy.chunk)`.

        What is left to play is used by a sampler with `realtime` or `speculative` alone.
        """
        if not self._continues and not self._speculates:
            return self(request.observation).actions
        return self(request.observation, leftover=request.leftover, delay=request.delay).actions

    def _answer(
        self,
        observation: Mapping[str, Any],
        noise: ArrayLike | None,
        leftover: ArrayLike | None,
        delay: int,
    ) -> Prediction:
        clock = _Clock()
        seen = self.robot.apply(observation)
        state = seen.state if self._state_norm is None else self._state_norm.apply(seen.state)
        clock.lap()
        images = self._fitted(seen)
        clock.lap()
        text = self._text(seen.prompt, state)
        inputs = self._inputs(images, text.ids, state, noise)
        inputs = inputs._replace(**self._from_before(leftover, delay, seen.state))
        clock.lap()
        answer = self.engine.run(inputs)
        rows: Any = answer.tokens if answer.actions is None else answer.actions
        raw = rows[0]
        clock.skip()
        model_actions, missing = self._decoded(raw)
        actions = self._to_robot(model_actions, seen.state)
        clock.lap()
        self.calls += 1
        self.truncated += text.truncated
        speculated = None
        if answer.speculative is not None:
            self._before = raw[: np.count_nonzero(raw)]
            speculated = answer.speculative[0]
        robot, fitted, prompt, back = clock.laps
        device = answer.timing
        timing = Timing(
            robot, fitted, prompt + device.pad, device.upload, device.model, device.download, back
        )
        return Prediction(actions, model_actions, timing, text.truncated, missing, speculated)

    def _cameras(self, present: Iterable[str]) -> tuple[str, ...]:
        """Those that are encoded, in the model's order."""
        if self._fast:
            return self._config.cameras
        return tuple(name for name in self._config.cameras if name in set(present))

    def _fitted(self, seen: RobotInput) -> dict[str, NDArray[np.uint8]]:
        """Images by camera [1, S, S, 3]. π0-FAST was trained with a black image for an absent camera."""
        size = len(self._black)
        slots = {camera.key: camera.slot for camera in self.robot.cameras}
        found = {slots[key]: resize_with_pad(image, size)[None] for key, image in seen.images.items()}
        return {name: found.get(name, self._black[None]) for name in self._cameras(found)}

    def _text(self, prompt: str | None, state: NDArray[np.float64]) -> Text:
        prompt = self.options.default_prompt if prompt is None else prompt
        if prompt is None or not prompt.strip():
            got = "nothing" if prompt is None else repr(prompt)
            raise InputError(
                f"{self.robot.prompt_key}: expected an instruction, got {got}; put one into the observation "
                "or choose a default_prompt"
            )
        if isinstance(self._prompts, Pi0Prompts):
            encoded = self._prompts.encode(prompt)
        else:
            encoded = self._prompts.encode(prompt, state)
        real = min(encoded.length, len(encoded.tokens))
        return Text(np.concatenate([encoded.tokens[:real], self._begin]), encoded.truncated)

    def _inputs(
        self,
        images: dict[str, NDArray[np.uint8]],
        ids: NDArray[np.int32],
        state: NDArray[np.float64],
        noise: ArrayLike | None,
    ) -> Inputs:
        tokens, lengths = ids[None], np.array([len(ids)], np.int32)
        if self._fast:
            if noise is not None:
                raise InputError("noise: π0-FAST begins with none; it has a temperature and a seed")
            keys = self._random.integers(0, 1 << 32, (1, 2), np.uint32) if self.draws_tokens else None
            return Inputs(images, tokens, lengths, keys=keys)
        padded = None if self._state_pad is None else self._state_pad.apply(state)[None].astype(np.float32)
        return Inputs(images, tokens, lengths, state=padded, noise=self._noise(noise))

    def _noise(self, given: ArrayLike | None) -> NDArray[np.float32]:
        expected = self.noise_shape
        assert expected is not None
        if given is None:
            return self._random.standard_normal((1, *expected), np.float32)
        noise = np.asarray(given)
        if noise.dtype.kind not in "fiu" or noise.shape not in (expected, (1, *expected)):
            raise InputError(
                f"noise: expected {expected} numbers, got shape {noise.shape} of dtype {noise.dtype}"
            )
        with np.errstate(over="ignore"):
            noise = noise.astype(np.float32).reshape(1, *expected)
        if not np.isfinite(noise).all():
            _, step, dim = np.argwhere(~np.isfinite(noise))[0]
            raise InputError(f"noise: {noise[0, step, dim]} at step {step}, dimension {dim}")
        return noise

    def _from_before(
        self, given: ArrayLike | None, delay: int, state: NDArray[np.float64]
    ) -> dict[str, PrevChunkLeftOver | Draft]:
        """What the chunk before gives to this one: what is to be continued, or a draft.

        Actions in the robot's units become what the model would have given for them at this state: relative
        ones were relative to an earlier state, and what the robot will do is what has to agree.
        """
        if not self._continues and not self._speculates:
            if given is not None:
                raise InputError("leftover: this policy's sampler has neither realtime nor speculative")
            return {}
        left = None
        if given is not None and np.size(given):
            if np.ndim(given) != 2:
                raise InputError(
                    f"leftover: expected actions [n, {self.robot.action_dim}], got shape {np.shape(given)}"
                )
            left = self._back.apply(state, self.robot.apply_actions(given)).actions
        if not isinstance(delay, Integral):
            raise InputError(f"delay: expected a whole number of actions, got {delay!r}")
        padded = pad_prev_chunk_left_over(left, int(delay), horizon=self.horizon, dim=self._config.action_dim)
        if not self._speculates:
            return {"prev_chunk_left_over": padded}
        return {"draft": self._draft(None if left is None else np.asarray(padded.actions[0]))}

    def _draft(self, expected: NDArray[np.floating] | None) -> Draft:
        """The tokens of a chunk [H, W] that the answer may be like, or those of the answer before."""
        ids = self._before
        if expected is not None:
            assert self._codec is not None
            fast = self._codec.encode(expected, on_overflow="clip").ids
            assert isinstance(self._prompts, Pi0FastPrompts)
            ids = self._prompts.first_fast_id - fast
        assert isinstance(self._sampler, TokenSampler)
        tokens = np.zeros((1, self._sampler.max_tokens), np.int32)
        ids = ids[: tokens.shape[1]]
        tokens[0, : len(ids)] = ids
        return Draft(tokens, np.array([len(ids)], np.int32))  # type: ignore[arg-type]

    def _decoded(self, raw: NDArray[Any]) -> tuple[NDArray[np.floating], int]:
        """The network's answer as normalised actions [H, W]."""
        if isinstance(self._prompts, Pi0FastPrompts):
            assert isinstance(self._sampler, TokenSampler)
            if (raw == BROKEN).any():
                raise PolicyError(
                    "the network gave scores of tokens that are NaN or infinite; look for NaN in the weights"
                )
            try:
                decoded = self._prompts.ids_to_actions(
                    raw,
                    horizon=self.horizon,
                    dim=self._config.action_dim,
                    partial=self._sampler.partial,
                    continued=True,
                )
            except (InputError, IncompleteChunkError) as error:
                raise PolicyError(f"π0-FAST wrote no action chunk: {error}") from error
            return decoded.actions, decoded.missing
        if not np.isfinite(raw).all():
            step, dim = np.argwhere(~np.isfinite(raw))[0]
            raise PolicyError(
                f"the network gave {raw[step, dim]} at step {step}, dimension {dim}; look for NaN in the "
                "weights, or for a state far outside the norm statistics"
            )
        return raw, 0

    def _to_robot(
        self, model_actions: NDArray[np.floating], state: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        absolute = self._back.invert(state, model_actions).actions
        assert absolute is not None
        actions = self.robot.invert_actions(absolute)
        if not np.isfinite(actions).all():
            step, dim = np.argwhere(~np.isfinite(actions))[0]
            raise PolicyError(
                f"action {actions[step, dim]} at step {step}, dimension {self.robot.joint(int(dim))}: the "
                "norm statistics lead out of all numbers"
            )
        return actions

    def _lengths_of(self, prompt: str) -> list[int]:
        """The buckets a prompt can fall into: a joint's bin is one to three digits, or "-1"."""
        ends = [len(self._text(prompt, np.full(self.robot.state_dim, x)).ids) for x in (-1.0, 1.0)]
        shortest, longest = (self.engine.shape(1, (), n).text for n in ends)
        return [n for n in self.engine.text_lengths if shortest <= n <= longest]


class _Clock:
    """Laps since it was made."""

    def __init__(self) -> None:
        self.laps: list[float] = []
        self._last = time.perf_counter()

    def lap(self) -> None:
        now = time.perf_counter()
        self.laps.append(now - self._last)
        self._last = now

    def skip(self) -> None:
        self._last = time.perf_counter()


def _several(name: str, given: Iterable[Any]) -> list[Any]:
    """A list; a text would be taken for one of its letters."""
    if isinstance(given, str):
        raise InputError(f"{name}: expected several, got the text {given!r}; put it into a list")
    return list(given)


def _check_normalization(options: PolicyOptions) -> None:
    known = (None, "zscore", "quantile")
    if options.normalization not in known:
        raise InputError(f"normalization: expected one of {known}, got {options.normalization!r}")


def _robot(robot: RobotSpec | str, kind: Family) -> RobotSpec:
    if isinstance(robot, RobotSpec):
        return robot
    if robot == "droid" and kind is Family.PI0_FAST:
        return droid(fast_cameras=True)
    if robot not in ROBOTS:
        raise InputError(f"there is no robot {robot!r}; expected one of {sorted(ROBOTS)}, or a RobotSpec")
    return ROBOTS[robot]()


def _tokenizer(tokenizer: TextTokenizer | str | PathLike[str] | None) -> TextTokenizer:
    if isinstance(tokenizer, TextTokenizer):
        return tokenizer
    if tokenizer is None:
        from pioxide.fetch import text_model

        tokenizer = text_model()
    return TextTokenizer.load(tokenizer)


def _codec(codec: FastCodec | str | PathLike[str] | None, path: Path) -> FastCodec:
    if isinstance(codec, FastCodec):
        return codec
    if codec is None:
        raise InputError(f"{path} comes without a FAST tokenizer: pass codec")
    return FastCodec.load(codec)


def _fast_cameras(robot: RobotSpec) -> tuple[str, ...]:
    """π0-FAST takes whatever three names it was trained with: its own for DROID, π0's for the others."""
    slots = {camera.slot for camera in robot.cameras}
    fast = Family.PI0_FAST.cameras
    return fast if slots & set(fast[1:]) else Family.PI0.cameras


def _check_cameras(robot: RobotSpec, cameras: tuple[str, ...]) -> None:
    for camera in robot.cameras:
        if camera.slot not in cameras:
            raise InputError(
                f"{robot.name}: camera {camera.key!r} goes to {camera.slot!r}, which this model does not "
                f"know; it has {list(cameras)}"
            )


def _normalisers(
    stats: Mapping[str, Stats] | None, kind: Family, options: PolicyOptions, robot: RobotSpec
) -> tuple[ZScore | Quantile | None, ZScore | Quantile | None]:
    if stats is None:
        return None, None
    for key, dim in (("state", robot.state_dim), ("actions", robot.action_dim)):
        if key not in stats:
            raise InputError(f"the norm statistics lack {key!r}; they have {sorted(stats)}")
        if stats[key].dim < dim:
            # The others would reach the joints as the network gave them, in no unit.
            raise InputError(
                f"the norm statistics of {key!r} cover {stats[key].dim} numbers, and {robot.name} has {dim}"
            )
    zscore = (options.normalization or kind.normalization) == "zscore"
    how = ZScore if zscore else Quantile
    return how(stats["state"]), how(stats["actions"])
