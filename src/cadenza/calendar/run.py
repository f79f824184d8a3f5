"""Start, attach to, read and cancel a run; producing it is `produce.py`'s."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from cadenza.calendar.frames import run_frame
from cadenza.calendar.produce import Parts, Producers
from cadenza.calendar.request import MAX_SLOTS, RunRequest, slots
from cadenza.calendar.store import runs
from cadenza.calendar.store.runs import Inserted, NewRun
from cadenza.db.gate import gate_of
from cadenza.db.idempotency import reused
from cadenza.db.pool import Conn, Database
from cadenza.errors import Conflict, Gone, Invalid, Mistake, NotFound, RateLimited, Unavailable
from cadenza.events import Lane
from cadenza.flags.evaluate import Decision

LIMITS = {Lane.LIVE: 10, Lane.DRILL: 60}
WINDOW_S = 300
_DECISIONS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a client asked for, checked and complete."""

    user_id: str
    calendar_id: UUID
    request: RunRequest
    lane: Lane
    request_id: str
    idempotency_key: str | None = None
    fingerprint: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The run an order led to: a new one, or the one its Idempotency-Key had made before."""

    run_id: UUID
    decision: Decision | None

    @property
    def is_attached(self) -> bool:
        """Say whether the run was there already."""
        return self.decision is None


async def start_run(
    order: Order,
    *,
    parts: Parts,
    producers: Producers,
    decide: Callable[[], Decision],
    refresh: Callable[[], Awaitable[object]],
) -> Started:
    """Store a run under the gate of `calendar` and produce it here.

    Raises Invalid (more than 200 slots; key used for another body), NotFound (the calendar is
    someone else's), Conflict (RUN_IN_PROGRESS with the runId, CALENDAR_NOT_EMPTY), RateLimited,
    Unavailable. The decision is taken again when the flags changed under it.
    """
    expected = len(slots(order.request))
    if expected > MAX_SLOTS:
        raise _too_many_slots()
    for _ in range(_DECISIONS):
        decision = decide()
        new = _new_run(order, decision, parts, expected)
        made = await _insert(parts.database, order, new)
        if made.is_stale:
            await refresh()
            continue
        if made.attached is not None:
            return Started(run_id=made.attached, decision=None)
        producers.begin(new, order.request)
        parts.log.note("calendar.run.started", runId=new.id, status="running")
        return Started(run_id=new.id, decision=decision)
    raise Unavailable("The flags are changing; nothing was started", retry_after_s=1)


async def read_run(database: Database, user_id: str, run_id: UUID) -> dict[str, Any]:
    """Return the row of a run; raise NotFound when it is not this user's."""

    async def work(conn: Conn) -> dict[str, Any] | None:
        return await runs.read(conn, run_id)

    row = await database.as_user(user_id, work)
    if row is None:
        raise NotFound(f"There is no run {run_id}")
    return row


async def last_place(database: Database, user_id: str, run_id: UUID) -> tuple[int, bool]:
    """Return the highest stored place of a run's log and whether it is the end.

    Raises Gone when the log is kept no longer.
    """

    async def work(conn: Conn) -> tuple[int | None, bool]:
        return await runs.last_seq(conn, run_id)

    seq, is_over = await database.as_user(user_id, work)
    if seq is None:
        raise Gone("The frames of this run are kept for 24 hours", extra=_run_url(run_id))
    return seq, is_over


async def cancel_run(database: Database, producers: Producers, user_id: str, run_id: UUID) -> str:
    """Ask a run to end, wherever it is produced; return its status before that.

    A run that has ended is left as it is. Raises NotFound when it is not this user's.
    """

    async def work(conn: Conn) -> str | None:
        return await runs.request_cancel(conn, run_id)

    status = await database.as_user(user_id, work)
    if status is None:
        raise NotFound(f"There is no run {run_id}")
    producers.cancel(run_id)
    return status


def run_wire(row: dict[str, Any]) -> dict[str, Any]:
    """Return a run's row as clients see it."""
    return {
        "id": row["id"],
        "calendarId": row["calendar_id"],
        "status": row["status"],
        "reason": row["reason"],
        "variant": row["variant"],
        "flagVersion": row["flag_version"],
        "requestId": row["request_id"],
        "request": row["request"],
        "expected": row["expected"],
        "entries": row["entries"],
        "rejected": row["rejected"],
        "usage": row["usage"],
        "usageEstimated": row["usage_estimated"],
        "needsReview": row["needs_review"],
        "revision": row["revision"],
        "startedAt": row["started_at"],
        "firstEntryAt": row["first_entry_at"],
        "finishedAt": row["finished_at"],
        "cancelRequestedAt": row["cancel_requested_at"],
    }


async def _insert(database: Database, order: Order, new: NewRun) -> Inserted:
    """Store a run, or learn what else there is; what is refused leaves no calendar behind."""

    async def work(conn: Conn) -> Inserted:
        made = await runs.insert(conn, new, limit=LIMITS[order.lane], window_s=WINDOW_S)
        if made.started_at is None and not made.is_stale:
            _check_attached(order, made)
        return made

    return await database.as_user(new.user_id, work, gate=gate_of("calendar"))


def _check_attached(order: Order, made: Inserted) -> None:
    """Raise what keeps a run out, unless its key made it before, from the same body."""
    if made.attached is not None:
        if made.fingerprint != order.fingerprint:
            raise reused()
        return
    if made.active is not None:
        raise Conflict(
            "One run at a time: cancel the one in progress or wait for its end",
            code="RUN_IN_PROGRESS",
            extra={"runId": str(made.active)},
        )
    if made.has_entries:
        raise Conflict(
            "This calendar has entries; a run would add to them. Use a new calendar id",
            code="CALENDAR_NOT_EMPTY",
        )
    if made.retry_after_s is not None:
        raise RateLimited(
            f"At most {LIMITS[order.lane]} runs in {WINDOW_S} seconds",
            retry_after_s=made.retry_after_s,
        )
    raise NotFound(f"There is no calendar {order.calendar_id}")


def _new_run(order: Order, decision: Decision, parts: Parts, expected: int) -> NewRun:
    if decision.variant not in parts.generators:
        raise Unavailable("No AI provider is configured here", code="AI_NOT_CONFIGURED")
    run_id = parts.new_id()
    first = {
        "runId": run_id,
        "calendarId": order.calendar_id,
        "requestId": order.request_id,
        "variant": decision.variant,
        "flagVersion": decision.version,
    }
    return NewRun(
        id=run_id,
        calendar_id=order.calendar_id,
        user_id=order.user_id,
        lane=order.lane,
        request=_request_row(order.request),
        channels=",".join(order.request.channels),
        expected=expected,
        variant=decision.variant,
        flag_version=decision.version,
        flag_source=decision.source,
        set_version=decision.set_version,
        request_id=order.request_id,
        idempotency_key=order.idempotency_key,
        fingerprint=order.fingerprint,
        lease_token=parts.new_id(),
        lease_s=parts.lease_s,
        owner_name=parts.instance.name,
        owner_boot=parts.instance.boot,
        frame=run_frame(1, first),
    )


def _request_row(request: RunRequest) -> dict[str, Any]:
    return {
        "channels": list(request.channels),
        "cadence": request.cadence,
        "start": request.start.isoformat(),
        "end": request.end.isoformat(),
        "timezone": request.timezone,
        "brief": request.brief,
        "constraints": dict(request.constraints),
    }


def _too_many_slots() -> Invalid:
    mistake = Mistake(
        pointer="/end",
        code="TOO_MANY_SLOTS",
        fix=f"Ask for at most {MAX_SLOTS} entries: a shorter range, fewer channels, or weekly",
    )
    return Invalid("This range asks for too many entries", mistakes=[mistake])


def _run_url(run_id: UUID) -> dict[str, object]:
    return {"run": f"/v1/runs/{run_id}"}
