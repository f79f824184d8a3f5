"""Who reads which run: frames of runs made here come from memory, all others from the store.

Readers get stored frames only, in order and without a gap. A run that is produced elsewhere is
followed by ONE poller for the whole process, however many readers and runs there are.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

from cadenza.calendar.frames import error_frame
from cadenza.calendar.store import runs
from cadenza.calendar.store.runs import StoredFrame
from cadenza.db.pool import Conn, Database
from cadenza.errors import DatabaseUnavailable


class Reader(Protocol):
    """One client's stream, as the log sees it; no call waits or raises."""

    def push(self, frames: bytes, count: int = 1) -> None:
        """Write encoded frames."""
        ...

    def finish(self, frames: bytes = b"", count: int = 0) -> None:
        """Write the last frames and end: the run's own end was among them."""
        ...

    def fail(self, frame: bytes) -> None:
        """Write the frame that says the end could not be had, and end; the client resumes."""
        ...


@dataclass(slots=True)
class _Live:
    frames: list[bytes]
    readers: set[Reader] = field(default_factory=set[Reader])


class EventLog:
    """The event logs of a process's runs, and the tails of others'."""

    def __init__(
        self,
        database: Database,
        *,
        fast_s: float = 0.05,
        slow_s: float = 0.5,
        patience_s: float = 5.0,
    ) -> None:
        self._database = database
        self._fast_s, self._slow_s, self._patience_s = fast_s, slow_s, patience_s
        self._live: dict[UUID, _Live] = {}
        self._tails: dict[UUID, dict[Reader, int]] = {}
        self._wanted = asyncio.Event()

    def begin(self, run_id: UUID, frame: bytes) -> None:
        """Take up a run that is produced here and whose first frame is stored."""
        self._live[run_id] = _Live([frame])

    def append(self, run_id: UUID, frame: bytes) -> None:
        """Show the next frame of a run produced here; it is stored already."""
        live = self._live[run_id]
        live.frames.append(frame)
        for reader in tuple(live.readers):
            reader.push(frame)

    def end(self, run_id: UUID, frame: bytes) -> None:
        """Show the last frame of a run produced here and let go of it."""
        for reader in self._live.pop(run_id, _Live([])).readers:
            reader.finish(frame, 1)

    def fail(self, run_id: UUID, frame: bytes) -> None:
        """Let go of a run produced here whose end cannot be stored now; its readers come back."""
        for reader in self._live.pop(run_id, _Live([])).readers:
            reader.fail(frame)

    def lose(self, run_id: UUID) -> None:
        """Let go of a run that is no longer ours; its readers follow the store from here on."""
        live = self._live.pop(run_id, None)
        if live is not None:
            for reader in live.readers:
                self._tail(run_id, reader, len(live.frames) - 1)

    async def follow(self, run_id: UUID, reader: Reader, *, after: int = -1) -> None:
        """Give `reader` every stored frame after that place, now and as they come.

        Raises DatabaseUnavailable when what is stored cannot be read.
        """
        live = self._live.get(run_id)
        if live is None:
            await self._follow_stored(run_id, reader, after)
            return
        backlog = live.frames[after + 1 :]
        if backlog:
            reader.push(b"".join(backlog), len(backlog))
        live.readers.add(reader)

    def last_seq(self, run_id: UUID) -> int | None:
        """Return the highest place of a run produced here, None for any other run."""
        live = self._live.get(run_id)
        return None if live is None else len(live.frames) - 1

    def leave(self, run_id: UUID, reader: Reader) -> None:
        """Forget a reader whose stream has ended."""
        live = self._live.get(run_id)
        if live is not None:
            live.readers.discard(reader)
        readers = self._tails.get(run_id)
        if readers is not None:
            readers.pop(reader, None)
            if not readers:
                del self._tails[run_id]

    async def poll(self) -> None:
        """Follow the runs of others for ever: often while frames come, seldom while none do."""
        pause_s, last_answer = self._fast_s, asyncio.get_running_loop().time()
        while True:
            await self._wanted.wait()
            if not self._tails:
                self._wanted.clear()
                continue
            now = asyncio.get_running_loop().time()
            try:
                moved = await self._poll_once()
                last_answer, pause_s = now, self._fast_s if moved else pause_s * 1.5
            except DatabaseUnavailable:
                if now - last_answer > self._patience_s:
                    self._give_up()
                    last_answer = now
            pause_s = min(pause_s, self._slow_s)
            await asyncio.sleep(pause_s)

    async def _follow_stored(self, run_id: UUID, reader: Reader, after: int) -> None:
        async def work(conn: Conn) -> list[StoredFrame]:
            return await runs.frames_after(conn, run_id, after)

        stored = await self._database.as_worker(work)
        place, is_over = _hand_over(reader, after, stored)
        if not is_over:
            self._tail(run_id, reader, place)

    def _tail(self, run_id: UUID, reader: Reader, place: int) -> None:
        self._tails.setdefault(run_id, {})[reader] = place
        self._wanted.set()

    async def _poll_once(self) -> bool:
        asked = {run_id: min(readers.values()) for run_id, readers in self._tails.items()}

        async def work(conn: Conn) -> dict[UUID, list[StoredFrame]]:
            return await runs.tail(conn, asked)

        found = await self._database.as_worker(work)
        for run_id, stored in found.items():
            for reader, place in tuple(self._tails.get(run_id, {}).items()):
                self._advance(run_id, reader, place, stored)
        return bool(found)

    def _advance(self, run_id: UUID, reader: Reader, place: int, stored: list[StoredFrame]) -> None:
        place, is_over = _hand_over(reader, place, stored)
        if is_over:
            self.leave(run_id, reader)
        elif run_id in self._tails and reader in self._tails[run_id]:
            self._tails[run_id][reader] = place

    def _give_up(self) -> None:
        """End every tail with an error that has no id, so that clients come back and resume."""
        for run_id, readers in tuple(self._tails.items()):
            problem = error_frame(
                code=DatabaseUnavailable.code, status=503, request_id=None, run_id=run_id
            )
            for reader in tuple(readers):
                reader.fail(problem)
                self.leave(run_id, reader)


def _hand_over(reader: Reader, place: int, stored: list[StoredFrame]) -> tuple[int, bool]:
    """Give what follows `place` without a gap; return the new place and if that was the end."""
    frames: list[bytes] = []
    is_over = False
    for item in stored:
        if item.seq == place + 1:
            frames.append(item.frame)
            place, is_over = item.seq, item.terminal
    if is_over:
        reader.finish(b"".join(frames), len(frames))
    elif frames:
        reader.push(b"".join(frames), len(frames))
    return place, is_over
