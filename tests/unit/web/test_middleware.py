"""One id, one budget, one bound, one line, whatever the application does."""

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
import pytest
from fastapi import APIRouter, Body, Depends, FastAPI, Request
from fastapi.responses import PlainTextResponse, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cadenza.db import budget
from cadenza.errors import Conflict, DatabaseUnavailable, Reason
from cadenza.events import Event, Lane, RequestFinished
from cadenza.telemetry.context import current
from cadenza.web import problems
from cadenza.web.auth import User, Verifier, issue_token, require_user
from cadenza.web.middleware import RequestLayer

KEY = "a secret of tests, long enough for HS256"
ALICE = "9750dcc2-516e-5ea0-8a26-54fa6ff6986b"
UUID7 = r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
MADE = "01a209bb-39ee-7631-b1e7-453deacf3f40"
CUT: Message = {"type": "http.disconnect"}


@dataclass
class Site:
    """An application inside the layer, and everything the layer told."""

    app: ASGIApp
    recorded: list[RequestFinished] = field(default_factory=list[RequestFinished])
    counted: list[Event] = field(default_factory=list[Event])
    max_body_bytes: int = 100
    is_quiet: bool = False

    def record(self, event: Event) -> None:
        assert isinstance(event, RequestFinished)
        assert current().request_id == event.request_id  # still inside: the line takes its ids
        self.recorded.append(event)

    def layer(self) -> RequestLayer:
        ticks = iter([10.0, 10.25])
        return RequestLayer(
            self.app,
            record=self.record,
            count=self.counted.append if self.is_quiet else None,
            max_body_bytes=self.max_body_bytes,
            clock=lambda: next(ticks),
            new_id=lambda: MADE,
        )

    @property
    def line(self) -> RequestFinished:
        (event,) = self.recorded
        return event


@dataclass
class Answer:
    messages: list[Message]

    @property
    def status(self) -> int:
        (start,) = [m for m in self.messages if m["type"] == "http.response.start"]
        return start["status"]

    @property
    def headers(self) -> dict[str, str]:
        (start,) = [m for m in self.messages if m["type"] == "http.response.start"]
        names = [name for name, _ in start["headers"]]
        assert names.count(b"x-request-id") == 1
        return {name.decode(): value.decode() for name, value in start["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(m.get("body", b"") for m in self.messages)

    @property
    def problem(self) -> dict[str, Any]:
        return orjson.loads(self.body)


def ask(
    site: Site,
    method: str = "GET",
    path: str = "/",
    *,
    headers: dict[str, str] | None = None,
    parts: tuple[bytes | Message, ...] = (b"",),
    raises: type[BaseException] | None = None,
) -> Answer:
    """Send one request through the layer; a part is a piece of the body, or a whole message."""
    sent: list[Message] = []
    pieces = iter(parts)
    left = len(parts)

    async def receive() -> Message:
        nonlocal left
        piece = next(pieces, None)
        left -= 1
        if piece is None:  # the client waits for its answer
            await asyncio.Event().wait()
        if isinstance(piece, bytes):
            return {"type": "http.request", "body": piece, "more_body": left > 0}
        return piece or CUT

    async def send(message: Message) -> None:
        sent.append(message)

    raw = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
    scope: Scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "http_version": "1.1",
        "server": ("test", 80),
        "client": ("127.0.0.1", 1),
        "headers": raw,
    }

    async def main() -> None:
        with nullcontext() if raises is None else pytest.raises(raises):
            await site.layer()(scope, receive, send)
        assert budget.deadline.get() is None
        assert current().request_id is None

    asyncio.run(main())
    return Answer(sent)


def answering(text: str = "fine", status: int = 200) -> ASGIApp:
    return PlainTextResponse(text, status_code=status)


def bare(work: Callable[[Receive, Send], Awaitable[None]]) -> ASGIApp:
    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        await work(receive, send)

    return app


@pytest.mark.parametrize("given", ["a-client.id_42", "x" * 8, "A" * 64, "0123456789"])
def test_a_well_formed_request_id_is_kept_and_returned(given: str) -> None:
    site = Site(answering())
    answer = ask(site, headers={"X-Request-ID": given})
    assert (answer.headers["x-request-id"], site.line.request_id) == (given, given)


@pytest.mark.parametrize(
    "given", ["", "short", "y" * 65, "with space 1", "new\nline-1234", "é" * 10, "semi;colon-1"]
)
def test_any_other_request_id_is_replaced_by_ours(given: str) -> None:
    site = Site(answering())
    answer = ask(site, headers={"X-Request-ID": given})
    assert (answer.headers["x-request-id"], site.line.request_id) == (MADE, MADE)


def test_an_id_of_our_own_making_is_a_time_ordered_uuid() -> None:
    layer = RequestLayer(answering(), record=lambda event: made.append(event.request_id or ""))
    made: list[str] = []

    async def nothing(_message: Message) -> None:
        return

    async def main() -> None:
        scope: Scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
        await layer(scope, lambda: asyncio.sleep(0, CUT), nothing)

    asyncio.run(main())
    assert len(made) == 1
    assert re.fullmatch(UUID7, made[0])


@pytest.mark.parametrize(
    ("given", "is_kept"),
    [
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", True),
        ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", False),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", False),
        ("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", False),
        ("nonsense", False),
    ],
)
def test_a_traceparent_is_kept_only_when_it_is_one(given: str, *, is_kept: bool) -> None:
    seen: list[str | None] = []

    async def work(_receive: Receive, send: Send) -> None:
        seen.append(current().traceparent)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    ask(Site(bare(work)), headers={"traceparent": given})
    assert seen == [given if is_kept else None]


