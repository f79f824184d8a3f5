"""Runs over HTTP: start, stream, resume, read, cancel."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from uuid_utils.compat import uuid7

from cadenza.calendar.frames import EventId, parse_event_id, reset_frame
from cadenza.calendar.run import (
    Order,
    Started,
    cancel_run,
    last_place,
    read_run,
    run_wire,
    start_run,
)
from cadenza.db.idempotency import checked_key, fingerprint
from cadenza.errors import Reason, Unavailable
from cadenza.events import Lane, StreamFinished, Verdict
from cadenza.runtime import Runtime
from cadenza.telemetry.context import current
from cadenza.web.auth import User, require_user
from cadenza.web.deciding import Decide, deciding
from cadenza.web.parts import answer, hub_of, runtime_of
from cadenza.web.run_body import RunBody
from cadenza.web.sse import Ending, SseHub, SseStream
from cadenza.web.sse_wire import HEADERS

router = APIRouter()
_FRAME = {
    "type": "object",
    "properties": {
        "event": {"enum": ["run", "entry", "done", "reset", "error"]},
        "id": {"type": "string"},
        "retry": {"type": "integer"},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
}
_STREAM_DOC: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The run's frames, each of this form",
        "content": {"text/event-stream": {"schema": _FRAME}},
    }
}
_NOTHING_MORE: dict[int | str, dict[str, Any]] = {
    204: {"description": "The client has the terminal frame"}
}
_ASKED: dict[int | str, dict[str, Any]] = {
    202: {"description": "It will end within 3 seconds", "content": {"application/json": {}}}
}
_ENDS: dict[Ending, tuple[Verdict, Reason | None]] = {
    Ending.TERMINAL: (Verdict.GOOD, None),
    Ending.CLIENT_LEFT: (Verdict.IGNORED, Reason.CLIENT_LEFT),
    Ending.CLIENT_SLOW: (Verdict.IGNORED, Reason.CLIENT_SLOW),
    Ending.DRAINED: (Verdict.IGNORED, Reason.SHUTDOWN),
    Ending.FAILED: (Verdict.BAD, Reason.INTERNAL),
}


class RunReader:
    """One client's stream, as the event log writes to it."""

    def __init__(
        self, runtime: Runtime, hub: SseHub, row: dict[str, Any], *, resumed: bool, started: bool
    ) -> None:
        self._runtime, self._row = runtime, row
        self._resumed, self._has_started_it = resumed, started
        self._has_failed = False
        self.stream = SseStream(hub, self._ended)

    def push(self, frames: bytes, count: int = 1) -> None:
        """Write encoded frames."""
        self.stream.push(frames, count)

    def finish(self, frames: bytes = b"", count: int = 0) -> None:
        """Write the last frames, the terminal one among them."""
        self.stream.finish(frames, count)

    def fail(self, frame: bytes) -> None:
        """Write the frame that says the end could not be had."""
        self._has_failed = True
        self.stream.finish(frame, 1)

    def _ended(self, how: Ending, frames: int) -> None:
        """Let go of the log, and count how the stream ended, once."""
        runtime, row = self._runtime, self._row
        runtime.events.leave(row["id"], self)
        if how is Ending.CLIENT_LEFT and self._has_started_it:
            runtime.producers.left(row["id"])
        verdict, reason = _ENDS[how]
        if self._has_failed and how is Ending.TERMINAL:
            verdict, reason = Verdict.BAD, Reason.DATABASE_UNAVAILABLE
        runtime.ring.add(
            StreamFinished(
                id=uuid7(),
                at=runtime.log.now(),
                request_id=current().request_id,
                user_id=str(row["user_id"]),
                channel=row["channels"],
                calendar_id=row["calendar_id"],
                run_id=row["id"],
                status=how,
                reason=reason,
                verdict=verdict,
                flags={"calendar": f"{row['variant']}@{row['flag_version']}"},
                lane=Lane(row["lane"]),
                variant=row["variant"],
                flag_version=row["flag_version"],
                frames=frames,
                resumed=self._resumed,
            )
        )


@router.post(
    "/v1/calendars/{calendar_id}/runs",
    status_code=202,
    response_model=None,
    responses=_STREAM_DOC,
)
async def start(
    *,
    calendar_id: UUID,
    body: RunBody,
    request: Request,
    user: Annotated[User, Depends(require_user)],
    decide: Annotated[Decide, Depends(deciding("calendar"))],
    accept: Annotated[str, Header()] = "*/*",
    idempotency_key: Annotated[str | None, Header()] = None,
) -> Response:
    """Start a run: its stream if the client accepts one, else 202 and where to find it."""
    runtime = runtime_of(request)
    if runtime.phase.is_draining:
        raise Unavailable("This instance is stopping; ask again", retry_after_s=2)
    order = _order(calendar_id, body, user, decide.lane, idempotency_key)
    about = current()
    about.calendar_id, about.channel = calendar_id, ",".join(order.request.channels)
    started = await start_run(
        order,
        parts=runtime.parts,
        producers=runtime.producers,
        decide=decide,
        refresh=runtime.flags.refresh,
    )
    about.run_id = started.run_id
    row = await _row_of(runtime, user, started)
    if "text/event-stream" in accept:
        has_started_it = not started.is_attached
        return await _stream(runtime, hub_of(request), row, started=has_started_it)
    return answer(
        {"runId": started.run_id, "calendarId": calendar_id, "status": row["status"]},
        status=202,
        headers={"Location": f"/v1/runs/{started.run_id}"},
    )


