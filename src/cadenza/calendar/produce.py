"""Producers: one task per run that stores each entry, then shows it, and always ends the run."""

import asyncio
import contextvars
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from cadenza.calendar.committer import Committer
from cadenza.calendar.ending import Instance, Judge, end_run, judged_by, judged_lost
from cadenza.calendar.event_log import EventLog
from cadenza.calendar.frames import entry_frame, error_frame
from cadenza.calendar.generator import Drafted, Ended, Generator, Rejected, RunStatus
from cadenza.calendar.model import entry_frame_wire
from cadenza.calendar.request import Draft, RunRequest
from cadenza.calendar.store import runs
from cadenza.calendar.store.commit import NewEntry
from cadenza.calendar.store.runs import NewRun
from cadenza.db.pool import Conn, Database
from cadenza.errors import DatabaseUnavailable, Reason
from cadenza.events import Lane
from cadenza.telemetry.context import Context, entered
from cadenza.telemetry.log import Log
from cadenza.telemetry.recorder import Record

ABANDONED_AFTER_S = 8.0
_Item = Drafted | Rejected | Ended


@dataclass(slots=True, eq=False)
class _Live:
    run: NewRun
    stop: asyncio.Future[Ended]
    started_s: float
    entries: int = 0
    rejected: int = 0
    is_abandoned: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What producers work with; put together by the composition root."""

    database: Database
    events: EventLog
    committer: Committer
    generators: Mapping[str, Generator]
    record: Record
    log: Log
    instance: Instance
    version: str
    lease_s: float = 10.0
    new_id: Callable[[], UUID] = field(default=uuid7)

    @property
    def renew_s(self) -> float:
        """Return how often a lease is renewed: one turn can be missed."""
        return self.lease_s * 0.3


class Producers:
    """The runs this process produces, their leases, and the runs it ends for lost producers."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._live: dict[UUID, _Live] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._live)

    def begin(self, run: NewRun, request: RunRequest) -> None:
        """Produce a run whose row and first frame are stored."""
        loop = asyncio.get_running_loop()
        live = self._live[run.id] = _Live(run, loop.create_future(), loop.time())
        self._parts.events.begin(run.id, run.frame)
        # A context of its own: a run outlives the request that starts it, and its budget.
        producing = self._produce(live, request)
        task = asyncio.create_task(producing, context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._forget)

    def cancel(self, run_id: UUID, reason: Reason = Reason.BY_USER) -> None:
        """End a run produced here as cancelled; a run produced elsewhere learns it by renewal."""
        self._stop(run_id, Ended(status=RunStatus.CANCELLED, reason=reason))

    def left(self, run_id: UUID) -> None:
        """Note that the client that started this run is gone; late and empty-handed, it counts."""
        live = self._live.get(run_id)
        now = asyncio.get_running_loop().time()
        if live is not None and live.entries == 0 and now - live.started_s >= ABANDONED_AFTER_S:
            live.is_abandoned = True

    async def drain(self, *, within_s: float) -> None:
        """Let runs finish for that long, end the rest as interrupted by shutdown, and wait."""
        if self._tasks:
            await asyncio.wait(tuple(self._tasks), timeout=max(0.0, within_s))
        for run_id in tuple(self._live):
            self._stop(run_id, Ended(status=RunStatus.INTERRUPTED, reason=Reason.SHUTDOWN))
        if self._tasks:
            await asyncio.wait(tuple(self._tasks), timeout=2.0)
        for task in tuple(self._tasks):
            task.cancel()

    async def renew(self) -> None:
        """Extend the leases of all runs here, for ever; stop those lost or cancelled."""
        while True:
            await asyncio.sleep(self._parts.renew_s)
            if self._live:
                await self._renew_once()

    async def reap(self) -> None:
        """End the runs of lost producers, for ever; those of this instance's last boot at once."""
        while True:
            try:
                await self.reap_once()
            except DatabaseUnavailable:
                pass
            except Exception as error:  # noqa: BLE001  # one bad run must not stop the reaper
                self._parts.log.failure(error)
            await asyncio.sleep(self._parts.renew_s)

    async def reap_once(self) -> int:
        """End every run whose producer is gone; return how many this call ended."""
        instance, mine = self._parts.instance, tuple(self._live)

        async def work(conn: Conn) -> list[UUID]:
            return await runs.lost(conn, mine=mine, name=instance.name, boot=instance.boot)

        ended = 0
        for run_id in await self._parts.database.as_worker(work):
            if await self._end(run_id, None, judged_lost) is not None:
                ended += 1
        return ended

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):  # its end could not be written: the reaper will
            self._parts.log.failure(error)

    async def _renew_once(self) -> None:
        held = [(live.run.id, live.run.lease_token, live.rejected) for live in self._live.values()]

        async def work(conn: Conn) -> dict[UUID, bool]:
            return await runs.renew(conn, held, lease_s=self._parts.lease_s)

        try:
            kept = await self._parts.database.as_worker(work)
        except DatabaseUnavailable:
            return
        for run_id, is_cancelled in kept.items():
            if is_cancelled:
                self.cancel(run_id)

    def _stop(self, run_id: UUID, ended: Ended) -> None:
        live = self._live.get(run_id)
        if live is not None and not live.stop.done():
            live.stop.set_result(ended)

    async def _produce(self, live: _Live, request: RunRequest) -> None:
        with entered(_context(live.run)):
            try:
                ended = await self._generate(live, request)
                if ended is None:
                    self._parts.events.lose(live.run.id)
                else:
                    await self._finish(live, ended)
            finally:
                self._live.pop(live.run.id, None)

    async def _generate(self, live: _Live, request: RunRequest) -> Ended | None:
        """Store and show entries until the run's end; None when it is no longer ours."""
        try:
            return await self._store_all(live, request)
        except DatabaseUnavailable:
            self._show_failure(live)
            return Ended(status=RunStatus.FAILED, reason=Reason.DATABASE_UNAVAILABLE)
        except Exception as error:  # noqa: BLE001  # whatever it is, the run gets its end
            self._parts.log.failure(error)
            return Ended(status=RunStatus.FAILED, reason=Reason.INTERNAL)

    async def _store_all(self, live: _Live, request: RunRequest) -> Ended | None:
        generator = self._parts.generators[live.run.variant]
        async with aclosing(generator.entries(request)) as items:
            while True:
                item = await _next_or_stop(items, live.stop)
                if isinstance(item, Ended):
                    return item
                if isinstance(item, Rejected):
                    live.rejected += 1
                    self._parts.log.note("calendar.entry.rejected", message=item.why)
                elif not await self._store(live, item.draft):
                    return None

    async def _store(self, live: _Live, draft: Draft) -> bool:
        """Store one entry, then show it; False when the run is no longer ours to write to."""
        seq, entry_id = live.entries + 1, self._parts.new_id()
        frame = entry_frame(1, seq, entry_frame_wire(draft, entry_id))
        item = NewEntry(
            run_id=live.run.id,
            token=live.run.lease_token,
            seq=seq,
            row=_entry_row(live.run.id, entry_id, draft),
            frame=frame,
        )
        if not await self._parts.committer.store(item):
            return False
        live.entries = seq
        self._parts.events.append(live.run.id, frame)
        return True

    async def _finish(self, live: _Live, ended: Ended) -> None:
        """Store the end and show it; while the database is away, keep trying for ever."""
        judge = judged_by(ended, rejected=live.rejected, is_abandoned=live.is_abandoned)
        pause_s = 0.2
        while True:
            try:
                frame = await self._end(live.run.id, live.run.lease_token, judge)
            except DatabaseUnavailable:
                self._show_failure(live)
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, 2.0)
                continue
            if frame is None:
                self._parts.events.lose(live.run.id)
            else:
                self._parts.events.end(live.run.id, frame)
            return

    async def _end(self, run_id: UUID, token: UUID | None, judge: Judge) -> bytes | None:
        parts = self._parts
        return await end_run(
            parts.database,
            parts.record,
            run_id,
            token=token,
            instance=parts.instance,
            judge=judge,
            version=parts.version,
        )

    def _show_failure(self, live: _Live) -> None:
        problem = error_frame(
            code=DatabaseUnavailable.code,
            status=503,
            request_id=live.run.request_id,
            run_id=live.run.id,
        )
        self._parts.events.fail(live.run.id, problem)


