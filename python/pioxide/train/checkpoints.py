"""Checkpoints of a run: written beside the training, whole or not at all, by Orbax.

RUN/checkpoints/<updates>/ holds `params` (what `Policy.load` and `pioxide convert` read: openpi's names, the
moving average where there is one), `train_state` (what only going on needs) and `assets` (contract, text
model, action tokenizer). README.md is its card.
"""

from __future__ import annotations

import tempfile
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from orbax.checkpoint import v1 as ocp

from pioxide.codec import ActionCodec, TextTokenizer
from pioxide.contract import CARD, FILE_NAME, Contract, file_json, model_card
from pioxide.errors import CheckpointError, OutputError
from pioxide.files import atomic_file, json_text
from pioxide.train.config import Checkpoints
from pioxide.train.factors import PlainFactors, is_factor
from pioxide.train.step import TrainState
from pioxide.weights.names import OPENPI

PARAMS, TRAIN_STATE, ASSETS = "params", "train_state", "assets"


class Files(dict[str, bytes]):
    """Small files by name, which lie in a checkpoint as they are."""


class FilesHandler:
    """Writes `Files` with a checkpoint. Reading them is nobody's business here."""

    async def save(self, directory: Any, checkpointable: Files) -> Awaitable[None]:
        """Returns what writes the files once the directory is there."""
        return self._write(directory, checkpointable)

    async def _write(self, directory: Any, files: Files) -> None:
        where = Path(str(await directory.await_creation()))
        if jax.process_index() == 0:
            for name, content in files.items():
                (where / name).parent.mkdir(parents=True, exist_ok=True)
                with atomic_file(where / name) as file:
                    file.write(content)

    async def load(self, directory: Any, abstract_checkpointable: Any = None) -> Awaitable[Files]:
        """Files are read by `pioxide.weights`."""
        raise NotImplementedError

    async def metadata(self, directory: Any) -> None:
        """Returns nothing: these files carry no metadata."""

    def is_handleable(self, checkpointable: Any) -> bool:
        """Returns whether these are `Files`."""
        return isinstance(checkpointable, Files)

    def is_abstract_handleable(self, abstract_checkpointable: Any) -> bool | None:
        """Returns False: they are never read through Orbax."""
        return False


def asset_files(
    contracts: Sequence[Contract],
    tokenizer: TextTokenizer,
    codec: ActionCodec | None,
    settings: Mapping[str, Any],
) -> Files:
    """Returns what makes a checkpoint say by itself what its numbers mean.

    Args:
        contracts: Of its numbers, one a robot.
        tokenizer: Its text model.
        codec: π0-FAST's action tokenizer.
        settings: Of the training, for the card.
    """
    files = Files(
        {
            # Beside the assets, where people and Hugging Face's hub look.
            f"../{CARD}": model_card(contracts, settings).encode(),
            FILE_NAME: json_text(file_json(contracts)).encode(),
            "tokenizer.model": tokenizer.to_bytes(),
        }
    )
    if codec is not None:
        with tempfile.TemporaryDirectory() as temporary:
            codec.save(temporary)
            for file in sorted(Path(temporary).rglob("*")):
                if file.is_file():
                    files[f"fast_tokenizer/{file.relative_to(temporary).as_posix()}"] = file.read_bytes()
    return files


