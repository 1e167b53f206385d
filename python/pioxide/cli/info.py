"""`pioxide info`: what a checkpoint is, in tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from tyro.conf import FlagCreatePairsOff

from pioxide.cli.options import METAVARS, left_open

if TYPE_CHECKING:
    from pioxide.contract import Contract
    from pioxide.weights import Checkpoint, Tree

PARTS = ("image tower", "embedding", "language model", "action expert", "projections", "LoRA", "other")


@dataclass(frozen=True)
class Info:
    """Say what a checkpoint is: model, parameters by part, statistics, faults, what its numbers mean."""

    checkpoint: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar=METAVARS["contract"])]
    """A directory or file, or a gs://, s3:// or hf:// address."""

    tensors: FlagCreatePairsOff[bool] = False
    """List every tensor, under openpi's names."""

    check: FlagCreatePairsOff[bool] = False
    """Read all values, and look for NaN and infinite ones."""

    embedding: Annotated[Literal["embed_tokens", "lm_head"] | None, left_open("NAME")] = None
    """Which tensor to take, embed_tokens or lm_head, where both are stored and differ."""

    base: Annotated[str | None, left_open("CKPT")] = None
    """Of a PEFT adapter, where the one it names is not on this machine."""

    asset_id: Annotated[str | None, left_open("NAME")] = None
    """Whose statistics are the contract's, where there are several."""

    json: FlagCreatePairsOff[bool] = False
    """Print one JSON document, the contract in it, and no tables."""

    def __call__(self) -> int:
        """Print; a checkpoint with faults, or a contract that can't be obeyed, ends with status 2."""
        from pioxide.cli import main, show
        from pioxide.cli.progress import BytesProgress, say_file
        from pioxide.contract import robot_name
        from pioxide.files import json_text
        from pioxide.weights import load, stream

        with load(self.checkpoint, embedding=self.embedding, base=self.base, on_file=say_file) as checkpoint:
            if self.json:
                if problems := checkpoint.problems():
                    raise problems.error(str(checkpoint.path))
                print(json_text(document(checkpoint, self._contracts(checkpoint))), end="")
                return main.OK
            print(f"{checkpoint.path}: {checkpoint.title}, {checkpoint.described_format}")
            show.facts(facts(checkpoint))
            print()
            rows = parts(checkpoint.tree)
            total = (["all", *_figures(checkpoint.tree, checkpoint.tree.specs)],)
            show.table("parameters", ["", "tensors", "numbers", "dtype", "size"], [*rows, *total])
            if self.tensors:
                print()
                for path, spec in sorted(checkpoint.tree.specs.items()):
                    print(f"{show.printable(path)}  {spec}")
            for name, reason in checkpoint.tree.unused.items():
                print(f"not used: {show.printable(name)} ({reason})")
            if problems := checkpoint.problems():
                raise problems.error(str(checkpoint.path))
            if self.check:
                size = sum(spec.nbytes for spec in checkpoint.tree.specs.values())
                with BytesProgress("check", size) as progress:
                    for _ in stream(checkpoint.tree, on_bytes=progress.tensor):
                        pass
                print("all values are finite")
            contracts = self._contracts(checkpoint)
            for contract in contracts:
                of = f" with the robot {show.printable(robot_name(contract))}" if len(contracts) > 1 else ""
                print(f"\ncontract: what its numbers mean{of}")
                show.facts(meaning(contract))
            for note in checkpoint.said.notes:
                print(f"note: {show.printable(note)}")
        return main.OK

    def _contracts(self, checkpoint: Checkpoint) -> Sequence[Contract]:
        from pioxide.weights import contract_of

        return checkpoint.contracts if self.asset_id is None else [contract_of(checkpoint, self.asset_id)]


def facts(checkpoint: Checkpoint) -> Iterable[tuple[str, str]]:
    """Yields name and value of everything that is known besides the tensors."""
    a, companions = checkpoint.architecture, checkpoint.companions
    v = a.vision
    yield "images", f"{v.image_size} x {v.image_size}, {v.tokens} tokens each, {v.depth} layers of {v.width}"
    names = ("language model", "action expert")
    for name, e in zip(names, a.experts, strict=False):
        lora = f", LoRA rank {e.lora_attention} and {e.lora_mlp}" if e.lora_attention or e.lora_mlp else ""
        yield name, f"{a.depth} layers of {e.width}, MLP {e.mlp}, {e.heads} heads of {e.head_dim}{lora}"
    yield "vocabulary", f"{a.vocab:,}"
    if a.action_dim is not None:
        yield (
            "actions",
            f"{a.action_dim} dimensions"
            + (f", {companions.action_horizon} a chunk" if companions.action_horizon else ""),
        )
    for asset_id, stats in companions.norm_stats.items():
        keys = ", ".join(
            f"{key} {s.dim}" + ("" if s.q01 is not None else " (no quantiles)") for key, s in stats.items()
        )
        yield "statistics", f"{asset_id or 'own'}: {keys}"
    if not companions.norm_stats:
        yield "statistics", "none"
    yield "action tokens", str(companions.fast_tokenizer or "none")
    if companions.text_model:
        yield "text model", str(companions.text_model)


def meaning(contract: Contract) -> Iterable[tuple[str, str]]:
    """Returns every field of a contract in words; those that nobody stated last."""
    from pioxide.cli import show
    from pioxide.contract import FIELDS, describe

    for name in FIELDS:
        if name not in contract.unknown:
            yield name, show.printable(describe(name, getattr(contract, name)))
    if contract.unknown:
        yield "unknown", ", ".join(contract.unknown)


def document(checkpoint: Checkpoint, contracts: Sequence[Contract]) -> dict[str, Any]:
    """Returns everything as plain JSON values, the contract, or several robots', as in `contract.json`."""
    from pioxide.contract import file_json

    tree = checkpoint.tree
    return {
        "path": str(checkpoint.path),
        "model": checkpoint.title,
        "format": checkpoint.format,
        "parameters": tree.size,
        "bytes": sum(spec.nbytes for spec in tree.specs.values()),
        "dtypes": sorted({spec.dtype.name for spec in tree.specs.values()}),
        "statistics": {
            asset_id: {key: stats.dim for key, stats in table.items()}
            for asset_id, table in checkpoint.companions.norm_stats.items()
        },
        "unused": dict(tree.unused),
        "contract": file_json(contracts),
        "notes": list(checkpoint.said.notes),
    }


def parts(tree: Tree) -> list[list[str]]:
    """Returns a row for each part of the model that is there."""
    groups: dict[str, list[str]] = {part: [] for part in PARTS}
    for path in tree.specs:
        groups[part_of(path)].append(path)
    return [[part, *_figures(tree, paths)] for part, paths in groups.items() if paths]


def part_of(path: str) -> str:
    """Returns which of `PARTS` a parameter belongs to."""
    if "lora_" in path:
        return "LoRA"
    if path.startswith("PaliGemma/img/"):
        return "image tower"
    if path.startswith("PaliGemma/llm/embedder/"):
        return "embedding"
    if path.startswith("PaliGemma/llm/"):
        return "action expert" if "_1/" in path else "language model"
    return "projections" if path.split("/")[0].endswith(("_proj", "_in", "_out")) else "other"


def _figures(tree: Tree, paths: Iterable[str]) -> list[str]:
    from pioxide.cli import show

    specs = [tree.specs[path] for path in paths]
    dtypes = sorted({spec.dtype.name for spec in specs})
    size = show.size(sum(spec.nbytes for spec in specs))
    return [f"{len(specs):,}", f"{sum(spec.size for spec in specs):,}", " + ".join(dtypes), size]
