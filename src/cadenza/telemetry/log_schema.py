"""The log contract as JSON Schema, made from `events`; the shipped file is this, written out."""

from typing import Any, Final

from cadenza import events
from cadenza.errors import Reason

Schema = dict[str, Any]

UUID_PATTERN: Final = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
_WORD = {"type": "string", "pattern": "^[a-z][a-z0-9_]{0,63}$"}
_UUID = {"type": "string", "pattern": UUID_PATTERN, "format": "uuid"}
_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}

_SHAPES: dict[str, Schema] = {
    "schema": {"const": events.SCHEMA},
    "timestamp": {
        "type": "string",
        "pattern": r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$",
        "format": "date-time",
    },
    "level": {"enum": ["debug", "info", "warning", "error"]},
    "event": {"enum": [*(event.name for event in events.EVENTS), *events.NOTES]},
    "requestId": {"type": "string", "pattern": r"^[A-Za-z0-9._-]{8,64}$|^\[redacted\]$"},
    # A UUID, or 32 hex digits where ids are hashed.
    "userId": {"type": "string", "pattern": f"{UUID_PATTERN}|^[0-9a-f]{{32}}$"},
    "channel": {"type": "string", "pattern": "^[a-z0-9_]+(,[a-z0-9_]+)*$"},
    "calendarId": _UUID,
    "runId": _UUID,
    "intentId": _UUID,
    "attempt": {"type": "integer", "minimum": 1},
    "status": _WORD,
    "reason": {"enum": [reason.value for reason in Reason]},
    "verdict": {"enum": [verdict.value for verdict in events.Verdict]},
    "durationMs": _COUNT,
    "mode": {"enum": ["live", "dry_run"]},
    "flags": {
        "type": "object",
        "additionalProperties": {"type": "string", "pattern": r"^[a-z][a-z0-9_-]*@\d+$"},
    },
    "version": {"type": "string", "minLength": 1},
    "replica": {"type": "string", "pattern": r"^[^\s:]+:[0-9a-f]{4}$"},
    "lane": {"enum": [lane.value for lane in events.Lane]},
    "message": _TEXT,
    "error": {
        "type": "object",
        "properties": {"type": _TEXT, "where": _TEXT},
        "required": ["type", "where"],
        "additionalProperties": False,
    },
    "method": {"type": "string", "pattern": "^[A-Z]+$"},
    "route": {"type": "string", "pattern": "^/|^unmatched$"},
    "httpStatus": {"type": "integer", "minimum": 100, "maximum": 599},
    "code": {"type": "string", "pattern": "^[A-Z][A-Z0-9_]*$"},
    "entries": _COUNT,
    "rejected": _COUNT,
    "firstEntryMs": _COUNT,
    "frames": _COUNT,
    "resumed": {"type": "boolean"},
    "accountId": _UUID,
    "flag": {
        "type": "object",
        "properties": {key: {} for key in ("key", "from", "to", "actor", "cause")},
        "required": ["key"],
        "additionalProperties": False,
    },
}
_NEVER_NULL = frozenset(
    {"schema", "timestamp", "level", "event", "version", "replica", "lane", *events.ANY_LINE}
)


def key_schemas(name: str) -> dict[str, Schema]:
    """Return the schema of every key that a line of this event may have."""
    event = next((each for each in events.EVENTS if each.name == name), None)
    extra = () if event is None else tuple(event.extra)
    never_null = _NEVER_NULL if event is None else _NEVER_NULL | set(event.never_null)
    schemas = {
        key: _shape(key, nullable=key not in never_null)
        for key in (*events.REQUIRED, *events.ANY_LINE, *extra)
    }
    if event is not None and event.statuses:
        words: list[str | None] = [*event.statuses]
        schemas["status"] = {"enum": words if "status" in never_null else [*words, None]}
    return schemas


def required_keys(name: str) -> frozenset[str]:
    """Return the keys that every line of this event has."""
    extra = [key for each in events.EVENTS if each.name == name for key in each.extra]
    return frozenset({*events.REQUIRED, *extra})


def log_line_schema() -> Schema:
    """Return the JSON Schema (2020-12) of one line."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:cadenza:log-line:1",
        "title": "One line of Cadenza's log",
        "description": "Every key of the contract is there, null where it does not apply.",
        "type": "object",
        "required": [*events.REQUIRED],
        "properties": {"event": _SHAPES["event"]},
        "oneOf": [
            *(_line_of([event.name], event.__doc__ or "") for event in events.EVENTS),
            _line_of([*events.NOTES], "Something that is no unit of work."),
        ],
    }


def _line_of(names: list[str], about: str) -> Schema:
    schemas = key_schemas(names[0])
    known = {"const": names[0]} if len(names) == 1 else {"enum": names}
    return {
        "description": about.partition("\n")[0],
        "properties": schemas | {"event": known},
        "required": sorted(required_keys(names[0])),
        "additionalProperties": False,
    }


def _shape(key: str, *, nullable: bool) -> Schema:
    shape = _SHAPES[key]
    if not nullable:
        return shape
    if "enum" in shape:
        return {"enum": [*shape["enum"], None]}
    return shape | {"type": [shape["type"], "null"]}
