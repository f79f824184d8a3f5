"""Server-sent events as one response: no task per stream, one heartbeat ticker for all of them.

Frames are encoded once, by whoever stores them, and written by whoever pushes them. The request's
own task only waits for the client to leave. That works because a server's `send` finishes at once
unless the client does not read: so a write is begun in place, and only if it has to wait is the
rest of it handed to a helper task (`begin`). While a stream has a helper it is slow: frames queue
up to a bound, heartbeats skip it, and past the bound it is closed and the client resumes.

A write may begin in another task than the request's. Layers around `send` must not use context
variables, timeouts or cancel scopes for body messages; plain closures are fine.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from enum import StrEnum
from typing import Any, Self

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from cadenza.calendar.frames import frame
from cadenza.web.handover import HANDOVER
from cadenza.web.sse_wire import HEADERS, HEARTBEAT, StreamLimits, Waiting, begin, body

_BEATS_PER_TURN = 256


class Ending(StrEnum):
    """How a stream ended."""

    TERMINAL = "terminal"
    CLIENT_LEFT = "client_left"
    CLIENT_SLOW = "client_slow"
    DRAINED = "drained"
    FAILED = "failed"


OnEnd = Callable[[Ending, int], None]


class SseHub:
    """The open streams of this process and the one ticker for all of them."""

    def __init__(
        self,
        limits: StreamLimits | None = None,
        *,
        jitter: Callable[[int, int], int] = random.randint,  # noqa: S311  spreads, keeps no secret
    ) -> None:
        self.limits = limits or StreamLimits()
        self._jitter = jitter
        self._streams: set[SseStream] = set()
        self._retry_ms: tuple[int, int] | None = None

    @asynccontextmanager
    async def ticking(self) -> AsyncGenerator[Self]:
        """Send heartbeats for as long as the block lasts."""
        ticker = asyncio.create_task(self._tick(), name="sse-heartbeats")
        try:
            yield self
        finally:
            ticker.cancel()

    @property
    def open(self) -> int:
        """Return how many streams are being served."""
        return len(self._streams)

    @property
    def slow(self) -> int:
        """Return how many of them wait for a client that does not read."""
        return sum(stream.is_slow for stream in self._streams)

    @property
    def is_draining(self) -> bool:
        """Say whether clients are being sent elsewhere."""
        return self._retry_ms is not None

    def drain(self, retry_ms: tuple[int, int] = (1_000, 5_000)) -> None:
        """Tell every stream, and every later one, to reconnect after a random pause, and close it.

        Returns at once; `open` is 0 when the last client has been told or has left.
        """
        self._retry_ms = retry_ms
        for stream in tuple(self._streams):
            self._send_away(stream, retry_ms)

    async def beat(self) -> None:
        """Write one heartbeat to every stream whose client reads."""
        for position, stream in enumerate(tuple(self._streams), start=1):
            stream.beat()
            if position % _BEATS_PER_TURN == 0:
                await asyncio.sleep(0)  # thousands of streams must not hold up the loop

    def admit(self, stream: "SseStream") -> None:
        """Take up a stream that starts; while draining it is sent away after its backlog."""
        self._streams.add(stream)
        if self._retry_ms is not None:
            self._send_away(stream, self._retry_ms)

    def forget(self, stream: "SseStream") -> None:
        """Let go of a stream that ended."""
        self._streams.discard(stream)

    def _send_away(self, stream: "SseStream", retry_ms: tuple[int, int]) -> None:
        goodbye = frame(None, None, retry_ms=self._jitter(*retry_ms))
        stream.finish(goodbye, 0, how=Ending.DRAINED)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(self.limits.heartbeat_s)
            await self.beat()


class SseStream(Response):
    """One client's stream, returned from a route; frames pushed before it starts are its backlog.

    `on_end(how, frames)` is called exactly once, in the request's task, with the frames that the
    server accepted. A route that raises after making a stream must `abandon` it.
    """

    def __init__(self, hub: SseHub, on_end: OnEnd) -> None:
        # Not the parent's: it would announce a length.
        self.status_code = 200
        self.background = None
        self.raw_headers = list(HEADERS)
        self._hub = hub
        self._on_end = on_end
        self._send: Send | None = None  # while a write may begin at once
        self._parked: asyncio.Task[Any] | None = None
        self._helper: asyncio.Task[None] | None = None
        self._waiting = Waiting()
        self._frames = 0
        self._ending: Ending | None = None
        self._ended: Ending | None = None
        self._failure: Exception | None = None

    @property
    def is_slow(self) -> bool:
        """Say whether a write waits for the client to read."""
        return self._helper is not None

    def push(self, frames: bytes, count: int = 1) -> None:
        """Write encoded frames now, or as soon as the client reads; never waits, never raises.

        Push what is ready as one piece: a piece is written whole, while many pieces in one turn
        of the loop outrun even a fast client. After the end, pushes are dropped.
        """
        if self._send is not None:
            self._write(self._send, frames, count)
        elif self._ending is None and self._ended is None:
            self._waiting.add(frames, count)
            if self._helper is not None and self._waiting.exceeds(self._hub.limits):
                self._stop(Ending.CLIENT_SLOW)

    def finish(self, frames: bytes = b"", count: int = 0, *, how: Ending = Ending.TERMINAL) -> None:
        """Write the last frames and end the response; a second call does nothing."""
        if self._ending is not None or self._ended is not None:
            return
        self._ending = how
        if self._send is not None:
            self._write(self._send, frames, count)
        else:
            self._waiting.add(frames, count)

    def beat(self) -> None:
        """Write a heartbeat, unless the client does not read or the end is on its way."""
        if self._send is not None:
            self._write(self._send, HEARTBEAT, 0)

    def abandon(self) -> None:
        """End a stream that will not be served, as failed: its route raised, say."""
        if self._ended is None:
            self._close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the stream, or leave that to the `Handover` around the application."""
        handed_over: list[SseStream] | None = scope.get(HANDOVER)
        if handed_over is None:
            await self.serve(scope, receive, send)
        else:
            handed_over.append(self)

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the stream; return when it has ended, whoever ended it.

        Raises what the server's `send` raised. A HEAD request ends as `client_left` with 0 frames.
        """
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            if scope["method"] == "HEAD":
                await send(body(b"", is_last=True))
                self._ended = Ending.CLIENT_LEFT
            else:
                self._start(send)
                await self._park(receive)
        finally:
            self._close()
        if self._ended is Ending.CLIENT_SLOW:
            await self._linger(send)
        if self._failure is not None:
            raise self._failure

    def _start(self, send: Send) -> None:
        self._hub.admit(self)  # while draining this queues a goodbye behind the backlog
        self._send = send
        frames, count = self._waiting.take()
        self._waiting.settle(len(frames), count)
        if frames or self._ending is not None:
            self._write(send, frames, count)

    async def _park(self, receive: Receive) -> None:
        """Wait until the client has gone, the response is complete, or `_stop` was called."""
        if self._ended is None:
            self._parked = task = asyncio.current_task()
            try:
                while (await receive())["type"] != "http.disconnect":
                    pass
            except asyncio.CancelledError:
                # `_stop` cancels to end this wait; a server's own cancel must get through.
                if self._parked is not None or task is None or task.uncancel() > 0:
                    raise
            finally:
                self._parked = None
        self._ended = self._ended or Ending.CLIENT_LEFT

    def _stop(self, how: Ending, failure: Exception | None = None) -> None:
        """End the stream although its response is not complete."""
        if self._ended is not None:
            return
        self._ended, self._failure, self._send = how, failure, None
        self._waiting.pieces.clear()
        if self._parked is not None:
            self._parked.cancel()
            self._parked = None

    def _close(self) -> None:
        self._hub.forget(self)
        self._waiting.pieces.clear()
        if self._helper is not None:
            self._helper.cancel()
        cut_off = Ending.DRAINED if self._hub.is_draining else Ending.FAILED
        self._ended, self._send = self._ended or cut_off, None
        self._on_end(self._ended, self._frames)

    async def _linger(self, send: Send) -> None:
        """Let a client that reads again see a proper end; else the server cuts the connection."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._hub.limits.linger_s):
                await send(body(b"", is_last=True))

    def _write(self, send: Send, frames: bytes, count: int) -> None:
        """Begin a write; if it has to wait for the client, leave the rest to a helper task."""
        is_last = self._ending is not None
        try:
            rest = begin(send(body(frames, is_last=is_last)))
        except Exception as failure:  # noqa: BLE001  told to the request's task, not to the pusher
            self._stop(Ending.FAILED, failure)
            return
        if rest is None:
            self._wrote(count, is_last=is_last)
        else:
            self._send = None
            self._waiting.hold(len(frames), count)
            catching_up = self._catch_up(send, rest, len(frames), count, is_last=is_last)
            self._helper = asyncio.create_task(catching_up)

    def _wrote(self, count: int, *, is_last: bool) -> None:
        self._frames += count
        if is_last:
            self._ended, self._send = self._ending, None

    async def _catch_up(
        self, send: Send, rest: Awaitable[None], size: int, count: int, *, is_last: bool
    ) -> None:
        """Finish a write that had to wait, then all that queued up behind it."""
        try:
            while True:
                await rest
                self._waiting.settle(size, count)
                self._wrote(count, is_last=is_last)
                is_last = self._ending is not None
                if self._ended is not None:
                    return
                if not (self._waiting.pieces or is_last):
                    self._send = send
                    return
                frames, count = self._waiting.take()
                size, rest = len(frames), send(body(frames, is_last=is_last))
        except Exception as failure:  # noqa: BLE001  as above
            self._stop(Ending.FAILED, failure)
        finally:
            self._helper = None
