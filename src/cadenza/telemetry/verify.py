"""Does a log keep the contract: every line, at tens of thousands of lines a second.

The rules are those of `log_schema`, turned into plain checks once per kind of event; a JSON
Schema library gives the same answers a hundred times slower, and the tests hold the two together.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

import orjson

from cadenza import events
from cadenza.telemetry.log_schema import Schema, key_schemas, required_keys
from cadenza.telemetry.redact import SECRET, may_hold_secret

MOST_TOLD: Final = 1000
NOBODY_YET: Final = frozenset({None, 400, 401, 403, 405, 413, 422})
_KEYS = frozenset(key for name in (e.name for e in events.EVENTS) for key in key_schemas(name))
_ONCE = {events.RunFinished.name: "runId", events.IntentFinished.name: "intentId"}
_REQUEST = events.RequestFinished.name
_ABOUT_CALENDARS = re.compile(r"^/v1/(?:calendars|runs|intents)(?:/|$)")
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "boolean": (bool,),
    "object": (dict,),
    "null": (type(None),),
}

Check = Callable[[Any], bool]


@dataclass(slots=True)
class Report:
    """What a log turned out to be; `violations` has the first MOST_TOLD, `broken` counts all."""

    lines: int = 0
    broken: int = 0
    secrets_found: int = 0
    violations: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])
    events: Counter[str] = field(default_factory=Counter[str])

    def add(self, line_no: int, what: str) -> None:
        """Note one violation; what it says never quotes the line."""
        self.broken += 1
        if len(self.violations) < MOST_TOLD:
            self.violations.append((line_no, what))


@dataclass(frozen=True, slots=True)
class _Rules:
    required: frozenset[str]
    checks: dict[str, Check]


def verify_lines(lines: Iterable[bytes], *, requests: bool = False) -> Report:
    """Return what is wrong with these lines; holds one line at a time and the ids of what ended.

    With `requests`, each request about calendars or publishing must also name its user (unless
    it was refused before there was one) and the calendar in its route.
    """
    report = Report()
    rules = {name: _rules(name) for name in (*(e.name for e in events.EVENTS), *events.NOTES)}
    ended: set[tuple[str, str]] = set()
    for line_no, raw in enumerate(lines, start=1):
        report.lines += 1
        line = _parsed(raw)
        found: object = raw.decode(errors="replace") if line is None else line
        if _holds_secret(found):
            report.secrets_found += 1
            report.add(line_no, "holds what is shaped like a credential")
        if line is None:
            report.add(line_no, "is no JSON object")
            continue
        for what in _mistakes(line, rules, report.events):
            report.add(line_no, what)
        if _is_repeated(line, ended):
            report.add(line_no, "an end of a run or an intent that has ended before")
        for what in _unnamed(line) if requests else ():
            report.add(line_no, what)
    return report


def _parsed(raw: bytes) -> dict[str, Any] | None:
    try:
        line = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    return cast("dict[str, Any]", line) if isinstance(line, dict) else None


def _holds_secret(value: object) -> bool:
    if value is None or isinstance(value, int):
        return False
    if isinstance(value, str):
        return may_hold_secret(value) and SECRET.search(value) is not None
    if isinstance(value, dict):
        members = cast("dict[str, object]", value)
        for key, item in members.items():
            if _holds_secret(item) or (key not in _KEYS and _holds_secret(key)):
                return True
        return False
    if isinstance(value, list):
        return any(_holds_secret(item) for item in cast("list[object]", value))
    return False


def _mistakes(
    line: Mapping[str, Any], rules: Mapping[str, _Rules], counted: Counter[str]
) -> list[str]:
    name = line.get("event")
    known = rules.get(name) if isinstance(name, str) else None
    if name is None or known is None:
        return ["event: is none of the contract's"]
    counted[name] += 1
    found = [f"{key}: is missing" for key in sorted(known.required.difference(line))]
    for key, value in line.items():
        check = known.checks.get(key)
        if check is None:
            found.append("a key outside the contract")
        elif not check(value):
            found.append(f"{key}: cannot be this")
    return found


def _is_repeated(line: Mapping[str, Any], ended: set[tuple[str, str]]) -> bool:
    name = line.get("event")
    unit = line.get(_ONCE[name]) if isinstance(name, str) and name in _ONCE else None
    if not isinstance(name, str) or not isinstance(unit, str):
        return False
    if (name, unit) in ended:
        return True
    ended.add((name, unit))
    return False


def _unnamed(line: Mapping[str, Any]) -> Iterable[str]:
    route = line.get("route")
    if line.get("event") != _REQUEST or not isinstance(route, str):
        return
    if not _ABOUT_CALENDARS.match(route):
        return
    # A drill is looked for before anything is known to be well-formed, the address included.
    is_early = line.get("httpStatus") in NOBODY_YET or line.get("code") == "DRILL_NOT_FOUND"
    if line.get("userId") is None and not is_early:
        yield "userId: nobody, on a request about calendars"
    if line.get("calendarId") is None and "{calendar" in route and not is_early:
        yield "calendarId: is null, though the route has one"


def _rules(name: str) -> _Rules:
    checks = {key: _check(schema) for key, schema in key_schemas(name).items()}
    return _Rules(required_keys(name), checks)


def _check(schema: Schema) -> Check:
    """Return the check of one key; the schemas of `log_schema` use no other words than these."""
    if "const" in schema or "enum" in schema:
        return _one_of(schema.get("enum", [schema.get("const")]))
    named: str | list[str] = schema.get("type", [])
    names = [named] if isinstance(named, str) else named
    types = tuple(kind for each in names for kind in _TYPES[each])
    inner = _within(schema)

    def check(value: Any) -> bool:  # noqa: ANN401  # whatever JSON holds
        if not types:
            return True
        if type(value) not in types:
            return False
        return value is None or inner(value)

    return check


def _one_of(words: list[Any]) -> Check:
    # By spelling: in Python true is 1, in JSON it is not.
    allowed = frozenset(map(repr, words))
    return lambda value: repr(value) in allowed


def _within(schema: Schema) -> Check:
    if "pattern" in schema:
        found = re.compile(schema["pattern"].replace("$", r"\Z")).search
        return lambda value: found(value) is not None
    if "minimum" in schema:
        low, high = schema["minimum"], schema.get("maximum", float("inf"))
        return lambda value: low <= value <= high
    if "minLength" in schema:
        return lambda value: len(value) >= schema["minLength"]
    if "additionalProperties" in schema:
        return _members(schema)
    return lambda _value: True


def _members(schema: Schema) -> Check:
    named = {key: _check(inner) for key, inner in schema.get("properties", {}).items()}
    required = frozenset(schema.get("required", ()))
    others: Schema | bool = schema["additionalProperties"]
    other: Check = _check(others) if isinstance(others, dict) else lambda _value: False

    def check(value: dict[str, Any]) -> bool:
        return required <= value.keys() and all(
            named.get(key, other)(item) for key, item in value.items()
        )

    return check
