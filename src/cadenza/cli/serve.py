"""Serve one instance with complete settings, on a socket that is already listening."""

import asyncio
import socket
from collections.abc import Callable
from functools import partial

import uvloop
from pydantic import SecretStr

from cadenza.cli.server import DrainingServer
from cadenza.db.pool import Database
from cadenza.errors import DatabaseUnavailable
from cadenza.flags.store import ensure_first_values
from cadenza.runtime import open_runtime
from cadenza.settings import Profile, Settings
from cadenza.web import app as web

_FIRST_VALUES_S = 5.0


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


async def first_values(dsn: SecretStr | None, *, development: bool) -> list[str] | None:
    """Add the flags that the database does not have yet; None when it cannot be reached now."""
    if dsn is None:
        return None
    database = Database(dsn.get_secret_value())
    await database.open()
    try:
        return await database.as_ops(
            lambda conn: ensure_first_values(conn, development=development),
            budget_s=_FIRST_VALUES_S,
        )
    except DatabaseUnavailable:
        return None
    finally:
        await database.close()
