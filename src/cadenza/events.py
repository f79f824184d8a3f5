"""Outcome events: what is logged, counted and alerted on; one frozen dataclass each.

Every line that reaches the log carries all of REQUIRED, null where it does not apply. An event
adds only the keys of its class; any line may add those of ANY_LINE. `docs/reference/log-fields.md`
and the shipped JSON Schema are generated from this module.
"""

from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from functools import cache
from typing import ClassVar
from uuid import UUID

from cadenza.errors import Reason

SCHEMA = 1

REQUIRED: dict[str, str] = {
    "schema": "Version of this contract",
    "timestamp": "RFC 3339, UTC; of an outcome's line, the outcome's own instant",
    "level": "debug, info, warning or error",
    "event": "What happened, in the past tense",
    "requestId": "The id the caller was given in X-Request-ID",
    "userId": "The token's sub (hashed when CADENZA_LOG_USER_ID=hmac)",
    "channel": "One channel, or several sorted and comma-joined",
    "calendarId": "The calendar",
    "runId": "The generation",
    "intentId": "The publish intent",
    "attempt": "Which attempt of the intent, from 1",
    "status": "The end, as a word",
    "reason": "Why it ended so: one of the closed set of reasons",
    "verdict": "good, bad or ignored: how it counts",
    "durationMs": "How long it took, in milliseconds",
    "mode": "live or dry_run",
    "flags": "The decisions in force: flag to variant@version",
    "version": "Version of Cadenza",
    "replica": "Which instance, and which boot of it",
    "lane": "live or drill",
}

ANY_LINE: dict[str, str] = {
    "message": "A sentence for a person",
    "error": "type and where of an exception; never its text",
}


class Verdict(StrEnum):
    """How an outcome counts; decided once, by the outcome itself."""

    GOOD = "good"
    BAD = "bad"
    IGNORED = "ignored"


