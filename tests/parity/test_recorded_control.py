"""Python's queue does what was recorded of it, and so does Rust's in its own tests.

The safety filter, which is the same for both, still does what NumPy's did when it was recorded.
"""

import json
import runpy


def test_queue_and_filter_do_what_was_recorded(golden):
    folder = golden / "control"
    recorded = json.loads((folder / "control.json").read_text())
    now = json.loads(json.dumps(runpy.run_path(str(folder / "record.py"))["record"]()))
    assert now == recorded
