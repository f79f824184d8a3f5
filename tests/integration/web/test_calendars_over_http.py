"""Calendars over HTTP: headers, bodies, and every refusal answered well."""

import asyncio
import csv
import io
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI

from cadenza.db.pool import Database
from cadenza.telemetry.context import Context, entered
from cadenza.web import calendars, problems
from cadenza.web.auth import Verifier, issue_token
from calendar_support import begin_run
from support import TestDatabase

SECRET = "a secret of tests that is long enough"  # noqa: S105
ENTRY: dict[str, Any] = {
    "title": "The oven is on",
    "channel": "instagram",
    "copy": "Tomorrow at seven.",
    "date": "2026-12-01",
    "time": "09:00",
    "timezone": "Europe/Madrid",
    "hashtags": ["#bakery"],
}
FIRST = {"If_None_Match": "*"}


class Client:
    """One user's client."""

    def __init__(self, app: FastAPI, user_id: str) -> None:
        self.user_id = user_id
        self.about = Context()
        token = issue_token(
            secret=SECRET,
            issuer="test",
            audience="authenticated",
            sub=user_id,
            ttl_s=600,
            now=datetime.now(UTC),
        )
        self._http = httpx.AsyncClient(
            transport=httpx.ASGITransport(app),
            base_url="http://test",
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )

    async def ask(
        self, method: str, path: str, body: object = None, /, **headers: str
    ) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.about = Context(request_id="request-1")
        content = None if body is None else json.dumps(body)
        with entered(self.about):
            return await self._http.request(
                method, f"/v1/calendars{path}", content=content, headers=named
            )

    async def saved(self, *entries: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """Return a new calendar's path, and the calendar."""
        path = f"/{uuid4()}"
        answer = await self.ask("PUT", f"{path}/entries", {"entries": entries}, **FIRST)
        assert answer.status_code == 200, answer.text
        return path, answer.json()


Ask = Callable[[Client], Awaitable[None]]


@asynccontextmanager
async def serving(database: TestDatabase) -> AsyncGenerator[FastAPI]:
    opened = Database(database.dsn, budget_s=20)
    await opened.open()
    app = FastAPI()
    app.state.runtime = SimpleNamespace(database=opened)
    app.state.verifier = Verifier(secret=SECRET, issuer="test", audience="authenticated")
    app.include_router(calendars.router)
    problems.install(app, public_url=None)
    try:
        yield app
    finally:
        await opened.close()


def using(database: TestDatabase, work: Ask) -> None:
    async def main() -> None:
        async with serving(database) as app:
            await work(Client(app, str(uuid4())))

    asyncio.run(main())


def pointers(answer: httpx.Response) -> set[str]:
    return {mistake["pointer"] for mistake in answer.json()["errors"]}


def test_an_entry_is_saved_read_patched_and_deleted_by_its_etag(database: TestDatabase) -> None:
    async def work(client: Client) -> None:
        path, calendar = await client.saved(ENTRY)
        (entry,) = calendar["entries"]
        assert (entry["hashtags"], entry["status"], entry["version"]) == (["bakery"], "draft", 1)
        place = f"{path}/entries/{entry['id']}"
        read = await client.ask("GET", place)
        assert (read.json(), read.headers["etag"]) == (entry, '"1"')
        changed = {"copy": "At eight.", "targetAudience": "Early birds"}
        patched = await client.ask("PATCH", place, changed, If_Match=read.headers["etag"])
        assert (patched.status_code, patched.headers["etag"]) == (200, '"2"')
        assert {**patched.json(), "updatedAt": None} == {
            **entry,
            **changed,
            "version": 2,
            "revision": 2,
            "updatedAt": None,
        }
        assert client.about.channel == "instagram"
        assert str(client.about.calendar_id) == path.removeprefix("/")
        whole = await client.ask("GET", path)
        assert (whole.headers["etag"], whole.json()["revision"]) == ('"2"', 2)
        deleted = await client.ask("DELETE", place, If_Match='W/"2"')
        assert deleted.json() == {"id": entry["id"], "revision": 3}
        assert (await client.ask("GET", place)).status_code == 404
        listed = (await client.ask("GET", "")).json()
        assert [(each["id"], each["entries"]) for each in listed["items"]] == [(calendar["id"], 0)]

    using(database, work)


def test_a_calendar_can_be_sent_back_exactly_as_it_was_read(database: TestDatabase) -> None:
    async def work(client: Client) -> None:
        path, _ = await client.saved(ENTRY, {**ENTRY, "title": "Another"})
        read = await client.ask("GET", path)
        back = await client.ask(
            "PUT", f"{path}/entries", read.json(), If_Match=read.headers["etag"]
        )
        assert (back.status_code, back.headers["etag"]) == (200, '"2"')
        assert back.json()["entries"] == read.json()["entries"]
        revisions = (await client.ask("GET", f"{path}/revisions?limit=1")).json()
        assert revisions["items"][0]["changes"] == []
        assert revisions["items"][0]["requestId"] == "request-1"
        assert revisions["nextCursor"] == "2"

    using(database, work)


BAD_FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"titel": "Unknown"}, "/titel"),
    ({"title": None}, "/title"),
    ({"title": ""}, "/title"),
    ({"title": "x" * 301}, "/title"),
    ({"title": 5}, "/title"),
    ({"copy": "nul \0"}, "/copy"),
    ({"copy": "half \ud83c"}, "/copy"),
    ({"copy": "x" * 10_001}, "/copy"),
    ({"channel": "myspace"}, "/channel"),
    ({"date": "2026-02-30"}, "/date"),
    ({"date": 20261201}, "/date"),
    ({"date": "2026-12-01T00:00:00"}, "/date"),
    ({"time": "24:00"}, "/time"),
    ({"time": "9:00"}, "/time"),
    ({"timezone": "Europe/Atlantis"}, "/timezone"),
    ({"timezone": "../etc/passwd"}, "/timezone"),
    ({"hashtags": "a b"}, "/hashtags"),
    ({"hashtags": ["ok", "#"]}, "/hashtags/1"),
    ({"hashtags": ["x"] * 61}, "/hashtags"),
    ({"media": [""]}, "/media/0"),
    ({"media": ["m"] * 36}, "/media"),
]


