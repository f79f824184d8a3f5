"""Every row of the scenario table, through the real SDK, over real sockets."""

import asyncio
import datetime as dt
import json
import socket
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import pytest

from cadenza.calendar.generator import Drafted, Ended, Rejected, RunStatus, classify
from cadenza.calendar.listen import Deadlines
from cadenza.calendar.openai import OpenAIGenerator
from cadenza.calendar.request import Cadence, RunRequest, slots
from cadenza.errors import Reason
from cadenza.events import Verdict
from cadenza.simulator.scenarios import SCENARIOS
from cadenza.simulator.serve import running
from support import eventually

REQUEST = RunRequest(
    channels=("bluesky", "instagram"),
    cadence=Cadence.DAILY,
    start=dt.date(2026, 12, 1),
    end=dt.date(2026, 12, 5),
    timezone="Europe/Madrid",
    brief="A bakery in Cádiz",
    constraints={"tone": "warm"},
)
EXPECTED = len(slots(REQUEST))
PATIENT = Deadlines(connect_s=20, first_s=20, between_s=20, total_s=60)
React = Callable[[Drafted | Rejected | Ended], Coroutine[Any, Any, None]]


@dataclass(slots=True)
class Heard:
    """What one run said, in order, and how it ended."""

    kept: list[Drafted] = field(default_factory=list[Drafted])
    rejected: list[str] = field(default_factory=list[str])
    ended: list[Ended] = field(default_factory=list[Ended])

    def add(self, item: Drafted | Rejected | Ended) -> None:
        assert self.ended == []
        match item:
            case Drafted():
                self.kept.append(item)
            case Rejected(why=why):
                self.rejected.append(why)
            case Ended():
                self.ended.append(item)

    @property
    def end(self) -> Ended:
        (end,) = self.ended
        return end

    def judged(self) -> tuple[RunStatus, Reason | None, Verdict]:
        counts = {"entries": len(self.kept), "rejected": len(self.rejected)}
        return classify(self.end, expected=EXPECTED, **counts)


