"""SQL of a run's middle and end: the group commit of entries, and the one terminal transaction."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from psycopg.types.json import Jsonb

from cadenza.calendar.model import changed
from cadenza.calendar.store.entries import select_entries
from cadenza.db.pool import Conn

# A run is in `mine` while it runs and this process holds its lease: an entry of any other is not
# written. A conflict means that an earlier commit of unknown fate had landed: success.
_GROUP = """
WITH mine AS (
  SELECT r.id, r.user_id, r.calendar_id FROM cadenza.run r
  JOIN unnest(%(runs)s::uuid[], %(tokens)s::uuid[]) AS held (id, token)
    ON r.id = held.id AND r.lease_token = held.token
  WHERE r.status = 'running' ORDER BY r.id FOR SHARE OF r
), entry AS (
  INSERT INTO cadenza.calendar_entry (id, calendar_id, user_id, run_id, title, channel, format,
    copy, script, target_audience, date, time, timezone, hashtags, media, needs_review)
  SELECT n.id, m.calendar_id, m.user_id, m.id, n.title, n.channel, n.format, n.copy, n.script,
    n.target_audience, n.date, n.time, n.timezone, n.hashtags, n.media, true
  FROM jsonb_to_recordset(%(entries)s::jsonb) AS n (run_id uuid, id uuid, title text, channel text,
    format text, copy text, script text, target_audience text, date date, time time,
    timezone text, hashtags jsonb, media jsonb)
  JOIN mine m ON m.id = n.run_id
  ON CONFLICT (id) DO NOTHING
), event AS (
  INSERT INTO cadenza.run_event (run_id, seq, user_id, frame)
  SELECT m.id, n.seq, m.user_id, n.frame
  FROM unnest(%(runs)s::uuid[], %(seqs)s::int[], %(frames)s::bytea[]) AS n (run_id, seq, frame)
  JOIN mine m ON m.id = n.run_id
  ON CONFLICT (run_id, seq) DO NOTHING
)
SELECT id FROM mine
"""
_CALENDAR_OF = "SELECT calendar_id FROM cadenza.run WHERE id = %s"
_LOCK_CALENDAR = "SELECT id FROM cadenza.calendar WHERE id = %s FOR NO KEY UPDATE"
_LOCK_RUN = """
SELECT r.*, clock_timestamp() AS ends_at FROM cadenza.run r
WHERE id = %(id)s AND status = 'running'
  AND (lease_token = %(token)s OR (%(token)s::uuid IS NULL AND (lease_until < clock_timestamp()
    OR (owner_name = %(name)s AND owner_boot <> %(boot)s))))
FOR NO KEY UPDATE
"""
_STORED = """
SELECT count(*) FILTER (WHERE seq > 0) AS entries, max(seq) AS seq,
  min(at) FILTER (WHERE seq = 1) AS first_entry_at
FROM cadenza.run_event WHERE run_id = %s
"""
_REVIEWED = "UPDATE cadenza.calendar_entry SET needs_review = false WHERE run_id = %s"
_REVISE = """
UPDATE cadenza.calendar SET revision = revision + 1, updated_at = now() WHERE id = %s
RETURNING revision
"""
_REVISION = """
INSERT INTO cadenza.calendar_revision (calendar_id, revision, user_id, cause, run_id, request_id,
  changes)
VALUES (%(calendar_id)s, %(revision)s, %(user_id)s, 'run', %(run_id)s, %(request_id)s, %(changes)s)
"""
_DONE = """
INSERT INTO cadenza.run_event (run_id, seq, user_id, frame, terminal)
VALUES (%s, %s, %s, %s, true)
"""
_END = """
UPDATE cadenza.run SET status = %(status)s, reason = %(reason)s, entries = %(entries)s,
  rejected = %(rejected)s, usage = %(usage)s, usage_estimated = %(usage_estimated)s,
  needs_review = %(needs_review)s, revision = %(revision)s, first_entry_at = %(first_entry_at)s,
  finished_at = %(ends_at)s
