"""The product as its users meet it: the real application on a real port, and who calls it."""

import asyncio
import contextlib
import json
import logging
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import httpx
import jwt
import psycopg
import psycopg.rows
import uvloop
from httpx_sse import EventSource, ServerSentEvent

from cadenza.cli.first_values import first_values
from cadenza.cli.server import DrainingServer, listening
from cadenza.runtime import Runtime, open_runtime
from cadenza.settings import Settings, read_settings
from cadenza.telemetry.verify import verify_lines
from cadenza.web import app as web
from cadenza.web.auth import issue_token, token_sha256
from support import TestDatabase

SECRET = "a secret of tests that is long enough"  # noqa: S105
ISSUER, AUDIENCE = "https://issuer.test/auth/v1", "authenticated"
OPERATORS = {"ana": "operator", "vic": "viewer"}
QUIET = {"/livez", "/readyz", "/metrics"}
STARTED_WITHIN_S = 60.0
Json = dict[str, Any]

RUN: Json = {
    "channels": ["instagram", "bluesky"],
    "cadence": "daily",
    "start": "2027-03-01",
    "end": "2027-03-04",
    "timezone": "Europe/Madrid",
    "brief": "A bakery",
}
ENTRY: Json = {
    "title": "The oven is on",
    "channel": "bluesky",
    "copy": "Tomorrow at seven.",
    "date": "2027-03-01",
    "time": "09:00",
    "timezone": "Europe/Madrid",
    "hashtags": ["bakery"],
}
_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # what httpx makes by itself takes 30 ms
_KEPT = """
SELECT 'calendar' AS what, c.id, md5(c::text) AS digest FROM cadenza.calendar c
WHERE user_id = %(user)s
UNION ALL SELECT 'entry', e.id, md5(e::text) FROM cadenza.calendar_entry e WHERE user_id = %(user)s
UNION ALL SELECT 'revision', v.calendar_id, md5(v::text) FROM cadenza.calendar_revision v
WHERE user_id = %(user)s
UNION ALL SELECT 'run', r.id, md5(r::text) FROM cadenza.run r WHERE user_id = %(user)s
UNION ALL SELECT 'event', e.run_id, md5(e::text) FROM cadenza.run_event e WHERE user_id = %(user)s
UNION ALL SELECT 'intent', i.id, md5(i::text) FROM cadenza.publish_intent i WHERE user_id = %(user)s
UNION ALL SELECT 'key', user_id, md5(k::text) FROM cadenza.idempotency_key k
WHERE user_id = %(user)s
ORDER BY 1, 2, 3
"""


@dataclass(frozen=True, slots=True)
class Simulator:
    """The simulated AI provider, a program of its own."""

    url: str

    @contextmanager
    def plays(self, scenario: str, **pace: int) -> Generator[None]:
        """Make every answer that scenario for this block."""
        control = {"scenario": scenario, "entryGapMs": 0, **pace}
        httpx.put(f"{self.url}/_sim/ai", json=control).raise_for_status()
        try:
            yield
        finally:
            httpx.delete(f"{self.url}/_sim/ai").raise_for_status()