class Pause:
    """Stands in for sleeping before the retry: remembers how long it would have been."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    async def __call__(self, wait_s: float) -> None:
        self.slept.append(wait_s)


@asynccontextmanager
async def generator(
    url: str, model: str = "sim-ok@0", deadlines: Deadlines = PATIENT, pause: Pause | None = None
) -> AsyncGenerator[OpenAIGenerator]:
    made = OpenAIGenerator(
        base_url=f"{url}/v1",
        api_key=None,
        model=model,
        deadlines=deadlines,
        sleep=pause or Pause(),
        jitter_s=lambda: 0.5,
    )
    try:
        yield made
    finally:
        await made.aclose()


async def go_on(_item: Drafted | Rejected | Ended) -> None:
    """Read on at once."""


async def listen(asked: OpenAIGenerator, react: React = go_on) -> Heard:
    heard = Heard()
    async with aclosing(asked.entries(REQUEST)) as items:
        async for item in items:
            heard.add(item)
            await react(item)
    return heard


def run(model: str, deadlines: Deadlines = PATIENT, pause: Pause | None = None) -> Heard:
    async def main() -> Heard:
        async with running() as url, generator(url, model, deadlines, pause) as asked:
            return await listen(asked)

    return asyncio.run(main())


def with_simulator(story: Callable[[str, httpx.AsyncClient], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        async with running() as url, httpx.AsyncClient(base_url=url) as control:
            await story(url, control)

    asyncio.run(main())


GOOD = (RunStatus.COMPLETED, None, Verdict.GOOD)


def bad(reason: Reason, status: RunStatus = RunStatus.FAILED) -> tuple[object, ...]:
    return status, reason, Verdict.BAD


def late(reason: Reason) -> tuple[object, ...]:
    return bad(reason, RunStatus.TIMEOUT)


INVALID = bad(Reason.PROVIDER_INVALID_OUTPUT)
MAX_TOKENS = bad(Reason.MAX_TOKENS, RunStatus.PARTIAL)
QUICK_FIRST = replace(PATIENT, first_s=0.5)
QUICK_BETWEEN = replace(PATIENT, between_s=1.0)
QUICK_TOTAL = replace(PATIENT, total_s=1.5)

TABLE: dict[str, tuple[Deadlines, tuple[object, ...], int, list[str]]] = {
    "ok": (PATIENT, GOOD, 10, []),
    "fenced": (PATIENT, GOOD, 10, []),
    "one-bad-line": (PATIENT, GOOD, 9, ["not_json"]),
    "prose": (PATIENT, INVALID, 0, []),
    "broken-json": (PATIENT, INVALID, 5, ["not_json"] * 5),
    "duplicate-ids": (PATIENT, GOOD, 10, ["duplicate"]),
    "outside-range": (PATIENT, GOOD, 9, ["out_of_range"]),
    "unknown-channel": (PATIENT, GOOD, 9, ["unknown_channel"]),
    "first-stall": (QUICK_FIRST, late(Reason.TIMEOUT_FIRST), 0, []),
    "mid-stall": (QUICK_BETWEEN, late(Reason.TIMEOUT_BETWEEN), 3, []),
    "comment-stall": (QUICK_BETWEEN, late(Reason.TIMEOUT_BETWEEN), 3, []),
    "slow": (QUICK_TOTAL, late(Reason.TIMEOUT_TOTAL), 3, []),
    "cut": (PATIENT, bad(Reason.PROVIDER_CONNECTION_LOST), 3, []),
    "error-frame": (PATIENT, bad(Reason.PROVIDER_STREAM_ERROR), 3, []),
    "eof": (PATIENT, bad(Reason.PROVIDER_TRUNCATED), 3, []),
    "429": (PATIENT, bad(Reason.PROVIDER_RATE_LIMITED), 0, []),
    "500": (PATIENT, bad(Reason.PROVIDER_HTTP_ERROR), 0, []),
    "content-filter": (PATIENT, bad(Reason.PROVIDER_CONTENT_FILTER), 3, []),
    "length": (PATIENT, MAX_TOKENS, 3, []),
}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_scenario_ends_as_the_contract_says_and_keeps_what_came_before(scenario: str) -> None:
    deadlines, judged, kept, rejected = TABLE[scenario]
    heard = run(f"sim-{scenario}@0", deadlines)
    assert (heard.judged(), len(heard.kept), heard.rejected) == (judged, kept, rejected)


def test_what_is_kept_is_for_the_slots_that_were_asked_for() -> None:
    drafts = [item.draft for item in run("sim-ok@0").kept]
    assert [(d.date, d.time, d.channel) for d in drafts] == [
        (s.date, s.time, s.channel) for s in slots(REQUEST)
    ]
    assert {d.timezone for d in drafts} == {"Europe/Madrid"}
    assert any("é" in d.copy + d.title for d in drafts)
    assert any("🥐" in d.copy for d in drafts)


def test_usage_is_the_providers_after_a_finish_and_estimated_after_a_fault() -> None:
    told, guessed = run("sim-ok@0").end, run("sim-cut@0").end
    assert told.usage is not None
    assert guessed.usage is not None
    assert (told.usage_estimated, guessed.usage_estimated) == (False, True)
    assert told.usage.input_tokens == guessed.usage.input_tokens > 100
    assert 0 < guessed.usage.output_tokens < told.usage.output_tokens
    assert run("sim-500").end.usage is None


@contextmanager
def dead_port() -> Any:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody else gets it
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@contextmanager
def full_port() -> Any:
    """Listen and accept nobody, with the queue already full: a connect gets no answer."""
    with socket.socket() as deaf, socket.socket() as first, socket.socket() as second:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        for caller in (first, second):
            caller.setblocking(False)
            caller.connect_ex(deaf.getsockname())
        yield f"http://127.0.0.1:{deaf.getsockname()[1]}"


def test_a_dead_port_is_unreachable_and_tried_twice() -> None:
    async def main() -> None:
        pause = Pause()
        with dead_port() as url:
            async with generator(url, pause=pause) as asked:
                heard = await listen(asked)
        assert heard.judged() == bad(Reason.PROVIDER_UNREACHABLE)
        assert pause.slept == [0.5]

    asyncio.run(main())


def test_a_connect_without_an_answer_is_a_connect_timeout() -> None:
    async def main() -> None:
        with full_port() as url:
            async with generator(url, deadlines=replace(PATIENT, connect_s=0.2)) as asked:
                heard = await listen(asked)
        assert heard.judged() == late(Reason.TIMEOUT_CONNECT)

    asyncio.run(main())


def test_one_refusal_is_survived_by_the_one_retry_after_the_wait_it_asked_for() -> None:
    async def story(url: str, control: httpx.AsyncClient) -> None:
        for name, waited in (("429", 1.0), ("500", 0.5)):
            pause = Pause()
            await control.put("/_sim/ai", json={"scenario": name, "times": 1})
            async with generator(url, pause=pause) as asked:
                heard = await listen(asked)
            assert heard.judged() == GOOD
            assert (len(heard.kept), pause.slept) == (EXPECTED, [waited])

    with_simulator(story)


def test_two_refusals_end_the_run_and_there_is_no_third_try() -> None:
    async def story(url: str, control: httpx.AsyncClient) -> None:
        await control.put("/_sim/ai", json={"scenario": "429", "times": 3})
        async with generator(url) as asked:
            assert (await listen(asked)).judged() == bad(Reason.PROVIDER_RATE_LIMITED)
        assert (await control.get("/_sim/ai")).json()["requests"] == 2

    with_simulator(story)


def test_a_wait_that_does_not_fit_into_the_total_is_not_begun() -> None:
    pause = Pause()
    heard = run("sim-429", replace(PATIENT, total_s=0.9), pause)
    assert heard.judged() == bad(Reason.PROVIDER_RATE_LIMITED)
    assert pause.slept == []


@pytest.mark.parametrize("scenario", ["cut", "error-frame", "eof", "prose"])
def test_an_answer_that_began_is_never_asked_for_again(scenario: str) -> None:
    async def story(url: str, control: httpx.AsyncClient) -> None:
        await control.put("/_sim/ai", json={"scenario": scenario, "stallAfter": 0})
        async with generator(url) as asked:
            assert (await listen(asked)).kept == []
        assert (await control.get("/_sim/ai")).json()["requests"] == 1

    with_simulator(story)


def test_a_model_that_does_not_exist_is_an_http_error_without_a_retry() -> None:
    pause = Pause()
    heard = run("gpt-nobody", pause=pause)
    assert (heard.judged(), pause.slept) == (bad(Reason.PROVIDER_HTTP_ERROR), [])


def test_most_of_a_calendar_at_the_token_limit_is_good() -> None:
    async def story(url: str, control: httpx.AsyncClient) -> None:
        for after, verdict in ((8, Verdict.GOOD), (7, Verdict.BAD)):
            told = {"scenario": "length", "stallAfter": after, "entryGapMs": 0}
            await control.put("/_sim/ai", json=told)
            async with generator(url) as asked:
                heard = await listen(asked)
            assert len(heard.kept) == after
            assert heard.judged() == (RunStatus.PARTIAL, Reason.MAX_TOKENS, verdict)

    with_simulator(story)


async def hold(seconds: float) -> None:
    """Be a slow reader for a while, without a sleep."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    loop.call_later(seconds, done.set)
    await done.wait()


