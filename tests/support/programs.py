"""One folder of compiled programs for all workers of a test run, which compile many of the same."""

import os
import threading
from pathlib import Path

import jax
from jax._src.lru_cache import LRUCache

from pioxide.engine.program import keep_programs


def share_programs(directory: Path) -> None:
    """Makes JAX look for programs in a folder before it compiles, unless it looks in one already."""
    LRUCache.put = put
    if jax.config.jax_compilation_cache_dir is None:
        keep_programs(directory)


def put(cache: LRUCache, key: str, program: bytes) -> None:
    """Writes an entry whole: JAX's own writing can be seen half done by another worker, which warns."""
    entry = Path(str(cache.path), f"{key}-cache")
    if not entry.exists():
        part = entry.with_name(f"{key}-{os.getpid()}-{threading.get_ident()}")
        part.write_bytes(program)
        part.replace(entry)