@pytest.mark.parametrize(
    ("http_status", "status"),
    [
        *((200, "ok"), (204, "ok"), (304, "ok")),
        *((400, "rejected"), (404, "rejected"), (499, "rejected")),
        *((500, "failed"), (503, "failed")),
    ],
)
def test_the_line_judges_by_the_status(http_status: int, status: str) -> None:
    site = Site(answering(status=http_status))
    ask(site, "PUT")
    line = site.line
    assert (line.status, line.http_status, line.method) == (status, http_status, "PUT")
    assert (line.duration_ms, line.route, line.error) == (250, "unmatched", None)


def test_the_database_budget_of_a_request_begins_with_it_and_ends_with_it() -> None:
    left: list[float] = []

    async def work(_receive: Receive, send: Send) -> None:
        left.append(budget.remaining_s(60.0))
        await answering()({"type": "http", "method": "GET"}, _receive, send)

    ask(Site(bare(work)))
    assert 0 < left[0] <= 1.5


def test_an_exception_is_one_problem_that_says_nothing_and_one_line_that_says_where() -> None:
    async def work(_receive: Receive, _send: Send) -> None:
        raise RuntimeError("password=hunter2")

    site = Site(bare(work))
    answer = ask(site)
    assert (answer.status, answer.problem["code"]) == (500, "INTERNAL")
    assert answer.problem["requestId"] == answer.headers["x-request-id"] == MADE
    assert b"hunter2" not in answer.body
    line = site.line
    assert (line.status, line.http_status, line.code) == ("failed", 500, "INTERNAL")
    assert (line.reason, line.severity()) == (Reason.INTERNAL, "error")
    assert line.error is not None
    assert line.error["type"] == "RuntimeError"
    assert "work" in line.error["where"]
    assert "hunter2" not in str(line)


def test_an_application_that_forgets_to_answer_is_answered_for() -> None:
    async def work(_receive: Receive, _send: Send) -> None:
        return

    site = Site(bare(work))
    assert ask(site).status == 500
    assert (site.line.status, site.line.http_status) == ("failed", 500)


