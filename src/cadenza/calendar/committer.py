"""One commit for the entries of all runs of a process, so that storing costs little per entry.

While a commit is under way the next batch gathers. A run has at most one entry in it, because its
producer waits; the first entry of a run does not wait for a batch at all.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from uuid import UUID

from cadenza.calendar.store import commit
from cadenza.calendar.store.commit import NewEntry
from cadenza.db.pool import Conn, Database
from cadenza.errors import DatabaseUnavailable

BATCH = 256


class Committer:
    """Stores entries of many runs together; `run()` is its loop."""

    def __init__(
        self, database: Database, *, budget_s: float = 1.5, patience_s: float = 3.0
    ) -> None:
        self._database = database
        self._budget_s, self._patience_s = budget_s, patience_s
        self._waiting: list[tuple[NewEntry, asyncio.Future[bool]]] = []
        self._wanted = asyncio.Event()

    async def store(self, item: NewEntry) -> bool:
        """Return True when the entry and its frame are stored, False when the run is not ours.

        Raises DatabaseUnavailable after `patience_s` without an answer; the entry may then be
        stored or not, and was not shown.
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

    async def _settle(self, batch: list[tuple[NewEntry, asyncio.Future[bool]]]) -> None:
        try:
            mine = await self._commit([item for item, _ in batch])
        except BaseException as error:
            for _, future in batch:
                with suppress(asyncio.InvalidStateError):
                    future.set_exception(
                        error if isinstance(error, DatabaseUnavailable) else DatabaseUnavailable()
                    )
            if not isinstance(error, DatabaseUnavailable):
                raise
            return
        for item, future in batch:
            with suppress(asyncio.InvalidStateError):  # its producer was cancelled meanwhile
                future.set_result(item.run_id in mine)

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