@router.get("/v1/runs/{run_id}")
async def show(
    run_id: UUID, request: Request, user: Annotated[User, Depends(require_user)]
) -> Response:
    """Return a run as it stands."""
    row = await read_run(runtime_of(request).database, user.id, run_id)
    _about(row)
    return answer(run_wire(row))


@router.head("/v1/runs/{run_id}/events", response_model=None, include_in_schema=False)
@router.get("/v1/runs/{run_id}/events", response_model=None, responses=_STREAM_DOC | _NOTHING_MORE)
async def events(
    *,
    run_id: UUID,
    request: Request,
    user: Annotated[User, Depends(require_user)],
    last_event_id: Annotated[str | None, Header()] = None,
    last_seen: Annotated[str | None, Query(alias="lastEventId")] = None,
) -> Response:
    """Stream a run from its first frame, or from after the one the client has seen.

    204 when that was the terminal one. An id that this run never had: a `reset` frame, then
    everything again.
    """
    runtime = runtime_of(request)
    row = await read_run(runtime.database, user.id, run_id)
    _about(row)
    seen = last_event_id or last_seen
    seq, is_over = await _place(runtime, user, run_id)
    place = parse_event_id(seen) if seen else None
    is_known = place is not None and place.epoch == row["epoch"] and place.seq <= seq
    if is_over and place == EventId(row["epoch"], seq):
        return Response(status_code=204)
    if request.method == "HEAD":
        return Response(headers={name.decode(): value.decode() for name, value in HEADERS})
    return await _stream(
        runtime,
        hub_of(request),
        row,
        after=place.seq if place is not None and is_known else -1,
        resumed=bool(seen),
        is_reset=bool(seen) and not is_known,
    )


@router.post("/v1/runs/{run_id}/cancel", responses=_ASKED)
async def cancel(
    run_id: UUID, request: Request, user: Annotated[User, Depends(require_user)]
) -> Response:
    """Ask a run to end; it does within 3 seconds, wherever it is produced. What it made is kept."""
    runtime = runtime_of(request)
    status = await cancel_run(runtime.database, runtime.producers, user.id, run_id)
    row = await read_run(runtime.database, user.id, run_id)
    _about(row)
    return answer(run_wire(row), status=202 if status == "running" else 200)


async def _stream(
    runtime: Runtime,
    hub: SseHub,
    row: dict[str, Any],
    *,
    after: int = -1,
    started: bool = False,
    resumed: bool = False,
    is_reset: bool = False,
) -> Response:
    reader = RunReader(runtime, hub, row, resumed=resumed, started=started)
    if is_reset:
        reader.push(reset_frame())
    await runtime.events.follow(row["id"], reader, after=after)
    return reader.stream


async def _place(runtime: Runtime, user: User, run_id: UUID) -> tuple[int, bool]:
    seq = runtime.events.last_seq(run_id)
    if seq is not None:
        return seq, False
    return await last_place(runtime.database, user.id, run_id)


async def _row_of(runtime: Runtime, user: User, started: Started) -> dict[str, Any]:
    row = await read_run(runtime.database, user.id, started.run_id)
    if started.is_attached:
        await _place(runtime, user, started.run_id)  # 410 when its frames are gone
    current().flags["calendar"] = f"{row['variant']}@{row['flag_version']}"
    return row


def _order(
    calendar_id: UUID, body: RunBody, user: User, lane: Lane, idempotency_key: str | None
) -> Order:
    return Order(
        user_id=user.id,
        calendar_id=calendar_id,
        request=body.asked(),
        lane=lane,
        request_id=current().request_id or "",
        idempotency_key=None if idempotency_key is None else checked_key(idempotency_key),
        fingerprint=fingerprint(
            "POST", f"/v1/calendars/{calendar_id}/runs", body.model_dump(mode="json")
        ),
    )


def _about(row: dict[str, Any]) -> None:
    about = current()
    about.run_id, about.calendar_id, about.channel = row["id"], row["calendar_id"], row["channels"]
    about.lane = Lane(row["lane"])
    about.flags["calendar"] = f"{row['variant']}@{row['flag_version']}"
