"""Background loops that go on whatever happens, and say what happened."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from cadenza.errors import DatabaseUnavailable
from cadenza.telemetry.log import Log

Work = Callable[[], Awaitable[object]]
AGAIN_AFTER_S = 1.0


async def every(pause_s: float, work: Work) -> None:
    """Do `work`, pause, for ever; a database that is away is simply asked again."""
    while True:
        with suppress(DatabaseUnavailable):
            await work()
        await asyncio.sleep(pause_s)


async def for_ever(log: Log, loop: Work) -> None:
    """Run a loop again whenever it raises: a loop that died would look like calm."""
    while True:
        try:
            await loop()
        except Exception as error:  # noqa: BLE001  # told, and begun again
            log.failure(error)
            await asyncio.sleep(AGAIN_AFTER_S)


def watched(log: Log, work: Work) -> Work:
    """Return `work`, with a line when the database stops answering it and when it answers again."""
    is_away = False

    async def watch() -> None:
        nonlocal is_away
        try:
            await work()
        except DatabaseUnavailable:
            if not is_away:
                log.note("database.connection.lost", level="error")
            is_away = True
            raise
        if is_away:
            log.note("database.connection.restored")
        is_away = False

    return watch