def test_every_bad_field_is_named_where_it_is_in_a_patch_and_in_a_save(
    database: TestDatabase,
) -> None:
    async def work(client: Client) -> None:
        path, calendar = await client.saved(ENTRY)
        place = f"{path}/entries/{calendar['entries'][0]['id']}"
        for fields, pointer in BAD_FIELDS:
            patched = await client.ask("PATCH", place, fields, If_Match='"1"')
            assert (patched.status_code, pointers(patched)) == (422, {pointer}), fields
            entries = [ENTRY, {**ENTRY, **fields}]
            saved = await client.ask("PUT", f"{path}/entries", {"entries": entries}, If_Match='"1"')
            assert (saved.status_code, pointers(saved)) == (422, {f"/entries/1{pointer}"}), fields
        assert (await client.ask("GET", path)).json() == calendar

    using(database, work)


def test_a_save_of_more_than_200_entries_is_refused_whole(database: TestDatabase) -> None:
    async def work(client: Client) -> None:
        path, _ = await client.saved()
        most = {"entries": [ENTRY] * 200}
        full = await client.ask("PUT", f"{path}/entries", most, If_Match='"1"')
        assert (full.status_code, len(full.json()["entries"])) == (200, 200)
        more = {"entries": [ENTRY] * 201}
        refused = await client.ask("PUT", f"{path}/entries", more, If_Match='"2"')
        assert (refused.status_code, pointers(refused)) == (422, {"/entries"})
        assert len((await client.ask("GET", path)).json()["entries"]) == 200

    using(database, work)


def test_an_id_that_the_calendar_does_not_have_is_named(database: TestDatabase) -> None:
    async def work(client: Client) -> None:
        path, calendar = await client.saved(ENTRY)
        for bad, status in ((str(uuid4()), 422), ("e1", 422), (5, 422)):
            entries = [*calendar["entries"], ENTRY, ENTRY, {**ENTRY, "id": bad}]
            answer = await client.ask(
                "PUT", f"{path}/entries", {"entries": entries}, If_Match='"1"'
            )
            assert (answer.status_code, pointers(answer)) == (status, {"/entries/3/id"})

    using(database, work)


