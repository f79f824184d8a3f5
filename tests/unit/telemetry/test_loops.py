"""Background loops go on whatever happens, and say what happened."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO

from cadenza.errors import DatabaseUnavailable
from cadenza.telemetry.log import Log
from cadenza.telemetry.loops import every, for_ever, watched


def told(stream: BytesIO) -> list[str]:
    return [json.loads(line)["event"] for line in stream.getvalue().splitlines()]


def failing(*turns: Exception | None) -> Iterator[Exception | None]:
    yield from turns


def test_a_database_that_goes_and_comes_is_told_once_each() -> None:
    stream, turns = BytesIO(), failing(None, *[DatabaseUnavailable()] * 3, None, None)

    async def work() -> None:
        if (error := next(turns)) is not None:
            raise error

    async def main() -> None:
        watch = watched(Log(stream, version="0", replica="test"), work)
        for _ in range(6):
            with suppress(DatabaseUnavailable):
                await watch()

    asyncio.run(main())
    assert told(stream) == ["database.connection.lost", "database.connection.restored"]


def test_a_loop_asks_again_while_the_database_is_away() -> None:
    asked = 0
    enough = asyncio.Event()

    async def work() -> None:
        nonlocal asked
        asked += 1
        if asked == 3:
            enough.set()
        raise DatabaseUnavailable

    async def main() -> None:
        loop = asyncio.ensure_future(every(0, work))
        async with asyncio.timeout(5):
            await enough.wait()
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)

    asyncio.run(main())
    assert asked >= 3


def test_a_loop_that_raises_is_told_and_begun_again() -> None:
    stream, turns = BytesIO(), failing(RuntimeError("its text is left out"), None)
    again = asyncio.Event()

    async def loop() -> None:
        if (error := next(turns)) is not None:
            raise error
        again.set()
        await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.ensure_future(for_ever(Log(stream, version="0", replica="test"), loop))
        async with asyncio.timeout(5):
            await again.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
    assert told(stream) == ["process.instance.failed"]
    assert b"left out" not in stream.getvalue()
