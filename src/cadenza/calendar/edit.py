"""Changing calendars: one transaction each, as the user; nothing is ever lost.

Every write makes a revision that keeps what was before, even one that changes no text: somebody
has seen the entries and let them stand. A write made for an older state is refused with both texts.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

import orjson
from uuid_utils.compat import uuid7

from cadenza.calendar.model import (
    Calendar,
    Changes,
    Entry,
    Sent,
    Wire,
    calendar_wire,
    changed,
    drafted,
    entry_wire,
    is_otherwise,
)
from cadenza.calendar.read import Caller, found, shown
from cadenza.calendar.refuse import check_sent, refuse_unknown, stale_calendar, stale_entry
from cadenza.calendar.store import entries as store
from cadenza.db.idempotency import once, remember
from cadenza.db.pool import Conn, Database
from cadenza.errors import Conflict, NotFound, PreconditionMissing

_ANSWERED = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What a write answers; `is_replayed` when an earlier request with the same key made it."""

    document: Wire
    is_replayed: bool


async def save_all(
    database: Database,
    caller: Caller,
    calendar_id: UUID,
    sent: Sequence[Sent],
    *,
    if_match: int | None,
    is_first: bool = False,
) -> Written:
    """Make `sent` all that the calendar holds, and every entry reviewed; answer the calendar.

    An entry with an id is changed where its fields differ, one without is new, one not sent is
    deleted. `if_match` is the revision the write was made for. `is_first` makes the calendar, or
    fills one that a run made and left empty.

    Raises PreconditionMissing without either; Invalid for more than 200 entries, unknown or
    repeated ids and incomplete new entries; NotFound; Conflict RUN_IN_PROGRESS with `runId`;
    Conflict STALE_VERSION with the entries that differ, `yours` and `current`.
    """
    if if_match is None and not is_first:
        raise PreconditionMissing(
            "Send If-Match with the calendar's revision, or If-None-Match: * for its first save"
        )
    check_sent(sent)

    async def effect(conn: Conn) -> Wire:
        if if_match is None:
            await store.create_calendar(conn, caller.user_id, calendar_id)
        calendar = found(await store.lock_calendar(conn, calendar_id))
        await _refuse_during_a_run(conn, calendar_id)
        before = await store.lock_entries(conn, calendar_id)
        if not _is_current(calendar, before, if_match):
            current = await shown(conn, caller, calendar_id, before)
            raise stale_calendar(calendar, current, sent, if_match)
        refuse_unknown(before, sent)
        await _replace_all(conn, caller, calendar_id, before, sent)
        calendar, entries = await _revise(conn, caller, calendar_id, before, cause="save")
        return calendar_wire(calendar, entries)

    return await _written(database, caller, effect)


async def patch_entry(
    database: Database,
    caller: Caller,
    calendar_id: UUID,
    entry_id: UUID,
    changes: Changes,
    *,
    if_match: int | None,
) -> Written:
    """Change some fields of one entry, now reviewed; answer it, with the calendar's `revision`.

    Allowed during a run. Raises PreconditionMissing, NotFound, and Conflict STALE_VERSION with
    both texts, `yours` and `current`, when `if_match` is not the entry's version.
    """
    version = _version(if_match)

    async def effect(conn: Conn) -> Wire:
        before = await _locked(conn, caller, calendar_id, entry_id)
        if before.version != version:
            raise stale_entry(before, version, changes)
        if is_otherwise(before, changes):
            await store.update_entries(conn, calendar_id, [replace(before, **changes)])
        await store.mark_reviewed(conn, calendar_id, entry_id)
        calendar, after = await _revise(
            conn, caller, calendar_id, (before,), cause="patch", entry_id=entry_id
        )
        return {**entry_wire(after[0]), "revision": calendar.revision}

    return await _written(database, caller, effect)


async def delete_entry(
    database: Database,
    caller: Caller,
    calendar_id: UUID,
    entry_id: UUID,
    *,
    if_match: int | None,
) -> Written:
    """Delete one entry, whose text the revision keeps; answer its id and the new `revision`.

    Raises what `patch_entry` raises.
    """
    version = _version(if_match)

    async def effect(conn: Conn) -> Wire:
        before = await _locked(conn, caller, calendar_id, entry_id)
        if before.version != version:
            raise stale_entry(before, version, {})
        await store.delete_entries(conn, calendar_id, [entry_id])
        calendar, _ = await _revise(
            conn, caller, calendar_id, (before,), cause="delete", entry_id=entry_id
        )
        return {"id": str(entry_id), "revision": calendar.revision}

    return await _written(database, caller, effect)


async def _written(
    database: Database, caller: Caller, effect: Callable[[Conn], Awaitable[Wire]]
) -> Written:
    """Return what the effect answers, or answered when its key was used first."""

    async def work(conn: Conn) -> Written:
        kept = await once(conn, caller.key) if caller.key else None
        if kept is not None:
            return Written(document=orjson.loads(kept.body), is_replayed=True)
        document = await effect(conn)
        if caller.key is not None:
            await remember(conn, caller.key, _ANSWERED, orjson.dumps(document))
        return Written(document=document, is_replayed=False)

    return await database.as_user(caller.user_id, work)


async def _locked(conn: Conn, caller: Caller, calendar_id: UUID, entry_id: UUID) -> Entry:
    found(await store.lock_calendar(conn, calendar_id))
    entries = await store.lock_entries(conn, calendar_id, entry_id)
    for entry in await shown(conn, caller, calendar_id, entries):
        return entry
    raise NotFound("There is no such entry")


async def _replace_all(
    conn: Conn, caller: Caller, calendar_id: UUID, before: Sequence[Entry], sent: Sequence[Sent]
) -> None:
    known = {entry.id: entry for entry in before}
    kept = {item.id: item.changes for item in sent if item.id is not None}
    await store.delete_entries(conn, calendar_id, [each for each in known if each not in kept])
    await store.update_entries(
        conn,
        calendar_id,
        [
            replace(known[entry_id], **changes)
            for entry_id, changes in kept.items()
            if is_otherwise(known[entry_id], changes)
        ],
    )
    new = [(uuid7(), drafted(item.changes)) for item in sent if item.id is None]
    await store.insert_entries(conn, caller.user_id, calendar_id, new)
    await store.mark_reviewed(conn, calendar_id)


async def _revise(
    conn: Conn,
    caller: Caller,
    calendar_id: UUID,
    before: Sequence[Entry],
    *,
    cause: str,
    entry_id: UUID | None = None,
) -> tuple[Calendar, tuple[Entry, ...]]:
    """Keep what was written as a revision; return the calendar and the entries as they are now."""
    after = await store.select_entries(conn, calendar_id, entry_id)
    calendar = await store.add_revision(
        conn,
        calendar_id,
        cause=cause,
        changes=changed(before, after),
        request_id=caller.request_id,
    )
    return calendar, await shown(conn, caller, calendar_id, after)


async def _refuse_during_a_run(conn: Conn, calendar_id: UUID) -> None:
    run_id = await store.active_run(conn, calendar_id)
    if run_id is not None:
        raise Conflict(
            "A run is writing to this calendar; entries can be changed one by one meanwhile",
            code="RUN_IN_PROGRESS",
            extra={"runId": str(run_id)},
        )


def _version(if_match: int | None) -> int:
    if if_match is None:
        raise PreconditionMissing("Send If-Match with the version of the entry")
    return if_match


def _is_current(calendar: Calendar, before: Sequence[Entry], if_match: int | None) -> bool:
    if if_match is None:
        return calendar.revision == 0 and not before
    return calendar.revision == if_match
