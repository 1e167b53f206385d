"""The whole job, dataset on disk to token shards on disk, beside the same job done with the reference stack.

Each measurement is a fresh process held to one or two cores. Both jobs read the same episodes, normalise, cut
a chunk for every frame, make pi0-FAST prompts and write Parquet; their rows are compared. A dataset several
times as large, every copy shifted a little so that no chunk comes twice, then shows the steady rate and what
a second core adds.

    python benches/job.py [--quick] [--dataset DIR] [--json FILE] [--markdown FILE]
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

HORIZON, VOCABULARY, MAX_LEN = 50, 2048, 400
REFERENCE, OURS = "reference stack, 1 core", "pioxide, 1 core"
ONE_CORE, TWO_CORES = "pioxide, larger dataset, 1 core", "pioxide, larger dataset, 2 cores"
HEAD = "   frames | seconds | CPU seconds | frames a second"


def reference_job(
    dataset: Path, text_model: Path, fast: Path, stats_file: Path, episodes: int, output: Path
) -> int:
    """Returns frames written. Plain Python around the usual packages, as one would write it today."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from support.reference_stack import ReferenceFast, ReferencePrompts

    prompts = ReferencePrompts.load(text_model, ReferenceFast.load(fast))
    stats = json.loads(stats_file.read_text())["norm_stats"]
    low, high = ({k: np.array(s[q]) for k, s in stats.items()} for q in ("q01", "q99"))
    opened = _open(dataset)
    frames = 0
    output.mkdir(parents=True)
    for episode in opened.scan(["action", "observation.state"], range(episodes)):
        actions, states = (episode.stack([c]).astype(np.float64) for c in ("action", "observation.state"))
        actions = (actions - low["actions"]) / (high["actions"] - low["actions"] + 1e-6) * 2 - 1
        states = (states - low["state"]) / (high["state"] - low["state"] + 1e-6) * 2 - 1
        steps = np.minimum(np.arange(len(actions))[:, None] + np.arange(HORIZON), len(actions) - 1)
        texts, index = episode.prompts
        rows = []
        for frame in range(len(actions)):
            made = prompts.pi0_fast(texts[index[frame]], states[frame], actions[steps[frame]], MAX_LEN)
            kept = min(made.length, MAX_LEN)
            prefix = int((made.mask & ~made.loss_mask.astype(bool)).sum())
            rows.append((episode.index, frame, made.tokens[:kept].tolist(), made.length, prefix))
        columns = list(zip(*rows, strict=True))
        names = ["episode", "frame", "tokens", "length", "prefix_length"]
        types = [pa.int32(), pa.int32(), pa.list_(pa.int32()), pa.int32(), pa.int32()]
        arrays = [pa.array(list(c), t) for c, t in zip(columns, types, strict=True)]
        pq.write_table(
            pa.table(dict(zip(names, arrays, strict=True))), output / f"{episode.index:06d}.parquet"
        )
        frames += len(rows)
    return frames


def pioxide_job(
    dataset: Path, text_model: Path, fast: Path, stats_file: Path, episodes: int, output: Path, workers: int
) -> int:
    """Returns frames written."""
    from pioxide.family import Family
    from pioxide.shards import JobRequest, resolve, tokenize_dataset

    request = JobRequest(
        dataset,
        Family.PI0_FAST,
        text_model,
        stats=stats_file,
        fast=fast,
        horizon=HORIZON,
        delta_mask=(),
        max_len=MAX_LEN,
        on_overflow="clip",
        episodes=f"0:{episodes}",
        shard_frames=4096,
    )
    inputs, settings = resolve(request)
    return tokenize_dataset(inputs, output, settings, workers=workers).totals["rows"]


def _open(dataset: Path) -> Any:
    from pioxide.data import LeRobotDataset

    return LeRobotDataset.open(dataset)


def one(options: argparse.Namespace) -> None:
    """A single measurement in this process; prints JSON."""
    os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[: options.cores]))
    import pyarrow.parquet  # noqa: F401

    import pioxide.shards  # noqa: F401
    from material import ROOT  # noqa: F401

    if options.one == "reference":
        import support.reference_stack  # noqa: F401
    arguments = [Path(options.work) / name for name in ("text.model", "fast", "norm_stats.json")]
    start, busy = time.perf_counter(), time.process_time()
    if options.one == "reference":
        frames = reference_job(options.dataset, *arguments, options.episodes, Path(options.output))
    else:
        frames = pioxide_job(
            options.dataset, *arguments, options.episodes, Path(options.output), workers=options.cores
        )
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    print(json.dumps({"seconds": seconds, "busy": busy, "frames": frames}))


def measure(
    kind: str, dataset: Path, work: Path, episodes: int, cores: int, rounds: int, keep: Path | None = None
) -> dict[str, float]:
    """Medians: seconds on the clock, processor seconds, frames."""
    results = []
    for number in range(rounds):
        output = keep if keep is not None and number == rounds - 1 else work / "output"
        shutil.rmtree(output, ignore_errors=True)
        command = [sys.executable, __file__, "--one", kind, "--work", work, "--dataset", dataset]
        command += ["--episodes", episodes, "--cores", cores, "--output", output]
        answer = subprocess.run([str(c) for c in command], check=True, capture_output=True, text=True).stdout
        results.append(json.loads(answer.splitlines()[-1]))
    return {key: median(r[key] for r in results) for key in results[0]}


