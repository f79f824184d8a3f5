"""Transactions with an identity, inside a budget."""

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID, uuid4

import psycopg
import pytest

from cadenza.db import pool
from cadenza.db.pool import Conn, Database, become_worker
from cadenza.errors import DatabaseUnavailable
from support import TestDatabase, eventually


def used(database: TestDatabase, work: Callable[[Database], Awaitable[None]]) -> None:
    """Run `work` on an open Database of this test."""

    async def main() -> None:
        opened = Database(database.dsn)
        await opened.open()
        try:
            await work(opened)
        finally:
            await opened.close()

    asyncio.run(main())


def creating(calendar_id: UUID, user_id: str) -> pool.Work[None]:
    async def work(conn: Conn) -> None:
        await conn.execute(
            "INSERT INTO cadenza.calendar (id, user_id) VALUES (%s, %s)", [calendar_id, user_id]
        )

    return work


async def calendars(conn: Conn) -> int:
    row = await (await conn.execute("SELECT count(*) AS n FROM cadenza.calendar")).fetchone()
    assert row is not None
    return row["n"]


def test_a_user_sees_only_their_own_rows_even_without_a_where_clause(
    database: TestDatabase,
) -> None:
    async def work(db: Database) -> None:
        mine, yours = str(uuid4()), str(uuid4())
        await db.as_user(mine, creating(uuid4(), mine))
        assert await db.as_user(mine, calendars) == 1
        assert await db.as_user(yours, calendars) == 0
        assert await db.as_worker(calendars) == 1

    used(database, work)


def test_a_user_cannot_create_rows_of_someone_else(database: TestDatabase) -> None:
    async def work(db: Database) -> None:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await db.as_user(str(uuid4()), creating(uuid4(), str(uuid4())))

    used(database, work)


def test_the_login_itself_may_read_nothing(database: TestDatabase) -> None:
    with (
        psycopg.connect(database.dsn) as conn,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        conn.execute("SELECT * FROM cadenza.calendar")


def test_identity_does_not_outlive_its_transaction(database: TestDatabase) -> None:
    async def work(db: Database) -> None:
        async def become(conn: Conn) -> None:
            await become_worker(conn)

        async def who(conn: Conn) -> str:
            row = await (await conn.execute("SELECT current_user AS who")).fetchone()
            assert row is not None
            return row["who"]

        for _ in range(20):
            await db.as_user(str(uuid4()), become)
            assert await db.as_user(str(uuid4()), who) == "authenticated"

    used(database, work)


def test_a_late_query_is_abandoned_within_the_budget_and_the_pool_heals(
    database: TestDatabase,
) -> None:
    async def work(db: Database) -> None:
        async def late(conn: Conn) -> None:
            await conn.execute("SELECT pg_sleep(60)")

        with pytest.raises(DatabaseUnavailable):
            await db.as_user(str(uuid4()), late, budget_s=0.2)
        assert await db.as_user(str(uuid4()), calendars, budget_s=5) == 0

    used(database, work)


def test_dead_connections_of_the_pool_are_not_the_callers_problem(database: TestDatabase) -> None:
    async def work(db: Database) -> None:
        user_id = str(uuid4())
        await asyncio.gather(*(db.as_user(user_id, calendars, budget_s=5) for _ in range(8)))
        with psycopg.connect(database.owner_dsn, autocommit=True) as killer:
            killer.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE application_name = 'cadenza users' AND datname = current_database()"
            )
        assert await db.as_user(user_id, calendars, budget_s=5) == 0

    used(database, work)


def test_an_unreachable_database_is_refused_at_once_after_three_late_answers() -> None:
    async def main() -> None:
        db = Database("postgresql://nobody@127.0.0.1:9/none", budget_s=0.1)
        await db.open()
        try:
            for _ in range(3):
                with pytest.raises(DatabaseUnavailable):
                    await db.as_user(str(uuid4()), calendars)
            loop = asyncio.get_running_loop()
            before = loop.time()
            with pytest.raises(DatabaseUnavailable):
                await db.as_user(str(uuid4()), calendars)
            assert loop.time() - before < 0.1  # less than the budget: nothing was waited for
        finally:
            await db.close()

    asyncio.run(main())


def test_a_closed_gate_waits_for_those_inside_and_keeps_others_out(database: TestDatabase) -> None:
    async def work(db: Database) -> None:
        order: list[str] = []
        inside, leave = asyncio.Event(), asyncio.Event()

        async def pass_slowly(_conn: Conn) -> None:
            order.append("first in")
            inside.set()
            await leave.wait()
            order.append("first out")

        async def close(_conn: Conn) -> None:
            order.append("closed")

        async def pass_later(_conn: Conn) -> None:
            order.append("second in")

        first = asyncio.ensure_future(db.as_worker(pass_slowly, gate=1, budget_s=10))
        await inside.wait()
        closing = asyncio.ensure_future(db.as_ops(close, closing=1, budget_s=10))

        async def is_waiting() -> bool:
            return await db.as_worker(_waiting_locks, budget_s=5) == 1

        await eventually(is_waiting, what="the exclusive form waits")
        second = asyncio.ensure_future(db.as_worker(pass_later, gate=1, budget_s=10))
        leave.set()
        await asyncio.gather(first, closing, second)
        assert order == ["first in", "first out", "closed", "second in"]

    used(database, work)


async def _waiting_locks(conn: Conn) -> int:
    row = await (
        await conn.execute(
            "SELECT count(*) AS n FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        )
    ).fetchone()
    assert row is not None
    return row["n"]