class CheckpointStore:
    """The checkpoints of one run."""

    def __init__(
        self,
        directory: Path,
        settings: Checkpoints,
        graph: Any,
        files: Files,
        plain: PlainFactors | None = None,
    ) -> None:
        """Opens the directory, and clears away what a killed run has left unfinished.

        Args:
            directory: Of all checkpoints.
            settings: What is kept.
            graph: Of the network.
            files: The assets.
            plain: How low-rank factors of the plain rule are written; None where there are none.
        """
        registry = ocp.handlers.local_registry()
        registry.add(FilesHandler, checkpointable_name=ASSETS)
        context = ocp.Context()
        context.checkpointables.registry = registry
        policies: list[Any] = [ocp.training.preservation_policies.LatestN(settings.keep)]
        if settings.keep_every:
            policies.append(ocp.training.preservation_policies.EveryNSteps(settings.keep_every))
        self.directory = directory
        self.graph, self.files, self.plain = graph, files, plain
        self.saved: int | None = None
        self.context = context
        self.checkpointer = ocp.training.Checkpointer(
            str(directory),
            context=context,
            save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),  # pyright: ignore[reportArgumentType]
            preservation_policy=ocp.training.preservation_policies.AnyPreservationPolicy(policies),  # pyright: ignore[reportArgumentType]
            cleanup_tmp_directories=True,
        )

    @property
    def latest(self) -> int | None:
        """Returns the updates of the last whole checkpoint."""
        last = self.checkpointer.latest
        return None if last is None else last.step

    def path(self, step: int) -> Path:
        """Returns where a checkpoint is."""
        return self.directory / str(step)

    def save(self, step: int, state: TrainState) -> None:
        """Begins to write a checkpoint; returns when the state may be donated.

        Raises:
            OutputError: This one, or the one before, could not be written.
        """
        if step in (self.saved, self.latest):
            return
        self.saved = step
        if jax.default_backend() == "cpu":
            # There a "copy to the host" is the same memory, which the next update writes over.
            state = jax.tree.map(jnp.copy, state)
        params, rest = self._split(state)
        with self._writing(), self.context:
            self.checkpointer.save_checkpointables_async(
                step, {PARAMS: params, TRAIN_STATE: rest, ASSETS: self.files}
            )

    def restore(self, step: int, like: TrainState) -> TrainState:
        """Reads a checkpoint into the shapes, dtypes and shardings of a state, which is left as it is.

        Raises:
            CheckpointError: It is not a checkpoint of this network.
        """
        abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), like)
        params, rest = self._split(abstract)
        try:
            with self.context:
                read = self.checkpointer.load_checkpointables(step, {PARAMS: params, TRAIN_STATE: rest})
        except (ValueError, KeyError, FileNotFoundError) as error:
            raise CheckpointError(
                f"{self.path(step)} is not a checkpoint of this network: {str(error).splitlines()[0]}"
            ) from error
        return self._join(read[PARAMS], read[TRAIN_STATE], like)

    def wait(self) -> None:
        """Returns when what was saved is on the disk.

        Raises:
            OutputError: It could not be written.
        """
        with self._writing():
            self.checkpointer.wait()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, RuntimeError) as error:
            # Orbax's arrays are written by TensorStore, which says by the text alone that the disk refused.
            if not isinstance(error, OSError) and "os_error_code" not in str(error):
                raise
            reason = str(error).splitlines()[0]
            raise OutputError(
                f"{self.directory}: a checkpoint could not be written: {reason}. "
                "Earlier ones are as they were; free some space, then go on with resume (--resume)"
            ) from error

    def close(self) -> None:
        """Waits for what is being written, and releases it."""
        self.wait()
        self.checkpointer.close()

    def _split(self, state: TrainState) -> tuple[Any, dict[str, Any]]:
        """Returns the policy's parameters under openpi's names, and the rest."""
        averaged = state.trained if state.ema is None else state.ema
        own = _flat(averaged, state.frozen)
        rest: dict[str, Any] = {"step": state.step, "optimizer": state.optimizer}
        if state.ema is not None:
            rest["trained"] = state.trained
        if self.plain is not None:
            # As they are, for going on, and as readers of the policy understand them.
            rest["factors"] = nest({path: leaf for path, leaf in own.items() if is_factor(path)})
            for path in filter(is_factor, own):
                own[path] = self.plain.written(path, own[path])
        return {"params": nest({OPENPI[path]: leaf for path, leaf in own.items()})}, rest

    def _join(self, params: Mapping[str, Any], rest: Mapping[str, Any], like: TrainState) -> TrainState:
        flat = _unnest(params["params"])
        if self.plain is not None:
            flat |= {OPENPI[path]: leaf for path, leaf in _unnest(rest["factors"]).items()}
        averaged = like.trained if like.ema is None else like.ema
        trained = _fill(averaged, flat)
        frozen = _fill(like.frozen, flat)
        last = trained if like.ema is None else rest["trained"]
        return TrainState(
            rest["step"], last, frozen, rest["optimizer"], None if like.ema is None else trained
        )


def _flat(*trees: Any) -> dict[str, Any]:
    """Returns the parameters of pure trees by our own paths."""
    flat: dict[str, Any] = {}
    for tree in trees:
        flat |= {_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
    return flat


def _fill(tree: Any, flat: Mapping[str, Any]) -> Any:
    return jax.tree_util.tree_map_with_path(lambda path, _: flat[OPENPI[_name(path)]], tree)


def _name(path: Any) -> str:
    return "/".join(str(getattr(key, "key", getattr(key, "idx", getattr(key, "name", key)))) for key in path)


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a tree of dicts from paths with slashes."""
    tree: dict[str, Any] = {}
    for path, leaf in flat.items():
        *above, last = path.split("/")
        at = tree
        for part in above:
            at = at.setdefault(part, {})
        at[last] = leaf
    return tree


def _unnest(tree: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        path = f"{above}{key}"
        if isinstance(value, Mapping):
            flat |= _unnest(value, f"{path}/")
        else:
            flat[path] = value
    return flat
