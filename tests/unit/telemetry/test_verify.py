"""What keeps the log contract and what breaks it; the fast checks agree with the schema."""

import io
import json
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import jsonschema
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cadenza.errors import Reason
from cadenza.events import (
    EVENTS,
    NOTES,
    REQUIRED,
    DrillOpened,
    Event,
    FlagChanged,
    IntentFinished,
    Lane,
    RequestFinished,
    RunFinished,
    StreamFinished,
    Verdict,
)
from cadenza.telemetry.log import Log, UserId, keyed_user_id
from cadenza.telemetry.log_schema import log_line_schema
from cadenza.telemetry.verify import Report, verify_lines

EXAMPLE = Path(__file__).parents[3] / "docs" / "reference" / "examples" / "log-line.json"
NOW = datetime(2026, 11, 23, 9, 14, 7, tzinfo=UTC)
RUN = UUID("01a209bb-39f0-7631-b1e7-4538fb1995a3")
OTHER_RUN = UUID("01a209bb-39f0-7631-b1e7-4538fb1995a4")
CALENDAR = UUID("7b0c6a52-3f0e-4c61-9d55-0d1f4f3c8a11")
ALICE = "9750dcc2-516e-5ea0-8a26-54fa6ff6986b"
REQUEST = "01a209bb-39ee-7631-b1e7-453deacf3f40"
ROUTE = "/v1/calendars/{calendar_id}"
FLAG: dict[str, object] = {"key": "calendar", "from": "a", "to": "b", "actor": "ana", "cause": "x"}
WHO = {"request_id": REQUEST, "user_id": ALICE, "calendar_id": CALENDAR}


def request(**changed: Any) -> RequestFinished:
    fields: dict[str, Any] = {
        **WHO,
        "method": "GET",
        "route": ROUTE,
        "http_status": 200,
        "status": "ok",
        "duration_ms": 12,
    }
    return RequestFinished(**(fields | changed))


def run(run_id: UUID = RUN, **changed: Any) -> RunFinished:
    fields: dict[str, Any] = {
        **WHO,
        "id": run_id,
        "at": NOW,
        "run_id": run_id,
        "channel": "instagram,tiktok",
        "status": "timeout",
        "reason": Reason.TIMEOUT_BETWEEN,
        "verdict": Verdict.BAD,
        "flags": {"calendar": "ai@12"},
        "first_entry_ms": 1310,
    }
    return RunFinished(**(fields | changed))


def intent(intent_id: UUID = OTHER_RUN) -> IntentFinished:
    return IntentFinished(
        request_id=REQUEST,
        user_id=ALICE,
        calendar_id=CALENDAR,
        intent_id=intent_id,
        status="dry_run",
        mode="dry_run",
        channel="tiktok",
        verdict=Verdict.IGNORED,
        reason=Reason.FLAG,
        account_id=RUN,
    )


GOOD: tuple[Event, ...] = (
    request(),
    request(http_status=None, status="rejected", reason=Reason.CLIENT_LEFT),
    request(http_status=500, status="failed", code="INTERNAL", error={"type": "X", "where": "y:1"}),
    run(),
    run(OTHER_RUN, lane=Lane.DRILL, first_entry_ms=None, channel=None, flags=None),
    intent(),
    StreamFinished(
        id=RUN,
        at=NOW,
        user_id=ALICE,
        calendar_id=CALENDAR,
        run_id=RUN,
        status="client_left",
        verdict=Verdict.IGNORED,
    ),
    FlagChanged(flag=FLAG),
    DrillOpened(flag=FLAG),
)


def logged(*events: Event, hashed: bool = False) -> list[bytes]:
    stream = io.BytesIO()
    user_id: UserId = keyed_user_id(b"key") if hashed else str
    log = Log(stream, version="0.1.0", replica="web-1:7f3a", user_id=user_id, clock=lambda: NOW)
    for event in events:
        log.event(event)
    return stream.getvalue().splitlines()


def noted() -> list[bytes]:
    stream = io.BytesIO()
    log = Log(stream, version="0.1.0", replica="web-1:7f3a", clock=lambda: NOW)
    for name in NOTES:
        log.note(name, level="warning", message="a sentence")
        log.note(name, error={"type": "OSError", "where": "work:7"})
    return stream.getvalue().splitlines()


