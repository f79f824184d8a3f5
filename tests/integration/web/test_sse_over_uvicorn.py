"""The responder on the server it is made for, both event loops, real sockets."""

import asyncio
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
import pytest
import uvicorn
import uvloop
from fastapi import FastAPI
from httpx_sse import aconnect_sse

from cadenza.calendar.frames import frame
from cadenza.web.handover import Handover
from cadenza.web.sse import Ending, SseHub, SseStream
from cadenza.web.sse_wire import HEARTBEAT, StreamLimits

REQUEST = b"GET /events HTTP/1.1\r\nHost: test\r\n\r\n"
LARGE = b"x" * 8_000
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@dataclass
class Site:
    """A running server with one route, the streams it made, and how each ended."""

    hub: SseHub
    server: uvicorn.Server
    address: tuple[str, int]
    streams: list[SseStream] = field(default_factory=list[SseStream])
    ends: dict[int, list[tuple[Ending, int]]] = field(
        default_factory=dict[int, list[tuple[Ending, int]]]
    )

    @property
    def url(self) -> str:
        return f"http://{self.address[0]}:{self.address[1]}/events"

    def stream(self) -> SseStream:
        ends = self.ends[len(self.streams)] = []
        stream = SseStream(self.hub, lambda how, frames: ends.append((how, frames)))
        self.streams.append(stream)
        return stream


@asynccontextmanager
async def site(limits: StreamLimits | None = None) -> AsyncGenerator[Site]:
    """Serve `/events` on a free port; at the end nothing of it is left."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        app = FastAPI()
        config = uvicorn.Config(
            Handover(app),
            http="httptools",
            log_config=None,
            lifespan="off",
            timeout_graceful_shutdown=5,
        )
        at = Site(SseHub(limits), uvicorn.Server(config), listening.getsockname())

        @app.api_route("/events", methods=["GET", "HEAD"])
        async def events() -> SseStream:  # pyright: ignore[reportUnusedFunction]
            return at.stream()

        serving = asyncio.create_task(at.server.serve(sockets=[listening]))
        try:
            async with at.hub.ticking():
                yield at
        finally:
            at.hub.drain()
            at.server.should_exit = True
            await serving


async def until(condition: Callable[[], object]) -> None:
    """Look again every millisecond until it holds; the scenario's deadline is the limit."""
    while not condition():  # noqa: ASYNC110  the conditions are plain state, nothing to wait on
        await asyncio.sleep(0.001)


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Callable[[Awaitable[None]], None]:
    """Run a scenario to its end, on each event loop, within a deadline."""

    async def within_deadline(scenario: Awaitable[None]) -> None:
        async with asyncio.timeout(30):
            await scenario

    def run_on_loop(scenario: Awaitable[None]) -> None:
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(within_deadline(scenario))

    return run_on_loop


Run = Callable[[Awaitable[None]], None]


async def read_events(url: str) -> list[tuple[str, str]]:
    async with (
        httpx.AsyncClient(timeout=30) as client,
        aconnect_sse(client, "GET", url) as source,
    ):
        return [(event.id, event.data) async for event in source.aiter_sse()]


async def connect_without_reading(address: tuple[str, int]) -> socket.socket:
    """Ask for the stream and never read; small buffers, so that the server notices soon."""
    stalled = socket.socket()
    stalled.setblocking(False)
    stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(stalled, address)
    await loop.sock_sendall(stalled, REQUEST)
    return stalled


async def read_to_the_end(stalled: socket.socket) -> bytes:
    received = b""
    while piece := await asyncio.get_running_loop().sock_recv(stalled, 65536):
        received += piece
        if received.endswith(b"\r\n0\r\n\r\n"):
            break
    return received


def test_every_client_gets_every_frame_once_and_in_order(run: Run) -> None:
    async def scenario() -> None:
        async with site() as at:
            clients = [asyncio.create_task(read_events(at.url)) for _ in range(20)]
            await until(lambda: at.hub.open == 20)
            for number in range(300):
                for stream in at.streams:
                    stream.push(frame("entry", b'{"n":%d}' % number, event_id=f"1.{number}"))
                if number % 7 == 0:
                    await asyncio.sleep(0)
            for stream in at.streams:
                stream.finish(frame("done", b"{}", event_id="1.300"), 1)
            expected = [(f"1.{n}", f'{{"n":{n}}}') for n in range(300)] + [("1.300", "{}")]
            assert await asyncio.gather(*clients) == [expected] * 20
            await until(lambda: all(at.ends.values()))
            assert list(at.ends.values()) == [[(Ending.TERMINAL, 301)]] * 20
            assert at.hub.open == 0

    run(scenario())


def test_a_client_that_does_not_read_is_closed_and_holds_up_nobody(run: Run) -> None:
    async def scenario() -> None:
        async with site() as at:
            stalled = await connect_without_reading(at.address)
            await until(lambda: at.hub.open == 1)
            reading = asyncio.create_task(read_events(at.url))
            await until(lambda: at.hub.open == 2)
            slow, fast = at.streams
            number = 0
            while not at.ends[0]:
                for stream in (slow, fast):
                    stream.push(frame("entry", b"%06d" % number + LARGE, event_id=str(number)))
                number += 1
                assert number < 5_000, "the stalled client was never closed"
                await until(lambda: not fast.is_slow)
                await asyncio.sleep(0)
            fast.finish(frame("done", b"{}", event_id=str(number)), 1)
            received = await reading
            assert [event_id for event_id, _ in received] == [str(n) for n in range(number + 1)]
            assert at.ends[0][0][0] is Ending.CLIENT_SLOW

            # What it got before the end is whole, and the end is a proper one: it can resume.
            late = await read_to_the_end(stalled)
            stalled.close()
            assert late.endswith(b"0\r\n\r\n")
            frames_sent = at.ends[0][0][1]
            assert late.count(b"event: entry") == frames_sent == late.count(LARGE)
            assert 0 < frames_sent < number
            await until(lambda: at.ends[1])
            assert [len(ends) for ends in at.ends.values()] == [1, 1]
            assert at.ends[1] == [(Ending.TERMINAL, number + 1)]

    run(scenario())


