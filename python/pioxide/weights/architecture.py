"""Which tensors a model has and of what shape: openpi's tree of named axes, solved both ways.

`Architecture.shapes` gives the tree of a model; `recognise` reads the model off a tree, by the names that
only one of them has and by what most tensors say an axis's length is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from pioxide.errors import CheckpointError
from pioxide.family import Family
from pioxide.weights.openpi_tree import (
    ACTION,
    ADAPTIVE_NORMS,
    ATTENTION_LORA,
    EMBEDDER,
    EXPERT,
    IMAGE,
    MLP_LORA,
    PI0_ONLY,
    PI05_ONLY,
    PLAIN_NORMS,
    ROOT,
)
from pioxide.weights.tree import Problems, Spec, Tree

# A longer axis than any of the family's; more is a damaged or hostile file.
LONGEST = 1 << 22
FLOATS = ("float32", "bfloat16", "float16", "float64")


@dataclass(frozen=True)
class Vision:
    """The image tower: SigLIP So400m/14 unless a file says otherwise."""

    width: int = 1152
    depth: int = 27
    mlp: int = 4304
    heads: int = 16
    head_dim: int = 72
    patch: int = 14
    tokens: int = 256

    @property
    def image_size(self) -> int:
        """Returns the pixels along an edge."""
        return round(self.tokens**0.5) * self.patch


@dataclass(frozen=True)
class Expert:
    """One stream of the transformer; a rank of 0 is no LoRA."""

    width: int
    mlp: int
    heads: int = 8
    kv_heads: int = 1
    head_dim: int = 256
    lora_attention: int = 0
    lora_mlp: int = 0


@dataclass(frozen=True)
class Architecture:
    """Every length that a checkpoint's tensors depend on."""

    kind: Family
    experts: tuple[Expert, ...]
    vision: Vision = Vision()
    depth: int = 18
    vocab: int = 257_152
    action_dim: int | None = None

    @property
    def title(self) -> str:
        """Returns the model's name as people write it."""
        return self.kind.symbol

    @property
    def lora(self) -> bool:
        """Returns whether low-rank updates are stored beside the weights."""
        return any(expert.lora_attention or expert.lora_mlp for expert in self.experts)

    @property
    def merged(self) -> Architecture:
        """Returns the same model with its low-rank updates added to the weights."""
        experts = tuple(replace(e, lora_attention=0, lora_mlp=0) for e in self.experts)
        return replace(self, experts=experts)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Returns every parameter's shape by openpi path."""
        lengths = self._lengths()
        return {
            path: tuple(_length(axis, lengths[scope]) for axis in axes.split())
            for path, (scope, axes) in self._table().items()
        }

    def compare(self, tree: Tree) -> Problems:
        """Returns what a tree lacks, has too much or in another shape, the tree's own problems included."""
        problems = Problems()
        problems += tree.problems
        problems += compare(self.shapes(), tree.specs, tree.spelling)
        return problems

    def _table(self) -> dict[str, tuple[str, str]]:
        table = _image_and_words()
        for i, expert in enumerate(self.experts):
            adaptive = self.kind is Family.PI05 and i == 1
            parts = [EXPERT, ADAPTIVE_NORMS if adaptive else PLAIN_NORMS]
            parts += [ATTENTION_LORA] if expert.lora_attention else []
            parts += [MLP_LORA] if expert.lora_mlp else []
            table |= _expert(i, *parts)
        if self.kind.is_flow:
            only = PI05_ONLY if self.kind is Family.PI05 else PI0_ONLY
            table |= {path: ("expert1", axes) for path, axes in (ACTION | only).items()}
        return table

    def _lengths(self) -> dict[str, dict[str, int]]:
        v = self.vision
        lengths = {
            "image": {
                "l": v.depth,
                "w": v.width,
                "m": v.mlp,
                "n": v.heads,
                "h": v.head_dim,
                "p": v.patch,
                "t": v.tokens,
                "language": self.experts[0].width,
            }
        }
        for i, e in enumerate(self.experts):
            lengths[f"expert{i}"] = {
                "l": self.depth,
                "w": e.width,
                "m": e.mlp,
                "n": e.heads,
                "k": e.kv_heads,
                "h": e.head_dim,
                "v": self.vocab,
                "a": self.action_dim or 0,
                "r": e.lora_attention,
                "s": e.lora_mlp,
            }
        return lengths


def compare(
    shapes: Mapping[str, tuple[int, ...]],
    specs: Mapping[str, Spec],
    spelling: Callable[[str], str] = lambda path: path,
) -> Problems:
    """Returns what `specs` lacks, has too much, or in another shape or kind of number than is asked for.

    Args:
        shapes: What is asked for, by openpi path.
        specs: What is there.
        spelling: The file's own name of a path, for messages.
    """
    problems = Problems()
    problems.missing += [_named(path, shapes[path], spelling) for path in shapes if path not in specs]
    problems.extra += [f"{path} {spec}" for path, spec in specs.items() if path not in shapes]
    for path, shape in shapes.items():
        spec = specs.get(path)
        if spec is not None and spec.shape != shape:
            problems.shapes.append(f"{path} is {list(spec.shape)}, expected {list(shape)}")
        elif spec is not None and spec.dtype.name not in FLOATS:
            problems.shapes.append(f"{path} is {spec.dtype.name}, expected {', '.join(FLOATS)}")
    return problems


