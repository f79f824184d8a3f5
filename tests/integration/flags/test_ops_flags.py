"""The operators' switches over HTTP, on a real database."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from fastapi import FastAPI

from cadenza.db.pool import Database
from cadenza.events import DrillOpened, Event, FlagChanged
from cadenza.flags import store
from cadenza.flags.live import Flags, open_flags
from cadenza.web import flags as routes
from cadenza.web import problems
from cadenza.web.operators import OperatorRecord, Operators, Role, token_sha256
from support import TestDatabase

ALICE = "9750dcc2-516e-5ea0-8a26-54fa6ff6986b"
TOKENS = {"ana": "operator-token", "eve": "viewer-token"}
REASON = "because of a test"
AUDITED = "SELECT key, actor, reason, cause->>'verb' FROM cadenza.flag_audit ORDER BY seq OFFSET 2"


@dataclass
class Served:
    """The parts that these routes ask the runtime for, and a client of them."""

    database: Database
    flags: Flags
    client: httpx.AsyncClient
    settings_present: frozenset[str] = frozenset({"ai"})
    events: list[Event] = field(default_factory=list[Event])

    def record(self, event: Event) -> None:
        self.events.append(event)

    async def ask(
        self, line: str, body: object = None, *, by: str | None = "ana"
    ) -> tuple[int, dict[str, Any]]:
        method, path = line.split()
        headers = {} if by is None else {"Authorization": f"Bearer {TOKENS.get(by, by)}"}
        answer = await self.client.request(method, path, json=body, headers=headers)
        return answer.status_code, json.loads(answer.content)


OPERATORS = Operators(
    [
        OperatorRecord(name=name, token_sha256=token_sha256(TOKENS[name]), role=role)
        for name, role in (("ana", Role.OPERATOR), ("eve", Role.VIEWER))
    ]
)


def note(name: str, /, *, level: str = "info", **_fields: object) -> None:
    assert (name, level) == ("flags.set.applied", "info")


def run(
    database: TestDatabase,
    story: Callable[[Served], Awaitable[None]],
    *,
    hard_kills: frozenset[str] = frozenset(),
) -> None:
    async def within() -> None:
        pool = Database(database.dsn, budget_s=10.0)
        await pool.open()
        await pool.as_ops(lambda conn: store.ensure_first_values(conn, development=True))
        app = FastAPI()
        app.include_router(routes.router)
        problems.install(app, public_url=None)
        transport = httpx.ASGITransport(app)
        async with (
            open_flags(
                store.source(pool),
                domain=f"test-{uuid4()}",
                note=note,
                hard_kills=hard_kills,
                poll_s=60,
            ) as held,
            httpx.AsyncClient(transport=transport, base_url="http://cadenza") as client,
        ):
            served = Served(pool, held, client)
            app.state.runtime, app.state.operators = served, OPERATORS
            await story(served)
        await pool.close()

    asyncio.run(within())


def audited(database: TestDatabase) -> list[tuple[Any, ...]]:
    with psycopg.connect(database.owner_dsn) as conn:
        return conn.execute(AUDITED).fetchall()


def test_a_viewer_sees_every_policy_and_what_it_rests_on(database: TestDatabase) -> None:
    async def story(served: Served) -> None:
        status, body = await served.ask("GET /ops/flags", by="eve")
        assert (status, body["setVersion"], body["source"]) == (200, 1, "database")
        listed = {item["key"]: (item["state"], item["override"]) for item in body["items"]}
        assert listed == {"calendar": ("on", None), "publish": ("off", None)}
        assert body["items"][0]["requires"] == {"schema": "0003", "flags": [], "settings": ["ai"]}

    run(database, story)


def test_off_and_on_again_is_in_force_here_at_once_audited_and_recorded(
    database: TestDatabase,
) -> None:
    async def story(served: Served) -> None:
        for on, label in ((False, "template@2"), (True, "ai@3")):
            asked = {"on": on, "reason": REASON}
            status, body = await served.ask("PUT /ops/flags/calendar", asked)
            assert (status, body["changed"]) == (200, True)
            assert served.flags.evaluate("calendar", ALICE).label == label
        status, body = await served.ask("PUT /ops/flags/calendar", asked)
        assert (status, body["changed"], body["setVersion"]) == (200, False, 3)
        changes = [event for event in served.events if isinstance(event, FlagChanged)]
        assert [(e.flag["from"], e.flag["to"], e.flag["actor"]) for e in changes] == [
            ("on@1", "off@2", "ana"),
            ("off@2", "on@3", "ana"),
        ]

    run(database, story)
    assert audited(database) == [
        ("calendar", "ana", REASON, "off"),
        ("calendar", "ana", REASON, "on"),
    ]


def test_kill_is_safe_for_all_and_on_clears_it(database: TestDatabase) -> None:
    async def story(served: Served) -> None:
        status, body = await served.ask("POST /ops/flags/calendar/kill", {"reason": REASON})
        assert (status, body["state"], body["policy"]["percentBp"]) == (200, "killed", 10_000)
        assert served.flags.evaluate("calendar", ALICE).rule == "kill"
        asked = {"on": True, "reason": REASON, "ifVersion": 2}
        status, body = await served.ask("PUT /ops/flags/calendar", asked)
        assert (status, body["state"], body["policy"]["kill"]) == (200, "on", False)

    run(database, story)


@pytest.mark.parametrize(
    ("line", "body", "status", "code"),
    [
        ("PUT /ops/flags/publish", {"on": True, "reason": REASON}, 409, "SCHEMA_BEHIND"),
        ("PUT /ops/flags/export", {"on": True, "reason": REASON}, 404, "NOT_FOUND"),
        ("PUT /ops/flags/calendar", {"on": False, "reason": "ok"}, 422, "VALIDATION_ERROR"),
        ("PUT /ops/flags/calendar", {"on": "yes", "reason": REASON}, 422, "VALIDATION_ERROR"),
        ("PUT /ops/flags/calendar", {"on": True}, 422, "VALIDATION_ERROR"),
        (
            "PUT /ops/flags/calendar",
            *({"on": False, "reason": REASON, "ifVersion": 9}, 409, "STALE_VERSION"),
        ),
        ("POST /ops/flags/calendar/kill", {"reason": " "}, 422, "VALIDATION_ERROR"),
        (
            "POST /ops/drills",
            {"userId": ALICE, "flags": {"calendar": "on"}, "ttlS": 60, "reason": REASON},
            *(422, "VALIDATION_ERROR"),
        ),
        (
            "POST /ops/drills",
            {"userId": ALICE, "flags": {"calendar": "ai"}, "ttlS": 601, "reason": REASON},
            *(422, "VALIDATION_ERROR"),
        ),
        (
            "POST /ops/drills",
            {"userId": "alice", "flags": {"calendar": "ai"}, "ttlS": 60, "reason": REASON},
            *(422, "VALIDATION_ERROR"),
        ),
    ],
)
def test_a_refusal_says_why_and_changes_nothing(
    database: TestDatabase, line: str, body: object, status: int, code: str
) -> None:
    async def story(served: Served) -> None:
        found, problem = await served.ask(line, body)
        assert (found, problem["code"]) == (status, code)
        assert status != 422 or problem["errors"]
        assert code != "SCHEMA_BEHIND" or problem["missing"] == "0005"
        assert await served.flags.refresh() == 1
        assert served.events == []

    run(database, story)
    assert audited(database) == []


@pytest.mark.parametrize(("by", "status"), [(None, 401), ("stranger", 401), ("eve", 403)])
@pytest.mark.parametrize(
    "line", ["PUT /ops/flags/calendar", "POST /ops/flags/calendar/kill", "POST /ops/drills"]
)
def test_only_an_operator_changes_anything(
    database: TestDatabase, line: str, by: str | None, status: int
) -> None:
    async def story(served: Served) -> None:
        found, _ = await served.ask(line, {"on": False, "reason": REASON}, by=by)
        assert found == status

    run(database, story)
    assert audited(database) == []


def test_a_stranger_sees_nothing(database: TestDatabase) -> None:
    async def story(served: Served) -> None:
        status, _ = await served.ask("GET /ops/flags", by=None)
        assert status == 401

    run(database, story)


def test_a_hard_kill_is_shown_as_an_override_and_cannot_be_turned_on(
    database: TestDatabase,
) -> None:
    async def story(served: Served) -> None:
        _, body = await served.ask("GET /ops/flags")
        calendar = body["items"][0]
        assert (calendar["state"], calendar["override"]) == ("OVERRIDE", "OVERRIDE")
        asked = {"on": False, "reason": REASON}
        status, body = await served.ask("PUT /ops/flags/calendar", asked)
        assert (status, body["state"]) == (200, "OVERRIDE")
        status, body = await served.ask("PUT /ops/flags/calendar", asked | {"on": True})
        assert (status, body["code"]) == (409, "ENV_HARD_KILL")
        assert body["variable"] == "CALENDAR_SERVICE_ENABLED"

    run(database, story, hard_kills=frozenset({"calendar"}))


def test_a_drill_is_opened_for_one_user_and_recorded_in_its_lane(database: TestDatabase) -> None:
    async def story(served: Served) -> None:
        asked = {
            "userId": ALICE,
            "flags": {"calendar": "template"},
            "ttlS": 120,
            "reason": REASON,
        }
        status, body = await served.ask("POST /ops/drills", asked)
        assert (status, body["userId"], body["flags"]) == (201, ALICE, {"calendar": "template"})
        assert body["expiresAt"].endswith("Z")
        drill = await served.database.as_worker(
            lambda conn: store.find_drill(conn, drill_id=body["id"], user_id=ALICE)
        )
        decision = served.flags.evaluate("calendar", ALICE, drill=drill)
        assert (decision.rule, decision.source, decision.variant) == ("drill", "drill", "template")
        (event,) = served.events
        assert isinstance(event, DrillOpened)
        assert (event.lane, event.user_id, event.flag["actor"]) == ("drill", ALICE, "ana")
        assert body["id"] not in str(event.flag)

    run(database, story)
    assert audited(database) == [("drill", "ana", REASON, "drill")]


def test_without_the_database_the_last_values_are_listed_and_a_switch_answers_503(
    database: TestDatabase,
) -> None:
    async def story(served: Served) -> None:
        await served.database.close()
        status, body = await served.ask("GET /ops/flags")
        assert (status, body["setVersion"], body["items"][0]["state"]) == (200, 1, "on")
        asked = {"on": False, "reason": REASON}
        status, body = await served.ask("PUT /ops/flags/calendar", asked)
        assert (status, body["code"]) == (503, "DATABASE_UNAVAILABLE")

    run(database, story)
