"""After a flip has committed nothing decided before it is written, and why it takes a gate.

"Late" is a write of the old version that was not there when the flip had committed: a post
that leaves after an operator was told that it stopped.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import LiteralString

import psycopg
import pytest

from cadenza.db.gate import gate_of
from cadenza.db.pool import GATE_CLASS, Conn, Database
from cadenza.flags import store
from cadenza.flags.change import By
from cadenza.flags.policy import Policy
from support import TestDatabase, eventually

GATE = gate_of("calendar")
BY = By(actor="ana", reason="race", cause={"kind": "operator", "verb": "test"})
ARM: LiteralString = (
    "INSERT INTO cadenza.arm (v) SELECT %(v)s FROM cadenza.flag_set WHERE version = %(v)s"
)
LOCK_AND_ARM: LiteralString = (
    "WITH gate AS MATERIALIZED (SELECT pg_advisory_xact_lock_shared(%(class)s, %(gate)s))"
    " INSERT INTO cadenza.arm (v) SELECT %(v)s FROM gate, cadenza.flag_set s WHERE version = %(v)s"
)
WAITING: LiteralString = (
    "SELECT count(*) AS n FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


@asynccontextmanager
async def opened(dsn: str) -> AsyncGenerator[Database]:
    pool = Database(dsn, budget_s=20.0)
    await pool.open()
    try:
        await pool.as_ops(lambda conn: store.ensure_first_values(conn, development=True))
        yield pool
    finally:
        await pool.close()


@pytest.fixture
def armed(database: TestDatabase) -> TestDatabase:
    """A table of calls, each with the version it was decided on."""
    with psycopg.connect(database.owner_dsn) as conn:
        conn.execute(
            "CREATE TABLE cadenza.arm (id bigint GENERATED ALWAYS AS IDENTITY, v bigint NOT NULL)"
        )
        conn.execute("GRANT SELECT, INSERT ON cadenza.arm TO cadenza_worker, cadenza_ops")
    return database


def run(database: TestDatabase, story: Callable[[Database], Awaitable[None]]) -> None:
    async def within() -> None:
        async with opened(database.dsn) as pool:
            await story(pool)

    asyncio.run(within())


async def flip(pool: Database) -> int:
    def edit(policy: Policy) -> Policy:
        return replace(policy, percent_bp=10_000 - policy.percent_bp)

    made = await store.change(
        pool,
        key="calendar",
        edit=edit,
        by=BY,
        settings=frozenset({"ai"}),
        hard_kills=frozenset(),
    )
    return made.set_version


async def calls(pool: Database, *, before: int) -> set[int]:
    async def work(conn: Conn) -> set[int]:
        cursor = await conn.execute("SELECT id FROM cadenza.arm WHERE v < %s", [before])
        return {row["id"] for row in await cursor.fetchall()}

    return await pool.as_ops(work)


async def waiting(pool: Database) -> bool:
    async def work(conn: Conn) -> bool:
        row = await (await conn.execute(WAITING)).fetchone()
        return row is not None and row["n"] > 0

    return await pool.as_ops(work)


async def slow_arm(
    pool: Database, version: int, armed: asyncio.Event, go: asyncio.Event, *, gate: int | None
) -> None:
    async def work(conn: Conn) -> None:
        await conn.execute(ARM, {"v": version})
        armed.set()
        await go.wait()

    await pool.as_worker(work, gate=gate)


def test_without_the_gate_a_call_appears_after_the_flip(armed: TestDatabase) -> None:
    async def story(pool: Database) -> None:
        is_armed, go = asyncio.Event(), asyncio.Event()
        arming = asyncio.create_task(slow_arm(pool, 1, is_armed, go, gate=None))
        await is_armed.wait()
        version = await flip(pool)
        seen = await calls(pool, before=version)
        go.set()
        await arming
        assert len(await calls(pool, before=version) - seen) == 1

    run(armed, story)


def test_a_flip_waits_for_the_calls_that_passed_the_gate_before_it(armed: TestDatabase) -> None:
    async def story(pool: Database) -> None:
        is_armed, go = asyncio.Event(), asyncio.Event()
        arming = asyncio.create_task(slow_arm(pool, 1, is_armed, go, gate=GATE))
        await is_armed.wait()
        flipping = asyncio.create_task(flip(pool))
        await eventually(lambda: waiting(pool), what="the flip waits at the gate")
        assert not flipping.done()
        go.set()
        version = await flipping
        assert len(await calls(pool, before=version)) == 1
        await arming

    run(armed, story)


@asynccontextmanager
async def closed_gate(database: TestDatabase) -> AsyncGenerator[psycopg.AsyncConnection]:
    """A flip that has changed the version and not committed yet, made by hand."""
    async with await psycopg.AsyncConnection.connect(database.owner_dsn) as conn:
        await conn.execute("SELECT pg_advisory_xact_lock(%s, %s)", [GATE_CLASS, GATE])
        await conn.execute("UPDATE cadenza.flag_set SET version = version + 1")
        yield conn


def test_lock_and_comparison_in_one_statement_let_an_old_call_through(
    armed: TestDatabase,
) -> None:
    async def story(pool: Database) -> None:
        async def work(conn: Conn) -> None:
            asked = {"v": 1, "class": GATE_CLASS, "gate": GATE}
            await conn.execute(LOCK_AND_ARM, asked)

        async with closed_gate(armed) as flipping:
            arming = asyncio.create_task(pool.as_worker(work))
            await eventually(lambda: waiting(pool), what="the call waits at the gate")
            await flipping.commit()
        await arming
        assert len(await calls(pool, before=2)) == 1

    run(armed, story)


def test_a_call_that_waited_at_the_gate_sees_the_new_version_and_is_not_made(
    armed: TestDatabase,
) -> None:
    async def story(pool: Database) -> None:
        async def work(conn: Conn) -> None:
            await conn.execute(ARM, {"v": 1})

        async with closed_gate(armed) as flipping:
            arming = asyncio.create_task(pool.as_worker(work, gate=GATE))
            await eventually(lambda: waiting(pool), what="the call waits at the gate")
            await flipping.commit()
        await arming
        assert await calls(pool, before=2) == set()

    run(armed, story)


def test_another_flags_gate_is_not_waited_for(armed: TestDatabase) -> None:
    async def story(pool: Database) -> None:
        is_armed, go = asyncio.Event(), asyncio.Event()
        other = gate_of("publish")
        arming = asyncio.create_task(slow_arm(pool, 1, is_armed, go, gate=other))
        await is_armed.wait()
        assert await flip(pool) == 2
        go.set()
        await arming

    run(armed, story)


def test_a_hundred_flips_among_four_armers_leave_no_late_call(armed: TestDatabase) -> None:
    async def story(pool: Database) -> None:
        known, made, done = [1], [0], asyncio.Event()

        async def work(conn: Conn) -> None:
            cursor = await conn.execute(ARM, {"v": known[0]})
            made[0] += cursor.rowcount

        async def armer() -> None:
            while not done.is_set():
                await pool.as_worker(work, gate=GATE)

        armers = [asyncio.create_task(armer()) for _ in range(4)]
        seen: list[tuple[int, set[int]]] = []
        for _ in range(100):
            version = await flip(pool)
            seen.append((version, await calls(pool, before=version)))
            known[0] = version
            enough = made[0] + random.randint(1, 4)  # noqa: S311  # where flips fall, no secret

            async def more(enough: int = enough) -> bool:
                return made[0] >= enough

            await eventually(more, what="the armers arm")
        done.set()
        await asyncio.gather(*armers)
        late = [await calls(pool, before=version) - ids for version, ids in seen]
        assert made[0] >= 100
        assert late == [set[int]()] * 100

    run(armed, story)