LINES: list[dict[str, Any]] = [orjson.loads(line) for line in [*logged(*GOOD), *noted()]]
VALIDATOR: Any = jsonschema.Draft202012Validator(log_line_schema())


def verified(*lines: dict[str, Any], requests: bool = False) -> Report:
    return verify_lines([orjson.dumps(line) for line in lines], requests=requests)


def changed(line: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return deepcopy(line) | changes


def without(line: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in line.items() if name != key}


def line_of(name: str) -> dict[str, Any]:
    return next(line for line in LINES if line["event"] == name)


def test_everything_the_log_writes_keeps_the_contract() -> None:
    report = verify_lines([*logged(*GOOD), *noted()], requests=True)
    assert (report.violations, report.broken, report.secrets_found) == ([], 0, 0)
    assert report.lines == len(LINES)
    assert set(report.events) == {*NOTES, *(event.name for event in EVENTS)}
    assert report.events["http.request.finished"] == 3


def test_hashed_users_keep_the_contract() -> None:
    assert verify_lines(logged(*GOOD, hashed=True)).violations == []


def test_the_example_of_the_contract_keeps_it() -> None:
    line = json.loads(EXAMPLE.read_text())
    assert verified(line).violations == []
    VALIDATOR.validate(line)


def test_the_schema_itself_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(log_line_schema())
    for line in LINES:
        VALIDATOR.validate(line)


@pytest.mark.parametrize("key", REQUIRED)
@pytest.mark.parametrize("name", [event.name for event in EVENTS])
def test_a_line_without_a_required_key_breaks_it(name: str, key: str) -> None:
    line = without(line_of(name), key)
    assert verified(line).broken == 1
    assert not VALIDATOR.is_valid(line)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.name)
def test_a_line_without_a_key_of_its_event_breaks_it(event: type[Event]) -> None:
    for key in event.extra:
        assert verified(without(line_of(event.name), key)).broken == 1


WRONG: dict[str, list[Any]] = {
    "schema": [2, "1", None, True],
    "timestamp": ["2026-11-23T09:14:07Z", "2026-11-23T09:14:07.412+01:00", "now", 1, None],
    "level": ["critical", "INFO", None],
    "event": ["calendar.run.exploded", None, 7],
    "requestId": ["short", "with space 12", "x" * 65, 7],
    "userId": ["alice", "9750DCC2-516E-5EA0-8A26-54FA6FF6986B", 7],
    "channel": ["Instagram", "a,", "a, b", ["a"]],
    "calendarId": ["c1", 7, CALENDAR.hex],
    "runId": ["r1", True],
    "intentId": ["i1"],
    "attempt": [0, "1", 1.5, True],
    "status": ["two words", "done", "", 7],
    "reason": ["bored", "", 7],
    "verdict": ["fine", True],
    "durationMs": [-1, "12", 1.5, True],
    "mode": ["dryrun", ""],
    "flags": [{"calendar": "ai"}, {"calendar": None}, ["ai@12"], "ai@12"],
    "version": ["", None, 1],
    "replica": ["web-1", "web 1:7f3a", None],
    "lane": ["canary", None],
    "message": [None, 7, {"text": "x"}],
    "error": [None, "X", {}, {"type": "X"}, {"type": "X", "where": "y", "text": "z"}],
    "caption": ["a key that is nobody's", None],
}


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, values in WRONG.items() for value in values]
)
def test_a_value_that_cannot_be_breaks_it_and_is_not_quoted(key: str, value: Any) -> None:
    line = changed(line_of("calendar.run.finished"), **{key: value})
    report = verified(line)
    assert report.broken == 1
    assert not VALIDATOR.is_valid(line)
    assert report.violations[0][1] in {
        *(f"{key}: cannot be this", "event: is none of the contract's"),
        "a key outside the contract",
    }


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("method", "get"), ("method", None), ("route", "v1"), ("route", None)),
        *(("httpStatus", 99), ("httpStatus", "200"), ("httpStatus", True), ("code", "not_found")),
        *(("status", "completed"), ("status", None), ("durationMs", None), ("requestId", None)),
    ],
)
def test_a_requests_own_keys_are_checked_too(key: str, value: Any) -> None:
    line = changed(line_of("http.request.finished"), **{key: value})
    assert verified(line).broken == 1
    assert not VALIDATOR.is_valid(line)


