"""Serve the simulator: on a port of one's own, able to reset a connection in mid-stream."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from typing import cast

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from cadenza.simulator.ai import ai_routes
from cadenza.simulator.state import AiState

_RESET = struct.pack("ii", 1, 0)  # linger for 0 s: closing sends RST instead of FIN
_BACKLOG = 2048


class _Resettable(HttpToolsProtocol):
    """Lets the application reset the connection that its request came on."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        cast("dict[str, object]", self.scope)["cadenza.cut"] = self._reset

    def _reset(self) -> None:
        connection = self.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()


class _Server(uvicorn.Server):
    """Leaves signals to whoever runs it, and says when it is up."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_up.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


@asynccontextmanager
async def running(host: str = "127.0.0.1", port: int = 0) -> AsyncGenerator[str]:
    """Serve a simulator of its own while the block runs, and give its URL, without a path.

    Port 0 takes a free one. Answers still going get a second more when the block ends. Raises
    OSError when the address is taken.
    """
    app = Starlette(routes=ai_routes(AiState()))
    with _listening(host, port) as listener:
        server = _Server(
            uvicorn.Config(
                app,
                http=_Resettable,
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="error",
                access_log=False,
                timeout_graceful_shutdown=1,
            )
        )
        serving = asyncio.create_task(server.serve([listener]))
        try:
            await server.is_up.wait()
            yield f"http://{host}:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener
