"""A calendar and its entries as people see and change them, and their shape on the wire."""

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypedDict, cast
from uuid import UUID

from cadenza.calendar.request import SLOT_TIME, Draft
from cadenza.events import camel

MAX_ENTRIES = 200
DRAFT = "draft"

Wire = dict[str, object]


class Changes(TypedDict, total=False):
    """The fields of an entry that somebody wants to be otherwise; absent ones stay as they are."""

    title: str
    channel: str
    format: str
    copy: str
    script: str | None
    target_audience: str | None
    date: dt.date
    time: str
    timezone: str
    hashtags: tuple[str, ...]
    media: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry(Draft):
    """One saved post of a calendar.

    `version` counts the changes of its content. `needs_review` says that no person has saved it
    since a run that ended badly. `status` follows from its publish intents.
    """

    id: UUID
    calendar_id: UUID
    run_id: UUID | None
    version: int
    needs_review: bool
    created_at: dt.datetime
    updated_at: dt.datetime
    status: str = DRAFT


@dataclass(frozen=True, slots=True, kw_only=True)
class Calendar:
    """One calendar; `revision` counts the writes to it, by users and by ended runs."""

    id: UUID
    revision: int
    created_at: dt.datetime
    updated_at: dt.datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One entry of a save-all: a known one by its id, or a new one without."""

    id: UUID | None
    changes: Changes


_CONTENT = tuple(field.name for field in fields(Draft))
_OF_NEW: Changes = {
    "format": "post",
    "copy": "",
    "script": None,
    "target_audience": None,
    "time": SLOT_TIME,
    "timezone": "UTC",
    "hashtags": (),
    "media": (),
}


def in_order(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Return entries as they are listed everywhere: by date, time, channel and id."""
    return tuple(sorted(entries, key=lambda e: (e.date, e.time, e.channel, e.id)))


def with_statuses(entries: Iterable[Entry], statuses: Mapping[UUID, str]) -> tuple[Entry, ...]:
    """Return entries with the status that their publish intents give them; others are drafts."""
    return tuple(replace(entry, status=statuses.get(entry.id, DRAFT)) for entry in entries)


def missing(changes: Changes) -> tuple[str, ...]:
    """Return the fields that a new entry would still need, as they are called on the wire."""
    return tuple(camel(name) for name in _CONTENT if name not in {**_OF_NEW, **changes})


def drafted(changes: Changes) -> Draft:
    """Return a new entry's content, with defaults for what was left out; none may be missing."""
    whole: dict[str, Any] = {**_OF_NEW, **changes}
    return Draft(**whole)


def is_otherwise(entry: Entry, changes: Changes) -> bool:
    """Say whether these changes would change the entry's content."""
    return any(getattr(entry, name) != value for name, value in changes.items())


def changed(before: Sequence[Entry], after: Sequence[Entry]) -> list[Wire]:
    """Return what one write did to each entry, as a revision keeps it, by id.

    `before` is None for a new entry, `after` for a deleted one.
    """
    old = {entry.id: _kept_wire(entry) for entry in before}
    new = {entry.id: _kept_wire(entry) for entry in after}
    return [
        {"entryId": str(entry_id), "before": old.get(entry_id), "after": new.get(entry_id)}
        for entry_id in sorted({*old, *new})
        if old.get(entry_id) != new.get(entry_id)
    ]


def entry_frame_wire(draft: Draft, entry_id: UUID) -> Wire:
    """Return a just stored entry as its run's stream shows it: exactly the contract's keys."""
    return _contract_wire(draft, entry_id, version=1, status=DRAFT)


def entry_export_wire(entry: Entry) -> Wire:
    """Return a saved entry with exactly the contract's keys."""
    return _contract_wire(entry, entry.id, version=entry.version, status=entry.status)


def entry_wire(entry: Entry) -> Wire:
    """Return an entry as reads answer it: the contract's keys, then where it is from."""
    return {
        **entry_export_wire(entry),
        "needsReview": entry.needs_review,
        "calendarId": str(entry.calendar_id),
        "runId": None if entry.run_id is None else str(entry.run_id),
        "createdAt": instant_wire(entry.created_at),
        "updatedAt": instant_wire(entry.updated_at),
    }


def calendar_wire(calendar: Calendar, entries: Iterable[Entry]) -> Wire:
    """Return a calendar with its entries."""
    return {
        "id": str(calendar.id),
        "revision": calendar.revision,
        "createdAt": instant_wire(calendar.created_at),
        "updatedAt": instant_wire(calendar.updated_at),
        "entries": [entry_wire(entry) for entry in entries],
    }


def sent_wire(sent: Sent) -> Wire:
    """Return what somebody sent for an entry, so that a refusal gives it back."""
    values: Wire = {camel(name): _plain(value) for name, value in sent.changes.items()}
    return {"id": str(sent.id), **values} if sent.id else values


def instant_wire(at: dt.datetime) -> str:
    """Return an instant as RFC 3339 in UTC."""
    utc = at.astimezone(dt.UTC).isoformat(timespec="milliseconds")
    return utc.removesuffix("+00:00") + "Z"


def _contract_wire(draft: Draft, entry_id: UUID, *, version: int, status: str) -> Wire:
    content: Wire = {camel(name): _plain(getattr(draft, name)) for name in _CONTENT}
    return {"id": str(entry_id), "version": version, **content, "status": status}


def _kept_wire(entry: Entry) -> Wire:
    """Return an entry as revisions keep it; its status is not part of what anybody wrote."""
    wire = {**entry_export_wire(entry), "needsReview": entry.needs_review}
    del wire["status"]
    return wire


def _plain(value: object) -> object:
    match value:
        case dt.date():
            return value.isoformat()
        case tuple():
            return list(cast("tuple[object, ...]", value))
        case _:
            return value
