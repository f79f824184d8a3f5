"""The product as a program: started, killed, stopped and started again, and a client that keeps.

`tests/served.py` serves the application inside the test; here it is `cadenza up` in a process of
its own, so that it can lose its power, or stand still.
"""

import asyncio
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import psycopg.rows
from httpx_sse import EventSource

from cadenza.cli.home import ISSUER, Development, read_development
from cadenza.db.embedded import embedded_dsn
from cadenza.db.embedded_place import erase_data
from cadenza.drills.proxy import Mode, Proxy, proxied
from cadenza.web.auth import issue_token
from served import wait_until

Json = dict[str, Any]
RESET = struct.pack("ii", 1, 0)
STARTED_WITHIN_S = 90.0
ENDED_WITHIN_S = 40.0
PATIENCE_S = 60.0
"""How long a client waits for bytes: far more than the product ever lets it wait."""


@dataclass(slots=True)
class Product:
    """One instance: its home, its process while it lives, and the doors to it."""

    home: Path
    settings: dict[str, str]
    dsn: str | None = None
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    boots: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.home / "log.jsonl"

    @property
    def known(self) -> Development:
        """Return what `up` keeps in its home."""
        found = read_development(self.home)
        assert found is not None, "up has not come that far"
        return found

    def start(self) -> None:
        """Start it on its home, and wait until it answers."""
        self.port = self.port or _free_port()
        self.home.mkdir(parents=True, exist_ok=True)
        with (self.home / f"up-{self.boots}.txt").open("wb") as told:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cadenza", "up"],
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=told,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.boots += 1
        wait_until(self._answers, within_s=STARTED_WITHIN_S, what="the product answers")

    def kill(self) -> None:
        """Take its power away (SIGKILL), and with it its Postgres and its simulator."""
        self._end(signal.SIGKILL)

    def terminate(self) -> int:
        """Ask it to stop (SIGTERM), wait until it has, and return its exit code."""
        return self._end(signal.SIGTERM)

    def halt(self) -> None:
        """Let it stand still (SIGSTOP)."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on (SIGCONT)."""
        self._signal(signal.SIGCONT)

    def kill_postgres(self) -> None:
        """Take the power of its embedded Postgres away, by the id of the server's process."""
        kill_postgres(self.home)

    def close(self) -> None:
        """End it, however it stands, and remove its database."""
        if self.process is not None:
            self.resume()
            self._end(signal.SIGTERM)
        if (self.home / "postgres.lock").exists():
            erase_data(self.home)

    def client(self, user_id: str | None = None) -> "Client":
        """Return a user's client, somebody new unless named."""
        user_id = user_id or str(uuid4())
        secret = self.settings.get("CADENZA_JWT_SECRET") or self.known.jwt_secret
        token = issue_token(
            secret=secret,
            issuer=ISSUER,
            audience="authenticated",
            sub=user_id,
            ttl_s=3600,
            now=datetime.now(UTC),
        )
        return Client(url=self.url, token=token, user_id=user_id)

    def rows(self, statement: str, *values: object) -> list[Json]:
        """Return what the database holds, as its owner sees it."""
        with (
            psycopg.connect(self.dsn or embedded_dsn(self.home) or "", autocommit=True) as conn,
            conn.cursor(row_factory=psycopg.rows.dict_row) as cursor,
        ):
            return cursor.execute(statement.encode(), values or None).fetchall()

    def lines(self, event: str, **match: object) -> list[Json]:
        """Return the lines of its log of this event, over all its boots."""
        whole = self.log.read_bytes().split(b"\n")[:-1] if self.log.exists() else []
        lines = [json.loads(line) for line in whole if line]
        return [
            line
            for line in lines
            if line["event"] == event and all(line[k] == v for k, v in match.items())
        ]

    def metric(self, name: str) -> float:
        """Return the value of a gauge without labels."""
        page = httpx.get(f"{self.url}/metrics", timeout=PATIENCE_S, trust_env=False).text
        (line,) = (line for line in page.splitlines() if line.startswith(f"{name} "))
        return float(line.split()[1])

    def _environment(self) -> dict[str, str]:
        # What the test itself runs in, less what would choose other settings.
        inherited = {
            name: value
            for name, value in os.environ.items()  # noqa: TID251  # handed on to a program
            if not name.startswith("CADENZA_")
        }
        own = {
            "CADENZA_HOME": str(self.home),
            "CADENZA_PORT": str(self.port),
            "CADENZA_LOG_FILE": str(self.log),
        }
        return {**inherited, **own, **self.settings}

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self._told()
        with suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/livez", timeout=5, trust_env=False).is_success
        return False

    def _told(self) -> str:
        return (self.home / f"up-{self.boots - 1}.txt").read_text(errors="replace")[-2000:]

    def _signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def _end(self, number: signal.Signals) -> int:
        assert self.process is not None
        children = _children(self.process.pid)
        self.process.send_signal(number)
        try:
            code = self.process.wait(ENDED_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait(ENDED_WITHIN_S)
        self.process = None
        wait_until(
            lambda: not any(_lives(child) for child in children),
            within_s=ENDED_WITHIN_S,
            what="its Postgres and its simulator are gone",
        )
        return code


@contextmanager
def product(home: Path, *, dsn: str | None = None, **settings: str) -> Generator[Product]:
    """Run one instance for this block; `settings` are variables without `CADENZA_`.

    `dsn` is the owner's way to the database, where it is not the embedded one.
    """
    made = Product(home, {f"CADENZA_{name}": value for name, value in settings.items()}, dsn)
    try:
        made.start()
        yield made
    finally:
        made.close()


@dataclass(slots=True)
class Kept:
    """What a client has of one run: what it was shown, in the order it was shown."""

    calendar_id: str
    run_id: str = ""
    last_id: str | None = None
    ids: list[str] = field(default_factory=list[str])
    entries: list[Json] = field(default_factory=list[Json])
    ends: list[Json] = field(default_factory=list[Json])
    errors: list[Json] = field(default_factory=list[Json])
    resets: int = 0

    @property
    def is_over(self) -> bool:
        return bool(self.ends)

    @property
    def shown(self) -> list[str]:
        """Return the ids of the entries, in the order they came."""
        return [entry["id"] for entry in self.entries]

    def take(self, event: str, event_id: str, data: Json) -> None:
        """Keep one frame, as any client would."""
        match event:
            case "reset":
                self.resets += 1
                self.ids, self.entries, self.ends = [], [], []
                return
            case "error":
                self.errors.append(data)
                return
            case "run":
                self.run_id = data["runId"]
            case "entry":
                assert data["index"] == len(self.entries) + 1, f"{data['index']} is out of turn"
                self.entries.append(data["entry"])
            case "done":
                self.ends.append(data)
            case _:
                raise AssertionError(f"an unknown frame: {event}")
        self.ids.append(event_id)
        self.last_id = event_id


@dataclass(slots=True)
class Client:
    """A user's client: asks, streams, and keeps what it is shown."""

    url: str
    token: str = field(repr=False)
    user_id: str

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        timeout_s: float = PATIENCE_S,
        **headers: str,
    ) -> httpx.Response:
        """Ask once, on a connection of its own, and return the answer."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        with self._http(timeout_s) as http:
            return http.request(method, path, json=body, headers=named)

    def begin(self, wish: Json, *, until: Callable[[Kept], bool], rude: bool = False) -> Kept:
        """Start a run and read its stream until then, or to its end."""
        kept = Kept(str(uuid4()))
        self._read(kept, "POST", f"/v1/calendars/{kept.calendar_id}/runs", wish, until, rude=rude)
        return kept

    def follow(
        self, kept: Kept, *, until: Callable[[Kept], bool] | None = None, rude: bool = False
    ) -> int:
        """Resume after the last frame that was kept, and read until then; return the status."""
        path = f"/v1/runs/{kept.run_id}/events"
        return self._read(kept, "GET", path, None, until or (lambda _kept: False), rude=rude)

    def follow_to_the_end(self, kept: Kept) -> None:
        """Resume as often as it takes, as an EventSource does, until the run is over."""

        def is_over() -> bool:
            with suppress(httpx.TransportError):
                self.follow(kept)
            return kept.is_over

        wait_until(is_over, within_s=PATIENCE_S, what=f"run {kept.run_id} is over")

    def _read(
        self,
        kept: Kept,
        method: str,
        path: str,
        body: object,
        until: Callable[[Kept], bool],
        *,
        rude: bool,
    ) -> int:
        headers = {"Accept": "text/event-stream"}
        if kept.last_id is not None:
            headers["Last-Event-ID"] = kept.last_id
        with (
            self._http() as http,
            http.stream(method, path, json=body, headers=headers) as answer,
        ):
            if "text/event-stream" not in answer.headers.get("content-type", ""):
                answer.read()
                return answer.status_code
            frames = EventSource(answer).iter_sse()  # held: its end would close the connection
            for frame in frames:
                if not frame.data:  # only says when to come back
                    continue
                kept.take(frame.event, frame.id, frame.json())
                if until(kept):
                    break
            if rude:
                _cut_off(answer)
        return answer.status_code

    def _http(self, timeout_s: float = PATIENCE_S) -> httpx.Client:
        return httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {self.token}"},
            timeout=timeout_s,
            trust_env=False,
        )


@dataclass(frozen=True, slots=True)
class Wire:
    """The cable to a server, in a hand that can pull it."""

    port: int
    become: Callable[[Mode], None]


@contextmanager
def wired(port: int) -> Generator[Wire]:
    """Put a proxy before the server on this port, for this block."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="wire", daemon=True)
    thread.start()
    over: asyncio.Event = asyncio.Event()
    made: list[Proxy] = []
    is_there = threading.Event()

    async def hold() -> None:
        async with proxied("127.0.0.1", port) as proxy:
            made.append(proxy)
            is_there.set()
            await over.wait()

    holding = asyncio.run_coroutine_threadsafe(hold(), loop)
    try:
        assert is_there.wait(20), "the proxy listens"

        def become(mode: Mode) -> None:
            asyncio.run_coroutine_threadsafe(made[0].become(mode), loop).result(20)

        yield Wire(made[0].port, become)
    finally:
        loop.call_soon_threadsafe(over.set)
        holding.result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
        loop.close()


