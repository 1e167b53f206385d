"""Predict what training takes on H100s: memory, kernels, what devices exchange. No GPU is needed.

XLA compiles the update of `pioxide train` (loss, gradients, clipping, AdamW, the moving average,
augmentation) for devices that are not there, at full size and from parameters that don't exist; `hlo.py`
counts the result. Nothing is timed. Memory, kernels and bytes are what this version of XLA would use; seconds
are a prediction, see `h100.py`.
Compiling one program takes minutes and some GB of memory.

    python benches/scale.py                                     # π0.5, 1 and 8 devices, full and LoRA
    python benches/scale.py --kind pi0 --devices 8 --rows 4     # 4 rows on each of 8
    python benches/scale.py --how full --rows 32 --json out.jsonl
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

from h100 import DESCRIPTION, H100, NAMES, Counted, ask_no_driver, longest, missing, preset
from hlo import Counter, cost, parse
from tables import Table

# What a device receives over NVLink while it gathers or reduces; assumed, not measured.
LINK = 370e9
COLUMNS = (
    *("rows a device", "GB kept", "GB temporary", "GB in all", "kernels", "TFLOP", "kernels s"),
    *("GB gathered", "GB reduced", "exchange s", "samples/s"),
)
PLAINLY = (
    "A prediction for H100 SXM, not a measurement: no kernel was run and nothing sent. GB are of one device; "
    "temporary is XLA's own plan, to which libraries and fragmentation add 1 to 3 GB. Kernels count as in "
    "docs/benchmarks.md. Exchange is bytes at 370 GB/s; samples/s are between what comes out if none of it "
    "is hidden behind kernels, and if all of it is."
)


def compiled(arguments: argparse.Namespace, kind: str, how: str, devices: int, rows: int) -> dict[str, Any]:
    """Compiles one update, and returns what it takes."""
    import jax
    import jax.numpy as jnp
    from jax.experimental import topologies

    from pioxide.models import Observation, Pi0FastConfig, batch_sharding, make_mesh
    from pioxide.models.tuning import GPU, HOPPER
    from pioxide.train import Ema, Lora, ModelSettings, Remat, TrainConfig
    from pioxide.train.losses import Batch
    from pioxide.train.network import plan_network
    from pioxide.train.step import make_step, state_shapes

    ask_no_driver()
    lora = Lora(language=16, action=0 if kind == "pi0_fast" else 32) if how == "lora" else Lora()
    config = TrainConfig(
        batch_size=rows * devices,
        fsdp=min(devices, 8) if how == "full" else 1,
        ema=Ema(decay=0.99 if arguments.ema else 0.0),
        lora=lora,
        freeze=("vision/",) if how == "lora" and arguments.freeze_vision else (),
        model=ModelSettings(remat=Remat(arguments.remat)),
    )
    said = {"dtype": jnp.dtype(jnp.bfloat16), "remat": config.model.remat is not Remat.NONE}
    model = replace(preset(kind), **said)
    hosts = 1 if devices <= 8 else devices // 8
    topology = topologies.get_topology_desc(
        "h100", "cuda", target_config=DESCRIPTION.read_text(), topology=f"1x{hosts}x{devices // hosts}"
    )
    mesh = make_mesh(config.fsdp, topology.devices)
    begin = time.perf_counter()
    plan = plan_network(config, model, mesh, HOPPER if arguments.attention == "fused" else GPU)
    state = state_shapes(config, plan.trained, plan.frozen)
    sharding = batch_sharding(mesh)

    def of(dtype: Any, *shape: int) -> Any:
        return jax.ShapeDtypeStruct((config.batch_size, *shape), dtype, sharding=sharding)

    size, fast = model.vision.image_size, isinstance(model, Pi0FastConfig)
    seen = Observation(
        {camera: of(jnp.uint8, size, size, 3) for camera in model.cameras},
        {camera: of(bool) for camera in model.cameras},
        of(jnp.int32, model.text_len),
        of(bool, model.text_len),
        state=of(jnp.float32, model.action_dim) if kind == "pi0" else None,
        ar_mask=of(jnp.int32, model.text_len) if fast else None,
        loss_mask=of(bool, model.text_len) if fast else None,
    )
    chunk = model.action_horizon, model.action_dim
    batch = Batch(seen, None if fast else of(jnp.float32, *chunk), None if fast else of(bool, *chunk))
    update: Any = make_step(config, plan.graph, state)
    traced = update.trace(state, batch)
    program = traced.lower(lowering_platforms=("cuda",)).compile()
    text = program.as_text()
    assert text is not None
    if arguments.save is not None:
        (arguments.save / f"{kind}_{how}_{devices}_{rows}.hlo").write_text(text)
    counter = Counter(parse(text))
    memory = program.memory_analysis()
    assert memory is not None
    moved: dict[str, float] = defaultdict(float)
    for one in counter.collectives:
        moved[one.kind] += one.bytes * one.times
    # The rows of a device, and those of all: where they are on an axis of what travels, a batch does.
    travels = sorted(
        {
            f"{one.kind} {shape.dtype}{list(shape.dimensions)}"
            for one in counter.collectives
            for shape in one.shapes
            if devices > 1 and {rows, rows * devices} & {*shape.dimensions[:1]} and shape.size > 10_000
        }
    )
    total = cost(counter.kernels, H100)
    gathered, reduced = moved["all-gather"], moved["reduce-scatter"] + 2 * moved["all-reduce"]
    share = (devices - 1) / devices
    exchange = (gathered + reduced + moved["all-to-all"] + moved["collective-permute"]) * share / LINK
    if arguments.top:
        counted = Counted(counter.kernels, counter.loops, memory.temp_size_in_bytes, 0.0)
        print(longest(counted, arguments.top).text())
    return {
        "kind": kind,
        "how": how,
        "devices": devices,
        "rows": rows,
        "ema": arguments.ema,
        "remat": arguments.remat,
        "attention": arguments.attention,
        "kept": memory.argument_size_in_bytes / 1e9,
        "temporary": memory.temp_size_in_bytes / 1e9,
        "kernels": total.kernels,
        "tflop": total.operations / 1e12,
        "seconds": total.predicted,
        "seconds_cached": total.predicted_cached,
        "gathered": gathered / 1e9,
        "reduced": reduced / 1e9,
        "other": (moved["all-to-all"] + moved["collective-permute"]) / 1e9,
        "exchange": exchange,
        "batch_travels": travels,
        "unknown_loops": sum(loop.trips is None for loop in counter.loops),
        "host": len(re.findall(r"is_host_transfer=true", text)),
        "compile_seconds": time.perf_counter() - begin,
    }


def cells(found: dict[str, Any]) -> tuple[str, ...]:
    """A row of the table."""
    samples = found["rows"] * found["devices"]
    least, most = samples / (found["seconds"] + found["exchange"]), samples / found["seconds"]
    rate = f"{most:,.0f}" if found["devices"] == 1 else f"{least:,.0f} to {most:,.0f}"
    return (
        f"{found['rows']}",
        *(f"{gb:.1f}" for gb in (found["kept"], found["temporary"], found["kept"] + found["temporary"])),
        f"{found['kernels']:,}",
        f"{found['tflop']:.1f}",
        f"{found['seconds']:.3f}",
        *(f"{found[name]:.1f}" for name in ("gathered", "reduced")),
        f"{found['exchange']:.3f}",
        rate,
    )


def name_of(found: dict[str, Any]) -> str:
    """What a row is called."""
    parts = [NAMES[found["kind"]], found["how"], f"{found['devices']} device{'s' * (found['devices'] > 1)}"]
    parts += ["moving average"] * found["ema"]
    parts += [f"remat {found['remat']}"] * (found["remat"] != "layers")
    parts += ["plain attention"] * (found["attention"] != "fused")
    return ", ".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kind", action="append", choices=NAMES, help="π0.5 by default")
    parser.add_argument("--how", action="append", choices=["full", "lora"], help="both by default")
    parser.add_argument("--devices", action="append", type=int, help="1 and 8 by default")
    parser.add_argument("--rows", type=int, help="of each device; by default 32 in all")
    parser.add_argument("--remat", default="layers", help="what is computed again: none, layers")
    parser.add_argument("--attention", default="fused", choices=["fused", "plain"])
    parser.add_argument("--ema", action="store_true", help="keep a moving average, too")
    parser.add_argument("--freeze-vision", action="store_true", help="of LoRA: the tower is not trained")
    parser.add_argument("--top", type=int, default=0, help="also print so many of the longest kernels")
    parser.add_argument("--save", type=Path, help="a folder for the compiled programs' text")
    parser.add_argument("--json", type=Path, help="a file to which each result is added as a line")
    parser.add_argument("--read", type=Path, help="compile nothing; print the table of such a file")
    parser.add_argument("--markdown", action="store_true", help="print the table as docs/scale.md has it")
    arguments = parser.parse_args()
    results: list[dict[str, Any]] = []
    if arguments.read is not None:
        results = [json.loads(line) for line in arguments.read.read_text().splitlines()]
    elif reason := missing():
        print(f"SKIPPED, nothing was predicted. {reason}", file=sys.stderr)
        return
    else:
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
        # Without a device to tune on, some products do not compile with Triton; cuBLAS takes all.
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_enable_triton_gemm=false"
        for kind in arguments.kind or ["pi05"]:
            for how in arguments.how or ["full", "lora"]:
                for devices in arguments.devices or [1, 8]:
                    rows = arguments.rows or max(32 // devices, 1)
                    found = compiled(arguments, kind, how, devices, rows)
                    results.append(found)
                    print(json.dumps(found), file=sys.stderr, flush=True)
                    if arguments.json is not None:
                        with arguments.json.open("a") as file:
                            file.write(json.dumps(found) + "\n")
    table = Table("An update", COLUMNS, {name_of(one): cells(one) for one in results}, (PLAINLY,))
    print(table.markdown() if arguments.markdown else table.text())


if __name__ == "__main__":
    main()
