"""The responder against a server that can be paused, left and broken at will."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from starlette.types import Message, Receive, Scope, Send

from cadenza.calendar.frames import frame
from cadenza.web.handover import Handover
from cadenza.web.sse import Ending, SseHub, SseStream
from cadenza.web.sse_wire import HEARTBEAT, StreamLimits, begin

GET = {"type": "http", "method": "GET"}


class PausableServer:
    """An ASGI server of one connection: `send` waits while paused, as uvicorn's does."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.headers: list[tuple[bytes, bytes]] = []
        self.is_complete = False
        self.is_closed = False
        self.breaks: Exception | None = None
        self.broken = 0
        self.late: list[Message] = []
        self._is_gone = False
        self._writable = asyncio.Event()
        self._writable.set()
        self._over = asyncio.Event()
        self._request_read = False

    def pause(self) -> None:
        self._writable.clear()

    def resume(self) -> None:
        self._writable.set()

    def leave(self) -> None:
        self._is_gone = True
        self._over.set()
        self._writable.set()

    async def receive(self) -> Message:
        if not self._request_read:
            self._request_read = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._over.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if self.is_complete or self.is_closed:
            self.late.append(message)
        if self.breaks is not None:
            self.broken += 1
            raise self.breaks
        await self._writable.wait()
        if self._is_gone:
            return
        if message["type"] == "http.response.start":
            self.headers = message["headers"]
            return
        self.written.append(message["body"])
        if not message["more_body"]:
            self.is_complete = True
            self._over.set()

    @property
    def text(self) -> bytes:
        return b"".join(self.written)


