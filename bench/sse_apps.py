"""The servers that bench/sse.py compares: the same frames by each way of sending them."""

import asyncio
from collections.abc import AsyncGenerator

import orjson
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from cadenza.calendar.frames import frame
from cadenza.web.handover import Handover
from cadenza.web.sse import Ending, SseHub, SseStream
from cadenza.web.sse_wire import HEADERS, HEARTBEAT, StreamLimits

EVENTS = 30
HEARTBEAT_S = 1.0
_ENTRY = {
    "id": "0192f3c4-7e1b-7c3a-9f00-000000000000",
    "title": "Behind the scenes of the workshop, in one day",
    "copy": "From the first sketch to the last polish, and what went wrong between them. " * 5,
    "hashtags": ["craft", "smallbusiness", "makers"],
    "date": "2026-12-01",
    "time": "09:00",
    "timezone": "Europe/Madrid",
}
FRAMES = [
    frame("entry", orjson.dumps({"index": n, "entry": _ENTRY}), event_id=f"1.{n}")
    for n in range(EVENTS)
]
_HEADERS = {name.decode(): value.decode() for name, value in HEADERS}


async def raw(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the least there is between an application and the server: the baseline."""
    if scope["type"] != "http":
        return await _lifespan(receive, send)
    await send({"type": "http.response.start", "status": 200, "headers": list(HEADERS)})
    for data in FRAMES[:-1]:
        await send({"type": "http.response.body", "body": data, "more_body": True})
    return await send({"type": "http.response.body", "body": FRAMES[-1], "more_body": False})


async def _lifespan(receive: Receive, send: Send) -> None:
    for _ in range(2):
        message = await receive()
        await send({"type": f"{message['type']}.complete"})


class _Produced(SseStream):
    """Our responder with a producer that begins once the stream is open, one push a frame."""

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        asyncio.get_running_loop().call_soon(self._produce)
        await super().serve(scope, receive, send)

    def _produce(self) -> None:
        for data in FRAMES[:-1]:
            self.push(data)
        self.finish(FRAMES[-1], 1)


def _ended(_how: Ending, _frames: int) -> None:
    """Take no note."""


_hub = SseHub(StreamLimits(heartbeat_s=HEARTBEAT_S))
_background: list[object] = []


def _open_stream() -> SseStream:
    """Return an idle stream; the first one starts the ticker."""
    if not _background:
        _background.append(asyncio.ensure_future(_tick()))
    return SseStream(_hub, _ended)


async def _tick() -> None:
    async with _hub.ticking():
        await asyncio.get_running_loop().create_future()


async def ours(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve our responder without any framework."""
    if scope["type"] != "http":
        return await _lifespan(receive, send)
    stream = _open_stream() if scope["path"] == "/idle" else _Produced(_hub, _ended)
    return await stream(scope, receive, send)


_fastapi = FastAPI(telemetry={"tracing": False, "metrics": False, "logs": False})
ours_fastapi_inside = _fastapi
ours_fastapi = Handover(_fastapi)


@_fastapi.get("/events", response_model=None)
async def fastapi_events() -> SseStream:
    return _Produced(_hub, _ended)


@_fastapi.get("/idle", response_model=None)
async def fastapi_idle() -> SseStream:
    return _open_stream()


async def _frames() -> AsyncGenerator[bytes]:
    for data in FRAMES:
        yield data


async def _heartbeats() -> AsyncGenerator[bytes]:
    while True:
        await asyncio.sleep(HEARTBEAT_S)
        yield HEARTBEAT


async def _starlette_events(_: Request) -> StreamingResponse:
    return StreamingResponse(_frames(), headers=_HEADERS)


async def _starlette_idle(_: Request) -> StreamingResponse:
    return StreamingResponse(_heartbeats(), headers=_HEADERS)


starlette = Starlette(routes=[Route("/events", _starlette_events), Route("/idle", _starlette_idle)])
