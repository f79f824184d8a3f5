"""The product writes what the contract's examples show, byte for byte where there are bytes."""

import json
from collections import defaultdict
from datetime import date, datetime
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import pytest

from cadenza.calendar import frames
from cadenza.calendar.ending import Judged
from cadenza.calendar.generator import Ended, RunStatus, classify
from cadenza.calendar.model import Calendar, Entry, calendar_wire, entry_export_wire
from cadenza.calendar.run import run_wire
from cadenza.errors import Reason
from cadenza.events import Lane, RunFinished, Verdict
from cadenza.flags.compile import bucket_of
from cadenza.flags.policy import from_wire
from cadenza.publish.model import Intent, IntentState, Mode, PublishCode
from cadenza.publish.model import as_wire as intent_wire

EXAMPLES = Path(__file__).parents[2] / "docs" / "reference" / "examples"
PAGE = (EXAMPLES.parent / "contracts.md").read_text()
STREAMS = sorted(path.name for path in EXAMPLES.glob("run-stream*.txt"))


def load(name: str) -> Any:  # JSON, whose shape is what is tested
    return json.loads((EXAMPLES / name).read_text())


def entry_of(document: dict[str, Any]) -> Entry:
    return Entry(
        id=UUID(document["id"]),
        calendar_id=UUID(document["calendarId"]),
        run_id=UUID(document["runId"]),
        version=document["version"],
        needs_review=document["needsReview"],
        created_at=datetime.fromisoformat(document["createdAt"]),
        updated_at=datetime.fromisoformat(document["updatedAt"]),
        status=document["status"],
        target_audience=document["targetAudience"],
        date=date.fromisoformat(document["date"]),
        hashtags=tuple(document["hashtags"]),
        media=tuple(document["media"]),
        **{
            name: document[name]
            for name in ("title", "channel", "format", "copy", "script", "time", "timezone")
        },
    )


def written(block: str) -> bytes:
    """Let the product write the frame that a block of the example shows."""
    lines = dict(line.split(": ", 1) for line in block.splitlines())
    data: dict[str, Any] = json.loads(lines["data"])
    place = frames.parse_event_id(lines["id"]) if "id" in lines else None
    match lines["event"], place:
        case "run", frames.EventId(epoch, 0):
            return frames.run_frame(epoch, data)
        case "entry", frames.EventId(epoch, seq):
            return frames.entry_frame(epoch, seq, data["entry"])
        case "done", frames.EventId(epoch, seq):
            return frames.done_frame(epoch, seq, data)
        case "reset", None:
            return frames.reset_frame()
        case "error", None:
            return frames.error_frame(
                code=data["code"],
                status=data["status"],
                request_id=data["requestId"],
                run_id=UUID(data["runId"]),
            )
        case _:
            raise AssertionError(block)


@pytest.mark.parametrize("name", STREAMS)
def test_the_frames_of_an_example_are_the_bytes_that_the_product_sends(name: str) -> None:
    blocks = [b for b in (EXAMPLES / name).read_text().split("\n\n")[:-1] if b[0] != ":"]
    assert [written(block) for block in blocks] == [f"{block}\n\n".encode() for block in blocks]


def test_a_run_is_read_as_the_example_shows() -> None:
    columns: defaultdict[str, Any] = defaultdict(lambda: None)
    assert set(run_wire(columns)) == set(load("run.json"))


def test_a_calendar_is_read_as_the_example_shows() -> None:
    document = load("calendar.json")
    read = Calendar(
        id=UUID(document["id"]),
        revision=document["revision"],
        created_at=datetime.fromisoformat(document["createdAt"]),
        updated_at=datetime.fromisoformat(document["updatedAt"]),
    )
    entries = [entry_of(entry) for entry in document["entries"]]
    assert calendar_wire(read, entries) == document
    assert [entry_export_wire(entry) for entry in entries] == [load("entry.json")]


def test_an_intent_is_read_as_the_example_shows() -> None:
    document = load("intent.json")
    variant, _, version = document["flags"]["publish"].partition("@")
    intent = Intent(
        id=UUID(document["id"]),
        entry_id=UUID(document["entryId"]),
        entry_version=document["entryVersion"],
        calendar_id=UUID(document["calendarId"]),
        run_id=UUID(document["runId"]),
        request_id=document["requestId"],
        user_id=UUID(document["userId"]),
        channel=document["channel"],
        account_id=UUID(document["accountId"]),
        mode=Mode(document["mode"]),
        state=IntentState(document["state"]),
        cause=document["cause"],
        publish_at=datetime.fromisoformat(document["publishAt"]),
        not_after=datetime.fromisoformat(document["notAfter"]),
        flag_variant=variant,
        flag_version=int(version),
        flag_source="database",
        request={},
        request_sha256=document["request"]["sha256"],
        frozen_at=datetime.fromisoformat(document["request"]["frozenAt"]),
        lane=Lane.LIVE,
    )
    assert intent_wire(intent) == document


def test_the_policy_is_one_that_the_product_takes_and_gives_back() -> None:
    assert from_wire(load("flag-policy.json")).as_wire() == load("flag-policy.json")


def test_the_product_draws_the_bucket_that_the_example_shows() -> None:
    policy, decision = load("flag-policy.json"), load("flag-decision.json")
    drawn = bucket_of(salt=policy["salt"], key=policy["key"], user_id=decision["userId"])
    assert drawn == decision["bucket"]


def ends() -> list[dict[str, str | None]]:
    listed = cast("list[dict[str, str | None]]", load("run-ends.json"))
    return [end for end in listed if end["reason"] != Reason.ABANDONED_SLOW]


@pytest.mark.parametrize("end", ends(), ids=lambda end: f"{end['status']}-{end['reason']}")
def test_a_run_is_judged_as_the_contract_lists_it(end: dict[str, str | None]) -> None:
    reason = Reason(end["reason"]) if end["reason"] else None
    entries = 7 if (end["status"], end["verdict"]) == ("partial", "bad") else 8
    judged = classify(
        Ended(status=RunStatus(str(end["status"])), reason=reason),
        entries=entries,
        rejected=2,
        expected=10 if entries == 8 else 9,
    )
    assert judged == (end["status"], reason, end["verdict"])


@pytest.mark.parametrize("end", ends(), ids=lambda end: f"{end['status']}-{end['reason']}")
def test_only_a_good_end_needs_no_review(end: dict[str, str | None]) -> None:
    judged = Judged(
        status=RunStatus(str(end["status"])),
        reason=Reason(end["reason"]) if end["reason"] else None,
        verdict=Verdict(str(end["verdict"])),
        rejected=0,
    )
    assert judged.needs_review == (end["verdict"] != Verdict.GOOD)


def test_the_contract_lists_every_status_a_run_can_end_in() -> None:
    listed = {end["status"] for end in ends()}
    assert listed == set(RunFinished.statuses) == set(RunStatus) - {RunStatus.RUNNING}


def test_the_contract_names_every_state_and_code_of_publishing() -> None:
    assert [code for code in PublishCode if f"`{code}`" not in PAGE] == []
    named = PAGE.partition("- States: `")[2].partition("`")[0].split()
    assert set(named) == set(IntentState)
