"""`pioxide.control` does what was recorded of it for the Rust half, which is held to the same file."""

import json
import runpy


def test_queue_and_filter_do_what_was_recorded(golden):
    folder = golden / "control"
    recorded = json.loads((folder / "control.json").read_text())
    now = json.loads(json.dumps(runpy.run_path(str(folder / "record.py"))["record"]()))
    assert now == recorded
