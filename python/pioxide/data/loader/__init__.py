"""Training batches of robot datasets, with images, in an order that depends on nothing but the seed.

Needs PyAV, Pillow and grain (`pip install "pioxide[train]"`).
"""

from pioxide.data.loader.batch import Batch
from pioxide.data.loader.cache import CacheSettings
from pioxide.data.loader.loader import Loader, LoaderSettings
from pioxide.data.loader.source import Source, TokenRows

__all__ = ["Batch", "CacheSettings", "Loader", "LoaderSettings", "Source", "TokenRows"]
