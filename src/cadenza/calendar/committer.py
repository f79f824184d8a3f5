"""One commit for the entries of all runs of a process, so that storing costs little per entry.

While a commit is under way the next batch gathers. A run has at most one entry in it, because its
producer waits; the first entry of a run does not wait for a batch at all.
"""

import asyncio
from collections.abc import Sequence
from uuid import UUID

from cadenza.calendar.store import commit
from cadenza.calendar.store.commit import NewEntry
from cadenza.db.pool import Conn, Database
from cadenza.errors import DatabaseUnavailable

BATCH = 256
_Batch = list[tuple[NewEntry, asyncio.Future[bool]]]


class Committer:
    """Stores entries of many runs together; `run()` is its loop."""

    def __init__(
        self, database: Database, *, budget_s: float = 1.5, patience_s: float = 3.0
    ) -> None:
        self._database = database
        self._budget_s, self._patience_s = budget_s, patience_s
        self._waiting: _Batch = []
        self._wanted = asyncio.Event()

    async def store(self, item: NewEntry) -> bool:
        """Return True when the entry and its frame are stored, False when the run is not ours.

        Raises DatabaseUnavailable after `patience_s` without an answer; the entry may then be
        stored or not, and was not shown. Raises what the database said of an entry that it
        cannot store; entries of other runs are not touched by that.
        """
        if item.seq == 1:
            return item.run_id in await self._commit([item])
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        self._wanted.set()
        return await future

    async def run(self) -> None:
        """Commit what gathers, for ever."""
        while True:
            await self._wanted.wait()
            batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
            if not self._waiting:
                self._wanted.clear()
            await self._settle(batch)

    async def _settle(self, batch: _Batch) -> None:
        try:
            mine = await self._commit([item for item, _ in batch])
        except asyncio.CancelledError:
            _refuse(batch, DatabaseUnavailable())
            raise
        except DatabaseUnavailable as error:
            _refuse(batch, error)
        except Exception as error:  # noqa: BLE001  # told to the producer whose entry it was
            await self._settle_one_by_one(batch, error)
        else:
            for item, future in batch:
                if not future.done():  # else its producer was cancelled meanwhile
                    future.set_result(item.run_id in mine)

    async def _settle_one_by_one(self, batch: _Batch, error: Exception) -> None:
        """Find the one entry that cannot be stored, so that it does not take the others along."""
        if len(batch) == 1:
            _refuse(batch, error)
            return
        for one in batch:
            await self._settle([one])

    async def _commit(self, batch: Sequence[NewEntry]) -> set[UUID]:
        """Write a batch; a commit of unknown fate is repeated, which changes nothing twice."""

        async def work(conn: Conn) -> set[UUID]:
            return await commit.store_entries(conn, batch)

        loop = asyncio.get_running_loop()
        until = loop.time() + self._patience_s
        while True:
            try:
                return await self._database.as_worker(work, budget_s=self._budget_s)
            except DatabaseUnavailable:
                if loop.time() >= until:
                    raise
                await asyncio.sleep(0.1)


def _refuse(batch: _Batch, error: Exception) -> None:
    for _, future in batch:
        if not future.done():
            future.set_exception(error)
