"""Writes what the wheel says of others' code: THIRD-PARTY.txt (licences), sbom/pioxide.cdx.json (CycloneDX).

Both list the crates that are linked into the compiled module on any platform, as Cargo.lock pins them, and
nothing else: no time, no machine's paths, so that the same source gives the same wheel.
Run from the repository's root: python tools/third_party.py (with --check: compare, write nothing).
"""

import json
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NOTICES = ROOT / "THIRD-PARTY.txt"
SBOM = ROOT / "sbom/pioxide.cdx.json"
BINDING = "pioxide-python"
# Of several licences offered, the first of these is taken; a crate that offers none of them stops the run.
TAKEN = ["MIT", "BSD-2-Clause", "BSD-3-Clause", "Zlib", "Unicode-3.0", "Apache-2.0"]
# What is linked in from the compiler's side, whatever its version. The terms follow.
STANDARD_LIBRARY = """\
The Rust standard library, and the crates it contains
MIT (offered: MIT OR Apache-2.0)

Copyright (c) The Rust Project Contributors"""


@dataclass(frozen=True)
class Crate:
    name: str
    version: str
    offered: str
    """Licences as the crate states them, an SPDX expression."""
    source: Path
    sha256: str

    @property
    def purl(self) -> str:
        return f"pkg:cargo/{self.name}@{self.version}"

    @property
    def taken(self) -> str:
        offered = {part.strip() for part in self.offered.split(" OR ")}
        for licence in TAKEN:
            if licence in offered:
                return licence
        sys.exit(f"{self.name} {self.version} offers {self.offered!r}, none of {TAKEN}: decide what is taken")

    @property
    def text(self) -> str:
        short = self.taken.split("-")[0].upper()
        for name in (f"LICENSE-{short}", f"LICENSE-{short}.md", "LICENSE", "LICENSE.md", "LICENSE.txt"):
            if (self.source / name).is_file():
                lines = (self.source / name).read_text(encoding="utf-8").splitlines()
                return "\n".join(line.rstrip() for line in lines).strip()
        sys.exit(f"{self.name} {self.version} ships no text of its licence {self.taken} that is known here")


def cargo(*arguments: str) -> str:
    done = subprocess.run(["cargo", *arguments, "--locked"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"cargo {' '.join(arguments)} failed:\n{done.stderr}")
    return done.stdout


def linked() -> tuple[list[Crate], dict[str, set[str]]]:
    """Returns the foreign crates linked into the module, and for each crate's name what it links in turn."""
    packages = json.loads(cargo("metadata", "--format-version", "1"))["packages"]
    known = {(p["name"], p["version"]): p for p in packages}
    pins = {(p["name"], p["version"]): p for p in tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]}
    tree = cargo(
        *["tree", "--package", BINDING, "--edges", "normal,no-proc-macro", "--target", "all"],
        *["--prefix", "depth", "--format", " {p}"],
    )
    crates: dict[tuple[str, str], Crate] = {}
    edges: dict[str, set[str]] = {}
    above: list[str] = []
    for line in tree.splitlines():
        depth, name, version = line.split()[:3]
        key = (name, version.removeprefix("v"))
        del above[int(depth) :]
        if above:
            edges.setdefault(above[-1], set()).add(name)
        above.append(name)
        edges.setdefault(name, set())
        if known[key]["source"] is not None and key not in crates:
            # An older way to write OR.
            offered = (known[key]["license"] or "").replace("/", " OR ").replace("  ", " ")
            manifest = Path(known[key]["manifest_path"])
            crates[key] = Crate(*key, offered, manifest.parent, pins[key]["checksum"])
    found = sorted(crates.values(), key=lambda crate: (crate.name, crate.version))
    if len({crate.name for crate in found}) != len(found):
        sys.exit("two versions of one crate are linked in: this file tells crates apart by name alone")
    return found, edges


def notices(crates: list[Crate]) -> str:
    """Returns the licences' texts, each once, under the crates that it holds for."""
    by_text: dict[str, list[Crate]] = {}
    for crate in crates:
        by_text.setdefault(crate.text, []).append(crate)
    head = (
        "pioxide is under the Apache licence 2.0 (LICENSE). Its compiled module contains the code named\n"
        "below, each under the licence that follows it. Written by tools/third_party.py."
    )
    # Some crates ship the terms without a holder's name.
    terms = next(text for text in by_text if text.startswith("Permission is hereby granted"))
    parts = [head, STANDARD_LIBRARY + "\n\n" + terms]
    for text, holders in by_text.items():
        names = [f"{c.name} {c.version}\n{c.taken} (offered: {c.offered})" for c in holders]
        parts.append("\n".join(names) + "\n\n" + text)
    return f"\n\n{'-' * 80}\n\n".join(parts) + "\n"


def bill(crates: list[Crate], edges: dict[str, set[str]]) -> str:
    """Returns the software bill of materials, CycloneDX 1.6 in JSON."""
    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    own = f"pkg:pypi/pioxide@{version}"
    refs = {crate.name: crate.purl for crate in crates}

    def foreign(name: str) -> set[str]:
        # Crates of pioxide's own are one component, the wheel.
        below = edges[name]
        return {refs[n] for n in below if n in refs}.union(*(foreign(n) for n in below if n not in refs))

    dependencies = {own: foreign(BINDING)} | {refs[name]: foreign(name) for name in refs}
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "library",
                "bom-ref": own,
                "name": "pioxide",
                "version": version,
                "purl": own,
                "licenses": [{"license": {"id": "Apache-2.0"}}],
            }
        },
        "components": [
            {
                "type": "library",
                "bom-ref": crate.purl,
                "name": crate.name,
                "version": crate.version,
                "purl": crate.purl,
                "hashes": [{"alg": "SHA-256", "content": crate.sha256}],
                "licenses": [{"expression": crate.offered}],
            }
            for crate in crates
        ],
        "dependencies": [{"ref": ref, "dependsOn": sorted(below)} for ref, below in dependencies.items()],
    }
    return json.dumps(document, indent=2) + "\n"


def main(check: bool) -> None:
    crates, edges = linked()
    for path, made in ((NOTICES, notices(crates)), (SBOM, bill(crates, edges))):
        if check:
            if not path.is_file() or path.read_text(encoding="utf-8") != made:
                sys.exit(f"{path.relative_to(ROOT)} is not what Cargo.lock says: python tools/third_party.py")
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(made, encoding="utf-8")


if __name__ == "__main__":
    main(check="--check" in sys.argv[1:])
