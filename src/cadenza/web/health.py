"""How this instance is: alive, ready to answer, willing to publish; and its metrics.

A load balancer asks `/readyz`. Being without the database or the AI is no reason to take an
instance out: every other one would go with it, and reads from memory would go too.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol, TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

from cadenza.db.pool import Conn
from cadenza.errors import Unavailable
from cadenza.flags.store import schema_revision
from cadenza.web.parts import answer

T = TypeVar("T")

PROBE_BUDGET_S: Final = 1.0
FLAGS_STALE_S: Final = 60.0
PROMETHEUS_TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
DEVELOPMENT: Final = (
    "DEVELOPMENT PROFILE: what was not configured is brought along (embedded Postgres, simulated "
    "AI and channels, tokens of its own issuer); nothing here is for real"
)
NO_WORKER: Final = (
    "This release has no publishing worker: publish cannot be turned on, and every intent is a "
    "dry run"
)
_FRESH = {"Cache-Control": "no-store"}
_NOT_NOW: dict[int | str, dict[str, Any]] = {
    503: {
        "description": "The same document, when it is not so",
        "content": {"application/json": {}},
    }
}

router = APIRouter(tags=["health"])


class Flags(Protocol):
    """What the flags in force rest on."""

    @property
    def set_version(self) -> int:
        """The flag-set version in force."""
        ...

    @property
    def stale_s(self) -> float:
        """For how long nothing has confirmed it."""
        ...

    @property
    def held(self) -> "Held":
        """The set itself."""
        ...

    hard_kills: frozenset[str]


class Held(Protocol):
    """Where a set of flags came from."""

    @property
    def source(self) -> str:
        """One of the words of a decision's `source`."""
        ...


class Database(Protocol):
    """The way to the database."""

    async def as_ops(
        self, work: Callable[[Conn], Awaitable[T]], *, budget_s: float | None = None
    ) -> T:
        """Return what `work` returns, or raise Unavailable when the budget is over."""
        ...


class Metrics(Protocol):
    """The counters of this process."""

    def page(self) -> bytes:
        """Everything in Prometheus' text format."""
        ...


class Phase(Protocol):
    """Where this process is in its life."""

    is_draining: bool


class Served(Protocol):
    """What is asked of the open parts; `runtime.Runtime` is one."""

    @property
    def profile(self) -> str: ...  # noqa: D102
    @property
    def version(self) -> str: ...  # noqa: D102
    @property
    def replica(self) -> str: ...  # noqa: D102
    @property
    def is_development(self) -> bool: ...  # noqa: D102
    @property
    def settings_present(self) -> frozenset[str]: ...  # noqa: D102
    @property
    def schema_needed(self) -> str: ...  # noqa: D102
    @property
    def database(self) -> Database: ...  # noqa: D102
    @property
    def flags(self) -> Flags: ...  # noqa: D102
    @property
    def metrics(self) -> Metrics: ...  # noqa: D102
    @property
    def phase(self) -> Phase: ...  # noqa: D102


@router.get("/livez")
async def livez() -> Response:
    """Say that the process is alive; looks at nothing else, so it never restarts a busy one."""
    return answer({"alive": True}, headers=_FRESH)


@router.get("/readyz", responses=_NOT_NOW)
async def readyz(request: Request) -> Response:
    """Say whether this instance can answer: 503 only while draining or before its schema."""
    runtime: Served = request.app.state.runtime
    state = await look(runtime)
    return answer(state, status=200 if state["ready"] else 503, headers=_FRESH)


@router.get("/healthz/publishing", responses=_NOT_NOW)
async def publishing() -> Response:
    """Say whether what is due will be published; an alarm, never a load balancer's probe."""
    return answer({"willPublish": False, "reason": NO_WORKER}, status=503, headers=_FRESH)


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """Give this process's counters to Prometheus."""
    runtime: Served = request.app.state.runtime
    return Response(runtime.metrics.page(), headers=_FRESH, media_type=PROMETHEUS_TEXT)


async def look(runtime: Served) -> dict[str, Any]:
    """Return the state of this instance, as `/readyz` shows it."""
    is_reachable, revision = await _ask_database(runtime.database)
    is_draining = runtime.phase.is_draining
    is_behind = is_reachable and (revision or "") < runtime.schema_needed
    has_ai = "ai" in runtime.settings_present
    reasons = {"draining": is_draining, "schema_behind": is_behind}
    lacks = {
        "database_unreachable": not is_reachable,
        "flags_stale": runtime.flags.stale_s > FLAGS_STALE_S,
        "ai_not_configured": not has_ai,
    }
    return {
        "ready": not any(reasons.values()),
        "reasons": [word for word, holds in reasons.items() if holds],
        "degraded": [word for word, holds in lacks.items() if holds],
        "profile": runtime.profile,
        "notice": DEVELOPMENT if runtime.is_development else None,
        "version": runtime.version,
        "replica": runtime.replica,
        "database": {
            "reachable": is_reachable,
            "schema": revision,
            "schemaNeeded": runtime.schema_needed,
        },
        "flags": {
            "version": runtime.flags.set_version,
            "source": runtime.flags.held.source,
            "staleS": round(runtime.flags.stale_s, 1),
            "overrides": sorted(runtime.flags.hard_kills),
        },
        "ai": {"configured": has_ai},
        "draining": is_draining,
    }


async def _ask_database(database: Database) -> tuple[bool, str | None]:
    try:
        # In the operators' lane: impatient probes must not close the way for users or the worker.
        return True, await database.as_ops(schema_revision, budget_s=PROBE_BUDGET_S)
    except Unavailable:
        return False, None
    except Exception:  # noqa: BLE001  # it answered, but not with our schema in it
        return True, None
