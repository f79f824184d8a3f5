"""A client that costs little: it asks for streams over raw sockets and counts what comes."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

END = b"0\r\n\r\n"
HEARTBEAT = b": hb\n\n"


@dataclass(slots=True)
class Tally:
    """What all clients have received so far."""

    answered: int = 0
    ended: int = 0
    heartbeats: int = 0


class Reader(asyncio.Protocol):
    """One connection; asks once, and again after each end while `is_asking`."""

    def __init__(self, path: str, tally: Tally, *, is_asking: Callable[[], bool]) -> None:
        self._request = f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()
        self._tally = tally
        self._is_asking = is_asking
        self._is_answered = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if not self._is_answered:
            assert data.startswith(b"HTTP/1.1 200"), data[:200]
            self._is_answered = True
            self._tally.answered += 1
        self._tally.heartbeats += data.count(HEARTBEAT)
        if data.endswith(END):
            self._tally.ended += 1
            assert self._transport is not None
            if self._is_asking():
                self._transport.write(self._request)
            else:
                self._transport.close()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


async def read_again_and_again(
    address: tuple[str, int], path: str, *, connections: int, seconds: float
) -> int:
    """Read whole streams for some seconds; return how many ended."""
    loop = asyncio.get_running_loop()
    end_at = loop.time() + seconds
    tally = Tally()
    readers: list[Reader] = []
    for _ in range(connections):
        _, reader = await loop.create_connection(
            lambda: Reader(path, tally, is_asking=lambda: loop.time() < end_at), *address
        )
        readers.append(reader)
    await asyncio.sleep(seconds)
    for reader in readers:
        reader.close()
    return tally.ended


@dataclass(slots=True)
class Crowd:
    """Clients that hold a stream open and only listen."""

    address: tuple[str, int]
    path: str
    tally: Tally
    readers: list[Reader]

    async def grow(self, by: int, *, at_once: int = 100) -> None:
        """Open `by` more streams, and wait until each has been answered."""
        for start in range(0, by, at_once):
            await asyncio.gather(*(self._join() for _ in range(min(at_once, by - start))))
            await self._until(lambda: self.tally.answered == len(self.readers))

    async def heartbeats(self, rounds: int) -> int:
        """Wait until about this many heartbeats have reached each; return how many in all."""
        before, wanted = self.tally.heartbeats, rounds * len(self.readers)
        await self._until(lambda: self.tally.heartbeats - before >= wanted)
        return self.tally.heartbeats - before

    def close(self) -> None:
        """Leave."""
        for reader in self.readers:
            reader.close()

    async def _join(self) -> None:
        loop = asyncio.get_running_loop()
        _, reader = await loop.create_connection(
            lambda: Reader(self.path, self.tally, is_asking=lambda: False), *self.address
        )
        self.readers.append(reader)

    async def _until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(120):
            while not holds():  # noqa: ASYNC110  a counter, nothing to wait on
                await asyncio.sleep(0.01)
