"""Serve one application on a socket that the harness has opened: `bench.serve module:name fd`."""

import importlib
import socket
import sys

import uvicorn
from bench.harness import allow_many_files


def main() -> None:
    """Serve until killed, as the product is served: uvloop, httptools, no access log."""
    allow_many_files()
    module, _, name = sys.argv[1].partition(":")
    app = getattr(importlib.import_module(module), name)
    config = uvicorn.Config(
        app, loop="uvloop", http="httptools", log_config=None, access_log=False, backlog=8192
    )
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=int(sys.argv[2]))])


if __name__ == "__main__":
    main()
