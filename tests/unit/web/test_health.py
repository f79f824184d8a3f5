"""What an instance says of itself, and when it asks to be left out."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import httpx
import pytest
from fastapi import FastAPI

from cadenza.db.pool import Conn
from cadenza.errors import DatabaseUnavailable
from cadenza.telemetry.metrics import Metrics
from cadenza.web import health

T = TypeVar("T")


@dataclass
class Held:
    source: str = "database"


@dataclass
class Flags:
    set_version: int = 12
    stale_s: float = 0.34
    held: Held = field(default_factory=Held)
    hard_kills: frozenset[str] = frozenset()


@dataclass
class Database:
    """A database of which only the revision is ever asked."""

    revision: str | None = "0004"
    trouble: Exception | None = None
    asked: int = 0

    async def as_ops(
        self, work: Callable[[Conn], Awaitable[T]], *, budget_s: float | None = None
    ) -> T:
        assert work is not None
        assert budget_s is not None
        self.asked += 1
        if self.trouble is not None:
            raise self.trouble
        return cast("T", self.revision)


@dataclass
class Phase:
    is_draining: bool = False


@dataclass
class Instance:
    profile: str = "production"
    version: str = "0.1.0"
    replica: str = "web-1:7f3a"
    is_development: bool = False
    settings_present: frozenset[str] = frozenset({"ai"})
    schema_needed: str = "0004"
    database: Database = field(default_factory=Database)
    flags: Flags = field(default_factory=Flags)
    metrics: Metrics = field(default_factory=lambda: Metrics(version="0.1.0"))
    phase: Phase = field(default_factory=Phase)


def asked(instance: Instance, path: str) -> httpx.Response:
    app = FastAPI(telemetry={"tracing": False, "metrics": False, "logs": False})
    app.state.runtime = instance
    app.include_router(health.router)

    async def main() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get(path)

    return asyncio.run(main())


def ready(instance: Instance, status: int = 200) -> dict[str, Any]:
    response = asked(instance, "/readyz")
    assert response.status_code == status
    assert response.headers["cache-control"] == "no-store"
    return response.json()


def test_alive_is_alive_whatever_else_is_not() -> None:
    instance = Instance(database=Database(trouble=DatabaseUnavailable()), phase=Phase(True))
    assert asked(instance, "/livez").status_code == 200
    assert instance.database.asked == 0


def test_an_instance_in_order_says_what_it_rests_on() -> None:
    assert ready(Instance()) == {
        "ready": True,
        "reasons": [],
        "degraded": [],
        "profile": "production",
        "notice": None,
        "version": "0.1.0",
        "replica": "web-1:7f3a",
        "database": {"reachable": True, "schema": "0004", "schemaNeeded": "0004"},
        "flags": {"version": 12, "source": "database", "staleS": 0.3, "overrides": []},
        "ai": {"configured": True},
        "draining": False,
    }


def test_without_a_database_it_is_degraded_and_still_in() -> None:
    state = ready(Instance(database=Database(trouble=DatabaseUnavailable())))
    assert state["degraded"] == ["database_unreachable"]
    assert state["database"] == {"reachable": False, "schema": None, "schemaNeeded": "0004"}


def test_stale_flags_and_a_missing_ai_are_told_and_no_reason_to_leave() -> None:
    flags = Flags(stale_s=60.1, held=Held("packaged"), hard_kills=frozenset({"publish"}))
    state = ready(Instance(flags=flags, settings_present=frozenset()))
    assert state["degraded"] == ["flags_stale", "ai_not_configured"]
    assert (state["flags"]["source"], state["flags"]["overrides"]) == ("packaged", ["publish"])


def test_an_instance_that_stops_asks_to_be_left_out() -> None:
    state = ready(Instance(phase=Phase(is_draining=True)), status=503)
    assert (state["ready"], state["reasons"]) == (False, ["draining"])


@pytest.mark.parametrize(
    "database",
    [Database(revision="0003"), Database(revision=None), Database(trouble=LookupError("table"))],
)
def test_an_instance_before_its_schema_does_not_answer(database: Database) -> None:
    state = ready(Instance(database=database), status=503)
    assert (state["ready"], state["reasons"]) == (False, ["schema_behind"])


def test_a_newer_schema_is_fine_for_older_code() -> None:
    assert ready(Instance(database=Database(revision="0005")))["ready"]


def test_development_says_so_loudly() -> None:
    state = ready(Instance(profile="development", is_development=True))
    assert state["notice"].startswith("DEVELOPMENT")
    assert (state["profile"], state["ready"]) == ("development", True)


def test_a_release_without_a_worker_says_that_it_will_not_publish() -> None:
    response = asked(Instance(), "/healthz/publishing")
    assert response.status_code == 503
    assert response.json() == {"willPublish": False, "reason": health.NO_WORKER}


def test_metrics_are_what_prometheus_reads() -> None:
    response = asked(Instance(), "/metrics")
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert 'cadenza_build{version="0.1.0"} 1.0' in response.text
