"""Reading calendars: one transaction each, as the user.

Someone else's calendar looks like one that does not exist. Reads show what is saved, whatever any
flag says.
"""

import datetime as dt
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from uuid import UUID

from cadenza.calendar.model import Calendar, Entry, Wire, instant_wire, with_statuses
from cadenza.calendar.store import entries as store
from cadenza.db.idempotency import Key
from cadenza.db.pool import Conn, Database
from cadenza.errors import Invalid, Mistake, NotFound

Statuses = Callable[[Conn, UUID], Awaitable[Mapping[UUID, str]]]

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)
_MAX_BIGINT = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who reads or writes, in which request, and under which Idempotency-Key, if any.

    `statuses` tells the status of a calendar's entries: publishing knows it, a layer above.
    """

    user_id: str
    statuses: Statuses
    request_id: str | None = None
    key: Key | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """A calendar with its entries, in their order."""

    calendar: Calendar
    entries: tuple[Entry, ...]


async def read_calendar(database: Database, caller: Caller, calendar_id: UUID) -> Contents:
    """Return a calendar with its entries; raise NotFound where this user has none."""

    async def work(conn: Conn) -> Contents:
        # The revision first: entries may then be newer than it, and a write that was made for it
        # is refused; the other way round it would be let through over entries nobody saw.
        calendar = found(await store.select_calendar(conn, calendar_id))
        entries = await store.select_entries(conn, calendar_id)
        return Contents(calendar=calendar, entries=await shown(conn, caller, calendar_id, entries))

    return await database.as_user(caller.user_id, work)


async def read_entry(
    database: Database, caller: Caller, calendar_id: UUID, entry_id: UUID
) -> Entry:
    """Return one entry of a calendar; raise NotFound where this user has none."""

    async def work(conn: Conn) -> Entry:
        entries = await store.select_entries(conn, calendar_id, entry_id)
        for entry in await shown(conn, caller, calendar_id, entries):
            return entry
        raise NotFound("There is no such entry")

    return await database.as_user(caller.user_id, work)


async def list_calendars(
    database: Database, caller: Caller, *, cursor: str | None = None, limit: int = 50
) -> Wire:
    """Return a page of this user's calendars, newest first, each with its number of entries.

    Raises Invalid for a cursor that is not of an earlier page.
    """
    before = None if cursor is None else _parsed(cursor)

    async def work(conn: Conn) -> list[tuple[Calendar, int]]:
        return await store.select_calendars(conn, before=before, limit=limit + 1)

    rows = await database.as_user(caller.user_id, work)
    last = rows[limit - 1][0] if len(rows) > limit else None
    items = [_listed(calendar, entries) for calendar, entries in rows[:limit]]
    return {"items": items, "nextCursor": _cursor(last) if last else None}


async def list_revisions(
    database: Database,
    caller: Caller,
    calendar_id: UUID,
    *,
    cursor: str | None = None,
    limit: int = 20,
) -> Wire:
    """Return a page of a calendar's revisions, newest first, each with what it changed.

    Raises NotFound where this user has no such calendar, Invalid for a cursor that is none.
    """
    before = None if cursor is None else _parsed_revision(cursor)

    async def work(conn: Conn) -> list[Wire]:
        found(await store.select_calendar(conn, calendar_id))
        return await store.select_revisions(conn, calendar_id, before=before, limit=limit + 1)

    rows = await database.as_user(caller.user_id, work)
    more = str(rows[limit - 1]["revision"]) if len(rows) > limit else None
    return {"items": rows[:limit], "nextCursor": more}


def found(calendar: Calendar | None) -> Calendar:
    """Return the calendar; raise NotFound for one that is absent or someone else's."""
    if calendar is None:
        raise NotFound("There is no such calendar")
    return calendar


async def shown(
    conn: Conn, caller: Caller, calendar_id: UUID, entries: tuple[Entry, ...]
) -> tuple[Entry, ...]:
    """Return entries with the status that their publish intents give them."""
    return with_statuses(entries, await caller.statuses(conn, calendar_id)) if entries else ()


def _listed(calendar: Calendar, entries: int) -> Wire:
    return {
        "id": str(calendar.id),
        "revision": calendar.revision,
        "entries": entries,
        "createdAt": instant_wire(calendar.created_at),
        "updatedAt": instant_wire(calendar.updated_at),
    }


def _cursor(calendar: Calendar) -> str:
    """Return where a calendar stands, exactly: pages neither skip nor repeat."""
    return f"{(calendar.created_at - _EPOCH) // _MICROSECOND}~{calendar.id}"


def _parsed(cursor: str) -> tuple[dt.datetime, UUID]:
    microseconds, _, last = cursor.partition("~")
    try:
        return _EPOCH + int(microseconds) * _MICROSECOND, UUID(last)
    except (ValueError, OverflowError):
        raise _no_cursor() from None


def _parsed_revision(cursor: str) -> int:
    if cursor.isascii() and cursor.isdecimal() and len(cursor) < len(str(_MAX_BIGINT)):
        return int(cursor)
    raise _no_cursor()


def _no_cursor() -> Invalid:
    fix = "Use the nextCursor of an earlier page, unchanged, or none for the first page"
    return Invalid(
        "The cursor is not one", mistakes=[Mistake(pointer="/cursor", code="CURSOR", fix=fix)]
    )
