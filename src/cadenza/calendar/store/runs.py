"""SQL of runs: start under the gate, renew and look for the lost, read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

from psycopg.types.json import Jsonb

from cadenza.db.pool import Conn, become_worker

_FLAG_SET = "SELECT version FROM cadenza.flag_set"
_BY_KEY = """
SELECT id, fingerprint FROM cadenza.run WHERE user_id = %s AND idempotency_key = %s
"""
_NEW_CALENDAR = """
INSERT INTO cadenza.calendar (id, user_id) VALUES (%s, %s) ON CONFLICT (id) DO NOTHING
"""
_LOCK_CALENDAR = "SELECT revision FROM cadenza.calendar WHERE id = %s FOR NO KEY UPDATE"
_ACTIVE = "SELECT id FROM cadenza.run WHERE user_id = %s AND status = 'running'"
_HAS_ENTRIES = """
SELECT EXISTS (SELECT FROM cadenza.calendar_entry WHERE calendar_id = %s) AS found
"""
_RECENT = """
SELECT count(*) AS made,
  ceil(extract(epoch FROM min(started_at) + make_interval(secs => %(window_s)s) - now())) AS wait_s
FROM cadenza.run
WHERE user_id = %(user_id)s AND lane = %(lane)s
  AND started_at > now() - make_interval(secs => %(window_s)s)
"""
_INSERT = """
INSERT INTO cadenza.run (id, calendar_id, user_id, lane, request, channels, expected, variant,
  flag_version, flag_source, request_id, idempotency_key, fingerprint, lease_token, lease_until,
  owner_name, owner_boot)
VALUES (%(id)s, %(calendar_id)s, %(user_id)s, %(lane)s, %(request)s, %(channels)s, %(expected)s,
  %(variant)s, %(flag_version)s, %(flag_source)s, %(request_id)s, %(idempotency_key)s,
  %(fingerprint)s, %(lease_token)s, clock_timestamp() + make_interval(secs => %(lease_s)s),
  %(owner_name)s, %(owner_boot)s)
ON CONFLICT DO NOTHING RETURNING id, started_at
"""
_EVENT = """
INSERT INTO cadenza.run_event (run_id, seq, user_id, frame, terminal)
VALUES (%s, %s, %s, %s, %s)
"""
_RENEW = """
WITH held AS (
  SELECT r.id, asked.rejected
  FROM cadenza.run r
  JOIN unnest(%(ids)s::uuid[], %(tokens)s::uuid[], %(rejected)s::int[])
    AS asked (id, token, rejected) ON r.id = asked.id AND r.lease_token = asked.token
  WHERE r.status = 'running' ORDER BY r.id FOR NO KEY UPDATE OF r
)
UPDATE cadenza.run r
SET lease_until = clock_timestamp() + make_interval(secs => %(lease_s)s), rejected = held.rejected
FROM held WHERE r.id = held.id
RETURNING r.id, r.cancel_requested_at IS NOT NULL AS is_cancelled
"""
_LOST = """
SELECT id FROM cadenza.run
WHERE status = 'running' AND NOT id = ANY(%(mine)s)
  AND (lease_until < clock_timestamp() OR (owner_name = %(name)s AND owner_boot <> %(boot)s))
ORDER BY id LIMIT 50
"""
# All but the lease, which is no user's to know.
_READ = """
SELECT id, calendar_id, user_id, lane, status, reason, request, channels, expected, entries,
  rejected, usage, usage_estimated, needs_review, revision, variant, flag_version, flag_source,
  request_id, epoch, cancel_requested_at, started_at, first_entry_at, finished_at
FROM cadenza.run WHERE id = %s
"""
_LAST_SEQ = """
SELECT max(seq) AS seq, bool_or(terminal) AS is_over FROM cadenza.run_event WHERE run_id = %s
"""
_FRAMES = """
SELECT seq, frame, terminal FROM cadenza.run_event WHERE run_id = %s AND seq > %s ORDER BY seq
"""
_TAIL = """
SELECT e.run_id, e.seq, e.frame, e.terminal
FROM cadenza.run_event e
JOIN unnest(%(ids)s::uuid[], %(after)s::int[]) AS tail (id, after)
  ON e.run_id = tail.id AND e.seq > tail.after
ORDER BY e.run_id, e.seq
"""
_CANCEL = """
UPDATE cadenza.run SET cancel_requested_at = coalesce(cancel_requested_at, now())
WHERE id = %s RETURNING status
"""
_PURGE = """
DELETE FROM cadenza.run_event e USING cadenza.run r
WHERE r.id = e.run_id AND r.finished_at < now() - make_interval(hours => %s)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """A run as it is inserted; everything that was decided before it began."""

    id: UUID
    calendar_id: UUID
    user_id: str
    lane: str
    request: dict[str, Any]
    channels: str
    expected: int
    variant: str
    flag_version: int
    flag_source: str
    set_version: int
    request_id: str
    idempotency_key: str | None
    fingerprint: str | None
    lease_token: UUID
    lease_s: float
    owner_name: str
    owner_boot: UUID
    frame: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Inserted:
    """What became of an insert: the run's start, or the one thing that kept it out."""

    started_at: datetime | None = None
    attached: UUID | None = None
    fingerprint: str | None = None
    is_stale: bool = False
    is_foreign: bool = False
    active: UUID | None = None
    has_entries: bool = False
    retry_after_s: int | None = None


@dataclass(frozen=True, slots=True)
class StoredFrame:
    """One frame of a run's event log."""

    seq: int
    frame: bytes
    terminal: bool