WHERE id = %(id)s AND status = 'running'
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEntry:
    """One entry on its way into the store, with the frame that will show it."""

    run_id: UUID
    token: UUID
    seq: int
    row: dict[str, Any]
    frame: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Locked:
    """A run at its end, locked, with what is stored of it."""

    row: dict[str, Any]
    entries: int
    last_seq: int
    first_entry_at: datetime | None
    ends_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """What the end of a run writes."""

    status: str
    reason: str | None
    rejected: int
    usage: dict[str, int] | None
    usage_estimated: bool
    needs_review: bool


async def store_entries(conn: Conn, batch: Sequence[NewEntry]) -> set[UUID]:
    """Write entries and frames of several runs together; return the runs that are still ours."""
    rows = await conn.execute(
        _GROUP,
        {
            "runs": [item.run_id for item in batch],
            "tokens": [item.token for item in batch],
            "seqs": [item.seq for item in batch],
            "frames": [item.frame for item in batch],
            "entries": orjson.dumps([item.row for item in batch]).decode(),
        },
    )
    return {row["id"] for row in await rows.fetchall()}


async def lock_for_end(
    conn: Conn, run_id: UUID, *, token: UUID | None, name: str, boot: UUID
) -> Locked | None:
    """Lock the calendar, then the run, if it is running and ours; None when it is not.

    `token` None is the reaper's: the run is ours when its lease is over, or when it belonged to
    this instance's last boot.
    """
    home = await (await conn.execute(_CALENDAR_OF, [run_id])).fetchone()
    if home is None:
        return None
    await conn.execute(_LOCK_CALENDAR, [home["calendar_id"]])
    ours = {"id": run_id, "token": token, "name": name, "boot": boot}
    row = await (await conn.execute(_LOCK_RUN, ours)).fetchone()
    if row is None:
        return None
    stored = await (await conn.execute(_STORED, [run_id])).fetchone()
    stored = stored or {"entries": 0, "seq": 0, "first_entry_at": None}
    return Locked(
        row=row,
        entries=stored["entries"],
        last_seq=stored["seq"],
        first_entry_at=stored["first_entry_at"],
        ends_at=row["ends_at"],
    )


async def write_end(
    conn: Conn, locked: Locked, end: End, done: Callable[[int, int], bytes]
) -> tuple[int, bytes]:
    """Write a run's end: revision, review state, terminal frame, status; return what was made.

    `done(seq, revision)` encodes the terminal frame. The caller has locked the run and adds the
    outcome row to the same transaction.
    """
    run = locked.row
    if not end.needs_review:
        await conn.execute(_REVIEWED, [run["id"]])
    revised = await (await conn.execute(_REVISE, [run["calendar_id"]])).fetchone()
    revision = 0 if revised is None else int(revised["revision"])
    entries = [e for e in await select_entries(conn, run["calendar_id"]) if e.run_id == run["id"]]
    await conn.execute(
        _REVISION,
        {
            "calendar_id": run["calendar_id"],
            "revision": revision,
            "user_id": run["user_id"],
            "run_id": run["id"],
            "request_id": run["request_id"],
            "changes": Jsonb(changed((), entries)),
        },
    )
    frame = done(locked.last_seq + 1, revision)
    await conn.execute(_DONE, [run["id"], locked.last_seq + 1, run["user_id"], frame])
    await conn.execute(
        _END,
        {
            "id": run["id"],
            "status": end.status,
            "reason": end.reason,
            "entries": locked.entries,
            "rejected": end.rejected,
            "usage": None if end.usage is None else Jsonb(end.usage),
            "usage_estimated": end.usage_estimated,
            "needs_review": end.needs_review,
            "revision": revision,
            "first_entry_at": locked.first_entry_at,
            "ends_at": locked.ends_at,
        },
    )
    return revision, frame
