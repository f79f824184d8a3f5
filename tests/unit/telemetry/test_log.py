"""Every line complete, nothing outside the contract, and never a reason for work to stop."""

import hashlib
import hmac
import io
import logging
from collections.abc import Generator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import orjson
import pytest

from cadenza.errors import Reason
from cadenza.events import (
    ANY_LINE,
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
from cadenza.telemetry.context import Context, entered
from cadenza.telemetry.log import Log, UserId, catch_libraries, error_fields, keyed_user_id

NOW = datetime(2026, 11, 23, 9, 14, 7, 412_999, tzinfo=UTC)
RUN = UUID("01a209bb-39f0-7631-b1e7-4538fb1995a3")
CALENDAR = UUID("7b0c6a52-3f0e-4c61-9d55-0d1f4f3c8a11")
ALICE = "9750dcc2-516e-5ea0-8a26-54fa6ff6986b"
FLAG: dict[str, object] = {"key": "calendar", "from": "a", "to": "b", "actor": "ana", "cause": "x"}
ONE_OF_EACH: tuple[Event, ...] = (
    RequestFinished(method="GET", route="/v1/calendars", http_status=None, status="rejected"),
    RunFinished(id=RUN, at=NOW),
    StreamFinished(id=RUN, at=NOW),
    IntentFinished(),
    FlagChanged(flag=FLAG),
    DrillOpened(flag=FLAG),
)


@dataclass
class Written:
    """A log, and the lines it wrote."""

    log: Log
    stream: io.BytesIO
    dropped: list[str] = field(default_factory=list[str])

    @property
    def lines(self) -> list[dict[str, Any]]:
        text = self.stream.getvalue()
        assert text == b"" or text.endswith(b"\n")
        return [orjson.loads(line) for line in text.splitlines()]

    @property
    def line(self) -> dict[str, Any]:
        (line,) = self.lines
        return line


def writing(
    *, level: str = "info", user_id: UserId = lambda user_id: user_id, stream: Any = None
) -> Written:
    stream = stream or io.BytesIO()
    dropped: list[str] = []
    log = Log(
        stream,
        version="0.1.0",
        replica="web-1:7f3a",
        level=level,
        user_id=user_id,
        clock=lambda: NOW,
        dropped=dropped.append,
    )
    return Written(log, stream, dropped)


@pytest.fixture
def libraries() -> Generator[Written]:
    """A log that the standard library's logging writes to as well."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    written = writing()
    catch_libraries(written.log, written.stream)
    yield written
    root.handlers = handlers
    root.setLevel(level)


def test_there_is_one_of_each_kind_of_event_here() -> None:
    assert {type(event) for event in ONE_OF_EACH} == set(EVENTS)


@pytest.mark.parametrize("event", ONE_OF_EACH, ids=lambda event: event.name)
def test_the_line_of_an_event_has_every_key_it_promises_and_no_other(event: Event) -> None:
    written = writing()
    written.log.event(event)
    assert set(written.line) == {*REQUIRED, *event.extra}
    assert written.line["event"] == event.name
    assert written.dropped == []


@pytest.mark.parametrize("name", NOTES)
def test_a_note_has_every_required_key(name: str) -> None:
    written = writing()
    written.log.note(name, level="warning", message="a sentence", calendarId=CALENDAR)
    assert set(written.line) == {*REQUIRED, "message"}
    assert written.line["level"] == "warning"
    assert written.line["calendarId"] == str(CALENDAR)


def test_a_key_outside_the_contract_is_dropped_and_counted() -> None:
    written = writing()
    written.log.note(
        "flags.set.applied", caption="my secret launch", prompt="write", entries=3, event="x"
    )
    assert written.dropped == ["caption", "prompt", "entries"]
    assert set(written.line) == set(REQUIRED)
    assert written.line["event"] == "flags.set.applied"


def test_an_extra_key_belongs_to_its_event_only() -> None:
    written = writing()
    written.log.note("calendar.run.started", httpStatus=200, flag=FLAG)
    assert written.dropped == ["httpStatus", "flag"]


def test_what_identifies_the_line_cannot_be_overridden() -> None:
    written = writing()
    forged: dict[str, Any] = {"schema": 9, "version": "9", "replica": "x"}
    written.log.note("flags.set.applied", **forged)
    line = written.line
    assert (line["schema"], line["version"], line["replica"]) == (1, "0.1.0", "web-1:7f3a")


def test_ids_come_from_the_context_and_an_event_may_say_otherwise() -> None:
    written = writing()
    about = Context(request_id="request-1", user_id=ALICE, channel="tiktok", lane=Lane.DRILL)
    with entered(about):
        about.flags["calendar"] = "ai@12"
        written.log.note("calendar.run.started", runId=RUN)
        written.log.event(RunFinished(id=RUN, at=NOW, request_id="request-2", lane=Lane.LIVE))
    first, second = written.lines
    assert (first["requestId"], first["userId"], first["channel"]) == ("request-1", ALICE, "tiktok")
    assert (first["flags"], first["lane"], first["runId"]) == (
        {"calendar": "ai@12"},
        "drill",
        str(RUN),
    )
    assert (second["requestId"], second["userId"], second["lane"]) == ("request-2", ALICE, "live")


def test_an_outcomes_line_has_the_outcomes_own_instant_in_utc() -> None:
    written = writing()
    at = (NOW + timedelta(hours=1)).astimezone(timezone(timedelta(hours=5)))
    written.log.event(RunFinished(id=RUN, at=at))
    written.log.note("flags.set.applied")
    assert [line["timestamp"] for line in written.lines] == [
        "2026-11-23T10:14:07.412Z",
        "2026-11-23T09:14:07.412Z",
    ]


def test_words_of_ours_are_written_as_words() -> None:
    written = writing()
    written.log.event(
        RunFinished(id=RUN, at=NOW, verdict=Verdict.BAD, reason=Reason.TIMEOUT_BETWEEN)
    )
    line = written.line
    assert (line["verdict"], line["reason"], line["level"]) == ("bad", "timeout_between", "warning")


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_what_is_below_the_level_is_not_written(level: str) -> None:
    written = writing(level=level)
    order = ["debug", "info", "warning", "error"]
    for each in order:
        written.log.note("flags.set.applied", level=each)
    assert [line["level"] for line in written.lines] == order[order.index(level) :]


def test_user_ids_are_hashed_with_the_key_when_asked() -> None:
    written = writing(user_id=keyed_user_id(b"key"))
    with entered(Context(user_id=ALICE)):
        written.log.note("flags.set.applied")
    written.log.event(IntentFinished(user_id=ALICE))
    expected = hmac.new(b"key", ALICE.encode(), hashlib.sha256).hexdigest()[:32]
    assert [line["userId"] for line in written.lines] == [expected, expected]
    assert ALICE not in written.stream.getvalue().decode()


def test_nobody_is_not_hashed() -> None:
    written = writing(user_id=keyed_user_id(b"key"))
    written.log.note("flags.set.applied")
    assert written.line["userId"] is None


@pytest.mark.parametrize(
    "text", ["two\nlines", "carriage\r\nreturn", 'a "quote"', "nul\x00", "\u2028", "\x1b[31m"]
)
def test_a_line_stays_one_line_whatever_is_in_it(text: str) -> None:
    written = writing()
    written.log.note("process.instance.failed", message=text)
    assert written.line["message"] == text


@pytest.mark.parametrize(
    ("given", "told"), [("half \ud800", "half ?"), (1 << 70, str(1 << 70)), (b"bytes", "bytes")]
)
def test_a_value_that_is_no_json_is_written_as_well_as_can_be(given: object, told: str) -> None:
    written = writing()
    written.log.note("process.instance.failed", message=given)
    assert written.line["message"] == told


@dataclass
class Draft:
    caption: str


def test_an_object_as_a_value_is_named_and_not_spelled_out() -> None:
    written = writing()
    written.log.note("process.instance.failed", message=Draft("my secret launch"))
    assert written.line["message"] == "Draft"


class Full(io.BytesIO):
    def write(self, _text: Any) -> int:
        raise OSError(28, "No space left on device")


def test_a_full_disk_costs_lines_and_not_the_work() -> None:
    written = writing(stream=Full())
    written.log.note("flags.set.applied")
    written.log.event(IntentFinished())
    assert written.log.lost == 2


def test_a_librarys_record_goes_through_the_contract(libraries: Written) -> None:
    with entered(Context(request_id="request-1")):
        logging.getLogger("uvicorn.error").warning("late by %d s", 3)
    line = libraries.line
    assert set(line) == {*REQUIRED, "message"}
    assert (line["event"], line["level"]) == ("process.message.logged", "warning")
    assert (line["message"], line["requestId"]) == ("uvicorn.error: late by 3 s", "request-1")


def test_an_exception_of_a_library_is_told_by_type_and_place_only(libraries: Written) -> None:
    try:
        raise ValueError("my secret launch")  # noqa: TRY301
    except ValueError:
        logging.getLogger("asyncio").exception("Task failed\nfuture: <my secret launch>")
    line = libraries.line
    assert line["error"]["type"] == "ValueError"
    assert "told_by_type_and_place" in line["error"]["where"]
    assert (line["message"], line["level"]) == ("asyncio: Task failed", "error")
    assert b"launch" not in libraries.stream.getvalue()


def test_odd_levels_of_libraries_become_ours(libraries: Written) -> None:
    logging.getLogger("x").critical("worst")
    logging.getLogger("x").log(37, "between")
    assert [line["level"] for line in libraries.lines] == ["error", "info"]


def test_a_library_that_talks_without_end_is_cut_short(libraries: Written) -> None:
    logging.getLogger("x").warning("y" * 100_000)
    assert len(libraries.line["message"]) < 600


def test_an_error_says_where_it_was_raised_and_not_what_it_says() -> None:
    def inner() -> None:
        raise KeyError("my secret launch")

    with pytest.raises(KeyError) as raised:
        inner()
    told = error_fields(raised.value)
    assert set(told) == {"type", "where"}
    assert "inner" in told["where"]
    assert "launch" not in repr(told)
    assert error_fields(ValueError("never raised")) == {"type": "ValueError", "where": ""}


def test_any_line_may_carry_a_message_and_an_error() -> None:
    written = writing()
    written.log.event(IntentFinished(error={"type": "X", "where": "y:1"}))
    assert written.line["error"] == {"type": "X", "where": "y:1"}
    assert set(ANY_LINE) == {"message", "error"}
