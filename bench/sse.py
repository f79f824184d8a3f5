"""Streams: events per CPU second, and what an open stream costs while nothing happens.

Baselines: an application that only calls the server's `send`, and Starlette's StreamingResponse
over the same bytes, with a heartbeat of its own per stream.
"""

import functools
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace

import uvloop
from bench.harness import Figure, Options, Server, alternate, median, median_ratio, server
from bench.load import Crowd, Tally, read_again_and_again
from bench.sse_apps import EVENTS

CONNECTIONS = 32
WARM_STREAMS = 100
HEARTBEAT_ROUNDS = 3
PRODUCT_HEARTBEAT_S = 15
RAW, OURS, STARLETTE = "raw ASGI", "ours", "Starlette"
OURS_FASTAPI, OURS_INSIDE = "ours, FastAPI route", "ours, inside FastAPI"
APPS = {
    RAW: "bench.sse_apps:raw",
    OURS: "bench.sse_apps:ours",
    OURS_FASTAPI: "bench.sse_apps:ours_fastapi",
    OURS_INSIDE: "bench.sse_apps:ours_fastapi_inside",
    STARLETTE: "bench.sse_apps:starlette",
}
BUSY = (RAW, OURS, OURS_FASTAPI, STARLETTE)
IDLE = (STARLETTE, OURS, OURS_FASTAPI, OURS_INSIDE)


def measure(options: Options) -> Iterator[Figure]:
    """Yield the figures of events per CPU second, then those of idle streams."""
    yield from _events_per_cpu_second(options)
    yield from _idle_streams(replace(options, rounds=min(options.rounds, 3)), 1_000)
    if options.is_long:
        yield from _idle_streams(replace(options, rounds=1), 10_000)


def _events_per_cpu_second(options: Options) -> Iterator[Figure]:
    with ExitStack() as stack:
        servers = {name: stack.enter_context(server(APPS[name])) for name in BUSY}
        subjects = {
            name: functools.partial(_busy_round, at, options.round_s)
            for name, at in servers.items()
        }
        for busy in subjects.values():
            busy()  # warm, not counted
        rates = alternate(subjects, options)
    for name, rounds in rates.items():
        rate = median(rounds)
        ratio = median_ratio(rounds, rates[RAW])
        is_ours = name == OURS
        yield Figure(
            benchmark="sse",
            what=f"{name}: events per CPU second",
            value=rate,
            unit="/s",
            ratio=ratio,
            baseline=RAW,
            goal=">= 0.75" if is_ours else "",
            is_met=ratio >= 0.75 if is_ours else None,
        )


def _busy_round(at: Server, seconds: float) -> float:
    before = at.cpu_s()
    ended = uvloop.run(
        read_again_and_again(at.address, "/events", connections=CONNECTIONS, seconds=seconds)
    )
    return ended * EVENTS / (at.cpu_s() - before)


@dataclass(frozen=True, slots=True)
class _Idle:
    """What idle streams cost: memory, opening, heartbeats."""

    kb_each: float
    open_us_each: float
    heartbeat_us_each: float


def _idle_streams(options: Options, streams: int) -> Iterator[Figure]:
    subjects = {name: functools.partial(_idle_round, APPS[name], streams) for name in IDLE}
    measured = alternate(subjects, options)
    for name, rounds in measured.items():
        yield from _idle_figures(name, streams, rounds, measured[STARLETTE])


def _idle_figures(
    name: str, streams: int, rounds: list[_Idle], baseline: list[_Idle]
) -> Iterator[Figure]:
    title = f"{streams:,} idle, {name}"
    is_ours = name in {OURS, OURS_FASTAPI}
    kb = median([one.kb_each for one in rounds])
    open_us = median([one.open_us_each for one in rounds])
    beat_us = median([one.heartbeat_us_each for one in rounds])
    core = 100 * beat_us * streams / 1e6 / PRODUCT_HEARTBEAT_S
    base_core = median([one.heartbeat_us_each for one in baseline]) * streams / 1e4
    yield Figure(
        benchmark="sse",
        what=f"{title}: memory",
        value=kb,
        unit="kB",
        ratio=kb / median([one.kb_each for one in baseline]),
        baseline=STARLETTE,
        goal="<= 12 kB" if is_ours else "",
        is_met=kb <= 12 if is_ours else None,
    )
    yield Figure(
        benchmark="sse",
        what=f"{title}: CPU to open",
        value=open_us,
        unit="us",
        ratio=open_us / median([one.open_us_each for one in baseline]),
        baseline=STARLETTE,
    )
    yield Figure(
        benchmark="sse",
        what=f"{title}: heartbeats",
        value=core,
        unit="% core",
        ratio=core / (base_core / PRODUCT_HEARTBEAT_S),
        baseline=STARLETTE,
        goal="<= 5 % at 10,000" if is_ours else "",
        is_met=core * 10_000 / streams <= 5 if is_ours else None,
    )


def _idle_round(app: str, streams: int) -> _Idle:
    with server(app) as at:
        return uvloop.run(_hold(at, streams))


async def _hold(at: Server, streams: int) -> _Idle:
    crowd = Crowd(at.address, "/idle", Tally(), [])
    await crowd.grow(WARM_STREAMS)
    await crowd.heartbeats(1)
    kb_before, cpu_before = at.resident_kb(), at.cpu_s()
    await crowd.grow(streams - WARM_STREAMS)
    opening_s = at.cpu_s() - cpu_before
    await crowd.heartbeats(1)
    grown_kb, cpu_before = at.resident_kb() - kb_before, at.cpu_s()
    heartbeats = await crowd.heartbeats(HEARTBEAT_ROUNDS)
    beating_s = at.cpu_s() - cpu_before
    crowd.close()
    opened = streams - WARM_STREAMS
    return _Idle(grown_kb / opened, 1e6 * opening_s / opened, 1e6 * beating_s / heartbeats)
