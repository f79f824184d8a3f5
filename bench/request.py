"""What the safety layer costs a request: id, context, budget, canonical line, metrics; flag."""

import asyncio
import functools
from collections.abc import Iterator
from contextlib import ExitStack

import uvloop
from bench.harness import Figure, Options, Server, alternate, median, server
from bench.request_apps import TOKEN

CONNECTIONS = 16
GOAL_US = 50.0
LABELS = {
    "bare": "FastAPI route alone",
    "layers": "+ id, context, budget, line, metrics",
    "token": "+ a verified token",
    "flag": "+ a flag decision",
}


def measure(options: Options) -> Iterator[Figure]:
    """Yield CPU microseconds per request for each step, and what the safety layer adds."""
    with ExitStack() as stack:
        servers = {
            name: stack.enter_context(server(f"bench.request_apps:{name}")) for name in LABELS
        }
        subjects = {
            name: functools.partial(_round, at, options.round_s) for name, at in servers.items()
        }
        for busy in subjects.values():
            busy()  # warm, not counted
        costs = {name: median(values) for name, values in alternate(subjects, options).items()}
    for name, cost in costs.items():
        yield Figure(
            benchmark="request",
            what=LABELS[name],
            value=cost,
            unit="us/request",
            ratio=cost / costs["bare"],
            baseline=LABELS["bare"],
        )
    safety = costs["layers"] - costs["bare"] + costs["flag"] - costs["token"]
    yield Figure(
        benchmark="request",
        what="safety layer with its flag decision",
        value=safety,
        unit="us/request",
        goal=f"<= {GOAL_US:.0f} us",
        is_met=safety <= GOAL_US,
    )


def _round(at: Server, seconds: float) -> float:
    before = at.cpu_s()
    answered = uvloop.run(_ask(at.address, seconds))
    return (at.cpu_s() - before) / answered * 1e6


async def _ask(address: tuple[str, int], seconds: float) -> int:
    """Ask one after the other on some connections; return how many were answered."""
    request = (
        "GET /v1/calendars/5b0e0000-0000-4000-8000-000000000002 HTTP/1.1\r\nHost: bench\r\n"
        f"Authorization: Bearer {TOKEN}\r\nX-Request-ID: bench-0123456789\r\n\r\n"
    ).encode()
    until = asyncio.get_running_loop().time() + seconds

    async def one() -> int:
        reader, writer = await asyncio.open_connection(*address)
        answered = 0
        while asyncio.get_running_loop().time() < until:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head[:200]
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            await reader.readexactly(length)
            answered += 1
        writer.close()
        return answered

    return sum(await asyncio.gather(*(one() for _ in range(CONNECTIONS))))
