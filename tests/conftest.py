"""Fixtures for every test: where the recorded truth is, with a loud skip where its files are absent."""

import os
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

# Tests compile thousands of programs and run each a few times: optimising them would take a third of the
# time. Processes that tests start inherit this.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

# Three quarters of what compiling then takes goes into an emitter that makes fused operations fast. Later
# versions of XLA have no other, and end a process that is given a flag that they do not know.
if version("jaxlib").startswith("0.10."):
    plain = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
    os.environ["XLA_FLAGS"] = f"{plain} {os.environ.get('XLA_FLAGS', '')}".strip()

# Shapes and dtypes in the annotations of the models are checked whenever a test calls them.
install_import_hook(("pioxide.models", "pioxide.sampling"), "beartype.beartype")

ROOT = Path(__file__).resolve().parent.parent


def shared_root() -> Path | None:
    """The folder of reference material: `$PIOXIDE_SHARED`, else `shared` beside the checkout, else None."""
    candidates = [os.environ.get("PIOXIDE_SHARED"), ROOT.parent / "shared", ROOT.parent.parent / "shared"]
    return next((Path(c) for c in candidates if c and Path(c).is_dir()), None)


@pytest.fixture(scope="session", autouse=True)
def shared_programs(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Lets tests, in whichever worker they run, compile a program once in a run."""
    if "jax" in sys.modules:
        from support.programs import share_programs

        run = tmp_path_factory.getbasetemp()
        share_programs((run.parent if "PYTEST_XDIST_WORKER" in os.environ else run) / "programs")


@pytest.fixture(scope="session")
def golden() -> Path:
    """The recorded outputs that are part of the repository."""
    return ROOT / "tests" / "golden"


@pytest.fixture(scope="session")
def shared() -> Callable[[str], Path]:
    """A function from a path under the reference folder to that file; skips loudly where it is absent."""

    def find(relative: str) -> Path:
        root = shared_root()
        if root is None or not (root / relative).exists():
            pytest.skip(
                f"reference file {relative!r} is not here; set PIOXIDE_SHARED to the folder that holds it"
            )
        return root / relative

    return find
