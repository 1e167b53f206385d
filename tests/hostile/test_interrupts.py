"""Ctrl-C ends a long batch between two of its items, not after the last; handlers of signals may decode."""

import signal
import subprocess
import sys

import pytest

SCRIPT = """
import os, signal, threading, time
import numpy as np
from pioxide.codec import FastCodec, Pi05Prompts, TextTokenizer
from pioxide.demo import text_model_path

chunks = np.cumsum(np.random.default_rng(0).normal(0, 0.1, (12, 16, 7)), axis=1)
codec = FastCodec.fit(chunks, vocab_size=300)
prompts = Pi05Prompts(TextTokenizer.load(text_model_path()), 8)
# Distinct texts, and so many merges to find that it takes seconds.
many = np.cumsum(np.random.default_rng(1).normal(0, 0.05, (8000, 50, 14)), axis=1)
calls = {
    "fit": lambda: FastCodec.fit(many, vocab_size=8000),
    "encode": lambda: codec.encode_batch(np.broadcast_to(chunks[0], (3 * 10**6, 16, 7))),
    "decode": lambda: codec.decode_batch(
        np.zeros((3 * 10**5, 1), np.int32), horizon=256, dim=1, partial="pad"
    ),
    "prompts": lambda: prompts.encode_batch(
        (["fold"], np.zeros(3 * 10**6, np.int32)), np.zeros((3 * 10**6, 1))
    ),
}

begun = threading.Event()

def interrupt():
    begun.wait()
    time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGINT)

# A shell that starts its commands in the background has them ignore the signal.
signal.signal(signal.SIGINT, signal.default_int_handler)
threading.Thread(target=interrupt, daemon=True).start()
try:
    begun.set()
    calls[%r]()
except KeyboardInterrupt:
    print("interrupted")
else:
    print("finished")
"""


@pytest.mark.skipif(not hasattr(signal, "SIGINT") or sys.platform == "win32", reason="needs POSIX signals")
@pytest.mark.parametrize("call", ["fit", "encode", "decode", "prompts"])
def test_ctrl_c_ends_a_batch(call):
    done = subprocess.run([sys.executable, "-c", SCRIPT % call], capture_output=True, text=True)
    assert done.stdout.split() == ["interrupted"], done.stderr


HANDLED = """
import os, signal, threading, time
import numpy as np
from pioxide.codec import FastCodec

chunks = np.cumsum(np.random.default_rng(0).normal(0, 0.1, (12, 16, 7)), axis=1)
codec = FastCodec.fit(chunks, vocab_size=300)
ids = codec.encode(chunks[0]).ids
alone = codec.decode(ids, horizon=16, dim=7).actions
within = []
signal.signal(signal.SIGUSR1, lambda *_: within.append(codec.decode(ids, horizon=16, dim=7).actions))
done = threading.Event()

def knock():
    while not within and not done.wait(0.02):
        os.kill(os.getpid(), signal.SIGUSR1)

thread = threading.Thread(target=knock)
thread.start()
batch, _ = codec.decode_batch(np.zeros((3 * 10**4, 1), np.int32), horizon=256, dim=1, partial="pad")
done.set()
thread.join()
assert within, "no signal came while the batch was decoded"
assert (within[0] == alone).all() and (batch == batch[0]).all()
print("both")
"""


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="needs POSIX signals")
def test_a_signals_handler_may_decode_while_it_interrupts_decoding():
    done = subprocess.run([sys.executable, "-c", HANDLED], capture_output=True, text=True)
    assert done.stdout.split() == ["both"], done.stderr
