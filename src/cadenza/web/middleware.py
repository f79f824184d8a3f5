"""The one layer around the application: an id, a context, a budget, a bound, one line at the end.

Pure ASGI, because Starlette's base class for middleware costs five times as much and turns an
exception in mid-stream into a clean end. Where `send` is called from does not matter to it: the
stream responder writes from a task that serves all streams.
"""

import asyncio
import re
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final
from uuid import UUID

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uuid_utils.compat import uuid7

from cadenza.db import budget
from cadenza.errors import Reason, TooLarge
from cadenza.events import RequestFinished
from cadenza.telemetry import context
from cadenza.telemetry.context import Context
from cadenza.telemetry.log import error_fields
from cadenza.telemetry.recorder import Record
from cadenza.telemetry.redact import redact
from cadenza.web import problems
from cadenza.web.auth import user_id_in

MAX_BODY_BYTES: Final = 1024 * 1024
UNMATCHED: Final = "unmatched"
QUIET: Final = frozenset({"/livez", "/readyz", "/metrics"})
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{8,64}")
_TRACEPARENT = re.compile(rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_REASON_OF = {"DATABASE_UNAVAILABLE": Reason.DATABASE_UNAVAILABLE}
_REJECTED, _FAILED = 400, 500
_PATH_IDS = frozenset({"calendar_id", "run_id", "intent_id"})


class RequestLayer:
    """Gives every request its id and budget, and its one RequestFinished, whatever happens.

    `record` gets that event. With `count`, requests that only ask how we are (QUIET) go there
    instead, counted and not logged, unless they broke. `clock` is monotonic, in seconds.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        record: Record,
        count: Record | None = None,
        budget_s: float = 1.5,
        max_body_bytes: int = MAX_BODY_BYTES,
        clock: Callable[[], float] = time.perf_counter,
        new_id: Callable[[], str] = lambda: str(uuid7()),
    ) -> None:
        self._app, self._record, self._count = app, record, count
        self._budget_s, self._max_body_bytes = budget_s, max_body_bytes
        self._clock, self._new_id = clock, new_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; raises what broke an answer that had begun, so that it is cut."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = self._clock()
        exchange = _Exchange(scope, receive, send, max_body_bytes=self._max_body_bytes)
        exchange.request_id = exchange.given_id or self._new_id()
        about = Context(request_id=exchange.request_id, traceparent=exchange.traceparent)
        until = asyncio.get_running_loop().time() + self._budget_s
        with context.entered(about):
            outer = budget.deadline.set(until)
            try:
                await _serve(self._app, exchange)
            finally:
                budget.deadline.reset(outer)
                self._tell(exchange.finished(about, duration_s=self._clock() - began), exchange)

    def _tell(self, event: RequestFinished, exchange: "_Exchange") -> None:
        if self._count is not None and event.route in QUIET and exchange.error is None:
            self._count(event)
        else:
            self._record(event)


async def _serve(app: ASGIApp, exchange: "_Exchange") -> None:
    """Run the application; answer in its place when it could not."""
    try:
        await app(exchange.scope, exchange.receive, exchange.send)
    except Exception as error:  # noqa: BLE001  # whatever it was, someone waits for an answer
        exchange.error = error
    except BaseException:
        exchange.is_cut_off = True
        raise
    if exchange.is_too_large:
        exchange.error = None
        refusal = TooLarge(f"The body has more than {exchange.max_body_bytes} bytes")
        await exchange.answer(problems.answer(refusal, public_url=None))
    elif exchange.status is None and not exchange.has_left_early:
        await exchange.answer(problems.answer_unexpected())
    elif exchange.error is not None and not exchange.is_complete and not exchange.has_left_early:
        raise exchange.error


class _Exchange:
    """One request and its answer, as they pass through."""

    __slots__ = (
        "_receive",
        "_received_bytes",
        "_send",
        "declared_bytes",
        "error",
        "given_id",
        "has_left_early",
        "is_complete",
        "is_cut_off",
        "is_too_large",
        "max_body_bytes",
        "request_id",
        "scope",
        "status",
        "traceparent",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send, *, max_body_bytes: int) -> None:
        self.scope, self._receive, self._send = scope, receive, send
        self.max_body_bytes = max_body_bytes
        self._received_bytes = self.declared_bytes = 0
        self.given_id: str | None = None
        self.traceparent: str | None = None
        self.request_id = ""
        self.status: int | None = None
        self.error: Exception | None = None
        self.is_complete = self.is_cut_off = self.is_too_large = self.has_left_early = False
        self._read_headers()

    def _read_headers(self) -> None:
        for name, value in self.scope["headers"]:
            if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
                self.given_id = _no_secret(value.decode())
            elif name == b"traceparent" and _TRACEPARENT.fullmatch(value):
                self.traceparent = value.decode()
            elif name == b"content-length" and value.isdigit():
                self.declared_bytes = int(value)

    async def receive(self) -> Message:
        """Return the next message; raises TooLarge once the body is, announced or counted.

        Nothing is asked of the client when it announces too much: one that waits for leave to
        send does not send.
        """
        if self.is_too_large or self.declared_bytes > self.max_body_bytes:
            self._refuse()
        message = await self._receive()
        if message["type"] == "http.request":
            self._received_bytes += len(message.get("body", b""))
            if self._received_bytes > self.max_body_bytes:
                self._refuse()
        elif self.status is None:
            self.has_left_early = True
        return message

    def _refuse(self) -> None:
        # An answer that has begun is not taken back.
        self.is_too_large = self.status is None
        raise TooLarge(f"The body has more than {self.max_body_bytes} bytes")

    async def send(self, message: Message) -> None:
        """Pass the answer on, with the request's id."""
        if self.is_too_large:
            return  # what the application makes of the refusal; the answer is ours
        await self._pass_on(message)

    async def _pass_on(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            own = (b"x-request-id", self.request_id.encode())
            headers = [*message.get("headers", ()), own]
            message = {**message, "headers": headers}
        elif message["type"] == "http.response.body" and not message.get("more_body", False):
            self.is_complete = True
        await self._send(message)

    async def answer(self, response: ASGIApp) -> None:
        """Answer in the application's place."""
        await response(self.scope, self._receive, self._pass_on)

    def finished(self, about: Context, *, duration_s: float) -> RequestFinished:
        """Return the event of this request's end."""
        status, reason = self._judged(about.code)
        if about.user_id is None and status == "rejected" and self.status not in {401, 403}:
            about.user_id = user_id_in(self.scope)  # refused before a route could ask who it was
        _bind_path(about, self.scope)
        return RequestFinished(
            request_id=about.request_id,
            user_id=about.user_id,
            channel=about.channel,
            calendar_id=about.calendar_id,
            run_id=about.run_id,
            intent_id=about.intent_id,
            flags=about.flags or None,
            lane=about.lane,
            status=status,
            reason=reason,
            duration_ms=round(duration_s * 1000),
            method=self.scope["method"],
            route=route_of(self.scope),
            http_status=None if self.has_left_early else self.status,
            code=None if self.has_left_early else about.code,
            error=None if self.error is None else error_fields(self.error),
        )

    def _judged(self, code: str | None) -> tuple[str, Reason | None]:
        if self.has_left_early:
            return "rejected", Reason.CLIENT_LEFT
        if self.is_cut_off:
            return "failed", Reason.SHUTDOWN
        if self.error is not None or self.status is None:
            return "failed", Reason.INTERNAL
        if self.status >= _FAILED:
            return "failed", _REASON_OF.get(code or "")
        return "rejected" if self.status >= _REJECTED else "ok", None


def _no_secret(given: str) -> str | None:
    """Return the id, None for one shaped like a credential: the log would not keep it as it is."""
    return given if redact(given) == given else None


def _bind_path(about: Context, scope: Scope) -> None:
    """Name what the address names, where the request was refused before its route could."""
    named: dict[str, object] = scope.get("path_params") or {}
    for name, value in named.items():
        if name in _PATH_IDS and getattr(about, name) is None:
            with suppress(ValueError):
                setattr(about, name, UUID(str(value)))


def route_of(scope: Scope) -> str:
    """Return the template of the route that was matched, `unmatched` without one; never a path."""
    route = scope.get("route")
    if route is None:
        # A plain route leaves no template; one without parameters is its own.
        is_plain = "endpoint" in scope and not scope.get("path_params")
        return scope["path"] if is_plain and not scope.get("root_path") else UNMATCHED
    # What a router was included with is known to the inclusion only, not to the route.
    included = scope.get("fastapi", {}).get("effective_route_context")
    for known in (included, route):
        template = getattr(known, "path_format", None) or getattr(known, "path", None)
        if template:
            return template
    return UNMATCHED
