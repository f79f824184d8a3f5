"""SQL of calendars, entries and revisions, as their user.

Whoever writes locks the calendar first and then its entries by id, so that writers queue at one
row and never wait for each other in a circle.
"""

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

import orjson
from psycopg.types.json import Jsonb

from cadenza.calendar.model import Calendar, Entry, Wire, instant_wire
from cadenza.calendar.request import Draft
from cadenza.db.pool import Conn
from cadenza.errors import NotFound

_NEW_CALENDAR = """
INSERT INTO cadenza.calendar (id, user_id) VALUES (%s, %s) ON CONFLICT (id) DO NOTHING
"""
_LOCK_CALENDAR = """
SELECT id, revision, created_at, updated_at FROM cadenza.calendar
WHERE id = %s FOR NO KEY UPDATE
"""
_CALENDAR = "SELECT id, revision, created_at, updated_at FROM cadenza.calendar WHERE id = %s"
_CALENDARS = """
SELECT c.id, c.revision, c.created_at, c.updated_at,
  (SELECT count(*) FROM cadenza.calendar_entry e WHERE e.calendar_id = c.id) AS entries
FROM cadenza.calendar c
WHERE %(at)s::timestamptz IS NULL OR (c.created_at, c.id) < (%(at)s, %(id)s::uuid)
ORDER BY c.created_at DESC, c.id DESC
LIMIT %(limit)s
"""
_ACTIVE_RUN = "SELECT id FROM cadenza.run WHERE calendar_id = %s AND status = 'running'"
_ENTRIES = """
SELECT id, calendar_id, run_id, version, title, channel, format, copy, script, target_audience,
  date, to_char(time, 'HH24:MI') AS time, timezone, hashtags, media, needs_review, created_at,
  updated_at
FROM cadenza.calendar_entry e
WHERE calendar_id = %(calendar)s AND (%(entry)s::uuid IS NULL OR id = %(entry)s)
ORDER BY e.date, e.time, e.channel, e.id
"""
_LOCK_ENTRIES = """
SELECT id FROM cadenza.calendar_entry
WHERE calendar_id = %(calendar)s AND (%(entry)s::uuid IS NULL OR id = %(entry)s)
ORDER BY id FOR NO KEY UPDATE
"""
_INSERT = """
INSERT INTO cadenza.calendar_entry (id, calendar_id, user_id, title, channel, format, copy, script,
  target_audience, date, time, timezone, hashtags, media)
SELECT n.id, %(calendar)s, %(user)s, n.title, n.channel, n.format, n.copy, n.script,
  n.target_audience, n.date, n.time, n.timezone, n.hashtags, n.media
FROM jsonb_to_recordset(%(entries)s::jsonb) AS n (id uuid, title text, channel text, format text,
  copy text, script text, target_audience text, date date, time time, timezone text,
  hashtags jsonb, media jsonb)
"""
_UPDATE = """
UPDATE cadenza.calendar_entry e
SET title = n.title, channel = n.channel, format = n.format, copy = n.copy, script = n.script,
  target_audience = n.target_audience, date = n.date, time = n.time, timezone = n.timezone,
  hashtags = n.hashtags, media = n.media, version = e.version + 1, updated_at = now()
FROM jsonb_to_recordset(%(entries)s::jsonb) AS n (id uuid, title text, channel text, format text,
  copy text, script text, target_audience text, date date, time time, timezone text,
  hashtags jsonb, media jsonb)
WHERE e.id = n.id AND e.calendar_id = %(calendar)s
"""
_REVIEWED = """
UPDATE cadenza.calendar_entry SET needs_review = false, updated_at = now()
WHERE calendar_id = %(calendar)s AND (%(entry)s::uuid IS NULL OR id = %(entry)s) AND needs_review
"""
_DELETE = "DELETE FROM cadenza.calendar_entry WHERE calendar_id = %s AND id = ANY(%s)"
_REVISE = """
WITH grown AS (
  UPDATE cadenza.calendar SET revision = revision + 1, updated_at = now() WHERE id = %(calendar)s
  RETURNING id, user_id, revision, created_at, updated_at
), kept AS (
  INSERT INTO cadenza.calendar_revision (calendar_id, revision, user_id, cause, request_id, changes)
  SELECT id, revision, user_id, %(cause)s, %(request)s, %(changes)s FROM grown
)
SELECT id, revision, created_at, updated_at FROM grown
"""
_REVISIONS = """
SELECT revision, cause, run_id, request_id, changes, at FROM cadenza.calendar_revision
WHERE calendar_id = %(calendar)s AND (%(before)s::bigint IS NULL OR revision < %(before)s)
ORDER BY revision DESC
LIMIT %(limit)s
"""


async def create_calendar(conn: Conn, user_id: str, calendar_id: UUID) -> None:
    """Insert a calendar; nothing happens when anybody has one with this id."""
    await conn.execute(_NEW_CALENDAR, [calendar_id, user_id])


async def lock_calendar(conn: Conn, calendar_id: UUID) -> Calendar | None:
    """Return a calendar that nobody else writes until this transaction ends, None without one."""
    row = await (await conn.execute(_LOCK_CALENDAR, [calendar_id])).fetchone()
    return None if row is None else Calendar(**row)


