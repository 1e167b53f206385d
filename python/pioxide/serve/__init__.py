"""A policy behind a network: the server that many robots ask, and the clients that ask it.

A robot's side, which needs NumPy, msgpack and websockets:
    Client, AsyncClient, RemoteWorker, ClientConfig, RemoteAnswer

The server's, with a `pioxide.policy.Policy`:
    pioxide.serve.server.Server, ServeConfig, BatchConfig, WireLimits
"""

from pioxide.serve.batcher import BatchConfig
from pioxide.serve.client import AsyncClient, Client, RemoteWorker
from pioxide.serve.config import ServeConfig
from pioxide.serve.conversation import ClientConfig, RemoteAnswer, jpeg_error
from pioxide.serve.wire import Dialect, WireLimits

__all__ = [
    "AsyncClient",
    "BatchConfig",
    "Client",
    "ClientConfig",
    "Dialect",
    "RemoteAnswer",
    "RemoteWorker",
    "ServeConfig",
    "WireLimits",
    "jpeg_error",
]
