"""JSON lines: every key of the contract on every line, nothing outside it, no secrets.

Two nets. The first is an allow-list: a key that neither the contract nor the event names is
dropped and counted. The second, `telemetry.redact`, looks at the values that are left for things
shaped like credentials. Records of libraries (uvicorn, asyncio, psycopg) go the same way.
"""

import hashlib
import hmac
import logging
from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any, BinaryIO
from uuid import UUID

import orjson
import structlog

from cadenza import events
from cadenza.errors import Reason
from cadenza.telemetry.context import current
from cadenza.telemetry.redact import redact_value

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
MESSAGE_CHARS = 500
_OURS = frozenset({"schema", "timestamp", "level", "event", "version", "replica", "lane"})
_NO_TEXT = frozenset({type(None), int, bool, float, UUID, Reason, events.Verdict, events.Lane})
_ALWAYS = {event.name: dict.fromkeys((*events.REQUIRED, *event.extra)) for event in events.EVENTS}
_NOTE = dict.fromkeys(events.REQUIRED)
_KEYS = frozenset(events.REQUIRED) | frozenset(events.ANY_LINE)
_ALLOWED = {event.name: _KEYS | frozenset(event.extra) for event in events.EVENTS}

Fields = MutableMapping[str, Any]


UserId = Callable[[str], str]
"""How a user's id is written."""


class Log:
    """Writes lines of the contract; one per process, made by the composition root.

    Never raises: a line that cannot be written is counted in `lost`, and the work goes on.
    """

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
        self.lost = 0
        processors: list[Any] = [self._complete, _redact, _render]
        self._write: Any = structlog.wrap_logger(
            structlog.BytesLogger(stream),
            processors=processors,
            wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
            context_class=dict,
        ).bind()  # once: what wrap_logger returns would bind anew for every line
        self.foreign: list[Any] = [_from_library, self._complete, _redact]

    def now(self) -> datetime:
        """Return the instant a line written now would have."""
        return self._clock()

    def event(self, event: events.Event) -> None:
        """Write the line of an outcome event; its own instant is the line's."""
        fields = event.as_fields()
        fields["timestamp"] = getattr(event, "at", None)
        self._line(event.name, event.severity(), fields)

    def failure(self, error: Exception) -> None:
        """Write that something of this process raised and was caught; its text is left out."""
        self.note("process.instance.failed", level="error", error=error_fields(error))

    def note(self, name: str, *, level: str = "info", **fields: object) -> None:
        """Write a line that is no unit of work; `name` is one of events.NOTES."""
        self._line(name, level, fields)

    def _line(self, name: str, level: str, fields: Mapping[str, object]) -> None:
        try:
            getattr(self._write, level)(name, fields=fields)
        except (OSError, ValueError):  # a full disk, a reader that left, a closed file
            self.lost += 1

    def _complete(self, _logger: object, level: str, given: Fields) -> Fields:
        name: str = given["event"]
        fields: Mapping[str, Any] = given["fields"]
        line = _ALWAYS.get(name, _NOTE).copy()
        self._add_context(line)
        allowed = _ALLOWED.get(name, _KEYS)
        for key, value in fields.items():
            if key not in allowed:
                self._dropped(key)
            elif value is not None:
                line[key] = value
        line |= self._fixed
        line["event"], line["level"] = name, level if level in LEVELS else _nearest(level)
        line["timestamp"] = _rfc3339(fields.get("timestamp") or self._clock())
        if line["userId"] is not None:
            line["userId"] = self._user_id(str(line["userId"]))
        return line

    def _add_context(self, line: Fields) -> None:
        about = current()
        line["requestId"], line["userId"] = about.request_id, about.user_id
        line["channel"], line["calendarId"] = about.channel, about.calendar_id
        line["runId"], line["intentId"] = about.run_id, about.intent_id
        line["flags"], line["lane"] = about.flags or None, about.lane


def error_fields(error: BaseException) -> dict[str, str]:
    """Return the type of an exception and where it was raised; never its text."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    where = "" if frame is None else f"{frame.tb_frame.f_code.co_qualname}:{frame.tb_lineno}"
    return {"type": type(error).__name__, "where": where}


def catch_libraries(log: Log, stream: BinaryIO, *, level: str = "info") -> None:
    """Send every record of the standard library's logging through the same contract."""
    formatter = structlog.stdlib.ProcessorFormatter(processors=[*log.foreign, _render_text])
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


def _from_library(_logger: object, _name: str, record_fields: Fields) -> Fields:
    """Turn a library's record into a line: what it says, and where an exception came from.

    Its first line only: what follows is objects and tracebacks, and those carry people's texts.
    """
    record: logging.LogRecord = record_fields["_record"]
    text = str(record_fields["event"]).partition("\n")[0][:MESSAGE_CHARS]
    fields: Fields = {"message": f"{record.name}: {text}"}
    # Not from the record: the formatter has taken it away there, lest a traceback be appended.
    _, error, _ = record_fields.get("exc_info") or (None, None, None)
    if error is not None:
        fields["error"] = error_fields(error)
    return {"event": events.Noted.name, "fields": fields}


def _nearest(level: str) -> str:
    return "error" if level in {"critical", "fatal", "exception"} else "info"


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


def _redact(_logger: object, _name: str, line: Fields) -> Fields:
    for key, value in line.items():
        if type(value) not in _NO_TEXT and key not in _OURS:
            line[key] = redact_value(value)
    return line


def _render(_logger: object, _name: str, line: Fields) -> bytes:
    try:
        return orjson.dumps(line, default=_plain, option=_AS_THEY_ARE)
    except TypeError:  # half a surrogate, a number of more than 64 bits
        return orjson.dumps({key: _sane(value) for key, value in line.items()})


def _render_text(_logger: object, _name: str, line: Fields) -> str:
    return _render(_logger, _name, line).decode()


# A dataclass given as a value is named, not written out: its texts were never looked at.
_AS_THEY_ARE = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_NON_STR_KEYS


def _plain(value: object) -> str:
    return type(value).__name__


def _sane(value: object) -> object:
    if isinstance(value, dict):
        return {str(_sane(key)): _sane(item) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(value, int | None):
        return value if value is None or abs(value) < 1 << 53 else str(value)
    return str(value).encode(errors="replace").decode()
