"""RLDS datasets (DROID, Open X-Embodiment) as TFDS writes them, read without TensorFlow.

`index_rlds` makes a dataset that everything here reads as LeRobot's v3.0: its numbers and instructions, and
where each picture lies in the records. Needs google-crc32c or array-record (`pip install "pioxide[rlds]"`).
"""

from pioxide.data.rlds.index import Indexed, index_rlds
from pioxide.data.rlds.layout import Leaf, RldsDirectory
from pioxide.data.rlds.mapping import MAPPINGS, RldsMapping, all_cameras

__all__ = ["MAPPINGS", "Indexed", "Leaf", "RldsDirectory", "RldsMapping", "all_cameras", "index_rlds"]