def test_a_slow_reader_is_not_charged_for_its_own_slowness() -> None:
    async def story(url: str, _control: httpx.AsyncClient) -> None:
        deadlines = replace(PATIENT, between_s=1.0)
        async with generator(url, deadlines=deadlines) as asked:
            heard = Heard()
            async for item in asked.entries(REQUEST):
                heard.add(item)
                if len(heard.kept) == 1:
                    await hold(1.3)
        assert heard.judged() == GOOD
        assert len(heard.kept) == EXPECTED

    with_simulator(story)


def test_the_total_runs_on_while_the_reader_is_slow() -> None:
    async def story(url: str, _control: httpx.AsyncClient) -> None:
        deadlines = replace(PATIENT, total_s=2.0)
        async with generator(url, "sim-ok@30", deadlines) as asked:
            heard = Heard()
            async for item in asked.entries(REQUEST):
                heard.add(item)
                if len(heard.kept) == 1:
                    await hold(2.2)
        assert heard.judged() == late(Reason.TIMEOUT_TOTAL)
        assert len(heard.kept) >= 1

    with_simulator(story)


async def ended(control: httpx.AsyncClient) -> str:
    shown = (await control.get("/_sim/ai")).json()
    return shown["last"][-1]["ended"] if shown["last"] else "nothing yet"


