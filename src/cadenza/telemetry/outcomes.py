"""Outcome rows: one per finished unit of work, whoever writes it and however often.

A unit that ends in a transaction of its own (a run, an intent) inserts its row there. What has
no such transaction (the end of a stream), and everything while the database is away, waits in a
bounded ring and is flushed; the unit's id makes a second flush harmless.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

from cadenza.db.pool import Conn, Database
from cadenza.errors import DatabaseUnavailable
from cadenza.events import Outcome
from cadenza.telemetry.log import user_hash
from cadenza.telemetry.recorder import Record

RING = 10_000
_INSERT = """
INSERT INTO cadenza.outcome (id, lane, signal, at, verdict, reason, channel, variant, flag_version,
  version, request_id, run_id, calendar_id, user_hash)
VALUES (%(id)s, %(lane)s, %(signal)s, %(at)s, %(verdict)s, %(reason)s, %(channel)s, %(variant)s,
  %(flag_version)s, %(version)s, %(request_id)s, %(run_id)s, %(calendar_id)s, %(user_hash)s)
ON CONFLICT (id) DO NOTHING RETURNING id
"""
_PURGE = "DELETE FROM cadenza.outcome WHERE at < now() - make_interval(hours => %s)"


async def insert(conn: Conn, outcome: Outcome, *, version: str) -> bool:
    """Write the row in the caller's transaction; return whether this call was the one that did.

    Only then may the caller emit the outcome, and only after the commit.
    """
    row = {
        "id": outcome.id,
        "lane": outcome.lane,
        "signal": outcome.name,
        "at": outcome.at,
        "verdict": outcome.verdict,
        "reason": outcome.reason,
        "channel": outcome.channel,
        "variant": outcome.variant,
        "flag_version": outcome.flag_version,
        "version": version,
        "request_id": outcome.request_id,
        "run_id": outcome.run_id,
        "calendar_id": outcome.calendar_id,
        "user_hash": None if outcome.user_id is None else user_hash(outcome.user_id),
    }
    return await (await conn.execute(_INSERT, row)).fetchone() is not None


async def purge(conn: Conn, *, hours: int) -> int:
    """Delete outcome rows older than `hours`; return how many."""
    return (await conn.execute(_PURGE, [hours])).rowcount


class Ring:
    """Outcomes that are not yet rows; the oldest fall out at `size`, counted in `lost`."""

    def __init__(
        self, database: Database, record: Record, *, version: str, size: int = RING
    ) -> None:
        self._database, self._record, self._version = database, record, version
        self._size = size
        self._waiting: OrderedDict[UUID, Outcome] = OrderedDict()
        self.lost = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, outcome: Outcome) -> None:
        """Keep an outcome until the next flush; the same unit twice is one."""
        self._waiting.setdefault(outcome.id, outcome)
        while len(self._waiting) > self._size:
            self._waiting.popitem(last=False)
            self.lost += 1

    async def flush(self, *, budget_s: float = 2.0) -> int:
        """Write what waits; emit each row that is new; return how many are gone from the ring.

        With the database away nothing is lost and nothing is raised: 0 is returned.
        """
        batch = tuple(self._waiting.values())[:200]
        if not batch:
            return 0
        try:
            new = await self._database.as_worker(self._insert_all(batch), budget_s=budget_s)
        except DatabaseUnavailable:
            return 0
        for outcome in batch:
            self._waiting.pop(outcome.id, None)
        for outcome in new:
            self._record(outcome)
        return len(batch)

    def _insert_all(self, batch: Sequence[Outcome]) -> Callable[[Conn], Awaitable[list[Outcome]]]:
        async def work(conn: Conn) -> list[Outcome]:
            return [o for o in batch if await insert(conn, o, version=self._version)]

        return work
