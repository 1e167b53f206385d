"""Serves `Echo` on the port that is given, until it is killed; writes the port that it got."""

import sys

from pioxide.serve import ServeConfig
from pioxide.serve.process import run
from pioxide.serve.server import Server
from support.servers import Echo

if __name__ == "__main__":
    server = Server(Echo(), ServeConfig(port=int(sys.argv[1])))  # type: ignore[arg-type]
    run(server, lambda: print(server.port, flush=True))