def test_a_reader_that_leaves_takes_the_providers_connection_with_it() -> None:
    async def story(url: str, control: httpx.AsyncClient) -> None:
        async with generator(url, "sim-mid-stall@0") as asked:
            async with aclosing(asked.entries(REQUEST)) as items:
                async for item in items:
                    assert isinstance(item, Drafted)
                    break

            async def client_left() -> bool:
                return await ended(control) == "client_left"

            await eventually(client_left, what="the simulator sees the connection closed")

    with_simulator(story)


@pytest.mark.parametrize("scenario", ["first-stall", "mid-stall", "comment-stall"])
def test_a_run_that_is_cancelled_in_its_wait_closes_the_connection(scenario: str) -> None:
    async def story(url: str, control: httpx.AsyncClient) -> None:
        async with generator(url, f"sim-{scenario}@0") as asked:
            task = asyncio.create_task(listen(asked))

            async def streaming() -> bool:
                return await ended(control) == "streaming"

            await eventually(streaming)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

            async def client_left() -> bool:
                return await ended(control) == "client_left"

            await eventually(client_left)

    with_simulator(story)


def test_a_timeout_lets_go_of_the_connection_before_the_end_is_told() -> None:
    async def story(url: str, control: httpx.AsyncClient) -> None:
        async def client_left() -> bool:
            return await ended(control) == "client_left"

        async with generator(url, "sim-mid-stall@0", QUICK_BETWEEN) as asked:
            async for item in asked.entries(REQUEST):
                if isinstance(item, Ended):
                    await eventually(client_left)

    with_simulator(story)


Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


def delta(content: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": finish}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


def line(title: str) -> str:
    entry = {"title": title, "copy": "C", "channel": "bluesky", "date": "2026-12-01"}
    return json.dumps(entry) + "\n"


def against(answer: Answer, deadlines: Deadlines = PATIENT, react: React = go_on) -> Heard:
    """Run against a provider that speaks raw bytes, with a reader that takes its time."""
    calls: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b'"include_usage":true}')
            await answer(reader, writer)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        calls.append(asyncio.create_task(serve(reader, writer)))

    async def main() -> Heard:
        async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            async with generator(url, deadlines=deadlines) as asked:
                heard = await listen(asked, react)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
        return heard

    return asyncio.run(main())


@pytest.mark.parametrize(
    "frame",
    [
        b"data: {no json}\n\n",
        b"data: \xff\xfe\n\n",
        b"data: 5\n\n",
        b"data: null\n\n",
        b'data: {"choices": 7}\n\n',
        b'data: {"choices": [{"delta": null}]}\n\n',
    ],
)
def test_a_frame_that_nobody_can_read_is_a_stream_error_and_raises_nothing(frame: bytes) -> None:
    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + frame)
        await writer.drain()

    assert against(answer).judged() == bad(Reason.PROVIDER_STREAM_ERROR)


def test_after_the_finish_a_provider_that_hangs_costs_nothing() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + delta(line("T"), "stop"))
        await writer.drain()
        await reader.read()

    heard = against(answer, replace(PATIENT, between_s=0.5))
    assert (heard.judged(), len(heard.kept)) == (GOOD, 1)


def test_a_model_that_never_stops_is_hung_up_on_before_the_end_is_told() -> None:
    gone = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + delta("{}\n" * 300))
        await writer.drain()
        await reader.read()
        gone.set()

    async def react(item: Drafted | Rejected | Ended) -> None:
        if isinstance(item, Ended):
            await asyncio.wait_for(gone.wait(), 20)

    heard = against(answer, react=react)
    assert heard.end.reason is Reason.PROVIDER_INVALID_OUTPUT


def test_what_had_arrived_in_time_is_not_read_on_after_the_total() -> None:
    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + delta(line("one")) + delta(line("two"), "stop"))
        await writer.drain()

    async def react(item: Drafted | Rejected | Ended) -> None:
        if isinstance(item, Drafted):
            await hold(2.2)

    heard = against(answer, replace(PATIENT, total_s=2.0), react)
    assert (heard.judged(), len(heard.kept)) == (late(Reason.TIMEOUT_TOTAL), 1)


def test_a_provider_that_hangs_up_before_it_answers_lost_the_connection() -> None:
    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    assert against(answer).judged() == bad(Reason.PROVIDER_CONNECTION_LOST)
