"""`pioxide.contract` does what was recorded of it for the Rust half, which is held to the same file."""

import json
import runpy

import pytest


def flat(value):
    """Returns texts and numbers in their order."""
    if isinstance(value, dict):
        return [one for key in value for one in (key, *flat(value[key]))]
    return [one for item in value for one in flat(item)] if isinstance(value, list) else [value]


def test_contracts_do_what_was_recorded(golden):
    folder = golden / "contract"
    recorded = json.loads((folder / "contract.json").read_text())
    now = json.loads(json.dumps(runpy.run_path(str(folder / "record.py"))["record"]()))
    # Which bits NumPy's arc sine of ALOHA's gripper ends in is the processor's choice.
    for cases in (recorded["cases"], now["cases"]):
        aloha = next(case for case in cases if "ALOHA" in case["name"])
        aloha["numbers"] = [
            pytest.approx(one, rel=1e-13) if isinstance(one, float) and cases is recorded["cases"] else one
            for one in flat(aloha["numbers"])
        ]
    assert now == recorded
