"""Entries on the wire, in order, and what a write did to them."""

import datetime as dt
import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from cadenza.calendar import model
from cadenza.calendar.model import Entry
from cadenza.calendar.request import Draft

EXAMPLE = Path(__file__).parents[3] / "docs" / "reference" / "examples" / "entry.json"
AT = dt.datetime(2026, 11, 23, 9, 14, 7, 412_345, tzinfo=dt.timezone(dt.timedelta(hours=1)))
DRAFT = Draft(
    title="The oven is on",
    channel="instagram",
    format="post",
    copy="Tomorrow at seven.",
    script=None,
    target_audience=None,
    date=dt.date(2026, 12, 1),
    time="09:00",
    timezone="Europe/Madrid",
    hashtags=("bakery",),
    media=(),
)


def entry(number: int = 1, **fields: Any) -> Entry:
    whole: dict[str, Any] = {
        **{name: getattr(DRAFT, name) for name in DRAFT.__slots__},
        "id": UUID(int=number),
        "calendar_id": UUID(int=100),
        "run_id": None,
        "version": 1,
        "needs_review": False,
        "created_at": AT,
        "updated_at": AT,
        **fields,
    }
    return Entry(**whole)


def test_a_stored_draft_looks_like_the_contracts_example_to_the_byte_of_its_keys() -> None:
    example = json.loads(EXAMPLE.read_text())
    wire = model.entry_frame_wire(DRAFT, UUID(example["id"]))
    assert wire == example
    assert list(wire) == list(example)


def test_a_read_entry_has_the_contracts_keys_and_says_where_it_is_from() -> None:
    wire = model.entry_wire(entry(run_id=UUID(int=7), needs_review=True))
    example = json.loads(EXAMPLE.read_text())
    assert list(wire)[: len(example)] == list(example)
    assert set(wire) - set(example) == {
        *("needsReview", "calendarId", "runId", "createdAt", "updatedAt"),
    }
    assert (wire["needsReview"], wire["runId"]) == (True, str(UUID(int=7)))
    assert wire["createdAt"] == "2026-11-23T08:14:07.412Z"


def test_entries_are_ordered_by_date_time_channel_and_id() -> None:
    ordered = [
        entry(9, date=dt.date(2026, 11, 30), time="23:00", channel="tiktok"),
        entry(8, time="08:00", channel="tiktok"),
        entry(7, time="09:00", channel="bluesky"),
        entry(1, time="09:00", channel="instagram"),
        entry(2, time="09:00", channel="instagram"),
    ]
    assert model.in_order(reversed(ordered)) == tuple(ordered)


def test_a_status_comes_from_publishing_and_is_else_a_draft() -> None:
    given = model.with_statuses(
        [entry(1), entry(2, status="published")], {UUID(int=1): "scheduled"}
    )
    assert [each.status for each in given] == ["scheduled", "draft"]


def test_a_new_entry_needs_a_title_a_channel_and_a_date_and_nothing_else() -> None:
    assert model.missing({}) == ("title", "channel", "date")
    draft = model.drafted({"title": "T", "channel": "webhook", "date": DRAFT.date})
    assert (draft.time, draft.timezone, draft.format, draft.copy) == ("09:00", "UTC", "post", "")
    assert (draft.script, draft.hashtags) == (None, ())


def test_only_a_field_that_differs_is_a_change() -> None:
    assert not model.is_otherwise(entry(), {})
    assert not model.is_otherwise(entry(), {"title": DRAFT.title, "hashtags": ("bakery",)})
    assert model.is_otherwise(entry(), {"hashtags": ("bakery", "bread")})


def test_what_a_write_did_is_kept_per_entry_with_both_texts() -> None:
    same, changed, gone, made = entry(1), entry(2), entry(3), entry(4)
    after = replace(changed, copy="Otherwise", version=2)
    found = model.changed([same, changed, gone], [same, after, made])
    kept: dict[object, Any] = {change["entryId"]: change for change in found}
    assert list(kept) == [str(UUID(int=number)) for number in (2, 3, 4)]
    both = kept[str(changed.id)]
    assert (both["before"]["copy"], both["after"]["copy"]) == (DRAFT.copy, "Otherwise")
    assert kept[str(gone.id)]["after"] is None
    assert kept[str(made.id)]["before"] is None


@pytest.mark.parametrize(("before", "after"), [("draft", "published"), ("held", "scheduled")])
def test_a_status_is_nothing_that_a_write_changed(before: str, after: str) -> None:
    assert model.changed([entry(status=before)], [entry(status=after)]) == []


def test_what_was_sent_is_given_back_as_it_was_sent() -> None:
    sent = model.Sent(
        id=UUID(int=5),
        changes={"target_audience": None, "date": DRAFT.date, "hashtags": ("a", "b")},
    )
    assert model.sent_wire(sent) == {
        "id": str(UUID(int=5)),
        "targetAudience": None,
        "date": "2026-12-01",
        "hashtags": ["a", "b"],
    }