@contextmanager
def simulating() -> Generator[Simulator]:
    """Run the simulator as a program for this block."""
    told = [sys.executable, "-m", "cadenza.simulator", "--die-with-parent"]
    with subprocess.Popen(told, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            yield Simulator(json.loads(process.stdout.readline())["url"])
        finally:
            process.terminate()


class Frames(list[ServerSentEvent]):
    """The frames of one stream, in order."""

    def of(self, event: str) -> list[Json]:
        """Return the data of the frames of one kind."""
        return [frame.json() for frame in self if frame.event == event]

    @property
    def texts(self) -> list[tuple[str, str, str]]:
        """Return id, event and data of each frame, to compare streams."""
        return [(frame.id, frame.event, frame.data) for frame in self]

    @property
    def entries(self) -> list[Json]:
        """Return the entries shown."""
        return [data["entry"] for data in self.of("entry")]

    @property
    def done(self) -> Json:
        """Return the one terminal frame's data; it is the last frame."""
        (done,) = self.of("done")
        assert self[-1].event == "done"
        return done

    @property
    def run_id(self) -> str:
        """Return the run's id, from its first frame."""
        return self.of("run")[0]["runId"]

    @property
    def ids(self) -> list[str]:
        """Return the ids of the frames that have one of their own."""
        return [frame.id for frame in self if frame.event in {"run", "entry", "done"}]


@dataclass(slots=True)
class Log:
    """The log file of a served instance, read as it grows."""

    path: Path
    _at: int = 0
    _rest: bytes = b""
    _lines: list[Json] = field(default_factory=list[Json])

    def lines(self, event: str | None = None, **match: object) -> list[Json]:
        """Return the lines so far, or those of one event whose fields are these."""
        with self.path.open("rb") as file:
            file.seek(self._at)
            new = file.read()
        self._at += len(new)
        *whole, self._rest = (self._rest + new).split(b"\n")
        self._lines += [json.loads(line) for line in whole]
        return [
            line
            for line in self._lines
            if event in {None, line["event"]}
            and all(line[key] == value for key, value in match.items())
        ]

    def one(self, event: str, **match: object) -> Json:
        """Return the only such line, waiting for it: it is written after the answer."""
        wait_until(lambda: self.lines(event, **match), what=f"a line {event} {match}")
        (line,) = self.lines(event, **match)
        return line


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody with a token, and their way of asking; `id` is empty for an operator."""

    id: str
    token: str
    http: httpx.Client

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> httpx.Response:
        """Ask; `If_Match="3"` is the header If-Match with the quotes of an ETag."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if "If-Match" in named:
            named["If-Match"] = f'"{named["If-Match"]}"'
        if body is None:
            return self.http.request(method, path, headers=named)
        return self.http.request(method, path, json=body, headers=named)

    def get(self, path: str) -> httpx.Response:
        """Ask for what is at `path`."""
        return self.ask("GET", path)

    @contextmanager
    def streaming(
        self, method: str, path: str, body: object = None, **headers: str
    ) -> Generator[Iterator[ServerSentEvent]]:
        """Open a stream and give its frames as they come."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        named["Accept"] = "text/event-stream"
        with self.http.stream(method, path, json=body, headers=named) as answer:
            if answer.is_error:
                answer.read()
            assert answer.is_success, answer.text
            yield EventSource(answer).iter_sse()

    def stream(self, method: str, path: str, body: object = None, **headers: str) -> Frames:
        """Return every frame of a stream, read to its end."""
        with self.streaming(method, path, body, **headers) as frames:
            return Frames(frames)

    def run(self, calendar_id: str | None = None, /, **changes: object) -> Frames:
        """Return every frame of a new run."""
        path = f"/v1/calendars/{calendar_id or uuid4()}/runs"
        return self.stream("POST", path, {**RUN, **changes})

    def saved(self, *entries: Json) -> Json:
        """Return a new calendar with these entries."""
        path = f"/v1/calendars/{uuid4()}/entries"
        answer = self.ask("PUT", path, {"entries": list(entries)}, If_None_Match="*")
        assert answer.status_code == httpx.codes.OK, answer.text
        return answer.json()

    def calendar(self, calendar_id: str) -> Json:
        """Return a calendar as it is saved now."""
        answer = self.get(f"/v1/calendars/{calendar_id}")
        assert answer.status_code == httpx.codes.OK, answer.text
        return answer.json()

    def export(self, calendar_id: str, kind: str = "json") -> bytes:
        """Return a calendar as it is exported now."""
        answer = self.get(f"/v1/calendars/{calendar_id}/export?format={kind}")
        assert answer.status_code == httpx.codes.OK, answer.text
        return answer.content


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A served instance: how to reach it, and what it leaves behind."""

    url: str
    settings: Settings
    runtime: Runtime
    app: Any
    log: Log
    database: TestDatabase
    operator_tokens: dict[str, str]
    answered: list[str]
    stack: ExitStack

    def person(self, token: str, user_id: str = "") -> Person:
        """Return somebody who asks with this token."""
        client = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=60,
            trust_env=False,
            verify=_NO_TLS,
            event_hooks={"response": [self._remember]},
        )
        return Person(id=user_id, token=token, http=self.stack.enter_context(client))

    def user(self, user_id: str | None = None) -> Person:
        """Return a signed-in user, somebody new unless named."""
        user_id = user_id or str(uuid4())
        return self.person(self.token(sub=user_id), user_id)

    def operator(self, name: str = "ana") -> Person:
        """Return an operator by name."""
        return self.person(self.operator_tokens[name])

    def token(self, **claims: object) -> str:
        """Return a token of the issuer, with some claims otherwise."""
        issued = issue_token(
            secret=SECRET,
            issuer=ISSUER,
            audience=AUDIENCE,
            sub=str(uuid4()),
            ttl_s=600,
            now=datetime.now(UTC),
        )
        plain: Any = jwt.decode(issued, options={"verify_signature": False})  # pyright: ignore[reportUnknownMemberType]
        return jwt.encode({**plain, **claims}, SECRET)  # pyright: ignore[reportUnknownMemberType]

    def line_of(self, answer: httpx.Response) -> Json:
        """Return the canonical line of a request, of which there is exactly one."""
        return self.log.one("http.request.finished", requestId=answer.headers["x-request-id"])

    def rows(self, statement: str, *values: object, **named: object) -> list[Json]:
        """Return what the database holds, as its owner sees it."""
        with (
            psycopg.connect(self.database.owner_dsn, autocommit=True) as conn,
            conn.cursor(row_factory=psycopg.rows.dict_row) as cursor,
        ):
            return cursor.execute(statement.encode(), named or values).fetchall()

    def kept_of(self, user_id: str) -> list[Json]:
        """Return a digest of every row that a user has, to see that nothing was changed."""
        return self.rows(_KEPT, user=user_id)

    def execute(self, statement: str, *values: object) -> None:
        """Change what no user may change, as the owner."""
        with psycopg.connect(self.database.owner_dsn, autocommit=True) as conn:
            conn.execute(statement.encode(), values)

    def _remember(self, answer: httpx.Response) -> None:
        if answer.request.url.path not in QUIET:
            self.answered.append(answer.headers["x-request-id"])


