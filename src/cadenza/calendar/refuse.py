"""Refusing a write to a calendar: each mistake by its place, each conflict with both sides."""

from collections.abc import Sequence
from uuid import UUID

from cadenza.calendar.model import (
    MAX_ENTRIES,
    Calendar,
    Changes,
    Entry,
    Sent,
    entry_wire,
    is_otherwise,
    missing,
    sent_wire,
)
from cadenza.errors import Conflict, Invalid, Mistake

STALE = "STALE_VERSION"


def check_sent(sent: Sequence[Sent]) -> None:
    """Raise Invalid that names everything wrong with a list before any row is looked at."""
    mistakes = [
        Mistake(pointer=f"/entries/{index}/{name}", code="MISSING", fix="A new entry needs it")
        for index, item in enumerate(sent)
        if item.id is None
        for name in missing(item.changes)
    ]
    seen: set[UUID] = set()
    for index, item in enumerate(sent):
        if item.id in seen:
            fix = "Send each entry once; leave the id out of a new one"
            mistakes.append(
                Mistake(pointer=f"/entries/{index}/id", code="REPEATED_ID", fix=fix),
            )
        seen |= {item.id} if item.id is not None else set()
    if len(sent) > MAX_ENTRIES:
        fix = f"Send at most {MAX_ENTRIES} entries"
        mistakes.append(Mistake(pointer="/entries", code="TOO_MANY", fix=fix))
    if mistakes:
        raise Invalid("The list of entries has mistakes", mistakes=mistakes)


def refuse_unknown(before: Sequence[Entry], sent: Sequence[Sent]) -> None:
    """Raise Invalid that names each id which is not of the calendar; it never means a new entry."""
    known = {entry.id for entry in before}
    fix = "Use an id of this calendar, or leave it out to make a new entry"
    mistakes = [
        Mistake(pointer=f"/entries/{index}/id", code="UNKNOWN_ID", fix=fix)
        for index, item in enumerate(sent)
        if item.id is not None and item.id not in known
    ]
    if mistakes:
        raise Invalid("There is no entry with this id in the calendar", mistakes=mistakes)


def stale_entry(current: Entry, version: int, changes: Changes) -> Conflict:
    """Return the refusal of a write for an older version, with both texts."""
    return Conflict(
        f"The entry is at version {current.version}, and this write was made for {version}",
        code=STALE,
        extra={
            "yours": {"version": version, **sent_wire(Sent(id=None, changes=changes))},
            "current": entry_wire(current),
        },
    )


def stale_calendar(
    calendar: Calendar, current: Sequence[Entry], sent: Sequence[Sent], if_match: int | None
) -> Conflict:
    """Return the refusal that shows both sides of every entry that differs, and only those."""
    stored = {entry.id: entry for entry in current}
    same = {
        item.id
        for item in sent
        if item.id is not None
        and item.id in stored
        and not is_otherwise(stored[item.id], item.changes)
    }
    return Conflict(
        f"The calendar is at revision {calendar.revision}, and this save was made for "
        + ("a new one" if if_match is None else f"{if_match}"),
        code=STALE,
        extra={
            "yours": {
                "revision": if_match,
                "entries": [sent_wire(item) for item in sent if item.id not in same],
            },
            "current": {
                "revision": calendar.revision,
                "entries": [entry_wire(entry) for entry in current if entry.id not in same],
            },
        },
    )
