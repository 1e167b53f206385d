"""openpi's low-rank updates added to the weights, exactly as openpi's forward pass applies them.

Three things differ from the usual LoRA. Attention's output projection sums over heads before B, so every
head's update has the same B: W[n] += s A[n] (B[1] + ... + B[N]). The MLP ignores the scale. And B does not
start at zero, so a checkpoint from the first step is not the base model.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from pioxide.weights.tree import Array, Spec, Tree


class MergedTree(Tree):
    """A tree without LoRA, made from one with it a few layers at a time.

    Args:
        tree: May hold `lora_a` and `lora_b` beside its weights.
        scale: Alpha / rank, or alpha / sqrt(rank) for rank-stabilised LoRA; 1 in all of openpi's configs.
    """

    def __init__(self, tree: Tree, scale: float = 1.0) -> None:
        super().__init__(tree.where, {p: s for p, s in tree.specs.items() if not is_lora(p)})
        self.tree, self.scale = tree, scale
        self.problems, self.unused = tree.problems, tree.unused
        for path, spec in list(self.specs.items()):
            pair = lora_of(path)
            if pair and pair[0] in tree.specs and pair[1] in tree.specs:
                self.specs[path] = Spec(spec.shape, np.result_type(np.float32, spec.dtype))

    def fill(self, path: str, out: Array, start: int = 0) -> None:
        """Reads weights of some layers with their update."""
        pair = lora_of(path)
        if pair is None or pair[0] not in self.tree.specs or pair[1] not in self.tree.specs:
            self.tree.fill(path, out, start)
            return
        weights, a, b = (self._rows(p, start, len(out)) for p in (path, *pair))
        out[...] = weights + update(path, a, b, self.scale)

    def blocks(self, path: str) -> Iterator[tuple[int, int]]:
        """As the tree below."""
        return self.tree.blocks(path)

    def close(self) -> None:
        """Closes the tree below."""
        self.tree.close()

    def _rows(self, path: str, start: int, count: int) -> Array:
        shape = self.tree.specs[path].shape
        rows = np.empty((count, *shape[1:]), np.float32)
        self.tree.fill(path, rows, start)
        return rows


def update(path: str, a: Array, b: Array, scale: float) -> Array:
    """Returns what is added to the weights: A B with openpi's rules, in the arrays' dtype.

    Args:
        path: Of the weights, which decides the rule.
        a: [l, ..., in, r].
        b: [l, ..., r, out].
        scale: Applied in attention only.
    """
    if "/attn_vec_einsum" in path:
        b = b.sum(axis=1, keepdims=True)
    product = np.matmul(a, b)
    return product * np.asarray(scale, product.dtype) if "/attn/" in path else product


def is_lora(path: str) -> bool:
    """Returns whether a path is a low-rank factor."""
    return re.search(r"lora_[ab]$", path) is not None


def lora_of(path: str) -> tuple[str, str] | None:
    """Returns the factors that a weight may have beside it."""
    if re.search(r"/attn/\w+_einsum(_1)?/w$", path):
        stem = path.removesuffix("w")
    elif re.search(r"/mlp(_1)?/(gating_einsum|linear)$", path):
        stem = f"{path}_"
    else:
        return None
    return f"{stem}lora_a", f"{stem}lora_b"
