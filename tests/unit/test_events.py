"""The events keep the log contract: one spelling, one set of keys, one verdict."""

from dataclasses import FrozenInstanceError, fields
from datetime import UTC, datetime
from uuid import UUID

import pytest

from cadenza.errors import Reason
from cadenza.events import (
    ANY_LINE,
    EVENTS,
    NOTES,
    REQUIRED,
    Event,
    Lane,
    Outcome,
    RequestFinished,
    RunFinished,
    StreamFinished,
    Verdict,
    camel,
)

RUN = UUID("01a209bb-39f0-7631-b1e7-4538fb1995a3")
AT = datetime(2026, 11, 23, 9, 14, 7, tzinfo=UTC)
OF_THE_LINE = {"schema", "timestamp", "level", "event", "version", "replica"}
OF_THE_ROW = {"id", "at", "variant", "flagVersion"}


def run_finished(verdict: Verdict = Verdict.GOOD) -> RunFinished:
    return RunFinished(id=RUN, at=AT, run_id=RUN, status="completed", verdict=verdict, entries=4)


def test_an_event_fills_every_required_key_that_is_not_the_lines_own() -> None:
    for kind in EVENTS:
        names = {camel(field.name) for field in fields(kind)}
        assert names >= set(REQUIRED) - OF_THE_LINE, kind.__name__


def test_an_event_adds_only_the_keys_registered_for_it() -> None:
    for kind in EVENTS:
        names = {camel(field.name) for field in fields(kind)}
        row = OF_THE_ROW if issubclass(kind, Outcome) else set[str]()
        assert names - {*REQUIRED, *ANY_LINE} - row == set(kind.extra), kind.__name__


def test_no_event_takes_over_a_key_of_every_line() -> None:
    for kind in EVENTS:
        assert not set(kind.extra) & {*REQUIRED, *ANY_LINE}, kind.__name__


def test_events_and_notes_share_no_name() -> None:
    names = [*(kind.name for kind in EVENTS), *NOTES]
    assert len(names) == len(set(names))


def test_the_row_of_an_outcome_keeps_its_own_columns_out_of_the_line() -> None:
    line = run_finished().as_fields()
    assert not OF_THE_ROW & set(line)
    assert (line["runId"], line["entries"], line["firstEntryMs"]) == (RUN, 4, None)


def test_keys_are_spelled_in_camel_case() -> None:
    assert [camel(name) for name in ("lane", "user_id", "first_entry_ms")] == [
        *("lane", "userId", "firstEntryMs"),
    ]


@pytest.mark.parametrize(
    ("verdict", "level"),
    [(Verdict.GOOD, "info"), (Verdict.BAD, "warning"), (Verdict.IGNORED, "info")],
)
def test_a_bad_outcome_is_a_warning(verdict: Verdict, level: str) -> None:
    assert run_finished(verdict).severity() == level


@pytest.mark.parametrize(
    ("http_status", "level"), [(200, "info"), (404, "info"), (500, "error"), (None, "info")]
)
def test_a_request_is_an_error_only_when_we_failed(http_status: int | None, level: str) -> None:
    request = RequestFinished(method="GET", route="/v1/calendars", http_status=http_status)
    assert request.severity() == level


def test_a_run_and_a_stream_are_outcomes_and_a_request_is_none() -> None:
    outcomes = {kind for kind in EVENTS if issubclass(kind, Outcome)}
    assert outcomes >= {RunFinished, StreamFinished}
    assert RequestFinished not in outcomes


def test_what_happened_does_not_change_afterwards() -> None:
    finished = run_finished()
    with pytest.raises(FrozenInstanceError):
        finished.status = "failed"  # pyright: ignore[reportAttributeAccessIssue]  # the point


def test_work_is_live_unless_it_says_drill() -> None:
    assert Event().lane is Lane.LIVE
    assert Event(reason=Reason.INTERNAL).as_fields()["reason"] == "internal"
