"""The end of a run: one transaction that stores status, frame, revision and outcome together."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from cadenza.calendar.frames import done_frame
from cadenza.calendar.generator import Ended, RunStatus, classify
from cadenza.calendar.store import commit
from cadenza.calendar.store.commit import End, Locked
from cadenza.db.pool import Conn, Database
from cadenza.errors import Reason
from cadenza.events import Lane, RunFinished, Verdict
from cadenza.telemetry import outcomes
from cadenza.telemetry.recorder import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """This process, as leases know it: its durable name, and this boot of it."""

    name: str
    boot: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """How a run ended and how that counts."""

    status: RunStatus
    reason: Reason | None
    verdict: Verdict
    rejected: int
    usage: dict[str, int] | None = None
    usage_estimated: bool = False
    is_abandoned: bool = False

    @property
    def needs_review(self) -> bool:
        """Say whether its entries want a person's eye before they may be published."""
        if self.status is RunStatus.PARTIAL:
            return self.verdict is not Verdict.GOOD
        return self.status is not RunStatus.COMPLETED


Judge = Callable[[Locked], Judged]


def judged_by(ended: Ended, *, rejected: int, is_abandoned: bool) -> Judge:
    """Return the producer's judge: the generator's end, weighed by what was really stored."""

    def judge(locked: Locked) -> Judged:
        status, reason, verdict = classify(
            ended, entries=locked.entries, rejected=rejected, expected=locked.row["expected"]
        )
        usage = ended.usage
        return Judged(
            status=status,
            reason=reason,
            verdict=verdict,
            rejected=rejected,
            usage=usage
            and {"inputTokens": usage.input_tokens, "outputTokens": usage.output_tokens},
            usage_estimated=ended.usage_estimated,
            is_abandoned=is_abandoned,
        )

    return judge


def judged_lost(locked: Locked) -> Judged:
    """Judge a run whose producer is gone: cancelled if its user had asked for that."""
    rejected: int = locked.row["rejected"]
    if locked.row["cancel_requested_at"] is not None:
        return Judged(
            status=RunStatus.CANCELLED,
            reason=Reason.BY_USER,
            verdict=Verdict.IGNORED,
            rejected=rejected,
        )
    return Judged(
        status=RunStatus.INTERRUPTED,
        reason=Reason.PROCESS_LOST,
        verdict=Verdict.BAD,
        rejected=rejected,
    )


async def end_run(
    database: Database,
    record: Record,
    run_id: UUID,
    *,
    token: UUID | None,
    instance: Instance,
    judge: Judge,
    version: str,
    budget_s: float | None = None,
) -> bytes | None:
    """Store the end of a run and return its terminal frame; None when it is not ours to end.

    The log line and the counter come from the one outcome that this call inserted. Raises
    DatabaseUnavailable when the end may or may not be stored; asking again is safe.
    """

    async def work(conn: Conn) -> tuple[bytes, RunFinished | None] | None:
        locked = await commit.lock_for_end(
            conn, run_id, token=token, name=instance.name, boot=instance.boot
        )
        if locked is None:
            return None
        judged = judge(locked)
        _, frame = await commit.write_end(
            conn,
            locked,
            _stored(judged),
            lambda seq, revision: _done(locked, judged, seq, revision),
        )
        outcome = _outcome(locked, judged)
        is_new = await outcomes.insert(conn, outcome, version=version)
        return frame, outcome if is_new else None

    ended = await database.as_worker(work, budget_s=budget_s)
    if ended is None:
        return None
    frame, outcome = ended
    if outcome is not None:
        record(outcome)
    return frame


def _stored(judged: Judged) -> End:
    return End(
        status=judged.status,
        reason=judged.reason,
        rejected=judged.rejected,
        usage=judged.usage,
        usage_estimated=judged.usage_estimated,
        needs_review=judged.needs_review,
    )


def _done(locked: Locked, judged: Judged, seq: int, revision: int) -> bytes:
    data: dict[str, Any] = {
        "status": judged.status,
        "reason": judged.reason,
        "entries": locked.entries,
        "rejected": judged.rejected,
        "usage": judged.usage,
        "usageEstimated": judged.usage_estimated,
        "revision": revision,
        "needsReview": judged.needs_review,
        "diff": None,
    }
    return done_frame(locked.row["epoch"], seq, data)


def _outcome(locked: Locked, judged: Judged) -> RunFinished:
    run = locked.row
    first = locked.first_entry_at
    was_given_up = judged.is_abandoned and judged.verdict is not Verdict.BAD
    return RunFinished(
        id=run["id"],
        at=locked.ends_at,
        request_id=run["request_id"],
        user_id=str(run["user_id"]),
        channel=run["channels"],
        calendar_id=run["calendar_id"],
        run_id=run["id"],
        status=judged.status,
        reason=Reason.ABANDONED_SLOW if was_given_up else judged.reason,
        verdict=Verdict.BAD if was_given_up else judged.verdict,
        duration_ms=_ms(run["started_at"], locked.ends_at),
        flags={"calendar": f"{run['variant']}@{run['flag_version']}"},
        lane=Lane(run["lane"]),
        variant=run["variant"],
        flag_version=run["flag_version"],
        entries=locked.entries,
        rejected=judged.rejected,
        first_entry_ms=None if first is None else _ms(run["started_at"], first),
    )


def _ms(start: Any, end: Any) -> int:  # noqa: ANN401  # two instants of one database row
    return int((end - start).total_seconds() * 1000)