def test_an_answer_that_breaks_in_the_middle_is_cut_and_not_ended_cleanly() -> None:
    async def work(_receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise RuntimeError

    site = Site(bare(work))
    answer = ask(site, raises=RuntimeError)
    assert answer.messages[-1]["more_body"] is True
    assert (site.line.status, site.line.http_status) == ("failed", 200)
    assert site.line.severity() == "error"


def test_what_breaks_after_the_answer_is_told_and_does_not_reach_the_server() -> None:
    async def work(receive: Receive, send: Send) -> None:
        await answering()({"type": "http", "method": "GET"}, receive, send)
        raise RuntimeError

    site = Site(bare(work))
    assert ask(site).status == 200
    assert (site.line.status, site.line.http_status) == ("failed", 200)


def test_a_request_cut_off_by_our_own_stop_is_ours() -> None:
    async def work(_receive: Receive, _send: Send) -> None:
        raise asyncio.CancelledError

    site = Site(bare(work))
    assert ask(site, raises=asyncio.CancelledError).messages == []
    assert (site.line.status, site.line.http_status) == ("failed", None)
    assert site.line.reason is Reason.SHUTDOWN


async def read_all(receive: Receive) -> int:
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError
        size += len(message["body"])
        if not message["more_body"]:
            return size


@dataclass
class Reader:
    """An application that reads the whole body, and swallows what stops it."""

    read: list[int] = field(default_factory=list[int])
    asked: int = 0

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        async def counted() -> Message:
            self.asked += 1
            return await receive()

        status = 200
        try:
            self.read.append(await read_all(counted))
        except Exception:  # noqa: BLE001  # as a framework does that calls it a bad request
            status = 400
        await PlainTextResponse("read", status_code=status)({"type": "http"}, receive, send)


def test_a_body_up_to_the_bound_is_read() -> None:
    reader = Reader()
    site = Site(reader)
    assert ask(site, "POST", parts=(b"x" * 60, b"x" * 40)).status == 200
    assert (reader.read, site.line.status) == ([100], "ok")


@pytest.mark.parametrize("declared", [None, "0", "7", "100", "-1", "many"])
def test_a_body_is_counted_whatever_its_length_says(declared: str | None) -> None:
    reader = Reader()
    site = Site(reader)
    headers = {} if declared is None else {"Content-Length": declared}
    answer = ask(site, "POST", headers=headers, parts=(b"x" * 60, b"x" * 60, b"x" * 60))
    assert (answer.status, answer.problem["code"]) == (413, "BODY_TOO_LARGE")
    assert answer.problem["requestId"] == MADE
    assert (reader.read, reader.asked) == ([], 2)  # the third part was never waited for
    line = site.line
    assert (line.status, line.http_status, line.code) == ("rejected", 413, "BODY_TOO_LARGE")
    assert line.error is None


def test_a_body_that_announces_too_much_is_not_asked_for() -> None:
    waited: list[str] = []

    async def work(receive: Receive, _send: Send) -> None:
        waited.append("once")
        await receive()
        waited.append("never")

    site = Site(bare(work))
    answer = ask(site, "POST", headers={"Content-Length": "101"}, parts=(b"x",))
    assert (answer.status, waited) == (413, ["once"])


def test_a_client_that_leaves_before_the_answer_has_no_status() -> None:
    site = Site(Reader())
    ask(site, "POST", parts=({"type": "http.request", "body": b"x", "more_body": True}, CUT))
    line = site.line
    assert (line.status, line.http_status, line.reason) == ("rejected", None, Reason.CLIENT_LEFT)
    assert (line.code, line.error, line.severity()) == (None, None, "info")


def test_a_client_that_leaves_a_stream_was_answered() -> None:
    async def work(receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"frame", "more_body": True})
        assert await receive() == CUT

    site = Site(bare(work))
    ask(site, parts=(b"", CUT))
    assert (site.line.status, site.line.http_status, site.line.reason) == ("ok", 200, None)


def test_the_line_names_what_was_learnt_on_the_way() -> None:
    async def work(receive: Receive, send: Send) -> None:
        about = current()
        about.user_id, about.channel, about.lane = ALICE, "instagram,tiktok", Lane.DRILL
        about.flags["calendar"] = "ai@12"
        await answering()({"type": "http", "method": "GET"}, receive, send)

    site = Site(bare(work))
    ask(site)
    line = site.line
    assert (line.user_id, line.channel, line.lane) == (ALICE, "instagram,tiktok", Lane.DRILL)
    assert line.flags == {"calendar": "ai@12"}


def test_what_is_no_request_passes_through() -> None:
    seen: list[str] = []

    async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
        seen.append(scope["type"])

    async def nothing(_message: Message) -> None:
        return

    site = Site(app)
    asyncio.run(site.layer()({"type": "lifespan"}, lambda: asyncio.sleep(0, CUT), nothing))
    assert (seen, site.recorded) == (["lifespan"], [])


inner = APIRouter(prefix="/calendars")
SignedIn = Annotated[User, Depends(require_user)]


@inner.get("/{calendar_id}")
async def read(calendar_id: str, _user: SignedIn) -> str:
    return calendar_id


@inner.post("/{calendar_id}/runs")
async def start(calendar_id: str, body: Annotated[dict[str, int], Body()], _user: SignedIn) -> str:
    return f"{calendar_id} {body}"


@inner.get("/{calendar_id}/conflict")
async def conflict(calendar_id: str) -> None:
    raise Conflict(f"no {calendar_id}", code="RUN_IN_PROGRESS")


@inner.get("/{calendar_id}/away")
async def away(calendar_id: str) -> None:
    raise DatabaseUnavailable(calendar_id)


@inner.get("/{calendar_id}/broken")
async def broken(calendar_id: str) -> None:
    raise RuntimeError(calendar_id)


@inner.get("/{calendar_id}/half")
async def half(calendar_id: str) -> StreamingResponse:
    async def frames() -> AsyncGenerator[bytes]:
        yield b"first"
        raise RuntimeError(calendar_id)

    return StreamingResponse(frames())


async def livez(request: Request) -> str:
    if "broken" in request.headers:
        raise RuntimeError
    return "alive"


