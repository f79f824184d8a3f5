"""What tests share: a database of one's own, and waiting with a deadline instead of sleeping."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class TestDatabase:
    """A migrated database of one test: as its owner, and as the service logs in."""

    __test__ = False

    name: str
    owner_dsn: str
    dsn: str


NewDatabase = Callable[[], AbstractContextManager[TestDatabase]]


async def eventually(
    condition: Callable[[], Coroutine[Any, Any, T]], *, within_s: float = 20.0, what: str = ""
) -> T:
    """Return the condition's first true value, asked again and again until the deadline."""
    limit = asyncio.get_running_loop().time() + within_s
    pause = 0.002
    while True:
        value = await condition()
        if value:
            return value
        assert asyncio.get_running_loop().time() < limit, f"not within {within_s} s: {what}"
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, 0.1)