def test_a_stale_write_is_answered_with_both_texts(database: TestDatabase) -> None:
    async def work(client: Client) -> None:
        path, calendar = await client.saved(ENTRY)
        place = f"{path}/entries/{calendar['entries'][0]['id']}"
        await client.ask("PATCH", place, {"copy": "Theirs"}, If_Match='"1"')
        stale = await client.ask("PATCH", place, {"copy": "Mine"}, If_Match='"1"')
        problem = stale.json()
        assert (stale.status_code, problem["code"]) == (409, "STALE_VERSION")
        assert problem["yours"] == {"version": 1, "copy": "Mine"}
        assert (problem["current"]["copy"], problem["current"]["version"]) == ("Theirs", 2)
        body = {"entries": [{**calendar["entries"][0], "copy": "Mine"}]}
        save = await client.ask("PUT", f"{path}/entries", body, If_Match='"1"')
        problem = save.json()
        assert (save.status_code, problem["code"]) == (409, "STALE_VERSION")
        assert [entry["copy"] for entry in problem["yours"]["entries"]] == ["Mine"]
        assert [entry["copy"] for entry in problem["current"]["entries"]] == ["Theirs"]
        assert problem["current"]["revision"] == 2

    using(database, work)


def test_guards_are_needed_and_must_name_a_version(database: TestDatabase) -> None:
    async def work(client: Client) -> None:
        path, calendar = await client.saved(ENTRY)
        place = f"{path}/entries/{calendar['entries'][0]['id']}"
        everywhere: list[tuple[str, str, object]] = [
            ("PUT", f"{path}/entries", {"entries": []}),
            ("PATCH", place, {"copy": "x"}),
            ("DELETE", place, None),
        ]
        for method, where, body in everywhere:
            missing = await client.ask(method, where, body)
            assert (missing.status_code, missing.json()["code"]) == (428, "IF_MATCH_MISSING")
            for bad in ("*", '"1", "2"', "abc", '""'):
                answer = await client.ask(method, where, body, If_Match=bad)
                assert (answer.status_code, pointers(answer)) == (422, {"/If-Match"})
        again = await client.ask("PUT", f"{path}/entries", {"entries": []}, **FIRST)
        assert (again.status_code, again.json()["code"]) == (409, "STALE_VERSION")
        odd = await client.ask("PUT", f"{path}/entries", {"entries": []}, If_None_Match='"1"')
        assert (odd.status_code, pointers(odd)) == (422, {"/If-None-Match"})

    using(database, work)


def test_a_save_during_a_run_is_told_which_run(database: TestDatabase) -> None:
    async def work(client: Client) -> None:
        path, calendar = await client.saved(ENTRY)
        run_id = begin_run(database, client.user_id, calendar["id"])
        answer = await client.ask("PUT", f"{path}/entries", {"entries": []}, If_Match='"1"')
        assert (answer.status_code, answer.json()["code"]) == (409, "RUN_IN_PROGRESS")
        assert answer.json()["runId"] == str(run_id)

    using(database, work)