def _named(path: str, shape: tuple[int, ...], spelling: Callable[[str], str]) -> str:
    own = spelling(path)
    return f"{path} {list(shape)}" if own == path else f"{own} (openpi's {path} {list(shape)})"


def recognise(tree: Tree) -> Architecture:
    """Returns the model that a tree of tensors belongs to.

    An axis's length is what most tensors that have it say, so a single wrong tensor is later reported as such
    and does not shift everything else.

    Raises:
        CheckpointError: Too little is there to tell; lists what is wrong.
    """
    paths = tree.specs.keys()
    kind = _kind(paths)
    experts = 2 if kind.is_flow else 1
    # Every expert may have everything here: what is absent simply has no vote.
    table = _image_and_words()
    for i in range(experts):
        table |= _expert(i, EXPERT, PLAIN_NORMS, ADAPTIVE_NORMS, ATTENTION_LORA, MLP_LORA)
    if experts == 2:
        table |= {p: ("expert1", axes) for p, axes in (ACTION | PI0_ONLY | PI05_ONLY).items()}
    votes: dict[tuple[str, str], Counter[int]] = {}
    for path, (scope, axes) in table.items():
        shape = tree.specs[path].shape if path in paths else ()
        if len(shape) == len(axes.split()):
            for axis, length in zip(axes.split(), shape, strict=True):
                for key, value in _vote(scope, axis, length):
                    votes.setdefault(key, Counter())[value] += 1
    return _elect(tree, kind, experts, votes)


def _kind(names: Iterable[str]) -> Family:
    names = set(names)
    if any("_1/Dense_0/" in p or p.startswith("time_mlp_") for p in names):
        return Family.PI05
    if any(p.startswith(("action_", "state_proj/")) or "_1/" in p for p in names if "/img/" not in p):
        return Family.PI0
    return Family.PI0_FAST


def _vote(scope: str, axis: str, length: int) -> list[tuple[tuple[str, str], int]]:
    factor, letter = _factor(axis)
    if not letter or length % factor or not 0 < length <= LONGEST:
        return []
    if letter == "language":
        return [(("expert0", "w"), length)]
    # The layers are stacked alike in all experts.
    scope = "expert0" if letter == "l" and scope == "expert1" else scope
    return [((scope, letter), length // factor)]


def _elect(
    tree: Tree, kind: Family, experts: int, votes: dict[tuple[str, str], Counter[int]]
) -> Architecture:
    unknown: list[str] = []

    def get(scope: str, letter: str, what: str, default: int | None = None) -> int:
        counter = votes.get((scope, letter))
        if counter:
            return counter.most_common(1)[0][0]
        if default is None:
            unknown.append(what)
        return default or 0

    vision = Vision(
        width=get("image", "w", "the image tower's width"),
        depth=get("image", "l", "the image tower's depth"),
        mlp=get("image", "m", "the image tower's MLP width"),
        heads=get("image", "n", "the image tower's heads"),
        head_dim=get("image", "h", "the image tower's head width"),
        patch=get("image", "p", "the patch size"),
        tokens=get("image", "t", "the tokens an image"),
    )
    streams = tuple(
        Expert(
            width=get(f"expert{i}", "w", f"the {name}'s width"),
            mlp=get(f"expert{i}", "m", f"the {name}'s MLP width"),
            heads=get(f"expert{i}", "n", f"the {name}'s heads"),
            kv_heads=get(f"expert{i}", "k", f"the {name}'s kv heads"),
            head_dim=get(f"expert{i}", "h", f"the {name}'s head width"),
            lora_attention=get(f"expert{i}", "r", "", 0),
            lora_mlp=get(f"expert{i}", "s", "", 0),
        )
        for i, name in enumerate(("language model", "action expert")[:experts])
    )
    depth = get("expert0", "l", "the number of layers")
    vocab = get("expert0", "v", "the vocabulary")
    action = get("expert1", "a", "the action dimension") if experts == 2 else None
    if unknown:
        what = f"can't tell {', '.join(unknown)}"
        if not tree.specs and not tree.problems:
            raise CheckpointError(f"{tree.where} holds no tensors of a π model")
        detail = f"\n{tree.problems.error(tree.where)}" if tree.problems else ""
        some = ", ".join(sorted(tree.specs)[:5])
        raise CheckpointError(
            f"{tree.where} is not a π checkpoint, or only part of one: {what}; "
            f"it holds {len(tree.specs)} tensors ({some}{', ...' if len(tree.specs) > 5 else ''}){detail}"
        )
    return Architecture(kind, streams, vision, depth, vocab, action)


def _image_and_words() -> dict[str, tuple[str, str]]:
    table = {f"{ROOT}/img/{path}": ("image", axes) for path, axes in IMAGE.items()}
    return table | {f"{ROOT}/llm/{path}": ("expert0", axes) for path, axes in EMBEDDER.items()}


def _expert(i: int, *parts: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    suffix = "" if i == 0 else f"_{i}"
    return {
        f"{ROOT}/llm/{path.replace('{_}', suffix)}": (f"expert{i}", axes)
        for part in parts
        for path, axes in part.items()
    }


def _factor(axis: str) -> tuple[int, str]:
    digits = axis.rstrip("abcdefghijklmnopqrstuvwxyz")
    return int(digits or 1), axis[len(digits) :]


def _length(axis: str, lengths: Mapping[str, int]) -> int:
    factor, letter = _factor(axis)
    return factor * (lengths[letter] if letter else 1)