EMPTY: st.SearchStrategy[dict[str, str]] = st.just({})
VALUES = st.one_of(
    *(st.none(), st.booleans(), st.integers(-5, 700), st.text(max_size=12)),
    *(EMPTY, st.just([]), st.just({"calendar": "ai@1"}), st.just({"type": "", "where": ""})),
    st.sampled_from(["ok", "failed", "good", "live", "drill", "dry_run", "info", "GET", "/x", "A"]),
    st.sampled_from([str(RUN), REQUEST, "2026-11-23T09:14:07.412Z", "a,b", *NOTES]),
    st.sampled_from([event.name for event in EVENTS]),
)
KEYS = st.sampled_from(sorted({key for line in LINES for key in line} | {"caption"}))


@given(st.sampled_from(LINES), st.dictionaries(KEYS, VALUES, max_size=3), st.none() | KEYS)
def test_the_fast_checks_and_the_schema_agree(
    line: dict[str, Any], changes: dict[str, Any], taken: str | None
) -> None:
    line = changed(line, **changes)
    if taken is not None:
        line = without(line, taken)
    assert (verified(line).broken == 0) == VALIDATOR.is_valid(line)


@pytest.mark.parametrize(
    "raw",
    [
        *(b"", b"hello", b"[]", b'"text"', b"7", b"{", b'{"a": 1} tail', b"\xff\xfe"),
        b"Traceback (most recent call last):",
    ],
)
def test_a_line_that_is_no_json_object_breaks_it(raw: bytes) -> None:
    report = verify_lines([*logged(request()), raw])
    assert report.violations == [(2, "is no JSON object")]
    assert (report.lines, report.broken) == (2, 1)


@pytest.mark.parametrize(
    "line",
    [
        b"error connecting to postgresql://app:hunter2@db.example/x",
        orjson.dumps(changed(LINES[0], requestId="sk-abcdefghijklmnop1234")),
        orjson.dumps(changed(LINES[0], error={"type": "X", "where": "Bearer abcdefgh12345678"})),
        orjson.dumps(changed(LINES[0], **{"password=hunter2": 1})),
    ],
)
def test_a_secret_is_found_and_not_repeated(line: bytes) -> None:
    report = verify_lines([line])
    assert report.secrets_found == 1
    told = repr(report.violations)
    assert all(word not in told for word in ("hunter2", "abcdefgh"))


def test_a_run_and_an_intent_end_once_and_a_stream_as_often_as_it_is_read() -> None:
    streams = [event for event in GOOD if isinstance(event, StreamFinished)] * 3
    report = verify_lines(logged(run(), run(OTHER_RUN), intent(), *streams, run(), intent()))
    assert [line_no for line_no, _ in report.violations] == [7, 8]


@pytest.mark.parametrize(
    ("event", "broken"),
    [
        (request(user_id=None), 1),
        (request(user_id=None, http_status=404, status="rejected"), 1),
        (request(user_id=None, http_status=401, status="rejected"), 0),
        (request(user_id=None, http_status=413, status="rejected"), 0),
        (request(user_id=None, http_status=None, status="rejected"), 0),
        (request(calendar_id=None), 1),
        (request(calendar_id=None, http_status=401, status="rejected"), 0),
        (request(calendar_id=None, route="/v1/runs/{run_id}"), 0),
        (request(calendar_id=None, user_id=None, route="/livez"), 0),
        (request(calendar_id=None, user_id=None, route="/ops/flags"), 0),
        (request(calendar_id=None, user_id=None, route="unmatched"), 0),
        (request(user_id=None, route="/v1/intents"), 1),
    ],
)
def test_requests_about_calendars_name_user_and_calendar_when_asked(
    event: RequestFinished, broken: int
) -> None:
    assert verify_lines(logged(event)).broken == 0
    assert verify_lines(logged(event), requests=True).broken == broken


def test_a_log_that_is_all_wrong_is_counted_whole_and_told_in_part() -> None:
    report = verify_lines(b"nothing" for _ in range(5000))
    assert (report.broken, len(report.violations), report.lines) == (5000, 1000, 5000)
