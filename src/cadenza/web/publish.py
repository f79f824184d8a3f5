"""Publishing over HTTP: intents, and the accounts they are for."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from cadenza.channels.seed import development_accounts
from cadenza.channels.store import add_missing_accounts, list_accounts
from cadenza.db.gate import gate_of
from cadenza.db.idempotency import Answer, Key, checked_key, fingerprint, once, remember
from cadenza.db.pool import Conn
from cadenza.errors import Invalid, Mistake
from cadenza.flags.evaluate import Decision
from cadenza.publish.intents import Ask, Created, Origin, create_intents, get_intent, list_intents
from cadenza.publish.model import IntentState, as_wire
from cadenza.publish.store import Wanted
from cadenza.runtime import Runtime
from cadenza.telemetry.context import current
from cadenza.web.auth import User, require_user
from cadenza.web.deciding import Decide, deciding
from cadenza.web.parts import answer, encoded, runtime_of
from cadenza.web.problems import DOCUMENTED

router = APIRouter()
_NONE_ACCEPTED: dict[int | str, dict[str, Any]] = {
    422: {
        "description": "No entry was accepted; each has its code. Or a problem, as any 4XX",
        "content": {"application/json": {}, **DOCUMENTED["4XX"]["content"]},
    }
}
ROUTE = "POST /v1/calendars/{calendar_id}/publish"


class PublishBody(BaseModel):
    """What to publish. Nothing named means every entry, on the account its channel has."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    entry_ids: Annotated[
        list[UUID] | None, Field(alias="entryIds", min_length=1, max_length=200)
    ] = None
    account_ids: Annotated[
        list[UUID] | None, Field(alias="accountIds", min_length=1, max_length=50)
    ] = None
    dry_run: Annotated[bool, Field(alias="dryRun")] = False
    again: bool = False


@router.post("/v1/calendars/{calendar_id}/publish", responses=_NONE_ACCEPTED)
async def publish(
    *,
    calendar_id: UUID,
    request: Request,
    user: Annotated[User, Depends(require_user)],
    decide: Annotated[Decide, Depends(deciding("publish"))],
    body: PublishBody | None = None,
    idempotency_key: Annotated[str | None, Header()] = None,
) -> Response:
    """Make an intent of each entry that can be published; each gets its own result and code.

    200 when any entry was accepted, else 422. Idempotency-Key is required.
    """
    runtime = runtime_of(request)
    body = body or PublishBody()
    current().calendar_id = calendar_id
    key = _key(user, calendar_id, body, idempotency_key)
    decision = decide()
    if runtime.is_development:
        await _seed(runtime, user)
    ask = Ask(
        calendar_id=calendar_id,
        entry_ids=None if body.entry_ids is None else tuple(body.entry_ids),
        account_ids=None if body.account_ids is None else tuple(body.account_ids),
        dry_run=body.dry_run,
        again=body.again,
    )
    origin = Origin(user_id=UUID(user.id), request_id=current().request_id or "", lane=decide.lane)
    return await _once(runtime, key, ask, decision=decision, origin=origin)


@router.get("/v1/intents")
async def intents(
    *,
    request: Request,
    user: Annotated[User, Depends(require_user)],
    calendar_id: Annotated[UUID | None, Query(alias="calendarId")] = None,
    state: IntentState | None = None,
    cursor: UUID | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Response:
    """Return the caller's intents, newest first."""
    current().calendar_id = calendar_id
    wanted = Wanted(calendar_id=calendar_id, state=state, before=cursor, limit=limit)
    found, following = await runtime_of(request).database.as_user(
        user.id, lambda conn: list_intents(conn, wanted)
    )
    items = [as_wire(intent) for intent in found]
    return answer({"items": items, "nextCursor": following})


@router.get("/v1/intents/{intent_id}")
async def intent(
    intent_id: UUID, request: Request, user: Annotated[User, Depends(require_user)]
) -> Response:
    """Return one intent with the exact request that was frozen for it."""
    found = await runtime_of(request).database.as_user(
        user.id, lambda conn: get_intent(conn, intent_id)
    )
    about = current()
    about.intent_id, about.calendar_id, about.channel = found.id, found.calendar_id, found.channel
    return answer(as_wire(found, with_payload=True))


@router.get("/v1/accounts")
async def accounts(request: Request, user: Annotated[User, Depends(require_user)]) -> Response:
    """Return the caller's accounts."""
    runtime = runtime_of(request)
    if runtime.is_development:
        await _seed(runtime, user)
    found = await runtime.database.as_user(user.id, list_accounts)
    items = [
        {
            "id": account.id,
            "channel": account.channel,
            "handle": account.handle,
            "timezone": account.time_zone,
            "state": account.state,
        }
        for account in found
    ]
    return answer({"items": items, "nextCursor": None})


async def _once(
    runtime: Runtime, key: Key, ask: Ask, *, decision: Decision, origin: Origin
) -> Response:
    """Make the intents and keep the answer under its key, in one transaction behind the gate."""

    async def work(conn: Conn) -> tuple[Answer, Created | None]:
        before = await once(conn, key)
        if before is not None:
            return before, None
        created = await create_intents(conn, ask, decision=decision, origin=origin)
        results = {"results": [result.as_wire() for result in created.results]}
        made = Answer(200 if created.is_accepted else 422, encoded(results))
        await remember(conn, key, made.status, made.body)
        return made, created

    made, created = await runtime.database.as_user(key.user_id, work, gate=gate_of("publish"))
    headers = {"Idempotency-Replayed": "true"} if created is None else {}
    current().channel = ",".join(created.channels) or None if created else None
    for event in created.finished if created else ():
        runtime.record(event)
    return Response(
        made.body, status_code=made.status, headers=headers, media_type="application/json"
    )


async def _seed(runtime: Runtime, user: User) -> None:
    """Give a development user one account per channel, the first time."""
    owner = UUID(user.id)

    async def work(conn: Conn) -> int:
        return await add_missing_accounts(conn, owner, development_accounts(owner))

    await runtime.database.as_worker(work)


def _key(user: User, calendar_id: UUID, body: PublishBody, given: str | None) -> Key:
    if given is None:
        fix = "Send a UUID of your own; the same one when you try the same publish again"
        mistake = Mistake(pointer="/Idempotency-Key", code="MISSING", fix=fix)
        raise Invalid("Publishing needs an Idempotency-Key", mistakes=[mistake])
    return Key(
        user_id=user.id,
        route=ROUTE,
        key=checked_key(given),
        fingerprint=fingerprint(
            "POST", f"/v1/calendars/{calendar_id}/publish", body.model_dump(mode="json")
        ),
    )