Serve = Callable[..., AbstractContextManager[Served]]
"""Serves over the test's own database; `name` is the instance's, the rest are settings."""


@contextmanager
def serving(
    database: TestDatabase, home: Path, simulator: Simulator | None = None, **settings: str
) -> Generator[Served]:
    """Serve the application for this block, drain it, and hold it to one line per request.

    `settings` are variables without `CADENZA_`, or whole names such as CALENDAR_SERVICE_ENABLED.
    """
    home.mkdir(parents=True, exist_ok=True)
    tokens = {name: f"{name}-{uuid4().hex}" for name in OPERATORS}
    known = [
        {"name": name, "tokenSha256": token_sha256(token), "role": OPERATORS[name]}
        for name, token in tokens.items()
    ]
    (home / "operators.json").write_text(json.dumps(known))
    with listening("127.0.0.1", 0) as listener, ExitStack() as stack:
        port = listener.getsockname()[1]
        chosen = _settings(database, home, port, simulator, settings)
        server = stack.enter_context(_running(chosen, listener))
        served = Served(
            url=f"http://127.0.0.1:{port}",
            settings=chosen,
            runtime=server.app.state.runtime,
            app=server.app,
            log=Log(home / "log.jsonl"),
            database=database,
            operator_tokens=tokens,
            answered=[],
            stack=stack.enter_context(ExitStack()),
        )
        yield served
    _check_lines(served)


def wait_until(condition: Callable[[], object], *, within_s: float = 20.0, what: str = "") -> None:
    """Wait for a condition, looking again and again until the deadline."""
    limit = time.monotonic() + within_s
    look = threading.Event()
    while not condition():
        assert time.monotonic() < limit, f"not within {within_s} s: {what or condition}"
        look.wait(0.005)


def _check_lines(served: Served) -> None:
    lines = [line["requestId"] for line in served.log.lines("http.request.finished")]
    untold = {
        request_id: lines.count(request_id)
        for request_id in set(served.answered)
        if lines.count(request_id) != served.answered.count(request_id)
    }
    assert not untold, f"answered requests without exactly one line: {untold}"
    report = verify_lines(served.log.path.read_bytes().splitlines(), requests=True)
    assert not report.broken, report.violations[:20]
    failed = served.log.lines("process.instance.failed")
    assert not failed, f"something raised in the background: {failed}"


