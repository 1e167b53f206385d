"""A trained model as a function of what robots see: observations in, action chunks in the robot's units out.

A policy is a pipeline (what numbers mean) and an engine (what computes); a `Session` is one robot's part.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pioxide.codec import ActionCodec, Pi0FastPrompts, TextTokenizer
from pioxide.contract import Contract, Frames, Pipeline, PromptStyle, Resize, SubtaskStyle, known
from pioxide.control import Request, Showing, ThreadWorker
from pioxide.engine import Engine, FlowSampler, Inputs, Sampler, Shape, TokenFormat, TokenSampler
from pioxide.errors import InputError
from pioxide.models import Pi0, Pi0Fast
from pioxide.notebook import facts_table
from pioxide.policy.agree import (
    check_advantage,
    check_model,
    check_tokenizer,
    check_trained_delay,
    own_sampler,
)
from pioxide.policy.answer import PolicyOptions, Prediction, SubtaskOptions, Timing
from pioxide.policy.checked import check_actions, check_prompts, check_ranges, model_chunks
from pioxide.policy.continuation import Continuation, Continuations
from pioxide.policy.history import Seen, films, moment_of, seen_of
from pioxide.policy.session import Session, Subtask
from pioxide.policy.subtasks import SubtaskWriter, padded
from pioxide.robots import RobotSpec
from pioxide.sampling import Grammar
from pioxide.transforms import Stats


class Policy:
    """A model, its contract, and what computes it. Any number of threads may call it.

    A model of random weights that has the sizes for tests, driving an SO-101 that sees through one camera:

    >>> import numpy as np
    >>> from flax import nnx
    >>> from pioxide import demo
    >>> from pioxide.models import Pi0Config
    >>> from pioxide.policy import FlowSampler, agree, model_contract
    >>> from pioxide.robots import so101
    >>> from pioxide.transforms import NormRule
    >>> tokenizer = TextTokenizer.load(demo.text_model_path())
    >>> tiny = Pi0Config.tiny()
    >>> config = replace(tiny, language=replace(tiny.language, vocab=tokenizer.vocab_size))
    >>> identity = NormRule.openpi("identity")  # so that no statistics are needed
    >>> known = replace(model_contract(config), state_norm=identity, action_norm=identity)
    >>> contract = agree(known, so101(delta=False))
    >>> options = PolicyOptions(FlowSampler(num_steps=2))
    >>> policy = Policy(Pi0(config, nnx.Rngs(0)), contract, tokenizer, options=options)
    >>> image = np.zeros((48, 64, 3), np.uint8)
    >>> seen = {"observation.images.front": image, "observation.state": np.zeros(6), "task": "pick it up"}
    >>> policy(seen).actions.shape  # H actions of the robot's 6 numbers
    (6, 6)
    >>> policy
    Policy(model: pi0, robot: so101, chunk: 6 x 6, cameras: 2)

    Attributes:
        contract: What the numbers mean, complete.
        pipeline: Robot frames to model inputs, and back.
        engine: The model, compiled.
        options: What was chosen.
        session: The robot of calls that name none. Such calls take turns.
    """

    def __init__(
        self,
        model: Pi0 | Pi0Fast,
        contract: Contract,
        tokenizer: TextTokenizer,
        *,
        codec: ActionCodec | None = None,
        options: PolicyOptions | None = None,
        consume: bool = False,
    ) -> None:
        """Lays out the weights for inference; `warm_up` compiles.

        Args:
            model: Its layers' weights are copied, so it may be let go of.
            contract: Of these weights and this robot, complete: see `agree`, or `Policy.load`.
            tokenizer: The text vocabulary of the weights.
            codec: π0-FAST's tokenizer of actions.
            options: See `PolicyOptions`.
            consume: Free each array once it is copied, so that peak memory stays below two models; the model
                is unusable afterwards, with all that shares its arrays (another merge of its state).

        Raises:
            ContractError: The contract leaves something open, or is not this model's or codec's, or the
                tokenizer is not the model's.
            InputError: An option is not this model's.
        """
        self.options = options or PolicyOptions()
        if self.options.default_prompt is not None:
            contract = replace(contract, default_prompt=self.options.default_prompt)
        check_model(contract, model.config)
        check_tokenizer(tokenizer, model.config)
        self.contract, self._config = contract, model.config
        if not model.config.family.is_flow and codec is None:
            raise InputError("π0-FAST needs the tokenizer (codec) that its actions are written with")
        self.pipeline = Pipeline(contract, tokenizer, codec)
        self.robot = self.pipeline.numbers.robot
        self._sampler = sampler = own_sampler(contract, self.options.sampler)
        check_trained_delay(contract, sampler)
        guidance = sampler.guidance if isinstance(sampler, FlowSampler) else 1.0
        check_advantage(contract, self.options.advantage, guidance)
        self._continuations = Continuations(self.pipeline, sampler, self.horizon, model.config.action_dim)
        token_format = self._token_format(sampler)
        self._answer_start = np.asarray(
            self.pipeline.prompts.answer_start if isinstance(self.pipeline.prompts, Pi0FastPrompts) else (),
            np.int32,
        )
        self.engine = Engine(
            model,
            sampler,
            token_format,
            quantize=self.options.quantize,
            consume=consume,
            compile_when=self.options.compile_when,
            float_images=contract.resize is Resize.INTERPOLATE,
        )
        asks = self.options.subtask
        if asks is None and contract.subtask_style is SubtaskStyle.INSTEAD:
            asks = SubtaskOptions()  # its actions were never trained on the instruction itself
        self._writer = None if asks is None else SubtaskWriter(asks, contract, tokenizer, self.engine)
        self.session = Session(self.options.seed)
        self._turn = threading.Lock()

    @classmethod
    def load(
        cls,
        checkpoint: str | Path,
        *,
        robot: RobotSpec | str | None = None,
        contract: Contract | None = None,
        cameras: Mapping[str, str | None] | None = None,
        tokenizer: TextTokenizer | str | PathLike[str] | None = None,
        codec: ActionCodec | str | PathLike[str] | None = None,
        base: str | Path | None = None,
        asset_id: str | None = None,
        norm_stats: Mapping[str, Stats] | None = None,
        action_horizon: int | None = None,
        dtype: Literal["float32", "bfloat16"] | None = None,
        options: PolicyOptions | None = None,
    ) -> Policy:
        """Reads a checkpoint of any format that `pioxide.weights.load` knows, with what it says of itself.

        Args:
            checkpoint: A path or an address.
            robot: A `RobotSpec`, the name of one of `pioxide.robots.ROBOTS`, or that of the checkpoint's own
                robot; None where the checkpoint's contract names its robot. Of a checkpoint of several robots
                its name, also that of a `RobotSpec`, says which contract is meant.
            contract: What you know and the checkpoint does not say, as `Contract(delta_mask=())`.
            cameras: A robot's camera key by image slot, where the names do not tell which goes where.
            tokenizer: A SentencePiece model; by default the checkpoint's own, else the one that
                `pioxide fetch` keeps.
            codec: π0-FAST: the directory of an action tokenizer (FAST, binning or BEAST); by default the
                checkpoint's own.
            base: The checkpoint that an adapter (PEFT) belongs to, where it is not the one it names.
            asset_id: Whose norm statistics, where the checkpoint has several.
            norm_stats: Where the checkpoint has none, or in place of its own.
            action_horizon: Actions in a chunk, where the checkpoint does not say.
            dtype: Of weights and computation; by default float32 on a CPU, bfloat16 elsewhere.
            options: See `PolicyOptions`.

        Raises:
            ContractError: Checkpoint, robot and you disagree, or nobody says what is needed; shows both. Or
                the checkpoint is of several robots, and none of that name, or nobody says which.
            InputError: A part is missing.
            CheckpointError: The weights are not whole.
        """
        from pioxide.policy.load import load_policy_parts

        parts = load_policy_parts(
            checkpoint,
            robot=robot,
            said=contract,
            cameras=cameras,
            tokenizer=tokenizer,
            codec=codec,
            base=base,
            asset_id=asset_id,
            norm_stats=norm_stats,
            action_horizon=action_horizon,
            dtype=dtype,
        )
        return cls(
            parts.model, parts.contract, parts.tokenizer, codec=parts.codec, options=options, consume=True
        )

    def __repr__(self) -> str:
        """Returns what it is in a line."""
        return f"Policy({', '.join(f'{name}: {value}' for name, value in self._facts().items())})"

    def _repr_html_(self) -> str:
        """Returns what a notebook shows."""
        return facts_table(self._facts())

    def _facts(self) -> dict[str, str]:
        """Returns what a person wants to know first."""
        return {
            "model": self._config.family.value,
            "robot": self.robot.name,
            "chunk": f"{self.horizon} x {self.robot.action_dim}",
            "cameras": f"{len(self.robot.cameras)}",
        }

    @property
    def horizon(self) -> int:
        """Returns H, actions in a chunk."""
        return self._config.action_horizon

    @property
    def noise_shape(self) -> tuple[int, int] | None:
        """Returns [H, W] of the noise that an answer begins with; None for π0-FAST."""
        return (self.horizon, self._config.action_dim) if self._config.family.is_flow else None

    @property
    def continues(self) -> bool:
        """Returns whether answers use what is left of the chunk before."""
        return self._continuations.wanted

    @property
    def draws_tokens(self) -> bool:
        """Returns whether answers are drawn at a temperature, so that two of one observation differ."""
        return isinstance(self._sampler, TokenSampler) and self._sampler.temperature > 0

    def new_session(self, seed: int = 0) -> Session:
        """Returns a session for one more robot that asks this policy."""
        return Session(seed)

    def warm_up(
        self,
        prompts: Iterable[str] = (),
        cameras: Iterable[Sequence[str]] = (),
        batches: Iterable[int] = (1,),
    ) -> dict[Shape, float]:
        """Compiles ahead of time, so that no call in the loop has to.

        Args:
            prompts: Instructions that will come: every length they can take, whatever the state, is compiled.
                None given: the default prompt; without one all lengths.
            cameras: Sets of image slots that will be filled together. None given: all of the robot's at once;
                a camera that is absent later is then masked.
            batches: Numbers of robots that will ask at once.

        Returns:
            Seconds by shape.

        Raises:
            InputError: One text in place of several, an empty one, or a slot that no camera fills.
        """
        prompts, cameras = _several("prompts", prompts), _several("cameras", cameras)
        for one in cameras:
            _several("a set of cameras", one)
        filled = [c.slot for c in known(self.contract.cameras, "cameras") if c.key is not None]
        sets = [tuple(one) for one in cameras] or [tuple(filled)]
        if unknown := sorted({name for one in sets for name in one} - set(filled)):
            raise InputError(f"{self.robot.name} has no camera {unknown[0]!r}; it fills {filled}")
        default = self.contract.default_prompt
        texts = prompts or ([default] if isinstance(default, str) else [])
        lengths = {n for text in texts for n in self._lengths_of(text)} or set(self.engine.text_lengths)
        present = list(dict.fromkeys(self._encoded(one) for one in sets))
        seconds: dict[Shape, float] = {}
        sizes = list(batches)
        engines = [(self.engine, lengths)]
        if self._writer is not None:
            # Which subtasks will stand in prompts is not known.
            engines = [(self._writer.engine, lengths), (self.engine, set(self.engine.text_lengths))]
        for engine, buckets in engines:
            found = engine.warm_up(
                Shape(batch, one, length)
                for batch in sizes
                for one in present
                for length in sorted(buckets, reverse=True)
            )
            seconds |= {shape: seconds.get(shape, 0.0) + time for shape, time in found.items()}
        return seconds

    def __call__(
        self,
        observation: Mapping[str, Any],
        *,
        session: Session | None = None,
        noise: ArrayLike | None = None,
        prev_chunk_left_over: ArrayLike | None = None,
        inference_delay: int = 0,
        at: float | None = None,
    ) -> Prediction:
        """Returns the actions for one moment of one robot.

        Args:
            observation: Flat ("observation/image") or nested NumPy arrays under the robot's keys, and the
                instruction.
            session: The robot's; by default the policy's own, whose calls take turns.
            noise: [H, W] that π0 and π0.5 begin with; drawn where it is not given.
            prev_chunk_left_over: [n, D] what is left of the chunk before in the robot's units, the action
                that is due at the observation first. Needs a sampler with `realtime`, or with `speculative`,
                for which it is only a guess.
            inference_delay: How many of these will be played before the answer is there: they are kept.
            at: When the observation was taken, in seconds on any one clock, by which a model with memory
                finds the frames before it; by default now, by `time.monotonic`.

        Raises:
            InputError: A key is missing or unknown, a value of another shape, dtype or range, or NaN; or
                there is no instruction; or a leftover that nothing can use; or a state beyond `state_limit`.
            PolicyError: The network's answer is no action chunk, or no compiled program can give one.
        """
        before = None
        if prev_chunk_left_over is not None:
            before = [Continuation(prev_chunk_left_over, inference_delay)]
        sessions = None if session is None else [session]
        return self.batch(
            [observation],
            sessions,
            noise=None if noise is None else [noise],
            left_over=before,
            at=None if at is None else [at],
        )[0]

    @property
    def remembers(self) -> bool:
        """Returns whether answers depend on what was seen before, see `observe`."""
        return bool(self.contract.memory)

    def observe(
        self,
        observations: Sequence[Mapping[str, Any]] | Mapping[str, Any],
        sessions: Sequence[Session] | None = None,
        *,
        at: Sequence[float] | None = None,
    ) -> None:
        """Shows a model with memory what its robots see between two answers; others have no use for it.

        A model that sees the frame of a second ago needs one to be there, and is usually asked for a chunk
        less often. May be called while the same sessions are answered.

        Args:
            observations: As for `__call__`, or the images alone; of one robot, or one of each.
            sessions: One a robot, all different; by default the policy's own, of one robot.
            at: When each was taken, see `__call__`.

        Raises:
            InputError: As `__call__`; or the frame is older than its episode's first.
        """
        memory = self.contract.memory
        if not memory:
            return
        several = [observations] if isinstance(observations, Mapping) else list(observations)
        known_sessions = [self.session] if sessions is None else list(sessions)
        if len({id(one) for one in known_sessions}) != len(several):
            raise InputError(
                f"sessions: expected one of its own for each of {len(several)} observations, got "
                f"{len(known_sessions)}"
            )
        if at is not None and len(at) != len(several):
            raise InputError(f"at: expected one for each of {len(several)} observations, got {len(at)}")
        images, present = self.pipeline.images(self.pipeline.look(several))
        for row, session in enumerate(known_sessions):
            session.remembering(memory).add(seen_of(images, present, row, moment_of(at, row)))

    def seen(self, observation: Mapping[str, Any], at: float) -> Seen:
        """Returns what a robot sees at a moment, as a history keeps it; errors as in `observe`."""
        images, present = self.pipeline.images(self.pipeline.look([observation]))
        return seen_of(images, present, 0, moment_of([at], 0))

    def showing(self, session: Session | None = None) -> Showing | None:
        """Returns how a worker shows this policy what comes between two answers; None without memory."""
        memory, robot = self.contract.memory, session or self.session
        if not memory:
            return None

        def take(observation: Mapping[str, Any], at: float) -> Callable[[], None]:
            history = robot.remembering(memory)  # of this episode, should the next begin meanwhile
            history.begin(at)
            return lambda: history.add(self.seen(observation, at))

        return Showing(take, memory.stride)

    def worker(self, session: Session | None = None) -> ThreadWorker:
        """Returns a runner's worker for a robot; an episode of the runner's begins one of the session's.

        Args:
            session: The robot's; by default the policy's own.
        """
        robot = session or self.session
        return ThreadWorker(lambda request: self.chunk(request, robot), robot.forget, self.showing(robot))

    def batch(
        self,
        observations: Sequence[Mapping[str, Any]] | Frames,
        sessions: Sequence[Session] | None = None,
        *,
        noise: Sequence[ArrayLike] | None = None,
        left_over: Sequence[Continuation | None] | None = None,
        at: Sequence[float | None] | None = None,
    ) -> list[Prediction]:
        """Answers several robots at once; each gets what it would get alone, within rounding.

        Args:
            observations: One a robot, or what `pipeline.read` made of them.
            sessions: One a robot, all different; None for robots without a past, whose noise is drawn from
                the policy's own session.
            noise: [H, W] a robot, see `__call__`.
            left_over: What is left of each robot's chunk before, None for a robot without.
            at: When each observation was taken, see `__call__`.

        Raises:
            InputError, PolicyError: As `__call__`; names the robot where there are several.
        """
        rows = len(observations.prompts) if isinstance(observations, Frames) else len(observations)
        for name, given in (
            ("sessions", sessions),
            ("noise", noise),
            ("left_over", left_over),
            ("at", at),
        ):
            if given is not None and len(given) != rows:
                raise InputError(f"{name}: expected one for each of {rows} observations, got {len(given)}")
        if sessions is not None and len({id(one) for one in sessions}) < rows:
            raise InputError("sessions: one robot's session stands twice in a batch")
        with ExitStack() as held:
            if sessions is None:
                held.enter_context(self._turn)
            for session in [self.session] if sessions is None else sessions:
                held.enter_context(session.answering())
            return self._answer(observations, sessions or [self.session] * rows, noise, left_over, at)

    def chunk(self, request: Request, session: Session | None = None) -> NDArray[np.float64]:
        """Answers a runner; see `worker`.

        What is left to play is used by a sampler with `realtime` or `speculative` alone.
        """
        return self.chunks([request], None if session is None else [session])[0].actions

    def chunks(
        self, requests: Sequence[Request], sessions: Sequence[Session] | None = None
    ) -> list[Prediction]:
        """Answers the runners of several robots at once, as `chunk` answers one.

        Args:
            requests: One a robot.
            sessions: As in `batch`.
        """
        left_over = None
        if self.continues:
            left_over = [Continuation(one.prev_chunk_left_over, one.inference_delay) for one in requests]
        seen = [one.observation for one in requests]
        return self.batch(seen, sessions, left_over=left_over, at=[one.at for one in requests])

    def _answer(
        self,
        observations: Sequence[Mapping[str, Any]] | Frames,
        sessions: Sequence[Session],
        noise: Sequence[ArrayLike] | None,
        left_over: Sequence[Continuation | None] | None,
        at: Sequence[float | None] | None,
    ) -> list[Prediction]:
        clock = _Clock()
        frames = observations if isinstance(observations, Frames) else self.pipeline.read(observations)
        rows = len(frames.prompts)
        past: list[list[Seen | None]] = []
        ranges = self.pipeline.numbers.state_range(frames.state)
        check_ranges(ranges, self.options.state_limit, self.robot)
        clock.lap()
        images, present = self.pipeline.images(frames)
        clock.lap()
        masks = None if all(mask.all() for mask in present.values()) or not self._masks else present
        if memory := self.contract.memory:
            seen = [seen_of(images, present, row, moment_of(at, row)) for row in range(rows)]
            alone = len({id(one) for one in sessions}) == rows  # else they are robots without a past
            histories = [(one if alone else Session()).remembering(memory) for one in sessions]
            past = [one.look_back(now) for one, now in zip(histories, seen, strict=True)]
            images, masks = films(past, images)
        subtasks, cut = self._subtasks(frames, images, masks, sessions)
        prompts = [
            text if now is None else now.text for text, now in zip(frames.prompts, subtasks, strict=True)
        ]
        clock.lap()
        ids, truncated = self.pipeline.tokenize(prompts, frames.state, self.options.advantage)
        truncated |= cut
        check_prompts(truncated, prompts, self.pipeline)
        tokens, lengths = padded([np.concatenate([one, self._answer_start]) for one in ids])
        inputs = Inputs(
            images,
            tokens,
            lengths,
            masks,
            self.pipeline.state_vector(frames.state),
            self._noise(sessions, noise),
            np.stack([one.keys() for one in sessions]) if self.draws_tokens else None,
        )
        if isinstance(self._sampler, FlowSampler) and self._sampler.guided:
            plain, _ = self.pipeline.tokenize(prompts, frames.state, None)
            plain_tokens, plain_lengths = padded(plain)
            inputs = inputs._replace(plain_tokens=plain_tokens, plain_lengths=plain_lengths)
        before = left_over or [None] * rows
        inputs = inputs._replace(**self._continuations.inputs(before, frames.robot_state, sessions))
        clock.lap()
        answer = self.engine.run(inputs)
        clock.skip()
        model_actions, missing = model_chunks(
            answer, self.pipeline, self._sampler, self.horizon, self._config.action_dim
        )
        actions = self.pipeline.invert(model_actions, frames.robot_state)
        check_actions(actions, self.robot)
        clock.lap()
        robot, resized, said, text, back = clock.laps
        device = answer.timing
        timing = Timing(
            robot, resized, text + device.pad, device.upload, device.model, device.download, back, said
        )
        answers: list[Prediction] = []
        for row, session in enumerate(sessions):
            session.calls += 1
            session.truncated += bool(truncated[row])
            session.out_of_range += bool(ranges[row].dims)
            speculated = None
            if answer.speculative is not None and answer.tokens is not None:
                session.previous = answer.tokens[row][: np.count_nonzero(answer.tokens[row])]
                speculated = answer.speculative[row]
            answers.append(
                Prediction(
                    actions[row],
                    model_actions[row],
                    timing,
                    bool(truncated[row]),
                    int(missing[row]),
                    speculated,
                    ranges[row].dims,
                    ranges[row].worst,
                    subtasks[row],
                    sum(one is not None for one in past[row]) if past else None,
                )
            )
        return answers

    def _subtasks(
        self,
        frames: Frames,
        images: dict[str, NDArray[Any]],
        masks: dict[str, NDArray[np.bool_]] | None,
        sessions: Sequence[Session],
    ) -> tuple[list[Subtask | None], NDArray[np.bool_]]:
        """Returns what each robot acts by (None: the instruction), and [B] which questions were cut."""
        before = [one.subtask for one in sessions]
        alone = len({id(one) for one in sessions}) == len(sessions)
        if not alone:  # robots without a past, but for what a caller gave all of them
            before = [one if one is not None and one.given else None for one in before]
        now: list[Subtask | None] = [*before]
        cut = np.zeros(len(before), np.bool_)
        if self._writer is not None:
            said, cut = self._writer.update(frames, images, masks, before)
            now = [*said]
        for session, one in zip(sessions, now, strict=True):
            if alone and one is not None:
                session.subtask = one._replace(chunks=one.chunks + 1, unreadable="")
        return now, cut

    @property
    def _masks(self) -> bool:
        """Whether a camera that is absent is masked; π0-FAST attends to a black image instead."""
        return self.contract.absent_camera == "masked"

    def _encoded(self, present: Iterable[str]) -> tuple[str, ...]:
        """Returns the slots that are encoded when these are filled, in the model's order."""
        return tuple(n for n in self._config.cameras if not self._masks or n in set(present))

    def _noise(
        self, sessions: Sequence[Session], given: Sequence[ArrayLike] | None
    ) -> NDArray[np.float32] | None:
        shape = self.noise_shape
        if shape is None:
            if given is not None:
                raise InputError("noise: π0-FAST begins with none; it has a temperature and a seed")
            return None
        each = given or [None] * len(sessions)
        return np.stack([session.noise(shape, one) for session, one in zip(sessions, each, strict=True)])

    def _lengths_of(self, prompt: str) -> list[int]:
        """Returns the buckets a prompt can fall into: a joint's bin is one to three digits, or "-1"."""
        if not prompt.strip():
            raise InputError(f"prompts: expected an instruction, got {prompt!r}")
        ends = [
            self.pipeline.tokenize([prompt], np.full((1, self.robot.state_dim), x), self.options.advantage)[
                0
            ][0]
            for x in (-1.0, 1.0)
        ]
        longest = self.engine.text_lengths[-1]
        sizes = [min(len(ids) + len(self._answer_start), longest) for ids in ends]
        first, last = (self.engine.shape(1, (), n).text for n in (min(sizes), max(sizes)))
        return [n for n in self.engine.text_lengths if first <= n <= last]

    def _token_format(self, sampler: Sampler) -> TokenFormat | None:
        prompts, codec = self.pipeline.prompts, self.pipeline.codec
        if not isinstance(prompts, Pi0FastPrompts) or codec is None:
            return None
        bar, eos = (int(i) for i in prompts.answer_end[-2:])
        grammar = None
        if isinstance(sampler, TokenSampler) and sampler.constrained:
            grammar = Grammar.of(codec, first_fast_id=prompts.first_fast_id, end=bar)
        # LeRobot generates with its second BOS as the end of the prompt, which all of the prompt attends to.
        first = 1 if self.contract.prompt_style is PromptStyle.LEROBOT else 0
        return TokenFormat((bar, eos), len(prompts.answer_start) - first, grammar)


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
    """Returns a list; a text would be taken for one of its letters."""
    if isinstance(given, str):
        raise InputError(f"{name}: expected several, got the text {given!r}; put it into a list")
    return list(given)
