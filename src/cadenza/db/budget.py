"""How long a caller waits for the database: one budget, kept even when the network goes silent.

Cancelling a query on a black-holed connection takes psycopg about 11 s (measured; it asks the
server to cancel and waits for the answer). So a late query is not cancelled and awaited: it is
abandoned, and cleans up after itself in the background while its caller answers.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any, TypeVar

from cadenza.errors import DatabaseUnavailable

T = TypeVar("T")

deadline: ContextVar[float | None] = ContextVar("cadenza_database_deadline", default=None)
"""When this request's database time is over, on the event loop's clock; None outside requests."""


class Breaker:
    """After `limit` abandoned calls in `window_s`, refuse at once for `pause_s`; then try one."""

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        limit: int = 3,
        window_s: float = 5.0,
        pause_s: float = 1.0,
    ) -> None:
        self._clock, self._limit, self._window_s, self._pause_s = clock, limit, window_s, pause_s
        self._abandoned: deque[float] = deque(maxlen=limit)
        self._closed_until = 0.0

    def check(self) -> None:
        """Raise DatabaseUnavailable while calls are refused."""
        now = self._clock()
        if now < self._closed_until:
            raise DatabaseUnavailable
        if self._is_open(now):
            self._closed_until = now + self._pause_s  # this caller is the probe

    def abandoned(self) -> None:
        """Note one call that did not answer in time."""
        now = self._clock()
        self._abandoned.append(now)
        if self._is_open(now):
            self._closed_until = now + self._pause_s

    def answered(self) -> None:
        """Note one call that did."""
        self._abandoned.clear()
        self._closed_until = 0.0

    def _is_open(self, now: float) -> bool:
        return (
            len(self._abandoned) == self._limit and now - self._abandoned[-1] < self._window_s * 2
        ) and self._abandoned[-1] - self._abandoned[0] < self._window_s


def remaining_s(usual_s: float, own_s: float | None = None) -> float:
    """Return how long one call may take: its own budget, or what the request has left.

    A call with a budget of its own (an operator's flip, a run's commit) is not cut by the request
    it happens to be made in.
    """
    if own_s is not None:
        return own_s
    until = deadline.get()
    if until is None:
        return usual_s
    return min(usual_s, until - asyncio.get_running_loop().time())


async def within(budget_s: float, work: Coroutine[Any, Any, T], left: set[asyncio.Task[Any]]) -> T:
    """Return what `work` returns, or raise DatabaseUnavailable after `budget_s`, whatever it does.

    Work that is late goes on in `left` until its own cancellation is through; if it was a write,
    its outcome is unknown to the caller.
    """
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=max(0.0, budget_s))
    except asyncio.CancelledError:
        _abandon(task, left)
        raise
    if not done:
        _abandon(task, left)
        raise DatabaseUnavailable
    return task.result()


def _abandon(task: asyncio.Task[Any], left: set[asyncio.Task[Any]]) -> None:
    left.add(task)
    task.add_done_callback(left.discard)
    task.add_done_callback(lambda t: t.cancelled() or t.exception())
    task.cancel()