class Lane(StrEnum):
    """Live work, or drills and smoke: same code, own windows, never pages."""

    LIVE = "live"
    DRILL = "drill"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened; its fields are the log line's, in snake_case.

    What a kind promises of its lines: the keys it adds, always there (`extra`), the words its
    status may be (`statuses`; none named: any), the keys that are never null (`never_null`).
    """

    name: ClassVar[str]
    level: ClassVar[str] = "info"
    extra: ClassVar[dict[str, str]] = {}
    statuses: ClassVar[dict[str, str]] = {}
    never_null: ClassVar[tuple[str, ...]] = ()

    request_id: str | None = None
    user_id: str | None = None
    channel: str | None = None
    calendar_id: UUID | None = None
    run_id: UUID | None = None
    intent_id: UUID | None = None
    attempt: int | None = None
    status: str | None = None
    reason: Reason | None = None
    verdict: Verdict | None = None
    duration_ms: int | None = None
    mode: str | None = None
    flags: dict[str, str] | None = None
    lane: Lane = Lane.LIVE
    error: dict[str, str] | None = None

    def as_fields(self) -> dict[str, object]:
        """Return what the log line takes from this event, keys in camelCase."""
        return {key: getattr(self, name) for key, name in _keys(type(self)).items()}

    def severity(self) -> str:
        """Return the level: a bad outcome is a warning, whatever the event."""
        return "warning" if self.verdict is Verdict.BAD else self.level


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFinished(Event):
    """One HTTP request ended; one line each, save `/livez`, `/readyz`, `/metrics`: only counted."""

    name: ClassVar[str] = "http.request.finished"
    extra: ClassVar[dict[str, str]] = {
        "method": "HTTP method",
        "route": "The route's template, never the raw path",
        "httpStatus": "The status answered; null when the client was gone before",
        "code": "The problem's code, when the answer was one",
    }
    statuses: ClassVar[dict[str, str]] = {
        "ok": "Answered below 400",
        "rejected": "Answered 4xx, or the client left before the answer (reason client_left)",
        "failed": "Answered 5xx, or broke off by our own fault",
    }
    never_null: ClassVar[tuple[str, ...]] = (
        *("requestId", "status", "durationMs", "method", "route"),
    )
    method: str
    route: str
    http_status: int | None
    code: str | None = None

    def severity(self) -> str:
        """Return error for our own failures, info for everything else."""
        return "error" if self.status == "failed" or (self.http_status or 0) >= 500 else "info"  # noqa: PLR2004


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome(Event):
    """A finished unit of work that counts: a row, a log line and a counter of one object.

    `id` is the unit's own id (the run's, the intent's, the stream's), so that a unit can end
    only once however often its end is written.
    """

    id: UUID
    at: datetime
    variant: str | None = None
    flag_version: int | None = None

    def as_fields(self) -> dict[str, object]:
        """Return the line's fields; the row's own columns stay in the row."""
        own = {"id", "at", "variant", "flagVersion"}
        return {k: v for k, v in super(Outcome, self).as_fields().items() if k not in own}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFinished(Outcome):
    """A generation ended; exactly one of these each."""

    name: ClassVar[str] = "calendar.run.finished"
    extra: ClassVar[dict[str, str]] = {
        "entries": "Entries stored and shown",
        "rejected": "Lines of the model that were no valid entry",
        "firstEntryMs": "From the start to the first stored entry, in milliseconds",
    }
    statuses: ClassVar[dict[str, str]] = {
        "completed": "At least one entry, and at most 20 % of the lines rejected",
        "partial": "The model stopped at its length limit",
        "timeout": "One of the four deadlines passed; what came before is kept",
        "failed": "The provider, the database or we ourselves failed",
        "interrupted": "The process was lost or shut down",
        "cancelled": "A user or an operator ended it",
    }
    never_null: ClassVar[tuple[str, ...]] = (
        *("requestId", "userId", "calendarId", "runId", "status", "verdict"),
    )
    entries: int = 0
    rejected: int = 0
    first_entry_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamFinished(Outcome):
    """A stream we delivered ended: by its terminal frame, by us before it, or by the client."""

    name: ClassVar[str] = "calendar.stream.finished"
    extra: ClassVar[dict[str, str]] = {
        "frames": "Frames sent on this connection",
        "resumed": "Whether it began from a Last-Event-ID",
    }
    statuses: ClassVar[dict[str, str]] = {
        "terminal": "The client has the last frame",
        "client_left": "The client went first",
        "client_slow": "The client did not read; we closed, it resumes",
        "drained": "This instance is stopping; the client was told to reconnect",
        "failed": "It broke off by our own fault",
    }
    never_null: ClassVar[tuple[str, ...]] = ("userId", "calendarId", "runId", "status", "verdict")
    frames: int = 0
    resumed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class IntentFinished(Event):
    """A publish intent reached the end of its path; a dry run's end is ignored by every rate."""

    name: ClassVar[str] = "publish.intent.finished"
    extra: ClassVar[dict[str, str]] = {"accountId": "The account it was for"}
    statuses: ClassVar[dict[str, str]] = {
        "dry_run": "Frozen and checked; nothing leaves the building",
        "published": "The channel has it",
        "retry_wait": "Known not sent; tried again later",
        "unknown": "The network hid its fate; never sent again by itself",
        "needs_attention": "Refused, or out of tries; a person decides",
        "missed": "Its time passed before it could go",
        "cancelled": "A user or an operator took it back",
    }
    never_null: ClassVar[tuple[str, ...]] = (
        *("requestId", "userId", "calendarId", "intentId", "status", "mode"),
    )
    account_id: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FlagChanged(Event):
    """An operator, a guard or a merge changed a flag's policy."""

    name: ClassVar[str] = "flags.flag.changed"
    extra: ClassVar[dict[str, str]] = {"flag": "key, from, to, actor, cause"}
    flag: dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillOpened(Event):
    """An operator opened a drill context for one user."""

    name: ClassVar[str] = "flags.drill.opened"
    extra: ClassVar[dict[str, str]] = {"flag": "key, from, to, actor, cause"}
    flag: dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted(Event):
    """Something happened that is no unit of work: a start, a stop, a library's own message."""

    name: ClassVar[str] = "process.message.logged"


NOTES: dict[str, str] = {
    "process.message.logged": "A library's own log record",
    "process.instance.started": "This instance began to serve",
    "process.instance.drained": "This instance stopped taking work and ended what it had",
    "process.instance.failed": "A background task of this instance raised; it goes on",
    "database.connection.lost": "The database stopped answering",
    "database.connection.restored": "The database answers again",
    "flags.set.applied": "This instance holds a new version of the flags",
    "flags.override.ignored": "An environment switch says on, which only the database decides",
    "flags.set.refused": "A flag set could not be used; the previous one stays in force",
    "calendar.run.started": "A run was stored and its producer began",
    "calendar.entry.rejected": "One line of the model was no valid entry",
    "telemetry.field.dropped": "A log line carried a key outside the contract",
}

EVENTS: tuple[type[Event], ...] = (
    RequestFinished,
    RunFinished,
    StreamFinished,
    IntentFinished,
    FlagChanged,
    DrillOpened,
)


@cache
def _keys(kind: type[Event]) -> dict[str, str]:
    """Return the fields of a kind of event by their key; computed once, every line needs them."""
    return {camel(field.name): field.name for field in fields(kind)}


def camel(name: str) -> str:
    """Return the wire spelling of a snake_case name."""
    head, *tail = name.split("_")
    return head + "".join(part.title() for part in tail)
