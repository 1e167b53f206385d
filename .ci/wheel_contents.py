"""Looks into a wheel: licences and bill of materials are there, and nothing of the machine that built it.

Run by .ci/wheel-check and the release workflow: python .ci/wheel_contents.py WHEEL...
"""

import json
import re
import sys
import zipfile
from pathlib import Path

# Where homes, checkouts and package caches lie on the machines that build wheels.
FOREIGN = re.compile(rb"(?:/root/|/home/|/Users/|/tmp/|/work/|[A-Z]:\\Users\\|[A-Z]:\\a\\)[\x20-\x7e]*")
# Bytes of a wheel: 30 % above what it was when this was written.
LARGEST = 2_700_000


def look(path: Path) -> None:
    """Raises AssertionError where the wheel at `path` lacks something, or carries what it may not."""
    with zipfile.ZipFile(path) as wheel:
        files = {name: wheel.read(name) for name in wheel.namelist()}
    info = next(name.split("/")[0] for name in files if name.endswith(".dist-info/METADATA"))
    bill = f"{info}/sboms/pioxide.cdx.json"
    wanted = [f"{info}/licenses/LICENSE", f"{info}/licenses/THIRD-PARTY.txt", bill]
    missing = [name for name in [*wanted, "pioxide/py.typed", "pioxide/_core.pyi"] if name not in files]
    assert not missing, f"{path.name} lacks {missing}"
    version = path.name.split("-")[1]
    billed = json.loads(files[bill])["metadata"]["component"]["version"]
    assert billed == version, f"{path.name}: its bill of materials is for {billed}"
    modules = [name for name in files if name.startswith("pioxide/_core.") and not name.endswith(".pyi")]
    assert len(modules) == 1, f"{path.name} has the compiled modules {modules}, expected one"
    for name, data in files.items():
        found = FOREIGN.search(data) if name == modules[0] or name.startswith(info) else None
        assert not found, f"{path.name}: {name} names a path of the machine that built it: {found[0][:100]!r}"
        assert "test" not in name.split("/")[:2], f"{path.name} ships tests: {name}"
    size = path.stat().st_size
    assert size < LARGEST, f"{path.name} has {size} bytes, more than {LARGEST}"
    print(
        f"{path.name}: {size / 1e6:.1f} MB, {len(files)} files, licences, bill of materials, no foreign path"
    )


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        look(Path(argument))