async def select_calendar(conn: Conn, calendar_id: UUID) -> Calendar | None:
    """Return a calendar, None when this user has none with this id."""
    row = await (await conn.execute(_CALENDAR, [calendar_id])).fetchone()
    return None if row is None else Calendar(**row)


async def select_calendars(
    conn: Conn, *, before: tuple[dt.datetime, UUID] | None, limit: int
) -> list[tuple[Calendar, int]]:
    """Return this user's calendars, newest first, each with its number of entries."""
    at, last = before or (None, None)
    rows = await conn.execute(_CALENDARS, {"at": at, "id": last, "limit": limit})
    return [_counted(row) for row in await rows.fetchall()]


async def active_run(conn: Conn, calendar_id: UUID) -> UUID | None:
    """Return the run that is writing to this calendar, if any."""
    row = await (await conn.execute(_ACTIVE_RUN, [calendar_id])).fetchone()
    return None if row is None else row["id"]


async def select_entries(
    conn: Conn, calendar_id: UUID, entry_id: UUID | None = None
) -> tuple[Entry, ...]:
    """Return a calendar's entries, or the one named, in the order they are listed everywhere."""
    rows = await conn.execute(_ENTRIES, {"calendar": calendar_id, "entry": entry_id})
    return tuple([_entry(row) for row in await rows.fetchall()])


async def lock_entries(
    conn: Conn, calendar_id: UUID, entry_id: UUID | None = None
) -> tuple[Entry, ...]:
    """Return the same, locked; whoever calls this holds the calendar's lock."""
    await conn.execute(_LOCK_ENTRIES, {"calendar": calendar_id, "entry": entry_id})
    return await select_entries(conn, calendar_id, entry_id)


async def insert_entries(
    conn: Conn, user_id: str, calendar_id: UUID, new: Iterable[tuple[UUID, Draft]]
) -> None:
    """Insert entries of a person: reviewed, and of no run."""
    rows = [_row(entry_id, draft) for entry_id, draft in new]
    if rows:
        values = {"calendar": calendar_id, "user": user_id, "entries": orjson.dumps(rows).decode()}
        await conn.execute(_INSERT, values)


async def update_entries(conn: Conn, calendar_id: UUID, entries: Iterable[Entry]) -> None:
    """Write the content of entries that exist, each one version on."""
    rows = [_row(entry.id, entry) for entry in entries]
    if rows:
        values = {"calendar": calendar_id, "entries": orjson.dumps(rows).decode()}
        await conn.execute(_UPDATE, values)


async def mark_reviewed(conn: Conn, calendar_id: UUID, entry_id: UUID | None = None) -> None:
    """Note that a person saved a calendar's entries, or the one named."""
    await conn.execute(_REVIEWED, {"calendar": calendar_id, "entry": entry_id})


async def delete_entries(conn: Conn, calendar_id: UUID, ids: Sequence[UUID]) -> None:
    """Delete entries; the revision of the same transaction keeps their text."""
    if ids:
        await conn.execute(_DELETE, [calendar_id, list(ids)])


async def add_revision(
    conn: Conn, calendar_id: UUID, *, cause: str, changes: list[Wire], request_id: str | None
) -> Calendar:
    """Return the calendar one revision on, with what a user's write changed kept beside it.

    Raises NotFound for a calendar that is not this user's.
    """
    values = {
        "calendar": calendar_id,
        "cause": cause,
        "request": request_id,
        "changes": Jsonb(changes),
    }
    row = await (await conn.execute(_REVISE, values)).fetchone()
    if row is None:
        raise NotFound("There is no such calendar")
    return Calendar(**row)


async def select_revisions(
    conn: Conn, calendar_id: UUID, *, before: int | None, limit: int
) -> list[Wire]:
    """Return a calendar's revisions as they are answered, newest first."""
    values = {"calendar": calendar_id, "before": before, "limit": limit}
    rows = await (await conn.execute(_REVISIONS, values)).fetchall()
    return [_revision_wire(row) for row in rows]


def _counted(row: dict[str, Any]) -> tuple[Calendar, int]:
    entries: int = row.pop("entries")
    return Calendar(**row), entries


def _entry(row: dict[str, Any]) -> Entry:
    lists: dict[str, Any] = {name: tuple(row[name]) for name in ("hashtags", "media")}
    return Entry(**(row | lists))


def _row(entry_id: UUID, draft: Draft) -> Wire:
    return {
        "id": entry_id,
        "title": draft.title,
        "channel": draft.channel,
        "format": draft.format,
        "copy": draft.copy,
        "script": draft.script,
        "target_audience": draft.target_audience,
        "date": draft.date,
        "time": draft.time,
        "timezone": draft.timezone,
        "hashtags": draft.hashtags,
        "media": draft.media,
    }


def _revision_wire(row: dict[str, Any]) -> Wire:
    return {
        "revision": row["revision"],
        "cause": row["cause"],
        "runId": None if row["run_id"] is None else str(row["run_id"]),
        "requestId": row["request_id"],
        "changes": row["changes"],
        "at": instant_wire(row["at"]),
    }
