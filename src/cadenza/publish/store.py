"""Intents in the database, and the entries they are made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson

from cadenza.db.pool import Conn
from cadenza.events import Lane
from cadenza.publish.model import Intent, IntentState, Mode, SavedEntry
from cadenza.publish.preflight import Earlier

# Every write by a user takes the calendar's row; sharing it makes "the latest saved entries"
# true until this transaction ends.
_CALENDAR = "SELECT id FROM cadenza.calendar WHERE id = %(calendar)s FOR SHARE"

_ENTRIES = """
SELECT id, version, calendar_id, run_id, channel, title, format, copy, script, hashtags, media,
  date, time, timezone, needs_review
FROM cadenza.calendar_entry
WHERE calendar_id = %(calendar)s
ORDER BY date, time, channel, id
"""

_EARLIER = """
SELECT id, entry_id, account_id, state
FROM cadenza.publish_intent
WHERE calendar_id = %(calendar)s AND mode = 'live' AND replaced_by IS NULL
  AND state NOT IN ('cancelled', 'missed')
"""

_INSERT = """
WITH given AS (
  SELECT * FROM jsonb_to_recordset(%(intents)s::jsonb) AS given (
    id uuid, entry_id uuid, entry_version bigint, calendar_id uuid, run_id uuid, request_id text,
    user_id uuid, channel text, account_id uuid, mode text, state text, cause text,
    publish_at timestamptz, not_after timestamptz, flag_variant text, flag_version bigint,
    flag_source text, request jsonb, request_sha256 text, frozen_at timestamptz, lane text,
    replaces uuid)
), added AS (
  INSERT INTO cadenza.publish_intent (id, entry_id, entry_version, calendar_id, run_id,
    request_id, user_id, channel, account_id, mode, state, cause, scheduled_at, not_after,
    flag_variant, flag_version, flag_source, request, request_sha256, frozen_at, lane, replaces)
  SELECT id, entry_id, entry_version, calendar_id, run_id, request_id, user_id, channel,
    account_id, mode, state, cause, publish_at, not_after, flag_variant, flag_version,
    flag_source, request, request_sha256, frozen_at, lane, replaces
  FROM given
  RETURNING id, state, cause, request_id
)
INSERT INTO cadenza.intent_transition (intent_id, from_state, to_state, cause, actor, request_id)
SELECT id, NULL, state, cause, %(actor)s, request_id FROM added
"""

_INTENTS = """
SELECT id, entry_id, entry_version, calendar_id, run_id, request_id, user_id, channel, account_id,
  mode, state, cause, scheduled_at, not_after, flag_variant, flag_version, flag_source, request,
  request_sha256, frozen_at, lane, remote, replaces
FROM cadenza.publish_intent
WHERE (%(id)s::uuid IS NULL OR id = %(id)s)
  AND (%(calendar)s::uuid IS NULL OR calendar_id = %(calendar)s)
  AND (%(state)s::text IS NULL OR state = %(state)s)
  AND (%(before)s::uuid IS NULL OR id < %(before)s)
ORDER BY id DESC
LIMIT %(limit)s
"""

_STATES = """
SELECT entry_id, array_agg(DISTINCT state) AS states
FROM cadenza.publish_intent
WHERE calendar_id = %(calendar)s AND mode = 'live' AND replaced_by IS NULL
GROUP BY entry_id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which intents to return, newest first; None matches any. `before` is a cursor."""

    id: UUID | None = None
    calendar_id: UUID | None = None
    state: IntentState | None = None
    before: UUID | None = None
    limit: int = 50


async def saved_entries(conn: Conn, calendar_id: UUID) -> list[SavedEntry] | None:
    """Return a calendar's entries as saved now, None when this user has no such calendar."""
    values = {"calendar": calendar_id}
    if await (await conn.execute(_CALENDAR, values)).fetchone() is None:
        return None
    rows = await (await conn.execute(_ENTRIES, values)).fetchall()
    return [_entry(row) for row in rows]


async def earlier_intents(conn: Conn, calendar_id: UUID) -> dict[tuple[UUID, UUID], Earlier]:
    """Return a calendar's live, un-replaced intents that still stand, by entry and account."""
    rows = await (await conn.execute(_EARLIER, {"calendar": calendar_id})).fetchall()
    return {
        (row["entry_id"], row["account_id"]): Earlier(id=row["id"], state=IntentState(row["state"]))
        for row in rows
    }


async def insert_intents(conn: Conn, intents: Sequence[Intent], *, actor: str) -> None:
    """Store intents, each with its first move, as the worker."""
    given = orjson.dumps([_row(intent) for intent in intents]).decode()
    await conn.execute(_INSERT, {"intents": given, "actor": actor})


async def select_intents(conn: Conn, wanted: Wanted) -> list[Intent]:
    """Return the intents of this transaction's user that match, newest first."""
    values = {
        "id": wanted.id,
        "calendar": wanted.calendar_id,
        "state": wanted.state,
        "before": wanted.before,
        "limit": wanted.limit,
    }
    rows = await (await conn.execute(_INTENTS, values)).fetchall()
    return [_intent(row) for row in rows]


async def live_states(conn: Conn, calendar_id: UUID) -> dict[UUID, list[IntentState]]:
    """Return the states of each entry's live, un-replaced intents; entries without are absent."""
    rows = await (await conn.execute(_STATES, {"calendar": calendar_id})).fetchall()
    return {row["entry_id"]: [IntentState(state) for state in row["states"]] for row in rows}


def _entry(row: dict[str, Any]) -> SavedEntry:
    lists = {name: tuple(map(str, row[name])) for name in ("hashtags", "media")}
    values: dict[str, Any] = {**row, **lists}
    return SavedEntry(**values)


def _row(intent: Intent) -> dict[str, object]:
    """Return an intent as one record of the INSERT; ids, times and words become text."""
    return {
        "id": intent.id,
        "entry_id": intent.entry_id,
        "entry_version": intent.entry_version,
        "calendar_id": intent.calendar_id,
        "run_id": intent.run_id,
        "request_id": intent.request_id,
        "user_id": intent.user_id,
        "channel": intent.channel,
        "account_id": intent.account_id,
        "mode": intent.mode,
        "state": intent.state,
        "cause": intent.cause,
        "publish_at": intent.publish_at,
        "not_after": intent.not_after,
        "flag_variant": intent.flag_variant,
        "flag_version": intent.flag_version,
        "flag_source": intent.flag_source,
        "request": intent.request,
        "request_sha256": intent.request_sha256,
        "frozen_at": intent.frozen_at,
        "lane": intent.lane,
        "replaces": intent.replaces,
    }


def _intent(row: dict[str, Any]) -> Intent:
    values: dict[str, Any] = {
        **row,
        "mode": Mode(row["mode"]),
        "state": IntentState(row["state"]),
        "lane": Lane(row["lane"]),
    }
    return Intent(publish_at=values.pop("scheduled_at"), **values)
