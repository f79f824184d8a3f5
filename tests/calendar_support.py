"""What the tests of calendars share: somebody who writes, something to write, a run that is on."""

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar, cast
from uuid import UUID, uuid4

import psycopg

from cadenza.calendar import edit
from cadenza.calendar.model import Changes, Sent, Wire
from cadenza.calendar.read import Caller
from cadenza.db.idempotency import Key
from cadenza.db.pool import Conn, Database
from support import TestDatabase

T = TypeVar("T")
DAY = dt.date(2026, 12, 1)


def used(database: TestDatabase, work: Callable[[Database], Awaitable[T]]) -> T:
    """Return what `work` returns on an open Database; its budget leaves room for a busy machine."""

    async def main() -> T:
        opened = Database(database.dsn, budget_s=20)
        await opened.open()
        try:
            return await work(opened)
        finally:
            await opened.close()

    return asyncio.run(main())


async def drafts_only(_conn: Conn, _calendar_id: UUID) -> Mapping[UUID, str]:
    """Stand for a calendar of which nothing was published."""
    return {}


def someone(user_id: str | None = None, *, key: Key | None = None) -> Caller:
    return Caller(
        user_id=user_id or str(uuid4()), statuses=drafts_only, request_id="test-request", key=key
    )


def content(**fields: Any) -> Changes:
    whole = {"title": "A title", "channel": "instagram", "date": DAY, "copy": "Words", **fields}
    return cast("Changes", whole)


def new(**fields: Any) -> Sent:
    return Sent(id=None, changes=content(**fields))


def as_sent(entry: Mapping[str, Any], **fields: Any) -> Sent:
    """Return an entry as a client sends it back, with some fields otherwise."""
    return Sent(id=UUID(entry["id"]), changes=cast("Changes", fields))


async def saved(database: Database, who: Caller, sent: Sequence[Sent]) -> Wire:
    """Return a new calendar with these entries, as its first save answered it."""
    first = await edit.save_all(database, who, uuid4(), sent, if_match=None, is_first=True)
    return first.document


def entries_of(calendar: Wire) -> list[dict[str, Any]]:
    return cast("list[dict[str, Any]]", calendar["entries"])


def id_of(document: Mapping[str, Any]) -> UUID:
    return UUID(document["id"])


def begin_run(database: TestDatabase, user_id: str, calendar_id: UUID) -> UUID:
    """Return a run that is writing to the calendar, which it makes if need be."""
    run_id = uuid4()
    with psycopg.connect(database.owner_dsn, autocommit=True) as conn:
        conn.execute(
            "INSERT INTO cadenza.calendar (id, user_id) VALUES (%s, %s) ON CONFLICT DO NOTHING",
            [calendar_id, user_id],
        )
        conn.execute(
            "INSERT INTO cadenza.run (id, calendar_id, user_id, lane, request, channels, expected,"
            " variant, flag_version, flag_source, request_id, lease_token, lease_until, owner_name,"
            " owner_boot) VALUES (%(run)s, %(calendar)s, %(user)s, 'live', '{}', 'instagram', 1,"
            " 'ai', 1, 'database', 'test-request', %(run)s, now() + interval '1 hour', 'test',"
            " %(run)s)",
            {"run": run_id, "calendar": calendar_id, "user": user_id},
        )
    return run_id


def as_owner(database: TestDatabase, statement: str, values: Sequence[object] = ()) -> None:
    """Change what no user may change, such as the end of a run."""
    with psycopg.connect(database.owner_dsn, autocommit=True) as conn:
        conn.execute(statement.encode(), values)
