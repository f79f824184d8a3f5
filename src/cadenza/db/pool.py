"""The only way to a connection: a transaction with an identity, inside a budget.

Every DSN is treated as transaction-pooled: identity, timeouts and locks live in the transaction
and die with it; nothing is prepared, nothing is set on the session.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, LiteralString, TypeVar

from psycopg import AsyncConnection, InterfaceError, OperationalError
from psycopg.errors import DeadlockDetected
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout

from cadenza.db import budget
from cadenza.errors import DatabaseUnavailable

T = TypeVar("T")
Conn = AsyncConnection[DictRow]
Work = Callable[[Conn], Awaitable[T]]

GATE_CLASS = 0xCADE
_OPEN = (
    "SELECT set_config('role', %(role)s, true), set_config('request.jwt.claims', %(claims)s, true),"
    " set_config('statement_timeout', %(timeout)s, true),"
    " set_config('lock_timeout', %(timeout)s, true),"
    # A client that fell silent in a transaction (its machine is gone) would hold its locks, the
    # gate among them, until TCP gives up: two hours.
    " set_config('idle_in_transaction_session_timeout', %(timeout)s, true)"
)
_OPEN_SHARED = _OPEN + ", pg_advisory_xact_lock_shared(%(gates)s, %(gate)s)"
_OPEN_EXCLUSIVE = _OPEN + ", pg_advisory_xact_lock(%(gates)s, %(gate)s)"
_BECOME = "SELECT set_config('role', %s, true)"
_DEADLOCK_TRIES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How many connections each kind of work may hold, so that none starves another."""

    users: int = 10
    worker: int = 6
    ops: int = 2


class Database:
    """Three pools over one Postgres: users (row-level security), the worker, and operators."""

    def __init__(self, dsn: str, *, budget_s: float = 1.5, sizes: Sizes | None = None) -> None:
        sizes = sizes or Sizes()
        self._budget_s = budget_s
        self._users = _Lane(dsn, sizes.users, "users")
        self._worker = _Lane(dsn, sizes.worker, "worker")
        self._ops = _Lane(dsn, sizes.ops, "ops")
        self._abandoned: set[asyncio.Task[Any]] = set()

    async def open(self) -> None:
        """Begin to connect in the background; does not wait for the database."""
        for lane in (self._users, self._worker, self._ops):
            await lane.pool.open(wait=False)

    async def close(self) -> None:
        """Give every connection back and stop the pools' tasks; bounded, whatever the network."""
        for task in tuple(self._abandoned):
            task.cancel()
        pools = [lane.pool for lane in (self._users, self._worker, self._ops)]
        await asyncio.wait([asyncio.ensure_future(p.close(timeout=2)) for p in pools], timeout=5)

    async def as_user(
        self, user_id: str, work: Work[T], *, gate: int | None = None, budget_s: float | None = None
    ) -> T:
        """Return what `work` returns, in one transaction that sees this user's rows only.

        Raises DatabaseUnavailable when the budget is over (what was written may have landed).
        """
        claims = json.dumps({"sub": user_id, "role": "authenticated"})
        start = _Start("authenticated", claims, gate, _OPEN_SHARED)
        return await self._call(self._users, start, work, budget_s)

    async def as_worker(
        self, work: Work[T], *, gate: int | None = None, budget_s: float | None = None
    ) -> T:
        """Return what `work` returns, in one transaction of the worker role."""
        start = _Start("cadenza_worker", "", gate, _OPEN_SHARED)
        return await self._call(self._worker, start, work, budget_s)

    async def as_ops(
        self, work: Work[T], *, closing: int | None = None, budget_s: float | None = None
    ) -> T:
        """Return what `work` returns, in one transaction of the operators' role.

        With `closing`, the gate of that number is held exclusively: every transaction that had
        passed it has ended, and none passes until this one ends.
        """
        start = _Start("cadenza_ops", "", closing, _OPEN_EXCLUSIVE)
        return await self._call(self._ops, start, work, budget_s)

    async def _call(
        self, lane: "_Lane", start: "_Start", work: Work[T], budget_s: float | None
    ) -> T:
        lane.breaker.check()
        time_s = budget.remaining_s(self._budget_s, budget_s)
        try:
            result = await budget.within(
                time_s, _transact(lane, start, work, time_s), self._abandoned
            )
        except (DatabaseUnavailable, PoolTimeout, PoolClosed):
            lane.breaker.abandoned()
            raise DatabaseUnavailable from None
        except (OperationalError, InterfaceError) as error:
            raise DatabaseUnavailable from error
        lane.breaker.answered()
        return result


async def become_worker(conn: Conn) -> None:
    """Go on in this transaction as the worker: what follows is not the user's own doing."""
    await conn.execute(_BECOME, ["cadenza_worker"])


async def become_user(conn: Conn) -> None:
    """Go back to the user this transaction began as; the claims were never changed."""
    await conn.execute(_BECOME, ["authenticated"])


@dataclass(frozen=True, slots=True)
class _Start:
    role: str
    claims: str
    gate: int | None
    gated: LiteralString


class _Lane:
    """One pool and its breaker; a lane that is full or cut off does not close the others."""

    def __init__(self, dsn: str, size: int, name: str) -> None:
        self.pool = _pool(dsn, size, name)
        self.breaker = budget.Breaker(time.monotonic)


def _pool(dsn: str, size: int, name: str) -> AsyncConnectionPool[Conn]:
    return AsyncConnectionPool(
        dsn,
        connection_class=AsyncConnection[DictRow],
        kwargs={
            "autocommit": True,
            "prepare_threshold": None,
            "row_factory": dict_row,
            "connect_timeout": 3,
            "application_name": f"cadenza {name}",
        },
        min_size=1,
        max_size=size,
        open=False,
        name=name,
        reconnect_timeout=1.0,
    )


async def _transact(lane: _Lane, start: _Start, work: Work[T], time_s: float) -> T:
    """Run `work` in a transaction; a dead connection or a deadlock is tried again, in time."""
    stale = deadlocks = 0
    while True:
        begun = False
        async with lane.pool.connection(timeout=time_s) as conn:
            try:
                async with conn.transaction():
                    await _begin(conn, start, time_s)
                    begun = True
                    return await work(conn)
            except DeadlockDetected:
                deadlocks += 1
                if deadlocks >= _DEADLOCK_TRIES:
                    raise
            except OperationalError:
                stale += 1
                if begun or not conn.closed or stale > lane.pool.max_size:
                    raise


async def _begin(conn: Conn, start: _Start, time_s: float) -> None:
    values: dict[str, object] = {
        "role": start.role,
        "claims": start.claims,
        "timeout": str(max(1, int(time_s * 1000))),
        "gates": GATE_CLASS,
        "gate": start.gate,
    }
    await conn.execute(_OPEN if start.gate is None else start.gated, values)
