"""Serve one instance with complete settings, on a socket that is already listening."""

import asyncio
import socket
from collections.abc import Callable
from functools import partial

import uvloop

from cadenza.cli.first_values import first_values
from cadenza.cli.server import DrainingServer
from cadenza.runtime import open_runtime
from cadenza.settings import Profile, Settings
from cadenza.web import app as web


def serve(settings: Settings, listener: socket.socket, *, ready: Callable[[], None]) -> None:
    """Serve until a signal has drained this instance; `ready` is called when it answers."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, listener, ready))


async def _serve(settings: Settings, listener: socket.socket, ready: Callable[[], None]) -> None:
    await first_values(settings.database_url, development=settings.env is Profile.DEVELOPMENT)
    async with open_runtime(settings) as runtime:
        app = web.create_app(runtime)
        server = DrainingServer(
            web.serve(app),
            drain=partial(web.drain, app),
            drain_s=settings.drain_s,
            ready=ready,
        )
        await server.serve([listener])
