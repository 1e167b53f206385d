"""Predict what an H100 would take for a policy's programs. No GPU is needed, and nothing is timed.

XLA compiles each program for an H100 that is not there, at full size and from weights that don't exist, and
the kernels of the result are counted (`hlo.py`). Kernels and bytes are what this version of XLA would start
and touch; milliseconds are a prediction, every kernel being as fast as memory or the multipliers allow, one
after the other. Nothing is tuned as it would be on a device, and how full a kernel keeps the GPU is not seen.

    python benches/h100.py                                  # π0.5, π0 and π0-FAST for 1, 4 and 16 robots
    python benches/h100.py --kind pi05 --batch 1 --top 20   # and the kernels that take longest
    python benches/h100.py --markdown                       # tables for docs/benchmarks.md
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hlo import Cost, Counter, Gpu, Kernel, Loop, by_place, cost, parse
from tables import Table

if TYPE_CHECKING:
    from pioxide.models import Pi0Config, Pi0FastConfig

NAMES = {"pi05": "π0.5", "pi0": "π0", "pi0_fast": "π0-FAST"}
STEPS = 10
# Slots of text: the bucket of a usual prompt.
TEXT = {"pi05": 64, "pi0": 48, "pi0_fast": 64}
# π0-FAST's longest answer, and the size of its FAST vocabulary.
ROOM, TOKENS = 256, 2048

# Measured on an H100 SXM: reading memory, the L2 cache, bfloat16 products; a launch inside a CUDA graph.
H100 = Gpu(bandwidth=3.0e12, cache_bandwidth=5.5e12, peak=790e12, launch=1e-6)
# cuDNN 9.12, which the description has.
CUDNN = 91200
DESCRIPTION = Path(__file__).with_suffix(".txtpb")

COLUMNS = ("kernels", "GB touched", "TFLOP", "floor ms", "predicted ms", "with L2 ms")
PLAINLY = (
    "A prediction for an H100 SXM in bfloat16, not a measurement: no kernel was run. A kernel counts as its "
    "bytes at 3.0 TB/s or its operations at 790 TFLOP/s, whichever takes longer, and 1 µs for its launch; "
    "the floor is arguments and operations alone, without launches. With L2: what the program makes itself, "
    "up to 20 MiB at once, is written and read at 5.5 TB/s."
)


@dataclass(frozen=True)
class Counted:
    """A compiled program: its kernels and loops, its memory, and the seconds to compile it."""

    kernels: Sequence[Kernel]
    loops: Sequence[Loop]
    temporary: int
    seconds: float


def compiled(kind: str, batch: int, cameras: int, text: int, save: Path | None = None) -> Counted:
    """Compiles one of the engine's programs at full size for an H100, from shapes alone."""
    import jax
    import jax.numpy as jnp
    from flax import nnx
    from jax.experimental import topologies
    from jax.sharding import SingleDeviceSharding

    from pioxide.engine import FlowSampler, Shape, TokenFormat, TokenSampler
    from pioxide.engine.program import Programs
    from pioxide.models import Pi0, Pi0Fast, Pi0FastConfig
    from pioxide.models.tuning import HOPPER
    from pioxide.sampling import Grammar

    config = replace(preset(kind), param_dtype=jnp.bfloat16)
    fast = isinstance(config, Pi0FastConfig)
    if fast:
        vocab = config.language.vocab
        spelled = [bytes([97 + t % 26]) * (1 + t % 8) for t in range(TOKENS)]
        grammar = Grammar.spelled(spelled, vocab - 129, end=235_371)
        how: Any = TokenSampler(max_tokens=ROOM), TokenFormat((1, grammar.end), causal=3, grammar=grammar)
    else:
        how = (FlowSampler(STEPS),)
    made: list[Programs] = []

    def weights() -> tuple[jax.Array, ...]:
        model = (
            Pi0Fast(config, nnx.Rngs(0)) if isinstance(config, Pi0FastConfig) else Pi0(config, nnx.Rngs(0))
        )
        made.append(Programs(model, *how, tuning=HOPPER))
        return made[0].weights

    description = DESCRIPTION.read_text()
    devices = topologies.get_topology_desc(
        "h100", "cuda", target_config=description, topology="1x1x1"
    ).devices
    here = SingleDeviceSharding(devices[0])

    def abstract(x: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here)

    ask_no_driver()
    begin = time.perf_counter()
    laid_out = jax.tree.map(abstract, jax.eval_shape(weights))
    inputs = jax.tree.map(abstract, made[0].placeholder(Shape(batch, config.cameras[:cameras], text)))
    traced = made[0].function.trace(laid_out, inputs)
    program = traced.lower(lowering_platforms=("cuda",)).compile()
    hlo = program.as_text()
    assert hlo is not None
    if save is not None:
        save.write_text(hlo)
    counter = Counter(parse(hlo))
    memory = program.memory_analysis()
    temporary = memory.temp_size_in_bytes if memory is not None else 0
    return Counted(counter.kernels, counter.loops, temporary, time.perf_counter() - begin)


