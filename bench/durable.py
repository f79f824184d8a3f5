"""What it costs that an entry is stored before it is shown, against keeping it in memory only."""

import asyncio
import functools
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import uvloop
from bench.durable_apps import ISSUER, SECRET
from bench.harness import Figure, Options, Server, alternate, median, server
from pydantic import SecretStr

from cadenza.cli.first_values import first_values
from cadenza.db.embedded import EmbeddedPostgres, embedded_postgres
from cadenza.db.migrate import allow_login, migrate
from cadenza.web.auth import issue_token

STREAMS = 100
SPREAD_S = 2.0
ENTRIES = 100
PASSWORD = "bench"  # noqa: S105  of a database that lives for a minute
MEMORY, DURABLE = "memory only", "stored, then shown"
ORDER = json.dumps(
    {"channels": ["bluesky"], "cadence": "daily", "start": "2026-12-01", "end": "2027-03-10"}
)


@dataclass(frozen=True, slots=True)
class _Round:
    cpu_us: float
    first_ms: list[float]
    all_ms: list[float]


def measure(options: Options) -> Iterator[Figure]:
    """Yield CPU per event and the delay from making an entry to having it, both ways."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        postgres = stack.enter_context(embedded_postgres(folder))
        environment = {"BENCH_DSN": _prepared(postgres)}
        servers = {
            name: stack.enter_context(server(f"bench.durable_apps:{app}", environment))
            for name, app in ((MEMORY, "memory"), (DURABLE, "durable"))
        }
        subjects = {name: functools.partial(_round, at) for name, at in servers.items()}
        for busy in subjects.values():
            busy()  # warm, not counted
        rounds = alternate(subjects, options)
    costs = {name: median([one.cpu_us for one in found]) for name, found in rounds.items()}
    for name, cost in costs.items():
        ratio = cost / costs[MEMORY]
        is_ours = name == DURABLE
        yield Figure(
            benchmark="durable",
            what=f"{name}: server CPU per event, {STREAMS} streams",
            value=cost,
            unit="us",
            ratio=ratio,
            baseline=MEMORY,
            goal="<= 1.5" if is_ours else "",
            is_met=ratio <= 1.5 if is_ours else None,
        )
    yield from _delays(rounds)


def _delays(rounds: dict[str, list[_Round]]) -> Iterator[Figure]:
    for name, found in rounds.items():
        first = sorted(delay for one in found for delay in one.first_ms)
        every = sorted(delay for one in found for delay in one.all_ms)
        for what, values, goal in (("first entry", first, 25.0), ("any entry", every, None)):
            for share in (0.5, 0.99):
                value = values[int(share * (len(values) - 1))]
                has_goal = goal is not None and name == DURABLE and share == 0.99
                yield Figure(
                    benchmark="durable",
                    what=f"{name}: made to received, {what}, p{share * 100:.0f}",
                    value=value,
                    unit="ms",
                    goal=f"<= {goal:.0f} ms" if has_goal else "",
                    is_met=value <= goal if has_goal and goal else None,
                )


def _prepared(postgres: EmbeddedPostgres) -> str:
    migrate(postgres.dsn)
    allow_login(postgres.dsn, PASSWORD)
    dsn = f"postgresql://cadenza_app:{PASSWORD}@127.0.0.1:{postgres.port}/postgres"
    asyncio.run(first_values(SecretStr(dsn), development=False))  # off: the template's variant
    return dsn


def _round(at: Server) -> _Round:
    before = at.cpu_s()
    streams = uvloop.run(_stream_all(at.address))
    cpu_us = (at.cpu_s() - before) / (STREAMS * ENTRIES) * 1e6
    return _Round(cpu_us, [one[0] for one in streams], [d for one in streams for d in one])


async def _stream_all(address: tuple[str, int]) -> list[list[float]]:
    return await asyncio.gather(*(_stream(address, n / STREAMS * SPREAD_S) for n in range(STREAMS)))


async def _stream(address: tuple[str, int], after_s: float) -> list[float]:
    """Start a run of a new user; return the delay of each of its entries, in milliseconds."""
    await asyncio.sleep(after_s)
    token = issue_token(
        secret=SECRET,
        issuer=ISSUER,
        audience="authenticated",
        sub=str(uuid4()),
        ttl_s=600,
        now=datetime.now(UTC),
    )
    reader, writer = await asyncio.open_connection(*address, limit=1 << 20)
    writer.write(
        f"POST /v1/calendars/{uuid4()}/runs HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n"
        f"Authorization: Bearer {token}\r\nAccept: text/event-stream\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(ORDER)}\r\n\r\n{ORDER}".encode()
    )
    delays: list[float] = []
    async with asyncio.timeout(60):
        while line := await reader.readline():
            now_ns = time.perf_counter_ns()
            _, found, rest = line.partition(b'"title":"made ')
            if found:
                delays.append((now_ns - int(rest.partition(b'"')[0])) / 1e6)
    writer.close()
    assert len(delays) == ENTRIES, f"{len(delays)} of {ENTRIES} entries"
    return delays
