"""The π family of robot policies, with everything around the network that is text, tokens or bytes in Rust.

Importing this costs NumPy alone; rooms that need JAX, pyarrow or matplotlib are imported where they are
used.
"""

__version__ = "0.1.0"