def rows(kind: str, counted: Counted) -> Iterator[tuple[str, Cost]]:
    """The whole of π0 and π0.5, and what is once and a step; of π0-FAST what is once and a token."""
    once = [k for k in counted.kernels if not k.loop]
    again = [replace(k, times=1) for k in counted.kernels if k.loop]
    if kind == "pi0_fast":
        yield "prefill", cost(once, H100)
        yield "one token", cost(again, H100)
        return
    yield f"{STEPS} steps", cost(counted.kernels, H100)
    if again:
        yield "once", cost(once, H100)
        yield "each step", cost(again, H100)


def cells(total: Cost) -> tuple[str, ...]:
    milliseconds = (total.floor, total.predicted, total.predicted_cached)
    size = f"{total.bytes / 1e9:.2f}", f"{total.operations / 1e12:.2f}"
    return f"{total.kernels:,}", *size, *(f"{seconds * 1e3:.2f}" for seconds in milliseconds)


def longest(counted: Counted, top: int) -> Table:
    """The kernels that take longest, those of all layers together."""
    groups = [(name, cost(group, H100)) for name, group in by_place(counted.kernels)]
    groups.sort(key=lambda item: -item[1].predicted)
    return Table("Kernels by time", COLUMNS, {name: cells(total) for name, total in groups[:top]})


def preset(kind: str) -> Pi0Config | Pi0FastConfig:
    """A model at its full size."""
    from pioxide.models import Pi0Config, Pi0FastConfig

    presets = {"pi05": Pi0Config.pi05_base, "pi0": Pi0Config.pi0, "pi0_fast": Pi0FastConfig.pi0_fast}
    return presets[kind]()


def ask_no_driver() -> None:
    """Tells JAX what it would ask the driver, which is not there: cuDNN's version and the device's."""
    from jax._src.cudnn import fused_attention_stablehlo as cudnn

    cudnn.check_cudnn_version = lambda: CUDNN
    cudnn.check_compute_capability = lambda capability: float(capability) <= 9.0


def missing() -> str | None:
    """Why nothing can be compiled here, or None."""
    if importlib.util.find_spec("jax") and importlib.util.find_spec("jax_cuda13_plugin"):
        return None
    return (
        "XLA's compiler for CUDA is not installed: pip install 'pioxide[cuda13]' (no GPU or driver is needed)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kind", action="append", choices=NAMES, help="all by default")
    parser.add_argument(
        "--batch", action="append", type=int, help="robots in a batch; 1, 4 and 16 by default"
    )
    parser.add_argument("--cameras", type=int, default=3, choices=[1, 2, 3])
    parser.add_argument("--text", type=int, help=f"slots of text; by default {TEXT}")
    parser.add_argument(
        "--top", type=int, default=0, help="also print so many of the kernels that take longest"
    )
    parser.add_argument("--save", type=Path, help="a folder for the compiled programs' text")
    parser.add_argument("--markdown", action="store_true", help="print tables as docs/benchmarks.md has them")
    arguments = parser.parse_args()
    if reason := missing():
        print(f"SKIPPED, nothing was predicted. {reason}", file=sys.stderr)
        return
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    import jax

    print(f"JAX {jax.__version__}. {PLAINLY}\n")
    table: dict[str, tuple[str, ...]] = {}
    for kind in arguments.kind or NAMES:
        for batch in arguments.batch or (1, 4, 16):
            text = arguments.text or TEXT[kind]
            save = arguments.save and arguments.save / f"{kind}_{batch}.hlo"
            counted = compiled(kind, batch, arguments.cameras, text, save)
            robots = "1 robot" if batch == 1 else f"{batch} robots"
            for part, total in rows(kind, counted):
                table[f"{NAMES[kind]}, {robots}, {part}"] = cells(total)
            unknown = sum(loop.trips is None for loop in counted.loops)
            print(
                f"{NAMES[kind]}, {robots}: compiled in {counted.seconds:.0f} s; "
                f"{counted.temporary / 1e9:.2f} GB beside weights; loops whose end the host reads: {unknown}",
                file=sys.stderr,
            )
            if arguments.top:
                print(longest(counted, arguments.top).text())
    title = f"{arguments.cameras} cameras"
    result = Table(title, COLUMNS, table)
    print(result.markdown() if arguments.markdown else result.text())


if __name__ == "__main__":
    main()