async def _next_or_stop(items: AsyncGenerator[_Item], stop: asyncio.Future[Ended]) -> _Item:
    """Wait for the next item or for the stop, whichever comes first."""
    if stop.done():
        return stop.result()
    upcoming = asyncio.ensure_future(anext(items))
    try:
        await asyncio.wait({upcoming, stop}, return_when=asyncio.FIRST_COMPLETED)
        if upcoming.done():
            return upcoming.result()
        return stop.result()
    finally:
        if not upcoming.done():
            upcoming.cancel()
            await asyncio.wait({upcoming})


def _context(run: NewRun) -> Context:
    return Context(
        request_id=run.request_id,
        user_id=run.user_id,
        channel=run.channels,
        calendar_id=run.calendar_id,
        run_id=run.id,
        lane=Lane(run.lane),
        flags={"calendar": f"{run.variant}@{run.flag_version}"},
    )


def _entry_row(run_id: UUID, entry_id: UUID, draft: Draft) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "id": entry_id,
        "title": draft.title,
        "channel": draft.channel,
        "format": draft.format,
        "copy": draft.copy,
        "script": draft.script,
        "target_audience": draft.target_audience,
        "date": draft.date,
        "time": draft.time,
        "timezone": draft.timezone,
        "hashtags": draft.hashtags,
        "media": draft.media,
    }
