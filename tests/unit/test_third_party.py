"""What the wheel says of others' code is what Cargo.lock says."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(not shutil.which("cargo"), reason="needs cargo, which is not here")
def test_licences_and_bill_of_materials_are_those_of_the_locked_crates():
    done = subprocess.run(
        [sys.executable, ROOT / "tools/third_party.py", "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
