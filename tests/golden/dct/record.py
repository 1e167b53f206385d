"""Records what scipy's DCT gives, to the bit: a hash of the output for each horizon, precision and direction.

Run as `python tests/golden/dct/record.py` with scipy <= 1.17 (later ones use another FFT);
rust/core/src/dct/tests.rs draws the same inputs and compares.
"""

from pathlib import Path

import numpy as np
import scipy
from scipy.fft import dct, idct

DIM = 9  # one more than a register's columns
# Primes from 191 on go through another algorithm there, see rust/core/src/dct.rs.
HORIZONS = [*range(1, 191), 192, 196, 200, 210, 243, 250, 256, 300, 343, 500, 512, 1000, 1024]


def draw(horizon: int) -> np.ndarray:
    """Values of a 32-bit congruential generator in [-1, 1); every third column is 0 or 1, as a gripper is."""
    state, out = horizon, np.empty(horizon * DIM)
    for i in range(out.size):
        state = (state * 1664525 + 1013904223) % 2**32
        out[i] = (state >> 31) if i % DIM % 3 == 2 else ((state >> 8) - 2**23) / 2**23
    return out.reshape(horizon, DIM)


def fnv1a(data: bytes) -> int:
    """64-bit FNV-1a."""
    digest = 0xCBF29CE484222325
    for byte in data:
        digest = (digest ^ byte) * 0x100000001B3 % 2**64
    return digest


def main() -> None:
    """Writes hashes.txt: horizon, then float32 forward and inverse, float64 forward and inverse."""
    lines = [f"# scipy {scipy.__version__}: horizon, f32 forward, f32 inverse, f64 forward, f64 inverse"]
    for horizon in HORIZONS:
        values = draw(horizon)
        digests = [
            fnv1a(transform(values.astype(dtype), axis=0, norm="ortho").tobytes())
            for dtype in ("<f4", "<f8")
            for transform in (dct, idct)
        ]
        lines.append(" ".join([str(horizon), *(f"{digest:016x}" for digest in digests)]))
    (Path(__file__).parent / "hashes.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