def same_rows(reference: Path, ours: Path) -> int:
    """Rows that both jobs wrote with the same ids; raises where they differ."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = ["episode", "frame", "tokens", "length", "prefix_length"]
    theirs = pa.concat_tables([pq.read_table(p, columns=names) for p in sorted(reference.glob("*.parquet"))])
    shards = sorted((ours / "shards").glob("*.parquet"))
    mine = pa.concat_tables([pq.read_table(p, columns=[*names, "clipped"]) for p in shards])
    clipped = mine["clipped"].to_pylist()
    a, b = theirs.to_pylist(), mine.drop_columns(["clipped"]).to_pylist()
    wrong = [x["frame"] for x, y, c in zip(a, b, clipped, strict=True) if x != y and not c]
    if wrong:
        raise SystemExit(
            f"{len(wrong)} of {len(a)} rows differ from the reference's, first at frame {wrong[0]}"
        )
    return len(a) - sum(1 for c in clipped if c)


def larger(material: Any, copies: int, directory: Path) -> Path:
    """The dataset `copies` times, v3.0, every copy shifted by a millirad or so."""
    import numpy as np

    from pioxide.data import EpisodeData, write_lerobot_v3

    opened = _open(material.dataset)
    columns = ["action", "observation.state"]

    def episodes():
        for copy in range(copies):
            for episode in opened.scan(columns):
                noise = np.random.default_rng([copy, episode.index])
                arrays = {
                    c: episode.columns[c] + np.float32(1e-3) * noise.normal(size=episode.columns[c].shape)
                    for c in columns
                }
                texts, index = episode.prompts
                yield EpisodeData(
                    {c: a.astype(np.float32) for c, a in arrays.items()}, [texts[i] for i in index]
                )

    write_lerobot_v3(directory, episodes(), fps=int(opened.fps), robot_type=opened.robot_type)
    return directory


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few frames: does it run, and are rows equal")
    parser.add_argument(
        "--dataset", type=Path, help="LeRobot dataset; G1 from ../shared or the demo's by default"
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    for hidden in ("--one", "--work", "--output"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    for hidden in ("--episodes", "--cores"):
        parser.add_argument(hidden, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(options)
        return

    import timing
    from material import Material
    from pioxide.data import compute_stats
    from pioxide.transforms import save_norm_stats

    material = Material.find(options.dataset)
    opened = _open(material.dataset)
    with tempfile.TemporaryDirectory(prefix="pioxide-bench-") as name:
        work = Path(name)
        chunks = material.chunks(HORIZON, 10_000, 2000)
        shutil.copytree(material.vocabulary(HORIZON, chunks.shape[2], VOCABULARY, chunks), work / "fast")
        shutil.copy(material.text_model, work / "text.model")
        save_norm_stats(work / "norm_stats.json", compute_stats(opened, horizon=HORIZON))
        episodes = 1 if options.quick else len(opened.episodes)
        rounds = 1 if options.quick else 3
        results: dict[str, dict[str, float]] = {}

        def add(name: str, result: dict[str, float]) -> None:
            results[name] = result
            print(f"{name:36} {_row(result)}", flush=True)

        print(
            f"{material.dataset.name}: chunks {HORIZON} x {chunks.shape[2]}, pi0-FAST, {VOCABULARY} tokens;"
            f" {timing.load()} processes wanted a core in the last minute"
        )
        print(f"{'':36} {HEAD}")
        theirs, ours = work / "theirs", work / "ours"
        add(REFERENCE, measure("reference", material.dataset, work, episodes, 1, 1, theirs))
        add(OURS, measure("pioxide", material.dataset, work, episodes, 1, rounds, ours))
        equal = same_rows(theirs, ours)
        big = larger(material, 2 if options.quick else 10, work / "larger")
        count = len(_open(big).episodes)
        add(ONE_CORE, measure("pioxide", big, work, count, 1, rounds))
        if len(os.sched_getaffinity(0)) > 1:
            add(TWO_CORES, measure("pioxide", big, work, count, 2, rounds))
    print(f"equal: {equal:,} rows, every id and length")
    summary = {"ratio": results[REFERENCE]["busy"] / results[OURS]["busy"], "equal_rows": equal}
    print(f"ratio on one core, same frames, processor time: {summary['ratio']:.1f}x")
    if TWO_CORES in results:
        summary["scaling"] = results[ONE_CORE]["seconds"] / results[TWO_CORES]["seconds"]
        print(f"from 1 to 2 cores, on the clock: {summary['scaling']:.2f}x")
    about = {**timing.machine(), "dataset": material.dataset.name, "load": timing.load()}
    if options.json:
        options.json.write_text(json.dumps({"machine": about, "results": results, **summary}, indent=1))
    if options.markdown:
        lines = [f"| job | {HEAD} |", "|---|--:|--:|--:|--:|"]
        lines += [f"| {name} | {_row(result)} |" for name, result in results.items()]
        lines += ["", ", ".join(f"{name} {value:,.2f}" for name, value in summary.items())]
        options.markdown.write_text("\n".join(lines) + "\n")


def _row(result: dict[str, float]) -> str:
    rate = result["frames"] / result["seconds"]
    return f"{result['frames']:>9,} | {result['seconds']:7.2f} | {result['busy']:12.2f} | {rate:>10,.0f}"


if __name__ == "__main__":
    main()
