"""What belongs to one robot: noise, the answer before, counts. A policy is shared; a session is not."""

from __future__ import annotations

import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pioxide.contract import Memory
from pioxide.errors import InputError
from pioxide.policy.history import History, Seen


class Subtask(NamedTuple):
    """The subtask by which an answer acts.

    Attributes:
        text: Its words.
        chunks: Answers that it was used for before this one.
        given: Whether a caller gave it (`Session.give_subtask`); else the model wrote it.
        unreadable: Why what the model wrote this time could not be used, so that the last subtask was kept;
            "" where nothing was wrong.
    """

    text: str
    chunks: int = 0
    given: bool = False
    unreadable: str = ""


class Past(NamedTuple):
    """What one robot's cameras showed.

    Attributes:
        memory: What a model sees of it.
        frames: By when they were taken.
    """

    memory: Memory
    frames: Mapping[float, Seen]


class Session:
    """One robot's side of a policy: all that an answer depends on besides the observation.

    Two calls of one session that overlap are an error; different sessions may be in one batch, or in several
    threads.

    Attributes:
        calls: Answers given.
        truncated: Prompts whose end was cut.
        out_of_range: Answers to states that had a number outside the statistics.
        subtask: What the robot does now; None before the first, and where nobody asks for subtasks.
        previous: The last answer's token ids, the next answer's draft where π0-FAST speculates.
        history: What its cameras showed lately, for a model with memory; None before the first frame.
    """

    def __init__(self, seed: int = 0) -> None:
        """Starts a session whose noise begins at a seed."""
        self.calls = self.truncated = self.out_of_range = 0
        self.previous: NDArray[np.int32] = np.zeros(0, np.int32)
        self.subtask: Subtask | None = None
        self.history: History | None = None
        self._random = np.random.default_rng(seed)
        self._turn = threading.Lock()
        self._beginning = threading.Lock()

    @contextmanager
    def answering(self) -> Generator[None]:
        """Holds the session while it is answered.

        Raises:
            InputError: Another call answers it now.
        """
        if not self._turn.acquire(blocking=False):
            raise InputError(
                "session: another call answers this robot now; give each robot a session of its own "
                "(policy.new_session), and ask for one chunk at a time"
            )
        try:
            yield
        finally:
            self._turn.release()

    def forget(self) -> None:
        """Drops the answer before, the subtask and what was seen, as an episode ends; noise goes on."""
        self.previous = np.zeros(0, np.int32)
        self.subtask = None
        with self._beginning:
            self.history = None

    def remembering(self, memory: Memory) -> History:
        """Returns what the cameras showed lately, empty where nothing was seen.

        Raises:
            InputError: It is of a model with another memory.
        """
        with self._beginning:  # an episode may end, and forget, while a frame is shown
            if self.history is None:
                self.history = History(memory)
            history = self.history
        if history.memory != memory:
            raise InputError("session: it has seen frames for a model with another memory; forget() them")
        return history

    def give_subtask(self, text: str | None) -> None:
        """Takes a subtask from a caller, which answers act by until it is replaced or forgotten.

        Args:
            text: Its words; None leaves the next one to the model, or to the instruction.

        Raises:
            InputError: There are none.
        """
        if text is not None and not text.strip():
            raise InputError(f"subtask: expected a text, got {text!r}; None takes it back")
        self.subtask = None if text is None else Subtask(text, given=True)

    def state(self) -> dict[str, Any]:
        """Returns all that the next answer depends on, as JSON values, for `restore`.

        Of what its cameras showed lately, for a model with memory, it says when that was.
        """
        history = self.history
        seen = {} if history is None else {"began": history.began, "frames": history.moments}
        return {
            "seen": seen,
            "random": self._random.bit_generator.state,
            "previous": self.previous.tolist(),
            "subtask": None if self.subtask is None else list(self.subtask),
        }

    def restore(self, state: Mapping[str, Any], past: Past | None = None) -> None:
        """Goes back to where `state` was taken, so that the next answer is the same again.

        Args:
            state: What `state` returned.
            past: For a model with memory, what the robot's cameras showed.

        Raises:
            InputError: It is no state of a session, or frames are needed that are not there.
        """
        try:
            self._random.bit_generator.state = state["random"]
            self.previous = np.asarray(state["previous"], np.int32)
            # Earlier versions kept none.
            subtask = state.get("subtask")
            self.subtask = None if subtask is None else Subtask(*subtask)
            # Nor these.
            seen: dict[str, Any] = state.get("seen") or {}
            self.history = self._history(seen["began"], seen["frames"], past) if seen else None
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"session: this is no state of one: {error}") from error

    @staticmethod
    def _history(began: float | None, moments: Sequence[float], past: Past | None) -> History:
        if past is None:
            raise InputError("session: it has seen frames, which have to be given along with its state")
        if missing := [at for at in moments if at not in past.frames]:
            raise InputError(f"session: the frame of {missing[0]:.3f} s, which it had seen, is not there")
        history = History(past.memory)
        if began is not None:
            history.begin(began)
        for at in moments:
            history.add(past.frames[at])
        return history

    def keys(self) -> NDArray[np.uint32]:
        """Returns the next [2] random bits of a draw of tokens."""
        return self._random.integers(0, 1 << 32, 2, np.uint32)

    def noise(self, shape: tuple[int, int], given: ArrayLike | None = None) -> NDArray[np.float32]:
        """Returns noise [H, W]: what is given, checked, or the next of this session.

        Raises:
            InputError: It has another shape, or is not finite.
        """
        if given is None:
            return self._random.standard_normal(shape, np.float32)
        noise = np.asarray(given)
        if noise.dtype.kind not in "fiu" or noise.shape not in (shape, (1, *shape)):
            raise InputError(
                f"noise: expected {shape} numbers, got shape {noise.shape} of dtype {noise.dtype}"
            )
        with np.errstate(over="ignore"):
            noise = noise.astype(np.float32).reshape(shape)
        if not np.isfinite(noise).all():
            step, dim = np.argwhere(~np.isfinite(noise))[0]
            raise InputError(f"noise: {noise[step, dim]} at step {step}, dimension {dim}")
        return noise