def _settings(
    database: TestDatabase,
    home: Path,
    port: int,
    simulator: Simulator | None,
    more: dict[str, str],
) -> Settings:
    usual = {
        "ENV": "development",
        "HOME": str(home),
        "PORT": str(port),
        "DATABASE_URL": database.dsn,
        "JWT_SECRET": SECRET,
        "JWT_ISSUER": ISSUER,
        "LOG_FILE": str(home / "log.jsonl"),
        "REQUEST_BUDGET_S": "15",
        "FLAGS_POLL_S": "0.05",
        "DRAIN_S": "6",
    }
    if simulator is not None:
        usual |= {"AI_BASE_URL": f"{simulator.url}/v1", "AI_MODEL": "sim-ok@0"}
    named = {name: value for name, value in {**usual, **more}.items() if value}
    return read_settings(
        {
            name if name.endswith("_SERVICE_ENABLED") else f"CADENZA_{name}": value
            for name, value in named.items()
        }
    )


class _Server(DrainingServer):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave the signals to the tests."""
        yield


@dataclass(slots=True)
class _Running:
    app: Any = None
    loop: asyncio.AbstractEventLoop | None = None
    server: _Server | None = None
    error: BaseException | None = None
    is_ready: threading.Event = field(default_factory=threading.Event)

    def serve(self, settings: Settings, listener: socket.socket) -> None:
        """Serve in this thread, until told to leave."""
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._serve(settings, listener))
        except BaseException as error:  # noqa: BLE001  # raised again where the test can see it
            self.error = error
        finally:
            self.is_ready.set()

    async def _serve(self, settings: Settings, listener: socket.socket) -> None:
        self.loop = asyncio.get_running_loop()
        await first_values(settings.database_url, development=settings.env == "development")
        async with open_runtime(settings) as runtime:
            self.app = web.create_app(runtime)
            self.server = _Server(
                web.serve(self.app),
                drain=partial(web.drain, self.app),
                drain_s=settings.drain_s,
                ready=self.is_ready.set,
            )
            await self.server.serve([listener])

    def leave(self) -> None:
        """Tell the server to drain and stop."""
        if self.loop is not None and self.server is not None and not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.server.leave)


@contextmanager
def _running(settings: Settings, listener: socket.socket) -> Generator[_Running]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    running = _Running()
    thread = threading.Thread(target=running.serve, args=(settings, listener), daemon=True)
    thread.start()
    try:
        assert running.is_ready.wait(STARTED_WITHIN_S), "the application did not start"
        if running.error is not None:
            raise running.error
        yield running
    finally:
        running.leave()
        thread.join(STARTED_WITHIN_S)
        root.handlers, root.level = handlers, level
    assert not thread.is_alive(), "the application did not stop"
    if running.error is not None:
        raise running.error


def check_refused(
    served: Served, answer: httpx.Response, status: int, code: str, pointer: str | None = None
) -> Json:
    """Return a refusal's document, after the log's one line of it; the mistake at `pointer`."""
    document = problem_of(answer)
    assert (answer.status_code, document["code"]) == (status, code), answer.text
    found = [mistake["pointer"] for mistake in document["errors"]]
    assert pointer is None or found[:1] == [pointer], answer.text
    line = served.line_of(answer)
    assert line["status"] == "rejected"
    assert (line["httpStatus"], line["code"]) == (status, code)
    assert line["method"] == answer.request.method
    assert line["route"].startswith(("/v1/", "/ops/", "unmatched"))
    assert line["lane"] == "live"
    assert line["reason"] is None
    assert line["durationMs"] >= 0
    return document


def problem_of(answer: httpx.Response) -> Json:
    """Return the document of a refusal, whose fixed members are as the contract has them."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    document = cast("Json", answer.json())
    assert document["type"] == f"urn:cadenza:problem:{document['code']}"
    assert document["status"] == answer.status_code
    assert document["requestId"] == answer.headers["x-request-id"]
    assert document["title"]
    assert document["detail"]
    for mistake in document["errors"]:
        assert set(mistake) == {"pointer", "code", "fix"}
        assert mistake["fix"][0].isupper(), f"no sentence: {mistake}"
    return document
