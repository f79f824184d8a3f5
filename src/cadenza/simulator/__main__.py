"""The simulator as a program: `python -m cadenza.simulator --port 8090`.

It says one JSON line when it serves, and ends on SIGTERM or SIGINT.
"""

import argparse
import asyncio
import ctypes
import os
import signal
import sys

import orjson

from cadenza.simulator.serve import running

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(prog="cadenza.simulator", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument(
        "--die-with-parent", action="store_true", help="end when the parent does (Linux)"
    )
    told = parser.parse_args()
    if told.die_with_parent:
        _die_with_parent()
    asyncio.run(_serve(told.host, told.port))


async def _serve(host: str, port: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with running(host, port) as url:
        ready = {"event": "ready", "url": url, "baseUrl": f"{url}/v1", "pid": os.getpid()}
        sys.stdout.buffer.write(orjson.dumps(ready) + b"\n")
        sys.stdout.flush()
        await stop.wait()


def _die_with_parent() -> None:
    """Ask the kernel for SIGTERM at the parent's death; a parent already gone counts as dead."""
    if sys.platform != "linux":
        return
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(0)


if __name__ == "__main__":
    main()