def test_a_repeated_key_answers_the_same_and_changes_nothing(database: TestDatabase) -> None:
    async def work(client: Client) -> None:
        path, calendar = await client.saved(ENTRY)
        place = f"{path}/entries/{calendar['entries'][0]['id']}"
        body = {"entries": [*calendar["entries"], ENTRY]}
        asked = {"If_Match": '"1"', "Idempotency_Key": "k-1"}
        first = await client.ask("PUT", f"{path}/entries", body, **asked)
        again = await client.ask("PUT", f"{path}/entries", body, **asked)
        assert (first.status_code, again.status_code) == (200, 200)
        assert (first.content, first.headers["etag"]) == (again.content, again.headers["etag"])
        assert "idempotency-replayed" not in first.headers
        assert again.headers["idempotency-replayed"] == "true"
        other = await client.ask("PUT", f"{path}/entries", {"entries": []}, **asked)
        assert (other.status_code, other.json()["code"]) == (422, "IDEMPOTENCY_KEY_REUSED")
        for method, sent in (("PATCH", {"copy": "New"}), ("DELETE", None)):
            guard = {"If_Match": '"1"' if method == "PATCH" else '"2"', "Idempotency_Key": "k-1"}
            answers = [await client.ask(method, place, sent, **guard) for _ in range(2)]
            assert [answer.status_code for answer in answers] == [200, 200]
            assert answers[0].content == answers[1].content
        bad = await client.ask("DELETE", place, None, If_Match='"2"', Idempotency_Key="a b")
        assert (bad.status_code, pointers(bad)) == (422, {"/Idempotency-Key"})

    using(database, work)


def test_someone_elses_calendar_is_404_in_every_verb(database: TestDatabase) -> None:
    async def main() -> None:
        async with serving(database) as app:
            owner, stranger = Client(app, str(uuid4())), Client(app, str(uuid4()))
            path, calendar = await owner.saved(ENTRY)
            place = f"{path}/entries/{calendar['entries'][0]['id']}"
            body = {"entries": calendar["entries"]}
            asked: list[tuple[str, str, object, dict[str, str]]] = [
                ("GET", path, None, {}),
                ("GET", place, None, {}),
                ("GET", f"{path}/revisions", None, {}),
                ("GET", f"{path}/export?format=csv", None, {}),
                ("PUT", f"{path}/entries", body, {"If_Match": '"1"'}),
                ("PUT", f"{path}/entries", {"entries": []}, FIRST),
                ("PATCH", place, {"copy": "Taken"}, {"If_Match": '"1"'}),
                ("DELETE", place, None, {"If_Match": '"1"'}),
            ]
            for method, where, sent, headers in asked:
                answer = await stranger.ask(method, where, sent, **headers)
                assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND"), where
                assert "oven" not in answer.text
            assert (await stranger.ask("GET", "")).json()["items"] == []
            assert (await owner.ask("GET", path)).json() == calendar

    asyncio.run(main())


def test_an_export_is_what_is_saved_in_the_format_asked_for(database: TestDatabase) -> None:
    async def work(client: Client) -> None:
        path, calendar = await client.saved(ENTRY, {**ENTRY, "copy": "=1+1"})
        as_json = await client.ask("GET", f"{path}/export?format=json")
        assert as_json.headers["content-type"] == "application/json"
        exported = json.loads(as_json.content)
        assert [each["id"] for each in exported["entries"]] == [
            each["id"] for each in calendar["entries"]
        ]
        as_csv = await client.ask("GET", f"{path}/export?format=csv")
        assert as_csv.headers["content-type"].startswith("text/csv; charset=utf-8")
        assert f"calendar-{calendar['id']}.csv" in as_csv.headers["content-disposition"]
        rows = list(csv.DictReader(io.StringIO(as_csv.content.decode(), newline="")))
        assert sorted(row["copy"] for row in rows) == ["'=1+1", "Tomorrow at seven."]
        assert client.about.channel == "instagram"

    using(database, work)


@pytest.mark.parametrize(
    ("path", "pointer"),
    [
        ("/{id}/export?format=ics", "/format"),
        ("?limit=0", "/limit"),
        ("?cursor=x", "/cursor"),
        ("/{id}/revisions?limit=51", "/limit"),
        ("/{id}/revisions?cursor=x", "/cursor"),
        ("/not-a-uuid", "/calendarId"),
    ],
)
def test_a_bad_parameter_is_named_with_what_is_allowed(
    database: TestDatabase, path: str, pointer: str
) -> None:
    async def work(client: Client) -> None:
        _, calendar = await client.saved(ENTRY)
        answer = await client.ask("GET", path.format(id=calendar["id"]))
        assert (answer.status_code, pointers(answer)) == (422, {pointer})
        if pointer == "/format":
            assert "'json' or 'csv'" in answer.json()["errors"][0]["fix"]

    using(database, work)
