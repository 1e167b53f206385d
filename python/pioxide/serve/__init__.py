"""A policy behind a network: the server that many robots ask, and the clients that ask it.

A robot's side, which needs NumPy, msgpack and websockets:
    Client, ClientConfig, RemoteAnswer

The server's, with a `pioxide.policy.Policy`:
    pioxide.serve.server.Server, ServeConfig, BatchConfig, WireLimits
"""

from pioxide.serve.batcher import BatchConfig
from pioxide.serve.client import Client, ClientConfig, RemoteAnswer, jpeg_error
from pioxide.serve.config import ServeConfig
from pioxide.serve.wire import Dialect, WireLimits

__all__ = [
    "BatchConfig",
    "Client",
    "ClientConfig",
    "Dialect",
    "RemoteAnswer",
    "ServeConfig",
    "WireLimits",
    "jpeg_error",
]