class Case:
    """One stream on one server, and every call of its `on_end`."""

    def __init__(self, limits: StreamLimits | None = None) -> None:
        self.hub = SseHub(limits, jitter=lambda low, high: (low + high) // 2)
        self.server = PausableServer()
        self.ends: list[tuple[Ending, int]] = []
        self.stream = SseStream(self.hub, lambda how, frames: self.ends.append((how, frames)))

    def serve(self, method: str = "GET") -> "asyncio.Task[None]":
        return asyncio.create_task(self._serve({"type": "http", "method": method}))

    async def _serve(self, scope: Scope) -> None:
        try:
            await self.stream(scope, self.server.receive, self.server.send)
        finally:
            self.server.is_closed = True


async def settled() -> None:
    """Let everything that can run, run."""
    for _ in range(10):
        await asyncio.sleep(0)


def run(scenario: Callable[[Case], Awaitable[None]], limits: StreamLimits | None = None) -> Case:
    async def story() -> Case:
        case = Case(limits)
        await asyncio.wait_for(scenario(case), 10)
        case.stream.push(b"too late")
        case.stream.beat()
        case.stream.finish(b"too late", 1)
        assert case.server.late == []
        return case

    return asyncio.run(story())


def test_a_frame_has_its_parts_in_the_order_of_the_contract() -> None:
    assert frame("run", b"{}", event_id="1.0", retry_ms=2000) == (
        b"retry: 2000\nid: 1.0\nevent: run\ndata: {}\n\n"
    )


@pytest.mark.parametrize("line_break", [b"\n", b"\r", b"\r\n"])
def test_a_line_break_in_the_data_cannot_end_the_frame(line_break: bytes) -> None:
    data = b"a" + line_break + line_break + b"event: forged" + line_break
    assert frame("entry", data) == (
        b"event: entry\ndata: a\ndata: \ndata: event: forged\ndata: \n\n"
    )


def test_a_write_that_need_not_wait_is_over_after_its_first_step() -> None:
    done: list[int] = []

    async def write() -> None:
        done.append(1)

    assert begin(write()) is None
    assert done == [1]


@pytest.mark.parametrize("done_before_the_rest_is_awaited", [True, False])
def test_the_rest_of_a_write_is_finished_by_another_task(
    *, done_before_the_rest_is_awaited: bool
) -> None:
    async def story() -> list[str]:
        steps: list[str] = []
        gate = asyncio.get_running_loop().create_future()

        async def write() -> None:
            steps.append("begun")
            await gate
            await asyncio.sleep(0)
            steps.append("written")

        async def finish() -> None:
            assert rest is not None
            await rest

        rest = begin(write())
        if done_before_the_rest_is_awaited:
            gate.set_result(None)
        helper = asyncio.create_task(finish())
        await settled()
        if not done_before_the_rest_is_awaited:
            assert steps == ["begun"]
            gate.set_result(None)
        await helper
        return steps

    assert asyncio.run(story()) == ["begun", "written"]


def test_cancelling_the_helper_abandons_the_write() -> None:
    async def story() -> list[str]:
        steps: list[str] = []

        async def write() -> None:
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                steps.append("abandoned")

        async def finish() -> None:
            assert rest is not None
            await rest

        rest = begin(write())
        helper = asyncio.create_task(finish())
        await settled()
        helper.cancel()
        await asyncio.wait([helper])
        return list(steps)  # as they are while the write is still referred to

    assert asyncio.run(story()) == ["abandoned"]


def test_the_backlog_goes_out_first_as_one_piece_and_later_frames_at_once() -> None:
    async def scenario(case: Case) -> None:
        case.stream.push(b"a", 1)
        case.stream.push(b"bc", 2)
        serving = case.serve()
        await settled()
        assert case.server.written == [b"abc"]
        case.stream.push(b"d")
        assert case.server.written == [b"abc", b"d"]  # in place, no task in between
        case.stream.finish(b"e", 1)
        assert case.server.is_complete
        await serving

    case = run(scenario)
    assert case.server.text == b"abcde"
    assert case.ends == [(Ending.TERMINAL, 5)]
    assert case.hub.open == 0


def test_the_headers_forbid_caching_and_buffering_and_announce_no_length() -> None:
    async def scenario(case: Case) -> None:
        case.stream.finish()
        await case.serve()

    assert dict(run(scenario).server.headers) == {
        b"content-type": b"text/event-stream; charset=utf-8",
        b"cache-control": b"no-store, no-transform",
        b"x-accel-buffering": b"no",
    }


def test_a_backlog_beyond_the_bounds_is_no_overflow() -> None:
    async def scenario(case: Case) -> None:
        for _ in range(10):
            case.stream.push(b"x")
        case.stream.finish(b"end", 1)
        await case.serve()

    case = run(scenario, StreamLimits(max_frames=2, max_bytes=2))
    assert case.server.text == b"x" * 10 + b"end"
    assert case.ends == [(Ending.TERMINAL, 11)]


def test_a_head_request_gets_headers_only_and_counts_as_left() -> None:
    async def scenario(case: Case) -> None:
        case.stream.push(b"backlog")
        await case.serve("HEAD")

    case = run(scenario)
    assert case.server.text == b""
    assert case.server.headers
    assert case.ends == [(Ending.CLIENT_LEFT, 0)]


def test_frames_for_a_client_that_does_not_read_keep_their_order() -> None:
    async def scenario(case: Case) -> None:
        serving = case.serve()
        await settled()
        case.server.pause()
        for letter in (b"a", b"b", b"c"):
            case.stream.push(letter)
        assert case.stream.is_slow
        assert case.hub.slow == 1
        await settled()
        case.server.resume()
        await settled()
        assert not case.stream.is_slow
        case.stream.push(b"d")
        case.server.pause()
        case.stream.push(b"e")
        case.stream.finish(b"f", 1)
        case.server.resume()
        await serving

    case = run(scenario)
    assert case.server.text == b"abcdef"
    assert case.ends == [(Ending.TERMINAL, 6)]


def test_the_bound_counts_what_waits_now_not_what_ever_waited() -> None:
    async def scenario(case: Case) -> None:
        serving = case.serve()
        await settled()
        for _ in range(5):
            case.server.pause()
            case.stream.push(b"x")
            case.stream.push(b"x")
            await settled()
            case.server.resume()
            await settled()
        case.stream.finish()
        await serving

    case = run(scenario, StreamLimits(max_frames=2))
    assert case.ends == [(Ending.TERMINAL, 10)]


@pytest.mark.parametrize("limits", [StreamLimits(max_frames=3), StreamLimits(max_bytes=3)])
def test_overflow_ends_the_stream_and_a_client_that_reads_again_sees_a_proper_end(
    limits: StreamLimits,
) -> None:
    async def scenario(case: Case) -> None:
        serving = case.serve()
        await settled()
        case.stream.push(b"a")
        case.server.pause()
        for letter in (b"b", b"c", b"d"):
            case.stream.push(letter)
        await settled()
        assert case.ends == []
        case.stream.push(b"e")
        await settled()
        assert case.ends == [(Ending.CLIENT_SLOW, 1)]
        case.stream.push(b"f")
        case.server.resume()
        await serving
        assert serving.cancelling() == 0  # nobody else is to take our wake-up for a cancel

    case = run(scenario, limits)
    assert case.server.text == b"a"
    assert case.server.is_complete
    assert case.ends == [(Ending.CLIENT_SLOW, 1)]
    assert case.hub.open == 0


def test_a_client_that_never_reads_again_is_given_up() -> None:
    async def scenario(case: Case) -> None:
        serving = case.serve()
        await settled()
        case.server.pause()
        case.stream.push(b"a")
        case.stream.push(b"b")
        await serving

    case = run(scenario, StreamLimits(max_frames=1, linger_s=0.001))
    assert not case.server.is_complete
    assert case.ends == [(Ending.CLIENT_SLOW, 0)]


def test_a_client_that_leaves_is_seen_and_later_frames_are_dropped() -> None:
    async def scenario(case: Case) -> None:
        serving = case.serve()
        await settled()
        case.stream.push(b"a")
        case.server.leave()
        await serving
        case.stream.push(b"b")
        case.stream.finish(b"c", 1)

    assert run(scenario).ends == [(Ending.CLIENT_LEFT, 1)]


def test_a_client_that_leaves_while_its_last_frame_waits_did_not_get_it() -> None:
    async def scenario(case: Case) -> None:
        serving = case.serve()
        await settled()
        case.server.pause()
        case.stream.push(b"a")
        case.stream.finish(b"done", 1)
        await settled()
        case.server.leave()
        await serving

    assert run(scenario).ends == [(Ending.CLIENT_LEFT, 0)]


def test_a_client_that_leaves_after_the_last_frame_got_it_all() -> None:
    async def scenario(case: Case) -> None:
        serving = case.serve()
        await settled()
        case.stream.finish(b"done", 1)
        case.stream.beat()
        case.stream.push(b"too late")
        case.server.leave()
        await serving

    assert run(scenario).ends == [(Ending.TERMINAL, 1)]


def test_the_source_may_end_a_stream_as_failed() -> None:
    async def scenario(case: Case) -> None:
        case.stream.finish(b"error", 1, how=Ending.FAILED)
        await case.serve()

    case = run(scenario)
    assert case.server.is_complete
    assert case.ends == [(Ending.FAILED, 1)]


@pytest.mark.parametrize("when", ["at the start", "in a push", "behind a pause"])
def test_a_broken_server_fails_the_request_and_never_the_pusher(when: str) -> None:
    async def scenario(case: Case) -> None:
        broken = OSError("broken")
        if when == "at the start":
            case.server.breaks = broken
        serving = case.serve()
        await settled()
        if when == "behind a pause":
            case.server.pause()
            case.stream.push(b"held")
        case.server.breaks = broken
        case.stream.push(b"a")
        case.server.resume()
        case.stream.push(b"b")
        with pytest.raises(OSError, match="broken"):
            await serving

    case = run(scenario)
    assert [how for how, _ in case.ends] == [Ending.FAILED]
    assert case.server.broken == 1
    assert case.hub.open == 0


@pytest.mark.parametrize(("is_draining", "how"), [(False, Ending.FAILED), (True, Ending.DRAINED)])
def test_a_server_that_gives_up_cancels_the_request(*, is_draining: bool, how: Ending) -> None:
    async def scenario(case: Case) -> None:
        serving = case.serve()
        await settled()
        case.server.pause()
        case.stream.push(b"a")
        if is_draining:
            case.hub.drain()
        await settled()
        serving.cancel()
        await asyncio.wait([serving])
        assert serving.cancelled()

    assert run(scenario).ends == [(how, 0)]


def test_a_servers_cancel_is_not_swallowed_by_our_own() -> None:
    async def scenario(case: Case) -> None:
        serving = case.serve()
        await settled()
        case.server.pause()
        case.stream.push(b"a")
        case.stream.push(b"b")  # overflow: the stream cancels its own wait
        serving.cancel()
        await asyncio.wait([serving])
        assert serving.cancelled()

    limits = StreamLimits(max_frames=1, linger_s=3600)
    assert run(scenario, limits).ends == [(Ending.CLIENT_SLOW, 0)]


def test_a_heartbeat_reaches_everyone_who_reads_and_is_no_frame() -> None:
    async def story() -> None:
        hub = SseHub()
        ends: list[tuple[Ending, int]] = []
        servers = [PausableServer() for _ in range(600)]
        streams = [SseStream(hub, lambda how, n: ends.append((how, n))) for _ in servers]
        serving = [
            asyncio.ensure_future(stream(GET, server.receive, server.send))
            for stream, server in zip(streams, servers, strict=True)
        ]
        await settled()
        servers[7].pause()
        streams[7].push(b"held")
        await hub.beat()
        await hub.beat()
        assert [s.text for s in servers[:9]] == [HEARTBEAT * 2] * 7 + [b""] + [HEARTBEAT * 2]
        assert servers[-1].text == HEARTBEAT * 2
        servers[7].resume()
        await settled()
        assert servers[7].text == b"held"
        for stream in streams:
            stream.finish()
        await asyncio.gather(*serving)
        assert ends.count((Ending.TERMINAL, 1)) == 1
        assert ends.count((Ending.TERMINAL, 0)) == 599

    asyncio.run(story())


def test_the_ticker_beats_until_its_block_ends() -> None:
    async def scenario(case: Case) -> None:
        serving = case.serve()
        async with case.hub.ticking():
            async with asyncio.timeout(5):
                while case.server.text.count(HEARTBEAT) < 3:  # noqa: ASYNC110  no event to wait on
                    await asyncio.sleep(0)
        case.stream.finish()
        await serving

    assert run(scenario, StreamLimits(heartbeat_s=0.001)).ends == [(Ending.TERMINAL, 0)]


def test_draining_sends_present_and_later_clients_elsewhere_after_what_they_have() -> None:
    async def scenario(case: Case) -> None:
        serving = case.serve()
        await settled()
        case.stream.push(b"a")
        case.hub.drain((1_000, 3_000))
        await serving
        assert case.hub.is_draining
        late, ends = PausableServer(), list[tuple[Ending, int]]()
        stream = SseStream(case.hub, lambda how, frames: ends.append((how, frames)))
        stream.push(b"backlog")
        await stream(GET, late.receive, late.send)
        assert late.text == b"backlogretry: 2000\n\n"
        assert ends == [(Ending.DRAINED, 1)]

    case = run(scenario)
    assert case.server.text == b"aretry: 2000\n\n"
    assert case.server.is_complete
    assert case.ends == [(Ending.DRAINED, 1)]


def test_draining_leaves_a_stream_alone_whose_last_frame_is_on_its_way() -> None:
    async def scenario(case: Case) -> None:
        serving = case.serve()
        await settled()
        case.server.pause()
        case.stream.push(b"a")
        case.stream.finish(b"done", 1)
        case.hub.drain()
        case.server.resume()
        await serving

    case = run(scenario)
    assert case.server.text == b"adone"
    assert case.ends == [(Ending.TERMINAL, 2)]


def test_an_abandoned_stream_has_ended_once_and_takes_nothing_more() -> None:
    async def scenario(case: Case) -> None:
        case.stream.push(b"a")
        case.stream.abandon()
        case.stream.abandon()
        case.stream.push(b"b")

    assert run(scenario).ends == [(Ending.FAILED, 0)]


def test_inside_the_handover_a_stream_is_served_once_the_application_has_returned() -> None:
    async def scenario(case: Case) -> None:
        has_returned = False

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            nonlocal has_returned
            await case.stream(scope, receive, send)
            assert case.server.headers == []
            has_returned = True

        layer = Handover(app)
        serving = asyncio.ensure_future(layer(dict(GET), case.server.receive, case.server.send))
        await settled()
        assert has_returned
        assert case.hub.open == 1
        case.stream.finish(b"done", 1)
        await serving

    assert run(scenario).ends == [(Ending.TERMINAL, 1)]


def test_an_application_that_fails_after_handing_over_abandons_the_stream() -> None:
    async def scenario(case: Case) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await case.stream(scope, receive, send)
            raise LookupError

        with pytest.raises(LookupError):
            await Handover(app)(dict(GET), case.server.receive, case.server.send)

    assert run(scenario).ends == [(Ending.FAILED, 0)]


def test_the_handover_leaves_other_answers_and_the_lifespan_alone() -> None:
    async def story() -> list[str]:
        seen: list[str] = []

        async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
            seen.append(scope["type"])

        server = PausableServer()
        await Handover(app)(dict(GET), server.receive, server.send)
        await Handover(app)({"type": "lifespan"}, server.receive, server.send)
        return seen

    assert asyncio.run(story()) == ["http", "lifespan"]
