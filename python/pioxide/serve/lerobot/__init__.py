"""LeRobot's remote inference, protocol 1, over Zenoh: a second door to the same policy, batches and sessions.

    ZenohConfig: what a person may choose of it, `ServeConfig(zenoh=...)`
    values: bytes to messages and back
    offer: what a deployment says of itself, and LeRobot's names for a robot's numbers
    sessions: who may ask what, when
    door: Zenoh's keys, queries and presence

Needs eclipse-zenoh: `pip install "pioxide[serve,zenoh]"`. Nothing is unpickled.
"""

from pioxide.serve.lerobot.offer import ZenohConfig

__all__ = ["ZenohConfig"]
