"""Outcome rows: one per unit, told once, whoever writes them; none lost without a database."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from uuid import UUID, uuid4

import psycopg

from cadenza.db.pool import Database
from cadenza.drills.proxy import Mode, proxied
from cadenza.events import Event, StreamFinished, Verdict
from cadenza.telemetry.outcomes import Ring
from product import on_port, port_of
from support import TestDatabase, eventually


def stream(number: int = 1) -> StreamFinished:
    return StreamFinished(
        id=UUID(int=number),
        at=datetime(2026, 11, 23, 9, 14, tzinfo=UTC),
        request_id="request-1",
        user_id=str(uuid4()),
        channel="instagram",
        calendar_id=uuid4(),
        run_id=uuid4(),
        status="terminal",
        reason=None,
        verdict=Verdict.GOOD,
        flags=None,
        variant="ai",
        flag_version=1,
        frames=3,
        resumed=False,
    )


def used(dsn: str, work: Callable[[Database], Awaitable[None]]) -> None:
    async def main() -> None:
        opened = Database(dsn, budget_s=10)
        await opened.open()
        try:
            await work(opened)
        finally:
            await opened.close()

    asyncio.run(main())


def count(database: TestDatabase) -> int:
    with psycopg.connect(database.owner_dsn) as conn:
        row = conn.execute("SELECT count(*) FROM cadenza.outcome").fetchone()
    assert row is not None
    return row[0]


def test_a_unit_flushed_by_two_processes_is_one_row_and_told_once(database: TestDatabase) -> None:
    async def work(opened: Database) -> None:
        told: list[Event] = []
        rings = [Ring(opened, told.append, version="0") for _ in range(2)]
        for ring in rings:
            ring.add(stream())
            ring.add(stream())
        assert [await ring.flush(budget_s=10) for ring in rings] == [1, 1]
        assert [len(ring) for ring in rings] == [0, 0]
        assert len(told) == 1

    used(database.dsn, work)
    assert count(database) == 1


def test_without_a_database_outcomes_wait_and_are_written_when_it_is_back(
    database: TestDatabase,
) -> None:
    told: list[Event] = []

    async def main() -> None:
        async with proxied("127.0.0.1", port_of(database.dsn)) as proxy:
            opened = Database(on_port(database.dsn, proxy.port))
            await opened.open()
            ring = Ring(opened, told.append, version="0")
            await proxy.become(Mode.REFUSE)
            for number in range(1, 4):
                ring.add(stream(number))
            assert await ring.flush(budget_s=0.5) == 0
            assert (len(ring), told) == (3, [])
            await proxy.become(Mode.PASS)

            async def written() -> bool:
                return await ring.flush() == 3

            await eventually(written, what="the outcomes are rows")
            await opened.close()

    asyncio.run(main())
    assert len(told) == count(database) == 3


def test_the_oldest_falls_out_of_a_full_ring_and_is_counted(database: TestDatabase) -> None:
    async def work(opened: Database) -> None:
        told: list[Event] = []
        ring = Ring(opened, told.append, version="0", size=2)
        for number in range(1, 4):
            ring.add(stream(number))
        assert (len(ring), ring.lost) == (2, 1)
        await ring.flush(budget_s=10)
        assert [event.id for event in told if isinstance(event, StreamFinished)] == [
            UUID(int=2),
            UUID(int=3),
        ]

    used(database.dsn, work)
