"""Loading a full-size π0, float32 on disk to bfloat16 in memory: seconds and peak memory, ours and the usual.

Makes the checkpoint (13 GB of random numbers) in openpi's layout, once with Orbax's whole-array chunks and
once as pioxide writes it, and converts it to LeRobot's. Each measurement is a fresh process. The usual way is
Orbax's own restore with a dtype, as openpi does it, and safetensors' load_file followed by conversion.

    python benches/checkpoints.py [--layers N] [--vocab N] [--directory DIR]
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

if TYPE_CHECKING:
    from pioxide.policy import Policy

WAYS = {
    "pioxide: openpi": "openpi",
    "pioxide: openpi in whole-array chunks": "orbax",
    "pioxide: LeRobot": "lerobot",
    "pioxide: openpi as a policy": "openpi",
    "Orbax restore": "orbax",
    "safetensors load_file": "lerobot",
}


def main() -> None:
    """Make, measure each way in its own process, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=18)
    parser.add_argument("--vocab", type=int, default=257_152)
    parser.add_argument("--directory", type=Path, default=None, help="where to put 40 GB for a while")
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure[0], Path(arguments.measure[1]))))
        return
    root = Path(tempfile.mkdtemp(dir=arguments.directory, prefix="pioxide-bench-"))
    try:
        chosen = [way for way in WAYS if way in arguments.ways.split(",")]
        make(root, arguments.layers, arguments.vocab, {WAYS[way] for way in chosen})
        print(f"{'':40} {'seconds':>8} {'model GB':>8} {'largest':>8} {'peak GB':>8} {'beyond':>8}")
        for way in chosen:
            command = [sys.executable, __file__, "--measure", way, str(root / WAYS[way])]
            got = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            figures = (got["model"], got["largest"], got["peak"], got["peak"] - got["model"])
            print(f"{way:40} {got['seconds']:8.1f}" + "".join(f" {n:8.2f}" for n in figures), flush=True)
    finally:
        shutil.rmtree(root)


def make(root: Path, layers: int, vocab: int, layouts: set[str]) -> None:
    """The checkpoint in the layouts that are measured."""
    import numpy as np

    from pioxide.weights import Architecture, Expert, Spec, Tree, convert, load
    from pioxide.weights.openpi import write_openpi

    model = Architecture(
        "pi0", (Expert(2048, 16384), Expert(1024, 4096)), depth=layers, vocab=vocab, action_dim=32
    )

    class Random(Tree):
        rng = np.random.default_rng(0)

        def fill(self, path: str, out: np.ndarray, start: int = 0) -> None:
            out[...] = self.rng.standard_normal(out.shape, np.float32)

    class Whole(Random):
        def blocks(self, path: str):
            yield 0, self.specs[path].shape[0]

    specs = {path: Spec(shape, np.dtype(np.float32)) for path, shape in model.shapes().items()}
    for name, kind in (("openpi", Random), ("orbax", Whole)):
        if name in layouts or (name == "openpi" and "lerobot" in layouts):
            began = time.perf_counter()
            whole = name == "orbax"
            write_openpi(
                kind("random", specs), root / name / "params", **({"chunk_bytes": 1 << 40} if whole else {})
            )
            print(f"made {name} in {time.perf_counter() - began:.0f} s", flush=True)
    if "lerobot" in layouts:
        began = time.perf_counter()
        with load(root / "openpi") as checkpoint:
            convert(checkpoint, root / "lerobot", "lerobot")
        print(f"converted openpi to LeRobot in {time.perf_counter() - began:.0f} s", flush=True)


def measure(way: str, path: Path) -> dict[str, float]:
    """Seconds and gigabytes of one way; the peak counts from after the imports."""
    import jax
    import ml_dtypes
    import numpy as np
    from flax import nnx

    import pioxide.models  # noqa: F401
    from pioxide.weights import build, load

    bfloat16 = np.dtype(ml_dtypes.bfloat16)
    jax.device_put(np.zeros(3)).block_until_ready()
    if way == "Orbax restore":
        import orbax.checkpoint as ocp
    peak = [0.0]
    stop = threading.Event()
    before = resident()

    def watch() -> None:
        while not stop.wait(0.005):
            peak[0] = max(peak[0], resident() - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    if way.endswith("a policy"):
        arrays = policy(path).engine.weights
    elif way.startswith("pioxide"):
        with load(path) as checkpoint:
            arrays = nnx.state(build(checkpoint, param_dtype="bfloat16", action_horizon=50))
    elif way == "Orbax restore":
        sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        with ocp.PyTreeCheckpointer() as checkpointer:
            item = checkpointer.metadata(path / "params").item_metadata.tree
            how = jax.tree.map(
                lambda _: ocp.ArrayRestoreArgs(sharding=sharding, restore_type=jax.Array, dtype=bfloat16),
                item,
            )
            arrays = checkpointer.restore(
                path / "params", ocp.args.PyTreeRestore(item=item, restore_args=how)
            )
    else:
        from safetensors.numpy import load_file

        tensors = load_file(path / "model.safetensors")
        arrays = {name: jax.device_put(tensor.astype(bfloat16)) for name, tensor in tensors.items()}
    jax.block_until_ready(arrays)
    seconds = time.perf_counter() - began
    stop.set()
    watcher.join()
    with load(path) as checkpoint:
        largest = max(spec.nbytes for spec in checkpoint.tree.specs.values()) / 1e9
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(arrays)) / 1e9
    return {"seconds": seconds, "model": size, "largest": largest, "peak": peak[0]}


def policy(path: Path) -> "Policy":
    """What `Policy.load` makes of a checkpoint, its weights laid out for inference."""
    import numpy as np

    from pioxide.policy import Policy
    from pioxide.transforms import Stats
    from pioxide.weights import load
    from support.text_model import write_text_model

    stats = dict.fromkeys(("state", "actions"), Stats(*np.array([[0.0], [1.0], [-1.0], [1.0]]).repeat(14, 1)))
    with tempfile.TemporaryDirectory() as folder:
        text = write_text_model(Path(folder) / "text.model", load(path).architecture.vocab)
        return Policy.load(
            path, robot="aloha", tokenizer=text, norm_stats=stats, action_horizon=50, dtype="bfloat16"
        )


def resident() -> float:
    """Gigabytes of this process's own memory; mapped files, which the system may drop, are not counted."""
    with open("/proc/self/statm") as file:
        _, pages, shared, *_ = map(int, file.read().split())
    return (pages - shared) * 4096 / 1e9


if __name__ == "__main__":
    main()