def framework() -> FastAPI:
    """Return the real framework, with its own handlers between the routes and the layer."""
    app = FastAPI(telemetry={"tracing": False, "metrics": False, "logs": False})
    app.state.verifier = Verifier(secret=KEY, issuer="tests", audience="authenticated")
    outer = APIRouter(prefix="/v1")
    outer.include_router(inner)
    app.include_router(outer)
    app.add_api_route("/livez", livez)
    problems.install(app, public_url=None)
    return app


def signed_in() -> dict[str, str]:
    token = issue_token(
        secret=KEY,
        issuer="tests",
        audience="authenticated",
        sub=ALICE,
        ttl_s=600,
        now=datetime.now(UTC),
    )
    return {"authorization": f"Bearer {token}"}


@pytest.mark.parametrize(
    ("method", "path", "route", "http_status", "code"),
    [
        ("GET", "/v1/calendars/c1", "/v1/calendars/{calendar_id}", 200, None),
        ("DELETE", "/v1/calendars/c1", "/v1/calendars/{calendar_id}", 405, "METHOD_NOT_ALLOWED"),
        (
            *("GET", "/v1/calendars/c1/conflict", "/v1/calendars/{calendar_id}/conflict"),
            *(409, "RUN_IN_PROGRESS"),
        ),
        (
            *("GET", "/v1/calendars/c1/away", "/v1/calendars/{calendar_id}/away"),
            *(503, "DATABASE_UNAVAILABLE"),
        ),
        (
            *("GET", "/v1/calendars/c1/broken", "/v1/calendars/{calendar_id}/broken"),
            *(500, "INTERNAL"),
        ),
        ("GET", "/v1/secret-path", "unmatched", 404, "ROUTE_NOT_FOUND"),
        ("GET", "/openapi.json", "/openapi.json", 200, None),
    ],
)
def test_the_line_has_the_whole_template_and_the_problems_code(
    method: str, path: str, route: str, http_status: int, code: str | None
) -> None:
    site = Site(framework())
    answer = ask(site, method, path, headers=signed_in())
    line = site.line
    assert (line.route, line.http_status, line.code) == (route, http_status, code)
    assert answer.status == http_status
    assert answer.headers["x-request-id"] == MADE
    if code is not None:
        assert answer.problem["requestId"] == MADE


def test_a_database_that_is_away_is_the_reason() -> None:
    site = Site(framework())
    ask(site, path="/v1/calendars/c1/away")
    assert (site.line.status, site.line.reason) == ("failed", Reason.DATABASE_UNAVAILABLE)


def test_the_frameworks_own_500_is_not_answered_twice_and_its_cause_is_kept() -> None:
    site = Site(framework())
    assert ask(site, path="/v1/calendars/c1/broken").status == 500
    assert site.line.error is not None
    assert site.line.error["type"] == "RuntimeError"


def test_a_stream_of_the_framework_that_breaks_is_cut() -> None:
    site = Site(framework())
    answer = ask(site, path="/v1/calendars/c1/half", raises=RuntimeError)
    assert answer.body == b"first"
    assert site.line.status == "failed"


def test_a_body_too_large_for_a_route_is_told_with_route_and_user() -> None:
    site = Site(framework())
    answer = ask(
        site,
        "POST",
        "/v1/calendars/c1/runs",
        headers=signed_in() | {"content-type": "application/json"},
        parts=(b'{"a": 1', b" " * 100, b"}"),
    )
    assert (answer.status, answer.problem["code"]) == (413, "BODY_TOO_LARGE")
    assert (site.line.route, site.line.user_id) == ("/v1/calendars/{calendar_id}/runs", ALICE)


@pytest.mark.parametrize(("headers", "user_id"), [(signed_in(), ALICE), ({}, None)])
def test_a_body_that_is_no_json_is_told_with_its_user(
    headers: dict[str, str], user_id: str | None
) -> None:
    site = Site(framework())
    answer = ask(
        site,
        "POST",
        "/v1/calendars/c1/runs",
        headers=headers | {"content-type": "application/json"},
        parts=(b"{",),
    )
    assert (answer.status, site.line.user_id) == (422, user_id)


def test_quiet_routes_are_counted_and_not_logged_unless_they_break() -> None:
    site = Site(framework(), is_quiet=True)
    assert ask(site, path="/livez").status == 200
    assert (len(site.counted), site.recorded) == (1, [])
    assert ask(site, path="/livez", headers={"broken": "1"}).status == 500
    assert (len(site.counted), site.line.http_status) == (1, 500)
    site = Site(framework())
    ask(site, path="/livez")
    assert (site.line.route, site.counted) == ("/livez", [])
