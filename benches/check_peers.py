"""`pioxide check` beside its peers lerobot-doctor, -lint and -quality-gates, on stand-ins with a fault each.

A tool has found a fault where it says something, at the level of a warning or above, that it does not say of
the same stand-in without the fault; numbers in its sentences don't count. Each stand-in is given in v2.1 and,
where the fault can be planted there, in v3.0; one of the two is enough. Every tool runs in its own
environment, in one process for all stand-ins, and the time is that of its checks alone.

    python benches/check_peers.py --doctor PYTHON --lint PYTHON --gates PYTHON [--dataset DIR]

Each PYTHON is the interpreter of an environment in which the peer is installed.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import timing  # noqa: F401
from material import ROOT  # noqa: F401  (tests/ can be imported from here on)
from pioxide.data import CheckSettings
from pioxide.data.survey import check_one
from support.planted import FAULTS, arrays, filmed, video_faults, write

# What each peer runs: reads paths, prints a JSON line of [path, seconds, what it says] for each.
RUN = """
import io, contextlib, json, sys, time, warnings
warnings.simplefilter("ignore")
{setup}
def say(path):
{body}
for path in sys.stdin.read().splitlines():
    start = time.perf_counter()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            said = say(path)
    except BaseException as error:
        said = [f"stopped: {{type(error).__name__}}"]
    print(json.dumps([path, time.perf_counter() - start, said]), flush=True)
"""
PEERS = {
    "doctor": (
        "from lerobot_doctor.dataset_loader import load_dataset\n"
        "from lerobot_doctor.runner import run_checks",
        "    data = load_dataset(path)\n"
        "    if data.info is None: return [str(data.info_error)]\n"
        "    results = run_checks(data).results\n"
        "    return [m.message for r in results for m in r.messages if m.severity.value != 'PASS']",
    ),
    "lint": (
        "from lerobot_lint.engine import check_dataset\nfrom lerobot_lint.config import load_profile",
        "    found = check_dataset(path, load_profile('default'), download_videos=True)\n"
        "    return [f'{f.check} {f.message}' for f in found if f.severity != 'info']",
    ),
    "gates": (
        "from lerobot_quality_gates.report import run_quality_gates",
        "    found = run_quality_gates(path).findings\n"
        "    return [f'{f.path} {f.message}' for f in found if f.severity != 'low']",
    ),
}
Said = dict[str, tuple[float, list[str]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in PEERS:
        parser.add_argument(f"--{name}", metavar="PYTHON", help=f"interpreter that has lerobot-{name}")
    parser.add_argument("--dataset", action="append", default=[], help="a real dataset to time besides")
    parser.add_argument("--markdown", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        stand_ins = plant(Path(folder))
        paths = [str(path) for formats in stand_ins.values() for path in formats] + args.dataset
        said = {"pioxide": ours(paths)}
        for name, (setup, body) in PEERS.items():
            if python := getattr(args, name):
                said[name] = theirs(python, RUN.format(setup=setup, body=body), paths)
        text = table(stand_ins, said) + times(stand_ins, said, args.dataset)
    print(text)
    if args.markdown:
        args.markdown.write_text(text)


def plant(folder: Path) -> dict[str, list[Path]]:
    """Every stand-in by the name of its fault, in each format in which it can be made."""
    found: dict[str, list[Path]] = {
        "": [write(folder / "well-v21", arrays()), write(folder / "well-v3", arrays(), v3=True)],
        "video": [filmed(lambda root: None)(folder / "well-video-v21")],
    }
    for number, (name, fault) in enumerate(FAULTS.items()):
        found[name] = []
        for version, options in (("v21", {}), ("v3", {"v3": True})):
            path = folder / f"{number}-{version}"
            try:
                found[name].append(fault.make(path, **options))
            except (OSError, TypeError):  # v3.0 lacks the file that is to be spoiled
                continue
    for number, (name, fault) in enumerate(video_faults().items()):
        found[name] = [fault.make(folder / f"{number}-video-v21")]
    return found


def ours(paths: list[str]) -> Said:
    said = {}
    for path in paths:
        start = time.perf_counter()
        checked = check_one(Path(path), CheckSettings())
        seconds = time.perf_counter() - start
        said[path] = seconds, [f"{f.code.value} {f.message}" for f in checked.findings]
    return said


def theirs(python: str, script: str, paths: list[str]) -> Said:
    run = subprocess.run(
        [python, "-c", script], input="\n".join(paths), capture_output=True, text=True, check=False
    )
    said = {}
    for line in run.stdout.splitlines():
        if line.startswith("["):
            path, seconds, what = json.loads(line)
            said[path] = seconds, what
    if missing := len(paths) - len(said):
        print(f"{python}: {missing} without an answer: {run.stderr[-400:]}", file=sys.stderr)
    return said


def finds(said: Said, path: Path, well: Path) -> bool | None:
    """Whether it says more than of the one that is well; None where it can't read that one."""
    if any("stopped:" in line for line in said.get(str(well), (0, ["stopped:"]))[1]):
        return None
    usual = {_plain(line, well) for line in said[str(well)][1]}
    return any(_plain(line, path) not in usual for line in said.get(str(path), (0, []))[1])


def _plain(line: str, path: Path) -> str:
    return re.sub(r"[\d.,%-]+", "#", line.replace(str(path), ""))


def table(stand_ins: dict[str, list[Path]], said: dict[str, Said]) -> str:
    names = list(said)
    rows, found = [], dict.fromkeys(names, 0)
    faults = [name for name in stand_ins if name not in ("", "video")]
    for fault in faults:
        cells = []
        for name in names:
            answers = []
            for path in stand_ins[fault]:
                kind = "video" if "-video-" in path.name else ""
                well = stand_ins[kind][-1 if path.name.endswith("v3") else 0]
                answers.append(finds(said[name], path, well))
            hit = any(answers)
            found[name] += hit
            cells.append("yes" if hit else "can't read it" if all(a is None for a in answers) else "")
        rows.append(f"| {fault} | {' | '.join(cells)} |")
    head = f"| fault | {' | '.join(names)} |\n|---|{'---|' * len(names)}\n"
    counts = f"| of {len(faults)} | {' | '.join(str(found[name]) for name in names)} |"
    return head + "\n".join([*rows, counts]) + "\n"


def times(stand_ins: dict[str, list[Path]], said: dict[str, Said], datasets: list[str]) -> str:
    lines = ["", f"| | {' | '.join(said)} |", "|---|" + "---|" * len(said)]
    every = [str(path) for formats in stand_ins.values() for path in formats]
    read = [
        [of[p][0] for p in every if p in of and not any("stopped:" in line for line in of[p][1])]
        for of in said.values()
    ]
    medians = [statistics.median(seconds) for seconds in read]
    lines.append(f"| a stand-in that it reads, median | {' | '.join(f'{1e3 * m:.0f} ms' for m in medians)} |")
    for dataset in datasets:
        cells = []
        for of in said.values():
            seconds, what = of.get(dataset, (0.0, ["stopped:"]))
            stopped = any("stopped:" in line for line in what)
            cells.append("can't read it" if stopped else f"{1e3 * seconds:.0f} ms, {len(what)} findings")
        lines.append(f"| {Path(dataset).name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