def test_a_stalled_client_that_reads_again_in_time_misses_nothing(run: Run) -> None:
    async def scenario() -> None:
        async with site(StreamLimits(max_frames=10_000, max_bytes=2**30)) as at:
            stalled = await connect_without_reading(at.address)
            await until(lambda: at.hub.open == 1)
            (stream,) = at.streams
            number = 0
            while not stream.is_slow or number % 50:
                stream.push(frame(None, b"%06d" % number + LARGE))
                number += 1
                await asyncio.sleep(0)
            for _ in range(50):  # behind the blocked write
                stream.push(frame(None, b"%06d" % number + LARGE))
                number += 1
            stream.finish(frame("done", b"{}"), 1)
            received = await read_to_the_end(stalled)
            stalled.close()
            numbers = [int(line[6:12]) for line in received.split(b"\n") if b"data: 0" in line]
            assert numbers == list(range(number))
            assert at.ends[0] == [(Ending.TERMINAL, number + 1)]

    run(scenario())


def test_one_ticker_serves_all_streams_and_no_stream_has_a_task_of_ours(run: Run) -> None:
    async def scenario() -> None:
        async with site(StreamLimits(heartbeat_s=0.02)) as at:
            tasks_before = len(asyncio.all_tasks())
            clients = [await asyncio.open_connection(*at.address) for _ in range(50)]
            for _, writer in clients:
                writer.write(REQUEST)
            await until(lambda: at.hub.open == 50)
            for reader, _ in clients:
                await reader.readuntil(HEARTBEAT)
                await reader.readuntil(HEARTBEAT)
            assert len(asyncio.all_tasks()) == tasks_before + 50  # the server's, one a request
            for _, writer in clients:
                writer.close()
            await until(lambda: at.hub.open == 0)
            assert list(at.ends.values()) == [[(Ending.CLIENT_LEFT, 0)]] * 50

    run(scenario())


def test_draining_tells_clients_when_to_return_and_lets_the_server_stop(run: Run) -> None:
    async def scenario() -> None:
        async with site() as at:
            reader, writer = await asyncio.open_connection(*at.address)
            writer.write(REQUEST)
            await until(lambda: at.hub.open == 1)
            at.streams[0].push(frame("run", b"{}", event_id="1.0"))
            at.hub.drain((1_000, 5_000))
            received = await reader.readuntil(b"0\r\n\r\n")
            assert b"id: 1.0" in received
            assert 1_000 <= int(received.rpartition(b"retry: ")[2].split(b"\n")[0]) <= 5_000
            await until(lambda: at.ends[0])
            assert at.ends[0] == [(Ending.DRAINED, 1)]
            writer.close()

    run(scenario())


def test_a_server_that_stops_without_waiting_ends_streams_once(run: Run) -> None:
    async def scenario() -> None:
        async with site() as at:
            at.server.config.timeout_graceful_shutdown = 0
            _, writer = await asyncio.open_connection(*at.address)
            writer.write(REQUEST)
            await until(lambda: at.hub.open == 1)
            at.server.should_exit = True
            await until(lambda: at.ends[0])
            assert at.ends[0] == [(Ending.FAILED, 0)]
            writer.close()

    run(scenario())


def test_head_answers_the_headers_only(run: Run) -> None:
    async def scenario() -> None:
        async with site() as at, httpx.AsyncClient() as client:
            answer = await client.head(at.url)
            assert answer.status_code == 200
            assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
            assert answer.headers["cache-control"] == "no-store, no-transform"
            assert answer.headers["x-accel-buffering"] == "no"
            assert answer.content == b""
            assert at.ends[0] == [(Ending.CLIENT_LEFT, 0)]

    run(scenario())


@pytest.mark.parametrize("is_stalled", [False, True])
def test_a_client_that_leaves_is_seen(run: Run, *, is_stalled: bool) -> None:
    async def scenario() -> None:
        async with site() as at:
            client = await connect_without_reading(at.address)
            await until(lambda: at.hub.open == 1)
            (stream,) = at.streams
            while is_stalled and not stream.is_slow:
                stream.push(LARGE)
                await asyncio.sleep(0)
            if is_stalled:
                stream.finish(frame("done", b"{}"), 1)  # waits behind what is not read
            client.close()
            await until(lambda: at.ends[0])
            assert [how for how, _ in at.ends[0]] == [Ending.CLIENT_LEFT]
            assert at.hub.open == 0

    run(scenario())


def test_a_connection_serves_the_next_request_after_a_stream(run: Run) -> None:
    async def scenario() -> None:
        async with site() as at:
            reader, writer = await asyncio.open_connection(*at.address)
            for turn in range(3):
                writer.write(REQUEST)
                await until(lambda turn=turn: len(at.streams) == turn + 1 and at.hub.open == 1)
                at.streams[turn].finish(frame("done", b"%d" % turn), 1)
                assert b"data: %d" % turn in await reader.readuntil(b"0\r\n\r\n")
            writer.close()
            await until(lambda: all(at.ends.values()))
            assert list(at.ends.values()) == [[(Ending.TERMINAL, 1)]] * 3

    run(scenario())
