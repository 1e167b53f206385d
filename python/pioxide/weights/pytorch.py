"""PyTorch checkpoints as a tree: openpi's PyTorch port, LeRobot and Hugging Face PaliGemma.

Layers lie there one by one and are put together as they are read; names come from `pytorch_names`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pioxide.errors import CheckpointError, FormatError, InputError
from pioxide.files import parse_json, read_json
from pioxide.weights.adapter import Adapter, adapted
from pioxide.weights.pytorch_names import (
    EMBED_TOKENS,
    EMBEDDING,
    LM_HEAD,
    PROJECTIONS,
    ROWS,
    Row,
)
from pioxide.weights.safetensors import Entry, SafetensorsFile
from pioxide.weights.tree import BLOCK_BYTES, Array, Spec, Tree

Layout = Literal["lerobot", "openpi-pytorch", "paligemma-hf"]

# Hugging Face pads PaliGemma's vocabulary by 64 rows that no token has.
VOCABULARY, PADDED_VOCABULARY = 257_152, 257_216
SIGLIP_HEADS, GEMMA_KV_HEADS = 16, 1
DEEPEST = 1024
# What wrappers put before every name when their state is saved.
WRAPPERS = ("base_model.model.", "module.")
PROJECTION_NAMES = tuple(f"{name}.{leaf}" for name in PROJECTIONS for leaf in ("weight", "bias"))
# Known names of tensors that hold nothing a model needs, each with the reason.
UNUSED = [
    (r"gemma_expert\.lm_head\.weight", "the action expert has no text output"),
    (r"gemma_expert\.model\.embed_tokens\.weight", "the action expert reads no tokens"),
    (r".*\.position_ids", "a buffer: 0, 1, 2, ..."),
    (r".*\.rotary_emb\.inv_freq", "a buffer: computed from the head width"),
    (r"(un)?normalize_\w+\.buffer_\w+\.\w+", "statistics of an old LeRobot file, read as such"),
]


class PytorchTree(Tree):
    """safetensors files with PyTorch names.

    Args:
        files: All the checkpoint's files.
        where: For messages.
        heads: Heads of the image tower, and kv heads of the transformer; from the file's metadata, else
            SigLIP So400m's 16 and Gemma's 1.
        embedding: Which tensor is the embedding where `embed_tokens` and `lm_head` are both stored and
            differ. Fine-tuning with LeRobot can untie them. By default π0 and π0.5, which put out no text,
            read `embed_tokens`, and π0-FAST, which would need both, is refused.

    Attributes:
        layout: Whose names they are.
        statistics: [D] vectors of an old LeRobot file, by name.
    """

    def __init__(
        self,
        files: Iterable[SafetensorsFile],
        where: str,
        *,
        heads: tuple[int, int] | None = None,
        embedding: Literal["embed_tokens", "lm_head"] | None = None,
    ) -> None:
        super().__init__(where, {})
        self.files = list(files)
        self.embedding = embedding
        self.sources: dict[str, tuple[SafetensorsFile, str]] = {}
        for file in self.files:
            for name in file.tensors:
                core = core_name(name)
                if core in self.sources:
                    self.problems.extra.append(f"{name} (the same as {self.sources[core][1]})")
                else:
                    self.sources[core] = (file, name)
        self.layout: Layout = self._layout()
        self.vision_heads, self.kv_heads = heads or self._stored_heads()
        if min(self.vision_heads, self.kv_heads) < 1:
            raise InputError(f"heads: expected two numbers above 0, got {heads}")
        self._rename_old_projections()
        self._set_aside_unused()
        self.parts: dict[str, list[list[tuple[Row, str]]]] = {}
        self._assemble()

    def fill(self, path: str, out: Array, start: int = 0) -> None:
        """Reads layers `start` onwards, each from its own tensors."""
        layers = self.parts[path]
        if layers[0][0][0].how.identity and not layers[0][0][0].stacked:
            self._fill_rows(path, layers[0][0][1], out, start)
            return
        stacked = layers[0][0][0].stacked
        if not stacked:
            whole = np.empty(self.specs[path].shape, out.dtype)
            self._place(layers[0], whole)
            out[...] = whole[start : start + len(out)]
            return
        for i in range(len(out)):
            self._place(layers[start + i], out[i])

    def spelling(self, path: str) -> str:
        """Returns the names that the file has, or would have, for a parameter."""
        names = sorted({self._own_name(row.name) for row in ROWS if row.path == path})
        return " and ".join(names) or path

    def close(self) -> None:
        """Closes the files."""
        for file in self.files:
            file.close()

    def _own_name(self, core: str) -> str:
        """Returns a name as this file spells it, by the file's most similar tensor."""
        best = max(self.sources, key=lambda other: _shared(other, core), default="")
        if _shared(best, core) == 0:  # projections lie side by side, with no level in common
            best = next((other for other in self.sources if other in PROJECTION_NAMES), "")
        name = self.sources[best][1] if best else core
        return name.removesuffix(best) + core if best and name.endswith(best) else core

    def _entry(self, core: str) -> Entry:
        file, name = self.sources[core]
        return file.tensors[name]

    def _read(self, core: str) -> Array:
        file, name = self.sources[core]
        return file.read(name)

    def _place(self, parts: list[tuple[Row, str]], out: Array) -> None:
        for row, core in parts:
            values = self._read(core).astype(out.dtype, copy=False)
            row.how.place(out, values)

    def _fill_rows(self, path: str, core: str, out: Array, start: int) -> None:
        """Reads rows of a tensor that is the parameter as it is, without reading the others."""
        self._copy_rows(core, out, start)
        if path == EMBEDDING and self._stored_twice and self.embedding is None:
            other = np.empty_like(out)
            self._copy_rows(LM_HEAD if core == EMBED_TOKENS else EMBED_TOKENS, other, start)
            if not np.array_equal(out.view(np.uint8), other.view(np.uint8)):
                self._differ()

    def _copy_rows(self, core: str, out: Array, start: int) -> None:
        file, name = self.sources[core]
        spec = file.tensors[name].spec
        width = spec.size // spec.shape[0] if spec.shape else 1
        if spec.dtype == out.dtype:
            file.read_into(name, out, start * width)
            return
        step = max(1, BLOCK_BYTES // max(width * spec.dtype.itemsize, 1))
        for at in range(0, len(out), step):
            block = np.empty((min(step, len(out) - at), *spec.shape[1:]), spec.dtype)
            file.read_into(name, block, (start + at) * width)
            out[at : at + step] = block

    @property
    def _stored_twice(self) -> bool:
        return LM_HEAD in self.sources and EMBED_TOKENS in self.sources

    def _differ(self) -> None:
        if not any(path.startswith("action_") for path in self.specs):
            raise CheckpointError(
                f"{self.where}: embed_tokens and lm_head differ, and this model's input and output share one "
                "embedding; say which to take (embedding='embed_tokens' or 'lm_head')"
            )
        self.unused[LM_HEAD] = "differs from embed_tokens; this model puts out no text"

    def _layout(self) -> Layout:
        names = [unwrapped(name) for file in self.files for name in file.tensors]
        if any(name.startswith(("model.paligemma_with_expert.", "model.pi0_paligemma.")) for name in names):
            return "lerobot"
        if any(name.startswith("paligemma_with_expert.") for name in names):
            return "openpi-pytorch"
        return "paligemma-hf"

    def _stored_heads(self) -> tuple[int, int]:
        for file in self.files:
            try:
                stored = parse_json(file.metadata.get("pioxide", "{}"), file.path)
                heads = stored["vision_heads"], stored["kv_heads"]
            except (FormatError, KeyError, TypeError):
                continue
            if all(type(n) is int and n > 0 for n in heads):
                return heads
        return SIGLIP_HEADS, GEMMA_KV_HEADS

    def _rename_old_projections(self) -> None:
        """Renames what older LeRobot files have under π0's names in π0.5, and drops a state projection."""
        if not any(".dense." in core for core in self.sources):
            return
        for name in ("action_time_mlp_in", "action_time_mlp_out"):
            for leaf in ("weight", "bias"):
                old, new = f"{name}.{leaf}", f"{name.removeprefix('action_')}.{leaf}"
                if old in self.sources and new not in self.sources:
                    self.sources[new] = self.sources.pop(old)
        for core in ("state_proj.weight", "state_proj.bias"):
            if core in self.sources:
                self.unused[self.sources.pop(core)[1]] = "π0.5 has its state in the text"

    def _set_aside_unused(self) -> None:
        self.statistics: dict[str, Array] = {}
        for core in list(self.sources):
            reason = next((why for pattern, why in UNUSED if re.fullmatch(pattern, core)), None)
            if reason is None:
                continue
            if "normalize_" in core and self._entry(core).spec.size < 4096:
                self.statistics[core] = self._read(core)
            self.unused[self.sources.pop(core)[1]] = reason

    def _assemble(self) -> None:
        """Finds which tensors make up which parameter, of what shape; what does not fit is a problem."""
        left = set(self.sources)
        depths = _depths(left)
        known = self._known()
        by_path: dict[str, list[Row]] = {}
        for row in ROWS:
            by_path.setdefault(row.path, []).append(row)
        for path, rows in by_path.items():
            depth = depths["vision" if "/img/" in path else "language"] if rows[0].stacked else 1
            layers = [[(row, row.name.replace("{i}", str(i))) for row in rows] for i in range(depth)]
            if path == EMBEDDING:
                layers = self._embedding(layers)
            names = [core for layer in layers for _, core in layer]
            if not any(core in self.sources for core in names):
                continue
            left.difference_update(names)
            absent = [core for core in names if core not in self.sources]
            if absent:
                self.problems.missing += map(self._own_name, absent)
            self._measure(path, layers, known)
        left.difference_update({LM_HEAD, EMBED_TOKENS})
        if self._stored_twice and self.embedding is None and EMBEDDING in self.specs:
            one, other = (self._entry(core).spec for core in (EMBED_TOKENS, LM_HEAD))
            words = self.specs[EMBEDDING].shape[0]
            if len(other.shape) != 2 or other.shape[0] < words or other.shape[1:] != one.shape[1:]:
                self.problems.shapes.append(f"{LM_HEAD} {other} does not fit {EMBED_TOKENS} {one}")
        self.problems.extra += sorted(f"{self.sources[core][1]} {self._entry(core).spec}" for core in left)

    def _embedding(self, layers: list[list[tuple[Row, str]]]) -> list[list[tuple[Row, str]]]:
        row, _ = layers[0][0]
        choice = LM_HEAD if self.embedding == "lm_head" else EMBED_TOKENS
        if choice not in self.sources:
            choice = LM_HEAD if choice == EMBED_TOKENS else EMBED_TOKENS
        return [[(row, choice)]]

    def _measure(self, path: str, layers: list[list[tuple[Row, str]]], known: Mapping[str, int]) -> None:
        """Takes the parameter's shape from what most of its tensors say."""
        votes: Counter[tuple[int, ...]] = Counter()
        found: list[tuple[str, tuple[int, ...] | str, Spec]] = []
        dtypes: list[np.dtype[Any]] = []
        for layer in layers:
            for row, core in layer:
                if core not in self.sources:
                    continue
                spec = self._entry(core).spec
                shape: tuple[int, ...] | str
                try:
                    shape = _parameter_shape(row, spec.shape, known)
                except CheckpointError as error:
                    shape = str(error)
                else:
                    votes[shape] += 1
                if spec.dtype.kind == "f" or spec.dtype.name == "bfloat16":
                    dtypes.append(spec.dtype)
                else:
                    shape = f"is {spec.dtype.name}, expected floating point"
                found.append((core, shape, spec))
        if not votes or not dtypes:
            self.problems.shapes += [f"{self.sources[core][1]} {spec} {why}" for core, why, spec in found]
            return
        best = votes.most_common(1)[0][0]
        for core, shape, spec in found:
            if shape != best:
                why = shape if isinstance(shape, str) else f"does not fit the others of {path}"
                self.problems.shapes.append(f"{self.sources[core][1]} {spec} {why}")
        if path == EMBEDDING and best[0] == PADDED_VOCABULARY:
            best = (VOCABULARY, *best[1:])
            self.unused[f"{self.sources[layers[0][0][1]][1]} rows {VOCABULARY} on"] = "padding, no token's"
        depth = (len(layers),) if layers[0][0][0].stacked else ()
        self.parts[path] = layers
        self.specs[path] = Spec(depth + best, _common(dtypes))

    def _known(self) -> dict[str, int]:
        """Returns the lengths that a flattened shape does not tell: heads."""
        known = {"x": self.vision_heads, "k": self.kv_heads}
        for module in ("language_model.", "gemma_expert.model."):
            core = f"{module}layers.0.self_attn.k_proj.weight"
            if core in self.sources and len(shape := self._entry(core).spec.shape) == 2:
                return known | {"e": max(shape[0] // self.kv_heads, 1)}
        return known


def _shared(one: str, other: str) -> int:
    """Returns how many leading levels two names have in common."""
    pairs = zip(one.split("."), other.split("."), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def unwrapped(name: str) -> str:
    """Returns a name without what `torch.compile`, data parallelism or PEFT put before it."""
    name = name.replace("_orig_mod.", "")
    while name.startswith(WRAPPERS):
        name = next(name.removeprefix(prefix) for prefix in WRAPPERS if name.startswith(prefix))
    return name


def core_name(name: str) -> str:
    """Returns a name as `pytorch_names` has it, from any of the layouts that are in use."""
    name = unwrapped(name)
    for prefix in ("model.", "paligemma_with_expert.", "pi0_paligemma.", "paligemma.", "model."):
        name = name.removeprefix(prefix)
    if name.startswith("language_model."):
        rest = name.removeprefix("language_model.")
        name = rest if rest == LM_HEAD else f"language_model.{rest.removeprefix('model.')}"
    if name.startswith("vision_tower."):
        rest = name.removeprefix("vision_tower.").removeprefix("vision_model.")
        name = f"vision_tower.vision_model.{rest}"
    return name


def open_pytorch(
    path: Path,
    adapter: Adapter | None = None,
    *,
    heads: tuple[int, int] | None = None,
    embedding: Literal["embed_tokens", "lm_head"] | None = None,
) -> PytorchTree:
    """Opens a `.safetensors` file, a `.safetensors.index.json`, or the directory that holds either.

    Args:
        path: Which of them.
        adapter: Low-rank updates to add to its weights; closed with the tree.
        heads: See `PytorchTree`.
        embedding: See `PytorchTree`.

    Raises:
        CheckpointError: Neither is there, a file is damaged, or the adapter does not fit.
    """
    files: list[SafetensorsFile] = []
    try:
        for file in safetensors_files(path):
            files.append(SafetensorsFile(file))
        if adapter is not None:
            files = adapted(files, adapter, core_name)
        tree = PytorchTree(files, str(path), heads=heads, embedding=embedding)
    except BaseException:
        for file in files:
            file.close()
        raise
    index = _index(path)
    if index is not None:
        there = {name for file in files for name in file.tensors}
        listed = set(read_json(index)["weight_map"])
        tree.problems.missing += sorted(f"{name} (listed in {index.name})" for name in listed - there)
    return tree


def safetensors_files(path: Path) -> list[Path]:
    """Returns the file or files that make up a checkpoint; several are named by an index.

    Raises:
        CheckpointError: There are none, or the index points elsewhere than beside itself.
    """
    index = _index(path)
    if index is None:
        file = path / "model.safetensors" if path.is_dir() else path
        if not file.is_file():
            raise CheckpointError(f"{path} has no model.safetensors and no model.safetensors.index.json")
        return [file]
    try:
        names = read_json(index)["weight_map"].values()
    except FormatError as error:
        raise CheckpointError(str(error)) from error
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index} is no index of safetensors files: {error}") from error
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise CheckpointError(f"{index} names {name!r}, expected a .safetensors file beside it")
    return [index.parent / name for name in sorted(set(names))]


def _index(path: Path) -> Path | None:
    if path.is_dir():
        candidate = path / "model.safetensors.index.json"
        return candidate if candidate.is_file() and not (path / "model.safetensors").is_file() else None
    return path if path.name.endswith(".index.json") else None


def _depths(names: Iterable[str]) -> dict[str, int]:
    depths = {"vision": 0, "language": 0}
    for name in names:
        match = re.match(r"(vision_tower|language_model|gemma_expert)\..*?layers\.(\d{1,4})\.", name)
        if match and int(match[2]) < DEEPEST:
            part = "vision" if match[1] == "vision_tower" else "language"
            depths[part] = max(depths[part], int(match[2]) + 1)
    return depths


def _parameter_shape(row: Row, shape: tuple[int, ...], known: Mapping[str, int]) -> tuple[int, ...]:
    """Returns a layer of the parameter that a tensor of this shape is part of."""
    sizes = row.how.solve(shape, known)
    axes = iter(row.how.axes)
    # A picked index is one of two (keys and values, gate and up), or the only one (position embedding).
    picked = 1 if row.path.endswith("pos_embedding") else 2
    return tuple(picked if isinstance(i, int) else sizes[next(axes)] for i in row.how.index)


def _common(dtypes: list[np.dtype[Any]]) -> np.dtype[Any]:
    """Returns the dtype that holds all of them exactly."""
    kinds = set(dtypes)
    if len(kinds) == 1:
        return kinds.pop()
    return np.dtype(np.float64) if np.dtype(np.float64) in kinds else np.dtype(np.float32)
