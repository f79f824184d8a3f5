"""JSON lines: every key of the contract on every line, nothing outside it, no secrets.

Two nets. The first is an allow-list: a key that neither the contract nor the event names is
dropped and counted. The second looks at the values that are left for things shaped like
credentials. Records of libraries (uvicorn, asyncio, psycopg) go the same way.
"""

import hashlib
import hmac
import logging
import re
from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any, BinaryIO
from uuid import UUID

import orjson
import structlog

from cadenza import events
from cadenza.telemetry.context import current

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_SECRET = re.compile(
    r"eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"  # JWT
    r"|(?i:bearer)\s+[\w.~+/=-]{8,}"
    r"|\b(?:IGQV|IGAA|EAA|act\.|rft\.|sk-)[\w.!-]{12,}"  # Instagram, Facebook, TikTok, AI keys
    r"|\b\w+(?:\+\w+)?://[^\s/:@]+:[^\s/@]+@"  # a URL with a password in it
)
_EXTRA = {event.name: frozenset(event.extra) for event in events.EVENTS}
_KEYS = frozenset(events.REQUIRED) | frozenset(events.ANY_LINE)

Fields = MutableMapping[str, Any]


UserId = Callable[[str], str]
"""How a user's id is written."""


class Log:
    """Writes lines of the contract; one per process, made by the composition root."""

    def __init__(
        self,
        stream: BinaryIO,
        *,
        version: str,
        replica: str,
        level: str = "info",
        user_id: UserId = lambda user_id: user_id,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        dropped: Callable[[str], None] = lambda _key: None,
    ) -> None:
        self._fixed = {"schema": events.SCHEMA, "version": version, "replica": replica}
        self._user_id, self._clock, self._dropped = user_id, clock, dropped
        processors: list[Any] = [self._complete, redact, _render]
        self._write: Any = structlog.wrap_logger(
            structlog.BytesLogger(stream),
            processors=processors,
            wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        )
        self.foreign: list[Any] = [self._from_library, self._complete, redact]

    def event(self, event: events.Event) -> None:
        """Write the line of an outcome event; its own instant is the line's."""
        at = getattr(event, "at", None)
        self._line(event.name, event.severity(), event.as_fields() | {"timestamp": at})

    def note(self, name: str, *, level: str = "info", **fields: object) -> None:
        """Write a line that is no unit of work; `name` is one of events.NOTES."""
        self._line(name, level, fields)

    def _line(self, name: str, level: str, fields: Mapping[str, object]) -> None:
        getattr(self._write, level)(name, **fields)

    def _complete(self, _logger: object, level: str, fields: Fields) -> Fields:
        name: str = fields["event"]
        about = current()
        line: Fields = dict[str, Any].fromkeys(events.REQUIRED)
        line |= {
            "level": "error" if level == "critical" else level,
            "requestId": about.request_id,
            "userId": about.user_id,
            "channel": about.channel,
            "calendarId": about.calendar_id,
            "runId": about.run_id,
            "intentId": about.intent_id,
            "flags": about.flags or None,
            "lane": about.lane,
        }
        allowed = _KEYS | _EXTRA.get(name, frozenset())
        for key, value in fields.items():
            if key not in allowed:
                self._dropped(key)
            elif value is not None:
                line[key] = value
        line |= self._fixed
        if line["userId"] is not None:
            line["userId"] = self._user_id(str(line["userId"]))
        at: datetime = fields.get("timestamp") or self._clock()
        line["timestamp"] = _rfc3339(at)
        return line

    def _from_library(self, _logger: object, _name: str, fields: Fields) -> Fields:
        """Turn a library's record into a line: its text, and where an exception came from."""
        record: logging.LogRecord = fields["_record"]
        line: Fields = {"event": events.Noted.name, "message": f"{record.name}: {fields['event']}"}
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = error_fields(record.exc_info[1])
        return line


def error_fields(error: BaseException) -> dict[str, str]:
    """Return the type of an exception and where it was raised; never its text."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    where = "" if frame is None else f"{frame.tb_frame.f_code.co_qualname}:{frame.tb_lineno}"
    return {"type": type(error).__name__, "where": where}


def redact(_logger: object, _name: str, fields: Fields) -> Fields:
    """Replace what is shaped like a credential, in every text of the line."""
    for key, value in fields.items():
        if isinstance(value, str):
            if _SECRET.search(value):
                fields[key] = _SECRET.sub("[redacted]", value)
        elif isinstance(value, dict):
            fields[key] = redact(None, "", value)  # pyright: ignore[reportUnknownArgumentType]
    return fields


def catch_libraries(log: Log, stream: BinaryIO, *, level: str = "info") -> None:
    """Send every record of the standard library's logging through the same contract."""
    formatter = structlog.stdlib.ProcessorFormatter(
        processors=[
            *log.foreign,
            lambda _l, _n, fields: _render(None, "", fields).decode(),
        ]
    )
    handler = logging.StreamHandler(_Text(stream))
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(LEVELS[level], logging.WARNING))


def keyed_user_id(key: bytes) -> UserId:
    """Return a writer of user ids as a keyed hash: joinable with the key, not without it."""
    return lambda user_id: hmac.new(key, user_id.encode(), hashlib.sha256).hexdigest()[:32]


def user_hash(user_id: str) -> str:
    """Return the short hash that outcome rows keep instead of the id."""
    return hashlib.sha256(user_id.encode()).hexdigest()[:16]


def _rfc3339(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _Text:
    """A text face for a binary stream, as logging wants one."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        self._stream.write(text.encode())

    def flush(self) -> None:
        self._stream.flush()


def _render(_logger: object, _name: str, fields: Fields) -> bytes:
    return orjson.dumps(fields, default=_plain)


def _plain(value: object) -> str:
    return str(value) if isinstance(value, UUID) else type(value).__name__
