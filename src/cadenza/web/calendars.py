"""Calendars over HTTP: list, read, save, patch, delete, revisions, export."""

import re
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query, Request, Response

from cadenza.calendar import edit, export, read
from cadenza.calendar.edit import Written
from cadenza.calendar.model import calendar_wire, entry_wire
from cadenza.calendar.read import Caller
from cadenza.db.idempotency import Key, checked_key, fingerprint
from cadenza.db.pool import Database
from cadenza.errors import Invalid, Mistake
from cadenza.publish.intents import entry_statuses
from cadenza.telemetry.context import current
from cadenza.web.auth import User, require_user
from cadenza.web.entry_body import PatchBody, SaveAllBody
from cadenza.web.parts import answer, runtime_of

router = APIRouter(prefix="/v1/calendars")
_ETAG = re.compile(r'(?:W/)?"?(\d{1,18})"?')


class Format(StrEnum):
    """What a calendar is exported as."""

    JSON = "json"
    CSV = "csv"


WantedFormat = Annotated[Format, Query(alias="format")]
_EXPORTS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/csv": {"schema": {"type": "string"}}}}
}


def database_of(request: Request) -> Database:
    """Return the database of this process."""
    return runtime_of(request).database


Store = Annotated[Database, Depends(database_of)]
Asker = Annotated[User, Depends(require_user)]
Cursor = Annotated[str | None, Query(max_length=100)]
OptionalHeader = Annotated[str | None, Header()]


@router.get("")
async def calendars(
    *,
    database: Store,
    user: Asker,
    cursor: Cursor = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
) -> Response:
    """Return the caller's calendars, newest first, each with its number of entries."""
    return answer(await read.list_calendars(database, _reader(user), cursor=cursor, limit=limit))


@router.get("/{calendar_id}")
async def calendar(calendar_id: UUID, database: Store, user: Asker) -> Response:
    """Return a calendar with its entries; the ETag is the revision that a save-all goes by."""
    contents = await read.read_calendar(database, _reader(user), calendar_id)
    _about(calendar_id, *(entry.channel for entry in contents.entries))
    document = calendar_wire(contents.calendar, contents.entries)
    return answer(document, headers=_etag(contents.calendar.revision))


@router.put("/{calendar_id}/entries")
async def save(
    *,
    calendar_id: UUID,
    body: SaveAllBody,
    request: Request,
    database: Store,
    user: Asker,
    if_match: OptionalHeader = None,
    if_none_match: OptionalHeader = None,
    idempotency_key: OptionalHeader = None,
) -> Response:
    """Make the list sent all that the calendar holds.

    If-Match names the calendar's revision. A first save says `If-None-Match: *`.
    """
    sent = body.sent()
    _about(calendar_id, *(item.changes["channel"] for item in sent if "channel" in item.changes))
    written = await edit.save_all(
        database,
        await _writer(request, user, idempotency_key),
        calendar_id,
        sent,
        if_match=_number(if_match),
        is_first=_is_first(if_none_match),
    )
    return _answer(written, tag="revision")


@router.get("/{calendar_id}/entries/{entry_id}")
async def entry(calendar_id: UUID, entry_id: UUID, database: Store, user: Asker) -> Response:
    """Return one entry; the ETag is the version that a PATCH or DELETE goes by."""
    _about(calendar_id)
    found = await read.read_entry(database, _reader(user), calendar_id, entry_id)
    _about(calendar_id, found.channel)
    return answer(entry_wire(found), headers=_etag(found.version))


@router.patch("/{calendar_id}/entries/{entry_id}")
async def patch(
    *,
    calendar_id: UUID,
    entry_id: UUID,
    body: PatchBody,
    request: Request,
    database: Store,
    user: Asker,
    if_match: OptionalHeader = None,
    idempotency_key: OptionalHeader = None,
) -> Response:
    """Change the fields sent; the entry counts as reviewed. If-Match names its version."""
    _about(calendar_id)
    written = await edit.patch_entry(
        database,
        await _writer(request, user, idempotency_key),
        calendar_id,
        entry_id,
        body.changes(),
        if_match=_number(if_match),
    )
    _about(calendar_id, str(written.document["channel"]))
    return _answer(written, tag="version")


