"""Uses a wheel as a person would who has no Rust: python .ci/wheel_use.py WHEEL.

Installs it into an empty environment; runs the codec with NumPy alone, then `pioxide demo` with its extras.
"""

import os
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path

CODEC = """
import sys, sysconfig
import numpy as np
from pioxide.codec import FastCodec

assert not {"jax", "pyarrow", "matplotlib", "tyro"} & set(sys.modules), "the codec must need NumPy alone"
if sysconfig.get_config_var("Py_GIL_DISABLED"):
    assert not sys._is_gil_enabled(), "importing pioxide brought the GIL back"
chunks = np.cumsum(np.random.default_rng(0).normal(0, 0.1, (64, 16, 7)), axis=1)
FastCodec.fit(chunks, vocab_size=512).save("fast")
codec = FastCodec.load("fast")
ids = codec.encode(chunks[0]).ids
decoded = codec.decode(ids, horizon=16, dim=7)
assert np.abs(decoded.actions - chunks[0]).max() < 0.5
print(f"wheel: fitted, encoded {chunks[0].shape} to {len(ids)} tokens and decoded it in an empty environment")
"""


def use(wheel: Path, place: Path) -> None:
    """Raises CalledProcessError where the wheel can't be installed or used."""
    venv.create(place / "empty", with_pip=True)
    scripts = Path(sysconfig.get_path("scripts", "venv", {"base": str(place / "empty")}))
    # Of the machine's tools, the system's alone: on Linux and macOS Rust is not among them.
    path = [str(scripts), *(["/usr/bin", "/bin"] if os.name == "posix" else [os.environ["PATH"]])]
    environment = {**os.environ, "PATH": os.pathsep.join(path), "PYTHONUTF8": "1"}

    def run(*command: str | Path) -> str:
        parts = [str(part) for part in command]
        done = subprocess.run(parts, cwd=place, env=environment, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            print(done.stdout)
        done.check_returncode()
        return done.stdout

    install = [scripts / "python", "-m", "pip", "install", "--quiet", "--only-binary", ":all:"]
    run(*install, wheel)
    beside = run(scripts / "python", "-m", "pip", "list", "--format=freeze").split()
    print("in the empty environment:", *beside)
    print(run(scripts / "python", "-c", CODEC).strip())
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        print("SKIPPED: not everything that the demo needs has a wheel for free-threaded Python")
        return
    run(*install, f"{wheel}[data,report]")
    last = run(scripts / "pioxide", "demo").strip().splitlines()[-1]
    assert (place / "pioxide-demo/report.html").stat().st_size > 0
    print("wheel: pioxide demo ran to its last line:", last)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        use(Path(sys.argv[1]).resolve(), Path(scratch))
