"""Who and what the current work is about; every log line takes its ids from here.

One object per request or per background unit. It is filled in as facts become known, so that a
line written late names what was only learnt on the way.
"""

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from uuid import UUID

from cadenza.events import Lane


@dataclass(slots=True, kw_only=True)
class Context:
    """The ids of one unit of work; None where nothing is known (yet)."""

    request_id: str | None = None
    user_id: str | None = None
    channel: str | None = None
    calendar_id: UUID | None = None
    run_id: UUID | None = None
    intent_id: UUID | None = None
    lane: Lane = Lane.LIVE
    flags: dict[str, str] = field(default_factory=dict[str, str])
    code: str | None = None
    route: str | None = None
    traceparent: str | None = None


_current: ContextVar[Context | None] = ContextVar("cadenza_context", default=None)


def current() -> Context:
    """Return the context of the work under way; outside any, an empty one that is not kept."""
    return _current.get() or Context()


@contextmanager
def entered(context: Context) -> Generator[Context]:
    """Make `context` the current one for this block, and for the tasks started in it."""
    token = _current.set(context)
    try:
        yield context
    finally:
        _current.reset(token)
