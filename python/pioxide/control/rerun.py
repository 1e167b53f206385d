"""What robots see, are answered and play, for Rerun's viewer, from a loop, an evaluation or a server.

A robot's pictures, state and limits lie below its name; `chunks` holds each chunk as it was planned, over the
ones that it supersedes, and `played` what was played of them. Needs `pip install "pioxide[rerun]"`.
"""

from __future__ import annotations

import importlib
import logging
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from pioxide.control.runner import ChunkSource, Request
from pioxide.errors import InputError
from pioxide.files import as_address

log = logging.getLogger("pioxide.rerun")

_WAITING = 64
_ROBOTS = 256
# Chunks that overlap are drawn as curves of their own; so many later a curve is used again.
_CURVES = 4
_JPEG = 85


class Moment(NamedTuple):
    """One question of a robot, and its answer.

    Attributes:
        robot: What its entities lie below.
        time: Seconds since the log began, when the observation was taken.
        observation: Flat or nested: pictures [h, w, 3] uint8, vectors and texts are shown, all else left out.
        chunk: [H, D] the answer, in the robot's units; row 0 belongs to the observation.
        left: How many actions of the chunk before were still to be played; None where that is not known.
        limits: How often the safety filter has changed an action, by kind.
        episode: Its number: nothing of a chunk is played in the next one.
    """

    robot: str
    time: float
    observation: Mapping[str, Any]
    chunk: NDArray[np.floating]
    left: int | None = None
    limits: Mapping[str, int] = {}
    episode: int = 0


class RerunLog:
    """Writes moments to a file or a viewer, in a thread of its own; a loop never waits for it.

    Attributes:
        dropped: Moments left out because the disk or the viewer was slower than the robots.
    """

    def __init__(self, target: str, *, hz: float | None, joints: Sequence[str]) -> None:
        """Opens the file, or connects to the viewer.

        Args:
            target: "FILE.rrd", or a viewer's address as "rerun+http://127.0.0.1:9876/proxy".
            hz: Actions a second.
            joints: A name for each of the D numbers of an action.

        Raises:
            InputError: rerun-sdk is missing, the file is there already, or there is no rate.
        """
        if not hz:
            raise InputError("rerun: actions can't be placed in time without the robot's rate (hz)")
        try:
            self._rerun: Any = importlib.import_module("rerun")
        except ImportError as error:
            raise InputError('rerun: pip install "pioxide[rerun]" (rerun-sdk is missing)') from error
        self._hz, self._joints = hz, list(joints)
        self._stream: Any = self._rerun.RecordingStream("pioxide")
        if as_address(target):
            self._stream.connect_grpc(target)
        elif Path(target).exists():
            raise InputError(f"{target}: is there already; a recording of Rerun's is not written over")
        else:
            try:
                self._stream.save(target)
            except Exception as error:  # Rerun's own kinds of error are not told apart
                raise InputError(f"{target}: Rerun can't write there: {error}") from error
        self._began, self.dropped = time.monotonic(), 0
        self._episode = 0
        self._before: OrderedDict[str, tuple[Moment, int]] = OrderedDict()
        self._queue: queue.Queue[Moment | None] = queue.Queue(_WAITING)
        self._thread = threading.Thread(target=self._run, name="pioxide-rerun", daemon=True)
        self._thread.start()

    def now(self) -> float:
        """Returns seconds since the log began."""
        return time.monotonic() - self._began

    def take(self, moment: Moment) -> None:
        """Takes a moment to be written, or leaves it out; never waits."""
        try:
            self._queue.put_nowait(moment)
        except queue.Full:
            if not self.dropped:
                log.warning("rerun left something out reason=it is slower than the robots")
            self.dropped += 1

    def watching(self, source: ChunkSource, robot: str = "robot") -> ChunkSource:
        """Returns a source that is shown: `ThreadWorker(log.watching(policy.chunk), log.reset)`."""

        def watched(request: Request) -> NDArray[np.floating]:
            asked, episode = self.now(), self._episode
            chunk = source(request)
            left, limits = len(request.prev_chunk_left_over), dict(request.limits)
            self.take(Moment(robot, asked, request.observation, chunk, left, limits, episode))
            return chunk

        return watched

    def reset(self) -> None:
        """Begins a new episode of what `watching` shows."""
        self._episode += 1

    def close(self) -> None:
        """Writes what was taken, and ends."""
        self._queue.put(None)
        self._thread.join()
        self._stream.flush()
        self._stream.disconnect()

    def __enter__(self) -> RerunLog:
        """Returns the log; leaving the block closes it."""
        return self

    def __exit__(self, *_: object) -> None:
        """See `close`."""
        self.close()

    def _run(self) -> None:
        failed = False
        while (moment := self._queue.get()) is not None:
            try:
                self._write(moment)
            except Exception:  # a picture of the work must not end it
                if not failed:
                    log.exception("rerun refused what it was shown; it goes on with the next")
                failed = True

    def _write(self, moment: Moment) -> None:
        rr = self._rerun
        before, number = self._before.pop(moment.robot, (None, 0))
        self._stream.set_time("time", duration=moment.time)
        for key, value in _flat(moment.observation):
            self._show(moment.robot, key, value)
        if before is not None and before.episode == moment.episode and moment.left is not None:
            played = before.chunk[: max(0, len(before.chunk) - moment.left)]
            self._curves([moment.robot, "played"], [], before.time, played)
        self._curves([moment.robot, "chunks"], [str(number % _CURVES)], moment.time, moment.chunk)
        self._stream.set_time("time", duration=moment.time)
        told: Mapping[str, int] = {} if before is None else before.limits
        for kind, count in moment.limits.items():
            new = count - told.get(kind, 0)
            self._stream.log([moment.robot, "limits", kind], rr.Scalars(count))
            if new > 0:
                said = rr.TextLog(f"{kind} limit changed {new} actions", level="WARN")
                self._stream.log([moment.robot, "limits"], said)
        self._before[moment.robot] = moment._replace(observation={}), number + 1
        if len(self._before) > _ROBOTS:
            self._before.popitem(last=False)

    def _show(self, robot: str, key: str, value: Any) -> None:
        rr = self._rerun
        if isinstance(value, str):
            self._stream.log([robot, "prompt"], rr.TextDocument(value))
            return
        array = np.asarray(value)
        if array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3:
            image = rr.Image(np.ascontiguousarray(array)).compress(jpeg_quality=_JPEG)
            self._stream.log([robot, "cameras", *key.split("/")], image)
        elif array.dtype.kind in "fiu" and array.ndim == 1:
            self._stream.log([robot, "state", *key.split("/")], rr.Scalars(array.astype(np.float64)))

    def _curves(self, above: list[str], below: list[str], start: float, rows: NDArray[np.floating]) -> None:
        """Draws each joint of [n, D] actions from a moment on, and lifts the pen behind them."""
        if not len(rows):
            return
        rr = self._rerun
        times = start + np.arange(len(rows)) / self._hz
        for joint, values in zip(self._joints, np.asarray(rows, np.float64).T, strict=True):
            path = [*above, joint, *below]
            column = rr.TimeColumn("time", duration=times)
            self._stream.send_columns(
                rr.new_entity_path(path), indexes=[column], columns=rr.Scalars.columns(scalars=values)
            )
            if below:
                self._stream.set_time("time", duration=float(times[-1]) + 0.5 / self._hz)
                self._stream.log(path, rr.Clear(recursive=False))


def _flat(observation: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in observation.items():
        if isinstance(value, Mapping):
            yield from _flat(cast("Mapping[str, Any]", value), f"{above}{key}/")
        else:
            yield f"{above}{key}", value