async def insert(conn: Conn, new: NewRun, *, limit: int, window_s: int) -> Inserted:
    """Insert a run as its user, in a transaction that has passed the gate of `calendar`.

    The calendar row is locked before anything is decided, as save-all does.
    """
    known = await _known(conn, new)
    if known is not None:
        return known
    version = await _one(conn, _FLAG_SET, [])
    if version is None or version["version"] != new.set_version:
        return Inserted(is_stale=True)
    await conn.execute(_NEW_CALENDAR, [new.calendar_id, new.user_id])
    if await _one(conn, _LOCK_CALENDAR, [new.calendar_id]) is None:
        return Inserted(is_foreign=True)
    # Again: the same key may have made its run while this one waited for the calendar.
    refused = await _known(conn, new) or await _refused(conn, new, limit=limit, window_s=window_s)
    return refused or await _insert_as_worker(conn, new)


async def _known(conn: Conn, new: NewRun) -> Inserted | None:
    if new.idempotency_key is None:
        return None
    row = await _one(conn, _BY_KEY, [new.user_id, new.idempotency_key])
    return None if row is None else Inserted(attached=row["id"], fingerprint=row["fingerprint"])


async def _refused(conn: Conn, new: NewRun, *, limit: int, window_s: int) -> Inserted | None:
    active = await _one(conn, _ACTIVE, [new.user_id])
    if active is not None:
        return Inserted(active=active["id"])
    entries = await _one(conn, _HAS_ENTRIES, [new.calendar_id])
    if entries is not None and entries["found"]:
        return Inserted(has_entries=True)
    recent = await _one(
        conn, _RECENT, {"user_id": new.user_id, "lane": new.lane, "window_s": window_s}
    )
    if recent is not None and recent["made"] >= limit:
        return Inserted(retry_after_s=max(1, int(recent["wait_s"])))
    return None


async def _insert_as_worker(conn: Conn, new: NewRun) -> Inserted:
    """Write the run and its first frame: the last thing of the user's transaction."""
    await become_worker(conn)
    row = {name: getattr(new, name) for name in NewRun.__slots__} | {"request": Jsonb(new.request)}
    made = await _one(conn, _INSERT, row)
    if made is None:  # another request of this user was a moment faster
        active = await _one(conn, _ACTIVE, [new.user_id])
        return await _known(conn, new) or Inserted(active=active["id"] if active else new.id)
    await conn.execute(_EVENT, [new.id, 0, new.user_id, new.frame, False])
    return Inserted(started_at=made["started_at"])


async def renew(
    conn: Conn, held: Sequence[tuple[UUID, UUID, int]], *, lease_s: float
) -> dict[UUID, bool]:
    """Extend the leases of (run, token, rejected so far); return those still held.

    The value says whether the user has asked to cancel the run. Rows are locked in id order.
    """
    rows = await conn.execute(
        _RENEW,
        {
            "ids": [run_id for run_id, _, _ in held],
            "tokens": [token for _, token, _ in held],
            "rejected": [rejected for _, _, rejected in held],
            "lease_s": lease_s,
        },
    )
    return {row["id"]: row["is_cancelled"] for row in await rows.fetchall()}


async def lost(conn: Conn, *, mine: Sequence[UUID], name: str, boot: UUID) -> list[UUID]:
    """Return running runs whose producer is gone: lease over, or of this instance's last boot."""
    rows = await conn.execute(_LOST, {"mine": list(mine), "name": name, "boot": boot})
    return [row["id"] for row in await rows.fetchall()]


async def read(conn: Conn, run_id: UUID) -> dict[str, Any] | None:
    """Return the run's row as the caller's role may see it, or None."""
    return await _one(conn, _READ, [run_id])


async def last_seq(conn: Conn, run_id: UUID) -> tuple[int | None, bool]:
    """Return the highest stored place of the run's log (None: purged), and if it is terminal."""
    row = await _one(conn, _LAST_SEQ, [run_id])
    return (None, False) if row is None else (row["seq"], bool(row["is_over"]))


async def frames_after(conn: Conn, run_id: UUID, seq: int) -> list[StoredFrame]:
    """Return the stored frames after `seq`, in order."""
    rows = await (await conn.execute(_FRAMES, [run_id, seq])).fetchall()
    return [StoredFrame(row["seq"], bytes(row["frame"]), row["terminal"]) for row in rows]


async def tail(conn: Conn, after: dict[UUID, int]) -> dict[UUID, list[StoredFrame]]:
    """Return what each of these runs has stored after its place: one query for all of them."""
    rows = await conn.execute(_TAIL, {"ids": list(after), "after": list(after.values())})
    found: dict[UUID, list[StoredFrame]] = {}
    for row in await rows.fetchall():
        stored = StoredFrame(row["seq"], bytes(row["frame"]), row["terminal"])
        found.setdefault(row["run_id"], []).append(stored)
    return found


async def request_cancel(conn: Conn, run_id: UUID) -> str | None:
    """Note as the user that the run is to end; return its status, None when it is not theirs."""
    row = await _one(conn, _CANCEL, [run_id])
    return None if row is None else str(row["status"])


async def purge_events(conn: Conn, *, hours: int) -> int:
    """Delete the event logs of runs that ended more than `hours` ago; return how many frames."""
    return (await conn.execute(_PURGE, [hours])).rowcount


async def _one(
    conn: Conn, statement: LiteralString, values: Sequence[object] | Mapping[str, object]
) -> dict[str, Any] | None:
    return await (await conn.execute(statement, values)).fetchone()
