"""The pool behind a network that misbehaves, and what is left of a client that fell silent."""

import asyncio
from collections.abc import Awaitable, Callable

import psycopg
import pytest

from cadenza.db.gate import gate_of
from cadenza.db.pool import GATE_CLASS, Conn, Database
from cadenza.drills.proxy import Mode, Proxy, proxied
from cadenza.errors import DatabaseUnavailable
from product import on_port, port_of
from support import TestDatabase, eventually

GATE = gate_of("publish")
Story = Callable[[Database, Proxy], Awaitable[None]]


def behind_a_proxy(database: TestDatabase, story: Story, *, budget_s: float = 1.0) -> None:
    async def main() -> None:
        async with proxied("127.0.0.1", port_of(database.dsn)) as proxy:
            opened = Database(on_port(database.dsn, proxy.port), budget_s=budget_s)
            await opened.open()
            try:
                await story(opened, proxy)
            finally:
                await opened.close()

    asyncio.run(main())


async def one(conn: Conn) -> int:
    row = await (await conn.execute("SELECT 1 AS one")).fetchone()
    assert row is not None
    return row["one"]


async def answers(database: Database) -> bool:
    try:
        return await database.as_worker(one) == 1
    except DatabaseUnavailable:
        return False


@pytest.mark.parametrize("mode", [Mode.BLACKHOLE, Mode.REFUSE, Mode.RESET])
def test_a_fault_is_told_as_unavailable_and_heals_by_itself(
    database: TestDatabase, mode: Mode
) -> None:
    async def story(opened: Database, proxy: Proxy) -> None:
        await eventually(lambda: answers(opened), what="the way is open")
        await proxy.become(mode)
        for _ in range(5):
            asking = asyncio.ensure_future(opened.as_worker(one))
            await asyncio.wait({asking}, timeout=8)  # a query that is awaited takes 11 s
            assert asking.done(), "it hangs"
            assert isinstance(asking.exception(), DatabaseUnavailable)
        await proxy.become(Mode.PASS)
        await eventually(lambda: answers(opened), what="the way is open again")

    behind_a_proxy(database, story)


def test_a_slow_network_is_slow_and_no_fault(database: TestDatabase) -> None:
    async def story(opened: Database, proxy: Proxy) -> None:
        await proxy.become(Mode.SLOW)
        assert await opened.as_worker(one) == 1

    behind_a_proxy(database, story, budget_s=10)


def test_a_client_that_fell_silent_in_a_transaction_holds_no_gate_against_a_flip(
    database: TestDatabase,
) -> None:
    """Its machine lost power, say: no byte ever says so, and the server must let go by itself."""

    async def story(opened: Database, proxy: Proxy) -> None:
        async def fall_silent(conn: Conn) -> None:
            await conn.execute("SELECT 1")
            await proxy.become(Mode.BLACKHOLE)
            await asyncio.Event().wait()

        with pytest.raises(DatabaseUnavailable):
            await opened.as_worker(fall_silent, gate=GATE)
        async with await psycopg.AsyncConnection.connect(database.owner_dsn) as flipping:

            async def is_open() -> bool:
                asked = "SELECT pg_try_advisory_xact_lock(%s, %s)"
                row = await (await flipping.execute(asked, [GATE_CLASS, GATE])).fetchone()
                return row == (True,)

            await eventually(is_open, within_s=10, what="the gate is free")

    behind_a_proxy(database, story)