def kill_postgres(home: Path) -> None:
    """Kill the Postgres of this home, by the id that it wrote down, and wait for all of it."""
    pointer = home / "postgres.place"
    folder = Path(pointer.read_text().strip()) if pointer.exists() else home
    pid = int((folder / "postgres" / "postmaster.pid").read_text().split()[0])
    family = [pid, *_children(pid)]
    os.kill(pid, signal.SIGKILL)
    wait_until(
        lambda: not any(_lives(one) for one in family),
        within_s=ENDED_WITHIN_S,
        what="Postgres is gone",
    )


def on_port(dsn: str, port: int) -> str:
    """Return the same way to a database, through another port."""
    before, _, after = dsn.rpartition("@")
    host, _, rest = after.partition(":")
    return f"{before}@{host}:{port}/{rest.partition('/')[2]}"


def port_of(dsn: str) -> int:
    """Return the port of a way to a database."""
    return int(dsn.rpartition("@")[2].partition(":")[2].partition("/")[0])


def run_of(product: Product, run_id: str) -> Json:
    """Return a run's row."""
    (row,) = product.rows("SELECT * FROM cadenza.run WHERE id = %s", UUID(run_id))
    return row


def check(product: Product, client: Client, kept: Kept) -> None:
    """Hold a run that is over to everything that is promised of it.

    What the client has is contiguous and ends once; what is stored, what the log holds, what the
    API shows and what a second reading gives are the very same; there is one outcome.
    """
    places = [f"1.{place}" for place in range(len(kept.ids))]
    assert kept.ids == places, f"lost or shown twice: {kept.ids}"
    assert len(kept.ends) == 1
    assert kept.resets == 0
    run_id = UUID(kept.run_id)
    entries = product.rows("SELECT id FROM cadenza.calendar_entry WHERE run_id = %s", run_id)
    assert sorted(str(row["id"]) for row in entries) == sorted(kept.shown)
    frames = product.rows(
        "SELECT seq, terminal, frame FROM cadenza.run_event WHERE run_id = %s ORDER BY seq", run_id
    )
    assert [row["seq"] for row in frames] == list(range(len(places)))
    assert [row["seq"] for row in frames if row["terminal"]] == [len(places) - 1]
    outcomes = product.rows("SELECT verdict, reason FROM cadenza.outcome WHERE id = %s", run_id)
    assert len(outcomes) == 1
    row, done = run_of(product, kept.run_id), kept.ends[0]
    assert (row["status"], row["reason"]) == (done["status"], done["reason"])
    assert row["entries"] == done["entries"] == len(kept.entries)
    assert len(product.lines("calendar.run.finished", runId=kept.run_id)) <= 1
    again = Kept(kept.calendar_id, kept.run_id)
    client.follow(again)
    assert (again.ids, again.entries, again.ends) == (kept.ids, kept.entries, kept.ends)
    assert client.follow(kept) == httpx.codes.NO_CONTENT
    calendar = client.ask("GET", f"/v1/calendars/{kept.calendar_id}").json()
    assert sorted(entry["id"] for entry in calendar["entries"]) == sorted(kept.shown)


def _cut_off(answer: httpx.Response) -> None:
    """Reset the connection, as a client does whose machine went to sleep."""
    connection: socket.socket = answer.extensions["network_stream"].get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _children(pid: int) -> list[int]:
    """Return the processes that a process started, by the kernel's own list."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += [int(child) for child in task.read_text().split()]
    return found


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"
