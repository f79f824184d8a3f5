"""A TCP proxy that can be told to misbehave, to stand between the product and its database.

The faults are those that a network has: a server that is gone, one that resets, one that has
fallen silent behind a healthy connection (the worst: nobody is told), and a slow one.
"""

import asyncio
import socket
import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from enum import StrEnum

_CHUNK = 65_536
_RESET = struct.pack("ii", 1, 0)  # linger for 0 s: closing sends RST instead of FIN


class Mode(StrEnum):
    """What the proxy does to connections, those that are open and those that come."""

    PASS = "pass"  # noqa: S105  # no password
    REFUSE = "refuse"
    RESET = "reset"
    BLACKHOLE = "blackhole"
    SLOW = "slow"


class Proxy:
    """Passes bytes between clients and one server, as its mode says; made by `proxied`."""

    def __init__(self, host: str, port: int, *, slow_s: float) -> None:
        self._upstream, self._slow_s = (host, port), slow_s
        self._passing = asyncio.Event()
        self._passing.set()
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.mode = Mode.PASS
        self.port = 0

    async def become(self, mode: Mode) -> None:
        """Change the mode, at once and for every connection.

        What a black hole swallowed is not lost: it arrives when the proxy passes again, as after
        a healed network, even if whoever sent it has given up. `refuse` and `reset` end the open
        connections; `reset` goes on to reset each new one.
        """
        self.mode = mode
        if mode is Mode.BLACKHOLE:
            self._passing.clear()
            return
        if mode in {Mode.REFUSE, Mode.RESET}:
            self._hang_up()
        self._passing.set()
        if mode is Mode.REFUSE:
            await self._close()
        elif self._server is None:
            await self.listen()

    async def listen(self) -> None:
        """Take connections on 127.0.0.1: on a free port, later on the same one again."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def end(self) -> None:
        """Take no more connections and end those that are open."""
        self._hang_up()
        await self._close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _close(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()

    def _hang_up(self) -> None:
        for writer in tuple(self._open):
            _reset(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if self.mode is Mode.RESET:
            _reset(writer)
            return
        self._open.add(writer)
        with suppress(OSError, asyncio.CancelledError):  # cancelled by `end` only
            await self._passing.wait()
            await self._join(reader, writer)
        self._open.discard(writer)
        writer.close()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(*self._upstream)
        self._open.add(back)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(reader, back))
                both.create_task(self._pump(there, writer))
        finally:
            self._open.discard(back)
            back.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(_CHUNK):
                if self.mode is Mode.SLOW:
                    await asyncio.sleep(self._slow_s)
                await self._passing.wait()
                writer.write(data)
                await writer.drain()
        await self._passing.wait()
        writer.close()


@asynccontextmanager
async def proxied(host: str, port: int, *, slow_s: float = 0.05) -> AsyncGenerator[Proxy]:
    """Run a proxy to that server while the block runs; a slow one waits `slow_s` per piece."""
    proxy = Proxy(host, port, slow_s=slow_s)
    await proxy.listen()
    try:
        yield proxy
    finally:
        await proxy.end()


def _reset(writer: asyncio.StreamWriter) -> None:
    connection: socket.socket | None = writer.get_extra_info("socket")
    if connection is not None and connection.fileno() >= 0:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
