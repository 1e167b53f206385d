"""Training batches of robot datasets, with images, in an order that depends on nothing but the seed."""

from pioxide.data.loader.batch import Batch

__all__ = ["Batch"]
