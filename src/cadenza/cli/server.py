"""Our own uvicorn server: it drains first, then stops, and a clean stop ends with exit code 0.

Uvicorn itself stops at once on a signal, and then raises the signal again (exit code 143).
"""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Awaitable, Callable, Generator
from contextlib import closing
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from cadenza.errors import Unavailable

BACKLOG: Final = 8192
LAST_ANSWERS_S: Final = 2
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class DrainingServer(uvicorn.Server):
    """Serves until the first signal, which drains; the second one ends it at once.

    `ready` is called when connections are accepted. `drain` may take `drain_s`.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        drain: Callable[[], Awaitable[None]],
        drain_s: float,
        ready: Callable[[], None],
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http="httptools",
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                backlog=BACKLOG,
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=LAST_ANSWERS_S,
            )
        )
        self._drain, self._drain_s, self._ready = drain, drain_s, ready
        self._leaving: asyncio.Task[None] | None = None
        self._hurried = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept, and say so."""
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close connections, and the application too when in a hurry, which uvicorn would not."""
        await super().shutdown(sockets)
        if self.force_exit:
            await self.lifespan.shutdown()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Take the signals for as long as the server serves."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self.leave)
        try:
            yield
        finally:
            for number in _SIGNALS:
                loop.remove_signal_handler(number)

    def leave(self) -> None:
        """Drain and stop; called again, stop at once."""
        if self._leaving is None:
            self._leaving = asyncio.get_running_loop().create_task(self._leave())
        else:
            self._hurried.set()

    async def _leave(self) -> None:
        """Give the drain its time; even a hurried one begins, so that streams are told."""
        draining = asyncio.ensure_future(self._drain())
        hurry = asyncio.ensure_future(self._hurried.wait())
        either = asyncio.FIRST_COMPLETED
        await asyncio.wait({draining, hurry}, timeout=self._drain_s, return_when=either)
        for task in (draining, hurry):
            task.cancel()
        await asyncio.gather(draining, hurry, return_exceptions=True)
        self.force_exit = self._hurried.is_set()
        self.should_exit = True


@contextlib.contextmanager
def listening(host: str, port: int) -> Generator[socket.socket]:
    """Take the address before anything else is started; Unavailable when it cannot be had."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise Unavailable(
            f"{host} is no address to listen on ({error}): see CADENZA_HOST"
        ) from None
    with closing(listener):
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
        except OSError as error:
            raise Unavailable(
                f"{host}:{port} cannot be listened on ({error.strerror}): is something running "
                f"there? CADENZA_PORT={port + 1} takes another port"
            ) from None
        yield listener


def url_of(host: str, port: int) -> str:
    """Return how this machine reaches a server that listens there."""
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # asked, not bound
    return f"http://[{reached}]:{port}" if ":" in reached else f"http://{reached}:{port}"
