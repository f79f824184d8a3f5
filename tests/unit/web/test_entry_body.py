"""What a body of entries means: only what was sent, and nothing that is only for reading."""

import datetime as dt
from uuid import UUID

from cadenza.web.entry_body import PatchBody, SaveAllBody


def test_only_what_was_sent_is_a_change() -> None:
    assert PatchBody.model_validate({}).changes() == {}
    sent = PatchBody.model_validate({"copy": "", "targetAudience": None, "date": "2026-12-01"})
    assert sent.changes() == {"copy": "", "target_audience": None, "date": dt.date(2026, 12, 1)}


def test_read_only_fields_are_accepted_whatever_they_hold_and_change_nothing() -> None:
    read_only: dict[str, object] = {
        "id": "of another",
        "version": "7",
        "status": None,
        "needsReview": 1,
        "calendarId": {},
        "runId": [],
        "createdAt": "yesterday",
        "updatedAt": 0,
        "revision": -1,
    }
    assert PatchBody.model_validate({**read_only, "title": "New"}).changes() == {"title": "New"}


def test_a_saved_entry_keeps_its_id_and_a_new_one_has_none() -> None:
    known = "01a209bb-3f10-7631-b1e7-453995d4d6e6"
    body = SaveAllBody.model_validate({"entries": [{"id": known}, {"title": "New"}]})
    assert [(each.id, each.changes) for each in body.sent()] == [
        (UUID(known), {}),
        (None, {"title": "New"}),
    ]


def test_hashtags_lose_their_mark_and_lists_become_values_that_cannot_change() -> None:
    body = PatchBody.model_validate({"hashtags": ["#a", "b", "##c"], "media": ["m.png"]})
    assert body.changes() == {"hashtags": ("a", "b", "c"), "media": ("m.png",)}