@router.delete("/{calendar_id}/entries/{entry_id}")
async def delete(
    *,
    calendar_id: UUID,
    entry_id: UUID,
    request: Request,
    database: Store,
    user: Asker,
    if_match: OptionalHeader = None,
    idempotency_key: OptionalHeader = None,
) -> Response:
    """Delete one entry; a revision keeps its text. If-Match names its version."""
    _about(calendar_id)
    written = await edit.delete_entry(
        database,
        await _writer(request, user, idempotency_key),
        calendar_id,
        entry_id,
        if_match=_number(if_match),
    )
    return _answer(written, tag=None)


@router.get("/{calendar_id}/revisions")
async def revisions(
    *,
    calendar_id: UUID,
    database: Store,
    user: Asker,
    cursor: Cursor = None,
    limit: Annotated[int, Query(ge=1, le=50)] = 20,
) -> Response:
    """Return what was written to a calendar, newest first, each with the texts before and after."""
    _about(calendar_id)
    caller = _reader(user)
    found = await read.list_revisions(database, caller, calendar_id, cursor=cursor, limit=limit)
    return answer(found)


@router.get("/{calendar_id}/export", responses=_EXPORTS)
async def exported(
    *, calendar_id: UUID, database: Store, user: Asker, wanted: WantedFormat = Format.JSON
) -> Response:
    """Return what is saved as one file, whatever any flag says."""
    contents = await read.read_calendar(database, _reader(user), calendar_id)
    _about(calendar_id, *(entry.channel for entry in contents.entries))
    is_csv = wanted is Format.CSV
    return Response(
        export.as_csv(contents.entries)
        if is_csv
        else export.as_json(contents.calendar, contents.entries),
        media_type="text/csv; charset=utf-8; header=present" if is_csv else "application/json",
        headers={
            "Content-Disposition": f'attachment; filename="calendar-{calendar_id}.{wanted}"',
            **_etag(contents.calendar.revision),
        },
    )


def _reader(user: User) -> Caller:
    return Caller(user_id=user.id, statuses=entry_statuses)


async def _writer(request: Request, user: User, idempotency_key: str | None) -> Caller:
    """Return who writes; a key stands for the method, the address and the body it came with."""
    key = None
    if idempotency_key is not None:
        method, path = request.method, request.url.path
        body = None if method == "DELETE" else await request.json()
        key = Key(
            user_id=user.id,
            route=f"{method} {request.scope['route'].path}",
            key=checked_key(idempotency_key),
            fingerprint=fingerprint(method, path, body),
        )
    request_id = current().request_id
    return Caller(user_id=user.id, statuses=entry_statuses, request_id=request_id, key=key)


def _about(calendar_id: UUID, *channels: str) -> None:
    """Let the request's line name the calendar and its channels."""
    about = current()
    about.calendar_id = calendar_id
    about.channel = ",".join(sorted(set(channels))) or None


def _number(header: str | None) -> int | None:
    """Return the version of an If-Match, None without one.

    What proxies make of an ETag (`W/"3"`) and people (`3`) is understood; a list or `*` names no
    version, and guards nothing.
    """
    if header is None:
        return None
    match = _ETAG.fullmatch(header.strip())
    if match:
        return int(match[1])
    fix = 'Send back the ETag you were given, such as "3"'
    mistake = Mistake(pointer="/If-Match", code="ETAG", fix=fix)
    raise Invalid("If-Match names no version", mistakes=[mistake])


def _is_first(header: str | None) -> bool:
    if header in {None, "*"}:
        return header == "*"
    mistake = Mistake(pointer="/If-None-Match", code="ETAG", fix="Use *, on the first save only")
    raise Invalid("If-None-Match can only be *", mistakes=[mistake])


def _etag(number: object) -> dict[str, str]:
    return {"ETag": f'"{number}"'}


def _answer(written: Written, *, tag: str | None) -> Response:
    headers = _etag(written.document[tag]) if tag else {}
    if written.is_replayed:
        headers["Idempotency-Replayed"] = "true"
    return answer(written.document, headers=headers)
