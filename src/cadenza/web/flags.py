"""The operators' switches over HTTP: see, turn on or off for all, kill, open a drill."""

from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from cadenza.db.pool import Conn
from cadenza.events import DrillOpened, Lane
from cadenza.flags import store
from cadenza.flags.change import By, Edit, by_operator, killed, switched_off, switched_on
from cadenza.flags.drill import new_drill
from cadenza.flags.live import Flags
from cadenza.runtime import Runtime
from cadenza.telemetry.context import current
from cadenza.web.auth import require_operator, require_viewer
from cadenza.web.operators import Operator
from cadenza.web.parts import answer, runtime_of

router = APIRouter(prefix="/ops")
OVERRIDE: Final = "OVERRIDE"


class _Body(BaseModel):
    model_config = ConfigDict(
        extra="forbid", hide_input_in_errors=True, alias_generator=to_camel, strict=True
    )


class SwitchBody(_Body):
    """On or off for everybody, and why."""

    on: bool
    reason: str
    if_version: int | None = None


class KillBody(_Body):
    """Why the flag is killed."""

    reason: str
    if_version: int | None = None


class DrillBody(_Body):
    """Whose decisions are forced to what, for how long, and why."""

    user_id: Annotated[UUID, Field(strict=False)]
    flags: dict[str, str]
    ttl_s: int
    reason: str


@router.get("/flags")
async def flags(
    request: Request, _viewer: Annotated[Operator, Depends(require_viewer)]
) -> Response:
    """Return every policy this instance decides by, and what that rests on.

    With the database away these are the last values known, and `staleS` says for how long.
    """
    held = runtime_of(request).flags
    await held.try_refresh()
    return answer(_listing(held))


@router.put("/flags/{key}")
async def switch(
    key: str,
    body: SwitchBody,
    request: Request,
    operator: Annotated[Operator, Depends(require_operator())],
) -> Response:
    """Turn a flag on or off for everybody. On clears `kill` and `stopped`; off keeps them."""
    by = _by(operator, body.reason, "on" if body.on else "off")
    edit = switched_on if body.on else switched_off
    return await _change(runtime_of(request), key, edit, by, body.if_version)


@router.post("/flags/{key}/kill")
async def kill(
    key: str,
    body: KillBody,
    request: Request,
    operator: Annotated[Operator, Depends(require_operator())],
) -> Response:
    """Give everybody the safe variant now; share and lists are kept for later."""
    by = _by(operator, body.reason, "kill")
    return await _change(runtime_of(request), key, killed, by, body.if_version)


@router.post("/drills", status_code=201)
async def open_drill(
    body: DrillBody, request: Request, operator: Annotated[Operator, Depends(require_operator())]
) -> Response:
    """Open a drill for one user; its id is said once, here, and works for that user only."""
    runtime = runtime_of(request)
    by = _by(operator, body.reason, "drill")
    drill = new_drill(user_id=str(body.user_id), flags=body.flags, ttl_s=body.ttl_s)

    async def work(conn: Conn) -> object:
        return await store.open_drill(conn, drill, ttl_s=body.ttl_s, by=by)

    expires_at = await runtime.database.as_ops(work)
    forced = ",".join(f"{key}={variant}" for key, variant in sorted(drill.flags.items()))
    told = {"key": ",".join(sorted(drill.flags)), "from": None, "to": forced}
    who = {"actor": by.actor, "cause": by.cause["kind"]}
    runtime.record(DrillOpened(user_id=drill.user_id, lane=Lane.DRILL, flag={**told, **who}))
    return answer(
        {
            "id": drill.id,
            "userId": drill.user_id,
            "flags": drill.flags,
            "expiresAt": expires_at,
        },
        status=201,
    )


async def _change(
    runtime: Runtime, key: str, edit: Edit, by: By, if_version: int | None
) -> Response:
    done = await store.change(
        runtime.database,
        key=key,
        edit=edit,
        by=by,
        settings=runtime.settings_present,
        hard_kills=runtime.flags.hard_kills,
        if_version=if_version,
    )
    if done.happened:
        runtime.record(done.event())
    await runtime.flags.try_refresh()
    return answer(
        {
            "changed": done.happened,
            "setVersion": done.set_version,
            "before": done.before.as_wire(),
            "policy": done.after.as_wire(),
            "state": _state(runtime.flags, key, done.after.summary()),
        }
    )


def _by(operator: Operator, reason: str, verb: str) -> By:
    return by_operator(
        actor=operator.name, reason=reason, verb=verb, request_id=current().request_id
    )


def _listing(held: Flags) -> dict[str, object]:
    found = sorted(held.held.flags.policies.items())
    return {
        "setVersion": held.set_version,
        "source": held.held.source,
        "staleS": round(held.stale_s, 1),
        "items": [
            policy.as_wire()
            | {
                "state": _state(held, key, policy.summary()),
                "override": OVERRIDE if key in held.hard_kills else None,
            }
            for key, policy in found
        ],
        "nextCursor": None,
    }


def _state(held: Flags, key: str, summary: str) -> str:
    """Return what is in force here: the environment's override hides what the policy says."""
    return OVERRIDE if key in held.hard_kills else summary
